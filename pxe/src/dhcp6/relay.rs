//! What relays wrap around a client's message, and around the reply (RFC 8415 sections 9 and 19).

use std::net::Ipv6Addr;

use super::{
    BadPacket, duid,
    option::{self, Writer, scan},
};
use crate::MacAddr;

pub const RELAY_FORW: u8 = 12;
const RELAY_REPL: u8 = 13;
/// Hop count, link address, peer address.
const HEADER: usize = 34;
/// Relays stop at 8 hops (RFC 8415 section 7.6), those of RFC 3315 at 32.
const MOST: usize = 32;

/// One Relay-forward message without what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    pub hops: u8,
    /// An address of the link that the message came from; `::` if the relay has none to tell.
    pub link: Ipv6Addr,
    /// Who sent it to the relay: the client, or the relay before it.
    pub peer: Ipv6Addr,
    /// Option 79 (RFC 6939).
    pub mac: Option<MacAddr>,
    /// Options that go back as they came: 18, and what the relay asks for with option 43.
    pub echoed: Vec<(u16, Vec<u8>)>,
    /// Option 135: the reply goes to the port that the message came from.
    pub own_port: bool,
}

/// Takes the relays off a message: what they said, the outermost first, and what the client sent.
pub fn unwrap(mut packet: &[u8]) -> Result<(Vec<Relay>, &[u8]), BadPacket> {
    let mut relays = Vec::new();
    while let [RELAY_FORW, header @ ..] = packet {
        if relays.len() == MOST {
            return Err(BadPacket::Loop(MOST));
        }
        let Some((header, options)) = header.split_at_checked(HEADER - 1) else {
            return Err(BadPacket::Short(packet.len()));
        };
        let (relay, inner) = layer(header, options)?;
        relays.push(relay);
        packet = inner;
    }
    Ok((relays, packet))
}

fn layer<'a>(header: &[u8], options: &'a [u8]) -> Result<(Relay, &'a [u8]), BadPacket> {
    let address = |at: usize| option::address(&header[at..]).unwrap_or(Ipv6Addr::UNSPECIFIED);
    let mut relay = Relay {
        hops: header[0],
        link: address(1),
        peer: address(17),
        mac: None,
        echoed: Vec::new(),
        own_port: false,
    };
    let mut inner = None;
    let mut wanted: &[u8] = &[];
    for found in scan(options) {
        match found? {
            // Of two messages the first counts; they could grow like a tree.
            (option::RELAYED_MESSAGE, value) => inner = inner.or(Some(value)),
            (option::CLIENT_LINK_LAYER, value) => relay.mac = relay.mac.or(duid::mac_of_link_layer(value)),
            (option::ECHO_REQUEST, value) => wanted = value,
            (option::RELAY_PORT, _) => relay.own_port = true,
            _ => {}
        }
    }
    let echoed = |code: u16| {
        let asked_for = || wanted.chunks_exact(2).any(|pair| pair == code.to_be_bytes());
        matches!(code, option::INTERFACE_ID | option::RELAY_PORT)
            || code != option::RELAYED_MESSAGE && code != option::ECHO_REQUEST && asked_for()
    };
    for found in scan(options) {
        let (code, value) = found?;
        if echoed(code) {
            relay.echoed.push((code, value.to_vec()));
        }
    }
    inner.map(|inner| (relay, inner)).ok_or(BadPacket::NoMessage)
}

/// Wraps a reply in one Relay-reply for each relay.
pub fn wrap(relays: &[Relay], reply: Vec<u8>) -> Vec<u8> {
    relays.iter().rev().fold(reply, |inner, relay| {
        let mut packet = Writer(vec![RELAY_REPL, relay.hops]);
        packet.0.extend(relay.link.octets());
        packet.0.extend(relay.peer.octets());
        for (code, value) in &relay.echoed {
            packet.option(*code, value);
        }
        packet.option(option::RELAYED_MESSAGE, &inner);
        packet.0
    })
}
