//! A machine that leaves for good is remembered: it is not taken up again by itself when it is switched on once more.

use super::{Event, Machine, Phase, find};
use crate::{Ctx, Fleet, MachineId, Refusal, lease, vm};

pub(crate) fn retire(fleet: &Fleet, id: MachineId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.phase == Phase::Retired {
        return Ok(Vec::new());
    }
    may_leave(fleet, machine)?;
    let released = machine.macs.iter().filter(|mac| fleet.leases.address(**mac).is_some());
    let released =
        released.map(|mac| crate::Event::Lease(lease::Event::Released { mac: *mac, address: None }));
    let leftovers = leftovers(machine);
    let retired = crate::Event::Machine(Event::Retired { machine: id, leftovers, at: ctx.now });
    Ok(released.chain([retired]).collect())
}

pub(super) fn may_leave(fleet: &Fleet, machine: &Machine) -> Result<(), Refusal> {
    let name = &machine.name;
    let conflict = |sentence: String| Err(Refusal::Conflict(sentence));
    if machine.appliance {
        return conflict(format!("the appliance runs on {name}; a site cannot do without it"));
    }
    match &machine.phase {
        Phase::Sighted
        | Phase::Reported
        | Phase::Failed { .. }
        | Phase::Installed
        | Phase::Ready
        | Phase::Retired => {}
        Phase::Adopted { .. } | Phase::Installing { .. } | Phase::Erasing(_) => {
            return conflict(format!("{name} is {}; cancel that first", machine.phase.word()));
        }
    }
    if machine.power.fence.as_ref().is_some_and(|fence| fence.off.is_none()) {
        return conflict(format!(
            "{name} is being fenced; wait until it is proven to be off, or cancel that"
        ));
    }
    let vms: Vec<&str> = vm::on_host(fleet, machine.id).map(|vm| vm.name.as_ref()).collect();
    if !vms.is_empty() {
        return conflict(format!("{name} carries {}; drain it and remove that first", vms.join(", ")));
    }
    Ok(())
}

fn leftovers(machine: &Machine) -> Vec<String> {
    let name = &machine.name;
    let mut leftovers = Vec::new();
    match &machine.phase {
        Phase::Installed | Phase::Ready | Phase::Failed { .. } => {
            leftovers.push(format!("{name}'s disks are not erased"));
        }
        Phase::Reported if machine.hardware.as_ref().is_some_and(super::disk::holds_data) => {
            leftovers.push(format!("{name}'s disks are not erased"));
        }
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Erasing(_)
        | Phase::Retired => {}
    }
    if !machine.power.is_switchable() {
        leftovers.push(format!("no BMC of {name} is known: switch it off by hand"));
    }
    leftovers
}

/// It is found, and held until a person adopts it.
pub(crate) fn unretire(fleet: &Fleet, id: MachineId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    match machine.phase {
        Phase::Retired => Ok(vec![crate::Event::Machine(Event::Unretired { machine: id, at: ctx.now })]),
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Installed
        | Phase::Ready
        | Phase::Failed { .. }
        | Phase::Erasing(_) => {
            Err(Refusal::Conflict(format!("{} is {} and not retired", machine.name, machine.phase.word())))
        }
    }
}
