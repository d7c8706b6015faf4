//! The network between machines and appliances: it delays, loses, duplicates and (by different delays) reorders, and
//! the cable of each machine can be cut.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

#[derive(Debug)]
pub struct Network {
    /// Of 1000 packets.
    pub lost: u32,
    pub duplicated: u32,
    /// Milliseconds, from and to.
    pub delay: (u64, u64),
    /// Computers whose cable is cut, by their place in the world.
    pub blocked: BTreeSet<usize>,
}

impl Default for Network {
    fn default() -> Self {
        Network { lost: 0, duplicated: 0, delay: (1, 1), blocked: BTreeSet::new() }
    }
}

/// TCP sends a lost segment again after so long, twice as long each time.
const RETRANSMIT: u64 = 200;
/// And gives up after so many times.
const TRIES: u32 = 8;

impl Network {
    /// When copies of a datagram arrive, in milliseconds from now; none if it is lost.
    pub fn datagram(&self, chance: &mut ChaCha8Rng, computer: usize) -> Vec<u64> {
        if self.blocked.contains(&computer) || self.happens(chance, self.lost) {
            return Vec::new();
        }
        let mut arrivals = vec![self.delay(chance)];
        if self.happens(chance, self.duplicated) {
            arrivals.push(self.delay(chance) + self.delay(chance));
        }
        arrivals
    }

    /// When a message over TCP arrives: loss makes it late, and only a cut cable keeps it for good.
    pub fn stream(&self, chance: &mut ChaCha8Rng, computer: usize) -> Option<u64> {
        if self.blocked.contains(&computer) {
            return None;
        }
        let mut late = 0;
        for attempt in 0..TRIES {
            if !self.happens(chance, self.lost) {
                return Some(late + self.delay(chance));
            }
            late += RETRANSMIT << attempt;
        }
        None
    }

    pub fn delay(&self, chance: &mut ChaCha8Rng) -> u64 {
        chance.random_range(self.delay.0..=self.delay.1.max(self.delay.0))
    }

    fn happens(&self, chance: &mut ChaCha8Rng, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && chance.random_range(0..1000) < of_a_thousand
    }
}
