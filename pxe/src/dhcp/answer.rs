//! Decides what a client is told.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::{
    Encodable, Encoder,
    v4::{DhcpOption, Flags, HType, Message, MessageType, Opcode, OptionCode, UnknownOption},
};

use super::parse::{Kind, Request};
use crate::{Assignment, Network, step::Outcome};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// What a DHCP server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    pub address: Ipv4Addr,
    pub mode: Mode,
}

/// What a DHCP server gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Addresses, and boot information to those who boot.
    #[default]
    Full,
    /// ProxyDHCP (PXE 2.1): boot information only, beside another server that gives the addresses.
    Proxy,
}

/// What has to be known before a request can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// An address that need not be durable.
    Offer,
    /// The address, on disk before the answer leaves.
    Commit,
    /// Nothing: [`answer`] takes no assignment.
    Nothing,
    /// There will be no answer, for this reason.
    Silence(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Reply(Reply),
    /// Nothing is sent, for this reason.
    Silence(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub to: SocketAddrV4,
    pub packet: Vec<u8>,
    /// For the timeline.
    pub outcome: Outcome,
}

/// Says what a request needs before it is answered, so that nothing is recorded for a packet that
/// gets no answer.
pub fn need(request: &Request, facts: &ServerFacts, network: Option<&Network>) -> Need {
    if let Some(server) = request.server.filter(|server| *server != facts.address) {
        return Need::Silence(format!("{} went to another DHCP server, {server}", request.kind));
    }
    let Some(network) = network else {
        return Need::Silence(match request.sight.link {
            Some(link) => format!("relayed from the network of {link}, which is not described here"),
            None => "no addresses are given away here".to_owned(),
        });
    };
    match request.kind {
        Kind::Discover => Need::Offer,
        Kind::Request if request.server.is_some() => Need::Commit,
        // The client means to go on with an address that it got from somebody. Outside of our
        // network that may be another server's client on the same wire: it is left in peace.
        Kind::Request => match request.sight.requested {
            Some(address) if network.subnet.contains(&address) => Need::Commit,
            Some(address) => {
                Need::Silence(format!("wants to keep {address}, which is not of {}", network.subnet))
            }
            None => Need::Silence("REQUEST without an address".to_owned()),
        },
        Kind::Inform if request.ciaddr.is_unspecified() => {
            Need::Silence("INFORM without an address".to_owned())
        }
        Kind::Inform => Need::Nothing,
        // The address stays with the NIC: it gets the same one when it comes back.
        Kind::Release => Need::Silence(format!("released {}", request.ciaddr)),
        Kind::Decline => {
            let address =
                request.requested.map_or_else(|| "its address".to_owned(), |address| address.to_string());
            Need::Silence(format!("declined {address}: another machine answers to it"))
        }
    }
}

/// Makes the reply; `assignment` is what [`need`] asked for, `network` what the client is on.
pub fn answer(
    request: &Request,
    facts: &ServerFacts,
    network: &Network,
    assignment: Option<&Assignment>,
) -> Answer {
    let made = match (request.kind, assignment) {
        (Kind::Discover, Some(assignment)) => granted(request, facts, assignment, MessageType::Offer),
        (Kind::Request, Some(assignment))
            if request.sight.requested.is_none_or(|ip| ip == assignment.address) =>
        {
            granted(request, facts, assignment, MessageType::Ack)
        }
        (Kind::Request, Some(_)) => refused(request, facts),
        (Kind::Inform, _) => informed(request, facts, network),
        (Kind::Discover | Kind::Request, None) => return Answer::Silence("no address for it".to_owned()),
        (Kind::Release | Kind::Decline, _) => return Answer::Silence(request.kind.to_string()),
    };
    // Encoding fails on values that are too long for their field; the domain is the only one that is not bounded here.
    match made {
        Ok(reply) => Answer::Reply(reply),
        Err(error) => Answer::Silence(format!("the reply cannot be encoded: {error}")),
    }
}

fn granted(
    request: &Request,
    facts: &ServerFacts,
    assignment: &Assignment,
    kind: MessageType,
) -> Result<Reply, dhcproto::error::EncodeError> {
    let mut message = reply_to(request, facts, kind);
    message.set_yiaddr(assignment.address);
    let lease = assignment.lease_secs;
    let options = message.opts_mut();
    options.insert(DhcpOption::AddressLeaseTime(lease));
    options.insert(DhcpOption::Renewal(lease / 2));
    options.insert(DhcpOption::Rebinding(lease / 8 * 7));
    if let Some(hostname) = &assignment.hostname {
        options.insert(DhcpOption::Hostname(hostname.clone()));
    }
    network_options(&mut message, &assignment.network);
    let file = boot_options(&mut message, request, facts);

    let address = assignment.address;
    let outcome = if kind == MessageType::Offer {
        Outcome::Offered { address, file }
    } else {
        Outcome::Leased { address, file }
    };
    let to =
        if request.giaddr.is_unspecified() && kind == MessageType::Ack && !request.ciaddr.is_unspecified() {
            // It renews and has its address: RFC 2131 section 4.1.
            SocketAddrV4::new(request.ciaddr, CLIENT_PORT)
        } else {
            relay_or_broadcast(request)
        };
    Ok(Reply { to, packet: encode(message, request)?, outcome })
}

fn refused(request: &Request, facts: &ServerFacts) -> Result<Reply, dhcproto::error::EncodeError> {
    let mut message = reply_to(request, facts, MessageType::Nak);
    // A relay has to broadcast it: the client's address is wrong.
    message.set_flags(Flags::default().set_broadcast());
    message.set_ciaddr(Ipv4Addr::UNSPECIFIED);
    let asked =
        request.sight.requested.map_or_else(|| "an address".to_owned(), |address| address.to_string());
    let outcome = Outcome::Nak { reason: format!("{asked} is not its own") };
    Ok(Reply { to: relay_or_broadcast(request), packet: encode(message, request)?, outcome })
}

/// The network's options without a lease, to an address that the client already has.
fn informed(
    request: &Request,
    facts: &ServerFacts,
    network: &Network,
) -> Result<Reply, dhcproto::error::EncodeError> {
    let mut message = reply_to(request, facts, MessageType::Ack);
    network_options(&mut message, network);
    boot_options(&mut message, request, facts);
    let to = SocketAddrV4::new(request.ciaddr, CLIENT_PORT);
    Ok(Reply {
        to,
        packet: encode(message, request)?,
        outcome: Outcome::Informed { address: request.ciaddr },
    })
}

fn reply_to(request: &Request, facts: &ServerFacts, kind: MessageType) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message =
        Message::new_with_id(request.xid, request.ciaddr, none, none, request.giaddr, &request.sight.mac.0);
    message.set_opcode(Opcode::BootReply).set_htype(HType::Eth);
    if request.broadcast {
        message.set_flags(Flags::default().set_broadcast());
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(facts.address));
    let echoes = [
        (OptionCode::ClientIdentifier, &request.client_id),
        (OptionCode::ClientMachineIdentifier, &request.machine_id),
        (OptionCode::RelayAgentInformation, &request.relay_information),
    ];
    for (code, value) in echoes {
        // Joined from parts and longer than an option can be: nobody sends that, and it would not fit.
        if let Some(value) = value.as_ref().filter(|value| value.len() <= 255) {
            options.insert(DhcpOption::Unknown(UnknownOption::new(code, value.clone())));
        }
    }
    message
}

