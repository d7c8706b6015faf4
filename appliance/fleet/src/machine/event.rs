//! What happens to machines, as it stands in the log, and how it changes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Before, Machine, Once, Phase, TargetDisk};
use crate::host::Host;
use crate::power::{Action, Order, Power};
use crate::profile::System;
use crate::wire::{Firmware, Hardware};
use crate::{Fleet, Mac, MachineId, NodeId, Timestamp, rack, switch};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Sighted {
        machine: MachineId,
        name: String,
        mac: Mac,
        arch: Option<u16>,
        uuid: Option<uuid::Uuid>,
        at: Timestamp,
    },
    Reported {
        machine: MachineId,
        name: String,
        key: String,
        hardware: Hardware,
        at: Timestamp,
    },
    ApplianceRecorded {
        machine: MachineId,
        name: String,
        hardware: Hardware,
        at: Timestamp,
    },
    Adopted {
        machine: MachineId,
        by: By,
        disk: TargetDisk,
        wipe: bool,
        /// What it is installed with; our own system, if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        system: Option<System>,
        at: Timestamp,
    },
    /// It is installed, and is to be again.
    Reimaging {
        machine: MachineId,
        disk: TargetDisk,
        wipe: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        system: Option<System>,
        at: Timestamp,
    },
    /// It was to be installed again and stays what it is.
    Kept {
        machine: MachineId,
        at: Timestamp,
    },
    InstallStarted {
        machine: MachineId,
        attempt: u32,
        at: Timestamp,
    },
    KickstartServed {
        machine: MachineId,
        attempt: u32,
    },
    /// The installer of another system fetched its answers, as it does at each of its starts.
    AnswersServed {
        machine: MachineId,
        attempt: u32,
        /// Which start of the installer this is.
        start: u32,
        at: Timestamp,
    },
    Installed {
        machine: MachineId,
        attempt: u32,
        at: Timestamp,
    },
    InstallFailed {
        machine: MachineId,
        attempt: u32,
        step: String,
        error: String,
        at: Timestamp,
    },
    CertificateIssued {
        machine: MachineId,
        key: String,
    },
    /// What went on with it; it is found, and held.
    Cancelled {
        machine: MachineId,
        #[serde(default)]
        leftovers: Vec<String>,
        at: Timestamp,
    },
    Late {
        machine: MachineId,
        /// What it waits for.
        what: String,
        at: Timestamp,
    },
    /// At its next start it boots this; `None`: as usual.
    OnceAsked {
        machine: MachineId,
        once: Option<Once>,
        at: Timestamp,
    },
    /// Its boot loader was given that.
    OnceBooted {
        machine: MachineId,
        once: Once,
        at: Timestamp,
    },
    /// It has left for good.
    Retired {
        machine: MachineId,
        #[serde(default)]
        leftovers: Vec<String>,
        at: Timestamp,
    },
    /// It is found again, and held.
    Unretired {
        machine: MachineId,
        at: Timestamp,
    },
    Removed {
        machine: MachineId,
        #[serde(default)]
        leftovers: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Policy,
    Person,
}

impl Event {
    pub(crate) fn machine(&self) -> MachineId {
        match self {
            Event::Sighted { machine, .. }
            | Event::Reported { machine, .. }
            | Event::ApplianceRecorded { machine, .. }
            | Event::Adopted { machine, .. }
            | Event::Reimaging { machine, .. }
            | Event::Kept { machine, .. }
            | Event::InstallStarted { machine, .. }
            | Event::KickstartServed { machine, .. }
            | Event::AnswersServed { machine, .. }
            | Event::Installed { machine, .. }
            | Event::InstallFailed { machine, .. }
            | Event::CertificateIssued { machine, .. }
            | Event::Cancelled { machine, .. }
            | Event::Late { machine, .. }
            | Event::OnceAsked { machine, .. }
            | Event::OnceBooted { machine, .. }
            | Event::Retired { machine, .. }
            | Event::Unretired { machine, .. }
            | Event::Removed { machine, .. } => *machine,
        }
    }
}

