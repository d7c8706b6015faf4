//! Power: how machines are switched on and off from afar, what is wanted of their power, and fencing.
//!
//! ```text
//!         ┌──ask──▶ Order ──its BMC says so, twice──▶ done          Fence (cutting) ──off is proven──▶ Fence (off)
//!  (none) ┤           │ cancel                                            │ cancel                        │ unfence
//!         └──fence──▶ Fence (cutting)                                     ▼                               ▼
//!                     ▼                                                (none)                         Order: on
//!                  (none)
//! ```
//!
//! Whoever carries it out looks at [`wanted`] and says what came of it by [`Outcome`]. A timeout is no outcome but a
//! failure: it is tried again until it succeeds or is cancelled.

mod alone;
mod bmc;
mod fence;
mod order;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::machine::{By, Machine};
use crate::{Fleet, MachineId, Timestamp, host};

pub use alone::alone;
pub use bmc::{Bmc, Kind, without_bmc_since};
pub(crate) use bmc::{pin, remove as remove_bmc, set as set_bmc};
pub use fence::{Fence, off_since};
pub(crate) use fence::{attest, by_policy, fence, imagine_failure, obstacle, unfence};
pub use order::{Action, Order, Outcome};
pub(crate) use order::{LIMIT_SECS, ask, cancel, light, report};

/// All that is known of a machine's power and wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Power {
    /// Its login is a secret and so is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc: Option<Bmc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// Its identify LED is to be lit.
    #[serde(skip_serializing_if = "is_false")]
    pub light: bool,
    /// When the policy fenced it last: only so many may be fenced within an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fenced_alone: Option<Timestamp>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Power {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Power::default()
    }
}

/// One thing to be done through a BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub action: Action,
    /// When it was asked for: an outcome names it, so that none is taken for another's.
    pub since: Timestamp,
}

/// What is to be done to the power of a machine now. A fence comes before everything.
pub fn wanted(machine: &Machine) -> Option<Wanted> {
    let power = &machine.power;
    match (&power.fence, &power.order) {
        (Some(fence), _) if fence.off.is_none() => Some(Wanted { action: Action::Off, since: fence.since }),
        (Some(_), _) => None,
        (None, order) => order.as_ref().map(|order| Wanted { action: order.action, since: order.since }),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    BmcSet {
        machine: MachineId,
        bmc: Bmc,
    },
    BmcRemoved {
        machine: MachineId,
    },
    /// Its certificate, seen for the first time.
    Pinned {
        machine: MachineId,
        pin: String,
    },
    Ordered {
        machine: MachineId,
        action: Action,
        at: Timestamp,
    },
    Done {
        machine: MachineId,
        action: Action,
        /// What shows that it is so.
        proof: String,
        at: Timestamp,
    },
    Cancelled {
        machine: MachineId,
        leftovers: Vec<String>,
        at: Timestamp,
    },
    /// An attempt did not succeed; said once for each reason.
    Trouble {
        machine: MachineId,
        error: String,
        at: Timestamp,
    },
    FenceAsked {
        machine: MachineId,
        by: By,
        why: String,
        at: Timestamp,
    },
    /// It is off, and that is proven.
    Fenced {
        machine: MachineId,
        proof: String,
        at: Timestamp,
    },
    /// It may run again. `on`: it is switched on.
    Unfenced {
        machine: MachineId,
        on: bool,
        at: Timestamp,
    },
    Light {
        machine: MachineId,
        on: bool,
    },
}

impl Event {
    pub(crate) fn machine(&self) -> MachineId {
        match self {
            Event::BmcSet { machine, .. }
            | Event::BmcRemoved { machine }
            | Event::Pinned { machine, .. }
            | Event::Ordered { machine, .. }
            | Event::Done { machine, .. }
            | Event::Cancelled { machine, .. }
            | Event::Trouble { machine, .. }
            | Event::FenceAsked { machine, .. }
            | Event::Fenced { machine, .. }
            | Event::Unfenced { machine, .. }
            | Event::Light { machine, .. } => *machine,
        }
    }

    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Cancelled { leftovers, .. } => leftovers,
            Event::BmcSet { .. }
            | Event::BmcRemoved { .. }
            | Event::Pinned { .. }
            | Event::Ordered { .. }
            | Event::Done { .. }
            | Event::Trouble { .. }
            | Event::FenceAsked { .. }
            | Event::Fenced { .. }
            | Event::Unfenced { .. }
            | Event::Light { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::BmcSet { bmc, .. } => write!(f, "Its power is switched by {bmc}"),
            Event::BmcRemoved { .. } => f.write_str("Its BMC is not known any more"),
            Event::Pinned { pin, .. } => {
                write!(f, "Its BMC showed the certificate {} and is known by it", short(pin))
            }
            Event::Ordered { action, .. } => write!(f, "Is to be {}", action.done()),
            Event::Done { action, proof, .. } => write!(f, "Was {}: {proof}", action.done()),
            Event::Cancelled { .. } => f.write_str("What was wanted of its power was cancelled"),
            Event::Trouble { error, .. } => write!(f, "Its power could not be switched: {error}"),
            Event::FenceAsked { by: By::Policy, why, .. } => write!(f, "To be fenced by policy: {why}"),
            Event::FenceAsked { by: By::Person, why, .. } => write!(f, "To be fenced: {why}"),
            Event::Fenced { proof, .. } => write!(f, "Fenced, it is off: {proof}"),
            Event::Unfenced { on: true, .. } => f.write_str("Not fenced any more; it is switched on"),
            Event::Unfenced { on: false, .. } => f.write_str("Not fenced any more"),
            Event::Light { on: true, .. } => f.write_str("Its identify LED is to be lit"),
            Event::Light { on: false, .. } => f.write_str("Its identify LED is to be dark"),
        }
    }
}

