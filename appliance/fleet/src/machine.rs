//! Machines: computers known by their hardware, from the first packet to a running host.
//!
//! ```text
//!            ┌────────────── restarted in the middle: next attempt ─────────────┐
//!            ▼                                                                  │
//! Sighted ──report──▶ Reported ──adopt──▶ Adopted ──report──▶ Installing ──phone home──▶ Installed ──host agent──▶ Ready
//!                                            ▲                    │ failed, or 5 attempts
//!                                            └──────adopt──── Failed
//! ```

mod disk;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::{Firmware, Hardware};
use crate::{Ctx, Fleet, Mac, MachineId, Refusal, Timestamp, lease, rack, site, switch};

pub use disk::{MIN_DISK_BYTES, TargetDisk, contents, target_disk};
use disk::{holds_data, still_there, target};

/// After so many installations that were begun and never ended, a person is asked to look.
pub const MAX_ATTEMPTS: u32 = 5;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub id: MachineId,
    /// Also its host name.
    pub name: String,
    pub macs: Vec<Mac>,
    /// DHCP option 93 of its firmware (RFC 4578): 0 BIOS, 7 and 9 UEFI x86-64.
    pub arch: Option<u16>,
    pub uuid: Option<uuid::Uuid>,
    /// SHA-256 of the public key it speaks with, hex.
    pub key: Option<String>,
    pub hardware: Option<Hardware>,
    pub phase: Phase,
    /// When it came into this phase.
    pub since: Timestamp,
    pub attempts: u32,
    /// The appliance runs on it.
    pub appliance: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Asked for an address.
    Sighted,
    /// Said what it is; nobody wants it yet.
    Reported,
    /// Is to be installed on `disk`.
    Adopted {
        disk: TargetDisk,
        wipe: bool,
    },
    Installing {
        disk: TargetDisk,
        wipe: bool,
        attempt: u32,
        kickstart_served: bool,
    },
    /// Phoned home; starts from its own disk.
    Installed,
    /// Its host agent has spoken.
    Ready,
    Failed {
        step: String,
        error: String,
    },
}

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
    Removed {
        machine: MachineId,
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
            | Event::InstallStarted { machine, .. }
            | Event::KickstartServed { machine, .. }
            | Event::Installed { machine, .. }
            | Event::InstallFailed { machine, .. }
            | Event::CertificateIssued { machine, .. }
            | Event::Removed { machine } => *machine,
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
            Event::Adopted { by, disk, wipe, .. } => write!(
                f,
                "Adopted {}; to be installed on {disk}{}",
                match by {
                    By::Policy => "by policy",
                    By::Person => "by a person",
                },
                if *wipe { ", whose data may be wiped" } else { "" }
            ),
            Event::InstallStarted { attempt: 1, .. } => f.write_str("Installation started"),
            Event::InstallStarted { attempt, .. } => {
                write!(f, "Installation started over, attempt {attempt}")
            }
            Event::KickstartServed { .. } => f.write_str("Fetched its kickstart file; the token is used up"),
            Event::Installed { .. } => f.write_str("Phoned home: installed"),
            Event::InstallFailed { step, error, .. } => {
                write!(f, "Installation failed while {step}: {error}")
            }
            Event::CertificateIssued { key, .. } => {
                write!(f, "Was given a certificate for its key {}", short(key))
            }
            Event::Removed { .. } => f.write_str("Removed"),
        }
    }
}

/// What the netboot answers give a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// Kernel and initrd that report and install.
    Discover,
    /// Its own disk.
    Disk,
}

/// What the client with this MAC address boots now. Everything that is not known to need us boots its own disk.
pub fn boot(fleet: &Fleet, mac: Mac) -> Boot {
    if fleet.vms.values().any(|vm| vm.mac == mac) {
        return Boot::Disk;
    }
    let Some(machine) = by_mac(fleet, mac) else { return Boot::Discover };
    match &machine.phase {
        // Somebody's computer, which happens to start from the network first, keeps starting its own system.
        Phase::Reported if machine.hardware.as_ref().is_some_and(holds_data) => Boot::Disk,
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Failed { .. } => Boot::Discover,
        Phase::Installed | Phase::Ready => Boot::Disk,
    }
}

