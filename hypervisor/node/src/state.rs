//! The state volume: the logical volume `state` of the group `elisandra`, labelled ELI-STATE.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::mount::MsFlags;

use crate::inventory;
use crate::layout::{STATE_LABEL, VOLUME_GROUP};
use crate::mounts;
use crate::places::{self, STATE};
use crate::tool::{self, SHORT};

/// Where the state volume is mounted below a root that is not running yet.
pub fn place(root: &Path) -> PathBuf {
    root.join(STATE.trim_start_matches('/'))
}

/// A state volume, mounted at /run/elisandra/state for as long as nobody has moved it to its place.
#[derive(Debug)]
pub struct Found {
    device: PathBuf,
    /// That it is on, by its name in /dev.
    pub disk: Option<String>,
}

/// Looks for the state volume and wakes it up. A machine may have a second disk from an older installation: the
/// volume on `disk` (`vda`) is preferred.
pub fn find(disk: Option<&str>) -> anyhow::Result<Option<Found>> {
    let mut members = physical_volumes();
    members.sort_by_key(|member| disk.is_some() && inventory::disk_of(member).as_deref() != disk);
    let Some(member) = members.first() else { return Ok(None) };
    activate(member)?;
    let Some(device) = crate::labels::find(STATE_LABEL).into_iter().next() else { return Ok(None) };
    Ok(Some(Found { device, disk: inventory::disk_of(member) }))
}

/// Partitions that are part of our volume group.
fn physical_volumes() -> Vec<PathBuf> {
    // Asking LVM costs a quarter of a second even where there is nothing; a member is seen by its label, which
    // is in one of the first four sectors (lib/format_text/layout.h).
    block_devices()
        .filter(|device| is_physical_volume(device))
        // A member whose metadata is damaged is not one that we can start from; another disk may be.
        .filter(|device| {
            inventory::volume_group(device).is_ok_and(|name| name.as_deref() == Some(VOLUME_GROUP))
        })
        .collect()
}

fn block_devices() -> impl Iterator<Item = PathBuf> {
    let mut names: Vec<_> = fs::read_dir("/sys/class/block")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    names.into_iter().map(|name| Path::new("/dev").join(name))
}

fn is_physical_volume(device: &Path) -> bool {
    use std::io::Read;
    let mut sectors = [0u8; 2048];
    let read = fs::File::open(device).and_then(|mut file| file.read_exact(&mut sectors));
    read.is_ok()
        && sectors.chunks(512).any(|sector| sector.starts_with(b"LABELONE") && &sector[24..32] == b"LVM2 001")
}

fn activate(member: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("lvm");
    command.args(["vgchange", "--activate", "y", "--sysinit", "--devices"]).arg(member).arg(VOLUME_GROUP);
    tool::run("waking the state volume up", SHORT, &mut command)?;
    Ok(())
}

impl Found {
    /// Mounts it at its place below `root`.
    pub fn mount(&self, root: &Path) -> anyhow::Result<()> {
        check(&self.device)?;
        mounts::device(&self.device, "ext4", &place(root), MsFlags::empty())?;
        Ok(())
    }

    /// `appliance`, `host`, or nothing yet.
    pub fn role(&self) -> anyhow::Result<Option<String>> {
        self.aside(|state| match fs::read_to_string(state.join("role")) {
            Ok(role) => Ok(Some(role.trim().to_owned()).filter(|role| !role.is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("reading the machine's role"),
        })
    }

    /// Does something with the volume mounted out of the way.
    fn aside<T>(&self, work: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let aside = Path::new(places::RUN).join("state");
        mounts::device(&self.device, "ext4", &aside, MsFlags::empty())?;
        let result = work(&aside);
        mounts::unmount(&aside)?;
        result
    }
}

/// Replays the journal and mends what a power loss left behind; what e2fsck cannot mend by itself is said.
fn check(device: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("e2fsck");
    command.arg("-p").arg(device);
    match tool::run("checking the state volume", std::time::Duration::from_secs(600), &mut command) {
        Ok(_) => Ok(()),
        Err(error) => match &error.why {
            // 1: it mended something (e2fsck(8)).
            tool::Why::Failed { status, .. } if status.code() == Some(1) => Ok(()),
            _ => Err(error.into()),
        },
    }
}
