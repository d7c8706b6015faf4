//! Reads a client's message, and what relays wrapped around it.

use std::{fmt, net::Ipv6Addr};

use super::{
    duid,
    option::{self, scan},
    relay::{self, Relay},
};
use crate::{MacAddr, step::Client};

/// A well-formed message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    pub transaction: [u8; 3],
    /// Options 1 and 2. A DUID has at most 130 bytes.
    pub client_id: Option<Vec<u8>>,
    pub server_id: Option<Vec<u8>>,
    /// IA_NA: the interfaces that want an address; mostly one.
    pub addresses: Vec<Ia>,
    /// IA_TA and IA_PD by their code, of which there are none here.
    pub others: Vec<(u16, [u8; 4])>,
    /// Option 6.
    pub wanted: Vec<u16>,
    pub rapid_commit: bool,
    /// Option 61, or what the vendor class says.
    pub arch: Option<u16>,
    /// Of a DUID-UUID of firmware or iPXE, in the order of SMBIOS.
    pub uuid: Option<[u8; 16]>,
    /// Option 16.
    pub vendor_class: Option<VendorClass>,
    /// Option 15, the first.
    pub user_class: Option<String>,
    /// Option 39, the first label.
    pub hostname: Option<String>,
    /// The outermost first.
    pub relays: Vec<Relay>,
}

/// Option 16: a number of the registry of enterprises, and its first text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorClass {
    pub enterprise: [u8; 4],
    pub text: String,
}

/// One identity association and the addresses that the client names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ia {
    pub id: [u8; 4],
    pub addresses: Vec<Ipv6Addr>,
}

/// A client's message type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Solicit,
    Request,
    Confirm,
    Renew,
    Rebind,
    Release,
    Decline,
    InformationRequest,
}

/// Why a packet gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    #[error("DHCPv6 packet of {0} bytes is cut short")]
    Short(usize),
    #[error("DHCPv6 message type {0} is not a client's")]
    Kind(u8),
    #[error("DHCPv6 option {0} is longer than what it stands in")]
    Overrun(u16),
    #[error("DHCPv6 packet ends within an option")]
    Remainder,
    #[error("more than {0} relays forwarded a DHCPv6 message: they send it round in a circle")]
    Loop(usize),
    #[error("a DHCPv6 relay forwarded nothing")]
    NoMessage,
    #[error("DHCPv6 identifier of {0} bytes")]
    Identifier(usize),
    #[error("{0} without the client's identifier")]
    NoClient(Kind),
    #[error("{0} that names no server")]
    NoServer(Kind),
    #[error("{0} that names a server")]
    Server(Kind),
    #[error("{0} that asks for an address")]
    Address(Kind),
}

/// Identity associations that are looked at; more come from nobody who boots.
const MOST: usize = 16;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Solicit => "SOLICIT",
            Self::Request => "REQUEST (IPv6)",
            Self::Confirm => "CONFIRM",
            Self::Renew => "RENEW",
            Self::Rebind => "REBIND",
            Self::Release => "RELEASE (IPv6)",
            Self::Decline => "DECLINE (IPv6)",
            Self::InformationRequest => "INFORMATION-REQUEST",
        })
    }
}

impl Request {
    pub fn client(&self) -> Client {
        let class = self.vendor_class.as_ref().map_or("", |class| class.text.as_str());
        match self.arch {
            _ if self.is_ipxe() => Client::Ipxe,
            arch if class.starts_with("PXEClient") => Client::Firmware { arch: arch.unwrap_or(0) },
            Some(arch) if class.starts_with("HTTPClient") => Client::HttpFirmware { arch },
            _ => Client::System((!class.is_empty()).then(|| class.to_owned())),
        }
    }

    /// Whether this is iPXE, which is sent a script and not a boot loader.
    pub fn is_ipxe(&self) -> bool {
        self.user_class.as_deref().is_some_and(|class| class.contains("iPXE"))
    }

    pub fn wants(&self, code: u16) -> bool {
        self.wanted.contains(&code)
    }

    /// An address of the client's link when that is not the one served directly: the relay nearest to the client that
    /// names one (RFC 8415 section 13.1).
    pub fn link(&self) -> Option<Ipv6Addr> {
        let told =
            |link: &Ipv6Addr| !link.is_unspecified() && !link.is_multicast() && !link.is_unicast_link_local();
        self.relays.iter().rev().map(|relay| relay.link).find(told)
    }

    /// The MAC address of the NIC that the message came from. `from` sent the packet, in a frame of `sender`.
    ///
    /// The DUID comes last: it is the machine's and not the NIC's, and copied images have the one of their origin.
    pub fn mac(&self, from: Ipv6Addr, sender: Option<MacAddr>) -> Option<MacAddr> {
        let nearest = self.relays.last();
        let seen = match nearest {
            Some(relay) => relay.mac.or_else(|| duid::mac_of_link_local(relay.peer)),
            None => sender.or_else(|| duid::mac_of_link_local(from)),
        };
        seen.or_else(|| duid::mac_of_duid(self.client_id.as_deref()?))
    }
}

