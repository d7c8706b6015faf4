//! Slows down guessing: who has been wrong often has to wait longer each time, and so does everybody else who tries a
//! name that many have been wrong about.
//!
//! A try counts as wrong when it begins, and is taken back when it was right: many at once cannot all be the first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fleet::Timestamp;

/// Wrong tries that cost nothing but themselves; people mistype.
pub const FREE: u32 = 5;
const LONGEST_WAIT_SECS: u64 = 300;

/// As the above, of one name from all addresses together: somebody who has many addresses. The wait stays short, so that
/// nobody can be kept out by it.
const FREE_OF_NAME: u32 = 20;
const LONGEST_WAIT_OF_NAME_SECS: u64 = 30;

/// Whoever has been quiet for so long starts anew.
const FORGET_SECS: u64 = 900;
/// An address from which a name has logged in does not wait for what others do to that name, for so long.
const TRUST_SECS: u64 = 30 * 24 * 3600;

/// What is remembered of each kind; what was wrong least often and longest ago is forgotten first.
const REMEMBERED: usize = 4096;
/// A name is no longer; the rest of it is not looked at.
const LONGEST_NAME: usize = 64;

const NOTES_A_MINUTE: u32 = 20;

#[derive(Debug, Default)]
pub struct Tries {
    sources: BTreeMap<IpAddr, Wrong>,
    names: BTreeMap<String, Wrong>,
    trusted: BTreeMap<(IpAddr, String), Timestamp>,
    notes: (Timestamp, u32),
}

#[derive(Debug, Clone)]
struct Wrong {
    times: u32,
    last: Timestamp,
    /// The name that was tried, while it is only one.
    name: Option<String>,
}

impl Wrong {
    fn wait_secs(&self, free: u32, longest: u64, now: Timestamp) -> u64 {
        let passed = now.secs_since(self.last);
        if self.times < free || passed >= FORGET_SECS {
            return 0;
        }
        let wait = 1u64.checked_shl(self.times - free).unwrap_or(u64::MAX).min(longest);
        wait.saturating_sub(passed)
    }
}

impl Tries {
    /// Seconds until `from` may try `name`; 0 if it may now.
    pub fn wait_secs(&self, from: IpAddr, name: &str, now: Timestamp) -> u64 {
        let (source, name) = (source(from), cut(name));
        let own = self.sources.get(&source).map_or(0, |it| it.wait_secs(FREE, LONGEST_WAIT_SECS, now));
        let trusted = self.trusted.get(&(source, name.clone()));
        if trusted.is_some_and(|since| now.secs_since(*since) < TRUST_SECS) {
            return own;
        }
        let of_name = self.names.get(&name);
        own.max(of_name.map_or(0, |it| it.wait_secs(FREE_OF_NAME, LONGEST_WAIT_OF_NAME_SECS, now)))
    }

    pub fn wrong(&mut self, from: IpAddr, name: &str, now: Timestamp) {
        let name = cut(name);
        count(&mut self.sources, source(from), &name, now);
        count(&mut self.names, name.clone(), &name, now);
    }

