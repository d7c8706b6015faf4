//! Which machines GRUB hands to iPXE.
//!
//! GRUB's own HTTP takes 8 KB in each round trip, in packets of 536 bytes; iPXE, which GRUB can start where Secure Boot is
//! off, is several times as fast, over the firmware's own driver. Where that driver is bad iPXE hangs. So a machine that
//! was handed over and did not come for its script is left to GRUB from then on.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::MacAddr;

/// More machines than start at the same time; anybody can ask for any machine's script.
const MOST: usize = 65_536;

/// Those that were handed over and have not come back.
#[derive(Debug, Default)]
pub struct HandOver(Mutex<HashSet<MacAddr>>);

impl HandOver {
    /// Whether GRUB may hand this machine over.
    pub fn may_begin(&self, mac: MacAddr) -> bool {
        let away = self.away();
        away.len() < MOST && !away.contains(&mac)
    }

    /// GRUB was told to.
    pub fn begins(&self, mac: MacAddr) {
        self.away().insert(mac);
    }

    /// iPXE has come for its script.
    pub fn ends(&self, mac: MacAddr) {
        self.away().remove(&mac);
    }

    fn away(&self) -> MutexGuard<'_, HashSet<MacAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_come_back_is_not_handed_over_again() {
        let hand_over = HandOver::default();
        let [good, bad] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
        hand_over.begins(good);
        hand_over.begins(bad);
        hand_over.ends(good);
        assert!(hand_over.may_begin(good));
        assert!(!hand_over.may_begin(bad));
    }
}