/// Reads one UDP payload.
pub fn parse(packet: &[u8]) -> Result<Request, BadPacket> {
    let (relays, message) = relay::unwrap(packet)?;
    let [kind, a, b, c, options @ ..] = message else { return Err(BadPacket::Short(message.len())) };
    let kind = match kind {
        1 => Kind::Solicit,
        3 => Kind::Request,
        4 => Kind::Confirm,
        5 => Kind::Renew,
        6 => Kind::Rebind,
        8 => Kind::Release,
        9 => Kind::Decline,
        11 => Kind::InformationRequest,
        other => return Err(BadPacket::Kind(*other)),
    };
    let mut request = Request {
        kind,
        transaction: [*a, *b, *c],
        client_id: None,
        server_id: None,
        addresses: Vec::new(),
        others: Vec::new(),
        wanted: Vec::new(),
        rapid_commit: false,
        arch: None,
        uuid: None,
        vendor_class: None,
        user_class: None,
        hostname: None,
        relays,
    };
    for found in scan(options) {
        let (code, value) = found?;
        request.take(code, value)?;
    }
    request.check()?;
    let class = request.vendor_class.as_ref().map_or("", |class| class.text.as_str());
    // Firmware that sends no option 61 mostly says it in its class: `PXEClient:Arch:00007:UNDI:003016`.
    let named = || class.split_once(":Arch:")?.1.split(':').next()?.parse().ok();
    request.arch = request.arch.or_else(named);
    let firmware = class.starts_with("PXEClient") || class.starts_with("HTTPClient");
    // Whose DUID-UUID is the machine's is known of these alone. EDK2 also asks without a class, for its own IPv6.
    if firmware || request.is_ipxe() {
        let smbios_order = !request.is_ipxe();
        request.uuid = request.client_id.as_deref().and_then(|id| duid::uuid_of_duid(id, smbios_order));
    }
    Ok(request)
}

impl Request {
    /// Takes in one option; the first of a kind counts.
    fn take(&mut self, code: u16, value: &[u8]) -> Result<(), BadPacket> {
        match code {
            option::CLIENT_ID if self.client_id.is_none() => self.client_id = Some(identifier(value)?),
            option::SERVER_ID if self.server_id.is_none() => self.server_id = Some(identifier(value)?),
            option::IA_NA if self.addresses.len() < MOST => self.addresses.push(association(value)?),
            option::IA_TA | option::IA_PD if self.others.len() < MOST => {
                let id = value.first_chunk().ok_or(BadPacket::Overrun(code))?;
                self.others.push((code, *id));
            }
            option::OPTION_REQUEST => {
                let codes = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                self.wanted.extend(codes.take(256));
            }
            option::RAPID_COMMIT => self.rapid_commit = true,
            option::ARCHITECTURE if self.arch.is_none() => {
                self.arch = value.first_chunk().map(|arch| u16::from_be_bytes(*arch));
            }
            option::VENDOR_CLASS if self.vendor_class.is_none() => {
                self.vendor_class = value.split_first_chunk().and_then(|(enterprise, texts)| {
                    Some(VendorClass { enterprise: *enterprise, text: first_text(texts)? })
                });
            }
            option::USER_CLASS if self.user_class.is_none() => self.user_class = first_text(value),
            option::CLIENT_NAME if self.hostname.is_none() => {
                // Flags, then labels.
                self.hostname = value.get(1..).and_then(|name| {
                    let (length, rest) = name.split_first()?;
                    text(rest.get(..usize::from(*length))?)
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// What each type of message must and must not have (RFC 8415 section 16).
    fn check(&self) -> Result<(), BadPacket> {
        let kind = self.kind;
        match kind {
            Kind::InformationRequest => {
                if !self.addresses.is_empty() || !self.others.is_empty() {
                    return Err(BadPacket::Address(kind));
                }
                return Ok(());
            }
            Kind::Solicit | Kind::Confirm | Kind::Rebind => {
                if self.server_id.is_some() {
                    return Err(BadPacket::Server(kind));
                }
            }
            Kind::Request | Kind::Renew | Kind::Release | Kind::Decline => {
                if self.server_id.is_none() {
                    return Err(BadPacket::NoServer(kind));
                }
            }
        }
        if self.client_id.is_none() { Err(BadPacket::NoClient(kind)) } else { Ok(()) }
    }
}

/// A DUID: its type and at most 128 bytes (RFC 8415 section 11.1).
fn identifier(value: &[u8]) -> Result<Vec<u8>, BadPacket> {
    if (3..=130).contains(&value.len()) {
        Ok(value.to_vec())
    } else {
        Err(BadPacket::Identifier(value.len()))
    }
}

/// IAID, T1, T2, options.
fn association(value: &[u8]) -> Result<Ia, BadPacket> {
    let (header, options) = value.split_at_checked(12).ok_or(BadPacket::Overrun(option::IA_NA))?;
    let mut ia = Ia { id: [header[0], header[1], header[2], header[3]], addresses: Vec::new() };
    for found in scan(options) {
        if let (option::IA_ADDRESS, value) = found?
            && ia.addresses.len() < MOST
        {
            ia.addresses.push(option::address(value).ok_or(BadPacket::Overrun(option::IA_ADDRESS))?);
        }
    }
    Ok(ia)
}

/// The first of texts with two bytes of length before each. Who leaves the length out is understood, too.
fn first_text(value: &[u8]) -> Option<String> {
    let listed = value
        .split_first_chunk()
        .and_then(|(length, rest): (&[u8; 2], _)| rest.get(..usize::from(u16::from_be_bytes(*length))));
    text(listed.unwrap_or(value))
}

/// The printable ASCII of a value, at most 128 characters: what comes from the wire ends on people's screens.
fn text(value: &[u8]) -> Option<String> {
    let printable = value.iter().filter(|b| b.is_ascii_graphic() || **b == b' ');
    let text: String = printable.take(128).map(|b| char::from(*b)).collect();
    (!text.is_empty()).then_some(text)
}
