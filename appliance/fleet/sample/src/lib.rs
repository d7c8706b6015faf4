//! A made-up site of any size: its log, its fleet and what its nodes say. The same every time.
//!
//! Hosts carry 10 to 100 VMs each and have room for a few more; VMs have a volume, a NIC, a lease and the key of
//! their guest agent, and run.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use fleet::machine::{By, TargetDisk};
use fleet::wire::{Capacity, Cpu, Disk, Firmware, Hardware, Nic, ObservedVm, VmState};
use fleet::{
    Event, Fleet, Mac, MachineId, NodeId, Observed, ObservedNode, Timestamp, VmId, host, lease, machine,
    site, subnet, vm,
};

/// 2026-01-01: when the site was founded. An event follows every second.
const FOUNDED: u64 = 1_767_225_600_000;

/// The log of a site with so many VMs.
#[derive(Debug)]
pub struct Log {
    vms: u64,
    /// VMs that the host made last still takes.
    room: u64,
    fleet: Fleet,
    next: VecDeque<Event>,
    clock: u64,
    random: u64,
    image: Arc<vm::Image>,
}

pub fn log(vms: u64) -> Log {
    let image = vm::Image { name: "guest-1.0.img".into(), sha256: "c5".repeat(32), bytes: 700 << 20 };
    let founded = site::Event::Founded(site::Site {
        id: uuid::Uuid::from_u128(0x0197_0000_0000_7000_8000_0000_0000_4a10),
        network: "10.0.0.0/8".parse().unwrap_or_default(),
        address: Ipv4Addr::new(10, 0, 0, 1),
        domain: "elisandra".into(),
        foreign: false,
    });
    Log {
        vms,
        room: 0,
        fleet: Fleet::default(),
        next: [Event::Site(founded)].into(),
        clock: FOUNDED,
        random: 1,
        image: Arc::new(image),
    }
}

pub fn fleet(vms: u64) -> Fleet {
    let mut log = log(vms);
    while log.next().is_some() {}
    log.fleet
}

/// Every host has just said that all its VMs run.
pub fn observed(fleet: &Fleet, at: Timestamp) -> Observed {
    fleet
        .hosts
        .values()
        .map(|host| {
            let vms = vm::on_host(fleet, host.machine);
            let said = fleet::wire::Observed {
                revision: 1,
                version: "0.1.0".into(),
                uptime_secs: 86_400,
                capacity: Some(capacity(host)),
                vms: vms.map(|vm| ObservedVm { id: vm.id, state: VmState::Running }).collect(),
                software: Vec::new(),
                neighbours: Vec::new(),
            };
            (NodeId::Machine(host.machine), Arc::new(ObservedNode { at, said }))
        })
        .collect()
}

impl Iterator for Log {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.next.is_empty() && self.fleet.last_vm < self.vms {
            match self.room {
                0 => self.host(),
                _ => self.vm(),
            }
        }
        let event = self.next.pop_front()?;
        fleet::evolve(&mut self.fleet, &event);
        Some(event)
    }
}

impl Log {
    fn host(&mut self) {
        self.room = 10 + self.random() % 91;
        let machine = MachineId(self.fleet.last_machine + 1);
        let [.., n3, n2, n1] = machine.0.to_be_bytes();
        let mac = Mac([0x3c, 0xec, 0xef, n3, n2, n1]);
        let name = format!("host-{}", machine.0);
        let hardware = hardware(mac, machine);
        let disk = TargetDisk {
            path: hardware.disks[0].path.clone(),
            by_id: hardware.disks[0].by_id.clone(),
            serial: hardware.disks[0].serial.clone(),
            bytes: hardware.disks[0].bytes,
        };
        self.lease(mac);
        let (uuid, key) = (hardware.uuid, self.key());
        let at = self.at();
        self.machine(machine::Event::Sighted { machine, name: name.clone(), mac, arch: Some(7), uuid, at });
        let at = self.at();
        self.machine(machine::Event::Reported { machine, name, key, hardware, at });
        let at = self.at();
        self.machine(machine::Event::Adopted {
            machine,
            by: By::Policy,
            disk,
            wipe: false,
            system: None,
            at,
        });
        let at = self.at();
        self.machine(machine::Event::InstallStarted { machine, attempt: 1, at });
        self.machine(machine::Event::KickstartServed { machine, attempt: 1 });
        let at = self.at();
        self.machine(machine::Event::Installed { machine, attempt: 1, at });
        let key = self.key();
        self.machine(machine::Event::CertificateIssued { machine, key });
        let ready = host::Host {
            machine,
            hypervisor: "QEMU 10.0.2, libvirt 11.3.0".into(),
            threads: 256,
            memory_mib: (self.room + 8) * 8192,
            volume_bytes: (self.room + 8) * (40 << 30),
            ready_since: self.at(),
            draining_since: None,
            suspected_since: None,
            patience_until: None,
        };
        self.next.push_back(Event::Host(host::Event::Ready(ready)));
    }

