//! Installing a machine: adopted, kickstart served once, and home or failed.

use super::disk::{target, target_disk};
use super::{By, Event, Phase, find};
use crate::{Ctx, Fleet, MachineId, Refusal};

pub(crate) fn adopt(
    fleet: &Fleet,
    id: MachineId,
    wipe: bool,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    match &machine.phase {
        Phase::Reported | Phase::Failed { .. } => {}
        Phase::Sighted => {
            return Err(Refusal::Conflict(format!(
                "{} has not said yet what it is made of; wait until it has started from the network",
                machine.name
            )));
        }
        Phase::Adopted { .. } | Phase::Installing { .. } | Phase::Installed | Phase::Ready => {
            return Err(Refusal::Conflict(format!(
                "{} is {}; it is adopted already",
                machine.name,
                machine.phase.word()
            )));
        }
    }
    let Some(hardware) = &machine.hardware else {
        return Err(Refusal::Conflict(format!("{} has not said yet what it is made of", machine.name)));
    };
    let disk = target_disk(hardware, wipe)?;
    Ok(vec![crate::Event::Machine(Event::Adopted {
        machine: id,
        by: By::Person,
        disk: target(disk),
        wipe,
        at: ctx.now,
    })])
}

pub(crate) fn serve_kickstart(
    fleet: &Fleet,
    id: MachineId,
    attempt: u32,
    _ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    match &machine.phase {
        Phase::Installing { attempt: current, kickstart_served: false, .. } if *current == attempt => {
            Ok(vec![crate::Event::Machine(Event::KickstartServed { machine: id, attempt })])
        }
        Phase::Installing { attempt: current, .. } if *current == attempt => {
            Err(Refusal::Conflict(format!("the install token of {} was used already", machine.name)))
        }
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Installed
        | Phase::Ready
        | Phase::Failed { .. } => Err(Refusal::Conflict(format!(
            "this install token is for attempt {attempt} of {}, which is over",
            machine.name
        ))),
    }
}

pub(crate) fn phone_home(
    fleet: &Fleet,
    id: MachineId,
    attempt: u32,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    match &machine.phase {
        Phase::Installing { attempt: current, kickstart_served: true, .. } if *current == attempt => {
            Ok(vec![crate::Event::Machine(Event::Installed { machine: id, attempt, at: ctx.now })])
        }
        // The answer to the first call was lost on the way.
        Phase::Installed if machine.attempts == attempt => Ok(Vec::new()),
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Installed
        | Phase::Ready
        | Phase::Failed { .. } => Err(Refusal::Conflict(format!(
            "{} is {}; attempt {attempt} cannot have installed it",
            machine.name,
            machine.phase.word()
        ))),
    }
}

pub(crate) fn fail_install(
    fleet: &Fleet,
    id: MachineId,
    attempt: u32,
    step: &str,
    error: &str,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    match &machine.phase {
        Phase::Installing { attempt: current, .. } if *current == attempt => {
            Ok(vec![crate::Event::Machine(Event::InstallFailed {
                machine: id,
                attempt,
                step: step.to_owned(),
                error: error.to_owned(),
                at: ctx.now,
            })])
        }
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Installed
        | Phase::Ready
        | Phase::Failed { .. } => Ok(Vec::new()),
    }
}
