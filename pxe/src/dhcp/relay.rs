//! Relays (RFC 1542, 3046): which network a relayed client is on, and relays that are not believed.

use std::net::Ipv4Addr;

use super::{ServerFacts, parse::Request};
use crate::Network;

/// The suboptions of option 82 that change an answer. All of them go back as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// An address of the client's network, where that is not the relay's (RFC 3527).
    pub link: Option<Ipv4Addr>,
    /// What the client is to take for the server, so that its renewals come through the relay too (RFC 5107).
    pub server: Option<Ipv4Addr>,
    /// The relay does not listen on port 67 but on the port that it sends from (RFC 8357).
    pub port: bool,
}

/// Reads option 82. Suboptions that are cut or of another length than theirs are as if they were not there.
pub(super) fn agent(mut value: &[u8]) -> Agent {
    let mut agent = Agent::default();
    while let [code, length, rest @ ..] = value {
        let Some((suboption, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        match code {
            5 => agent.link = crate::frame::address(suboption),
            11 => agent.server = crate::frame::address(suboption),
            19 => agent.port = suboption.is_empty(),
            _ => {}
        }
        value = rest;
    }
    agent
}

/// Packets that went round in circles (RFC 1542 section 4.1.1).
const MOST_HOPS: u8 = 16;

/// Why a relayed packet is not believed, if it is not. `served` is the network that is served directly.
///
/// The address that a relay sends from need not be its giaddr: it has one on either side. What can be known is that a
/// relay is a host (an answer to a broadcast address would go to everybody), that it is not the appliance, and that on
/// the appliance's own link nobody speaks for another.
pub fn lie(request: &Request, facts: &ServerFacts, served: Option<&Network>) -> Option<String> {
    let giaddr = request.giaddr;
    if giaddr.is_unspecified() {
        return None;
    }
    if request.hops > MOST_HOPS {
        return Some(format!("relayed {} times", request.hops));
    }
    if giaddr == facts.address {
        return Some(format!("says that {giaddr} relayed it, which is the address here"));
    }
    if giaddr.is_loopback() || giaddr.is_multicast() || giaddr.is_broadcast() || giaddr.octets()[0] == 0 {
        return Some(format!("says that {giaddr} relayed it, which is no host's address"));
    }
    let served = served.filter(|network| network.subnet.contains(&giaddr))?;
    if giaddr == served.subnet.broadcast() || giaddr == served.subnet.network() {
        return Some(format!("says that {giaddr} relayed it, which is no host's address"));
    }
    let source = *request.source?.ip();
    (source != giaddr).then(|| format!("says that {giaddr} relayed it, and came from {source}"))
}
