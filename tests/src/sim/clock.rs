//! Simulated time: what is to happen, in the order of (time, when it was arranged).

use std::collections::BTreeMap;

use fleet::Timestamp;

/// 2026-01-01T00:00:00Z, in milliseconds: a site is founded on a day, not in 1970.
const BEGINNING: u64 = 1_767_225_600_000;

#[derive(Debug)]
pub struct Clock<T> {
    /// Milliseconds since the beginning.
    now: u64,
    arranged: u64,
    queue: BTreeMap<(u64, u64), T>,
}

impl<T> Default for Clock<T> {
    fn default() -> Self {
        Clock { now: 0, arranged: 0, queue: BTreeMap::new() }
    }
}

impl<T> Clock<T> {
    /// Milliseconds since the beginning of the run.
    pub fn elapsed(&self) -> u64 {
        self.now
    }

    /// As the core is told it.
    pub fn now(&self) -> Timestamp {
        Timestamp(BEGINNING + self.now)
    }

    pub fn after(&mut self, millis: u64, what: T) {
        self.arranged += 1;
        self.queue.insert((self.now + millis, self.arranged), what);
    }

    /// Takes the next thing that happens until `end`, and makes its time now; at the end, that time is now.
    pub fn next_until(&mut self, end: u64) -> Option<T> {
        let first = self.queue.first_key_value().map(|(key, _)| *key).filter(|(time, _)| *time <= end);
        match first {
            Some(key) => {
                self.now = key.0;
                self.queue.remove(&key)
            }
            None => {
                self.now = self.now.max(end);
                None
            }
        }
    }
}

/// `75.250 s` as people read it: `01:15.250`.
pub fn read_aloud(millis: u64) -> String {
    format!("{:02}:{:02}.{:03}", millis / 60_000, millis / 1000 % 60, millis % 1000)
}

/// `90s`, `10m`, `250ms`.
pub fn duration(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "ms" => Some(number),
        "s" => Some(number * 1000),
        "m" => Some(number * 60_000),
        "h" => Some(number * 3_600_000),
        _ => None,
    }
}
