//! Reads what a computer is made of, from /sys, /proc and the signatures on its disks.
//!
//! Everything below a [`Sys`] root is read from files, so that the tests read trees captured from real machines.

mod bmc;
mod cpu;
mod disks;
mod firmware;
mod nics;

use std::fs;
use std::path::{Path, PathBuf};

use fleet::Mac;
use fleet::wire::{Disk, Hardware};

pub use bmc::{Ask as AskBmc, ask as ask_bmc, lan_channel};
pub use disks::volume_group;

/// The folder that holds `sys`, `proc` and `dev`: `/`, or a captured tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sys {
    root: PathBuf,
}

impl Default for Sys {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl Sys {
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without blanks around it; `None` when it is not there or empty.
    fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Names in a folder, sorted; empty when there is no such folder.
    fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    fn is_there(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The last part of what a symbolic link points at.
    fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        target.file_name()?.to_str().map(str::to_owned)
    }
}

/// The whole computer. `look` lists the signatures on a block device; `boot_mac` is the NIC that leads to the
/// appliance.
pub fn hardware(sys: &Sys, boot_mac: Mac, look: &dyn disks::Look) -> Hardware {
    let identity = firmware::identity(sys);
    Hardware {
        firmware: firmware::kind(sys),
        uuid: identity.uuid,
        manufacturer: identity.manufacturer,
        product: identity.product,
        serial: identity.serial,
        board_serial: identity.board_serial,
        cpu: cpu::read(&sys.text("proc/cpuinfo").unwrap_or_default()),
        memory_mib: cpu::memory_mib(&sys.text("proc/meminfo").unwrap_or_default()),
        disks: disks::read(sys, look),
        nics: nics::read(sys),
        boot_mac,
        bmc: bmc::read(sys),
    }
}

/// This computer, now.
pub fn this_machine(boot_mac: Mac) -> Hardware {
    hardware(&Sys::default(), boot_mac, &disks::Wipefs)
}

/// This computer's disks, now.
pub fn this_machines_disks() -> Vec<Disk> {
    disks::read(&Sys::default(), &disks::Wipefs)
}

/// This computer's network cards, now.
pub fn this_machines_nics() -> Vec<(String, Mac)> {
    nics::read(&Sys::default()).into_iter().map(|nic| (nic.name, nic.mac)).collect()
}

/// The NIC on the appliance's network, outside the initrd: the bridge has its address. Else the first.
pub fn lan_mac() -> Option<Mac> {
    let sys = Sys::default();
    let bridge = sys.text("sys/class/net/lan0/address").and_then(|mac| mac.parse().ok());
    bridge.or_else(|| nics::read(&sys).first().map(|nic| nic.mac))
}

/// The disk that a partition is on: `/dev/vda3` is on `vda`.
pub fn disk_of(device: &Path) -> Option<String> {
    let name = device.file_name()?.to_str()?;
    let folder = fs::canonicalize(format!("/sys/class/block/{name}")).ok()?;
    if !folder.join("partition").exists() {
        return Some(name.to_owned());
    }
    folder.parent()?.file_name()?.to_str().map(str::to_owned)
}