    fn vm(&mut self) {
        self.room -= 1;
        let id = VmId(self.fleet.last_vm + 1);
        let [.., n3, n2, n1] = id.0.to_be_bytes();
        let mac = Mac([0x02, 0x4a, 0x10, n3, n2, n1]);
        let host = MachineId(self.fleet.last_machine);
        let role = ["web", "db", "cache", "build", "mail", "queue", "api"][pick(self.random(), 7)];
        let vm = vm::Vm {
            id,
            name: format!("{role}-{}", id.0).into(),
            host,
            vcpus: 2,
            memory_mib: 2048 << pick(self.random(), 3),
            disk_gib: 10 << pick(self.random(), 3),
            image: Arc::clone(&self.image),
            mac,
            key: None,
            phase: vm::Phase::Wanted,
            since: self.at(),
            late: None,
            recover: vm::Recover::Wait,
            tenant: None,
        };
        self.lease(mac);
        self.next.push_back(Event::Vm(vm::Event::Created { vm, host_name: format!("host-{}", host.0) }));
        let at = self.at();
        self.next.push_back(Event::Vm(vm::Event::Running { vm: id, at }));
        let key = self.key();
        self.next.push_back(Event::Vm(vm::Event::Enrolled { vm: id, key }));
    }

    fn lease(&mut self, mac: Mac) {
        // Before anything is evolved there is no site; its first event comes first.
        let subnet = subnet::own(&self.fleet);
        let now = Timestamp(self.clock);
        let address = subnet.and_then(|subnet| lease::address_for(&self.fleet, mac, &subnet, now));
        if let Some(address) = address {
            self.next.push_back(Event::Lease(lease::Event::Assigned { mac, address }));
        }
    }

    fn machine(&mut self, event: machine::Event) {
        self.next.push_back(Event::Machine(event));
    }

    fn at(&mut self) -> Timestamp {
        self.clock += 1000;
        Timestamp(self.clock)
    }

    /// A SHA-256 as it is written.
    fn key(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.random())).collect()
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn pick(random: u64, count: u64) -> usize {
    usize::try_from(random % count).unwrap_or_default()
}

pub fn hardware(mac: Mac, machine: MachineId) -> Hardware {
    let disk = |path: &str, name: String, bytes| Disk {
        path: path.into(),
        by_id: Some(format!("/dev/disk/by-id/nvme-{name}")),
        serial: Some(name),
        model: Some("SAMSUNG MZQL2".into()),
        bytes,
        rotational: false,
        removable: false,
        contents: Vec::new(),
    };
    Hardware {
        firmware: Firmware::Uefi,
        uuid: Some(uuid::Uuid::from_u128(u128::from(machine.0))),
        manufacturer: Some("Supermicro".into()),
        product: Some("AS-1115CS-TNR".into()),
        serial: Some(format!("S{:09}", machine.0)),
        board_serial: None,
        cpu: Cpu { model: "AMD EPYC 9754".into(), sockets: 1, threads: 256, virtualization: true },
        memory_mib: 1 << 20,
        disks: vec![
            disk("/dev/nvme0n1", format!("S6{:010}A", machine.0), 480 << 30),
            disk("/dev/nvme1n1", format!("S6{:010}B", machine.0), 7680 << 30),
        ],
        nics: vec![Nic {
            name: "enp1s0f0".into(),
            mac,
            driver: Some("mlx5_core".into()),
            carrier: true,
            speed_mbit: Some(25_000),
        }],
        boot_mac: mac,
        bmc: None,
    }
}

pub fn capacity(host: &host::Host) -> Capacity {
    Capacity {
        hypervisor: host.hypervisor.clone(),
        domain_type: "kvm".into(),
        threads: host.threads,
        memory_mib: host.memory_mib,
        volume_bytes: host.volume_bytes,
        volume_free_bytes: host.volume_bytes,
    }
}
