//! Subnets: the networks whose machines are given addresses here. The site's own is always there, under the name
//! [`OWN`]; the others are reached through relays (RFC 2131, 4.1.1), by whose address they are known.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{Fleet, Mac, Refusal, is_label, lease, vm};

/// The name of the site's own network.
pub const OWN: &str = "site";

/// Addresses belong to their machines for good, so leases are long. Clients renew at half of it.
pub const USUAL_LEASE_SECS: u32 = 12 * 3600;

/// A DHCP message has room for so many with all else that is in it.
const MOST: usize = 8;

/// What is told to the machines of one network, and which addresses they are given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    pub name: String,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub network: Ipv4Net,
    /// The default route; none where nobody routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv4Addr>,
    /// The site's, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// In bytes; 1500, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// From which addresses are given. If none is said: the whole network without its first addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_secs: Option<u32>,
}

/// RFC 3442.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Route {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub to: Ipv4Net,
    pub via: Ipv4Addr,
}

/// Both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Subnet {
    pub fn new(name: &str, network: Ipv4Net) -> Subnet {
        Subnet {
            name: name.to_owned(),
            network: network.trunc(),
            router: None,
            dns: Vec::new(),
            ntp: Vec::new(),
            domain: None,
            routes: Vec::new(),
            mtu: None,
            ranges: Vec::new(),
            lease_secs: None,
        }
    }

    pub fn lease_secs(&self) -> u32 {
        self.lease_secs.unwrap_or(USUAL_LEASE_SECS)
    }

    /// The ranges of the pool. The usual one leaves the first addresses to appliances, routers and people:
    /// 10.77.0.0 to 10.77.0.255, in a small network fewer.
    pub fn pool(&self) -> Vec<Range> {
        if !self.ranges.is_empty() {
            return self.ranges.clone();
        }
        let base = u32::from(self.network.network());
        let broadcast = u32::from(self.network.broadcast());
        let left = match broadcast - base {
            513.. => 256,
            63.. => 16,
            15.. => 4,
            _ => 1,
        };
        let range = Range { first: (base + left).into(), last: (broadcast - 1).into() };
        (range.first <= range.last).then_some(range).into_iter().collect()
    }

    /// Whether an address of the pool is the appliance's own or the router's, or no machine's at all.
    pub(crate) fn keeps(&self, fleet: &Fleet, address: Ipv4Addr) -> bool {
        address == self.network.network()
            || address == self.network.broadcast()
            || self.router == Some(address)
            || fleet.site.as_ref().is_some_and(|site| site.address == address)
    }

    /// `None` if it can be used.
    fn wrong(&self) -> Option<String> {
        let Subnet { name, network, router, dns, ntp, domain, routes, mtu, ranges, lease_secs } = self;
        let inside = |address: &Ipv4Addr| {
            network.contains(address) && *address != network.network() && *address != network.broadcast()
        };
        let server = |address: &Ipv4Addr| {
            !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
        };
        if !is_label(name) {
            return Some(format!(
                "{name:?} is not usable as a subnet's name: a-z, 0-9 and -, at most 63 characters"
            ));
        }
        if !(8..=30).contains(&network.prefix_len()) || !server(&network.network()) {
            return Some(format!("{network} is not usable: a subnet is a /8 to /30"));
        }
        if *network != network.trunc() {
            return Some(format!("{network} is an address; its network is {}", network.trunc()));
        }
        if let Some(router) = router.filter(|router| !inside(router)) {
            return Some(format!("the router {router} is outside of {network}"));
        }
        if let Some(address) = dns.iter().chain(ntp).find(|address| !server(address)) {
            return Some(format!("{address} is no server's address"));
        }
        if dns.len() > MOST || ntp.len() > MOST || routes.len() > MOST || ranges.len() > MOST {
            return Some(format!(
                "a subnet has at most {MOST} DNS servers, NTP servers, routes and pool ranges each"
            ));
        }
        if let Some(domain) = domain.as_ref().filter(|it| it.len() > 253 || !it.split('.').all(is_label)) {
            return Some(format!("{domain:?} is not usable as a domain: labels of a-z, 0-9, - with dots"));
        }
        if let Some(route) = routes.iter().find(|route| !inside(&route.via) || route.to != route.to.trunc()) {
            return Some(format!(
                "the route to {} via {} is not usable: a route is to a network, and its router is in {network}",
                route.to, route.via
            ));
        }
        if let Some(mtu) = mtu.filter(|mtu| !(576..=9216).contains(mtu)) {
            return Some(format!("an MTU is 576 to 9216 bytes, not {mtu}"));
        }
        if let Some(secs) = lease_secs.filter(|secs| !(120..=31 * 24 * 3600).contains(secs)) {
            return Some(format!("a lease lasts 120 seconds to 31 days, not {secs} seconds"));
        }
        for (place, range) in ranges.iter().enumerate() {
            if range.first > range.last {
                return Some(format!("the pool range {range} ends before it begins"));
            }
            if !inside(&range.first) || !inside(&range.last) {
                return Some(format!("the pool range {range} is outside of {network}"));
            }
            let meets = |other: &&Range| range.first <= other.last && other.first <= range.last;
            if let Some(other) = ranges[..place].iter().find(meets) {
                return Some(format!("the pool ranges {other} and {range} overlap"));
            }
        }
        None
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Added, or described anew.
    Set { subnet: Subnet },
    Removed {
        subnet: String,
        /// Who had an address in it, as sentences.
        #[serde(default)]
        leftovers: Vec<String>,
    },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        match self {
            Event::Set { subnet } => subject(&subnet.name),
            Event::Removed { subnet, .. } => subject(subnet),
        }
    }

    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Set { .. } => &[],
            Event::Removed { leftovers, .. } => leftovers,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Set { subnet } => {
                write!(f, "Subnet {} is {}", subnet.name, subnet.network)?;
                if let Some(router) = subnet.router {
                    write!(f, ", router {router}")?;
                }
                let pool: Vec<String> = subnet.pool().iter().map(ToString::to_string).collect();
                write!(f, ", addresses from {}", pool.join(", "))
            }
            Event::Removed { subnet, .. } if subnet == OWN => {
                f.write_str("The site's own network is described as at the beginning")
            }
            Event::Removed { subnet, .. } => write!(f, "Subnet {subnet} was removed"),
        }
    }
}

