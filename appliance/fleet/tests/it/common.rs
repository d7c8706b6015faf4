//! A world of values for the core's tests: a fleet, a clock that ticks with every command, and hardware.

#![allow(dead_code, reason = "each test program uses its part")]

use fleet::machine::Phase;
use fleet::package::{Bundle, Config, Deb, Health, Manifest, Nodes, Requires, Unit};
use fleet::wire::{Capacity, Cpu, Disk, DiskContent, Firmware, Hardware, Nic};
use fleet::{Command, Ctx, Event, Fleet, Mac, MachineId, Observed, Plan, Refusal, Timestamp, vm};

#[derive(Default)]
pub struct World {
    pub fleet: Fleet,
    pub log: Vec<Event>,
    pub clock: u64,
}

pub fn at(millis: u64) -> Ctx {
    Ctx { now: Timestamp(millis) }
}

impl World {
    pub fn founded() -> World {
        let mut world = World::default();
        world.does(Command::Found {
            site: uuid::Uuid::from_u128(0x1234),
            network: "10.77.0.0/16".parse().unwrap(),
            address: "10.77.0.1".parse().unwrap(),
            domain: "elisandra".into(),
        });
        world
    }

    /// A founded site with the host m1 of this much memory, two threads and 20 GiB for volumes.
    pub fn with_host(memory_mib: u64) -> World {
        let mut world = World::founded();
        let mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
        world.does(Command::Report { key: "k".into(), hardware: hardware(mac, vec![blank_disk("A")]) });
        world.does(Command::ServeKickstart { machine: MachineId(1), attempt: 1 });
        world.does(Command::PhoneHome { machine: MachineId(1), attempt: 1 });
        world.does(Command::ObserveHost { machine: MachineId(1), capacity: capacity(memory_mib) });
        world
    }

    #[track_caller]
    pub fn does(&mut self, command: Command) -> Vec<Event> {
        self.give(&command).unwrap_or_else(|refusal| panic!("{command:?} was refused: {refusal}"))
    }

    #[track_caller]
    pub fn refuses(&mut self, command: Command) -> Refusal {
        match self.give(&command) {
            Ok(events) => panic!("{command:?} was carried out: {events:?}"),
            Err(refusal) => refusal,
        }
    }

    pub fn give(&mut self, command: &Command) -> Result<Vec<Event>, Refusal> {
        self.clock += 1;
        let events = fleet::decide(&self.fleet, command, at(self.clock))?;
        for event in &events {
            fleet::evolve(&mut self.fleet, event);
        }
        self.log.extend(events.iter().cloned());
        Ok(events)
    }

    pub fn phase(&self, id: MachineId) -> &Phase {
        &self.fleet.machines[&id].phase
    }

    pub fn plan(&self) -> Plan {
        fleet::plan(&self.fleet, &Observed::new(), Timestamp(self.clock))
    }
}

pub fn blank_disk(serial: &str) -> Disk {
    Disk {
        path: "/dev/vda".into(),
        by_id: Some(format!("/dev/disk/by-id/virtio-{serial}")),
        serial: Some(serial.into()),
        model: None,
        bytes: 20 << 30,
        rotational: false,
        removable: false,
        contents: vec![],
    }
}

pub fn disk_with(serial: &str, what: &str, label: &str) -> Disk {
    let label = (!label.is_empty()).then(|| label.to_owned());
    Disk {
        contents: vec![DiskContent { path: "/dev/vda".into(), what: what.into(), label }],
        ..blank_disk(serial)
    }
}

pub fn hardware(mac: Mac, disks: Vec<Disk>) -> Hardware {
    Hardware {
        firmware: Firmware::Bios,
        uuid: None,
        manufacturer: None,
        product: None,
        serial: None,
        board_serial: None,
        cpu: Cpu { model: "QEMU".into(), sockets: 1, threads: 2, virtualization: true },
        memory_mib: 4096,
        disks,
        nics: vec![Nic { name: "eth0".into(), mac, driver: None, carrier: true, speed_mbit: None }],
        boot_mac: mac,
        bmc: None,
    }
}

pub fn capacity(memory_mib: u64) -> Capacity {
    Capacity {
        hypervisor: "QEMU 10.0.2, libvirt 11.3.0".into(),
        domain_type: "kvm".into(),
        threads: 2,
        memory_mib,
        volume_bytes: 20 << 30,
        volume_free_bytes: 20 << 30,
    }
}

pub fn image() -> vm::Image {
    vm::Image { name: "guest.img".into(), sha256: "0".repeat(64), bytes: 1 }
}

pub fn new_vm(name: &str, memory_mib: u64) -> vm::NewVm {
    vm::NewVm {
        name: name.into(),
        vcpus: 1,
        memory_mib,
        disk_gib: 2,
        image: image(),
        recover: vm::Recover::Wait,
        tenant: None,
    }
}

pub fn bundle(name: &str, memory_mib: u64) -> Bundle {
    Bundle {
        sha256: "1".repeat(64),
        bytes: 1,
        manifest: Manifest {
            format: 1,
            name: name.into(),
            version: "1.0.0".into(),
            summary: "says hello".into(),
            requires: Requires { memory_mib, vcpus: 1, disk_gib: 2 },
            nodes: Nodes { min: 1 },
            debs: vec![Deb { file: "debs/hello.deb".into(), sha256: "2".repeat(64) }],
            configs: vec![Config {
                template: "templates/a".into(),
                path: "/etc/a".into(),
                mode: "0644".into(),
            }],
            service: Unit { unit: "hello.service".into(), port: 8080, protocol: "http".into() },
            health: Health { path: "/health".into(), status: 200 },
        },
    }
}

/// Debian's netboot installer.
pub fn debian(name: &str, version: &str) -> fleet::medium::Medium {
    fleet::medium::Medium {
        name: name.into(),
        family: fleet::medium::Family::Debian,
        title: format!("Debian {version} netboot installer"),
        version: version.into(),
        arch: "amd64".into(),
        bytes: 1,
        sha256: "ab".repeat(32),
        kernel: Some("linux".into()),
        initrd: Some("initrd.gz".into()),
        image: None,
    }
}
