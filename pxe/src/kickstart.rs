//! The kickstart file of a host: rendered by the appliance, carried out by our installer, and
//! valid for Anaconda.
//!
//! [`render`] writes the file from [`KickstartFacts`]; [`parse`] reads the part of kickstart that
//! our installer carries out, as plain structs. A command or option that it does not carry out is
//! an error that names the line: half an installation is worse than none.
//!
//! Where Anaconda and our installer have to agree:
//! - `%post --nochroot` runs with the new system's file systems mounted below /mnt/sysimage, each
//!   at its mount point (`/mnt/sysimage/var/lib/elisandra` is the state volume).
//! - `liveimg` names live.squashfs. Our installer keeps the image as it is instead of unpacking it,
//!   and takes the other artifacts (manifest.json, vmlinuz, initrd) from the same folder of the URL.
//!
//! The commands are documented in pykickstart's reference,
//! <https://pykickstart.readthedocs.io/en/latest/kickstart-docs.html>.

mod facts;
mod parse;
mod render;
mod words;

pub use facts::{DiskId, HostName, Invalid, KickstartFacts, Sha256, SshKey, TimeZone, Token};
pub use parse::{KickstartError, parse};
pub use render::render;

use crate::MacAddr;

/// What one kickstart file orders. Root's password is always locked: a file that says otherwise does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kickstart {
    pub lang: Option<String>,
    pub keyboard: Option<String>,
    pub time_zone: Option<TimeZone>,
    pub networks: Vec<Network>,
    pub ssh_keys: Vec<SshKeyFor>,
    /// The one disk that is wiped and installed on; all partitions are on it.
    pub disk: DiskId,
    pub partitions: Vec<Partition>,
    pub volume_groups: Vec<VolumeGroup>,
    pub logical_volumes: Vec<LogicalVolume>,
    pub bootloader: Bootloader,
    pub image: LiveImage,
    /// In the order of the file.
    pub post: Vec<Script>,
    pub ending: Ending,
}

/// `network --bootproto=dhcp --device=… --hostname=…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub device: MacAddr,
    pub hostname: Option<HostName>,
}

/// `sshkey --username=USER "KEY"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKeyFor {
    pub user: String,
    pub key: SshKey,
}

/// `part …`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub what: PartitionKind,
    /// At least this much; exactly this much unless `grow`.
    pub size_mib: u64,
    /// Takes what is left on the disk.
    pub grow: bool,
    pub label: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionKind {
    /// `part biosboot --fstype=biosboot`: room for GRUB's core.img on a GPT disk.
    BiosBoot,
    /// `part /boot/efi --fstype=efi`
    Efi,
    /// `part MOUNT --fstype=ext4`
    Ext4 { mount: String },
    /// `part pv.01`; the name is only used inside the file.
    PhysicalVolume { name: String },
}

/// `volgroup NAME pv.…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeGroup {
    pub name: String,
    /// Names of [`PartitionKind::PhysicalVolume`], each of which exists.
    pub physical_volumes: Vec<String>,
}

/// `logvol MOUNT --vgname=… --name=… --fstype=ext4 …`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalVolume {
    pub mount: String,
    pub group: String,
    pub name: String,
    pub label: Option<String>,
    pub size: VolumeSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeSize {
    Mib(u64),
    /// At least this much, and what is left of the group.
    GrowFromMib(u64),
    /// Of what is free in the group.
    Percent(u8),
}

/// `bootloader --append="…"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootloader {
    /// For the kernel command line of the installed system.
    pub append: String,
}

/// `liveimg --url=… --checksum=…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveImage {
    pub url: String,
    pub sha256: Sha256,
}

/// `%post`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Runs outside the new system, which is mounted below /mnt/sysimage.
    pub nochroot: bool,
    /// When it fails, so does the installation.
    pub error_on_fail: bool,
    /// A shell script, lines ended with `\n`.
    pub body: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Reboot,
    PowerOff,
}
