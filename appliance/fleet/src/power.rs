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
//! Whoever carries it out looks at [`wanted`] and [`tries`] and says what came of it by [`Outcome`]. A timeout is no outcome but a
//! failure: it is tried again until it succeeds or is cancelled.

mod account;
mod alone;
mod bmc;
mod fence;
mod order;
mod search;
mod strip;
mod way;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::machine::{By, Machine};
use crate::{Fleet, MachineId, Timestamp, host};

pub(crate) use account::account_made;
pub use account::{ACCOUNT, Account, OWN, wanted_account};
pub use alone::alone;
pub use bmc::{Bmc, Kind, Less, less_since};
pub(crate) use bmc::{pin, remove as remove_bmc, set as set_bmc};
pub use fence::{Fence, off_since};
pub(crate) use fence::{
    attest, by_policy, doubt, fence, imagine_failure, is_to_be_doubted, obstacle, unfence,
};
pub use order::{Action, Order, Outcome};
pub(crate) use order::{LIMIT_SECS, ask, cancel, light, report};
pub use search::{APART_SECS, Search, next_login, searched_at};
pub(crate) use search::{end_search, look, take_login, try_login};
pub use strip::{Answer, Move, Outlet, Outlets, Strip, outlets};
pub(crate) use strip::{begin as begin_strips, remove as remove_strip, set as set_strip};
pub use way::{Try, Way, tries};