/// What the lines of a subnet's timeline are written under.
pub fn subject(name: &str) -> String {
    format!("subnet:{name}")
}

/// The site's own network, as it was described or as it is without that.
pub fn own(fleet: &Fleet) -> Option<Subnet> {
    let site = fleet.site.as_ref()?;
    let described = fleet.subnets.get(OWN).filter(|subnet| subnet.network == site.network);
    Some(described.map_or_else(|| Subnet::new(OWN, site.network), |subnet| Subnet::clone(subnet)))
}

/// All of them, the site's own first.
pub fn all(fleet: &Fleet) -> impl Iterator<Item = Subnet> {
    let others = fleet.subnets.values().filter(|subnet| subnet.name != OWN);
    own(fleet).into_iter().chain(others.map(|subnet| Subnet::clone(subnet)))
}

pub fn by_name(fleet: &Fleet, name: &str) -> Option<Subnet> {
    match name {
        OWN => own(fleet),
        name => fleet.subnets.get(name).map(|subnet| Subnet::clone(subnet)),
    }
}

pub(crate) fn network_of(fleet: &Fleet, address: Ipv4Addr) -> Option<Ipv4Net> {
    let own = fleet.site.as_ref()?.network;
    if own.contains(&address) {
        return Some(own);
    }
    fleet.subnets.values().map(|subnet| subnet.network).find(|network| network.contains(&address))
}

/// The subnet that this address is in.
pub fn of_address(fleet: &Fleet, address: Ipv4Addr) -> Option<Subnet> {
    if fleet.site.as_ref()?.network.contains(&address) {
        return own(fleet);
    }
    let mut others = fleet.subnets.values();
    others.find(|subnet| subnet.network.contains(&address)).map(|subnet| Subnet::clone(subnet))
}

