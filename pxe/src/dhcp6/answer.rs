//! Decides what a client is told.

use std::net::{Ipv6Addr, SocketAddrV6};

use ipnet::Ipv6Net;

use super::{
    CLIENT_PORT, SERVER_PORT, address_in,
    option::{self, Status, Writer, domain_name},
    parse::{Ia, Kind, Request},
    relay,
};
use crate::{
    Assignment, MacAddr,
    dhcp::{loader, loader_url},
    step::Outcome,
};

const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;

/// A machine that is unknown now may be known in a moment: nobody waits longer than this between two questions.
const MOST_SECS_BETWEEN: u32 = 600;
/// How soon a client without a lease asks for changes.
const REFRESH_SECS: u32 = 3600;

/// What a DHCPv6 server says about itself and its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub duid: Vec<u8>,
    pub network: Ipv6Net,
    /// The appliance's own address in it, where TFTP and HTTP answer.
    pub address: Ipv6Addr,
    pub dns: Vec<Ipv6Addr>,
    pub ntp: Vec<Ipv6Addr>,
    pub domain: String,
    /// Firmware that boots over HTTP is given an https URL with this port.
    pub https: Option<u16>,
}

/// What has to be known before a request can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The client's address, which need not be durable.
    Offer,
    /// The client's address, on disk before the answer leaves.
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
    pub to: SocketAddrV6,
    pub packet: Vec<u8>,
    /// For the timeline.
    pub outcome: Outcome<Ipv6Addr>,
}

/// Says what a request needs before it is answered, so that nothing is recorded for a packet that gets no answer.
/// `multicast` is whether the packet came to a multicast address; a relay's may come to ours.
pub fn need(request: &Request, facts: &Facts, multicast: bool) -> Need {
    let kind = request.kind;
    if request.server_id.as_ref().is_some_and(|server| *server != facts.duid) {
        return Need::Silence(format!("{kind} went to another DHCPv6 server"));
    }
    if let Some(link) = request.link().filter(|link| !facts.network.contains(link)) {
        return Need::Silence(format!("relayed from the network of {link}, which is not described here"));
    }
    let unicast = !multicast && request.relays.is_empty();
    match kind {
        Kind::Solicit | Kind::Confirm | Kind::Rebind | Kind::InformationRequest if unicast => {
            Need::Silence(format!("{kind} was not sent to all servers"))
        }
        // The reply is the status UseMulticast.
        _ if unicast => Need::Nothing,
        Kind::Solicit if request.addresses.is_empty() => Need::Nothing,
        Kind::Solicit if request.rapid_commit => Need::Commit,
        Kind::Solicit | Kind::Release | Kind::Decline => Need::Offer,
        Kind::Request | Kind::Renew | Kind::Rebind if request.addresses.is_empty() => Need::Nothing,
        Kind::Request | Kind::Renew | Kind::Rebind => Need::Commit,
        Kind::Confirm if request.addresses.iter().all(|ia| ia.addresses.is_empty()) => {
            Need::Silence("CONFIRM without an address".to_owned())
        }
        Kind::Confirm | Kind::InformationRequest => Need::Nothing,
    }
}

/// Where a request came from, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    pub from: SocketAddrV6,
    pub multicast: bool,
    /// [`Request::mac`].
    pub mac: Option<MacAddr>,
}

