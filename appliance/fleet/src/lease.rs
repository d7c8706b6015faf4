//! Addresses: one for each MAC address and subnet, the same through firmware, boot loader, initrd and system.
//!
//! Only what decides something is an event: that an address was given, reserved, found in use by somebody else. When
//! a client renews is a last value, kept outside the log (docs/decisions/0017).

mod order;
mod pool;

use std::fmt;
use std::net::Ipv4Addr;

use imbl::{OrdMap, OrdSet};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::machine::Phase;
use crate::{Ctx, Fleet, Mac, Refusal, Timestamp, machine, subnet, vm};

pub(crate) use order::{free, learn, quarantine, reserve, take_back, unreserve};
pub use pool::{Usage, address_for, lease_secs, usage};

/// How long an address is given to nobody that somebody else was found to use.
pub const QUARANTINE_SECS: u64 = 24 * 3600;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    pub given: Addresses,
    /// By a person: for these MAC addresses only.
    pub reserved: Addresses,
    /// Somebody else answers to them. Those that are over stay here until the address is given again.
    pub quarantined: OrdMap<Ipv4Addr, Quarantine>,
}

/// Which MAC address has which addresses: each at most one of a subnet, and none two have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    by_mac: OrdSet<(Mac, Ipv4Addr)>,
    by_address: OrdMap<Ipv4Addr, Mac>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub address: Ipv4Addr,
    /// Who found out.
    pub mac: Mac,
    pub until: Timestamp,
}

impl Addresses {
    pub(crate) fn new(by_mac: OrdSet<(Mac, Ipv4Addr)>, by_address: OrdMap<Ipv4Addr, Mac>) -> Addresses {
        Addresses { by_mac, by_address }
    }

    /// In the order of MAC addresses.
    pub fn iter(&self) -> impl Iterator<Item = &(Mac, Ipv4Addr)> {
        self.by_mac.iter()
    }

    pub fn by_address(&self) -> impl Iterator<Item = (Ipv4Addr, Mac)> {
        self.by_address.iter().map(|(address, mac)| (*address, *mac))
    }

    pub fn len(&self) -> usize {
        self.by_mac.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_mac.is_empty()
    }

    pub fn holder(&self, address: Ipv4Addr) -> Option<Mac> {
        self.by_address.get(&address).copied()
    }

    pub fn of(&self, mac: Mac) -> impl Iterator<Item = Ipv4Addr> {
        let all = (mac, Ipv4Addr::UNSPECIFIED)..=(mac, Ipv4Addr::BROADCAST);
        self.by_mac.range(all).map(|(_, address)| *address)
    }

    pub fn of_in(&self, mac: Mac, network: Ipv4Net) -> Option<Ipv4Addr> {
        let all = (mac, network.network())..=(mac, network.broadcast());
        self.by_mac.range(all).map(|(_, address)| *address).next()
    }

    pub fn within(&self, network: Ipv4Net) -> impl Iterator<Item = (Mac, Ipv4Addr)> {
        let all = network.network()..=network.broadcast();
        self.by_address.range(all).map(|(address, mac)| (*mac, *address))
    }

    fn insert(&mut self, mac: Mac, address: Ipv4Addr) {
        self.by_mac.insert((mac, address));
        self.by_address.insert(address, mac);
    }

    fn remove(&mut self, address: Ipv4Addr) {
        if let Some(mac) = self.by_address.remove(&address) {
            self.by_mac.remove(&(mac, address));
        }
    }
}

impl Leases {
    /// The address of a MAC address; of one that is in several subnets, the lowest.
    pub fn address(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.given.of(mac).next()
    }

    /// Given and reserved addresses.
    pub(crate) fn within(&self, network: Ipv4Net) -> impl Iterator<Item = (Mac, Ipv4Addr)> {
        self.given.within(network).chain(self.reserved.within(network))
    }

    /// As long as it lasts.
    pub fn quarantine(&self, address: Ipv4Addr, now: Timestamp) -> Option<&Quarantine> {
        self.quarantined.get(&address).filter(|quarantine| quarantine.until > now)
    }

