//! Cancelling what goes on with a machine, and forgetting a machine with all that is left over said.

use super::{Event, Machine, Phase, erase, find};
use crate::{Ctx, Fleet, MachineId, Refusal, host, lease, power, service, vm};

pub(crate) fn cancel(fleet: &Fleet, id: MachineId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let power = power::cancel(machine, ctx);
    let leftovers = match &machine.phase {
        // Until it has begun, it is what it was.
        Phase::Adopted { .. } if machine.before.is_some() => {
            let kept = crate::Event::Machine(Event::Kept { machine: id, at: ctx.now });
            return Ok(power.into_iter().chain([kept]).collect());
        }
        Phase::Adopted { .. } => Vec::new(),
        Phase::Erasing(erasing) => {
            let event = erase::cancel(machine, erasing, ctx)?;
            return Ok(power.into_iter().chain([event]).collect());
        }
        Phase::Installing { disk, .. } => vec![
            format!("an installation that is under way on {} ends by itself and is not taken", machine.name),
            format!("what it wrote stays on {disk}"),
        ],
        Phase::Sighted
        | Phase::Reported
        | Phase::Installed
        | Phase::Ready
        | Phase::Failed { .. }
        | Phase::Retired
            if power.is_some() =>
        {
            return Ok(power.into_iter().collect());
        }
        Phase::Ready if fleet.hosts.get(&id).is_some_and(|host| host.draining_since.is_some()) => {
            return host::undrain(fleet, id, ctx);
        }
        Phase::Sighted
        | Phase::Reported
        | Phase::Installed
        | Phase::Ready
        | Phase::Failed { .. }
        | Phase::Retired => {
            return Err(Refusal::Conflict(format!(
                "{} is {}; nothing goes on with it that could be cancelled",
                machine.name,
                machine.phase.word()
            )));
        }
    };
    let cancelled = crate::Event::Machine(Event::Cancelled { machine: id, leftovers, at: ctx.now });
    Ok(power.into_iter().chain([cancelled]).collect())
}

/// By force, the VMs on it are forgotten with it, and services that had no other node.
pub(crate) fn remove(fleet: &Fleet, id: MachineId, force: bool) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if !force {
        nothing_in_the_way(fleet, machine)?;
    }
    let (after, mut events) = forget_vms(fleet, machine);
    // It may have claimed the MAC address of a VM that runs elsewhere.
    let released = machine
        .macs
        .iter()
        .filter(|mac| after.leases.address(**mac).is_some() && vm::by_mac(&after, **mac).is_none());
    events
        .extend(released.map(|mac| crate::Event::Lease(lease::Event::Released { mac: *mac, address: None })));
    events.push(crate::Event::Machine(Event::Removed { machine: id, leftovers: leftovers(machine) }));
    Ok(events)
}

/// The VMs on a machine go, and the services that had no other node; and the fleet without them.
pub(super) fn forget_vms(fleet: &Fleet, machine: &Machine) -> (Fleet, Vec<crate::Event>) {
    let mut after = fleet.clone();
    let mut events = Vec::new();
    let vms: Vec<_> = vm::on_host(fleet, machine.id).collect();
    for vm in vms {
        let mut leftovers =
            vec![format!("volume {} of VM {} stays on {}'s disk", vm.volume_name(), vm.name, machine.name)];
        leftovers.extend(fleet.leases.address(vm.mac).map(|address| {
            format!(
                "if {} still runs it, it still uses {address}, which is free for others now",
                machine.name
            )
        }));
        for event in vm::forgotten(&after, vm, leftovers) {
            crate::evolve(&mut after, &event);
            events.push(event);
        }
        for event in service::without_nodes(&after, vm.id) {
            crate::evolve(&mut after, &event);
            events.push(event);
        }
    }
    (after, events)
}

fn nothing_in_the_way(fleet: &Fleet, machine: &Machine) -> Result<(), Refusal> {
    if machine.appliance {
        return Err(Refusal::Conflict(format!(
            "{} is the machine that this appliance runs on; removing it by force forgets it all the same",
            machine.name
        )));
    }
    let vms: Vec<&str> = vm::on_host(fleet, machine.id).map(|vm| vm.name.as_ref()).collect();
    if !vms.is_empty() {
        return Err(Refusal::Conflict(format!(
            "{} carries {}; remove that first, or remove {} by force, which forgets it too",
            machine.name,
            vms.join(", "),
            machine.name
        )));
    }
    Ok(())
}

fn leftovers(machine: &Machine) -> Vec<String> {
    let name = &machine.name;
    let mut leftovers = match &machine.phase {
        Phase::Sighted | Phase::Reported | Phase::Adopted { .. } | Phase::Retired => Vec::new(),
        Phase::Erasing(erasing) => match erasing.current() {
            Some(current) => {
                vec![format!("{} goes on being erased until {name} is switched off", current.disk)]
            }
            None => Vec::new(),
        },
        Phase::Installing { disk, .. } => vec![
            format!("an installation that is under way on {name} ends by itself and is not taken"),
            format!("what it wrote stays on {disk}"),
        ],
        Phase::Failed { .. } => vec![format!("what its installation wrote stays on {name}'s disk")],
        Phase::Installed if machine.system.is_some() => vec![format!("{name}'s system stays on its disk")],
        Phase::Installed | Phase::Ready => vec![
            format!("{name}'s system stays on its disk"),
            format!("{name}'s certificate is good until 2060-01-01; nothing here answers to it any more"),
        ],
    };
    if machine.appliance {
        leftovers.push(format!("the appliance goes on running on {name} and records it at its next start"));
    }
    leftovers
}

/// The phase lasts longer than it should: said once.
pub(crate) fn record_late(
    fleet: &Fleet,
    id: MachineId,
    what: &str,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let draining = fleet.hosts.get(&id).is_some_and(|host| host.draining_since.is_some());
    let passes = machine.limit_secs().is_some() || draining || power::wanted(machine).is_some();
    if machine.late.is_some() || !passes {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Machine(Event::Late { machine: id, what: what.to_owned(), at: ctx.now })])
}
