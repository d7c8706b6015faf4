//! Slows down guessing: who has been wrong often has to wait longer each time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fleet::Timestamp;

/// Wrong tries that cost nothing but themselves; people mistype.
pub const FREE: u32 = 5;
const LONGEST_WAIT_SECS: u64 = 300;
/// Whoever has been quiet for so long starts anew.
const FORGET_SECS: u64 = 900;
/// Sources that are remembered; the one that was wrong longest ago is forgotten first.
const SOURCES: usize = 4096;

const NOTES_A_MINUTE: u32 = 20;

#[derive(Debug, Default)]
pub struct Tries {
    wrong: BTreeMap<IpAddr, Wrong>,
    notes: (Timestamp, u32),
}

#[derive(Debug, Clone, Copy)]
struct Wrong {
    times: u32,
    last: Timestamp,
}

impl Tries {
    /// Seconds until `from` may try again; 0 if it may now.
    pub fn wait_secs(&self, from: IpAddr, now: Timestamp) -> u64 {
        let Some(wrong) = self.wrong.get(&source(from)) else { return 0 };
        let passed = now.secs_since(wrong.last);
        if wrong.times < FREE || passed >= FORGET_SECS {
            return 0;
        }
        let wait = 1u64.checked_shl(wrong.times - FREE).unwrap_or(u64::MAX).min(LONGEST_WAIT_SECS);
        wait.saturating_sub(passed)
    }

    pub fn wrong(&mut self, from: IpAddr, now: Timestamp) {
        self.wrong.retain(|_, wrong| now.secs_since(wrong.last) < FORGET_SECS);
        if self.wrong.len() >= SOURCES
            && let Some(oldest) = self.wrong.iter().min_by_key(|(_, wrong)| wrong.last).map(|(from, _)| *from)
        {
            self.wrong.remove(&oldest);
        }
        let wrong = self.wrong.entry(source(from)).or_insert(Wrong { times: 0, last: now });
        wrong.times = wrong.times.saturating_add(1);
        wrong.last = now;
    }

    pub fn right(&mut self, from: IpAddr) {
        self.wrong.remove(&source(from));
    }

    /// True for the first few in each minute.
    pub fn worth_a_note(&mut self, now: Timestamp) -> bool {
        let (since, count) = &mut self.notes;
        if now.secs_since(*since) >= 60 {
            *since = now;
            *count = 0;
        }
        *count = count.saturating_add(1);
        *count <= NOTES_A_MINUTE
    }
}

/// One IPv6 host has a whole /64 to try from.
fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_and_is_forgotten() {
        let from: IpAddr = "10.77.1.5".parse().unwrap();
        let mut tries = Tries::default();
        let at = |secs: u64| Timestamp(1_000_000 + secs * 1000);
        for _ in 0..FREE - 1 {
            tries.wrong(from, at(0));
        }
        assert_eq!(tries.wait_secs(from, at(0)), 0);
        tries.wrong(from, at(0));
        assert_eq!(tries.wait_secs(from, at(0)), 1);
        tries.wrong(from, at(1));
        assert_eq!(tries.wait_secs(from, at(1)), 2);
        for _ in 0..100 {
            tries.wrong(from, at(1));
        }
        assert_eq!(tries.wait_secs(from, at(1)), LONGEST_WAIT_SECS);
        assert_eq!(tries.wait_secs(from, at(1 + FORGET_SECS)), 0);
        tries.right(from);
        assert_eq!(tries.wait_secs(from, at(1)), 0);
    }

    #[test]
    fn neighbours_in_a_v6_network_count_as_one_and_memory_is_bounded() {
        let mut tries = Tries::default();
        for host in 0..FREE {
            tries.wrong(format!("2001:db8::{host:x}").parse().unwrap(), Timestamp(1));
        }
        assert!(tries.wait_secs("2001:db8::ffff".parse().unwrap(), Timestamp(1)) > 0);
        for number in 0..4200u32 {
            tries.wrong(std::net::Ipv4Addr::from(number).into(), Timestamp(u64::from(number)));
        }
        assert!(tries.wrong.len() <= SOURCES);
    }
}
