//! The disk that is installed on: is it the one that was meant, and divided as the layout says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use fleet::wire::{Disk, Hardware};
use pxe::kickstart::DiskId;

use crate::inventory;
use crate::layout::{self, Layout, Placed, Step};
use crate::tool::{self, SHORT};

/// A disk under its name of this start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub path: PathBuf,
    pub bytes: u64,
}

impl Device {
    /// `vda`
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let path = Path::new("/dev").join(name);
        let now = inventory::this_machines_disks();
        let bytes = now.iter().find(|disk| Path::new(&disk.path) == path).map(|disk| disk.bytes);
        let bytes = bytes.with_context(|| format!("{} is not a disk", path.display()))?;
        Ok(Self { path, bytes })
    }
}

/// Finds the disk that a kickstart file names. Its name of this start comes from the name that stays the same, and it
/// must be the disk that was reported: same serial, same size.
pub fn the_one_named(id: &DiskId, reported: &Hardware) -> anyhow::Result<Device> {
    let path = fs::canonicalize(id.path())
        .with_context(|| format!("the disk {id} that the kickstart file names is not in this machine"))?;
    let now = inventory::this_machines_disks();
    let Some(now) = now.iter().find(|disk| Path::new(&disk.path) == path) else {
        bail!("{id} is {}, which is not a whole disk", path.display());
    };
    same(id, now, reported)?;
    Ok(Device { path, bytes: now.bytes })
}

fn same(id: &DiskId, now: &Disk, reported: &Hardware) -> anyhow::Result<()> {
    let by_id = id.path();
    let Some(then) = reported.disks.iter().find(|disk| disk.by_id.as_deref() == Some(&by_id)) else {
        bail!("the disk {id} was not among those that this machine reported");
    };
    if then.serial != now.serial || then.bytes != now.bytes {
        let name = |disk: &Disk| {
            format!("{} with {} bytes", disk.serial.as_deref().unwrap_or("no serial"), disk.bytes)
        };
        bail!("the disk {id} is another one than was reported: {} then, {} now", name(then), name(now));
    }
    Ok(())
}

/// Looks again, right before a disk is taken for what it was seen to be.
pub fn unchanged(disk: &Disk) -> anyhow::Result<()> {
    let now = inventory::this_machines_disks();
    match now.iter().find(|now| now.path == disk.path) {
        Some(now) if now == disk => Ok(()),
        Some(_) => bail!("the disk {} changed while it was looked at", disk.path),
        None => bail!("the disk {} is gone", disk.path),
    }
}

/// Wipes the disk and makes the layout on it. Returns when all devices are there.
pub fn lay_out(layout: &Layout, disk: &Device, mut hear: impl FnMut(&str)) -> anyhow::Result<Vec<Placed>> {
    let placed = layout::place(layout, &disk.path, disk.bytes)?;
    let partitions = partitions(&disk.path)?;
    hear("wiping the disk");
    release(&disk.path, &partitions)?;
    for step in layout::wipe(&disk.path, &partitions) {
        carry_out(&step)?;
    }
    hear("making the partition table");
    carry_out(&layout::table(&disk.path, &placed))?;
    wait_for(placed.iter().map(|part| part.device.as_path()))?;
    for step in layout::format(layout, &placed) {
        hear(step.name);
        carry_out(&step)?;
    }
    let file_systems = layout::file_systems(layout, &placed);
    wait_for(file_systems.iter().map(|there| there.device.as_path()))?;
    Ok(placed)
}

/// Says on the disk that everything is there: from now on it is somebody's.
pub fn finish(disk: &Device, placed: &[Placed]) -> anyhow::Result<()> {
    for step in layout::finish(&disk.path, placed) {
        carry_out(&step)?;
    }
    nix::unistd::sync();
    Ok(())
}

fn carry_out(step: &Step) -> anyhow::Result<()> {
    let mut command = Command::new(step.program);
    command.args(&step.arguments);
    tool::run_with_input(step.name, step.limit, &mut command, &step.input)?;
    Ok(())
}

fn partitions(disk: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = disk.file_name().context("a disk without a name")?;
    let folder = Path::new("/sys/block").join(name);
    let mut partitions: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .flatten()
        .filter(|entry| entry.path().join("partition").exists())
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect();
    partitions.sort();
    Ok(partitions)
}

/// Volumes that an installation which failed has left awake hold the disk.
fn release(disk: &Path, partitions: &[PathBuf]) -> anyhow::Result<()> {
    for device in partitions.iter().map(PathBuf::as_path).chain([disk]) {
        let Some(name) = device.file_name() else { continue };
        let held = fs::read_dir(Path::new("/sys/class/block").join(name).join("holders"))
            .is_ok_and(|mut holders| holders.next().is_some());
        if held && let Some(group) = inventory::volume_group(device)? {
            let mut command = Command::new("lvm");
            command.args(["vgchange", "--activate", "n", "--devices"]).arg(device).arg(&group);
            tool::run("letting go of the old volumes", SHORT, &mut command)?;
        }
    }
    Ok(())
}

/// The kernel makes the devices, udev the names below /dev/mapper.
fn wait_for<'a>(devices: impl Iterator<Item = &'a Path>) -> anyhow::Result<()> {
    let limit = Duration::from_secs(20);
    let begin = Instant::now();
    for device in devices {
        while !device.exists() {
            if begin.elapsed() > limit {
                bail!("{} does not appear", device.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // udev opens new partitions to look at them, which makes the next program find them busy.
    let mut settle = Command::new("udevadm");
    settle.args(["settle", "--timeout=20"]);
    tool::run("waiting for the new partitions", SHORT, &mut settle)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use fleet::Mac;
    use fleet::wire::{Cpu, Firmware};

    use super::*;

    fn disk(serial: &str, bytes: u64) -> Disk {
        Disk {
            path: "/dev/vda".to_owned(),
            by_id: Some(format!("/dev/disk/by-id/virtio-{serial}")),
            serial: Some(serial.to_owned()),
            model: None,
            bytes,
            rotational: false,
            removable: false,
            contents: vec![],
        }
    }

    fn reported(disks: Vec<Disk>) -> Hardware {
        Hardware {
            firmware: Firmware::Bios,
            uuid: None,
            manufacturer: None,
            product: None,
            serial: None,
            board_serial: None,
            cpu: Cpu { model: String::new(), sockets: 1, threads: 1, virtualization: true },
            memory_mib: 2048,
            disks,
            nics: vec![],
            boot_mac: Mac([2, 0, 0, 0, 0, 1]),
            bmc: None,
        }
    }

    #[test]
    fn only_the_disk_that_was_reported_is_taken() {
        let id: DiskId = "disk/by-id/virtio-A".parse().unwrap();
        let there = reported(vec![disk("A", 1000), disk("B", 1000)]);
        same(&id, &disk("A", 1000), &there).unwrap();
        assert_eq!(
            same(&id, &disk("A", 2000), &there).unwrap_err().to_string(),
            "the disk disk/by-id/virtio-A is another one than was reported: A with 1000 bytes then, A with 2000 bytes now"
        );
        assert_eq!(
            same(&id, &disk("A", 1000), &reported(vec![disk("B", 1000)])).unwrap_err().to_string(),
            "the disk disk/by-id/virtio-A was not among those that this machine reported"
        );
        assert!(same(&id, &disk("C", 1000), &there).is_err());
        let error = the_one_named(&"disk/by-id/virtio-none".parse().unwrap(), &there).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the disk disk/by-id/virtio-none that the kickstart file names is not in this machine"
        );
    }
}
