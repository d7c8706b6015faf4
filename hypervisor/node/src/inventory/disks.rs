//! Disks, and what is on them. When it is not certain that a disk is blank, it is not blank.

use std::fs;
use std::path::Path;
use std::process::Command;

use fleet::wire::{Disk, DiskContent};
use serde::Deserialize;

use super::Sys;
use crate::layout::UNFINISHED;
use crate::tool::{self, SHORT, ToolError};

/// What is on a block device.
pub trait Look {
    /// Everything that libblkid knows on one device (not on its partitions).
    fn signatures(&self, device: &str) -> Result<Vec<Signature>, ToolError>;
    /// How many partitions the table has, read by somebody who also reads a GPT's second copy.
    fn partitions_in_table(&self, device: &str) -> Result<usize, ToolError>;
    /// The volume group that a physical volume is part of.
    fn volume_group(&self, device: &str) -> Result<Option<String>, ToolError>;
}

/// One line of wipefs: `ext4` with the label `data`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Signature {
    #[serde(rename = "type")]
    pub what: String,
    pub label: Option<String>,
}

/// Asks the real tools.
pub struct Wipefs;

impl Look for Wipefs {
    fn signatures(&self, device: &str) -> Result<Vec<Signature>, ToolError> {
        // wipefs rather than blkid: blkid says nothing at all about a disk with two signatures, which is what a
        // disk that was used twice has.
        let mut command = Command::new("wipefs");
        command.args(["--json", "--output", "TYPE,LABEL", device]);
        Ok(signatures(&tool::run("looking what is on a disk", SHORT, &mut command)?))
    }

    fn partitions_in_table(&self, device: &str) -> Result<usize, ToolError> {
        let mut command = Command::new("sfdisk");
        command.args(["--dump", device]);
        Ok(partitions(&tool::run("reading a partition table", SHORT, &mut command)?))
    }

    fn volume_group(&self, device: &str) -> Result<Option<String>, ToolError> {
        volume_group(Path::new(device))
    }
}

/// The volume group that a physical volume is part of; `None` when it is free.
pub fn volume_group(device: &Path) -> Result<Option<String>, ToolError> {
    let mut command = Command::new("lvm");
    command.args(["pvs", "--noheadings", "--options", "vg_name", "--devices"]).arg(device).arg(device);
    let name = tool::run("asking for a volume group", SHORT, &mut command)?.trim().to_owned();
    Ok((!name.is_empty()).then_some(name))
}

/// Reads the JSON of wipefs, which says nothing for a blank device.
pub fn signatures(json: &str) -> Vec<Signature> {
    #[derive(Deserialize)]
    struct Answer {
        signatures: Vec<Signature>,
    }
    if json.trim().is_empty() {
        return Vec::new();
    }
    match serde_json::from_str::<Answer>(json) {
        Ok(answer) => answer.signatures,
        // An answer that is not understood must not look like a blank disk.
        Err(_) => vec![Signature { what: "unreadable".to_owned(), label: None }],
    }
}

/// Lines like `/dev/vda1 : start= 2048, size= 2048, type=…` in the dump of sfdisk.
fn partitions(dump: &str) -> usize {
    dump.lines().filter(|line| line.contains("start=") && line.contains("size=")).count()
}

/// Block devices that could hold a system.
pub fn read(sys: &Sys, look: &dyn Look) -> Vec<Disk> {
    sys.names("sys/block").into_iter().filter_map(|name| disk(sys, &name, look)).collect()
}

fn disk(sys: &Sys, name: &str, look: &dyn Look) -> Option<Disk> {
    // Linux makes these itself, or they are no disks: optical drives, floppies, the boot areas of eMMC.
    const OTHERS: [&str; 10] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "zd", "drbd"];
    let folder = format!("sys/block/{name}");
    let other = OTHERS.iter().any(|prefix| name.starts_with(prefix));
    let emmc_area = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    // One path of a multipath NVMe namespace.
    let hidden = sys.number(&format!("{folder}/hidden")) == Some(1);
    let read_only = sys.number(&format!("{folder}/ro")) == Some(1);
    let bytes = sys.number(&format!("{folder}/size"))?.saturating_mul(512);
    // A card reader without a card has no size.
    if other || emmc_area || hidden || read_only || bytes == 0 {
        return None;
    }

    let text = |file: &str| sys.text(&format!("{folder}/{file}"));
    let path = format!("/dev/{name}");
    Some(Disk {
        by_id: by_id(sys, name),
        // virtio has it beside the queue, NVMe and SCSI at the device.
        serial: text("serial").or_else(|| text("device/serial")).or_else(|| udev_serial(sys, &folder)),
        model: text("device/model").map(|model| model.split_whitespace().collect::<Vec<_>>().join(" ")),
        bytes,
        rotational: sys.number(&format!("{folder}/queue/rotational")) == Some(1),
        removable: sys.number(&format!("{folder}/removable")) == Some(1) || is_on_usb(sys, &folder),
        contents: contents(sys, name, &path, look),
        path,
    })
}

