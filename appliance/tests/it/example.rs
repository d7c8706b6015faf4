//! A site for tests and for looking at the page: the real core on a log in a folder, with machines and a
//! bundle that are made up.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use appliance::core::{Actor, Core};
use appliance::store::Store;
use appliance::tokens::Tokens;
use appliance::vault::Vault;
use appliance::{App, auth, ca, core, reconcile};
use fleet::machine::Phase;
use fleet::wire::{
    Capacity, Cpu, Disk, DiskContent, Firmware, Hardware, Neighbour, Nic, Observed, ObservedSoftware,
    ObservedVm, SoftwareState, VmState,
};
use fleet::{Command, Mac, MachineId, NodeId, VmId};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub struct Site {
    pub app: App,
    /// Writer and reconciler.
    pub tasks: JoinSet<anyhow::Result<()>>,
    pub shutdown: CancellationToken,
}

pub async fn site(dir: &Path) -> Site {
    site_on(dir, Store::sqlite(&dir.join("log.sqlite")).await.unwrap()).await
}

/// A site whose log is elsewhere.
pub async fn site_on(dir: &Path, store: Store) -> Site {
    site_or_rehearsal(dir, store, false).await
}

/// An appliance into which another's log is replayed.
pub async fn rehearsal(dir: &Path) -> Site {
    site_or_rehearsal(dir, Store::sqlite(&dir.join("log.sqlite")).await.unwrap(), true).await
}

async fn site_or_rehearsal(dir: &Path, store: Store, rehearsal: bool) -> Site {
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let core = core::start(store, &mut tasks, shutdown.clone()).await.unwrap();
    if core.fleet().site.is_none() && !rehearsal {
        let found = Command::Found {
            site: uuid::Uuid::new_v4(),
            network: "10.77.0.0/16".parse().unwrap(),
            address: Ipv4Addr::new(10, 77, 0, 1),
            domain: "elisandra".into(),
        };
        core.execute(&Actor::Appliance, found).await.unwrap();
    }
    let files = dir.join("files");
    std::fs::create_dir_all(&files).unwrap();
    let manifest = serde_json::json!({
        "version": "0.1.0",
        "files": { "guest.img": { "sha256": "ab".repeat(32), "bytes": 300_000_000 } },
    });
    std::fs::write(files.join("manifest.json"), manifest.to_string()).unwrap();
    let app = App {
        files,
        bundles: dir.join("bundles"),
        systems: dir.join("systems"),
        ca: Arc::new(ca::Ca::open(dir).unwrap()),
        tokens: Arc::new(Tokens::open(&dir.join("secret")).unwrap()),
        auth: Arc::new(auth::Auth::open(core.store().clone()).await.unwrap()),
        vault: Arc::new(Vault::open(core.store().clone(), &dir.join("seal-key")).await.unwrap()),
        bmcs: Arc::new(appliance::bmc::Bmcs::new(appliance::bmc::Settings::default())),
        powers: Arc::default(),
        consoles: Arc::default(),
        glances: Arc::default(),
        core: core.clone(),
        rehearsal,
        seen: Arc::new(appliance::dhcp::Seen::since(appliance::core::now())),
        wires: Arc::default(),
    };
    if !rehearsal {
        tasks.spawn(reconcile::run(core, shutdown.clone()));
        tasks.spawn(appliance::power::run(app.clone(), shutdown.clone()));
    }
    Site { app, tasks, shutdown }
}

pub fn mac(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0x4a, 0x10, number])
}

/// A made-up computer; `data` puts a file system on its disk.
pub fn hardware(mac: Mac, data: bool) -> Hardware {
    let number = u32::from(mac.0[5]);
    let contents =
        DiskContent { path: "/dev/nvme0n1p1".into(), what: "ext4".into(), label: Some("data".into()) };
    Hardware {
        firmware: if number.is_multiple_of(2) { Firmware::Uefi } else { Firmware::Bios },
        uuid: Some(uuid::Uuid::from_u128(u128::from(number))),
        manufacturer: Some("Dell Inc.".into()),
        product: Some("PowerEdge R650".into()),
        serial: Some(format!("7XK{number}")),
        board_serial: None,
        cpu: Cpu { model: "Intel Xeon Silver 4314".into(), sockets: 1, threads: 32, virtualization: true },
        memory_mib: 65_536,
        disks: vec![Disk {
            path: "/dev/nvme0n1".into(),
            by_id: Some(format!("/dev/disk/by-id/nvme-Micron_7450_S4EV{number:04}")),
            serial: Some(format!("S4EV{number:04}")),
            model: Some("Micron 7450".into()),
            bytes: 960_197_124_096,
            rotational: false,
            removable: false,
            contents: if data { vec![contents] } else { Vec::new() },
        }],
        nics: vec![Nic { name: "eno1".into(), mac, driver: None, carrier: true, speed_mbit: Some(25_000) }],
        boot_mac: mac,
        bmc: None,
    }
}

