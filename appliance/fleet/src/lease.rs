//! Addresses: one for each MAC address, the same through firmware, boot loader, initrd and system.
//!
//! Only the first assignment is an event. When a client renews is a last value, kept outside the log.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{Ctx, Fleet, Mac, Refusal, machine, vm};

/// Addresses below this one (counted from the network's) are left for appliances and people: 10.77.0.0 to 10.77.0.255.
const FIRST_OF_POOL: u32 = 256;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    pub by_mac: imbl::OrdMap<Mac, Ipv4Addr>,
    pub by_address: imbl::OrdMap<Ipv4Addr, Mac>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Assigned { mac: Mac, address: Ipv4Addr },
    Released { mac: Mac },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        match self {
            Event::Assigned { mac, .. } | Event::Released { mac } => mac.to_string(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Assigned { mac, address } => write!(f, "{mac} was given {address}"),
            Event::Released { mac } => write!(f, "The address of {mac} is free again"),
        }
    }
}

/// The address that `mac` has, or the one it would be given. `None` when the pool is exhausted.
///
/// The search starts at a place that depends on the MAC address, so that a machine that comes back after it
/// was removed tends to get its old address.
pub fn address_for(fleet: &Fleet, mac: Mac) -> Option<Ipv4Addr> {
    if let Some(address) = fleet.leases.by_mac.get(&mac) {
        return Some(*address);
    }
    let site = fleet.site.as_ref()?;
    let base = u32::from(site.network.network());
    let broadcast = u32::from(site.network.broadcast());
    let first = if broadcast - base > 2 * FIRST_OF_POOL { base + FIRST_OF_POOL } else { base + 16 };
    let start = mac.0.iter().fold(2_166_136_261u32, |hash, byte| {
        // FNV-1a: the same in every version of every build, unlike the standard library's hashers.
        (hash ^ u32::from(*byte)).wrapping_mul(16_777_619)
    }) % (broadcast - first);
    let free = |from: u32, end: u32| {
        let mut address = fleet.index.addresses.free_from(from.into())?;
        if address == site.address {
            address = fleet.index.addresses.free_from((u32::from(address) + 1).into())?;
        }
        (u32::from(address) < end).then_some(address)
    };
    free(first + start, broadcast).or_else(|| free(first, first + start))
}

/// Events that give `mac` its address, none if it has one.
pub(crate) fn assign(fleet: &Fleet, mac: Mac) -> Result<Vec<crate::Event>, Refusal> {
    if fleet.leases.by_mac.contains_key(&mac) {
        return Ok(Vec::new());
    }
    let Some(site) = &fleet.site else {
        return Err(Refusal::Conflict("the site is not founded yet".to_owned()));
    };
    let address = address_for(fleet, mac).ok_or_else(|| {
        Refusal::Conflict(format!(
            "every address of {} is in use; remove machines that are gone",
            site.network
        ))
    })?;
    Ok(vec![crate::Event::Lease(Event::Assigned { mac, address })])
}

pub(crate) fn sight(
    fleet: &Fleet,
    mac: Mac,
    arch: Option<u16>,
    uuid: Option<uuid::Uuid>,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let mut events = assign(fleet, mac)?;
    let known = machine::by_mac(fleet, mac).is_some() || vm::by_mac(fleet, mac).is_some();
    // A laptop asks for an address too; only what asks as firmware does (option 93) is a machine to adopt.
    if !known && arch.is_some() {
        events.push(machine::sighted(fleet, mac, arch, uuid, ctx));
    }
    Ok(events)
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Assigned { mac, address } => {
            release(fleet, *mac);
            if let Some(other) = fleet.leases.by_address.get(address).copied() {
                release(fleet, other);
            }
            fleet.leases.by_mac.insert(*mac, *address);
            fleet.leases.by_address.insert(*address, *mac);
            fleet.index.addresses.take(*address);
        }
        Event::Released { mac } => release(fleet, *mac),
    }
}

fn release(fleet: &mut Fleet, mac: Mac) {
    if let Some(address) = fleet.leases.by_mac.remove(&mac) {
        fleet.leases.by_address.remove(&address);
        fleet.index.addresses.release(address);
    }
}
