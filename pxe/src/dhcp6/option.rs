//! Options as they stand in a packet: a code, a length, a value (RFC 8415 section 21.1).

use std::net::Ipv6Addr;

use super::BadPacket;

pub const CLIENT_ID: u16 = 1;
pub const SERVER_ID: u16 = 2;
pub const IA_NA: u16 = 3;
pub const IA_TA: u16 = 4;
pub const IA_ADDRESS: u16 = 5;
pub const OPTION_REQUEST: u16 = 6;
pub const PREFERENCE: u16 = 7;
pub const RELAYED_MESSAGE: u16 = 9;
pub const STATUS: u16 = 13;
pub const RAPID_COMMIT: u16 = 14;
pub const USER_CLASS: u16 = 15;
pub const VENDOR_CLASS: u16 = 16;
pub const INTERFACE_ID: u16 = 18;
pub const DNS_SERVERS: u16 = 23;
pub const DOMAIN_LIST: u16 = 24;
pub const IA_PD: u16 = 25;
pub const REFRESH_TIME: u16 = 32;
/// RFC 4704.
pub const CLIENT_NAME: u16 = 39;
/// RFC 4994: options that the relay wants back.
pub const ECHO_REQUEST: u16 = 43;
/// RFC 5908.
pub const NTP: u16 = 56;
/// RFC 5970.
pub const BOOT_FILE_URL: u16 = 59;
pub const ARCHITECTURE: u16 = 61;
/// RFC 6939.
pub const CLIENT_LINK_LAYER: u16 = 79;
pub const SOL_MAX_RT: u16 = 82;
pub const INF_MAX_RT: u16 = 83;
/// RFC 8357: the relay does not listen on port 547.
pub const RELAY_PORT: u16 = 135;

/// The options of a field, in its order. An option that is longer than the field is an error, after those before it.
pub fn scan(mut field: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), BadPacket>> {
    std::iter::from_fn(move || match *field {
        [] => None,
        [a, b, c, d, ref rest @ ..] => {
            let code = u16::from_be_bytes([a, b]);
            let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([c, d]))) else {
                field = &[];
                return Some(Err(BadPacket::Overrun(code)));
            };
            field = rest;
            Some(Ok((code, value)))
        }
        [..] => {
            field = &[];
            Some(Err(BadPacket::Remainder))
        }
    })
}

pub fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes))
}

/// A packet that is being made.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn option(&mut self, code: u16, value: &[u8]) {
        // Longer values come from nowhere: what is echoed was an option, what is ours is bounded.
        let Ok(length) = u16::try_from(value.len()) else { return };
        self.0.extend(code.to_be_bytes());
        self.0.extend(length.to_be_bytes());
        self.0.extend(value);
    }

    /// An option that holds options.
    pub fn nested(&mut self, code: u16, fill: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        fill(&mut inner);
        self.option(code, &inner.0);
    }

    pub fn addresses(&mut self, code: u16, addresses: &[Ipv6Addr]) {
        if !addresses.is_empty() {
            self.option(code, &addresses.iter().flat_map(Ipv6Addr::octets).collect::<Vec<u8>>());
        }
    }

    pub fn status(&mut self, status: Status) {
        let (code, message) = match status {
            Status::Success => (0u16, "done"),
            Status::NoAddrsAvail => (2, "no address for this interface"),
            Status::NoBinding => (3, "not an address of this client"),
            Status::NotOnLink => (4, "that address is not of this link"),
            Status::UseMulticast => (5, "speak to ff02::1:2"),
            Status::NoPrefixAvail => (6, "no prefixes are delegated here"),
        };
        self.option(STATUS, &[&code.to_be_bytes(), message.as_bytes()].concat());
    }
}

/// RFC 8415 section 21.13.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Success,
    NoAddrsAvail,
    NoBinding,
    NotOnLink,
    UseMulticast,
    NoPrefixAvail,
}

/// A domain name in labels (RFC 1035 section 3.1), without compression; `None` for what is none.
pub fn domain_name(name: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        wire.push(length);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    (wire.len() <= 255).then_some(wire)
}