fn short(pin: &str) -> &str {
    pin.get(..16).unwrap_or(pin)
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    let id = event.machine();
    if let Event::Done { action: Action::On | Action::Cycle, at, .. } | Event::Unfenced { at, .. } = event {
        host::give_time(fleet, id, *at);
    }
    fleet.change_machine(id, |machine| {
        let power = &mut machine.power;
        match event {
            Event::BmcSet { bmc, .. } => power.bmc = Some(bmc.clone()),
            Event::BmcRemoved { .. } => power.bmc = None,
            Event::Pinned { pin, .. } => {
                if let Some(bmc) = &mut power.bmc {
                    bmc.pin = Some(pin.clone());
                }
            }
            Event::Ordered { action, at, .. } => {
                power.order = Some(Order { action: *action, since: *at, trouble: None });
            }
            Event::Done { .. } => power.order = None,
            Event::Cancelled { .. } => {
                power.order = None;
                power.fence = None;
            }
            Event::Trouble { error, .. } => {
                let fence = power.fence.as_mut().map(|fence| &mut fence.trouble);
                if let Some(trouble) = fence.or(power.order.as_mut().map(|order| &mut order.trouble)) {
                    *trouble = Some(error.clone());
                }
            }
            Event::FenceAsked { by, why, at, .. } => {
                power.order = None;
                power.fence = Some(Fence { by: *by, why: why.clone(), since: *at, off: None, trouble: None });
                if *by == By::Policy {
                    power.fenced_alone = Some(*at);
                }
            }
            Event::Fenced { at, .. } => {
                if let Some(fence) = &mut power.fence {
                    fence.off = Some(*at);
                    fence.trouble = None;
                }
            }
            Event::Unfenced { on, at, .. } => {
                power.fence = None;
                power.order = on.then_some(Order { action: Action::On, since: *at, trouble: None });
            }
            Event::Light { on, .. } => power.light = *on,
        }
    });
}
