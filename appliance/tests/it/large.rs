//! A large site: the log of crate `sample`, and more machines that were found and wait for a person.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::Path;
use std::time::Duration;

use appliance::auth::Client;
use appliance::core::{self, Actor, Core};
use appliance::store::{Fact, Store};
use fleet::rack::Place;
use fleet::site::{Adopt, Policy};
use fleet::wire::Neighbour;
use fleet::{Command, Mac, MachineId};

use crate::example::{self, Site};

pub async fn site(dir: &Path, vms: u64, machines: usize) -> Site {
    let store = Store::sqlite(&dir.join("log.sqlite")).await.unwrap();
    let mut facts = Vec::new();
    let mut last = 0;
    let mut log = sample::log(vms).peekable();
    while let Some(event) = log.next() {
        facts.push(Fact { at: core::now(), actor: "sample".into(), event, command: None });
        if facts.len() == 16_384 || log.peek().is_none() {
            store.append(last, &facts).await.unwrap();
            last += i64::try_from(facts.len()).unwrap();
            facts.clear();
        }
    }
    drop(log);
    let site = example::site_on(dir, store).await;
    let core = &site.app.core;
    for (node, said) in sample::observed(&core.fleet(), core::now()) {
        core.observe(node, said.said.clone());
    }
    let policy = Policy { adopt: Adopt::Ask, ..Policy::default() };
    core.execute(&Actor::Appliance, Command::SetPolicy { policy }).await.unwrap();
    let first = core.fleet().last_machine + 1;
    let more: Vec<u64> =
        (first..first + machines.saturating_sub(core.fleet().machines.len()) as u64).collect();
    for some in more.chunks(500) {
        let sights = some.iter().map(|number| Command::Sight {
            mac: mac(*number),
            arch: Some(7),
            uuid: None,
            link: None,
        });
        core.execute_all(&Actor::Appliance, sights.collect(), None).await.unwrap();
        let reports = some.iter().map(|number| Command::Report {
            key: format!("{number:064x}"),
            hardware: sample::hardware(mac(*number), MachineId(*number)),
        });
        core.execute_all(&Actor::Appliance, reports.collect(), None).await.unwrap();
    }
    // Everything is planned once nothing happens any more.
    let mut position = -1;
    while position != core.position() || core.plan().subjects.len() < more.len() {
        position = core.position();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    site
}

/// 500 machines stand in 20 racks, each with a switch of 48 ports that its machines hear.
pub async fn furnish(core: &Core) {
    let machines: Vec<(MachineId, Mac)> =
        core.fleet().machines.values().take(500).map(|machine| (machine.id, machine.macs[0])).collect();
    for (number, some) in machines.chunks(25).enumerate() {
        let (rack, switch) = (format!("rack-{number}"), format!("leaf-{number}"));
        let ports = (1..=48).map(|port| format!("Ethernet{port}")).collect();
        let place = Some(Place { rack: rack.clone(), unit: 42, height: 1 });
        let mut orders = vec![
            Command::AddRack { name: rack.clone(), units: 42 },
            Command::AddSwitch { name: switch.clone(), ports, place },
        ];
        for (at, (machine, mac)) in (1..).zip(some) {
            let (machine, rack) = (*machine, rack.clone());
            orders.push(Command::PlaceMachine { machine, rack, unit: at, height: 1 });
            let neighbour = Neighbour {
                mac: *mac,
                chassis: format!("00:1c:73:00:00:{number:02x}"),
                port: format!("Ethernet{at}"),
                system: Some(switch.clone()),
            };
            orders.push(Command::ObserveNeighbour { machine, neighbour });
        }
        core.execute_all(&Actor::Appliance, orders, None).await.unwrap();
    }
}

fn mac(number: u64) -> Mac {
    let [.., n3, n2, n1] = number.to_be_bytes();
    Mac([0x3c, 0xec, 0xf0, n3, n2, n1])
}

/// Of somebody who is logged in.
pub async fn token(app: &appliance::App) -> String {
    let code = app.auth.code().unwrap();
    let from = std::net::Ipv4Addr::LOCALHOST.into();
    app.auth.set_first_password(from, &code, "correct horse", Client::Page, core::now()).await.unwrap()
}
