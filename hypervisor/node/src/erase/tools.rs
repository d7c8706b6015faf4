//! The programs that make a disk forget.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::nvme::{self, Abilities};
use crate::console::say;
use crate::tool::{self, SHORT};

/// A disk that makes itself new, or forgets every block, may take its time.
const HOURS: Duration = Duration::from_secs(6 * 3600);

pub(super) trait Tools {
    /// What the disk can do, if it is NVMe.
    fn nvme(&self, path: &Path) -> anyhow::Result<Abilities>;
    fn format(&self, path: &Path, setting: u8) -> anyhow::Result<()>;
    fn discard(&self, path: &Path, secure: bool) -> anyhow::Result<()>;
    /// The kernel goes on showing partitions that are gone.
    fn forget_partitions(&self, path: &Path);
}

pub(super) struct Real;

impl Tools for Real {
    fn nvme(&self, path: &Path) -> anyhow::Result<Abilities> {
        let controller = nvme::controller(path).with_context(|| format!("{} is not NVMe", path.display()))?;
        let mut command = Command::new("nvme");
        command.args(["id-ctrl", "--output-format=json"]).arg(Path::new("/dev").join(&controller));
        let json = tool::run("asking an NVMe disk what it can do", SHORT, &mut command)?;
        let namespaces = fs::read_dir("/sys/block")
            .context("counting namespaces")?
            .flatten()
            .filter(|entry| nvme::controller(Path::new(&entry.file_name())).as_ref() == Some(&controller));
        Abilities::read(&json, namespaces.count())
    }

    fn format(&self, path: &Path, setting: u8) -> anyhow::Result<()> {
        let mut command = Command::new("nvme");
        // In milliseconds; without it the kernel gives up after a minute or two, and the disk goes on.
        let limit = format!("--timeout={}", HOURS.as_millis());
        // --force: that the disk is open is us.
        command.arg("format").arg(path).args([&format!("--ses={setting}"), &limit, "--force"]);
        tool::run("formatting the disk", HOURS, &mut command)?;
        Ok(())
    }

    fn discard(&self, path: &Path, secure: bool) -> anyhow::Result<()> {
        let mut command = Command::new("blkdiscard");
        if secure {
            command.arg("--secure");
        }
        // --force: it holds data, and that it is open is us.
        command.arg("--force").arg(path);
        tool::run("discarding every block", HOURS, &mut command)?;
        Ok(())
    }

    fn forget_partitions(&self, path: &Path) {
        let mut command = Command::new("blockdev");
        command.arg("--rereadpt").arg(path);
        if let Err(error) = tool::run("reading the empty partition table", SHORT, &mut command) {
            say(error);
        }
    }
}
