//! A site and its machines by numbers, as commands.

#![allow(dead_code, reason = "each test uses a part of it")]

use fleet::{Command, Mac};

pub fn found() -> Command {
    Command::Found {
        site: uuid::Uuid::from_u128(1),
        network: "10.0.0.0/8".parse().unwrap(),
        address: "10.77.0.1".parse().unwrap(),
        domain: "elisandra".into(),
    }
}

pub fn numbered(number: u32) -> Mac {
    let [_, a, b, c] = number.to_be_bytes();
    Mac([2, 0, 0, a, b, c])
}

pub fn sight(number: u32) -> Command {
    Command::Sight { mac: numbered(number), arch: Some(0), uuid: None, link: None }
}
