//! When addresses were last asked for, and which of them can be taken back.
//!
//! Renewals are no events (docs/decisions/0017): this is in memory only. What was given before the daemon started counts
//! as asked for at the start, so nothing is taken back that may still be in use.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleet::subnet::Subnet;
use fleet::{Fleet, Mac, Timestamp, lease};

/// What can be taken back is looked for anew after so long: whoever floods an exhausted pool must not have every
/// address of it looked at for every packet.
const LOOK_EVERY_MS: u64 = 1000;

#[derive(Debug)]
pub struct Seen {
    since: Timestamp,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    last: BTreeMap<Ipv4Addr, Timestamp>,
    /// By subnet, the address that was asked for the longest time ago first.
    spare: BTreeMap<String, (Timestamp, Vec<(Mac, Ipv4Addr)>)>,
}

impl Seen {
    pub fn since(since: Timestamp) -> Seen {
        Seen { since, known: Mutex::default() }
    }

    pub fn saw(&self, address: Ipv4Addr, now: Timestamp) {
        self.known().last.insert(address, now);
    }

    /// When it was last asked for, if that was since the daemon started.
    pub fn last(&self, address: Ipv4Addr) -> Option<Timestamp> {
        self.known().last.get(&address).copied()
    }

    /// An address of a passer-by that has not been asked for for longer than its lease: the one that `mac` requests, or
    /// one of the oldest.
    pub fn spare(
        &self,
        fleet: &Fleet,
        subnet: &Subnet,
        mac: Mac,
        requested: Option<Ipv4Addr>,
        now: Timestamp,
    ) -> Option<(Mac, Ipv4Addr)> {
        let mut known = self.known();
        let fresh = known.spare.get(&subnet.name).is_some_and(|(at, _)| now.0 < at.0 + LOOK_EVERY_MS);
        if !fresh {
            let spare = look(fleet, subnet, &known.last, self.since, now);
            known.spare.insert(subnet.name.clone(), (now, spare));
        }
        let Known { last, spare } = &mut *known;
        let (_, spare) = spare.get_mut(&subnet.name)?;
        // Meanwhile some were given away or have come back.
        let over = |(holder, address): &(Mac, Ipv4Addr)| {
            fleet.leases.given.holder(*address) == Some(*holder)
                && is_over(fleet, subnet, *holder, last.get(address).copied().unwrap_or(self.since), now)
        };
        let asked = spare.iter().find(|(_, address)| Some(*address) == requested);
        if let Some(asked) = asked.filter(|asked| over(asked)) {
            return Some(*asked);
        }
        // Those who ask at the same time are offered different ones.
        let place =
            mac.0.iter().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        let place = place % spare.len().clamp(1, 64);
        let (before, from) = spare.split_at_checked(place)?;
        from.iter().chain(before).find(|spare| over(spare)).copied()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(
    fleet: &Fleet,
    subnet: &Subnet,
    last: &BTreeMap<Ipv4Addr, Timestamp>,
    since: Timestamp,
    now: Timestamp,
) -> Vec<(Mac, Ipv4Addr)> {
    let last = |address| last.get(&address).copied().unwrap_or(since);
    let pool = subnet.pool();
    let in_pool = |address| pool.iter().any(|range| (range.first..=range.last).contains(&address));
    let given = fleet.leases.given.within(subnet.network);
    let mut spare: Vec<_> = given
        .filter(|(mac, address)| {
            in_pool(*address)
                && fleet.leases.reserved.holder(*address).is_none()
                && is_over(fleet, subnet, *mac, last(*address), now)
        })
        .collect();
    spare.sort_by_key(|(_, address)| (last(*address), *address));
    spare
}

fn is_over(fleet: &Fleet, subnet: &Subnet, mac: Mac, last: Timestamp, now: Timestamp) -> bool {
    now.secs_since(last) > u64::from(lease::lease_secs(fleet, mac, subnet)) && !lease::is_known(fleet, mac)
}
