//! Which disk of a machine a system goes on, and what keeps it from being the wrong one.

use std::fmt;

use serde::{Deserialize, Serialize};

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

/// An installation that was begun has left its own traces on the disk (`data_expected`).
pub(super) fn still_there(hardware: &Hardware, wanted: &TargetDisk, data_expected: bool) -> bool {
    hardware.disks.iter().any(|disk| {
        disk.bytes == wanted.bytes
            && match (&wanted.serial, &wanted.by_id) {
                (Some(serial), _) => disk.serial.as_ref() == Some(serial),
                (None, Some(by_id)) => disk.by_id.as_ref() == Some(by_id),
                (None, None) => disk.path == wanted.path,
            }
            && (data_expected || disk.contents.is_empty())
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

pub(super) fn target(disk: &Disk) -> TargetDisk {
    TargetDisk {
        path: disk.path.clone(),
        by_id: disk.by_id.clone(),
        serial: disk.serial.clone(),
        bytes: disk.bytes,
    }
}
