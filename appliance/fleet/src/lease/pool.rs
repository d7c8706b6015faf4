//! Which address a MAC address gets in a subnet.

use std::net::Ipv4Addr;

use crate::subnet::{Range, Subnet};
use crate::{Fleet, Mac, Timestamp};

use super::is_known;

/// A passer-by has its address for so long. If it does not come again, the address can be taken back soon: a pool that
/// was exhausted by machines that do not exist has room again within the hour.
const PASSER_BY_SECS: u32 = 3600;

/// How long `mac` may keep an address of this subnet without asking again.
pub fn lease_secs(fleet: &Fleet, mac: Mac, subnet: &Subnet) -> u32 {
    if is_known(fleet, mac) { subnet.lease_secs() } else { subnet.lease_secs().min(PASSER_BY_SECS) }
}

/// The address that `mac` has in this subnet, or the one it would be given. `None` when the pool is exhausted.
///
/// First what is reserved for it, then what it has. The search for a new one starts at a place that depends on the MAC
/// address, so that a machine that comes back after it was removed tends to get its old address.
pub fn address_for(fleet: &Fleet, mac: Mac, subnet: &Subnet, now: Timestamp) -> Option<Ipv4Addr> {
    let leases = &fleet.leases;
    let usable = |address: &Ipv4Addr| leases.quarantine(*address, now).is_none();
    if let Some(reserved) = leases.reserved.of_in(mac, subnet.network).filter(usable)
        && leases.given.holder(reserved).is_none_or(|holder| holder == mac)
    {
        return Some(reserved);
    }
    let given = leases.given.of_in(mac, subnet.network).filter(usable);
    given.or_else(|| search(fleet, mac, subnet)).or_else(|| over(fleet, subnet, now))
}

fn search(fleet: &Fleet, mac: Mac, subnet: &Subnet) -> Option<Ipv4Addr> {
    let pool = subnet.pool();
    let size: u64 = pool.iter().map(size).sum();
    let hash = mac.0.iter().fold(2_166_136_261u32, |hash, byte| {
        // FNV-1a: the same in every version of every build, unlike the standard library's hashers.
        (hash ^ u32::from(*byte)).wrapping_mul(16_777_619)
    });
    let mut skip = u64::from(hash).checked_rem(size)?;
    let mut tail = Vec::with_capacity(pool.len() + 1);
    let mut head = Vec::with_capacity(pool.len() + 1);
    for range in pool {
        if skip >= size_of(range) {
            skip -= size_of(range);
            head.push(range);
            continue;
        }
        let start = u32::from(range.first) + u32::try_from(skip).unwrap_or(0);
        tail.push(Range { first: start.into(), last: range.last });
        if skip > 0 {
            head.push(Range { first: range.first, last: (start - 1).into() });
        }
        // Whatever follows lies behind the start whole.
        skip = 0;
    }
    tail.into_iter().chain(head).find_map(|range| free_in(fleet, subnet, range))
}

fn free_in(fleet: &Fleet, subnet: &Subnet, range: Range) -> Option<Ipv4Addr> {
    let mut from = range.first;
    loop {
        let address = fleet.index.addresses.free_from(from)?;
        if address > range.last {
            return None;
        }
        if !subnet.keeps(fleet, address) {
            return Some(address);
        }
        from = u32::from(address).checked_add(1)?.into();
    }
}

/// An address whose quarantine is over: the last that is taken.
fn over(fleet: &Fleet, subnet: &Subnet, now: Timestamp) -> Option<Ipv4Addr> {
    subnet.pool().into_iter().find_map(|range| {
        let quarantined = fleet.leases.quarantined.range(range.first..=range.last);
        let over = quarantined.filter(|(_, quarantine)| quarantine.until <= now).map(|(address, _)| *address);
        over.into_iter().find(|address| {
            fleet.leases.reserved.holder(*address).is_none() && !subnet.keeps(fleet, *address)
        })
    })
}

/// How full the pool of a subnet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Addresses that can be given.
    pub size: u64,
    pub given: u64,
    /// For machines that have not come for them.
    pub reserved: u64,
    pub quarantined: u64,
}

impl Usage {
    pub fn free(&self) -> u64 {
        self.size.saturating_sub(self.given + self.reserved + self.quarantined)
    }
}

pub fn usage(fleet: &Fleet, subnet: &Subnet, now: Timestamp) -> Usage {
    let leases = &fleet.leases;
    let mut usage = Usage { size: 0, given: 0, reserved: 0, quarantined: 0 };
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    for range in subnet.pool() {
        let all = range.first..=range.last;
        let own = fleet.site.as_ref().map(|site| site.address);
        let kept = [subnet.router, own];
        usage.size += size(&range) - count(kept.into_iter().flatten().filter(|it| all.contains(it)).count());
        usage.given += fleet.index.given.count(&all);
        let waits = leases.reserved.by_address.range(all.clone());
        usage.reserved += count(waits.filter(|(it, _)| leases.given.holder(**it).is_none()).count());
        let quarantined = leases.quarantined.range(all).filter(|(_, it)| it.until > now);
        usage.quarantined += count(quarantined.count());
    }
    usage
}

fn size(range: &Range) -> u64 {
    size_of(*range)
}

fn size_of(range: Range) -> u64 {
    u64::from(u32::from(range.last)) + 1 - u64::from(u32::from(range.first))
}
