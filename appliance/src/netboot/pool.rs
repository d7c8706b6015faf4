//! Which address a NIC gets: a function of what was given away before, without clock, disk or network.
//!
//! ```text
//! never given ──offer──▶ offered ──commit──▶ leased ──its end──▶ expired: kept for its NIC
//!      ▲                   │ 60 s               │ another machine answers to it     │ no other address is free
//!      └── given back ◀────┴────────────── quarantined, an hour                     └──▶ offered to another NIC
//! ```
//!
//! Only a commit takes an expired address away from its NIC. So a flood of DISCOVERs from made-up addresses can
//! keep new machines waiting, and takes nothing from a machine that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use pxe::MacAddr;

/// How long an address that was offered waits for its REQUEST. Firmware collects offers for some seconds.
const OFFER_SECS: u64 = 60;
/// How long an address is given to nobody after a machine was found that uses it and got it from somebody else.
pub const QUARANTINE_SECS: u64 = 3600;
/// Offers that are held at a time, so that a flood is no question of memory.
const OFFERS: usize = 65_536;

/// The addresses that are given away, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl Range {
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    pub fn size(&self) -> u64 {
        u64::from(self.last.to_bits()) - u64::from(self.first.to_bits()) + 1
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Seconds since 1970 are times here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    /// What the NIC was told, and as much again: a renewal in time needs nothing written.
    pub end: u64,
    /// The number of the line of the lease file that says so.
    pub line: u64,
}

#[derive(Debug, Clone, Copy)]
struct Offer {
    address: Ipv4Addr,
    end: u64,
    /// Offers in the order in which they were made.
    number: u64,
}

/// What a commit comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// The lease lasts long enough as it is; its line may still be on its way to the disk.
    Kept(Lease),
    /// To be written down before it is acknowledged; nothing changes before [`Pool::lease`].
    New(Ipv4Addr),
    Renewed(Ipv4Addr),
    /// The client asks for another address than its own and will be refused: nothing to write down.
    Other(Ipv4Addr),
}

#[derive(Debug)]
pub struct Pool {
    range: Range,
    /// Addresses of the range that belong to servers and routers.
    reserved: BTreeSet<Ipv4Addr>,
    leases: BTreeMap<MacAddr, Lease>,
    holders: BTreeMap<Ipv4Addr, MacAddr>,
    /// All leases that are not offered to another NIC, by their end.
    by_end: BTreeSet<(u64, Ipv4Addr)>,
    offers: BTreeMap<MacAddr, Offer>,
    offered: BTreeMap<Ipv4Addr, MacAddr>,
    offers_in_order: BTreeMap<u64, MacAddr>,
    number: u64,
    quarantined: BTreeMap<Ipv4Addr, u64>,
    /// Everything from here on was never given to anybody, but for what clients asked for themselves.
    fresh: u64,
    returned: BTreeSet<Ipv4Addr>,
}

impl Pool {
    pub fn new(range: Range, reserved: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        Self {
            range,
            reserved: reserved.into_iter().filter(|address| range.contains(*address)).collect(),
            leases: BTreeMap::new(),
            holders: BTreeMap::new(),
            by_end: BTreeSet::new(),
            offers: BTreeMap::new(),
            offered: BTreeMap::new(),
            offers_in_order: BTreeMap::new(),
            number: 0,
            quarantined: BTreeMap::new(),
            fresh: u64::from(range.first.to_bits()),
            returned: BTreeSet::new(),
        }
    }

    /// Takes in a lease of an earlier run. One outside of today's range is kept in mind no longer.
    pub fn restore(&mut self, mac: MacAddr, address: Ipv4Addr, end: u64) {
        if self.range.contains(address) && !self.reserved.contains(&address) {
            self.lease(mac, address, end, 0);
        }
    }

    pub fn restore_quarantine(&mut self, address: Ipv4Addr, end: u64) {
        if self.range.contains(address) {
            if let Some(holder) = self.holders.get(&address).copied() {
                self.forget(holder);
            }
            self.returned.remove(&address);
            self.quarantined.insert(address, end);
        }
    }

    pub fn leases(&self) -> impl Iterator<Item = (&MacAddr, &Lease)> {
        self.leases.iter()
    }

    pub fn quarantined(&self) -> impl Iterator<Item = (&Ipv4Addr, &u64)> {
        self.quarantined.iter()
    }

    /// The lease of a NIC, also one that is over.
    pub fn get(&self, mac: MacAddr) -> Option<Lease> {
        self.leases.get(&mac).copied()
    }

    pub fn holder(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.holders.get(&address).or_else(|| self.offered.get(&address)).copied()
    }