impl Event {
    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Cancelled { leftovers, .. }
            | Event::Retired { leftovers, .. }
            | Event::Removed { leftovers, .. } => leftovers,
            Event::Sighted { .. }
            | Event::Reported { .. }
            | Event::ApplianceRecorded { .. }
            | Event::Adopted { .. }
            | Event::Reimaging { .. }
            | Event::Kept { .. }
            | Event::InstallStarted { .. }
            | Event::KickstartServed { .. }
            | Event::AnswersServed { .. }
            | Event::Installed { .. }
            | Event::InstallFailed { .. }
            | Event::CertificateIssued { .. }
            | Event::OnceAsked { .. }
            | Event::OnceBooted { .. }
            | Event::Unretired { .. }
            | Event::Late { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Sighted { mac, .. } => write!(f, "Seen on the network for the first time, as {mac}"),
            Event::Reported { hardware, .. } => write!(
                f,
                "Reported: {}, {} threads, {} MiB memory, {} disks, {}",
                hardware.cpu.model,
                hardware.cpu.threads,
                hardware.memory_mib,
                hardware.disks.len(),
                match hardware.firmware {
                    Firmware::Bios => "BIOS",
                    Firmware::Uefi => "UEFI",
                    Firmware::UefiSecureBoot => "UEFI with Secure Boot",
                }
            ),
            Event::ApplianceRecorded { .. } => f.write_str("The appliance runs on this machine"),
            Event::Adopted { by, disk, wipe, system, .. } => write!(
                f,
                "Adopted {}; to be installed {}on {disk}{}",
                match by {
                    By::Policy => "by policy",
                    By::Person => "by a person",
                },
                system.as_ref().map(|system| format!("with {system} ")).unwrap_or_default(),
                if *wipe { ", whose data may be wiped" } else { "" }
            ),
            Event::Reimaging { disk, wipe, system, .. } => write!(
                f,
                "To be installed again, {}on {disk}{}",
                system.as_ref().map(|system| format!("with {system} ")).unwrap_or_default(),
                if *wipe { ", whatever is on it by now" } else { "" }
            ),
            Event::Kept { .. } => f.write_str("Not installed again: it stays what it is"),
            Event::InstallStarted { attempt: 1, .. } => f.write_str("Installation started"),
            Event::InstallStarted { attempt, .. } => {
                write!(f, "Installation started over, attempt {attempt}")
            }
            Event::KickstartServed { .. } => f.write_str("Fetched its kickstart file; the token is used up"),
            Event::AnswersServed { start: 1, .. } => f.write_str("The installer fetched its answers"),
            Event::AnswersServed { start, .. } => {
                write!(f, "The installer was started over and fetched its answers, start {start}")
            }
            Event::Installed { .. } => f.write_str("Phoned home: installed"),
            Event::InstallFailed { step, error, .. } => {
                write!(f, "Installation failed while {step}: {error}")
            }
            Event::CertificateIssued { key, .. } => {
                write!(f, "Was given a certificate for its key {}", short(key))
            }
            Event::Cancelled { .. } => f.write_str("Cancelled; it is left alone until a person adopts it"),
            Event::Late { what, .. } => write!(f, "Is late: {what}"),
            Event::OnceAsked { once: Some(once), .. } => write!(f, "At its next start it boots {once}, once"),
            Event::OnceAsked { once: None, .. } => f.write_str("At its next start it boots as usual"),
            Event::OnceBooted { once, .. } => write!(f, "Boots {once}, as it was asked to"),
            Event::Retired { .. } => f.write_str("Retired"),
            Event::Unretired { .. } => {
                f.write_str("Not retired any more; it is left alone until a person adopts it")
            }
            Event::Removed { .. } => f.write_str("Removed"),
        }
    }
}

