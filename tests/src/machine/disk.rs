//! Disks as sparse raw files, made without mounting anything.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Contents, Disk};

const GIB: u64 = 1 << 30;

pub(super) fn make(disk: &Disk, path: &Path) -> Result<()> {
    if disk.serial.len() > 20 {
        bail!("the serial number {:?} is longer than the 20 bytes a disk can have", disk.serial);
    }
    if let Contents::Image(image) = &disk.contents {
        run(Command::new("cp").arg("--sparse=always").arg(image).arg(path))?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    let size = disk.size_gib * GIB;
    if file.metadata()?.len() > size {
        bail!("{} does not fit on a disk of {} GiB", path.display(), disk.size_gib);
    }
    file.set_len(size).with_context(|| format!("making the disk {}", path.display()))?;
    if let Contents::Ext4 { label } = &disk.contents {
        // /usr/sbin is on root's path only.
        run(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F", "-L", label]).arg(path))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