    /// Every address that the search for a free one passes by.
    pub(crate) fn taken(&self) -> impl Iterator<Item = Ipv4Addr> {
        let Leases { given, reserved, quarantined } = self;
        let mut taken: Vec<Ipv4Addr> = given.by_address.keys().copied().collect();
        if !reserved.is_empty() || !quarantined.is_empty() {
            taken.extend(reserved.by_address.keys().chain(quarantined.keys()));
            taken.sort_unstable();
            taken.dedup();
        }
        taken.into_iter()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Assigned {
        mac: Mac,
        address: Ipv4Addr,
    },
    /// Another DHCP server gave it; the machine speaks from it.
    Learned {
        mac: Mac,
        address: Ipv4Addr,
    },
    Released {
        mac: Mac,
        /// All of them, if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
    },
    Reserved {
        mac: Mac,
        address: Ipv4Addr,
    },
    Unreserved {
        mac: Mac,
        address: Ipv4Addr,
    },
    Quarantined {
        mac: Mac,
        address: Ipv4Addr,
        secs: u64,
        at: Timestamp,
    },
    /// A person knows better.
    QuarantineEnded {
        mac: Mac,
        address: Ipv4Addr,
    },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        match self {
            Event::Assigned { mac, .. }
            | Event::Learned { mac, .. }
            | Event::Released { mac, .. }
            | Event::Reserved { mac, .. }
            | Event::Unreserved { mac, .. }
            | Event::Quarantined { mac, .. }
            | Event::QuarantineEnded { mac, .. } => mac.to_string(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Assigned { mac, address } => write!(f, "{mac} was given {address}"),
            Event::Learned { mac, address } => {
                write!(f, "{mac} speaks from {address}, which another DHCP server gave it")
            }
            Event::Released { mac, address: None } => write!(f, "The address of {mac} is free again"),
            Event::Released { mac, address: Some(address) } => {
                write!(f, "{address}, which {mac} had, is free again")
            }
            Event::Reserved { mac, address } => write!(f, "{address} is reserved for {mac}"),
            Event::Unreserved { mac, address } => write!(f, "{address} is no longer reserved for {mac}"),
            Event::Quarantined { mac, address, secs, .. } => write!(
                f,
                "{mac} found that another machine answers to {address}; nobody is given it for {}",
                match secs / 3600 {
                    0 => format!("{} minutes", secs / 60),
                    hours => format!("{hours} hours"),
                }
            ),
            Event::QuarantineEnded { address, .. } => write!(f, "{address} may be given again"),
        }
    }
}

/// What the holder of a MAC address is called.
pub fn holder_name(fleet: &Fleet, mac: Mac) -> String {
    let machine = machine::by_mac(fleet, mac).map(|machine| machine.name.to_string());
    let vm = || vm::by_mac(fleet, mac).map(|vm| vm.name.to_string());
    machine.or_else(vm).unwrap_or_else(|| mac.to_string())
}

/// Whether it is more than a passer-by: a VM, a machine that has said what it is, or one that a person reserved an
/// address for. Their addresses are never taken back.
pub fn is_known(fleet: &Fleet, mac: Mac) -> bool {
    machine::by_mac(fleet, mac).is_some_and(|machine| machine.appliance || machine.phase != Phase::Sighted)
        || vm::by_mac(fleet, mac).is_some()
        || fleet.leases.reserved.of(mac).next().is_some()
}

/// Events that give `mac` its address in the network of `link`, none if it has it.
pub(crate) fn assign(
    fleet: &Fleet,
    mac: Mac,
    link: Option<Ipv4Addr>,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let Some(site) = &fleet.site else {
        return Err(Refusal::Conflict("the site is not founded yet".to_owned()));
    };
    let Some(subnet) = subnet::of_link(fleet, link) else {
        let link = link.unwrap_or(Ipv4Addr::UNSPECIFIED);
        return Err(Refusal::Conflict(format!("no subnet is known that {link} is in")));
    };
    if site.foreign && subnet.name == subnet::OWN {
        return Err(Refusal::Conflict(format!(
            "the addresses of {} are given by another DHCP server",
            subnet.network
        )));
    }
    let Some(address) = address_for(fleet, mac, &subnet, ctx.now) else {
        return Err(Refusal::Conflict(format!(
            "every address of {} is in use; remove machines that are gone",
            subnet.network
        )));
    };
    if fleet.leases.given.holder(address) == Some(mac) {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Lease(Event::Assigned { mac, address })])
}

