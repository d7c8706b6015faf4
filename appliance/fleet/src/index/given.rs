//! Addresses that are given, as bits and as counts, so that the use of a pool is known without a walk over it.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use imbl::OrdMap;

use super::map_of;

/// Addresses of a block: a bit each.
const BLOCK: u32 = 256;
/// Blocks of a field.
const FIELD: u32 = 256;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// By address / 256; none is empty.
    blocks: OrdMap<u32, [u64; 4]>,
    /// How many of each 65,536; none is 0.
    fields: OrdMap<u32, u32>,
}

impl Given {
    pub(crate) fn set(&mut self, address: Ipv4Addr, given: bool) {
        let address = u32::from(address);
        let block = address / BLOCK;
        let mut bits = self.blocks.get(&block).copied().unwrap_or_default();
        if (bits[word(address)] & bit(address) != 0) == given {
            return;
        }
        bits[word(address)] ^= bit(address);
        match bits {
            [0, 0, 0, 0] => self.blocks.remove(&block),
            bits => self.blocks.insert(block, bits),
        };
        let field = block / FIELD;
        let count = self.fields.get(&field).copied().unwrap_or(0);
        match if given { count + 1 } else { count - 1 } {
            0 => self.fields.remove(&field),
            count => self.fields.insert(field, count),
        };
    }

    /// How many addresses between these, both included, are given.
    pub(crate) fn count(&self, all: &RangeInclusive<Ipv4Addr>) -> u64 {
        let (first, last) = (u32::from(*all.start()), u32::from(*all.end()));
        if first > last {
            return 0;
        }
        let (begins, ends) = (first / BLOCK, last / BLOCK);
        if begins == ends {
            return self.in_block(begins, first % BLOCK, last % BLOCK);
        }
        self.in_block(begins, first % BLOCK, BLOCK - 1)
            + self.in_blocks(begins + 1, ends)
            + self.in_block(ends, 0, last % BLOCK)
    }

    /// Whole blocks, without the last: by fields where these are whole.
    fn in_blocks(&self, begins: u32, ends: u32) -> u64 {
        let (first, last) = (begins.div_ceil(FIELD), ends / FIELD);
        if first >= last {
            return self.each_block(begins, ends);
        }
        let fields = self.fields.range(first..last).map(|(_, count)| u64::from(*count));
        self.each_block(begins, first * FIELD) + fields.sum::<u64>() + self.each_block(last * FIELD, ends)
    }

    fn each_block(&self, begins: u32, ends: u32) -> u64 {
        let counts = self.blocks.range(begins..ends);
        counts.flat_map(|(_, bits)| bits).map(|word| u64::from(word.count_ones())).sum()
    }

    /// From one place in a block to another, both included.
    fn in_block(&self, block: u32, from: u32, to: u32) -> u64 {
        let Some(bits) = self.blocks.get(&block) else { return 0 };
        let all = (from..=to).filter(|place| bits[word(*place)] & bit(*place) != 0);
        u64::try_from(all.count()).unwrap_or(u64::MAX)
    }

    /// Of addresses that ascend.
    pub(super) fn of(addresses: impl Iterator<Item = Ipv4Addr>) -> Given {
        let mut blocks: Vec<(u32, [u64; 4])> = Vec::new();
        let mut fields: Vec<(u32, u32)> = Vec::new();
        for address in addresses.map(u32::from) {
            let block = address / BLOCK;
            match blocks.last_mut() {
                Some((last, bits)) if *last == block => bits[word(address)] |= bit(address),
                Some(_) | None => {
                    let mut bits = [0; 4];
                    bits[word(address)] = bit(address);
                    blocks.push((block, bits));
                }
            }
            match fields.last_mut() {
                Some((last, count)) if *last == block / FIELD => *count += 1,
                Some(_) | None => fields.push((block / FIELD, 1)),
            }
        }
        Given { blocks: map_of(blocks), fields: map_of(fields) }
    }
}

/// Which of a block's words has the bit of an address.
fn word(address: u32) -> usize {
    usize::from(address.to_be_bytes()[3] / 64)
}

fn bit(address: u32) -> u64 {
    1 << (address % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Neighbours, and some that are blocks and fields away.
    fn address() -> impl Strategy<Value = u32> {
        (prop_oneof![Just(0u32), Just(7), Just(u32::from(u16::MAX))], 0u32..3, 0u32..3, 0u32..=255)
            .prop_map(|(high, field, block, low)| (high << 16) ^ (field << 16 | block << 8 | low))
    }

    proptest! {
        #[test]
        fn the_count_is_the_one_that_a_walk_comes_to(
            steps in proptest::collection::vec((address(), any::<bool>()), 0..200),
            ranges in proptest::collection::vec((address(), address()), 1..50),
        ) {
            let mut counted = Given::default();
            let mut given = BTreeSet::new();
            for (address, give) in steps {
                counted.set(address.into(), give);
                if give { given.insert(address) } else { given.remove(&address) };
            }
            prop_assert_eq!(&counted, &Given::of(given.iter().map(|address| Ipv4Addr::from(*address))));
            for (first, last) in ranges.into_iter().chain([(0, u32::MAX)]) {
                let walked = if first > last { 0 } else { given.range(first..=last).count() as u64 };
                prop_assert_eq!(counted.count(&(first.into()..=last.into())), walked);
            }
        }
    }
}