/// Makes the reply; `assignment` is what [`need`] asked for, `None` if there is nothing to give.
pub fn answer(request: &Request, facts: &Facts, source: Source, assignment: Option<&Assignment>) -> Answer {
    let own = assignment.map(|assignment| address_in(facts.network, assignment.address));
    let rapid = request.kind == Kind::Solicit && request.rapid_commit && own.is_some();
    let kind = if request.kind == Kind::Solicit && !rapid { ADVERTISE } else { REPLY };
    let mut packet = Writer(vec![kind]);
    packet.0.extend(request.transaction);
    packet.option(option::SERVER_ID, &facts.duid);
    if let Some(id) = &request.client_id {
        packet.option(option::CLIENT_ID, id);
    }
    if rapid {
        packet.option(option::RAPID_COMMIT, &[]);
    }

    let outcome = if !source.multicast && request.relays.is_empty() {
        packet.status(Status::UseMulticast);
        Outcome::Nak { reason: "it has to speak to all servers".to_owned() }
    } else {
        match request.kind {
            Kind::Solicit | Kind::Request | Kind::Renew | Kind::Rebind => {
                let granted = associations(&mut packet, request, facts, own, assignment);
                if kind == ADVERTISE {
                    // The highest: nobody waits a second for other servers.
                    packet.option(option::PREFERENCE, &[255]);
                }
                let file = network_options(&mut packet, request, facts, source.mac, assignment);
                match granted {
                    Ok(Some(address)) if kind == ADVERTISE => Outcome::Offered { address, file },
                    Ok(Some(address)) => Outcome::Leased { address, file },
                    Ok(None) => Outcome::BootOnly { file },
                    Err(reason) => Outcome::Nak { reason },
                }
            }
            Kind::Confirm => confirm(&mut packet, request, facts),
            Kind::Release | Kind::Decline => give_back(&mut packet, request, own),
            Kind::InformationRequest => {
                if request.wants(option::REFRESH_TIME) {
                    packet.option(option::REFRESH_TIME, &REFRESH_SECS.to_be_bytes());
                }
                let file = network_options(&mut packet, request, facts, source.mac, None);
                match file {
                    Some(file) => Outcome::BootOnly { file: Some(file) },
                    None => Outcome::Informed { address: *source.from.ip() },
                }
            }
        }
    };

    let mut to = source.from;
    match request.relays.first() {
        // A reply goes to where the client or the relay listens, whatever port a packet claims to be from.
        None => to.set_port(CLIENT_PORT),
        Some(relay) if relay.own_port => {}
        Some(_) => to.set_port(SERVER_PORT),
    }
    Answer::Reply(Reply { to, packet: relay::wrap(&request.relays, packet.0), outcome })
}

/// Writes an IA for each that was asked for. One of them gets the NIC's address; `Ok(None)` if none was asked for.
fn associations(
    packet: &mut Writer,
    request: &Request,
    facts: &Facts,
    own: Option<Ipv6Addr>,
    assignment: Option<&Assignment>,
) -> Result<Option<Ipv6Addr>, String> {
    let keeps = matches!(request.kind, Kind::Renew | Kind::Rebind);
    for (code, id) in &request.others {
        // An IA_PD has lifetimes after its id, an IA_TA has not.
        let (times, none): (&[u8], _) = match *code {
            option::IA_PD => (&[0; 8], Status::NoPrefixAvail),
            _ => (&[], Status::NoAddrsAvail),
        };
        packet.nested(*code, |ia| {
            ia.0.extend(id);
            ia.0.extend(times);
            ia.status(if keeps { Status::NoBinding } else { none });
        });
    }

    let chosen = own.and_then(|own| request.addresses.iter().position(|ia| ia.addresses.contains(&own)));
    let chosen = chosen.unwrap_or(0);
    let mut granted = Ok(None);
    for (place, ia) in request.addresses.iter().enumerate() {
        let given = own.zip(assignment).filter(|_| place == chosen);
        let stray = ia.addresses.iter().find(|address| !facts.network.contains(*address));
        let refusal = match (request.kind, stray, given) {
            (Kind::Request, Some(address), _) => {
                granted = Err(format!("{address} is not of {}", facts.network));
                Some(Status::NotOnLink)
            }
            (_, _, Some((address, _))) => {
                granted = Ok(Some(address));
                None
            }
            (_, _, None) => {
                if place == chosen {
                    granted = Err("there is no address for it".to_owned());
                }
                let status = if keeps { Status::NoBinding } else { Status::NoAddrsAvail };
                // Addresses that are not its own are taken away; that says it.
                (!keeps || ia.addresses.is_empty()).then_some(status)
            }
        };
        packet.nested(option::IA_NA, |writer| {
            let given = given.filter(|_| refusal.is_none());
            let lease = given.map_or(0, |(_, assignment)| assignment.lease_secs);
            writer.0.extend(ia.id);
            // T1 and T2: the halves and four fifths that RFC 8415 section 21.4 recommends.
            writer.0.extend((lease / 2).to_be_bytes());
            writer.0.extend((lease / 5 * 4).to_be_bytes());
            if let Some((address, _)) = given {
                ia_address(writer, address, lease);
            }
            // What the client must not go on with has the lifetime 0 (RFC 8415 section 18.3.4).
            for address in ia.addresses.iter().filter(|_| keeps) {
                if given.is_none_or(|(own, _)| own != *address) {
                    ia_address(writer, *address, 0);
                }
            }
            if let Some(status) = refusal {
                writer.status(status);
            }
        });
    }
    granted
}

fn ia_address(writer: &mut Writer, address: Ipv6Addr, lease: u32) {
    let lifetimes = [lease.to_be_bytes(), lease.to_be_bytes()].concat();
    writer.option(option::IA_ADDRESS, &[&address.octets(), &lifetimes[..]].concat());
}

