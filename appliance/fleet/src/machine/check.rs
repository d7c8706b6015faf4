//! Checking the disks of a machine: all of them are read from end to end, and asked what they say of themselves.
//! Nothing is written, so a host that carries VMs may be checked while it works.
//!
//! ```text
//! ask ──▶ wanted ──the machine reads──▶ ended, with what came of each disk
//!            └──take back──▶ (as before)
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Machine, Phase, find};
use crate::wire::DiskChecked;
use crate::{Ctx, Fleet, MachineId, Refusal, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Check {
    /// Counted from 1 for each machine.
    pub number: u32,
    pub asked: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskChecked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Asked { machine: MachineId, number: u32, at: Timestamp },
    TakenBack { machine: MachineId, at: Timestamp },
    Ended { machine: MachineId, number: u32, disks: Vec<DiskChecked>, at: Timestamp },
}

impl Event {
    pub(crate) fn machine(&self) -> MachineId {
        match self {
            Event::Asked { machine, .. }
            | Event::TakenBack { machine, .. }
            | Event::Ended { machine, .. } => *machine,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Asked { .. } => f.write_str("Its disks are to be checked"),
            Event::TakenBack { .. } => f.write_str("The check of its disks was cancelled"),
            Event::Ended { disks, .. } if disks.is_empty() => {
                f.write_str("Its disks were checked: there are none")
            }
            Event::Ended { disks, .. } => {
                let disks: Vec<String> = disks.iter().map(ToString::to_string).collect();
                write!(f, "Its disks were checked: {}", disks.join(". "))
            }
        }
    }
}

/// What a machine that can read its disks now is to check.
pub fn wanted_check(machine: &Machine) -> Option<u32> {
    machine.check.as_ref().filter(|check| check.ended.is_none()).map(|check| check.number)
}

pub(crate) fn ask(fleet: &Fleet, id: MachineId, on: bool, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let wanted = wanted_check(machine).is_some();
    if wanted == on {
        return Ok(Vec::new());
    }
    let event = if on {
        may_be_checked(machine)?;
        let number = machine.check.as_ref().map_or(0, |check| check.number) + 1;
        Event::Asked { machine: id, number, at: ctx.now }
    } else {
        Event::TakenBack { machine: id, at: ctx.now }
    };
    Ok(vec![crate::Event::Check(event)])
}

fn may_be_checked(machine: &Machine) -> Result<(), Refusal> {
    let name = &machine.name;
    let sentence = match (&machine.phase, &machine.system) {
        (Phase::Installed | Phase::Ready, Some(system)) => {
            format!("{name} runs {system}, which has none of our programs; check its disks from there")
        }
        (Phase::Reported | Phase::Failed { .. } | Phase::Ready, _) => return Ok(()),
        (Phase::Sighted, _) => {
            format!("{name} has not said yet what it is made of; wait until it has started from the network")
        }
        (Phase::Installed, None) => format!("{name}'s host agent has not spoken yet; wait until it is ready"),
        (Phase::Adopted { .. } | Phase::Installing { .. } | Phase::Erasing(_), _) => {
            format!("{name} is {}; wait until that is over, or cancel it", machine.phase.word())
        }
        (Phase::Retired, _) => {
            format!("{name} is retired; take it back first: eli machine unretire {name}")
        }
    };
    Err(Refusal::Conflict(sentence))
}

/// What a machine says came of it. A word about a check that is over changes nothing.
pub(crate) fn checked(
    fleet: &Fleet,
    id: MachineId,
    number: u32,
    disks: &[DiskChecked],
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if wanted_check(machine) != Some(number) {
        return Ok(Vec::new());
    }
    let ended = Event::Ended { machine: id, number, disks: disks.to_vec(), at: ctx.now };
    Ok(vec![crate::Event::Check(ended)])
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Asked { machine, number, at } => fleet.change_machine(*machine, |machine| {
            let check = Check { number: *number, asked: *at, ended: None, disks: Vec::new() };
            machine.check = Some(Box::new(check));
        }),
        Event::TakenBack { machine, at } => fleet.change_machine(*machine, |machine| {
            if let Some(check) = &mut machine.check {
                check.ended = Some(*at);
            }
        }),
        Event::Ended { machine, disks, at, .. } => fleet.change_machine(*machine, |machine| {
            if let Some(check) = &mut machine.check {
                check.ended = Some(*at);
                check.disks.clone_from(disks);
            }
        }),
    }
}