fn short(key: &str) -> &str {
    key.get(..12).unwrap_or(key)
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Sighted { machine, name, mac, arch, uuid, at } => {
            fleet.last_machine = fleet.last_machine.max(machine.0);
            fleet.put_machine(Machine {
                macs: vec![*mac],
                arch: *arch,
                uuid: *uuid,
                ..first_seen(*machine, name, *at)
            });
        }
        Event::Reported { machine: id, name, key, hardware, at } => {
            know_hardware(fleet, *id, name, hardware, *at, |machine| {
                machine.key = Some(key.clone());
                if machine.phase == Phase::Sighted {
                    machine.phase = Phase::Reported;
                    machine.since = *at;
                    machine.late = None;
                }
            });
        }
        Event::ApplianceRecorded { machine: id, name, hardware, at } => {
            know_hardware(fleet, *id, name, hardware, *at, |machine| {
                machine.appliance = true;
                if machine.phase != Phase::Ready {
                    machine.phase = Phase::Installed;
                    machine.late = None;
                }
            });
        }
        Event::Adopted { machine, disk, wipe, system, at, .. } => {
            enter(fleet, *machine, *at, |machine| {
                machine.system = system.clone();
                machine.attempts = 0;
                machine.held = false;
                machine.disk = Some(disk.clone());
                machine.phase = Phase::Adopted { disk: disk.clone(), wipe: *wipe };
            });
        }
        Event::Reimaging { machine, disk, wipe, system, at } => {
            let host = fleet.hosts.get(machine).map(|host| Host::clone(host));
            enter(fleet, *machine, *at, |machine| {
                let was =
                    std::mem::replace(&mut machine.phase, Phase::Adopted { disk: disk.clone(), wipe: *wipe });
                let before = Before { phase: was, system: machine.system.take(), host };
                machine.before = Some(Box::new(before));
                machine.system = system.clone();
                machine.attempts = 0;
                machine.disk = Some(disk.clone());
                machine.power.fence = None;
                let restart = Order::new(Action::Netboot, *at);
                machine.power.order = machine.power.is_switchable().then_some(restart);
            });
            fleet.remove_host(*machine);
        }
        Event::Kept { machine, at } => as_before(fleet, *machine, *at),
        Event::InstallStarted { machine, attempt, at } => {
            enter(fleet, *machine, *at, |machine| {
                machine.before = None;
                // It has started from the network, which is all that was wanted of its power.
                machine.power.order = None;
                if let Phase::Adopted { disk, wipe } | Phase::Installing { disk, wipe, .. } =
                    machine.phase.clone()
                {
                    machine.attempts = *attempt;
                    machine.phase =
                        Phase::Installing { disk, wipe, attempt: *attempt, kickstart_served: false };
                }
            });
        }
        Event::KickstartServed { machine, .. } => fleet.change_machine(*machine, |machine| {
            if let Phase::Installing { kickstart_served, .. } = &mut machine.phase {
                *kickstart_served = true;
            }
        }),
        Event::AnswersServed { machine, start, at, .. } => enter(fleet, *machine, *at, |machine| {
            machine.attempts = *start;
            if let Phase::Installing { kickstart_served, .. } = &mut machine.phase {
                *kickstart_served = true;
            }
        }),
        Event::Installed { machine, at, .. } => {
            enter(fleet, *machine, *at, |machine| machine.phase = Phase::Installed);
        }
        Event::InstallFailed { machine, step, error, at, .. } => {
            enter(fleet, *machine, *at, |machine| {
                machine.before = None;
                machine.phase = Phase::Failed { step: step.clone(), error: error.clone() };
            });
        }
        Event::CertificateIssued { machine, key } => {
            fleet.change_machine(*machine, |machine| machine.key = Some(key.clone()));
        }
        Event::Cancelled { machine, at, .. } => enter(fleet, *machine, *at, |machine| {
            machine.phase = Phase::Reported;
            machine.attempts = 0;
            machine.held = true;
            machine.system = None;
            machine.before = None;
        }),
        Event::Late { machine, at, .. } => {
            fleet.change_machine(*machine, |machine| machine.late = Some(*at));
        }
        Event::OnceAsked { machine, once, .. } => {
            fleet.change_machine(*machine, |machine| machine.once = *once);
        }
        Event::OnceBooted { machine, .. } => fleet.change_machine(*machine, |machine| machine.once = None),
        Event::Retired { machine, at, .. } => {
            enter(fleet, *machine, *at, |machine| {
                machine.phase = Phase::Retired;
                machine.held = true;
                machine.attempts = 0;
                machine.once = None;
                machine.system = None;
                machine.disk = None;
                machine.before = None;
                // Nothing here answers to the certificate of its host agent any more.
                machine.key = None;
                machine.power.fence = None;
                machine.power.light = false;
                machine.check = None;
                let off = Order::new(Action::Off, *at);
                machine.power.order = machine.power.is_switchable().then_some(off);
            });
            fleet.remove_host(*machine);
        }
        Event::Unretired { machine, at } => enter(fleet, *machine, *at, |machine| {
            let known = machine.hardware.is_some();
            machine.phase = if known { Phase::Reported } else { Phase::Sighted };
        }),
        Event::Removed { machine, .. } => remove(fleet, *machine),
    }
}