pub async fn sight(core: &Core, mac: Mac) {
    let arch = if mac.0[5].is_multiple_of(2) { 7 } else { 0 };
    core.note(&mac.to_string(), "dhcp", "DISCOVER, offered an address".into());
    core.execute(&Actor::Wire(mac), Command::Sight { mac, arch: Some(arch), uuid: None, link: None })
        .await
        .unwrap();
    core.note(&mac.to_string(), "tftp", "fetched shimx64.efi, 948 kB".into());
    core.note(&mac.to_string(), "http", "fetched vmlinuz, 12 MB".into());
    core.note(&mac.to_string(), "http", "fetched initrd, 48 MB".into());
}

/// The machine says what it is; by policy it is adopted at once if it is blank.
pub async fn report(core: &Core, mac: Mac, data: bool) -> MachineId {
    reported(core, hardware(mac, data)).await
}

async fn reported(core: &Core, hardware: Hardware) -> MachineId {
    let mac = hardware.boot_mac;
    let report = Command::Report { key: hex::encode(Sha256::digest(mac.0)), hardware };
    core.execute(&Actor::Wire(mac), report).await.unwrap();
    fleet::machine::by_mac(&core.fleet(), mac).unwrap().id
}

/// A machine that was found, installed and joined.
pub async fn host(core: &Core, mac: Mac) -> MachineId {
    host_of(core, hardware(mac, false)).await
}

/// The same of a machine that is made of something else.
pub async fn host_of(core: &Core, hardware: Hardware) -> MachineId {
    let mac = hardware.boot_mac;
    sight(core, mac).await;
    let machine = reported(core, hardware).await;
    let node = Actor::Node(NodeId::Machine(machine));
    core.execute(&node, Command::ServeKickstart { machine, attempt: 1 }).await.unwrap();
    core.execute(&node, Command::PhoneHome { machine, attempt: 1 }).await.unwrap();
    join(core, machine).await;
    machine
}

/// Its host agent speaks, and the VMs that it should have are running.
pub async fn join(core: &Core, machine: MachineId) {
    let vms = core.fleet().vms.values().filter(|vm| vm.host == machine).map(|vm| vm.id).collect::<Vec<_>>();
    core.observe(
        NodeId::Machine(machine),
        Observed {
            revision: 1,
            version: "0.1.0".into(),
            uptime_secs: 60,
            capacity: Some(Capacity {
                hypervisor: "QEMU 10.0.2, libvirt 11.3.0".into(),
                domain_type: "kvm".into(),
                threads: 32,
                memory_mib: 64_000,
                volume_bytes: 950_000_000_000,
                volume_free_bytes: 871_000_000_000,
            }),
            vms: vms.into_iter().map(|id| ObservedVm { id, state: VmState::Running }).collect(),
            software: Vec::new(),
            neighbours: Vec::new(),
        },
    );
    until(core, |fleet| fleet.machines.get(&machine).is_some_and(|machine| machine.phase == Phase::Ready))
        .await;
}

/// A machine hears over LLDP which port its NIC is in.
pub async fn hears(core: &Core, machine: MachineId, mac: Mac, system: &str, port: &str) {
    let neighbour = Neighbour {
        mac,
        chassis: "00:1c:73:0a:5e:00".into(),
        port: port.into(),
        system: Some(system.into()),
    };
    let heard = Command::ObserveNeighbour { machine, neighbour };
    core.execute(&Actor::Node(NodeId::Machine(machine)), heard).await.unwrap();
}

/// The guest agent of a VM says how far its package is.
pub fn guest(core: &Core, vm: VmId, name: &str, version: &str, state: SoftwareState) {
    core.observe(
        NodeId::Vm(vm),
        Observed {
            revision: 1,
            version: "0.1.0".into(),
            uptime_secs: 20,
            capacity: None,
            vms: Vec::new(),
            software: vec![ObservedSoftware { name: name.into(), version: version.into(), state }],
            neighbours: Vec::new(),
        },
    );
}

/// How long a test waits for what has to come: while a computer also compiles, a commit can take many seconds.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);

pub async fn until(core: &Core, holds: impl Fn(&fleet::Fleet) -> bool) {
    let mut changes = core.watch_fleet();
    let waited = changes.wait_for(|head| holds(&head.fleet));
    tokio::time::timeout(PATIENCE, waited).await.expect("it did not happen").unwrap();
}

/// A bundle like the one of docs/eli.md.
pub fn bundle(name: &str, memory_mib: u64) -> Vec<u8> {
    let deb = b"!<arch>\ndebian-binary   1700000000  0     0     100644  4         `\n2.0\n".to_vec();
    let manifest = format!(
        r#"format = 1
name = "{name}"
version = "1.0.0"
summary = "Says {name} over HTTP"
[requires]
memory_mib = {memory_mib}
vcpus = 1
disk_gib = 2
[[deb]]
file = "debs/{name}.deb"
sha256 = "{}"
[[config]]
template = "templates/site.conf"
path = "/etc/{name}/site.conf"
[service]
unit = "{name}.service"
port = 8080
protocol = "http"
[health]
path = "/health"
status = 200
"#,
        hex::encode(Sha256::digest(&deb))
    );
    let site_conf = b"listen {{ service.address }}:{{ service.port }} for {{ network.cidr }}\n".to_vec();
    pack(&[
        ("manifest.toml", manifest.as_bytes()),
        (&format!("debs/{name}.deb"), &deb),
        ("templates/site.conf", &site_conf),
    ])
}

/// A tar with these files; names are written as they are, also those that `tar` would refuse.
pub fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}
