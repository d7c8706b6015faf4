//! Installing a machine: adopted, kickstart or answers served, and home or failed.

use super::disk::{chosen_disk, target, target_disk};
use super::report::MAX_ATTEMPTS;
use super::{By, Event, Machine, Phase, find};
use crate::{Ctx, Fleet, MachineId, Refusal, profile};

/// Whether the installer has fetched its kickstart file or its answers.
#[derive(PartialEq)]
struct Served(bool);

impl Machine {
    /// None if it is not this attempt that is going on.
    fn installing(&self, attempt: u32) -> Option<Served> {
        match self.phase {
            Phase::Installing { attempt: current, kickstart_served, .. } if current == attempt => {
                Some(Served(kickstart_served))
            }
            Phase::Sighted
            | Phase::Reported
            | Phase::Adopted { .. }
            | Phase::Installing { .. }
            | Phase::Installed
            | Phase::Ready
            | Phase::Failed { .. }
            | Phase::Erasing(_)
            | Phase::Retired => None,
        }
    }
}

pub(crate) fn adopt(
    fleet: &Fleet,
    id: MachineId,
    wipe: bool,
    profile: Option<&str>,
    disk: Option<&str>,
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
        Phase::Erasing(_) => {
            return Err(Refusal::Conflict(format!("{} is being erased; cancel that first", machine.name)));
        }
        Phase::Retired => {
            return Err(Refusal::Conflict(format!(
                "{} is retired; take it back first: eli machine unretire {}",
                machine.name, machine.name
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
    let disk = match disk {
        Some(named) => chosen_disk(hardware, named, wipe)?,
        None => target_disk(hardware, wipe)?,
    };
    let system = profile.map(|name| profile::system(fleet, name, machine, ctx)).transpose()?.flatten();
    Ok(vec![crate::Event::Machine(Event::Adopted {
        machine: id,
        by: By::Person,
        disk: target(disk),
        wipe,
        system,
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
    match machine.installing(attempt) {
        Some(Served(false)) => {
            Ok(vec![crate::Event::Machine(Event::KickstartServed { machine: id, attempt })])
        }
        Some(Served(true)) => {
            Err(Refusal::Conflict(format!("the install token of {} was used already", machine.name)))
        }
        None => Err(Refusal::Conflict(format!(
            "this install token is for attempt {attempt} of {}, which is over",
            machine.name
        ))),
    }
}

/// Anaconda and cloud-init fetch their answers several times at each start.
const SAME_START_SECS: u64 = 120;

/// An installer may fetch its answers as often as it needs them while it installs. One that is started over again and
/// again, because it never says that it is done, is stopped.
pub(crate) fn serve_answers(
    fleet: &Fleet,
    id: MachineId,
    attempt: u32,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let Some(Served(served)) = machine.installing(attempt).filter(|_| machine.system.is_some()) else {
        return Err(Refusal::Conflict(format!(
            "the installation of {} that these answers were for is over",
            machine.name
        )));
    };
    if served && ctx.now.secs_since(machine.since) <= SAME_START_SECS {
        return Ok(Vec::new());
    }
    let start = if served { machine.attempts + 1 } else { machine.attempts.max(1) };
    let event = if start > MAX_ATTEMPTS {
        Event::InstallFailed {
            machine: id,
            attempt,
            step: "installing".to_owned(),
            error: format!(
                "its installer was started {MAX_ATTEMPTS} times and never said that it is done; does it fetch .../done?"
            ),
            at: ctx.now,
        }
    } else {
        Event::AnswersServed { machine: id, attempt, start, at: ctx.now }
    };
    Ok(vec![crate::Event::Machine(event)])
}

pub(crate) fn phone_home(
    fleet: &Fleet,
    id: MachineId,
    attempt: u32,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.installing(attempt) == Some(Served(true)) {
        return Ok(vec![crate::Event::Machine(Event::Installed { machine: id, attempt, at: ctx.now })]);
    }
    // The answer to the first call was lost on the way.
    if machine.phase == Phase::Installed && (machine.attempts == attempt || machine.system.is_some()) {
        return Ok(Vec::new());
    }
    Err(Refusal::Conflict(format!(
        "{} is {}; attempt {attempt} cannot have installed it",
        machine.name,
        machine.phase.word()
    )))
}

pub(crate) fn fail_install(
    fleet: &Fleet,
    id: MachineId,
    attempt: u32,
    step: &str,
    error: &str,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    if find(fleet, id)?.installing(attempt).is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Machine(Event::InstallFailed {
        machine: id,
        attempt,
        step: step.to_owned(),
        error: error.to_owned(),
        at: ctx.now,
    })])
}
