//! Decides what a client is told.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{
    boot,
    options::code,
    parse::{Kind, Request},
    reply::{Draft, Type},
};
use crate::{Assignment, MacAddr, Network, step::Outcome};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// What a DHCP server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    pub address: Ipv4Addr,
    pub mode: Mode,
    /// Firmware that boots over HTTP is given an https URL with this port.
    pub https: Option<u16>,
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
    /// The client found somebody else at its address (DECLINE). There will be no answer.
    Quarantine(Ipv4Addr),
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
    /// The client cannot be asked for its hardware address yet: the packet goes to this one, in a frame made by hand, and
    /// to everybody where that cannot be done.
    pub hardware: Option<MacAddr>,
    pub packet: Vec<u8>,
    /// For the timeline.
    pub outcome: Outcome,
}

/// Says what a request needs before it is answered, so that nothing is recorded for a packet that
/// gets no answer.
pub fn need(request: &Request, facts: &ServerFacts, network: Option<&Network>) -> Need {
    // The relay may have told the client that it is the server itself (RFC 5107).
    let ours = |server: Ipv4Addr| server == facts.address || Some(server) == request.agent.server;
    if let Some(server) = request.server.filter(|server| !ours(*server)) {
        return Need::Silence(format!("{} went to another DHCP server, {server}", request.kind));
    }
    let Some(network) = network else {
        return Need::Silence(match (request.sight.link, request.sight.relay) {
            (Some(link), Some(_)) => {
                format!("relayed from the network of {link}, which is not described here")
            }
            (Some(link), None) => {
                format!("asks for an address of {link}'s network, which is not described here")
            }
            (None, _) => "no addresses are given away here".to_owned(),
        });
    };
    match request.kind {
        Kind::Discover => Need::Offer,
        // SELECTING.
        Kind::Request if request.server.is_some() => Need::Commit,
        // INIT-REBOOT, RENEWING, REBINDING: the client means to go on with an address that it got from somebody. Outside
        // of our network that may be another server's client on the same wire: it is left in peace.
        Kind::Request => match request.sight.requested {
            Some(address) if network.subnet.contains(&address) => Need::Commit,
            Some(address) => {
                Need::Silence(format!("wants to keep {address}, which is not of {}", network.subnet))
            }
            None => Need::Silence("REQUEST without an address".to_owned()),
        },
        Kind::Inform => match informed_at(request) {
            // The answer goes to whatever address the packet names, so it has to be one of those that are served.
            Some(address) if network.subnet.contains(&address) => Need::Nothing,
            Some(address) => {
                Need::Silence(format!("INFORM of {address}, which is not of {}", network.subnet))
            }
            None => Need::Silence("INFORM without an address".to_owned()),
        },
        // The address stays with the NIC: it gets the same one when it comes back.
        Kind::Release => Need::Silence(format!("released {}", request.ciaddr)),
        Kind::Decline => match request.requested {
            Some(address) => Need::Quarantine(address),
            None => Need::Silence("DECLINE without an address".to_owned()),
        },
        Kind::Bootp => match &request.server_name {
            Some(name) if *name != facts.address.to_string() => {
                Need::Silence(format!("wants to be answered by the BOOTP server {name}"))
            }
            _ => Need::Commit,
        },
    }
}

