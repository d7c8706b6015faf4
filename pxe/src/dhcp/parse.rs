//! Reads a client's packet.
//!
//! Every option is looked at by itself: a value that makes no sense is as if it were not there, and breaks no other.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use super::{
    options::{Options, code},
    relay::{Agent, agent},
};
use crate::{MacAddr, Sight, step::Client};

/// The options field begins after op … chaddr (44), sname (64), file (128) and the cookie (4).
const SNAME: usize = 44;
const FILE: usize = 108;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;

/// The least of a BOOTP packet (RFC 1542 section 2.1).
const BOOTP: usize = 300;

/// A well-formed packet of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    pub xid: u32,
    pub hops: u8,
    pub secs: u16,
    /// Where the packet came from. `parse` sees a payload only and leaves it out.
    pub source: Option<SocketAddrV4>,
    /// The client cannot take unicast before it has its address.
    pub broadcast: bool,
    /// The address that the client already uses, in INFORM and when it renews.
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub sight: Sight,
    /// Option 54: the server whose offer the client takes.
    pub server: Option<Ipv4Addr>,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Options 61, 82 and 97 go back as they came (RFC 6842, 3046, 4578).
    pub client_id: Option<Vec<u8>>,
    pub relay_information: Option<Vec<u8>>,
    pub machine_id: Option<Vec<u8>>,
    /// What option 82 says, from a relay; nothing where there was none, because then a client may have made it up.
    pub agent: Agent,
    /// Option 118 (RFC 3011), which goes back too.
    pub subnet: Option<Ipv4Addr>,
    /// Option 55, in the client's order.
    pub wanted: Vec<u8>,
    /// The server that a BOOTP client wants to be answered by, and none of DHCP's.
    pub server_name: Option<String>,
    /// Option 43.71 of PXE: the type of boot server that was chosen in the menu, and the layer.
    pub boot_item: Option<(u16, u16)>,
    /// Option 57: the longest IP packet that the client takes.
    pub max_size: Option<u16>,
}

/// Option 53, or its absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Request,
    Decline,
    Release,
    Inform,
    /// A client that knows nothing of DHCP (RFC 951, 1534): one packet, one answer, and the address is its own.
    Bootp,
}

/// Why a packet gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    #[error("DHCP packet of {0} bytes is cut short")]
    Short(usize),
    #[error("not a client's packet (op {0})")]
    NotARequest(u8),
    #[error("hardware type {0} with addresses of {1} bytes is not Ethernet")]
    NotEthernet(u8, u8),
    #[error("{0} is no client's hardware address")]
    Mac(MacAddr),
    #[error("magic cookie {0:02x?} is not DHCP's")]
    Cookie([u8; 4]),
    #[error("option {0} is longer than the packet")]
    Overrun(u8),
    #[error("message type {0} is not a client's")]
    Kind(u8),
    #[error("message type without a value")]
    NoKind,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discover => "DISCOVER",
            Self::Request => "REQUEST",
            Self::Decline => "DECLINE",
            Self::Release => "RELEASE",
            Self::Inform => "INFORM",
            Self::Bootp => "BOOTP request",
        })
    }
}

impl Request {
    pub fn client(&self) -> Client {
        let class = self.sight.vendor_class.as_deref().unwrap_or_default();
        match self.sight.arch {
            _ if self.is_ipxe() => Client::Ipxe,
            arch if class.starts_with("PXEClient") => Client::Firmware { arch: arch.unwrap_or(0) },
            Some(arch) if class.starts_with("HTTPClient") => Client::HttpFirmware { arch },
            _ => Client::System((!class.is_empty()).then(|| class.to_owned())),
        }
    }

    /// Whether this is iPXE, which is sent a script and not a boot loader.
    pub fn is_ipxe(&self) -> bool {
        self.sight.user_class.as_deref().is_some_and(|class| class.contains("iPXE"))
    }
}