/// What was to become of it does not; it is what it was.
pub(super) fn as_before(fleet: &mut Fleet, id: MachineId, at: Timestamp) {
    let before = fleet.machines.get(&id).and_then(|machine| machine.before.clone());
    let Some(before) = before else { return };
    let Before { phase, system, host } = *before;
    enter(fleet, id, at, |machine| {
        machine.phase = phase;
        machine.system = system;
        machine.before = None;
    });
    if let Some(host) = host {
        fleet.put_host(host);
    }
}

fn remove(fleet: &mut Fleet, id: MachineId) {
    let macs = fleet.machines.get(&id).map(|machine| machine.macs.clone());
    for mac in macs.into_iter().flatten() {
        switch::take_out(fleet, mac);
    }
    rack::take_out(fleet, &rack::Occupant::Machine(id));
    fleet.remove_machine(id);
}

pub(crate) fn enter(fleet: &mut Fleet, id: MachineId, at: Timestamp, change: impl FnOnce(&mut Machine)) {
    fleet.change_machine(id, |machine| {
        machine.since = at;
        machine.late = None;
        change(machine);
    });
}

fn first_seen(id: MachineId, name: &str, at: Timestamp) -> Machine {
    Machine {
        id,
        name: name.into(),
        macs: Vec::new(),
        arch: None,
        uuid: None,
        key: None,
        hardware: None,
        phase: Phase::Sighted,
        since: at,
        attempts: 0,
        appliance: false,
        held: false,
        late: None,
        once: None,
        system: None,
        disk: None,
        before: None,
        power: Power::default(),
        check: None,
    }
}

/// Changes the machine with this hardware, which is made if it is new. A NIC of it that was taken for a machine
/// of its own (it had asked for an address before the machine said that both are its) is folded in.
fn know_hardware(
    fleet: &mut Fleet,
    id: MachineId,
    name: &str,
    hardware: &Hardware,
    at: Timestamp,
    change: impl FnOnce(&mut Machine),
) {
    let macs: Vec<Mac> = hardware.nics.iter().map(|nic| nic.mac).collect();
    let nodes: Vec<NodeId> = macs.iter().flat_map(|mac| fleet.index.nodes_by_mac(*mac)).collect();
    for node in nodes {
        if let NodeId::Machine(other) = node
            && let Some(machine) = fleet.machines.get(&other)
            && machine.id != id
            && machine.phase == Phase::Sighted
            && machine.macs.iter().all(|mac| macs.contains(mac))
        {
            rack::fold(fleet, other, id);
            fleet.remove_machine(other);
        }
    }
    fleet.last_machine = fleet.last_machine.max(id.0);
    if !fleet.machines.contains_key(&id) {
        fleet.put_machine(first_seen(id, name, at));
    }
    fleet.change_machine(id, |machine| {
        for mac in macs.into_iter().chain([hardware.boot_mac]) {
            if !machine.macs.contains(&mac) {
                machine.macs.push(mac);
            }
        }
        machine.uuid = hardware.uuid.or(machine.uuid);
        machine.hardware = Some(hardware.clone());
        change(machine);
    });
}