fn confirm(packet: &mut Writer, request: &Request, facts: &Facts) -> Outcome<Ipv6Addr> {
    let mut addresses = request.addresses.iter().flat_map(|ia| &ia.addresses);
    match addresses.find(|address| !facts.network.contains(*address)) {
        None => {
            packet.status(Status::Success);
            Outcome::Confirmed { what: "its address is of this network".to_owned() }
        }
        Some(address) => {
            packet.status(Status::NotOnLink);
            Outcome::Nak { reason: format!("{address} is not of {}", facts.network) }
        }
    }
}

/// RELEASE and DECLINE. The address stays with the NIC; what becomes of a declined one the directory decides.
fn give_back(packet: &mut Writer, request: &Request, own: Option<Ipv6Addr>) -> Outcome<Ipv6Addr> {
    packet.status(Status::Success);
    let is_own = |ia: &Ia| own.is_some_and(|own| ia.addresses.contains(&own));
    for ia in request.addresses.iter().filter(|ia| !is_own(ia)) {
        packet.nested(option::IA_NA, |writer| {
            writer.0.extend(ia.id);
            writer.0.extend([0; 8]);
            writer.status(Status::NoBinding);
        });
    }
    let named: Vec<String> =
        request.addresses.iter().flat_map(|ia| &ia.addresses).map(Ipv6Addr::to_string).collect();
    Outcome::Confirmed {
        what: match request.kind {
            Kind::Decline => format!("another machine answers to {}", named.join(", ")),
            _ => named.join(", "),
        },
    }
}

/// The address that a DECLINE is about, if it is the client's own.
pub fn declined(request: &Request, facts: &Facts, assignment: &Assignment) -> bool {
    let own = address_in(facts.network, assignment.address);
    request.kind == Kind::Decline && request.addresses.iter().any(|ia| ia.addresses.contains(&own))
}

/// What is told to whoever gets an answer, and to firmware and iPXE what they load, which is returned.
fn network_options(
    packet: &mut Writer,
    request: &Request,
    facts: &Facts,
    mac: Option<MacAddr>,
    assignment: Option<&Assignment>,
) -> Option<String> {
    packet.addresses(option::DNS_SERVERS, &facts.dns);
    let domain = domain_name(&facts.domain);
    if let Some(domain) = domain.as_ref().filter(|_| request.wants(option::DOMAIN_LIST)) {
        packet.option(option::DOMAIN_LIST, domain);
    }
    if request.wants(option::NTP) && !facts.ntp.is_empty() {
        packet.nested(option::NTP, |writer| {
            for server in &facts.ntp {
                // Suboption 1: an address (RFC 5908).
                writer.option(1, &server.octets());
            }
        });
    }
    for code in [option::SOL_MAX_RT, option::INF_MAX_RT] {
        if request.wants(code) {
            packet.option(code, &MOST_SECS_BETWEEN.to_be_bytes());
        }
    }
    if let Some(name) = assignment.and_then(|assignment| assignment.hostname.as_ref())
        && (request.hostname.is_some() || request.wants(option::CLIENT_NAME))
        && let Some(name) = domain_name(&format!("{name}.{}", facts.domain))
    {
        // Flag N: this server writes nothing into the DNS (RFC 4704 section 6).
        packet.option(option::CLIENT_NAME, &[&[4], &name[..]].concat());
    }
    let file = boot_file(request, facts, mac)?;
    packet.option(option::BOOT_FILE_URL, file.as_bytes());
    if let Some(class) = &request.vendor_class
        && class.text.starts_with("HTTPClient")
    {
        // Without the class in the reply EDK2 does not take the file for one to fetch over HTTP.
        packet.option(option::VENDOR_CLASS, &[&class.enterprise[..], &[0, 10], b"HTTPClient"].concat());
    }
    Some(file)
}

/// The URL of what firmware or iPXE loads (RFC 5970); `None` for a system, and for firmware that no boot loader is
/// known for.
fn boot_file(request: &Request, facts: &Facts, mac: Option<MacAddr>) -> Option<String> {
    let server = facts.address;
    let class = request.vendor_class.as_ref().map_or("", |class| class.text.as_str());
    if request.is_ipxe() {
        return Some(format!("http://[{server}]/boot/{}/script.ipxe", mac?.dashed()));
    }
    if class.starts_with("HTTPClient") {
        return loader_url(request.arch?, format_args!("[{server}]"), facts.https);
    }
    if class.starts_with("PXEClient") {
        return Some(format!("tftp://[{server}]/{}", loader(request.arch.unwrap_or(0))?));
    }
    None
}