/// Reads one UDP payload.
pub fn parse(packet: &[u8]) -> Result<Request, BadPacket> {
    if packet.len() < OPTIONS {
        return Err(BadPacket::Short(packet.len()));
    }
    let quad = |at: usize| [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]];
    let address = |at: usize| Ipv4Addr::from(quad(at));
    if packet[0] != 1 {
        return Err(BadPacket::NotARequest(packet[0]));
    }
    if (packet[1], packet[2]) != (1, 6) {
        return Err(BadPacket::NotEthernet(packet[1], packet[2]));
    }
    let mac = MacAddr([packet[28], packet[29], packet[30], packet[31], packet[32], packet[33]]);
    if mac.0[0] & 1 != 0 || mac.0 == [0; 6] {
        return Err(BadPacket::Mac(mac));
    }
    let mut options = Options::new();
    match quad(COOKIE) {
        [99, 130, 83, 99] => options.scan(&packet[OPTIONS..])?,
        // RFC 951, from before there were options.
        [0, 0, 0, 0] => {}
        other => return Err(BadPacket::Cookie(other)),
    }
    // Option 52: the file and sname fields hold options too (RFC 2131 section 4.1).
    let overload = options.get(code::OVERLOAD).and_then(|value| value.first()).copied().unwrap_or(0);
    if overload & 1 != 0 {
        options.scan(&packet[FILE..COOKIE])?;
    }
    if overload & 2 != 0 {
        options.scan(&packet[SNAME..FILE])?;
    }

    let kind = match options.get(code::KIND) {
        Some([1]) => Kind::Discover,
        Some([3]) => Kind::Request,
        Some([4]) => Kind::Decline,
        Some([7]) => Kind::Release,
        Some([8]) => Kind::Inform,
        Some([other, ..]) => return Err(BadPacket::Kind(*other)),
        Some([]) => return Err(BadPacket::NoKind),
        None if packet.len() < BOOTP => return Err(BadPacket::Short(packet.len())),
        None => Kind::Bootp,
    };
    let giaddr = address(24);
    let ciaddr = address(12);
    let requested = options.address(code::REQUESTED);
    let unless_zero = |address: Ipv4Addr| (!address.is_unspecified()).then_some(address);
    let vendor_class = options.get(code::CLASS).and_then(text);
    let relay = unless_zero(giaddr);
    let relay_information = options.get(code::RELAY_AGENT);
    let agent = relay.and(relay_information).map(agent).unwrap_or_default();
    let subnet = options.address(code::SUBNET);
    let number = |value: &[u8]| value.first_chunk().map(|number| u16::from_be_bytes(*number));
    let server_name = packet[SNAME..FILE].split(|byte| *byte == 0).next().and_then(text);
    Ok(Request {
        kind,
        xid: u32::from_be_bytes(quad(4)),
        hops: packet[3],
        secs: u16::from_be_bytes([packet[8], packet[9]]),
        source: None,
        broadcast: packet[10] & 0x80 != 0,
        ciaddr,
        giaddr,
        sight: Sight {
            mac,
            arch: architecture(options.get(code::ARCHITECTURE), vendor_class.as_deref()),
            uuid: options.get(code::MACHINE_ID).and_then(uuid),
            vendor_class,
            user_class: options.get(code::USER_CLASS).and_then(user_class),
            hostname: options.get(code::HOSTNAME).and_then(text),
            requested: requested.or(unless_zero(ciaddr)),
            relay,
            // A relay knows better than a client, and says it better in option 82 than by its address (RFC 3527).
            link: agent.link.or(subnet).or(relay),
        },
        server: options.address(code::SERVER),
        requested,
        max_size: options.get(code::MAX_SIZE).and_then(number),
        client_id: options.get(code::CLIENT_ID).map(<[u8]>::to_vec),
        relay_information: relay_information.map(<[u8]>::to_vec),
        machine_id: options.get(code::MACHINE_ID).map(<[u8]>::to_vec),
        agent,
        subnet,
        wanted: options.get(code::WANTED).map(<[u8]>::to_vec).unwrap_or_default(),
        server_name: server_name.filter(|_| kind == Kind::Bootp),
        boot_item: options.get(code::VENDOR).and_then(boot_item),
    })
}

/// The type and the layer in suboption 71 of PXE's option 43.
fn boot_item(mut value: &[u8]) -> Option<(u16, u16)> {
    while let [code, length, rest @ ..] = value {
        let (suboption, rest) = rest.split_at_checked(usize::from(*length))?;
        if *code == 71
            && let [a, b, c, d] = *suboption
        {
            return Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
        }
        value = rest;
    }
    None
}

/// A list of architectures, of which the first counts. ROMs that send no option 93 (or an odd one)
/// mostly say it in their class: `PXEClient:Arch:00007:UNDI:003016`.
fn architecture(option: Option<&[u8]>, vendor_class: Option<&str>) -> Option<u16> {
    let listed = option.and_then(|value| value.first_chunk()).map(|arch| u16::from_be_bytes(*arch));
    listed.or_else(|| vendor_class?.split_once(":Arch:")?.1.split(':').next()?.parse().ok())
}

/// Type 0 and 16 bytes. Anything else is echoed, and not taken for an identity.
fn uuid(value: &[u8]) -> Option<[u8; 16]> {
    match value {
        [0, id @ ..] => <[u8; 16]>::try_from(id).ok().filter(|id| *id != [0; 16] && *id != [0xff; 16]),
        _ => None,
    }
}

/// iPXE sends its name alone; others follow RFC 3004, with a length before each class.
fn user_class(value: &[u8]) -> Option<String> {
    match value {
        [length, rest @ ..] if usize::from(*length) == rest.len() => text(rest),
        _ => text(value),
    }
}

/// The printable ASCII of a value, at most 128 characters: what comes from the wire ends on
/// people's screens.
fn text(value: &[u8]) -> Option<String> {
    let text: String = value
        .iter()
        .filter(|b| b.is_ascii_graphic() || **b == b' ')
        .take(128)
        .map(|b| char::from(*b))
        .collect();
    (!text.is_empty()).then_some(text)
}