pub(crate) fn sight(
    fleet: &Fleet,
    mac: Mac,
    arch: Option<u16>,
    uuid: Option<uuid::Uuid>,
    link: Option<Ipv4Addr>,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let foreign = link.is_none() && fleet.site.as_ref().is_some_and(|site| site.foreign);
    let mut events = if foreign { Vec::new() } else { assign(fleet, mac, link, ctx)? };
    let known = machine::by_mac(fleet, mac).is_some() || vm::by_mac(fleet, mac).is_some();
    // A laptop asks for an address too; only what asks as firmware does (option 93) is a machine to adopt.
    if !known && arch.is_some() {
        events.push(machine::sighted(fleet, mac, arch, uuid, ctx));
    }
    Ok(events)
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Assigned { mac, address } | Event::Learned { mac, address } => {
            let network = subnet::network_of(fleet, *address);
            if let Some(before) = network.and_then(|network| fleet.leases.given.of_in(*mac, network)) {
                fleet.leases.given.remove(before);
                settle(fleet, before);
            }
            fleet.leases.given.remove(*address);
            fleet.leases.given.insert(*mac, *address);
            fleet.leases.quarantined.remove(address);
            settle(fleet, *address);
        }
        Event::Released { mac, address: None } => release(fleet, *mac),
        Event::Released { mac, address: Some(address) } => {
            if fleet.leases.given.holder(*address) == Some(*mac) {
                fleet.leases.given.remove(*address);
                settle(fleet, *address);
            }
        }
        Event::Reserved { mac, address } => {
            let network = subnet::network_of(fleet, *address);
            if let Some(before) = network.and_then(|network| fleet.leases.reserved.of_in(*mac, network)) {
                fleet.leases.reserved.remove(before);
                settle(fleet, before);
            }
            fleet.leases.reserved.remove(*address);
            fleet.leases.reserved.insert(*mac, *address);
            settle(fleet, *address);
        }
        Event::Unreserved { address, .. } => {
            fleet.leases.reserved.remove(*address);
            settle(fleet, *address);
        }
        Event::Quarantined { mac, address, secs, at } => {
            fleet.leases.given.remove(*address);
            let until = Timestamp(at.0.saturating_add(secs.saturating_mul(1000)));
            let quarantine = Quarantine { address: *address, mac: *mac, until };
            restore_quarantine(fleet, quarantine);
        }
        Event::QuarantineEnded { address, .. } => {
            fleet.leases.quarantined.remove(address);
            settle(fleet, *address);
        }
    }
}

pub(crate) fn restore_quarantine(fleet: &mut Fleet, quarantine: Quarantine) {
    fleet.leases.quarantined.insert(quarantine.address, quarantine);
    settle(fleet, quarantine.address);
}

fn release(fleet: &mut Fleet, mac: Mac) {
    let addresses: Vec<Ipv4Addr> = fleet.leases.given.of(mac).collect();
    for address in addresses {
        fleet.leases.given.remove(address);
        settle(fleet, address);
    }
}

/// Everything of a network.
pub(crate) fn forget(fleet: &mut Fleet, network: Ipv4Net) {
    let quarantined = fleet.leases.quarantined.range(network.network()..=network.broadcast());
    let mut addresses: Vec<Ipv4Addr> = quarantined.map(|(address, _)| *address).collect();
    addresses.extend(fleet.leases.within(network).map(|(_, address)| address));
    for address in addresses {
        fleet.leases.given.remove(address);
        fleet.leases.reserved.remove(address);
        fleet.leases.quarantined.remove(&address);
        settle(fleet, address);
    }
}

/// Tells the index whether an address is given, and whether it can be found in a search for a free one.
fn settle(fleet: &mut Fleet, address: Ipv4Addr) {
    let leases = &fleet.leases;
    let given = leases.given.holder(address).is_some();
    fleet.index.given.set(address, given);
    let taken =
        given || leases.reserved.holder(address).is_some() || leases.quarantined.contains_key(&address);
    if taken {
        fleet.index.addresses.take(address);
    } else {
        fleet.index.addresses.release(address);
    }
}
