//! What is asked of a machine's power, until it is so.

use serde::{Deserialize, Serialize};

use super::{Event, Fence, Wanted, Way, tries, wanted};
use crate::machine::{Machine, Phase, find};
use crate::{Ctx, Fleet, MachineId, Refusal, Timestamp, vm};

/// How long it may take until the log says that it is late: a BMC that is up answers within seconds.
pub(crate) const LIMIT_SECS: u64 = 180;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub action: Action,
    pub since: Timestamp,
    /// Why the last attempt did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Order {
    pub(crate) fn new(action: Action, since: Timestamp) -> Order {
        Order { action, since, trouble: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    On,
    /// At once, as if its plug was pulled.
    Off,
    /// Off, and when that is proven, on.
    Cycle,
    /// As `Cycle`, and at that start it boots from the network.
    Netboot,
}

impl Action {
    /// As in `is to be …`.
    pub fn done(self) -> &'static str {
        match self {
            Action::On => "switched on",
            Action::Off => "switched off",
            Action::Cycle => "switched off and on",
            Action::Netboot => "switched off and started from the network",
        }
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it was wanted; the sentence says what shows it.
    Done(String),
    /// Nothing is proven.
    Failed(String),
}

pub(crate) fn ask(
    fleet: &Fleet,
    id: MachineId,
    action: Action,
    force: bool,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.power.order.as_ref().is_some_and(|order| order.action == action) {
        return Ok(Vec::new());
    }
    may_be_switched(fleet, machine, action, force)?;
    Ok(vec![crate::Event::Power(Event::Ordered { machine: id, action, at: ctx.now })])
}

fn may_be_switched(fleet: &Fleet, machine: &Machine, action: Action, force: bool) -> Result<(), Refusal> {
    let name = &machine.name;
    if machine.appliance {
        return Err(Refusal::Conflict(format!("the appliance runs on {name}; switch it at its own screen")));
    }
    if let Some(fence) = &machine.power.fence {
        return Err(Refusal::Conflict(match fence.off {
            Some(_) => format!("{name} is fenced and off; unfencing it switches it on"),
            None => format!("{name} is being fenced"),
        }));
    }
    if let Some(order) = &machine.power.order {
        return Err(Refusal::Conflict(format!(
            "{name} is to be {} already; cancel that first",
            order.action.done()
        )));
    }
    if !machine.power.is_switchable() && action != Action::On {
        return Err(Refusal::Conflict(no_way(machine)));
    }
    if action == Action::On || force {
        return Ok(());
    }
    let vms: Vec<&str> = vm::on_host(fleet, machine.id).map(|vm| vm.name.as_ref()).collect();
    if !vms.is_empty() {
        return Err(Refusal::Conflict(format!(
            "{name} carries {}, which would lose power with it; remove that first, or switch it by force",
            vms.join(", ")
        )));
    }
    if let Phase::Erasing(erasing) = &machine.phase
        && let Some(current) = erasing.current()
    {
        return Err(Refusal::Conflict(format!(
            "{} of {name} is being erased; cancel that first, or switch it by force",
            current.disk
        )));
    }
    if let Phase::Installing { disk, .. } = &machine.phase {
        return Err(Refusal::Conflict(format!(
            "{name} is being installed on {disk}; cancel that first, or switch it by force"
        )));
    }
    Ok(())
}

pub(super) fn no_bmc(machine: &Machine) -> String {
    format!(
        "no BMC of {} is known, so nothing here can switch its power; eli machine bmc {} sets one",
        machine.name, machine.name
    )
}

pub(super) fn no_way(machine: &Machine) -> String {
    format!(
        "no BMC of {0} is known and no power strip, so nothing here can switch its power; eli machine bmc {0} sets one, \
         eli machine strip set {0} the other",
        machine.name
    )
}

/// What came of an attempt by one way that was begun for what was wanted since `since`.
pub(crate) fn report(
    fleet: &Fleet,
    id: MachineId,
    since: Timestamp,
    way: Way,
    outcome: &Outcome,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let Some(Wanted { action, .. }) = wanted(machine).filter(|wanted| wanted.since == since) else {
        return Err(Refusal::Conflict(format!(
            "nothing is wanted of the power of {} any more that was wanted then",
            machine.name
        )));
    };
    let Some(tried) = tries(machine).into_iter().find(|it| it.way == way) else {
        return Err(Refusal::Conflict(format!(
            "the power of {} is not switched that way any more",
            machine.name
        )));
    };
    let at = ctx.now;
    let done = |proof: &String| match &machine.power.fence {
        Some(_) => Event::Fenced { machine: id, proof: proof.clone(), way: Some(way), at },
        None => Event::Done { machine: id, action, proof: proof.clone(), at },
    };
    let events = match outcome {
        Outcome::Done(proof) => {
            let are_on = way == Way::Strips && tried.action != Action::Off && machine.power.cut.is_some();
            // Its BMC had no power either, and has to start before it can switch the machine on.
            let is_done = tried.action == action
                && (way == Way::Bmc || action == Action::Off || machine.power.bmc.is_none());
            let on = are_on.then_some(Event::Outlets { machine: id, on: true, at });
            on.into_iter().chain(is_done.then(|| done(proof))).collect()
        }
        Outcome::Failed(error) if trouble(machine, way) == Some(error) => Vec::new(),
        Outcome::Failed(error) => vec![Event::Trouble { machine: id, way, error: error.clone(), at }],
    };
    Ok(events.into_iter().map(crate::Event::Power).collect())
}

fn trouble(machine: &Machine, way: Way) -> Option<&String> {
    let fence = machine.power.fence.as_ref().and_then(|fence| match way {
        Way::Bmc => fence.trouble.as_ref(),
        Way::Strips => fence.strip_trouble.as_ref(),
    });
    fence.or_else(|| machine.power.order.as_ref()?.trouble.as_ref())
}

/// None if nothing is wanted of its power.
pub(crate) fn cancel(machine: &Machine, ctx: Ctx) -> Option<crate::Event> {
    let name = &machine.name;
    let leftovers = match (&machine.power.fence, &machine.power.order) {
        (Some(Fence { off: None, .. }), _) => {
            let outlets = machine
                .power
                .cut
                .map(|_| format!("some outlets of {name} may be off; powering it on switches them on, too"));
            let off = format!("what was tried already may have switched {name} off");
            [off].into_iter().chain(outlets).collect()
        }
        (Some(_), _) | (None, None) => return None,
        (None, Some(order)) if order.action == Action::On => Vec::new(),
        (None, Some(_)) => vec![format!("what was tried already may leave {name} off")],
    };
    Some(crate::Event::Power(Event::Cancelled { machine: machine.id, leftovers, at: ctx.now }))
}

pub(crate) fn light(fleet: &Fleet, id: MachineId, on: bool) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.power.light == on {
        return Ok(Vec::new());
    }
    if on && machine.power.bmc.is_none() {
        return Err(Refusal::Conflict(no_bmc(machine)));
    }
    Ok(vec![crate::Event::Power(Event::Light { machine: id, on })])
}
