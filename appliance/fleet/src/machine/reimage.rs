//! Installing a machine again that is installed: its system goes, and with it the VMs that are still on it.

use serde::{Deserialize, Serialize};

use super::disk::{chosen_disk, target, target_disk};
use super::removal::forget_vms;
use super::{Event, Machine, Phase, find};
use crate::host::Host;
use crate::profile::System;
use crate::{Ctx, Fleet, MachineId, Refusal, profile, vm};

/// What a machine was that is to be installed again; until that begins, it can still be that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
}

/// How a machine is to be installed; what is not said is as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reimage {
    /// Whatever is on the disk by now may be wiped. Without it, only what an installation of ours has put there.
    #[serde(default)]
    pub wipe: bool,
    /// Our own system, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// By its serial number or path; the one that its system is on, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The VMs that are still on it are forgotten.
    #[serde(default)]
    pub force: bool,
}

pub(crate) fn reimage(
    fleet: &Fleet,
    id: MachineId,
    order: &Reimage,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    may_be_reimaged(fleet, machine, order)?;
    let Some(hardware) = &machine.hardware else {
        return Err(Refusal::Conflict(format!("{} has not said yet what it is made of", machine.name)));
    };
    // What is on it by now is looked at when it has started from the network, before anything is wiped.
    let disk = match (&order.disk, &machine.disk) {
        (Some(named), _) => target(chosen_disk(hardware, named, true)?),
        (None, Some(known)) => known.clone(),
        (None, None) => target(target_disk(hardware, true)?),
    };
    let system = match &order.profile {
        Some(name) => profile::system(fleet, name, machine, ctx)?,
        None => None,
    };
    let (_, mut events) = forget_vms(fleet, machine);
    events.push(crate::Event::Machine(Event::Reimaging {
        machine: id,
        disk,
        wipe: order.wipe,
        system,
        at: ctx.now,
    }));
    Ok(events)
}

fn may_be_reimaged(fleet: &Fleet, machine: &Machine, order: &Reimage) -> Result<(), Refusal> {
    let name = &machine.name;
    let conflict = |sentence: String| Err(Refusal::Conflict(sentence));
    if machine.appliance {
        return conflict(format!(
            "the appliance runs on {name}; start that machine from the ISO to install it again"
        ));
    }
    match &machine.phase {
        Phase::Installed | Phase::Ready => {}
        Phase::Sighted | Phase::Reported | Phase::Failed { .. } => {
            return conflict(format!(
                "{name} is {} and not installed; adopt it instead",
                machine.phase.word()
            ));
        }
        Phase::Retired => {
            return conflict(format!("{name} is retired; take it back first: eli machine unretire {name}"));
        }
        Phase::Adopted { .. } | Phase::Installing { .. } | Phase::Erasing(_) => {
            return conflict(format!("{name} is {} already; cancel that first", machine.phase.word()));
        }
    }
    if machine.power.fence.as_ref().is_some_and(|fence| fence.off.is_none()) {
        return conflict(format!(
            "{name} is being fenced; wait until it is proven to be off, or cancel that"
        ));
    }
    if let Some(system) = machine.system.as_ref().filter(|_| !order.wipe) {
        return conflict(format!("{name} runs {system}, which is on its disk with all its data; wipe it?"));
    }
    let vms: Vec<&str> = vm::on_host(fleet, machine.id).map(|vm| vm.name.as_ref()).collect();
    if !vms.is_empty() && !order.force {
        return conflict(format!(
            "{name} carries {}, whose disks would go; remove that first, or reimage it by force, which forgets it",
            vms.join(", ")
        ));
    }
    Ok(())
}