/// Makes the reply; `assignment` is what [`need`] asked for, `network` what the client is on.
pub fn answer(
    request: &Request,
    facts: &ServerFacts,
    network: &Network,
    assignment: Option<&Assignment>,
) -> Answer {
    let reply = match (request.kind, assignment) {
        (Kind::Discover, Some(assignment)) => granted(request, facts, assignment, Type::Offer),
        (Kind::Request, Some(assignment)) if agrees(request, assignment) => {
            granted(request, facts, assignment, Type::Ack)
        }
        (Kind::Request, Some(_)) => {
            let asked = request.sight.requested;
            let asked = asked.map_or_else(|| "an address".to_owned(), |address| address.to_string());
            refused(request, facts, format!("{asked} is not its own"))
        }
        (Kind::Bootp, Some(assignment)) if agrees(request, assignment) => {
            granted(request, facts, assignment, Type::Bootp)
        }
        (Kind::Bootp, Some(assignment)) => {
            return Answer::Silence(format!(
                "BOOTP client says that it is {}, and is {}",
                request.ciaddr, assignment.address
            ));
        }
        (Kind::Inform, _) => match informed(request, facts, network) {
            Some(reply) => reply,
            None => return Answer::Silence("INFORM without an address".to_owned()),
        },
        (Kind::Discover | Kind::Request | Kind::Bootp, None) => {
            return Answer::Silence("no address for it".to_owned());
        }
        (Kind::Release | Kind::Decline, _) => return Answer::Silence(request.kind.to_string()),
    };
    Answer::Reply(reply)
}

/// What a client is told that asks for an address at which `other` was found.
pub fn conflicting(request: &Request, facts: &ServerFacts, address: Ipv4Addr, other: MacAddr) -> Answer {
    let reason = format!("{other} answers to {address}");
    match request.kind {
        Kind::Request => Answer::Reply(refused(request, facts, reason)),
        // There is no refusal in BOOTP; it asks again, and is given another one.
        _ => Answer::Silence(reason),
    }
}

/// Whether all addresses that the client names as its own are the one that it has.
fn agrees(request: &Request, assignment: &Assignment) -> bool {
    let own = |named: Ipv4Addr| named.is_unspecified() || named == assignment.address;
    own(request.ciaddr) && request.sight.requested.is_none_or(own)
}

fn granted(request: &Request, facts: &ServerFacts, assignment: &Assignment, kind: Type) -> Reply {
    let address = assignment.address;
    let mut draft = Draft::new(request, facts, kind);
    draft.yiaddr = address;
    let lease = assignment.lease_secs;
    // What BOOTP gives is for good.
    if kind != Type::Bootp {
        draft.sheet.put_seconds(code::LEASE, lease);
        // All ones: for ever (RFC 2131 section 3.3), and then there is nothing to renew.
        if lease != u32::MAX {
            draft.sheet.put_seconds(code::RENEWAL, lease / 2);
            draft.sheet.put_seconds(code::REBINDING, lease / 8 * 7);
        }
    }
    network_options(&mut draft, request, &assignment.network);
    if let Some(hostname) = &assignment.hostname {
        draft.sheet.put(code::HOSTNAME, hostname.as_bytes());
    }
    let file = boot_options(&mut draft, request, facts);
    let outcome = match kind {
        Type::Offer => Outcome::Offered { address, file },
        Type::Ack | Type::Bootp | Type::Nak => Outcome::Leased { address, file },
    };
    let (to, hardware) = place(request, kind, address);
    let mtu = assignment.network.mtu;
    Reply { to, hardware, packet: draft.encode(request, mtu), outcome }
}

fn refused(request: &Request, facts: &ServerFacts, reason: String) -> Reply {
    let mut draft = Draft::new(request, facts, Type::Nak);
    // A relay has to broadcast it: the client's address is wrong.
    draft.broadcast = true;
    draft.ciaddr = Ipv4Addr::UNSPECIFIED;
    draft.sheet.put(code::MESSAGE, reason.as_bytes());
    let (to, hardware) = place(request, Type::Nak, Ipv4Addr::UNSPECIFIED);
    Reply { to, hardware, packet: draft.encode(request, None), outcome: Outcome::Nak { reason } }
}

/// The network's options without a lease, to an address that the client already has.
fn informed(request: &Request, facts: &ServerFacts, network: &Network) -> Option<Reply> {
    let address = informed_at(request)?;
    let mut draft = Draft::new(request, facts, Type::Ack);
    network_options(&mut draft, request, network);
    boot_options(&mut draft, request, facts);
    Some(Reply {
        to: SocketAddrV4::new(address, CLIENT_PORT),
        hardware: None,
        packet: draft.encode(request, network.mtu),
        outcome: Outcome::Informed { address },
    })
}

