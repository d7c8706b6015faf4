//! The definition of a virtual machine as libvirt takes it (<https://libvirt.org/formatdomain.html>).

use std::path::{Path, PathBuf};

use fleet::wire::{ConsoleKind, VmSpec};
use sha2::{Digest, Sha256};

use crate::seed_name;
use crate::xml::{self, Xml};

/// Marks the machines that are ours; libvirt keeps it with the definition.
pub const METADATA_URI: &str = "https://elisandra.org/xmlns/vm/1";

/// What the guest sees of the host's processor. The first gives it everything; the others are for hosts whose
/// processor libvirt does not know by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuMode {
    HostPassthrough,
    HostModel,
    Default,
}

/// Enough for 1920 by 1080.
const VIDEO_KIB: u32 = 16 << 10;

/// Counts up when the definition has something that it had not: what runs is defined anew, for its next start.
const EDITION: u32 = 2;

pub const CPU_MODES: [CpuMode; 3] = [CpuMode::HostPassthrough, CpuMode::HostModel, CpuMode::Default];

/// Files and the type of virtual machines on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    /// `kvm`, or `test` for libvirt's own driver for tests.
    pub domain_type: &'a str,
    pub volumes: &'a Path,
    pub consoles: &'a Path,
    /// Of serial consoles, while machines run.
    pub sockets: &'a Path,
}

pub fn definition(vm: &VmSpec, host: &Host<'_>, cpu: CpuMode) -> String {
    let volume = host.volumes.join(&vm.volume.name);
    let seed = host.volumes.join(seed_name(vm));
    let socket = host.sockets.join(format!("{}.serial", vm.id));
    let console = host.consoles.join(console_name(&vm.volume.name));
    let mut xml = Xml::new();
    xml.element("domain", &[("type", &host.domain_type)], |xml| {
        xml.text("name", &[], &vm.name);
        xml.text("uuid", &[], vm.uuid);
        xml.element("metadata", &[], |xml| {
            xml.empty(
                "elisandra:vm",
                &[
                    ("xmlns:elisandra", &METADATA_URI),
                    ("id", &vm.id),
                    ("volume", &vm.volume.name),
                    ("seed", &seed_name(vm)),
                    ("fingerprint", &fingerprint(vm)),
                ],
            );
        });
        xml.text("memory", &[("unit", &"MiB")], vm.memory_mib);
        xml.text("vcpu", &[], vm.vcpus);
        xml.element("os", &[], |xml| {
            // q35 with SeaBIOS, which libvirt takes when nothing is said of firmware.
            xml.text("type", &[("arch", &"x86_64"), ("machine", &"q35")], "hvm");
            xml.empty("boot", &[("dev", &"hd")]);
        });
        xml.element("features", &[], |xml| {
            xml.empty("acpi", &[]);
            xml.empty("apic", &[]);
        });
        match cpu {
            CpuMode::HostPassthrough => {
                xml.empty("cpu", &[("mode", &"host-passthrough"), ("check", &"none")])
            }
            CpuMode::HostModel => xml.empty("cpu", &[("mode", &"host-model"), ("check", &"none")]),
            CpuMode::Default => {}
        }
        xml.element("clock", &[("offset", &"utc")], |xml| {
            // What libosinfo says of Linux guests: no HPET, and lost ticks are made up for.
            xml.empty("timer", &[("name", &"rtc"), ("tickpolicy", &"catchup")]);
            xml.empty("timer", &[("name", &"pit"), ("tickpolicy", &"delay")]);
            xml.empty("timer", &[("name", &"hpet"), ("present", &"no")]);
        });
        xml.text("on_poweroff", &[], "destroy");
        xml.text("on_reboot", &[], "restart");
        xml.text("on_crash", &[], "restart");
        xml.element("devices", &[], |xml| {
            xml.element("disk", &[("type", &"file"), ("device", &"disk")], |xml| {
                // The guest's flushes reach the disk; what the host has read already (the image a moment ago) is not
                // read again.
                xml.empty(
                    "driver",
                    &[("name", &"qemu"), ("type", &"qcow2"), ("cache", &"writeback"), ("discard", &"unmap")],
                );
                xml.empty("source", &[("file", &volume.display())]);
                xml.empty("target", &[("dev", &"vda"), ("bus", &"virtio")]);
                xml.text("serial", &[], vm.id);
            });
            xml.element("disk", &[("type", &"file"), ("device", &"disk")], |xml| {
                xml.empty("driver", &[("name", &"qemu"), ("type", &"raw")]);
                xml.empty("source", &[("file", &seed.display())]);
                xml.empty("target", &[("dev", &"vdb"), ("bus", &"virtio")]);
                xml.empty("readonly", &[]);
            });
            xml.element("interface", &[("type", &"bridge")], |xml| {
                xml.empty("mac", &[("address", &vm.mac)]);
                xml.empty("source", &[("bridge", &vm.bridge)]);
                xml.empty("model", &[("type", &"virtio")]);
            });
            xml.element("serial", &[("type", &"unix")], |xml| {
                xml.empty("source", &[("mode", &"bind"), ("path", &socket.display())]);
                // All that is said, whether somebody looks or not.
                xml.empty("log", &[("file", &console.display()), ("append", &"on")]);
                xml.empty("target", &[("port", &0)]);
            });
            // A pointer that is where the browser's is.
            xml.empty("input", &[("type", &"tablet"), ("bus", &"usb")]);
            xml.element("graphics", &[("type", &"vnc")], |xml| {
                // libvirt makes the socket in a folder of this machine's own, at each start.
                xml.empty("listen", &[("type", &"socket")]);
            });
            xml.element("video", &[], |xml| {
                xml.empty("model", &[("type", &"vga"), ("vram", &VIDEO_KIB)]);
            });
            xml.empty("memballoon", &[("model", &"virtio")]);
            xml.element("rng", &[("model", &"virtio")], |xml| {
                xml.text("backend", &[("model", &"random")], "/dev/urandom");
            });
        });
    });
    xml.finish()
}