    /// The address for a NIC that asks, held for it for a while; `None` when none is left.
    pub fn offer(&mut self, mac: MacAddr, wish: Option<Ipv4Addr>, now: u64) -> Option<Ipv4Addr> {
        self.sweep(now);
        if let Some(lease) = self.leases.get(&mac).copied() {
            // Its own, although it was over and somebody else had been offered it.
            if let Some(other) = self.offered.get(&lease.address).copied() {
                self.withdraw(other);
            }
            return Some(lease.address);
        }
        if let Some(offer) = self.offers.get(&mac) {
            return Some(offer.address);
        }
        let address = self.free(wish, now)?;
        self.number += 1;
        self.offers.insert(mac, Offer { address, end: now + OFFER_SECS, number: self.number });
        self.offered.insert(address, mac);
        self.offers_in_order.insert(self.number, mac);
        if let Some(holder) = self.holders.get(&address) {
            self.by_end.remove(&(self.leases[holder].end, address));
        }
        if self.offers.len() > OFFERS
            && let Some(oldest) = self.offers_in_order.values().next().copied()
        {
            self.withdraw(oldest);
        }
        Some(address)
    }

    /// Says what the REQUEST of a NIC comes to. `secs` is how long the client will be told that it has its address;
    /// `None` when no address is left.
    pub fn commit(&mut self, mac: MacAddr, wish: Option<Ipv4Addr>, now: u64, secs: u64) -> Option<Commit> {
        let address = self.offer(mac, wish, now)?;
        Some(match self.leases.get(&mac) {
            _ if wish.is_some_and(|wish| wish != address) => Commit::Other(address),
            Some(lease) if lease.end >= now + secs => Commit::Kept(*lease),
            Some(lease) => Commit::Renewed(lease.address),
            None => Commit::New(address),
        })
    }

    /// Gives `address` to `mac`, and away from whoever had it.
    pub fn lease(&mut self, mac: MacAddr, address: Ipv4Addr, end: u64, line: u64) {
        self.withdraw(mac);
        if let Some(other) = self.offered.get(&address).copied() {
            self.withdraw(other);
        }
        if let Some(holder) = self.holders.get(&address).copied() {
            self.forget(holder);
        }
        self.forget(mac);
        self.returned.remove(&address);
        self.quarantined.remove(&address);
        self.leases.insert(mac, Lease { address, end, line });
        self.holders.insert(address, mac);
        self.by_end.insert((end, address));
    }

    /// Takes a lease back that could not be written down, if nothing came of it meanwhile.
    pub fn undo(&mut self, mac: MacAddr, line: u64, before: Option<Lease>) {
        if self.leases.get(&mac).is_none_or(|lease| lease.line != line) {
            return;
        }
        self.forget(mac);
        if let Some(before) = before {
            self.lease(mac, before.address, before.end, before.line);
        }
    }

    /// Gives the address to nobody until `end`, if it is this NIC's; says whether it is.
    pub fn quarantine(&mut self, mac: MacAddr, address: Ipv4Addr, end: u64) -> bool {
        // Whoever declines what it does not have is confused, or means to empty the pool.
        if self.holders.get(&address) != Some(&mac) && self.offered.get(&address) != Some(&mac) {
            return false;
        }
        if let Some(other) = self.offered.get(&address).copied() {
            self.withdraw(other);
        }
        if let Some(holder) = self.holders.get(&address).copied() {
            self.forget(holder);
        }
        self.returned.remove(&address);
        self.quarantined.insert(address, end);
        true
    }

    fn free(&mut self, wish: Option<Ipv4Addr>, now: u64) -> Option<Ipv4Addr> {
        if let Some(wish) = wish
            && self.range.contains(wish)
            && !self.is_taken(wish)
        {
            self.returned.remove(&wish);
            return Some(wish);
        }
        while self.fresh <= u64::from(self.range.last.to_bits()) {
            let address = Ipv4Addr::from_bits(u32::try_from(self.fresh).ok()?);
            self.fresh += 1;
            if !self.is_taken(address) {
                self.returned.remove(&address);
                return Some(address);
            }
        }
        if let Some(address) = self.returned.pop_first() {
            return Some(address);
        }
        if let Some((end, address)) = self.by_end.first().copied()
            && end <= now
        {
            return Some(address);
        }
        // Whoever was offered an address first had the longest time to take it.
        let (_, oldest) = self.offers_in_order.first_key_value()?;
        let (oldest, address) = (*oldest, self.offers[oldest].address);
        self.withdraw(oldest);
        self.returned.remove(&address);
        Some(address)
    }

    fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.reserved.contains(&address)
            || self.holders.contains_key(&address)
            || self.offered.contains_key(&address)
            || self.quarantined.contains_key(&address)
    }

    /// Ends offers and quarantines whose time is over.
    fn sweep(&mut self, now: u64) {
        while let Some((_, mac)) = self.offers_in_order.first_key_value()
            && self.offers[mac].end <= now
        {
            let mac = *mac;
            self.withdraw(mac);
        }
        // All last as long, but a few that were read from the file; a handful at any time.
        if self.quarantined.values().any(|end| *end <= now) {
            let over: Vec<_> =
                self.quarantined.extract_if(.., |_, end| *end <= now).map(|(address, _)| address).collect();
            self.returned.extend(over);
        }
    }

    fn withdraw(&mut self, mac: MacAddr) {
        let Some(offer) = self.offers.remove(&mac) else { return };
        self.offered.remove(&offer.address);
        self.offers_in_order.remove(&offer.number);
        match self.holders.get(&offer.address) {
            Some(holder) => {
                self.by_end.insert((self.leases[holder].end, offer.address));
            }
            None => {
                self.returned.insert(offer.address);
            }
        }
    }

    fn forget(&mut self, mac: MacAddr) {
        let Some(lease) = self.leases.remove(&mac) else { return };
        self.holders.remove(&lease.address);
        self.by_end.remove(&(lease.end, lease.address));
        if !self.offered.contains_key(&lease.address) {
            self.returned.insert(lease.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3600;

    fn mac(number: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, number])
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn pool(first: u8, last: u8) -> Pool {
        Pool::new(Range { first: address(first), last: address(last) }, [address(1)])
    }

    /// DISCOVER and REQUEST.
    fn take(pool: &mut Pool, number: u8, now: u64) -> Option<Ipv4Addr> {
        let offered = pool.offer(mac(number), None, now)?;
        match pool.commit(mac(number), Some(offered), now, HOUR)? {
            Commit::New(address) | Commit::Renewed(address) => {
                pool.lease(mac(number), address, now + 2 * HOUR, 1);
                Some(address)
            }
            Commit::Kept(lease) => Some(lease.address),
            Commit::Other(_) => None,
        }
    }

    #[test]
    fn a_nic_keeps_its_address_and_reserved_ones_are_not_given() {
        let mut pool = pool(1, 4);
        assert_eq!(take(&mut pool, 1, 0), Some(address(2)));
        assert_eq!(take(&mut pool, 2, 0), Some(address(3)));
        assert_eq!(take(&mut pool, 1, 10), Some(address(2)));
        // Long after its end, as nobody else needed it.
        assert_eq!(take(&mut pool, 1, 100 * HOUR), Some(address(2)));
    }

    #[test]
    fn a_renewal_in_time_needs_no_line() {
        let mut pool = pool(2, 9);
        take(&mut pool, 1, 0);
        let own = Some(address(2));
        assert!(matches!(pool.commit(mac(1), own, HOUR / 2, HOUR), Some(Commit::Kept(_))));
        assert!(matches!(pool.commit(mac(1), own, HOUR, HOUR), Some(Commit::Kept(_))));
        assert_eq!(pool.commit(mac(1), own, HOUR + 1, HOUR), Some(Commit::Renewed(address(2))));
        assert_eq!(pool.commit(mac(1), Some(address(7)), 0, HOUR), Some(Commit::Other(address(2))));
    }

    #[test]
    fn the_oldest_expired_address_is_given_first_and_only_by_a_commit() {
        let mut pool = pool(2, 4);
        for (number, now) in [(1, 50), (2, 0), (3, 100)] {
            take(&mut pool, number, now);
        }
        assert_eq!(pool.offer(mac(9), None, HOUR), None, "all are leased");
        let later = 3 * HOUR;
        assert_eq!(pool.offer(mac(9), None, later), Some(address(3)), "that of the second, the oldest");
        assert_eq!(pool.offer(mac(8), None, later), Some(address(2)));
        // The second machine is back before anybody took it.
        assert_eq!(take(&mut pool, 2, later), Some(address(3)));
        assert_eq!(pool.offer(mac(9), None, later), Some(address(4)));
        assert_eq!(take(&mut pool, 8, later), Some(address(2)));
        assert_eq!(pool.get(mac(1)), None);
        assert_eq!(take(&mut pool, 1, later), Some(address(4)), "the ninth never took what it was offered");
    }

    #[test]
    fn a_flood_of_discovers_takes_nothing_from_known_machines() {
        let mut pool = pool(2, 21);
        for number in 1..=10 {
            take(&mut pool, number, 0);
        }
        let expired = 10 * HOUR;
        for number in 0..10_000u32 {
            let [_, a, b, c] = number.to_be_bytes();
            pool.offer(MacAddr([2, 0, 1, a, b, c]), None, expired);
        }
        for number in 1..=10 {
            assert_eq!(take(&mut pool, number, expired), Some(address(number + 1)));
        }
    }

    #[test]
    fn offers_end_and_a_wish_is_heard_if_it_is_free() {
        let mut pool = pool(2, 3);
        assert_eq!(pool.offer(mac(1), Some(address(3)), 0), Some(address(3)));
        assert_eq!(pool.offer(mac(2), Some(address(3)), 0), Some(address(2)));
        assert_eq!(pool.offer(mac(2), Some(Ipv4Addr::new(192, 168, 0, 1)), 0), Some(address(2)));
        let later = [pool.offer(mac(3), None, 61), pool.offer(mac(4), None, 61)];
        assert_eq!(later, [Some(address(3)), Some(address(2))]);
    }

    #[test]
    fn a_declined_address_rests_and_only_its_own_nic_can_decline_it() {
        let mut pool = pool(2, 3);
        take(&mut pool, 1, 0);
        assert!(!pool.quarantine(mac(2), address(2), QUARANTINE_SECS));
        assert!(!pool.quarantine(mac(2), address(3), QUARANTINE_SECS));
        assert!(pool.quarantine(mac(1), address(2), QUARANTINE_SECS));
        assert_eq!(take(&mut pool, 1, 1), Some(address(3)));
        assert_eq!(take(&mut pool, 2, 1), None);
        assert_eq!(take(&mut pool, 2, QUARANTINE_SECS), Some(address(2)));
    }

    #[test]
    fn what_could_not_be_written_is_undone() {
        let mut pool = pool(2, 3);
        pool.lease(mac(1), address(2), 10, 5);
        pool.undo(mac(1), 4, None);
        assert!(pool.get(mac(1)).is_some(), "a later line says otherwise");
        let before = pool.get(mac(1));
        pool.lease(mac(1), address(2), 20, 6);
        pool.undo(mac(1), 6, before);
        assert_eq!(pool.get(mac(1)), before);
        pool.undo(mac(1), 5, None);
        assert_eq!((pool.get(mac(1)), pool.holder(address(2))), (None, None));
    }

    proptest! {
        #[test]
        fn no_address_is_anybodys_twice(
            steps in prop::collection::vec((0u8..5, 0u8..12, 0u64..3000, 0u8..14), 1..300)
        ) {
            let mut pool = pool(1, 8);
            let mut now = 0;
            for (what, number, passes, wish) in steps {
                now += passes;
                let wish = (wish < 12).then(|| address(wish));
                match what {
                    0 => { pool.offer(mac(number), wish, now); }
                    1 | 2 => if let Some(Commit::New(address) | Commit::Renewed(address)) =
                        pool.commit(mac(number), wish, now, HOUR)
                    {
                        prop_assert!(pool.holders.get(&address).is_none_or(|holder| {
                            *holder == mac(number) || pool.leases[holder].end <= now
                        }), "a lease that is not over was given away");
                        pool.lease(mac(number), address, now + 2 * HOUR, now);
                    },
                    3 => { if let Some(wish) = wish { pool.quarantine(mac(number), wish, now + HOUR); } }
                    _ => pool.undo(mac(number), now, None),
                }
                prop_assert_eq!(pool.leases.len(), pool.holders.len());
                prop_assert_eq!(pool.offers.len(), pool.offered.len());
                prop_assert_eq!(pool.offers.len(), pool.offers_in_order.len());
                for (mac, lease) in &pool.leases {
                    prop_assert_eq!(pool.holders.get(&lease.address), Some(mac));
                    prop_assert!(lease.address != address(1) && pool.range.contains(lease.address));
                    prop_assert!(!pool.quarantined.contains_key(&lease.address));
                    prop_assert!(!pool.returned.contains(&lease.address));
                    prop_assert!(!pool.offers.contains_key(mac));
                    prop_assert_eq!(
                        pool.by_end.contains(&(lease.end, lease.address)),
                        !pool.offered.contains_key(&lease.address)
                    );
                }
                prop_assert!(pool.by_end.len() <= pool.leases.len());
                for (mac, offer) in &pool.offers {
                    prop_assert_eq!(pool.offered.get(&offer.address), Some(mac));
                    prop_assert!(!pool.quarantined.contains_key(&offer.address));
                    prop_assert!(!pool.returned.contains(&offer.address));
                    prop_assert!(offer.address != address(1));
                }
            }
        }
    }
}