pub fn by_mac(fleet: &Fleet, mac: Mac) -> Option<&Machine> {
    fleet.machines.values().find(|machine| machine.macs.contains(&mac))
}

pub fn by_key<'a>(fleet: &'a Fleet, key: &str) -> Option<&'a Machine> {
    fleet.machines.values().find(|machine| machine.key.as_deref() == Some(key))
}

fn short(key: &str) -> &str {
    key.get(..12).unwrap_or(key)
}

fn free_name(fleet: &Fleet, wanted: u64) -> String {
    let taken = |name: &str| fleet.machines.values().any(|machine| machine.name == name);
    (wanted..)
        .map(|number| format!("host-{number}"))
        .find(|name| !taken(name))
        .unwrap_or_else(|| format!("host-{wanted}"))
}

/// The machine that this hardware is. Any MAC address of it is enough: UUIDs and serials are not unique in
/// the field, MAC addresses nearly are, and they are what the netboot answers are given by.
fn recognise<'a>(fleet: &'a Fleet, hardware: &Hardware) -> Option<&'a Machine> {
    by_mac(fleet, hardware.boot_mac).or_else(|| hardware.nics.iter().find_map(|nic| by_mac(fleet, nic.mac)))
}

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

    for event in lease::assign(&fleet, hardware.boot_mac)? {
        happen(&mut fleet, event);
    }
    let known = recognise(&fleet, hardware).cloned();
    if let Some(machine) = &known
        && matches!(machine.phase, Phase::Installed | Phase::Ready)
    {
        return Err(Refusal::Conflict(format!(
            "{} is installed already; remove it first if it is to be installed again",
            machine.name
        )));
    }
    let id = known.as_ref().map_or(MachineId(fleet.last_machine + 1), |machine| machine.id);
    let same = known.as_ref().is_some_and(|machine| {
        machine.key.as_deref() == Some(key) && machine.hardware.as_ref() == Some(hardware)
    });
    if !same {
        let name = known.as_ref().map_or_else(|| free_name(&fleet, id.0), |machine| machine.name.clone());
        let reported = Event::Reported {
            machine: id,
            name,
            key: key.to_owned(),
            hardware: hardware.clone(),
            at: ctx.now,
        };
        happen(&mut fleet, crate::Event::Machine(reported));
    }

    let phase = fleet.machines.get(&id).map(|machine| machine.phase.clone());
    if phase == Some(Phase::Reported)
        && fleet.policy.adopt == site::Adopt::Blank
        && let Ok(disk) = target_disk(hardware, false)
    {
        let adopted =
            Event::Adopted { machine: id, by: By::Policy, disk: target(disk), wipe: false, at: ctx.now };
        happen(&mut fleet, crate::Event::Machine(adopted));
    }

    let attempts = fleet.machines.get(&id).map_or(0, |machine| machine.attempts);
    match fleet.machines.get(&id).map(|machine| &machine.phase) {
        // Reporting while installing means that it was restarted in the middle.
        Some(Phase::Adopted { .. } | Phase::Installing { .. }) if attempts >= MAX_ATTEMPTS => {
            let failed = Event::InstallFailed {
                machine: id,
                attempt: attempts,
                step: "installing".to_owned(),
                error: format!("it was begun {attempts} times and never ended; does the machine lose power?"),
                at: ctx.now,
            };
            happen(&mut fleet, crate::Event::Machine(failed));
        }
        Some(Phase::Adopted { disk, wipe } | Phase::Installing { disk, wipe, .. })
            if still_there(hardware, disk, *wipe || attempts > 0) =>
        {
            let started = Event::InstallStarted { machine: id, attempt: attempts + 1, at: ctx.now };
            happen(&mut fleet, crate::Event::Machine(started));
        }
        Some(Phase::Adopted { disk, .. } | Phase::Installing { disk, .. }) => {
            let failed = Event::InstallFailed {
                machine: id,
                attempt: attempts,
                step: "looking for the chosen disk".to_owned(),
                error: format!("{disk} is not there any more, or holds data now"),
                at: ctx.now,
            };
            happen(&mut fleet, crate::Event::Machine(failed));
        }
        Some(Phase::Sighted | Phase::Reported | Phase::Installed | Phase::Ready | Phase::Failed { .. })
        | None => {}
    }
    Ok(events)
}

