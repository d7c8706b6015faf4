//! Reads a client's packet.
//!
//! dhcproto drops every option after the first that it cannot decode, and some values make it
//! panic, so the options that decide something are scanned here.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use crate::{MacAddr, Sight, step::Client};

/// The options field begins after op … chaddr (44), sname (64), file (128) and the cookie (4).
const SNAME: usize = 44;
const FILE: usize = 108;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;

/// A well-formed packet of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    pub xid: u32,
    pub secs: u16,
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
    /// Option 57: the longest IP packet that the client takes.
    pub max_size: Option<u16>,
}

/// Option 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Request,
    Decline,
    Release,
    Inform,
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
    #[error("no message type: BOOTP is not answered")]
    Bootp,
    #[error("message type {0} is not a client's")]
    Kind(u8),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discover => "DISCOVER",
            Self::Request => "REQUEST",
            Self::Decline => "DECLINE",
            Self::Release => "RELEASE",
            Self::Inform => "INFORM",
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
    if quad(COOKIE) != [99, 130, 83, 99] {
        return Err(BadPacket::Cookie(quad(COOKIE)));
    }

    let mut options = BTreeMap::new();
    scan(&packet[OPTIONS..], &mut options)?;
    // Option 52: the file and sname fields hold options too (RFC 2131 section 4.1).
    let overload = options.get(&52).and_then(|value| value.first()).copied().unwrap_or(0);
    if overload & 1 != 0 {
        scan(&packet[FILE..COOKIE], &mut options)?;
    }
    if overload & 2 != 0 {
        scan(&packet[SNAME..FILE], &mut options)?;
    }

    let kind = match options.get(&53).map(Vec::as_slice) {
        Some([1]) => Kind::Discover,
        Some([3]) => Kind::Request,
        Some([4]) => Kind::Decline,
        Some([7]) => Kind::Release,
        Some([8]) => Kind::Inform,
        Some([other, ..]) => return Err(BadPacket::Kind(*other)),
        Some([]) | None => return Err(BadPacket::Bootp),
    };
    let giaddr = address(24);
    let ciaddr = address(12);
    let requested = options.get(&50).and_then(|value| four(value));
    let unless_zero = |address: Ipv4Addr| (!address.is_unspecified()).then_some(address);
    let vendor_class = options.get(&60).and_then(|value| text(value));
    Ok(Request {
        kind,
        xid: u32::from_be_bytes(quad(4)),
        secs: u16::from_be_bytes([packet[8], packet[9]]),
        broadcast: packet[10] & 0x80 != 0,
        ciaddr,
        giaddr,
        sight: Sight {
            mac,
            arch: architecture(options.get(&93), vendor_class.as_deref()),
            uuid: options.get(&97).and_then(|value| uuid(value)),
            vendor_class,
            user_class: options.get(&77).and_then(|value| user_class(value)),
            hostname: options.get(&12).and_then(|value| text(value)),
            requested: requested.or(unless_zero(ciaddr)),
            relay: unless_zero(giaddr),
            link: unless_zero(giaddr),
        },
        server: options.get(&54).and_then(|value| four(value)),
        requested,
        max_size: options
            .get(&57)
            .and_then(|value| value.first_chunk())
            .map(|size| u16::from_be_bytes(*size)),
        client_id: options.remove(&61),
        relay_information: options.remove(&82),
        machine_id: options.remove(&97),
    })
}

/// Reads options up to the end mark. Parts of one option are joined (RFC 3396). Some ROMs leave the
/// end mark out, so the end of the field is as good.
pub(crate) fn scan(mut field: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) -> Result<(), BadPacket> {
    loop {
        match *field {
            [] | [255, ..] => return Ok(()),
            [0, ref rest @ ..] => field = rest,
            [code] => return Err(BadPacket::Overrun(code)),
            [code, length, ref rest @ ..] => {
                let Some((value, rest)) = rest.split_at_checked(usize::from(length)) else {
                    return Err(BadPacket::Overrun(code));
                };
                options.entry(code).or_default().extend_from_slice(value);
                field = rest;
            }
        }
    }
}

fn four(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

/// A list of architectures, of which the first counts. ROMs that send no option 93 (or an odd one)
/// mostly say it in their class: `PXEClient:Arch:00007:UNDI:003016`.
fn architecture(option: Option<&Vec<u8>>, vendor_class: Option<&str>) -> Option<u16> {
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