    /// The last try of `from` was right. Who has also tried other names is not forgiven those: a guesser may have a
    /// name of his own.
    pub fn right(&mut self, from: IpAddr, name: &str, now: Timestamp) {
        let (source, name) = (source(from), cut(name));
        if let Some(wrong) = self.sources.get_mut(&source) {
            wrong.times = wrong.times.saturating_sub(1);
            if wrong.times == 0 || wrong.name.as_ref() == Some(&name) {
                self.sources.remove(&source);
            }
        }
        if let Some(wrong) = self.names.get_mut(&name) {
            wrong.times = wrong.times.saturating_sub(1);
        }
        if self.trusted.len() >= REMEMBERED
            && let Some(oldest) = self.trusted.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone())
        {
            self.trusted.remove(&oldest);
        }
        self.trusted.insert((source, name), now);
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

fn count<Key: Ord + Clone>(all: &mut BTreeMap<Key, Wrong>, key: Key, name: &str, now: Timestamp) {
    all.retain(|_, wrong| now.secs_since(wrong.last) < FORGET_SECS);
    if all.len() >= REMEMBERED
        && !all.contains_key(&key)
        && let Some(least) = all.iter().min_by_key(|(_, it)| (it.times, it.last)).map(|(key, _)| key.clone())
    {
        all.remove(&least);
    }
    let wrong = all.entry(key).or_insert(Wrong { times: 0, last: now, name: Some(name.to_owned()) });
    wrong.times = wrong.times.saturating_add(1);
    wrong.last = now;
    if wrong.name.as_deref() != Some(name) {
        wrong.name = None;
    }
}

fn cut(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
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
    use std::net::Ipv4Addr;

    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp(1_000_000 + secs * 1000)
    }

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[test]
    fn the_wait_grows_and_is_forgotten() {
        let from: IpAddr = "10.77.1.5".parse().unwrap();
        let mut tries = Tries::default();
        for _ in 0..FREE - 1 {
            tries.wrong(from, "ada", at(0));
        }
        assert_eq!(tries.wait_secs(from, "ada", at(0)), 0);
        tries.wrong(from, "ada", at(0));
        assert_eq!(tries.wait_secs(from, "ada", at(0)), 1);
        assert_eq!(tries.wait_secs(from, "bob", at(0)), 1, "it is the address that waits");
        tries.wrong(from, "ada", at(1));
        assert_eq!(tries.wait_secs(from, "ada", at(1)), 2);
        for _ in 0..100 {
            tries.wrong(from, "ada", at(1));
        }
        assert_eq!(tries.wait_secs(from, "ada", at(1)), LONGEST_WAIT_SECS);
        assert_eq!(tries.wait_secs(from, "ada", at(1 + FORGET_SECS)), 0);
        tries.right(from, "ada", at(1));
        assert_eq!(tries.wait_secs(from, "ada", at(1)), 0);
    }

    #[test]
    fn a_name_of_ones_own_does_not_buy_more_tries_of_another() {
        let from = v4(1);
        let mut tries = Tries::default();
        let mut free = 0;
        while tries.wait_secs(from, "admin", at(0)) == 0 {
            tries.wrong(from, "admin", at(0));
            free += 1;
            if tries.wait_secs(from, "mallory", at(0)) == 0 {
                tries.wrong(from, "mallory", at(0));
                tries.right(from, "mallory", at(0));
            }
            assert!(free <= FREE, "{free}");
        }
    }

    #[test]
    fn many_addresses_share_the_tries_of_one_name_but_for_those_who_were_right_before() {
        let mut tries = Tries::default();
        let home = v4(7);
        tries.wrong(home, "ada", at(0));
        tries.right(home, "ada", at(0));
        for number in 100..100 + FREE_OF_NAME {
            assert_eq!(tries.wait_secs(v4(number), "ada", at(1)), 0);
            tries.wrong(v4(number), "ada", at(1));
        }
        assert!(tries.wait_secs(v4(999), "ada", at(1)) > 0);
        assert_eq!(tries.wait_secs(home, "ada", at(1)), 0, "ada is not kept out");
        assert_eq!(tries.wait_secs(v4(999), "bob", at(1)), 0);
        for number in 2000..3000 {
            tries.wrong(v4(number), "ada", at(1));
        }
        assert_eq!(tries.wait_secs(v4(999), "ada", at(1)), LONGEST_WAIT_OF_NAME_SECS);
    }

    #[test]
    fn neighbours_in_a_v6_network_count_as_one_and_memory_is_bounded() {
        let mut tries = Tries::default();
        for host in 0..FREE {
            tries.wrong(format!("2001:db8::{host:x}").parse().unwrap(), "ada", at(0));
        }
        assert!(tries.wait_secs("2001:db8::ffff".parse().unwrap(), "ada", at(0)) > 0);
        assert_eq!(tries.wait_secs("2001:db8:0:1::1".parse().unwrap(), "ada", at(0)), 0);
        for number in 0..4200u32 {
            let name = format!("{number}{}", "x".repeat(1 << 10));
            tries.wrong(v4(number), &name, at(0));
            tries.right(v4(number), &name, at(0));
            tries.wrong(v4(number), &name, at(0));
        }
        for (kind, len) in
            [("sources", tries.sources.len()), ("names", tries.names.len()), ("trusted", tries.trusted.len())]
        {
            assert!(len <= REMEMBERED, "{kind}: {len}");
        }
        assert!(tries.names.keys().all(|name| name.len() <= LONGEST_NAME));
        // Who was wrong most often is not forgotten for a flood of others.
        assert!(tries.wait_secs("2001:db8::ffff".parse().unwrap(), "ada", at(0)) > 0);
    }
}
