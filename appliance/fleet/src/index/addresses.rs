//! Addresses that are taken, as runs of neighbours, so that the next free one is found in one step in a pool
//! that is nearly full, too.

use std::net::Ipv4Addr;

use imbl::OrdMap;

use super::map_of;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// First and last of each run; between two runs there is at least one free address.
    runs: OrdMap<u32, u32>,
}

impl Addresses {
    /// The first free address from `from` upward.
    pub(crate) fn free_from(&self, from: Ipv4Addr) -> Option<Ipv4Addr> {
        match self.run_of(from.into()) {
            Some((_, last)) => last.checked_add(1).map(Ipv4Addr::from),
            None => Some(from),
        }
    }

    /// Of addresses that ascend.
    pub(super) fn of(addresses: impl Iterator<Item = Ipv4Addr>) -> Addresses {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for address in addresses.map(u32::from) {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(address) => *last = address,
                Some(_) | None => runs.push((address, address)),
            }
        }
        Addresses { runs: map_of(runs) }
    }

    pub(crate) fn take(&mut self, address: Ipv4Addr) {
        let address = u32::from(address);
        if self.run_of(address).is_some() {
            return;
        }
        let before = address.checked_sub(1).and_then(|before| self.run_of(before));
        let after = address.checked_add(1).and_then(|after| self.run_of(after));
        if let Some((first, _)) = after {
            self.runs.remove(&first);
        }
        let first = before.map_or(address, |(first, _)| first);
        self.runs.insert(first, after.map_or(address, |(_, last)| last));
    }

    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        let address = u32::from(address);
        let Some((first, last)) = self.run_of(address) else { return };
        self.runs.remove(&first);
        if first < address {
            self.runs.insert(first, address - 1);
        }
        if address < last {
            self.runs.insert(address + 1, last);
        }
    }

    fn run_of(&self, address: u32) -> Option<(u32, u32)> {
        let (first, last) = self.runs.get_prev(&address)?;
        (*last >= address).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_free_address_is_the_one_a_search_finds(
            steps in proptest::collection::vec((0u32..40, any::<bool>()), 0..120)
        ) {
            let mut addresses = Addresses::default();
            let mut taken = BTreeSet::new();
            for (address, take) in steps {
                if take {
                    addresses.take(address.into());
                    taken.insert(address);
                } else {
                    addresses.release(address.into());
                    taken.remove(&address);
                }
                for from in 0..42 {
                    let found = (from..).find(|address| !taken.contains(address)).map(Ipv4Addr::from);
                    prop_assert_eq!(addresses.free_from(from.into()), found);
                }
            }
        }
    }
}
