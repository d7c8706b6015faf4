//! Which disk of a machine a system goes on, and what keeps it from being the wrong one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Machine;
use crate::Refusal;
use crate::wire::{Disk, DiskContent, Hardware};

/// The disk layout needs ESP, image partition and room for volumes.
pub const MIN_DISK_BYTES: u64 = 10_000_000_000;

/// The disk that was chosen, pinned by what stays the same across restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetDisk {
    pub path: String,
    pub by_id: Option<String>,
    pub serial: Option<String>,
    pub bytes: u64,
}

impl fmt::Display for TargetDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.serial {
            Some(serial) => write!(f, "{} ({} GB, serial {serial})", self.path, self.bytes / 1_000_000_000),
            None => write!(f, "{} ({} GB)", self.path, self.bytes / 1_000_000_000),
        }
    }
}

pub(super) fn holds_data(hardware: &Hardware) -> bool {
    hardware.disks.iter().any(|disk| !disk.removable && !disk.contents.is_empty())
}

/// What is on a disk, as a person would say it: `ext4 'data'`.
pub fn contents(disk: &Disk) -> String {
    let named = |content: &DiskContent| match &content.label {
        Some(label) => format!("{} '{label}'", content.what),
        None => content.what.clone(),
    };
    let words: Vec<String> = disk.contents.iter().map(named).collect();
    words.join(", ")
}

/// What may be on the chosen disk when it is about to be wiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Nothing,
    /// What an installation of ours leaves, whether it came to its end or not.
    OurTraces,
    /// A person has seen it and said that it may go.
    Anything,
}

impl Expected {
    /// On the disk of a machine that may be wiped or not.
    pub(super) fn on(machine: &Machine, wipe: bool) -> Expected {
        let had_ours = machine.before.as_ref().is_some_and(|before| before.system.is_none());
        match (wipe, machine.attempts > 0 || had_ours) {
            (true, _) => Expected::Anything,
            (false, false) => Expected::Nothing,
            (false, true) => Expected::OurTraces,
        }
    }

    fn allows(self, disk: &Disk) -> bool {
        match self {
            Expected::Nothing => disk.contents.is_empty(),
            Expected::OurTraces => is_ours(disk),
            Expected::Anything => true,
        }
    }
}

/// Blank, a new partition table, or parts among which are labels of ours. Serial numbers are not unique in the field:
/// another disk with the same one, behind the same NIC, may be somebody's.
fn is_ours(disk: &Disk) -> bool {
    let labelled = |content: &DiskContent| content.label.as_deref().is_some_and(|l| l.starts_with("ELI-"));
    let table = |content: &DiskContent| content.what == "gpt";
    let volumes = |content: &DiskContent| content.what == "LVM2_member" && content.label.is_none();
    disk.contents.iter().all(table)
        || (disk.contents.iter().any(labelled)
            && disk.contents.iter().all(|content| table(content) || labelled(content) || volumes(content)))
}

pub(super) fn still_there(hardware: &Hardware, wanted: &TargetDisk, expected: Expected) -> bool {
    hardware.disks.iter().any(|disk| {
        disk.bytes == wanted.bytes
            && match (&wanted.serial, &wanted.by_id) {
                (Some(serial), _) => disk.serial.as_ref() == Some(serial),
                (None, Some(by_id)) => disk.by_id.as_ref() == Some(by_id),
                (None, None) => disk.path == wanted.path,
            }
            && expected.allows(disk)
    })
}

/// The disk a system goes on: the smallest that is large enough, so that large ones stay free for volumes.
/// Without `wipe` only among the blank ones, and only if no disk of the machine holds data.
pub fn target_disk(hardware: &Hardware, wipe: bool) -> Result<&Disk, Refusal> {
    if !wipe
        && let Some(disk) = hardware.disks.iter().find(|disk| !disk.removable && !disk.contents.is_empty())
    {
        return Err(Refusal::Conflict(format!("{} holds {}; wipe it?", disk.path, contents(disk))));
    }
    let large = |disk: &&Disk| !disk.removable && disk.bytes >= MIN_DISK_BYTES;
    let mut disks: Vec<&Disk> = hardware.disks.iter().filter(large).collect();
    disks.sort_by_key(|disk| (disk.bytes, disk.path.clone()));
    let Some(first) = disks.first() else {
        return Err(Refusal::Conflict(format!(
            "it has no disk of at least {} GB that is built in",
            MIN_DISK_BYTES / 1_000_000_000
        )));
    };
    // `/dev/sda` may be another disk after a restart; what is to be wiped is named by what stays.
    disks.iter().find(|disk| disk.by_id.is_some()).copied().ok_or_else(|| {
        Refusal::Conflict(format!(
            "{} has no serial number or place by which it would be known again",
            first.path
        ))
    })
}

/// The disk that a person named, by its serial number, its stable name or its path.
pub(super) fn chosen_disk<'a>(hardware: &'a Hardware, named: &str, wipe: bool) -> Result<&'a Disk, Refusal> {
    let is_named = |disk: &&Disk| {
        disk.path == named || disk.serial.as_deref() == Some(named) || disk.by_id.as_deref() == Some(named)
    };
    let mut disks = hardware.disks.iter().filter(is_named);
    let disk = match (disks.next(), disks.next()) {
        (Some(disk), None) => disk,
        (None, _) => return Err(Refusal::Missing { what: "disk", name: named.to_owned() }),
        (Some(_), Some(_)) => {
            return Err(Refusal::Conflict(format!("two disks are called {named}; name one by its path")));
        }
    };
    if disk.removable || disk.bytes < MIN_DISK_BYTES {
        return Err(Refusal::Conflict(format!(
            "{} is not a built-in disk of at least {} GB",
            disk.path,
            MIN_DISK_BYTES / 1_000_000_000
        )));
    }
    if disk.by_id.is_none() {
        return Err(Refusal::Conflict(format!(
            "{} has no serial number or place by which it would be known again",
            disk.path
        )));
    }
    if !wipe && !disk.contents.is_empty() {
        return Err(Refusal::Conflict(format!("{} holds {}; wipe it?", disk.path, contents(disk))));
    }
    Ok(disk)
}

pub(super) fn target(disk: &Disk) -> TargetDisk {
    TargetDisk {
        path: disk.path.clone(),
        by_id: disk.by_id.clone(),
        serial: disk.serial.clone(),
        bytes: disk.bytes,
    }
}
