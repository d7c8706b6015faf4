//! ProxyDHCP (PXE 2.1 section 2.2): boot information to firmware and iPXE, beside another server that gives addresses.
//!
//! ```text
//! BIOS    DISCOVER ▶ 67   OFFER: no address, 60, 43.6 = 8, file            then TFTP
//! UEFI    DISCOVER ▶ 67   OFFER: no address, 60, no 43    REQUEST ▶ 4011   ACK: file    then TFTP
//! HTTP    DISCOVER ▶ 67   OFFER: no address, 60 HTTPClient, URL
//! iPXE    DISCOVER ▶ 67   OFFER: no address, 60, URL of its script
//! BIOS, with a menu       OFFER: no address, 60, 43.6 8 9 10       REQUEST with 43.71 ▶ 4011   ACK: file
//! ```
//!
//! EDK2 drops the first ProxyDHCP offer that carries a PXE option 43, by a mistake in how it counts them. To one without
//! option 43 it takes the sender for a boot server and asks it again, on port 4011.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{
    Answer, Reply, ServerFacts,
    answer::place,
    boot,
    options::code,
    parse::{Kind, Request},
    reply::{Draft, Type},
};
use crate::step::{Client, Outcome};

/// The ports of ProxyDHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 67, where everybody's DISCOVERs come by.
    Dhcp,
    /// 4011, where firmware asks that has an address already.
    BootServer,
}

/// A line of the menu that PXE firmware of a BIOS shows when there is more than one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What the line says, in ASCII. At most 200 bytes of it are shown.
    pub title: String,
    pub boots: Chosen,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// What the machine would boot without a menu.
    Usual,
    /// The firmware goes on with its next boot device.
    LocalDisk,
    /// A file by TFTP.
    File(String),
}

/// How long the menu waits for a person, before it takes its first line.
const MENU_SECS: u8 = 10;

/// Boot server types below this one belong to products that once were (PXE 2.1 table 2-8); 0 is the local disk.
const FIRST_TYPE: u16 = 0x8000;

/// Decides what a packet is answered in ProxyDHCP. Packets of systems are not answered.
pub fn answer(request: &Request, facts: &ServerFacts, port: Port, menu: &[Choice]) -> Answer {
    let client = request.client();
    if matches!(client, Client::System(_)) {
        return Answer::Silence("only what boots is answered here".to_owned());
    }
    match (port, request.kind) {
        (Port::Dhcp, Kind::Discover) => offer(request, facts, &client, menu),
        (Port::BootServer, Kind::Request | Kind::Inform) => acknowledge(request, facts, &client, menu),
        (Port::Dhcp, Kind::Request) => Answer::Silence(match request.server {
            Some(server) => format!("takes the address of {server}"),
            None => "goes on with its address".to_owned(),
        }),
        (_, kind) => Answer::Silence(format!("{kind} is not for a ProxyDHCP server")),
    }
}

fn offer(request: &Request, facts: &ServerFacts, client: &Client, menu: &[Choice]) -> Answer {
    let Some(file) = boot::file(client, request.sight.mac, facts) else { return no_loader(client) };
    let mut draft = Draft::new(request, facts, Type::Offer);
    draft.sheet.put(code::CLASS, class(client).as_bytes());
    let file = match client {
        Client::Firmware { arch: 0 } if menu.len() > 1 => {
            draft.sheet.put(code::VENDOR, &menu_options(facts.address, menu));
            draft.next_server(facts.address);
            None
        }
        Client::Firmware { arch: 0 } => {
            draft.sheet.put(code::VENDOR, boot::TAKE_THIS_FILE);
            Some(file)
        }
        Client::Firmware { .. } | Client::HttpFirmware { .. } | Client::Ipxe | Client::System(_) => {
            Some(file)
        }
    };
    if let Some(file) = &file {
        draft.boot(facts.address, file);
    }
    // No address is given, so there is none to send to: to the relay, or to everybody.
    let (to, hardware) = place(request, Type::Offer, Ipv4Addr::UNSPECIFIED);
    Answer::Reply(Reply {
        to,
        hardware,
        packet: draft.encode(request, None),
        outcome: Outcome::BootOnly { file },
    })
}