/// Where the client of an INFORM is. It has to say so, and some leave it to their packet's sender.
fn informed_at(request: &Request) -> Option<Ipv4Addr> {
    let said = Some(request.ciaddr).filter(|address| !address.is_unspecified());
    let from = request.source.map(|source| *source.ip());
    said.or_else(|| from.filter(|address| !address.is_unspecified() && request.giaddr.is_unspecified()))
}

fn network_options(draft: &mut Draft, request: &Request, network: &Network) {
    let wanted = |code: u8| request.wanted.contains(&code);
    let sheet = &mut draft.sheet;
    sheet.put_address(code::SUBNET_MASK, network.subnet.netmask());
    // Who takes 121 is not sent a Router, because the default route stands among the others (RFC 3442).
    let classless = [code::ROUTES, code::ROUTES_MICROSOFT].into_iter().find(|code| wanted(*code));
    match classless.filter(|_| !network.routes.is_empty()) {
        Some(code) => sheet.put(code, &routes(network)),
        None => sheet.put_addresses(code::ROUTER, network.router.as_slice()),
    }
    sheet.put_addresses(code::DNS, &network.dns);
    if !network.domain.is_empty() {
        sheet.put(code::DOMAIN, network.domain.as_bytes());
    }
    // Nothing that boots needs these, so only to who asks.
    if wanted(code::NTP) {
        sheet.put_addresses(code::NTP, &network.ntp);
    }
    if let Some(mtu) = network.mtu.filter(|_| wanted(code::MTU)) {
        sheet.put(code::MTU, &mtu.to_be_bytes());
    }
}

/// Each route as its prefix length, the octets of the destination that count, and the router.
fn routes(network: &Network) -> Vec<u8> {
    let default = network.router.map(|router| (ipnet::Ipv4Net::default(), router));
    let mut value = Vec::new();
    for (destination, router) in network.routes.iter().copied().chain(default) {
        let length = destination.prefix_len();
        value.push(length);
        value.extend(&destination.network().octets()[..usize::from(length.div_ceil(8))]);
        value.extend(router.octets());
    }
    value
}

/// Tells firmware and iPXE what to load, and returns it.
fn boot_options(draft: &mut Draft, request: &Request, facts: &ServerFacts) -> Option<String> {
    let client = request.client();
    if let Some(class) = boot::class(&client) {
        draft.sheet.put(code::CLASS, class.as_bytes());
    }
    match client {
        crate::step::Client::Firmware { .. } => draft.sheet.put(code::VENDOR, boot::TAKE_THIS_FILE),
        crate::step::Client::Ipxe => draft.sheet.put(code::IPXE, boot::NO_PROXY),
        crate::step::Client::HttpFirmware { .. } | crate::step::Client::System(_) => {}
    }
    let file = boot::file(&client, request.sight.mac, facts)?;
    draft.boot(facts.address, &file);
    Some(file)
}

/// Where a reply goes (RFC 2131 section 4.1): the IP address, and the hardware address for a client that has none yet.
pub(super) fn place(request: &Request, kind: Type, yiaddr: Ipv4Addr) -> (SocketAddrV4, Option<MacAddr>) {
    if !request.giaddr.is_unspecified() {
        let port = match request.source {
            Some(source) if request.agent.port => source.port(),
            _ => SERVER_PORT,
        };
        return (SocketAddrV4::new(request.giaddr, port), None);
    }
    // It renews, and has its address.
    if kind == Type::Ack && !request.ciaddr.is_unspecified() {
        return (SocketAddrV4::new(request.ciaddr, CLIENT_PORT), None);
    }
    if request.broadcast || kind == Type::Nak || yiaddr.is_unspecified() {
        return (SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT), None);
    }
    (SocketAddrV4::new(yiaddr, CLIENT_PORT), Some(request.sight.mac))
}
