//! A machine of the lab: QEMU with real firmware, disks that survive power
//! cycles, and a serial log that goes on across them.
//!
//! ```text
//! LABDIR/NAME/serial.log   what the firmware and the system print, appended
//!             qemu.log     what QEMU itself complains about
//!             disk0.raw    sparse
//!             vars.fd      UEFI variables
//!             screen.png   the last screenshot
//! ```

mod chassis;
mod command_line;
mod disk;

pub(crate) use self::chassis::{Chassis, First};
pub use self::command_line::mac_text;

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::accelerator::Accelerator;
use crate::lan::{Lan, Mac};

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    pub name: String,
    pub firmware: Firmware,
    pub memory_mib: u64,
    pub vcpus: u32,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    pub medium: Option<Medium>,
    /// What the firmware tries, in this order; it tries nothing else.
    pub boot: Vec<BootFrom>,
    /// What firmware reads from QEMU: names and values of `-fw_cfg`.
    pub settings: Vec<(String, Setting)>,
    /// Where its BMC takes what the machine itself asks: the machine has a KCS interface (IPMI 2.0, chapter 9), and its
    /// firmware says so.
    pub kcs: Option<SocketAddr>,
    pub uuid: uuid::Uuid,
    pub serial: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, with iPXE as the NIC's boot ROM.
    Bios,
    /// OVMF. The NIC has no ROM, so OVMF's own network stack is at work.
    Uefi,
    /// OVMF that enforces Secure Boot with Microsoft's keys, as machines come
    /// from the shop.
    UefiSecureBoot,
    /// AAVMF, on another processor: QEMU's machine `virt`.
    UefiArm64,
}

/// A setting that firmware reads from QEMU.
#[derive(Debug, Clone)]
pub enum Setting {
    Text(String),
    File(PathBuf),
}

#[derive(Debug, Clone)]
pub struct Disk {
    pub size_gib: u64,
    /// At most 20 bytes: virtio has no room for more.
    pub serial: String,
    pub bus: Bus,
    pub contents: Contents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    Virtio,
    Sata,
    Nvme,
}

#[derive(Debug, Clone)]
pub enum Contents {
    Blank,
    /// An ext4 filesystem over the whole disk, with this label.
    Ext4 {
        label: String,
    },
    /// The bytes of this file.
    Image(PathBuf),
}

#[derive(Debug, Clone)]
pub struct Nic {
    pub mac: Mac,
    pub link: Link,
    pub model: Model,
    pub rom: Rom,
}

/// The card, as QEMU calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    Virtio,
    E1000,
    E1000e,
    Rtl8139,
    Vmxnet3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rom {
    /// iPXE for BIOS; none for UEFI, so that the firmware's own network stack is at work.
    AsUsual,
    /// iPXE, also for UEFI.
    Ipxe,
}

#[derive(Debug, Clone)]
pub enum Link {
    /// A port of the lab's LAN, named like the machine.
    Lan,
    /// QEMU's user networking: an uplink with a DHCP server and a way out, and
    /// ports of this computer that lead to ports of the machine.
    User { forwards: Vec<Forward> },
    /// A tap device of this computer's network, or of the network namespace that the lab is in.
    Tap { device: String },
}

#[derive(Debug, Clone, Copy)]
pub struct Forward {
    pub local: SocketAddr,
    pub port: u16,
}

