//! What `/api/v1/state` costs with a large fleet: 10,000 machines, 100,000 addresses.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use appliance::api::state;
use appliance::core::{Actor, Core};
use fleet::{Command, Mac, subnet};

use crate::example;
use crate::machine::{Firmware, hardware};
use crate::packet::mac;

const MACHINES: u32 = 10_000;
const ADDRESSES: u32 = 100_000;
const TIMES: usize = 20;

pub fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(page());
}

async fn page() {
    let folder = tempfile::tempdir().unwrap();
    let site = example::site(folder.path()).await;
    let core = &site.app.core;
    let mut hall = subnet::Subnet::new("hall", "10.128.0.0/11".parse().unwrap());
    hall.router = Some(Ipv4Addr::new(10, 128, 0, 1));
    let policy =
        fleet::site::Policy { adopt: fleet::site::Adopt::Ask, ssh_keys: Vec::new(), ..Default::default() };
    give(core, vec![Command::SetPolicy { policy }, Command::SetSubnet { subnet: hall }]).await;
    let link = Some(Ipv4Addr::new(10, 128, 0, 1));
    for first in (0..ADDRESSES).step_by(1000) {
        let sight = |number| {
            let arch = (number < MACHINES).then_some(7);
            Command::Sight { mac: Mac(mac(number)), arch, uuid: None, link }
        };
        give(core, (first..first + 1000).map(sight).collect()).await;
    }
    for first in (0..MACHINES).step_by(1000) {
        let report = |number| {
            let hardware = hardware(number, Firmware::Uefi);
            Command::Report { key: format!("key {number}"), hardware }
        };
        give(core, (first..first + 1000).map(report).collect()).await;
    }

    let fleet = core.fleet();
    println!("page: {} machines, {} addresses", fleet.machines.len(), fleet.leases.given.len());
    let pools = subnet::all(&fleet).collect::<Vec<_>>();
    let now = appliance::core::now();
    measure("usage of all pools", || {
        pools.iter().map(|pool| fleet::lease::usage(&fleet, pool, now).given).sum()
    });
    measure("state", || state::state(&site.app).machines.len() as u64);
    let state = state::state(&site.app);
    measure("state as JSON", || serde_json::to_string(&state).unwrap().len() as u64);
    let mut tasks = site.tasks;
    site.shutdown.cancel();
    tasks.shutdown().await;
}

async fn give(core: &Core, commands: Vec<Command>) {
    core.execute_all(&Actor::Appliance, commands, None).await.unwrap();
}

fn measure(what: &str, mut work: impl FnMut() -> u64) {
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let begun = Instant::now();
            std::hint::black_box(work());
            begun.elapsed()
        })
        .collect();
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("  {what}: {:.2} ms (median), {:.2} ms at best", ms(times[TIMES / 2]), ms(times[0]));
}
