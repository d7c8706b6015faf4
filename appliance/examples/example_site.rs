//! The page with a made-up site behind it, for looking at it and for the browser's test.
//!
//! `cargo run -p appliance --example example_site -- FOLDER [full]` keeps its log in FOLDER, prints its
//! address and its one-time code, and then does what the lines on its input say:
//! `sight N`, `report N`, `report N data`, `host N`, each about the machine with MAC address `52:54:00:4a:10:N`.

#[path = "../tests/it/example.rs"]
mod example;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use appliance::core::{Actor, Core};
use appliance::{packages, tls, web};
use fleet::medium::{Family, Medium};
use fleet::rack::Place;
use fleet::switch::Plugged;
use fleet::vm::{Image, NewVm, Recover};
use fleet::wire::SoftwareState;
use fleet::{Command, NodeId};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().context("a folder for its log must be given")?);
    std::fs::create_dir_all(&dir)?;
    let mut site = example::site(&dir).await;
    if arguments.next().as_deref() == Some("full") {
        fill(&site.app).await?;
    }

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let config = tls::page_config(site.app.ca.server_certificate(&[address.ip()])?)?;
    site.tasks.spawn(tls::serve(
        listener,
        config,
        web::router(site.app.clone()),
        None,
        site.shutdown.clone(),
    ));
    println!("https://{address} {}", site.app.auth.code().unwrap_or_default());

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [verb, number, ..] = words[..] else { continue };
        let (core, mac) = (&site.app.core, example::mac(number.parse()?));
        match verb {
            "sight" => example::sight(core, mac).await,
            "report" => drop(example::report(core, mac, words.contains(&"data")).await),
            "host" => drop(example::host(core, mac).await),
            other => anyhow::bail!("{other} is not known"),
        }
    }
    site.shutdown.cancel();
    Ok(())
}

/// A machine in every phase, VMs, and services.
async fn fill(app: &appliance::App) -> anyhow::Result<()> {
    let manifest = serde_json::json!({
        "version": "0.1.0",
        "files": {
            "guest.img": { "sha256": "ab".repeat(32), "bytes": 300_000_000 },
            "live.squashfs": { "sha256": "8c21".repeat(16), "bytes": 214_000_000 },
        },
    });
    std::fs::write(app.files.join("manifest.json"), manifest.to_string())?;
    let core = &app.core;
    let mut own = example::hardware(example::mac(1), true);
    own.product = Some("OptiPlex 7090".into());
    own.cpu.model = "Intel Core i7-10700".into();
    own.cpu.threads = 16;
    core.execute(&Actor::Appliance, Command::RecordAppliance { hardware: own }).await?;
    let appliance = fleet::machine::by_mac(&core.fleet(), example::mac(1)).context("it was recorded")?.id;
    example::join(core, appliance).await;
    let hosts =
        [appliance, example::host(core, example::mac(2)).await, example::host(core, example::mac(3)).await];

    example::sight(core, example::mac(4)).await;
    let installing = example::report(core, example::mac(4), false).await;
    for (step, percent) in [("partitioning /dev/nvme0n1", 5), ("writing the image", 42)] {
        core.note(&installing.to_string(), "node", format!("{step}, {percent} %"));
    }
    example::sight(core, example::mac(5)).await;
    example::report(core, example::mac(5), true).await;
    example::sight(core, example::mac(6)).await;
    example::sight(core, example::mac(7)).await;
    let failed = example::report(core, example::mac(7), false).await;
    let fail = Command::FailInstall {
        machine: failed,
        attempt: 1,
        step: "writing the image".into(),
        error: "No space left on device (os error 28)".into(),
    };
    core.execute(&Actor::Node(NodeId::Machine(failed)), fail).await?;

    let image = Image { name: "guest.img".into(), sha256: "ab".repeat(32), bytes: 300_000_000 };
    for (name, memory_mib) in [("build-1", 16_384), ("build-2", 8192)] {
        let spec = NewVm {
            name: name.into(),
            vcpus: 4,
            memory_mib,
            disk_gib: 40,
            image: image.clone(),
            recover: Recover::Wait,
            tenant: None,
        };
        core.execute(&Actor::admin("admin"), Command::CreateVm { spec }).await?;
    }
    for name in ["hello", "wiki"] {
        let bytes = example::bundle(name, 1024);
        let body = futures::stream::iter([Ok::<_, std::io::Error>(bytes.into())]);
        let bundle = packages::receive(&app.bundles, packages::LIMIT, body).await?;
        let command = Command::InstallPackage { bundle, image: image.clone(), tenant: None };
        core.execute(&Actor::admin("admin"), command).await?;
    }
    for host in hosts {
        example::join(core, host).await;
    }
    let fleet = core.fleet();
    for service in fleet.services.values() {
        let state = match service.name.as_str() {
            "hello" => SoftwareState::Healthy,
            _ => SoftwareState::Installing { step: "installing wiki.deb".into() },
        };
        example::guest(core, service.nodes[0], &service.name, &service.version, state);
    }
    let spec = NewVm {
        name: "scratch".into(),
        vcpus: 1,
        memory_mib: 512,
        disk_gib: 4,
        image,
        recover: Recover::Wait,
        tenant: None,
    };
    core.execute(&Actor::admin("admin"), Command::CreateVm { spec }).await?;
    stand(core, hosts).await?;
    keep_alive(core.clone(), hosts.to_vec());
    Ok(())
}