/// The socket of a console in the definition of what runs, as libvirt gives it.
pub fn console(xml: &str, kind: ConsoleKind) -> Option<PathBuf> {
    let (open, end, attribute) = match kind {
        ConsoleKind::Serial => ("<serial type='unix'", "</serial>", "path"),
        ConsoleKind::Graphic => ("<graphics type='vnc'", "</graphics>", "socket"),
    };
    let begin = xml.find(open)?;
    let length = xml[begin..].find(end)?;
    xml::attribute(&xml[begin..begin + length], attribute).map(PathBuf::from)
}

/// The log of a machine's serial console.
pub fn console_name(volume: &str) -> String {
    format!("{volume}.log")
}

/// The seed is left out: it only matters at the first start, and keys in it change with the site's policy.
pub fn fingerprint(vm: &VmSpec) -> String {
    let VmSpec { id, name, uuid, vcpus, memory_mib, volume, mac, bridge, address: _, seed: _ } = vm;
    let facts = format!("{EDITION} {id} {name} {uuid} {vcpus} {memory_mib} {} {mac} {bridge}", volume.name);
    hex::encode(&Sha256::digest(facts)[..8])
}

/// A dir pool: a folder whose files are volumes (<https://libvirt.org/formatstorage.html>).
pub fn pool(name: &str, folder: &Path) -> String {
    let mut xml = Xml::new();
    xml.element("pool", &[("type", &"dir")], |xml| {
        xml.text("name", &[], name);
        xml.element("target", &[], |xml| xml.text("path", &[], folder.display()));
    });
    xml.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::spec;

    fn host() -> Host<'static> {
        Host {
            domain_type: "kvm",
            volumes: Path::new("/var/lib/elisandra/volumes"),
            consoles: Path::new("/var/lib/elisandra/consoles"),
            sockets: Path::new("/run/elisandra/vms"),
        }
    }

    #[test]
    fn a_machine_is_defined() {
        insta::assert_snapshot!(definition(&spec(1, "hello-1"), &host(), CpuMode::HostPassthrough));
    }

    #[test]
    fn a_host_that_libvirt_does_not_know_gets_another_processor() {
        let xml = definition(&spec(1, "hello-1"), &host(), CpuMode::HostModel);
        assert!(xml.contains("<cpu mode='host-model' check='none'/>"));
        assert!(!definition(&spec(1, "hello-1"), &host(), CpuMode::Default).contains("<cpu"));
    }

    #[test]
    fn no_name_breaks_out_of_the_definition() {
        let mut vm = spec(1, "hello-1");
        vm.name = "x</name><devices>".to_owned();
        vm.bridge = "lan0'/><hostdev a='".to_owned();
        let xml = definition(&vm, &host(), CpuMode::HostPassthrough);
        assert!(xml.contains("<name>x&lt;/name&gt;&lt;devices&gt;</name>"));
        assert!(!xml.contains("<hostdev"));
    }

    #[test]
    fn the_fingerprint_follows_the_definition_and_not_the_seed() {
        let one = spec(1, "hello-1");
        let mut other = one.clone();
        other.seed.user_data = "#cloud-config\n{}".to_owned();
        assert_eq!(fingerprint(&one), fingerprint(&other));
        other.memory_mib += 1;
        assert_ne!(fingerprint(&one), fingerprint(&other));
    }

    #[test]
    fn the_pool_is_a_folder() {
        insta::assert_snapshot!(pool("elisandra", Path::new("/var/lib/elisandra/volumes")), @"
        <pool type='dir'>
          <name>elisandra</name>
          <target>
            <path>/var/lib/elisandra/volumes</path>
          </target>
        </pool>
        ");
    }
}
