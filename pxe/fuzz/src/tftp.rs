//! What comes to the TFTP server's ports, in any order and at any time.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use pxe::tftp::{
    NoFile,
    engine::{Action, Engine, Link, Shelf},
};

const SOCKETS: u8 = 2;
const SIZE: u64 = 100_000;

/// One file, and one that leads out.
struct Two;

impl Shelf for Two {
    type Content = ();

    fn open(&mut self, name: &str) -> Result<((), u64), NoFile> {
        assert!(!name.contains(['\0', '\\']));
        match name {
            "f" => Ok(((), SIZE)),
            "out" => Err(NoFile::Outside),
            _ => Err(NoFile::Missing),
        }
    }

    fn largest_block(&self, _: IpAddr) -> u16 {
        1468
    }
}

/// Packets one after the other: which port of ours (0 is the server's) and of the client, the time since the one before
/// in 50 ms, the length, the packet.
pub fn packets(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut engine = Engine::new(SOCKETS);
    let mut rest = bytes;
    while let [ports, later, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (packet, after) = after.split_at(length);
        rest = after;
        now += Duration::from_millis(50) * u32::from(*later);
        engine.silence(now);
        let client = SocketAddr::from(([10, 77, 1, 1], u16::from(ports >> 4) + 1));
        match (ports & 15) % (SOCKETS + 1) {
            0 => engine.request(client, packet, &mut Two, now),
            socket => engine.reply(Link { socket: socket - 1, client }, packet, now),
        }
        look(&mut engine);
        assert!(engine.under_way() <= 16);
    }
    // Nobody says anything more: everything ends, soon, and not in the past.
    let end = now + Duration::from_secs(180);
    while let Some(due) = engine.next_due() {
        assert!(due <= end);
        engine.silence(due);
        look(&mut engine);
    }
    assert_eq!(engine.under_way(), 0);
}

fn look(engine: &mut Engine<()>) {
    for action in engine.actions.drain(..) {
        match action {
            Action::Packet { bytes, .. } => assert!(matches!(bytes[..2], [0, 5 | 6]) && bytes.len() < 512),
            Action::Blocks { block, first, count, .. } => {
                assert!((8..=1468).contains(&block) && (1..=64).contains(&count) && first > 0);
                assert!(first + u64::from(count) - 1 <= SIZE / u64::from(block) + 1);
            }
            Action::Note { .. } => {}
        }
    }
}