/// The network of a client: that of `link`, an address of its network that a relay said; without one the site's own.
pub fn of_link(fleet: &Fleet, link: Option<Ipv4Addr>) -> Option<Subnet> {
    match link {
        Some(link) => of_address(fleet, link),
        None => own(fleet),
    }
}

pub(crate) fn set(fleet: &Fleet, subnet: &Subnet) -> Result<Vec<crate::Event>, Refusal> {
    let Some(site) = &fleet.site else {
        return Err(Refusal::Conflict("the site is not founded yet".to_owned()));
    };
    if let Some(wrong) = subnet.wrong() {
        return Err(Refusal::Invalid(wrong));
    }
    if subnet.name == OWN && subnet.network != site.network {
        return Err(Refusal::Invalid(format!(
            "the site's own network is {}, for good; it cannot become {}",
            site.network, subnet.network
        )));
    }
    if by_name(fleet, &subnet.name).as_ref() == Some(subnet) {
        return Ok(Vec::new());
    }
    let meets = |other: &Subnet| {
        other.name != subnet.name
            && (other.network.contains(&subnet.network) || subnet.network.contains(&other.network))
    };
    if let Some(other) = all(fleet).find(meets) {
        return Err(Refusal::Conflict(format!(
            "{} overlaps {}, the network of subnet {}",
            subnet.network, other.network, other.name
        )));
    }
    if let Some(before) = fleet.subnets.get(&subnet.name).filter(|before| before.network != subnet.network)
        && let Some((mac, address)) = fleet.leases.within(before.network).next()
    {
        return Err(Refusal::Conflict(format!(
            "subnet {} is {} and {} has {address} of it; remove it and add it anew to change that",
            before.name,
            before.network,
            lease::holder_name(fleet, mac)
        )));
    }
    if let Some(router) = subnet.router
        && let Some(mac) = fleet.leases.given.holder(router).or(fleet.leases.reserved.holder(router))
    {
        return Err(Refusal::Conflict(format!(
            "the router's address {router} is that of {}",
            lease::holder_name(fleet, mac)
        )));
    }
    Ok(vec![crate::Event::Subnet(Event::Set { subnet: subnet.clone() })])
}

pub(crate) fn remove(fleet: &Fleet, name: &str, force: bool) -> Result<Vec<crate::Event>, Refusal> {
    let removed = |leftovers| crate::Event::Subnet(Event::Removed { subnet: name.to_owned(), leftovers });
    if name == OWN {
        return Ok(if fleet.subnets.contains_key(OWN) { vec![removed(Vec::new())] } else { Vec::new() });
    }
    let subnet =
        fleet.subnets.get(name).ok_or_else(|| Refusal::Missing { what: "subnet", name: name.to_owned() })?;
    let in_it: Vec<(Mac, Ipv4Addr)> = fleet.leases.within(subnet.network).collect();
    let vm = in_it.iter().find_map(|(mac, _)| vm::by_mac(fleet, *mac));
    if let Some(vm) = vm {
        return Err(Refusal::Conflict(format!(
            "the VM {} has an address in subnet {name}; remove it first",
            vm.name
        )));
    }
    let known: Vec<String> = in_it
        .iter()
        .filter(|(mac, _)| lease::is_known(fleet, *mac))
        .map(|(mac, address)| format!("{} has {address}", lease::holder_name(fleet, *mac)))
        .collect();
    if !known.is_empty() && !force {
        return Err(Refusal::Conflict(format!(
            "in subnet {name}, {}; remove that first, or the subnet by force",
            known.join(", ")
        )));
    }
    let leftovers = known.into_iter().map(|known| format!("{known} until its lease ends")).collect();
    Ok(vec![removed(leftovers)])
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Set { subnet } => {
            fleet.subnets.insert(subnet.name.clone(), std::sync::Arc::new(subnet.clone()));
        }
        Event::Removed { subnet, .. } => {
            let Some(removed) = fleet.subnets.remove(subnet) else { return };
            if removed.name != OWN {
                lease::forget(fleet, removed.network);
            }
        }
    }
}
