//! The ways to a machine's power, and which is tried first.

use serde::{Deserialize, Serialize};

use super::{Action, Power, Wanted};
use crate::machine::Machine;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    #[default]
    Bmc,
    /// The outlets that it is plugged into, all of them.
    Strips,
}

impl Way {
    pub(crate) fn is_bmc(&self) -> bool {
        *self == Way::Bmc
    }
}

/// One attempt by one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    pub way: Way,
    /// Where outlets may be off, they are switched on first, whatever is wanted of the BMC: it has no power either.
    pub action: Action,
    /// After so long it is a failure, and the next way is tried.
    pub secs: Option<u64>,
}

/// A BMC that is well has proven it in a few seconds. Where there is a strip, one that hangs is waited for no longer.
const BMC_SECS: u64 = 30;

/// What is to be tried, first the first, until one way proves it. After the last it begins again.
pub fn tries(machine: &Machine) -> Vec<Try> {
    let Some(Wanted { action, .. }) = super::wanted(machine) else { return Vec::new() };
    let power = &machine.power;
    let bmc = power.bmc.as_ref().map(|_| Way::Bmc);
    let strips = (!power.strips.is_empty()).then_some(Way::Strips);
    if let Some(fence) = &power.fence {
        // What it said was doubted once.
        let bmc = bmc.filter(|_| !fence.doubted);
        let secs = strips.map(|_| BMC_SECS);
        let bmc = bmc.map(|way| Try { way, action, secs });
        let strips = strips.map(|way| Try { way, action, secs: None });
        // Without power a BMC says nothing.
        let ways = if power.cut.is_some() { [strips, bmc] } else { [bmc, strips] };
        return ways.into_iter().flatten().collect();
    }
    let first = match (bmc, strips) {
        (Some(_), Some(strips)) if power.cut.is_some() => {
            let action = if action == Action::Off { Action::Off } else { Action::On };
            Some((strips, action))
        }
        (Some(bmc), _) => Some((bmc, action)),
        (None, strips) => strips.map(|strips| (strips, action)),
    };
    first.map(|(way, action)| Try { way, action, secs: None }).into_iter().collect()
}

impl Power {
    /// Whether anything here can take its power away.
    pub fn is_switchable(&self) -> bool {
        self.bmc.is_some() || !self.strips.is_empty()
    }
}