fn network_options(message: &mut Message, network: &Network) {
    let options = message.opts_mut();
    options.insert(DhcpOption::SubnetMask(network.subnet.netmask()));
    if let Some(router) = network.router {
        options.insert(DhcpOption::Router(vec![router]));
    }
    if !network.dns.is_empty() {
        options.insert(DhcpOption::DomainNameServer(network.dns.clone()));
    }
    if !network.domain.is_empty() {
        options.insert(DhcpOption::DomainName(network.domain.clone()));
    }
}

/// Tells firmware and iPXE what to load, and returns it; `None` for a system that only wants an address, and for
/// firmware that no boot loader is known for.
fn boot_options(message: &mut Message, request: &Request, facts: &ServerFacts) -> Option<String> {
    let class = request.sight.vendor_class.as_deref().unwrap_or_default();
    let arch = request.sight.arch;
    let address = facts.address;
    let file = if request.is_ipxe() {
        // no-pxedhcp: iPXE does not wait for a ProxyDHCP offer.
        let no_pxedhcp = vec![176, 1, 1];
        message.opts_mut().insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(175), no_pxedhcp)));
        format!("http://{address}/boot/{}/script.ipxe", request.sight.mac.dashed())
    } else if class.starts_with("HTTPClient") {
        let shim = match arch? {
            16 => "shimx64.efi",
            19 => "shimaa64.efi",
            _ => return None,
        };
        // Without the class in the reply EDK2 does not take the file for a URL.
        message.opts_mut().insert(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
        format!("http://{address}/boot/files/{shim}")
    } else if class.starts_with("PXEClient") {
        message.opts_mut().insert(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
        // Discovery control, bit 3: load the file named in this packet, no boot server discovery, no menu.
        message.opts_mut().insert(DhcpOption::VendorExtensions(vec![6, 1, 8, 255]));
        match arch.unwrap_or(0) {
            0 => "undionly.kpxe".to_owned(),
            7 | 9 => "shimx64.efi".to_owned(),
            11 => "shimaa64.efi".to_owned(),
            _ => return None,
        }
    } else {
        return None;
    };
    message.set_siaddr(address);
    message.set_fname_str(&file);
    let options = message.opts_mut();
    options.insert(DhcpOption::TFTPServerName(address.to_string().into_bytes()));
    options.insert(DhcpOption::BootfileName(file.clone().into_bytes()));
    Some(file)
}

fn relay_or_broadcast(request: &Request) -> SocketAddrV4 {
    if request.giaddr.is_unspecified() {
        // Unicast to an address that the client does not have yet would need a raw socket; every
        // client takes a broadcast.
        SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
    } else {
        SocketAddrV4::new(request.giaddr, SERVER_PORT)
    }
}

fn encode(mut message: Message, request: &Request) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
    // What every client takes: an IP packet of 576 bytes (RFC 2131 section 2), or what option 57 says.
    let limit = usize::from(request.max_size.unwrap_or(576).max(576)) - 28;
    // The first two stand in siaddr and file as well.
    let mut spare =
        [OptionCode::TFTPServerName, OptionCode::BootfileName, OptionCode::DomainName].into_iter();
    loop {
        let mut packet = Vec::with_capacity(576);
        message.encode(&mut Encoder::new(&mut packet))?;
        if packet.len() > limit
            && let Some(code) = spare.next()
        {
            message.opts_mut().remove(code);
            continue;
        }
        // The least that a BOOTP client takes (RFC 1542 section 2.1).
        packet.resize(packet.len().max(300), 0);
        return Ok(packet);
    }
}