/// Two racks and two switches: one is heard over LLDP, the other was told of by a person; an installer of another system.
async fn stand(core: &Core, hosts: [fleet::MachineId; 3]) -> anyhow::Result<()> {
    let person = Actor::admin("admin");
    let orders = [
        Command::AddRack { name: "a1".into(), units: 42 },
        Command::AddRack { name: "a2".into(), units: 42 },
        Command::AddSwitch {
            name: "office".into(),
            ports: (1..=24).map(|port| port.to_string()).collect(),
            place: Some(Place { rack: "a1".into(), unit: 40, height: 1 }),
        },
        Command::Plug {
            switch: "office".into(),
            port: "24".into(),
            what: Plugged::Note { text: "to the other floor".into() },
        },
        Command::PlaceMachine { machine: hosts[1], rack: "a1".into(), unit: 10, height: 1 },
        Command::PlaceMachine { machine: hosts[2], rack: "a1".into(), unit: 12, height: 2 },
        Command::Plug {
            switch: "office".into(),
            port: "2".into(),
            what: Plugged::Nic { mac: example::mac(1) },
        },
        Command::AddMedium {
            medium: Medium {
                name: "debian-13".into(),
                family: Family::Debian,
                title: "Debian GNU/Linux 13 (trixie), netboot".into(),
                version: "13.2".into(),
                arch: "amd64".into(),
                bytes: 48_310_272,
                sha256: "6d1f".repeat(16),
                kernel: Some("linux".into()),
                initrd: Some("initrd.gz".into()),
                image: None,
            },
        },
    ];
    for order in orders {
        core.execute(&person, order).await?;
    }
    for (number, host) in (2..).zip(&hosts[1..]) {
        example::hears(core, *host, example::mac(number), "core-1", &format!("Ethernet{number}")).await;
    }
    let ports = (1..=8).map(|port| format!("Ethernet{port}")).collect();
    core.execute(&person, Command::AddPorts { switch: "core-1".into(), ports }).await?;
    let place = Command::PlaceSwitch { switch: "core-1".into(), rack: "a1".into(), unit: 42, height: 1 };
    core.execute(&person, place).await?;
    for (number, unit, height) in [(4, 14, 1), (5, 16, 2), (7, 18, 1)] {
        let machine =
            fleet::machine::by_mac(&core.fleet(), example::mac(number)).context("it was sighted")?.id;
        core.execute(&person, Command::PlaceMachine { machine, rack: "a1".into(), unit, height }).await?;
    }
    let known = Plugged::Nic { mac: example::mac(2) };
    let plug = Command::Plug { switch: "core-1".into(), port: "Ethernet2".into(), what: known };
    core.execute(&person, plug).await?;
    let uplink = Plugged::Port { switch: "office".into(), port: "23".into() };
    let plug = Command::Plug { switch: "core-1".into(), port: "Ethernet8".into(), what: uplink };
    core.execute(&person, plug).await?;
    // A person says otherwise.
    let what = Plugged::Port { switch: "office".into(), port: "1".into() };
    let plug = Command::Plug { switch: "core-1".into(), port: "Ethernet3".into(), what };
    core.execute(&person, plug).await?;
    Ok(())
}

/// Agents speak every few seconds; without that their machines would soon be shown as silent.
fn keep_alive(core: Core, hosts: Vec<fleet::MachineId>) {
    let core = Arc::new(core);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(15)).await;
            for host in &hosts {
                if let Some(node) = core.observed().get(&NodeId::Machine(*host)) {
                    core.observe(NodeId::Machine(*host), node.said.clone());
                }
            }
        }
    });
}