#[derive(Debug, Clone)]
pub enum Medium {
    Cdrom(PathBuf),
    Usb(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFrom {
    Lan,
    Disk,
    Medium,
}

impl Spec {
    /// A blank machine with one NIC on the LAN and one disk, which boots from
    /// the network first and from its disk next. UUID, serial numbers and MAC
    /// follow from the name, so that a second run meets the same machine.
    pub fn blank(name: &str, firmware: Firmware) -> Spec {
        Spec {
            name: name.to_string(),
            firmware,
            memory_mib: 4096,
            vcpus: 2,
            disks: vec![Disk::blank(20, &format!("{name}-0"))],
            nics: vec![Nic::plain(mac_of(name, 0), Link::Lan)],
            medium: None,
            boot: vec![BootFrom::Lan, BootFrom::Disk],
            settings: Vec::new(),
            kcs: None,
            uuid: uuid_of(name),
            serial: format!("LAB-{}", name.to_uppercase()),
        }
    }
}

impl Nic {
    /// The card that is quickest in QEMU.
    pub fn plain(mac: Mac, link: Link) -> Nic {
        Nic { mac, link, model: Model::Virtio, rom: Rom::AsUsual }
    }
}

impl Disk {
    pub fn blank(size_gib: u64, serial: &str) -> Disk {
        Disk { size_gib, serial: serial.to_string(), bus: Bus::Virtio, contents: Contents::Blank }
    }
}

/// A MAC for the NIC of this number, with QEMU's own vendor prefix.
pub fn mac_of(name: &str, nic: u8) -> Mac {
    let hash = Sha256::digest(format!("{name} nic {nic}"));
    [0x52, 0x54, 0x00, hash[0], hash[1], hash[2]]
}

fn uuid_of(name: &str) -> uuid::Uuid {
    let hash = Sha256::digest(format!("{name} uuid"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// A machine that exists; it starts switched off. Dropping it pulls its plug
/// and leaves its folder.
pub struct Machine {
    pub name: String,
    pub uuid: uuid::Uuid,
    mac: Mac,
    folder: PathBuf,
    chassis: Arc<Mutex<Chassis>>,
}

/// Where the things of one lab are, which every machine shares.
pub struct Place<'a> {
    /// Machines' folders are made here.
    pub folder: &'a Path,
    /// For sockets; a short path.
    pub sockets: &'a Path,
    pub accelerator: Accelerator,
}

impl Machine {
    /// Makes the machine's folder and disks afresh and plugs it into the LAN.
    pub fn build(spec: Spec, place: Place<'_>, lan: &Lan) -> Result<Machine> {
        let folder = place.folder.join(&spec.name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("clearing {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for (number, disk) in spec.disks.iter().enumerate() {
            disk::make(disk, &disk_path(&folder, number))?;
        }
        command_line::copy_variables(spec.firmware, &folder)?;
        let mut cables = Vec::new();
        for (number, nic) in spec.nics.iter().enumerate() {
            if matches!(nic.link, Link::Lan) {
                let suffix = if number == 0 { String::new() } else { format!("-{number}") };
                cables.push(lan.cable(&format!("{}{suffix}", spec.name))?);
            }
        }
        Ok(Machine {
            name: spec.name.clone(),
            uuid: spec.uuid,
            mac: spec.nics[0].mac,
            folder: folder.clone(),
            chassis: Arc::new(Mutex::new(Chassis::new(spec, folder, place, cables))),
        })
    }

    /// Presses the power button of a machine that is off.
    pub fn power_on(&mut self) -> Result<()> {
        self.chassis().power_on()
    }

    /// Pulls the plug: no warning, nothing flushed inside the machine.
    pub fn power_off(&mut self) {
        self.chassis().power_off();
    }

    pub fn power_cycle(&mut self) -> Result<()> {
        self.chassis().power_cycle()
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<()> {
        self.chassis().reset()
    }

    /// Stops its processors in the middle of what they do, as a machine that
    /// hangs: it stays on and says nothing.
    pub fn freeze(&mut self) -> Result<()> {
        self.control("stop", Value::Null).map(drop)
    }

    /// Lets a frozen machine go on where it was.
    pub fn thaw(&mut self) -> Result<()> {
        self.control("cont", Value::Null).map(drop)
    }

    /// Takes the ISO or the stick out; it stays out at the next power on.
    pub fn take_medium_out(&mut self) -> Result<()> {
        self.chassis().take_medium_out()
    }

    /// False also when QEMU has ended on its own.
    pub fn is_on(&mut self) -> bool {
        self.chassis().is_on()
    }

    /// The process that is this machine, or was until it ended on its own.
    pub fn pid(&self) -> Option<u32> {
        self.chassis().pid()
    }

    /// Time since the last power on.
    pub fn on_since(&self) -> Option<Instant> {
        self.chassis().on_since()
    }

    /// What the screen shows, as a PNG file in the machine's folder.
    pub fn screenshot(&mut self) -> Result<PathBuf> {
        let path = self.folder.join("screen.png");
        self.control("screendump", json!({ "filename": path, "format": "png" }))?;
        Ok(path)
    }

    /// On its keyboard, by QEMU's names of keys.
    pub fn press(&mut self, key: &str) -> Result<()> {
        self.control("send-key", json!({ "keys": [{ "type": "qcode", "data": key }] })).map(drop)
    }

    /// Carries out a command of QEMU's machine protocol.
    pub fn control(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.chassis().control(command, arguments)
    }

    /// From the next power on.
    pub(crate) fn connect_kcs(&self, bmc: SocketAddr) {
        self.chassis().connect_kcs(bmc);
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn serial_log(&self) -> PathBuf {
        chassis::serial_log(&self.folder)
    }

    pub fn disk(&self, number: usize) -> PathBuf {
        disk_path(&self.folder, number)
    }

    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Everything on the serial console since the last power on.
    pub fn console(&self) -> Result<String> {
        let mut log = fs::File::open(self.serial_log())?;
        log.seek(SeekFrom::Start(self.chassis().cycle_start()))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines of the console, for a person who asks what went wrong.
    pub fn console_tail(&self, lines: usize) -> String {
        let console = self.console().unwrap_or_default();
        let all: Vec<&str> = console.lines().filter(|line| !line.trim().is_empty()).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Waits until the console since power on shows `text`; gives the console.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let console = self.console()?;
            if console.contains(text) {
                return Ok(console);
            }
            if !self.is_on() {
                bail!(
                    "{} went off while waiting for {text:?} on its console:\n{}",
                    self.name,
                    self.console_tail(30)
                );
            }
            if Instant::now() > end {
                let (name, seconds) = (&self.name, limit.as_secs());
                bail!(
                    "{name} did not show {text:?} within {seconds} s; its console ends with:\n{}",
                    self.console_tail(30)
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// For a BMC, which presses the same buttons. It is gone with the machine.
    pub(crate) fn buttons(&self) -> Weak<Mutex<Chassis>> {
        Arc::downgrade(&self.chassis)
    }

    fn chassis(&self) -> MutexGuard<'_, Chassis> {
        self.chassis.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn disk_path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("disk{number}.raw"))
}