fn acknowledge(request: &Request, facts: &ServerFacts, client: &Client, menu: &[Choice]) -> Answer {
    // It has an address by now and sends from it. The answer goes there and nowhere else, whatever the packet says.
    let Some(source) = request.source.filter(|source| !source.ip().is_unspecified()) else {
        return Answer::Silence(format!("{} to a boot server without an address", request.kind));
    };
    let usual = boot::file(client, request.sight.mac, facts);
    let file = match request.boot_item.and_then(|(kind, _)| chosen(menu, kind)) {
        Some(Chosen::File(file)) => Some(file.clone()),
        Some(Chosen::LocalDisk) => return Answer::Silence("chose its own disk in the menu".to_owned()),
        Some(Chosen::Usual) | None => usual,
    };
    let Some(file) = file else { return no_loader(client) };
    let mut draft = Draft::new(request, facts, Type::Ack);
    draft.sheet.put(code::CLASS, class(client).as_bytes());
    if let Some((kind, layer)) = request.boot_item {
        let [[a, b], [c, d]] = [kind.to_be_bytes(), layer.to_be_bytes()];
        draft.sheet.put(code::VENDOR, &[71, 4, a, b, c, d, 255]);
    } else if matches!(client, Client::Firmware { arch: 0 }) {
        draft.sheet.put(code::VENDOR, boot::TAKE_THIS_FILE);
    }
    draft.boot(facts.address, &file);
    Answer::Reply(Reply {
        to: SocketAddrV4::new(*source.ip(), source.port()),
        hardware: None,
        packet: draft.encode(request, None),
        outcome: Outcome::BootOnly { file: Some(file) },
    })
}

/// iPXE knows a ProxyDHCP server by the class that PXE gives it, as all others do.
fn class(client: &Client) -> &'static str {
    boot::class(client).unwrap_or("PXEClient")
}

fn no_loader(client: &Client) -> Answer {
    match client {
        Client::Firmware { arch } | Client::HttpFirmware { arch } => {
            Answer::Silence(format!("no boot loader for architecture {arch}"))
        }
        Client::Ipxe | Client::System(_) => Answer::Silence("nothing to boot".to_owned()),
    }
}

/// Suboptions 6, 8, 9 and 10: ask only the servers listed, by unicast; which server has which type; the lines; how long
/// the first one waits.
fn menu_options(appliance: Ipv4Addr, menu: &[Choice]) -> Vec<u8> {
    let mut servers = Vec::new();
    let mut lines = Vec::new();
    for (place, choice) in menu.iter().enumerate() {
        let kind = kind_of(place, choice).to_be_bytes();
        let title = &choice.title.as_bytes()[..choice.title.len().min(200)];
        // One suboption holds 255 bytes; what comes after is not on the menu.
        if lines.len() + 3 + title.len() > 255 || servers.len() + 7 > 255 {
            break;
        }
        if choice.boots != Chosen::LocalDisk {
            servers.extend(kind);
            servers.push(1);
            servers.extend(appliance.octets());
        }
        lines.extend(kind);
        lines.push(title.len() as u8);
        lines.extend(title);
    }
    let prompt = [&[MENU_SECS], b"Press F8 to choose".as_slice()].concat();
    let mut options = vec![6, 1, 7];
    for (code, value) in [(8, servers.as_slice()), (9, lines.as_slice()), (10, prompt.as_slice())] {
        options.extend([code, value.len() as u8]);
        options.extend(value);
    }
    options.push(255);
    options
}

/// Every line's type of boot server, by which the firmware says what was chosen.
fn kind_of(place: usize, choice: &Choice) -> u16 {
    match choice.boots {
        Chosen::LocalDisk => 0,
        Chosen::Usual | Chosen::File(_) => {
            FIRST_TYPE.saturating_add(u16::try_from(place).unwrap_or(u16::MAX))
        }
    }
}

fn chosen(menu: &[Choice], kind: u16) -> Option<&Chosen> {
    menu.iter()
        .enumerate()
        .find(|(place, choice)| kind_of(*place, choice) == kind)
        .map(|(_, choice)| &choice.boots)
}
