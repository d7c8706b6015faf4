//! Machines: computers known by their hardware, from the first packet to a running host.
//!
//! ```text
//!            ┌────────────── restarted in the middle: next attempt ─────────────┐
//!            ▼                                                                  │
//! Sighted ──report──▶ Reported ──adopt──▶ Adopted ──report──▶ Installing ──phone home──▶ Installed ──host agent──▶ Ready
//!                                            ▲                    │ failed, or 5 attempts
//!                                            └──────adopt──── Failed
//!
//! cancel: Adopted, Installing ──▶ Reported and held. remove: from every phase. reimage: Installed, Ready ──▶ Adopted,
//! and back when that is cancelled before it has begun. erase: erase.rs. retire: ──▶ Retired, and back to Reported, held.
//! ```

mod check;
mod disk;
mod erase;
mod event;
mod install;
mod once;
mod reimage;
mod removal;
mod report;
mod retire;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::power::Power;
use crate::profile::System;
use crate::wire::Hardware;
use crate::{Ctx, Fleet, Mac, MachineId, Refusal, Timestamp, vm};

pub use check::{Check, Event as CheckEvent, wanted_check};
pub(crate) use check::{ask as ask_check, checked, evolve as evolve_check};
use disk::holds_data;
pub use disk::{MIN_DISK_BYTES, TargetDisk, contents, target_disk};
pub use erase::{About, Erase, Erasing, Event as EraseEvent, State as EraseState, Task as EraseTask};
pub(crate) use erase::{ask as ask_erase, erased, evolve as evolve_erase};
pub use event::{By, Event};
pub(crate) use event::{enter, evolve};
pub(crate) use install::{adopt, fail_install, phone_home, serve_answers, serve_kickstart};
pub use once::Once;
pub(crate) use once::{ask as ask_once, booted as booted_once};
pub(crate) use reimage::reimage;
pub use reimage::{Before, Reimage};
pub(crate) use removal::{cancel, record_late, remove};
pub use report::MAX_ATTEMPTS;
pub(crate) use report::{record_appliance, report, sighted};
pub(crate) use retire::{retire, unretire};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub id: MachineId,
    /// Also its host name.
    pub name: Arc<str>,
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
    /// What went on with it was cancelled: the policy leaves it alone until a person adopts it.
    #[serde(default)]
    pub held: bool,
    /// When it was said that this phase lasts longer than it should.
    #[serde(default)]
    pub late: Option<Timestamp>,
    /// What it boots at its next start, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// What it is to be, or was, installed with, where that is not our own system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
    /// The one that its system is on, or is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<TargetDisk>,
    /// It is to be installed again, or erased, and that has not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Before>>,
    #[serde(default, skip_serializing_if = "Power::is_nothing")]
    pub power: Power,
    /// The last check of its disks, or the one that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Box<Check>>,
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
    /// Its disks are to be erased, or are being.
    Erasing(Box<Erasing>),
    /// It has left for good.
    Retired,
}

impl Phase {
    /// How long it may last until the log says that it is late; `None` if it does not pass by itself.
    pub fn limit_secs(&self) -> Option<u64> {
        match self {
            Phase::Sighted => Some(180),
            Phase::Adopted { .. } => Some(1800),
            Phase::Installing { .. } => Some(900),
            Phase::Installed => Some(600),
            Phase::Erasing(erasing) => Some(erasing.limit_secs()),
            Phase::Reported | Phase::Ready | Phase::Failed { .. } | Phase::Retired => None,
        }
    }

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
            Phase::Erasing(_) => "erasing",
            Phase::Retired => "retired",
        }
    }
}

impl Machine {
    /// How long its phase may last, as [`Phase::limit_secs`]: installers of other systems take longer than ours, and
    /// what they installed says nothing to us afterwards.
    pub fn limit_secs(&self) -> Option<u64> {
        match (&self.phase, &self.system) {
            (Phase::Installing { .. }, Some(_)) => Some(3600),
            (Phase::Installed, Some(_)) => None,
            (phase, _) => phase.limit_secs(),
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
    /// A shell for a person.
    Rescue,
    MemoryTest,
    /// The installer of [`Machine::system`].
    System,
}

/// What the client with this MAC address boots now. Everything that is not known to need us boots its own disk.
pub fn boot(fleet: &Fleet, mac: Mac) -> Boot {
    if vm::by_mac(fleet, mac).is_some() {
        return Boot::Disk;
    }
    let Some(machine) = by_mac(fleet, mac) else { return Boot::Discover };
    if let Some(once) = machine.once {
        return once.into();
    }
    match &machine.phase {
        // Somebody's computer, which happens to start from the network first, keeps starting its own system.
        Phase::Reported
            if machine.hardware.as_ref().is_some_and(holds_data) && wanted_check(machine).is_none() =>
        {
            Boot::Disk
        }
        Phase::Installing { .. } if machine.system.is_some() => Boot::System,
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Failed { .. }
        | Phase::Erasing(_) => Boot::Discover,
        Phase::Installed | Phase::Ready | Phase::Retired => Boot::Disk,
    }
}

pub fn by_mac(fleet: &Fleet, mac: Mac) -> Option<&Machine> {
    fleet.machines.get(&fleet.index.machine_by_mac(mac)?).map(Arc::as_ref)
}

pub fn by_key<'a>(fleet: &'a Fleet, key: &str) -> Option<&'a Machine> {
    let machines = fleet.index.machines_by_key(key).filter_map(|machine| fleet.machines.get(&machine));
    machines.map(Arc::as_ref).find(|machine| machine.key.as_deref() == Some(key))
}

pub fn by_name<'a>(fleet: &'a Fleet, name: &str) -> Option<&'a Machine> {
    let machines = fleet.index.machines_by_name(name).filter_map(|machine| fleet.machines.get(&machine));
    machines.map(Arc::as_ref).find(|machine| *machine.name == *name)
}

pub(crate) fn find(fleet: &Fleet, id: MachineId) -> Result<&Machine, Refusal> {
    fleet
        .machines
        .get(&id)
        .map(Arc::as_ref)
        .ok_or_else(|| Refusal::Missing { what: "machine", name: id.to_string() })
}

pub(crate) fn enroll(
    fleet: &Fleet,
    id: MachineId,
    key: &str,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if let Some(system) = &machine.system {
        return Err(Refusal::Conflict(format!(
            "{} is to run {system}; only our own system gets a certificate",
            machine.name
        )));
    }
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
        | Phase::Failed { .. }
        | Phase::Erasing(_)
        | Phase::Retired => {
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
