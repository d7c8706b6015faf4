//! How fast the machines can run here: KVM where a guest really starts under
//! it, QEMU's own translator otherwise.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, fs, thread};

use anyhow::{Context, Result};

use crate::child;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    /// With the CPU model that runs best when it is translated.
    Tcg {
        cpu: String,
    },
}

/// A kernel that runs says so at once, and gives up within a second or two for
/// want of a root filesystem.
const FIRST_WORD: Duration = Duration::from_secs(4);
const LAST_WORD: Duration = Duration::from_secs(15);

/// With any of the first four, Linux copies and clears memory by `rep movsb`
/// and `rep stosb`, which the translator does byte by byte: a download of
/// 300 MB between two machines took 9.5 s with them and 5.9 s without. With the
/// fifth, every page walk is one level longer.
const SLOW_FEATURES: [&str; 5] = ["erms", "fsrm", "fzrm", "fsrs", "la57"];

impl Accelerator {
    /// Tries KVM with the kernel that the machines will run.
    ///
    /// That `/dev/kvm` exists says little: on some virtual machines it opens,
    /// runs a boot sector, and then no ordinary kernel gets anywhere under it.
    pub fn probe(kernel: &Path) -> Result<Accelerator> {
        let kvm = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        if kvm.is_ok() && starts_under_kvm(kernel)? { Ok(Accelerator::Kvm) } else { Accelerator::tcg() }
    }

    pub fn tcg() -> Result<Accelerator> {
        let help = Command::new("qemu-system-x86_64").args(["-cpu", "help"]).output();
        let help = help.context("running qemu-system-x86_64; is the package qemu-system-x86 installed?")?;
        let help = String::from_utf8_lossy(&help.stdout);
        let known: Vec<&str> = help.split_whitespace().collect();
        let mut cpu = "max".to_string();
        // An older QEMU refuses the names of newer features.
        for feature in SLOW_FEATURES.iter().filter(|feature| known.contains(feature)) {
            cpu.push_str(&format!(",{feature}=off"));
        }
        Ok(Accelerator::Tcg { cpu })
    }

    /// QEMU's arguments. Both CPUs let the guest have a `/dev/kvm` of its own:
    /// the translator emulates AMD's SVM with nested paging.
    pub(crate) fn arguments(&self) -> [&str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg { cpu } => ["-accel", "tcg,thread=multi", "-cpu", cpu],
        }
    }
}

fn starts_under_kvm(kernel: &Path) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let serial = folder.path().join("serial");
    let mut command = child::command("qemu-system-x86_64");
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "512"])
        .args([
            "-machine",
            "q35,accel=kvm",
            "-cpu",
            "host",
            "-append",
            "earlyprintk=ttyS0 console=ttyS0 panic=-1",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-serial")
        .arg(format!("file:{}", serial.display()))
        .stderr(Stdio::null());
    let mut guest = child::spawn(command).context("starting qemu-system-x86_64")?;
    let start = Instant::now();
    let said = || String::from_utf8_lossy(&fs::read(&serial).unwrap_or_default()).into_owned();
    while guest.try_wait()?.is_none() && start.elapsed() < LAST_WORD {
        if start.elapsed() > FIRST_WORD && !said().contains("Linux version") {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    child::kill(&mut guest);
    Ok(said().contains("Kernel panic - not syncing: VFS"))
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg { .. } => "QEMU's software emulation (TCG)",
        })
    }
}