fn find(fleet: &Fleet, id: MachineId) -> Result<&Machine, Refusal> {
    fleet.machines.get(&id).ok_or_else(|| Refusal::Missing { what: "machine", name: id.to_string() })
}

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

pub(crate) fn remove(fleet: &Fleet, id: MachineId) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.appliance {
        return Err(Refusal::Conflict(format!(
            "{} is the machine that this appliance runs on",
            machine.name
        )));
    }
    let vms: Vec<&str> = fleet.vms.values().filter(|vm| vm.host == id).map(|vm| vm.name.as_str()).collect();
    if !vms.is_empty() {
        return Err(Refusal::Conflict(format!(
            "{} carries {}; remove or move that first",
            machine.name,
            vms.join(", ")
        )));
    }
    let released = machine
        .macs
        .iter()
        .filter(|mac| fleet.leases.by_mac.contains_key(*mac))
        .map(|mac| crate::Event::Lease(lease::Event::Released { mac: *mac }));
    let removed = crate::Event::Machine(Event::Removed { machine: id });
    Ok(released.chain([removed]).collect())
}

pub(crate) fn enroll(
    fleet: &Fleet,
    id: MachineId,
    key: &str,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let mut events = Vec::new();
    match &machine.phase {
        Phase::Installed | Phase::Ready => {}
        // Only the system on its disk asks for a certificate, and only after all else was written there does the disk
        // start: the call home was not heard, and the firmware went on to the disk because nobody answered it.
        Phase::Installing { attempt, kickstart_served: true, .. } if machine.key.as_deref() == Some(key) => {
            events.push(Event::Installed { machine: id, attempt: *attempt, at: ctx.now });
        }
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Failed { .. } => {
            return Err(Refusal::Conflict(format!(
                "{} is {}; only an installed machine gets a certificate",
                machine.name,
                machine.phase.word()
            )));
        }
    }
    // The appliance's own host agent keeps its key beside the appliance's and may have lost it with a data disk.
    if machine.key.as_deref().is_some_and(|known| known != key) && !machine.appliance {
        return Err(Refusal::Conflict(format!("{} is known by another key", machine.name)));
    }
    events.push(Event::CertificateIssued { machine: id, key: key.to_owned() });
    Ok(events.into_iter().map(crate::Event::Machine).collect())
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
    let name = known.map_or_else(|| free_name(fleet, machine.0), |machine| machine.name.clone());
    let recorded = Event::ApplianceRecorded { machine, name, hardware: hardware.clone(), at: ctx.now };
    Ok(vec![crate::Event::Machine(recorded)])
}

