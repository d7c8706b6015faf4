//! Machines say what they are: from the first packet to the decision what becomes of them.

use std::sync::Arc;

use super::disk::{Expected, still_there, target, target_disk};
use super::{By, Event, Machine, Phase, by_mac, by_name, erase};
use crate::wire::Hardware;
use crate::{Ctx, Fleet, Mac, MachineId, Refusal, lease, site};

/// After so many installations that were begun and never ended, a person is asked to look.
pub const MAX_ATTEMPTS: u32 = 5;

pub(crate) fn sighted(
    fleet: &Fleet,
    mac: Mac,
    arch: Option<u16>,
    uuid: Option<uuid::Uuid>,
    ctx: Ctx,
) -> crate::Event {
    let machine = MachineId(fleet.last_machine + 1);
    let name = free_name(fleet, machine.0);
    crate::Event::Machine(Event::Sighted { machine, name, mac, arch, uuid, at: ctx.now })
}

pub(crate) fn report(
    fleet: &Fleet,
    key: &str,
    hardware: &Hardware,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let mut fleet = fleet.clone();
    let mut events = Vec::new();
    let mut happen = |fleet: &mut Fleet, event: crate::Event| {
        crate::evolve(fleet, &event);
        events.push(event);
    };

    // In another subnet than the site's own it got its address before it could report; where another DHCP server gives
    // the addresses, they are learnt.
    let foreign = fleet.site.as_ref().is_some_and(|site| site.foreign);
    if !foreign && fleet.leases.address(hardware.boot_mac).is_none() {
        for event in lease::assign(&fleet, hardware.boot_mac, None, ctx)? {
            happen(&mut fleet, event);
        }
    }
    let known = recognise(&fleet, hardware).cloned();
    if let Some(machine) = &known
        && matches!(machine.phase, Phase::Installed | Phase::Ready)
    {
        return Err(Refusal::Conflict(format!(
            "{} is installed already; reimage it if it is to be installed again",
            machine.name
        )));
    }
    // Nothing of it is taken up; a person takes it back first.
    if known.as_ref().is_some_and(|machine| machine.phase == Phase::Retired) {
        return Ok(events);
    }
    let id = known.as_ref().map_or(MachineId(fleet.last_machine + 1), |machine| machine.id);
    let same = known.as_ref().is_some_and(|machine| {
        machine.key.as_deref() == Some(key) && machine.hardware.as_ref() == Some(hardware)
    });
    if !same {
        let name = known.as_ref().map_or_else(|| free_name(&fleet, id.0), |machine| machine.name.to_string());
        let reported = Event::Reported {
            machine: id,
            name,
            key: key.to_owned(),
            hardware: hardware.clone(),
            at: ctx.now,
        };
        happen(&mut fleet, crate::Event::Machine(reported));
    }

    let free = |machine: &Arc<Machine>| machine.phase == Phase::Reported && !machine.held;
    if fleet.machines.get(&id).is_some_and(free)
        && fleet.policy.adopt == site::Adopt::Blank
        && let Ok(disk) = target_disk(hardware, false)
    {
        let adopted = Event::Adopted {
            machine: id,
            by: By::Policy,
            disk: target(disk),
            wipe: false,
            system: None,
            at: ctx.now,
        };
        happen(&mut fleet, crate::Event::Machine(adopted));
    }

    let Some(machine) = fleet.machines.get(&id).cloned() else { return Ok(events) };
    let attempts = machine.attempts;
    match &machine.phase {
        // Told to restart into the installer, it has not done so yet.
        Phase::Installing { .. } if machine.system.is_some() => {}
        // Reporting while installing means that it was restarted in the middle.
        Phase::Adopted { .. } | Phase::Installing { .. } if attempts >= MAX_ATTEMPTS => {
            let failed = Event::InstallFailed {
                machine: id,
                attempt: attempts,
                step: "installing".to_owned(),
                error: format!("it was begun {attempts} times and never ended; does the machine lose power?"),
                at: ctx.now,
            };
            happen(&mut fleet, crate::Event::Machine(failed));
        }
        Phase::Adopted { disk, wipe } | Phase::Installing { disk, wipe, .. }
            if still_there(hardware, disk, Expected::on(&machine, *wipe)) =>
        {
            let started = Event::InstallStarted { machine: id, attempt: attempts + 1, at: ctx.now };
            happen(&mut fleet, crate::Event::Machine(started));
        }
        Phase::Adopted { disk, .. } | Phase::Installing { disk, .. } => {
            let failed = Event::InstallFailed {
                machine: id,
                attempt: attempts,
                step: "looking for the chosen disk".to_owned(),
                error: format!("{disk} is not there any more, or holds data now"),
                at: ctx.now,
            };
            happen(&mut fleet, crate::Event::Machine(failed));
        }
        Phase::Erasing(_) => {
            for event in erase::next(&machine, hardware, key, ctx) {
                happen(&mut fleet, crate::Event::Erase(event));
            }
        }
        Phase::Sighted
        | Phase::Reported
        | Phase::Installed
        | Phase::Ready
        | Phase::Failed { .. }
        | Phase::Retired => {}
    }
    Ok(events)
}

pub(crate) fn record_appliance(
    fleet: &Fleet,
    hardware: &Hardware,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let known = recognise(fleet, hardware);
    if known.is_some_and(|machine| machine.appliance && machine.hardware.as_ref() == Some(hardware)) {
        return Ok(Vec::new());
    }
    let machine = known.map_or(MachineId(fleet.last_machine + 1), |machine| machine.id);
    let name = known.map_or_else(|| free_name(fleet, machine.0), |machine| machine.name.to_string());
    let recorded = Event::ApplianceRecorded { machine, name, hardware: hardware.clone(), at: ctx.now };
    Ok(vec![crate::Event::Machine(recorded)])
}

/// The machine that this hardware is. Any MAC address of it is enough: UUIDs and serials are not unique in
/// the field, MAC addresses nearly are, and they are what the netboot answers are given by.
fn recognise<'a>(fleet: &'a Fleet, hardware: &Hardware) -> Option<&'a Machine> {
    by_mac(fleet, hardware.boot_mac).or_else(|| hardware.nics.iter().find_map(|nic| by_mac(fleet, nic.mac)))
}

fn free_name(fleet: &Fleet, wanted: u64) -> String {
    (wanted..)
        .map(|number| format!("host-{number}"))
        .find(|name| by_name(fleet, name).is_none())
        .unwrap_or_else(|| format!("host-{wanted}"))
}
