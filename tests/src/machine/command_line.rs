//! From a machine's [`Spec`] to QEMU's arguments.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{BootFrom, Bus, Firmware, Link, Medium, Model, Rom, Setting, Spec, disk_path};
use crate::accelerator::Accelerator;
use crate::lan::{Cable, Mac};

impl Firmware {
    /// Code and the variables it starts with, in Debian's packages ovmf and qemu-efi-aarch64.
    fn files(self) -> Option<(&'static str, &'static str)> {
        match self {
            Firmware::Bios => None,
            Firmware::Uefi => Some(("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd")),
            Firmware::UefiSecureBoot => {
                Some(("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"))
            }
            Firmware::UefiArm64 => Some(("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd")),
        }
    }

    pub(super) fn emulator(self) -> &'static str {
        match self {
            Firmware::Bios | Firmware::Uefi | Firmware::UefiSecureBoot => "qemu-system-x86_64",
            Firmware::UefiArm64 => "qemu-system-aarch64",
        }
    }
}

/// Gives the machine variables of its own, which its firmware writes to.
pub(super) fn copy_variables(firmware: Firmware, folder: &Path) -> Result<()> {
    let Some((code, variables)) = firmware.files() else { return Ok(()) };
    let from = Path::new(variables);
    if !from.exists() || !Path::new(code).exists() {
        bail!("the UEFI firmware {code} is not here; tests/needs installs it");
    }
    fs::copy(from, folder.join("vars.fd")).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

pub(super) fn arguments(
    spec: &Spec,
    folder: &Path,
    control: &Path,
    cables: &[Cable],
    accelerator: &Accelerator,
    first: Option<BootFrom>,
) -> Vec<String> {
    let mut line = Line { words: Vec::new(), first };
    line.add("-name", format!("{},process=lab-{}", spec.name, spec.name));
    if spec.firmware == Firmware::UefiArm64 {
        line.words.extend(["-accel", "tcg,thread=multi", "-cpu", "cortex-a57"].map(String::from));
    } else {
        line.words.extend(accelerator.arguments().map(String::from));
        line.add("-vga", "std");
    }
    line.add("-nodefaults", "");
    line.add("-no-user-config", "");
    line.add("-display", "none");
    line.machine(spec, folder);
    line.add("-smp", spec.vcpus.to_string());
    line.add("-m", format!("{}M", spec.memory_mib));
    line.add("-object", format!("memory-backend-memfd,id=ram,size={}M", spec.memory_mib));
    line.add("-uuid", spec.uuid.to_string());
    line.add(
        "-smbios",
        format!("type=1,manufacturer=Elisandra,product=Lab,serial={},uuid={}", spec.serial, spec.uuid),
    );
    line.add("-smbios", format!("type=3,serial={}", spec.serial));
    // A machine that found nothing to boot tries again, as real ones do.
    line.add("-boot", "strict=on,reboot-timeout=3000");
    line.add("-chardev", format!("file,id=serial,append=on,path={}", folder.join("serial.log").display()));
    line.add("-serial", "chardev:serial");
    line.add("-qmp", format!("unix:{},server=on,wait=off", control.display()));
    line.disks(spec, folder);
    line.nics(spec, cables);
    line.medium(spec);
    if let Some(bmc) = spec.kcs {
        // With `reconnect`, QEMU connects when all devices are there; before, it crashes on the BMC's first word.
        line.add("-chardev", format!("socket,id=kcs,host={},port={},reconnect=1", bmc.ip(), bmc.port()));
        line.add("-device", "ipmi-bmc-extern,id=bmc,chardev=kcs");
        line.add("-device", "isa-ipmi-kcs,bmc=bmc");
    }
    for (name, value) in &spec.settings {
        let value = match value {
            Setting::Text(text) => format!("string={text}"),
            Setting::File(path) => format!("file={}", path.display()),
        };
        line.add("-fw_cfg", format!("name={name},{value}"));
    }
    line.words
}

struct Line {
    words: Vec<String>,
    /// What is tried before what the machine tries by itself.
    first: Option<BootFrom>,
}

impl Line {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        let value = value.into();
        self.words.push(option.to_string());
        if !value.is_empty() {
            self.words.push(value);
        }
    }

    /// Nothing for a device that is not to be booted.
    fn boot_index(&self, spec: &Spec, kind: BootFrom, number: usize) -> String {
        let place = match self.first {
            Some(first) if first == kind => i32::try_from(number).ok(),
            Some(_) | None => place(spec, kind, number),
        };
        place.map(|place| format!(",bootindex={place}")).unwrap_or_default()
    }

    fn machine(&mut self, spec: &Spec, folder: &Path) {
        let kind = if spec.firmware == Firmware::UefiArm64 { "virt" } else { "q35" };
        let mut machine = format!("{kind},memory-backend=ram");
        match spec.firmware {
            // Makes SeaBIOS, and with it iPXE and boot loaders, print to the
            // serial port as well; the screen stays.
            Firmware::Bios => machine.push_str(",graphics=off"),
            Firmware::Uefi | Firmware::UefiArm64 => {}
            Firmware::UefiSecureBoot => machine.push_str(",smm=on"),
        }
        self.add("-machine", machine);
        if let Some((code, _)) = spec.firmware.files() {
            self.add("-drive", format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"));
            self.add(
                "-drive",
                format!("if=pflash,format=raw,unit=1,file={}", folder.join("vars.fd").display()),
            );
        }
        if spec.firmware == Firmware::UefiSecureBoot {
            self.add("-global", "driver=cfi.pflash01,property=secure,value=on");
        }
    }

    fn disks(&mut self, spec: &Spec, folder: &Path) {
        for (number, disk) in spec.disks.iter().enumerate() {
            let path = disk_path(folder, number);
            // The page cache is the disk: it outlives QEMU, which is all that a
            // power loss in the lab takes down.
            self.add(
                "-drive",
                format!(
                    "if=none,id=disk{number},format=raw,cache=unsafe,discard=unmap,file={}",
                    path.display()
                ),
            );
            let (driver, bus) = match disk.bus {
                Bus::Virtio => ("virtio-blk-pci", String::new()),
                // q35 has a SATA controller with six ports, one drive each;
                // the last is the CD-ROM's.
                Bus::Sata => ("ide-hd", format!(",bus=ide.{number}")),
                Bus::Nvme => ("nvme", String::new()),
            };
            let index = self.boot_index(spec, BootFrom::Disk, number);
            self.add(
                "-device",
                format!(
                    "{driver}{bus},id={},drive=disk{number},serial={}{index}",
                    device(BootFrom::Disk, number),
                    disk.serial
                ),
            );
        }
    }

    fn nics(&mut self, spec: &Spec, cables: &[Cable]) {
        let mut cables = cables.iter();
        for (number, nic) in spec.nics.iter().enumerate() {
            match &nic.link {
                Link::Lan => {
                    let Some(cable) = cables.next() else { continue };
                    self.add("-netdev", cable_backend(number, cable));
                }
                Link::User { forwards } => {
                    let forwards: String = forwards
                        .iter()
                        .map(|forward| format!(",hostfwd=tcp:{}-:{}", forward.local, forward.port))
                        .collect();
                    self.add("-netdev", format!("user,id=nic{number},ipv6=off{forwards}"));
                }
                Link::Tap { device } => {
                    self.add("-netdev", format!("tap,id=nic{number},ifname={device},script=no,downscript=no"))
                }
            }
            let index = match nic.link {
                Link::Lan | Link::Tap { .. } => self.boot_index(spec, BootFrom::Lan, number),
                Link::User { .. } => String::new(),
            };
            // An iPXE ROM would put its own network stack in OVMF's place.
            let wanted = spec.firmware == Firmware::Bios || nic.rom == Rom::Ipxe;
            let rom = if wanted && !index.is_empty() { "" } else { ",romfile=" };
            let model = match nic.model {
                Model::Virtio => "virtio-net-pci",
                Model::E1000 => "e1000",
                Model::E1000e => "e1000e",
                Model::Rtl8139 => "rtl8139",
                Model::Vmxnet3 => "vmxnet3",
            };
            self.add(
                "-device",
                format!(
                    "{model},id={},netdev=nic{number},mac={}{index}{rom}",
                    device(BootFrom::Lan, number),
                    mac_text(nic.mac)
                ),
            );
        }
    }

    fn medium(&mut self, spec: &Spec) {
        let Some(medium) = &spec.medium else { return };
        let index = self.boot_index(spec, BootFrom::Medium, 0);
        let id = device(BootFrom::Medium, 0);
        let drive =
            |path: &PathBuf| format!("if=none,id=medium,format=raw,readonly=on,file={}", path.display());
        match medium {
            Medium::Cdrom(path) => {
                self.add("-drive", format!("{},media=cdrom", drive(path)));
                self.add("-device", format!("ide-cd,bus=ide.5,id={id},drive=medium{index}"));
            }
            Medium::Usb(path) => {
                self.add("-drive", drive(path));
                self.add("-device", "qemu-xhci");
                self.add("-device", format!("usb-storage,id={id},drive=medium{index}"));
            }
        }
    }
}

/// The devices that a machine boots from when it boots from `kind`, and their places in its usual order.
pub(super) fn usual_order(spec: &Spec, kind: BootFrom) -> Vec<(String, i32)> {
    let count = match kind {
        BootFrom::Lan => spec.nics.len(),
        BootFrom::Disk => spec.disks.len(),
        BootFrom::Medium => spec.medium.iter().len(),
    };
    // QEMU takes a device whose place is below zero out of the order.
    (0..count).map(|number| (device(kind, number), place(spec, kind, number).unwrap_or(-1))).collect()
}

/// QEMU's name for a device that can be booted from.
fn device(kind: BootFrom, number: usize) -> String {
    match kind {
        BootFrom::Lan => format!("boot-nic{number}"),
        BootFrom::Disk => format!("boot-disk{number}"),
        BootFrom::Medium => "boot-medium".to_string(),
    }
}

/// A device's place in the boot order. Devices of one kind follow each other: ten places are kept for each kind,
/// and ten more before all others, for the kind that is to be first for once.
fn place(spec: &Spec, kind: BootFrom, number: usize) -> Option<i32> {
    let kinds_before = spec.boot.iter().position(|from| *from == kind)?;
    i32::try_from((kinds_before + 1) * 10 + number).ok()
}

fn cable_backend(number: usize, cable: &Cable) -> String {
    format!(
        "dgram,id=nic{number},local.type=unix,local.path={},remote.type=unix,remote.path={}",
        cable.machine_end.display(),
        cable.lan_end.display()
    )
}

pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