/// All that is known of a machine's power and wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Power {
    /// Its login is a secret and so is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc: Option<Bmc>,
    /// What was tried of the operator's list at its BMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<Box<Search>>,
    /// What came of the account that its host is to make for the appliance at its BMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// The outlets that it is plugged into: all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strips: Vec<Strip>,
    /// Since when some of its outlets may be off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<Timestamp>,
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
    /// Its host made an account for the appliance there.
    AccountMade {
        machine: MachineId,
    },
    AccountRefused {
        machine: MachineId,
        why: String,
    },
    /// A person wants its BMC to be looked for at this address.
    SearchAsked {
        machine: MachineId,
        address: String,
    },
    /// It is about to be tried: said before, so that none is tried twice.
    LoginTried {
        machine: MachineId,
        address: String,
        number: u32,
        at: Timestamp,
    },
    LoginTaken {
        machine: MachineId,
        address: String,
        number: u32,
    },
    SearchEnded {
        machine: MachineId,
        address: String,
        /// Other logins are not tried either.
        stop: bool,
        why: String,
    },
    /// In the place of what was known of its outlets at that address.
    StripSet {
        machine: MachineId,
        strip: Strip,
    },
    StripRemoved {
        machine: MachineId,
        address: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        leftovers: Vec<String>,
    },
    /// They begin to be switched off, or are on.
    Outlets {
        machine: MachineId,
        on: bool,
        at: Timestamp,
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
        #[serde(default, skip_serializing_if = "Way::is_bmc")]
        way: Way,
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
        /// What proves it; none if a person says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        way: Option<Way>,
        at: Timestamp,
    },
    /// Its BMC said that it is off, and it goes on speaking.
    Doubted {
        machine: MachineId,
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
            | Event::AccountMade { machine }
            | Event::AccountRefused { machine, .. }
            | Event::SearchAsked { machine, .. }
            | Event::LoginTried { machine, .. }
            | Event::LoginTaken { machine, .. }
            | Event::SearchEnded { machine, .. }
            | Event::StripSet { machine, .. }
            | Event::StripRemoved { machine, .. }
            | Event::Outlets { machine, .. }
            | Event::Doubted { machine, .. }
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
            Event::Cancelled { leftovers, .. } | Event::StripRemoved { leftovers, .. } => leftovers,
            Event::BmcSet { .. }
            | Event::BmcRemoved { .. }
            | Event::Pinned { .. }
            | Event::AccountMade { .. }
            | Event::AccountRefused { .. }
            | Event::SearchAsked { .. }
            | Event::LoginTried { .. }
            | Event::LoginTaken { .. }
            | Event::SearchEnded { .. }
            | Event::StripSet { .. }
            | Event::Outlets { .. }
            | Event::Doubted { .. }
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
            Event::AccountMade { .. } => f.write_str("It made an account for the appliance at its BMC"),
            Event::AccountRefused { why, .. } => write!(
                f,
                "It made no account for the appliance at its BMC: {why}. eli bmc find has it tried again"
            ),
            Event::SearchAsked { address, .. } => {
                write!(f, "Its BMC is looked for at {address}, with the list of logins")
            }
            Event::LoginTried { address, number: OWN, .. } => {
                write!(f, "The account that it made is tried at its BMC at {address}")
            }
            Event::LoginTaken { address, number: OWN, .. } => {
                write!(f, "Its BMC at {address} takes the account that it made")
            }
            Event::LoginTried { address, number, .. } => {
                write!(f, "Login {number} of the list is tried at its BMC at {address}")
            }
            Event::LoginTaken { address, number, .. } => {
                write!(f, "Its BMC at {address} takes login {number} of the list")
            }
            Event::SearchEnded { address, stop: false, why, .. } => write!(
                f,
                "Its BMC at {address} takes no login of the list: {why}. Add the right one: eli bmc logins add"
            ),
            Event::SearchEnded { address, stop: true, why, .. } => {
                write!(f, "No login is tried any more at its BMC at {address}: {why}")
            }
            Event::StripSet { strip, .. } => write!(f, "Its power comes from {strip}"),
            Event::StripRemoved { address, .. } => {
                write!(f, "Its outlets of the power strip at {address} are not known any more")
            }
            Event::Outlets { on: false, .. } => f.write_str("Its power strip is to switch its outlets off"),
            Event::Outlets { on: true, .. } => f.write_str("Its outlets are on"),
            Event::Doubted { .. } => f.write_str(
                "Its BMC said that it is off, and it goes on speaking: its power strip is to switch it off",
            ),
            Event::Ordered { action, .. } => write!(f, "Is to be {}", action.done()),
            Event::Done { action, proof, .. } => write!(f, "Was {}: {proof}", action.done()),
            Event::Cancelled { .. } => f.write_str("What was wanted of its power was cancelled"),
            Event::Trouble { way: Way::Strips, error, .. } => {
                write!(f, "Its power could not be switched by its power strip: {error}")
            }
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
            Event::AccountMade { .. } => power.account = Some(Account::Made),
            Event::AccountRefused { .. } => power.account = Some(Account::Refused),
            Event::SearchAsked { address, .. } => {
                power.search = Some(Box::new(Search::at(address, true, power.search.as_deref())));
                power.account = None;
            }
            Event::LoginTried { address, number, at, .. } => {
                let before = power.search.take();
                let mut search = match before {
                    Some(known) if known.address == *address => known,
                    before => Box::new(Search::at(address, false, before.as_deref())),
                };
                search.tried(*number, *at);
                power.search = Some(search);
            }
            Event::LoginTaken { .. } => {}
            Event::SearchEnded { stop, .. } => {
                if let Some(search) = &mut power.search {
                    search.stopped = *stop;
                }
            }
            Event::StripSet { strip, .. } => {
                match power.strips.iter_mut().find(|known| known.address == strip.address) {
                    Some(known) => *known = strip.clone(),
                    None => power.strips.push(strip.clone()),
                }
            }
            Event::StripRemoved { address, .. } => {
                power.strips.retain(|strip| strip.address != *address);
                if power.strips.is_empty() {
                    power.cut = None;
                }
            }
            Event::Outlets { on, at, .. } => power.cut = (!on).then_some(*at),
            Event::Pinned { pin, .. } => {
                if let Some(bmc) = &mut power.bmc {
                    bmc.pin = Some(pin.clone());
                }
            }
            Event::Ordered { action, at, .. } => {
                power.order = Some(Order::new(*action, *at));
            }
            Event::Done { .. } => power.order = None,
            Event::Cancelled { .. } => {
                power.order = None;
                power.fence = None;
            }
            Event::Trouble { way, error, .. } => {
                let fence = power.fence.as_mut().map(|fence| match way {
                    Way::Bmc => &mut fence.trouble,
                    Way::Strips => &mut fence.strip_trouble,
                });
                if let Some(trouble) = fence.or(power.order.as_mut().map(|order| &mut order.trouble)) {
                    *trouble = Some(error.clone());
                }
            }
            Event::FenceAsked { by, why, at, .. } => {
                power.order = None;
                power.fence = Some(Fence::new(*by, why.clone(), *at));
                if *by == By::Policy {
                    power.fenced_alone = Some(*at);
                }
            }
            Event::Fenced { way, at, .. } => {
                if let Some(fence) = &mut power.fence {
                    fence.off = Some(*at);
                    fence.proven = *way;
                    fence.trouble = None;
                    fence.strip_trouble = None;
                }
            }
            Event::Doubted { at, .. } => {
                if let Some(fence) = &mut power.fence {
                    fence.off = None;
                    fence.doubted = true;
                    // What was begun before proves nothing of it.
                    fence.since = *at;
                }
            }
            Event::Unfenced { on, at, .. } => {
                power.fence = None;
                power.order = on.then_some(Order::new(Action::On, *at));
            }
            Event::Light { on, .. } => power.light = *on,
        }
    });
}
