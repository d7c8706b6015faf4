//! Keeps accounts of BMCs from being locked: they lock after a handful of wrong passwords, some for good.

use std::collections::BTreeMap;

use fleet::Timestamp;

/// Refusals in a row after which a BMC is left alone.
pub const REFUSALS: u32 = 3;
const PAUSE_MILLIS: u64 = 15 * 60_000;

#[derive(Debug, Default)]
pub struct Budget {
    /// By the BMC's address; only those that refused last.
    refused: BTreeMap<String, Refused>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    times: u32,
    last: Timestamp,
}

impl Budget {
    /// Until when no login may be tried at `address`; None if one may now.
    pub fn paused_until(&self, address: &str, now: Timestamp) -> Option<Timestamp> {
        let refused = self.refused.get(&address.to_ascii_lowercase())?;
        let until = Timestamp(refused.last.0.saturating_add(PAUSE_MILLIS));
        (refused.times >= REFUSALS && now < until).then_some(until)
    }

    pub fn refused(&mut self, address: &str, now: Timestamp) {
        self.refused.retain(|_, refused| now.0 < refused.last.0.saturating_add(PAUSE_MILLIS));
        let refused =
            self.refused.entry(address.to_ascii_lowercase()).or_insert(Refused { times: 0, last: now });
        refused.times = refused.times.saturating_add(1);
        refused.last = now;
    }

    pub fn accepted(&mut self, address: &str) {
        self.refused.remove(&address.to_ascii_lowercase());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn after_three_refusals_in_a_row_there_is_a_pause_of_a_quarter_of_an_hour() {
        let mut budget = Budget::default();
        let at = |minutes: u64| Timestamp(1_000_000 + minutes * MINUTE);
        budget.refused("bmc1", at(0));
        budget.refused("bmc1", at(1));
        budget.accepted("BMC1");
        budget.refused("bmc1", at(2));
        budget.refused("bmc1", at(3));
        assert_eq!(budget.paused_until("bmc1", at(3)), None);
        budget.refused("BMC1", at(4));
        assert_eq!(budget.paused_until("bmc1", at(4)), Some(at(19)));
        assert_eq!(budget.paused_until("bmc2", at(4)), None);
        assert_eq!(budget.paused_until("bmc1", at(19)), None);
        // What is a quarter of an hour old counts no more.
        budget.refused("bmc1", at(19));
        assert_eq!(budget.paused_until("bmc1", at(19)), None);
    }
}
