//! One suite of promises for every hypervisor, and libvirt's own driver for tests.

use std::net::Ipv4Addr;

use fleet::Mac;
use fleet::wire::{ImageSpec, Seed};

use super::*;

pub fn spec(id: u64, name: &str) -> VmSpec {
    VmSpec {
        id: VmId(id),
        name: name.to_owned(),
        uuid: Uuid::from_u128(0x6fc5_2a4b_0000_4000_8000_0000_0000_0000 + u128::from(id)),
        vcpus: 1,
        memory_mib: 384,
        volume: VolumeSpec {
            name: format!("{name}-v{id}"),
            bytes: 64 << 20,
            image: ImageSpec {
                url: "http://10.77.0.1/boot/files/guest.img".to_owned(),
                sha256: "00".repeat(32),
                bytes: 1000,
            },
        },
        mac: Mac([0x52, 0x54, 0, 0, 1, u8::try_from(id).unwrap()]),
        bridge: "lan0".to_owned(),
        address: Ipv4Addr::new(10, 77, 1, 10),
        seed: Seed {
            meta_data: "{}".to_owned(),
            user_data: "#cloud-config\n{}".to_owned(),
            network_config: "{}".to_owned(),
        },
    }
}

fn image(dir: &Path) -> std::path::PathBuf {
    let image = dir.join("image.qcow2");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&image)
        .arg("64M")
        .status();
    assert!(made.unwrap().success());
    image
}

fn keeps_its_promises(hypervisor: &dyn Hypervisor, dir: &Path) {
    let image = image(dir);
    let seed = dir.join("seed");
    std::fs::write(&seed, "seed").unwrap();
    let mut vm = spec(1, "hello-1");

    assert_eq!(hypervisor.vms().unwrap(), []);
    assert_eq!(hypervisor.ensure_volume(&vm.volume, &image).unwrap(), Ensured::Created);
    assert_eq!(hypervisor.ensure_volume(&vm.volume, &image).unwrap(), Ensured::AlreadyThere);
    assert_eq!(hypervisor.ensure_seed(&seed_name(&vm), &seed).unwrap(), Ensured::Created);
    assert_eq!(hypervisor.ensure_seed(&seed_name(&vm), &seed).unwrap(), Ensured::AlreadyThere);
    let names = ["hello-1-v1", "hello-1-v1.seed"].map(str::to_owned);
    assert_eq!(hypervisor.volumes().unwrap(), BTreeSet::from(names));

    assert_eq!(hypervisor.ensure_vm(&vm).unwrap(), Ensured::Created);
    assert_eq!(hypervisor.ensure_vm(&vm).unwrap(), Ensured::AlreadyThere);
    let there = hypervisor.vms().unwrap();
    assert_eq!(
        there,
        [Vm {
            id: VmId(1),
            uuid: vm.uuid,
            name: "hello-1".to_owned(),
            running: true,
            volume: "hello-1-v1".to_owned(),
            seed: "hello-1-v1.seed".to_owned(),
            fingerprint: fingerprint(&vm),
        }]
    );
    vm.memory_mib = 512;
    assert_eq!(hypervisor.ensure_vm(&vm).unwrap(), Ensured::Redefined);
    assert_eq!(hypervisor.ensure_vm(&vm).unwrap(), Ensured::AlreadyThere);

    // A name that leads out of the pool is no name.
    let mut out = spec(2, "out");
    out.volume.name = "../../etc/shadow".to_owned();
    assert!(matches!(hypervisor.ensure_volume(&out.volume, &image), Err(HypervisorError::Refused(_))));

    let there = hypervisor.vms().unwrap();
    assert_eq!(hypervisor.remove_vm(&there[0]).unwrap(), Ensured::Removed);
    assert_eq!(hypervisor.remove_vm(&there[0]).unwrap(), Ensured::AlreadyThere);
    assert_eq!(hypervisor.vms().unwrap(), []);
    assert_eq!(hypervisor.volumes().unwrap(), BTreeSet::new());
}

#[test]
fn the_fake_keeps_the_promises() {
    let dir = tempfile::tempdir().unwrap();
    keeps_its_promises(&Fake::default(), dir.path());
}

#[test]
fn the_fake_fails_when_it_is_told_to() {
    let fake = Fake::default();
    fake.fail("vms", "libvirtd is away");
    assert_eq!(fake.vms().unwrap_err().to_string(), "libvirtd is away");
    fake.succeed("vms");
    assert_eq!(fake.vms().unwrap(), []);
    // As libvirt would.
    assert!(fake.ensure_vm(&spec(1, "hello-1")).is_err());
}

/// libvirt's test driver keeps its machines in our own process; everything but QEMU is real: the connection, the XML
/// parser, definitions, metadata, states.
#[test]
fn libvirt_keeps_the_promises() {
    let dir = tempfile::tempdir().unwrap();
    let libvirt = Libvirt::new(Places {
        uri: "test:///default".to_owned(),
        domain_type: "test".to_owned(),
        volumes: dir.path().join("volumes"),
        consoles: dir.path().join("consoles"),
        sockets: dir.path().join("sockets"),
    });
    // The driver comes with a machine called "test": it is not ours and stays.
    keeps_its_promises(&libvirt, dir.path());
    let capacity = libvirt.capacity().unwrap();
    assert!(capacity.hypervisor.starts_with("TEST"), "{capacity:?}");
    assert!(capacity.threads > 0 && capacity.volume_bytes > 0, "{capacity:?}");
}