impl Phase {
    /// The phase as an adjective of a sentence and as the word on the page.
    pub fn word(&self) -> &'static str {
        match self {
            Phase::Sighted => "sighted",
            Phase::Reported => "found",
            Phase::Adopted { .. } => "adopted",
            Phase::Installing { .. } => "installing",
            Phase::Installed => "installed",
            Phase::Ready => "ready",
            Phase::Failed { .. } => "failed",
        }
    }
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Sighted { machine, name, mac, arch, uuid, at } => {
            fleet.last_machine = fleet.last_machine.max(machine.0);
            let sighted = Machine {
                id: *machine,
                name: name.clone(),
                macs: vec![*mac],
                arch: *arch,
                uuid: *uuid,
                key: None,
                hardware: None,
                phase: Phase::Sighted,
                since: *at,
                attempts: 0,
                appliance: false,
            };
            fleet.machines.insert(*machine, sighted);
        }
        Event::Reported { machine: id, name, key, hardware, at } => {
            let machine = with_hardware(fleet, *id, name, hardware, *at);
            machine.key = Some(key.clone());
            if machine.phase == Phase::Sighted {
                machine.phase = Phase::Reported;
                machine.since = *at;
            }
        }
        Event::ApplianceRecorded { machine: id, name, hardware, at } => {
            let machine = with_hardware(fleet, *id, name, hardware, *at);
            machine.appliance = true;
            if machine.phase != Phase::Ready {
                machine.phase = Phase::Installed;
            }
        }
        Event::Adopted { machine, disk, wipe, at, .. } => {
            enter(fleet, *machine, *at, |machine| {
                machine.attempts = 0;
                machine.phase = Phase::Adopted { disk: disk.clone(), wipe: *wipe };
            });
        }
        Event::InstallStarted { machine, attempt, at } => {
            enter(fleet, *machine, *at, |machine| {
                if let Phase::Adopted { disk, wipe } | Phase::Installing { disk, wipe, .. } =
                    machine.phase.clone()
                {
                    machine.attempts = *attempt;
                    machine.phase =
                        Phase::Installing { disk, wipe, attempt: *attempt, kickstart_served: false };
                }
            });
        }
        Event::KickstartServed { machine, .. } => {
            if let Some(machine) = fleet.machines.get_mut(machine)
                && let Phase::Installing { kickstart_served, .. } = &mut machine.phase
            {
                *kickstart_served = true;
            }
        }
        Event::Installed { machine, at, .. } => {
            enter(fleet, *machine, *at, |machine| machine.phase = Phase::Installed);
        }
        Event::InstallFailed { machine, step, error, at, .. } => {
            enter(fleet, *machine, *at, |machine| {
                machine.phase = Phase::Failed { step: step.clone(), error: error.clone() };
            });
        }
        Event::CertificateIssued { machine, key } => {
            if let Some(machine) = fleet.machines.get_mut(machine) {
                machine.key = Some(key.clone());
            }
        }
        Event::Removed { machine: id } => {
            for mac in fleet.machines.get(id).map(|machine| machine.macs.clone()).unwrap_or_default() {
                switch::take_out(fleet, mac);
            }
            rack::take_out(fleet, &rack::Occupant::Machine(*id));
            fleet.machines.remove(id);
            fleet.hosts.remove(id);
        }
    }
}

pub(crate) fn enter(fleet: &mut Fleet, id: MachineId, at: Timestamp, change: impl FnOnce(&mut Machine)) {
    if let Some(machine) = fleet.machines.get_mut(&id) {
        machine.since = at;
        change(machine);
    }
}

/// The machine with this hardware, made if it is new. A NIC of it that was taken for a machine of its own
/// (it had asked for an address before the machine said that both are its) is folded in.
fn with_hardware<'a>(
    fleet: &'a mut Fleet,
    id: MachineId,
    name: &str,
    hardware: &Hardware,
    at: Timestamp,
) -> &'a mut Machine {
    let macs: Vec<Mac> = hardware.nics.iter().map(|nic| nic.mac).collect();
    let folded: Vec<MachineId> = fleet
        .machines
        .values()
        .filter(|other| other.id != id && other.phase == Phase::Sighted)
        .filter(|other| other.macs.iter().all(|mac| macs.contains(mac)))
        .map(|other| other.id)
        .collect();
    for other in folded {
        rack::fold(fleet, other, id);
        fleet.machines.remove(&other);
    }
    fleet.last_machine = fleet.last_machine.max(id.0);
    let machine = fleet.machines.entry(id).or_insert_with(|| Machine {
        id,
        name: name.to_owned(),
        macs: Vec::new(),
        arch: None,
        uuid: hardware.uuid,
        key: None,
        hardware: None,
        phase: Phase::Sighted,
        since: at,
        attempts: 0,
        appliance: false,
    });
    for mac in macs.into_iter().chain([hardware.boot_mac]) {
        if !machine.macs.contains(&mac) {
            machine.macs.push(mac);
        }
    }
    machine.uuid = hardware.uuid.or(machine.uuid);
    machine.hardware = Some(hardware.clone());
    machine
}
