//! How fast the machines can run here: KVM where a guest really starts under
//! it, QEMU's own translator otherwise.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fmt, fs, thread};

use anyhow::{Context, Result};

use crate::child;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    Tcg,
}

/// A kernel without a root filesystem gives up within a second or two.
const LIMIT: Duration = Duration::from_secs(15);

impl Accelerator {
    /// Tries KVM with the kernel that the machines will run.
    ///
    /// That `/dev/kvm` exists says little: on some virtual machines it opens,
    /// runs a boot sector, and then no ordinary kernel gets anywhere under it.
    pub fn probe(kernel: &Path) -> Result<Accelerator> {
        let kvm = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        if kvm.is_err() {
            return Ok(Accelerator::Tcg);
        }
        let folder = tempfile::tempdir()?;
        let serial = folder.path().join("serial");
        let mut command = child::command("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "512"])
            .args(["-machine", "q35,accel=kvm", "-cpu", "host", "-append", "console=ttyS0 panic=-1"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-serial")
            .arg(format!("file:{}", serial.display()))
            .stderr(std::process::Stdio::null());
        let mut guest = child::spawn(command).context("starting qemu-system-x86_64")?;
        let end = Instant::now() + LIMIT;
        while Instant::now() < end && guest.try_wait()?.is_none() {
            thread::sleep(Duration::from_millis(50));
        }
        child::kill(&mut guest);
        let said = fs::read(&serial).unwrap_or_default();
        let started = String::from_utf8_lossy(&said).contains("Kernel panic - not syncing: VFS");
        Ok(if started { Accelerator::Kvm } else { Accelerator::Tcg })
    }

    /// QEMU's arguments. Both CPUs let the guest have a `/dev/kvm` of its own:
    /// the translator emulates AMD's SVM with nested paging.
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "QEMU's software emulation (TCG)",
        })
    }
}