/// A hard disk on a USB cable is nothing whose medium can be taken out, for Linux.
fn is_on_usb(sys: &Sys, folder: &str) -> bool {
    let place = fs::canonicalize(sys.path(folder)).unwrap_or_default();
    let is_bus = |part: &str| part.strip_prefix("usb").is_some_and(|bus| bus.parse::<u32>().is_ok());
    place.iter().any(|part| part.to_str().is_some_and(is_bus))
}

/// udev's names for a disk, the one that says most about the disk itself first: `ata-MODEL_SERIAL` is printed on
/// the sticker, `wwn-…` is not. A disk without a serial number is known by the place where it is plugged in.
fn by_id(sys: &Sys, name: &str) -> Option<String> {
    let names = |folder: &str| -> Vec<String> {
        let is_it =
            |link: &String| sys.link_name(&format!("dev/disk/{folder}/{link}")).as_deref() == Some(name);
        sys.names(&format!("dev/disk/{folder}")).into_iter().filter(is_it).collect()
    };
    let mut ids = names("by-id");
    ids.sort_by_key(|link| {
        let bare_number =
            ["wwn-", "nvme-eui.", "nvme-nvme.", "nvme-uuid."].iter().any(|prefix| link.starts_with(prefix));
        // udev gives NVMe disks a second name that ends with the number of the namespace.
        (bare_number, link.len(), link.clone())
    });
    let id = ids.first().map(|link| format!("/dev/disk/by-id/{link}"));
    id.or_else(|| names("by-path").first().map(|link| format!("/dev/disk/by-path/{link}")))
}

/// For SCSI and ATA the kernel shows no serial number, but udev has asked the disk.
fn udev_serial(sys: &Sys, folder: &str) -> Option<String> {
    let numbers = sys.text(&format!("{folder}/dev"))?;
    let record = sys.text(&format!("run/udev/data/b{numbers}"))?;
    let value = |key: &str| {
        record.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='))
    };
    value("ID_SERIAL_SHORT").or_else(|| value("ID_SCSI_SERIAL")).map(str::to_owned)
}

/// What was found on the disk and on its partitions; empty when it is blank. A partition table without
/// partitions holds nobody's data.
fn contents(sys: &Sys, name: &str, path: &str, look: &dyn Look) -> Vec<DiskContent> {
    let mut contents = on_device(path, look);
    let parts: Vec<String> = sys
        .names(&format!("sys/block/{name}"))
        .into_iter()
        .filter(|part| sys.is_there(&format!("sys/block/{name}/{part}/partition")))
        .collect();
    // Nobody's data: what we ourselves began and did not end.
    let unfinished = format!("PARTNAME={UNFINISHED}");
    let named = |part: &String| sys.text(&format!("sys/block/{name}/{part}/uevent"));
    if parts.iter().filter_map(named).any(|facts| facts.lines().any(|line| line == unfinished)) {
        return Vec::new();
    }
    let is_table = |content: &DiskContent| TABLES.contains(&content.what.as_str());
    if parts.is_empty() && contents.iter().any(is_table) {
        // The kernel sees none; a damaged GPT whose second copy still lists them looks the same to it.
        if let Ok(0) = look.partitions_in_table(path) {
            contents.retain(|content| !is_table(content));
        }
    }
    for part in parts {
        contents.extend(on_device(&format!("/dev/{part}"), look));
    }
    contents
}

const TABLES: [&str; 8] = ["gpt", "dos", "mac", "sun", "bsd", "sgi", "atari", "solaris-x86"];

fn on_device(device: &str, look: &dyn Look) -> Vec<DiskContent> {
    let content = |what: &str, label: Option<String>| DiskContent {
        path: device.to_owned(),
        what: what.to_owned(),
        label,
    };
    let found = match look.signatures(device) {
        Ok(found) => found,
        // An extended partition of a DOS table is a device of two sectors that holds nothing itself; it answers
        // without a signature. One that does not answer may hold anything.
        Err(_) => return vec![content("unreadable", None)],
    };
    let mut contents: Vec<DiskContent> = Vec::new();
    for Signature { what, label } in found {
        // The protective MBR is a part of GPT; wipefs also lists GPT's second copy, ext4's and ZFS's many.
        if what == "PMBR" || contents.iter().any(|there| there.what == what) {
            continue;
        }
        let label = match what.as_str() {
            "LVM2_member" => look.volume_group(device).ok().flatten().or(label),
            _ => label,
        };
        contents.push(content(&what, label));
    }
    contents
}

#[cfg(test)]
mod tests;
