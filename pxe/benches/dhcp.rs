//! The DHCP engine alone: perfdhcp (of kea-admin) at a rising rate, in network namespaces, against a directory in
//! memory whose commits take two milliseconds, as a group of appends to a log does.
//!
//! `cargo bench -p pxe --bench dhcp`, with `BENCH_SECONDS` for another length than five

#[path = "../tests/it/namespace.rs"]
mod namespace;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use namespace::{Machine, cable, inside, run};
use pxe::{
    Assignment, Boot, Directory, MacAddr, Network, Note, Refused, Sight,
    dhcp::{Mode, ServerFacts, Sockets, serve},
};
use tokio_util::sync::CancellationToken;

struct Memory {
    network: Arc<Network>,
    given: Mutex<HashMap<MacAddr, Ipv4Addr>>,
    committed: Mutex<HashMap<MacAddr, Ipv4Addr>>,
}

impl Memory {
    fn assignment(&self, mac: MacAddr) -> Assignment {
        let mut given = self.given.lock().unwrap();
        let next = Ipv4Addr::from(0x0a4e_0000 + u32::try_from(given.len()).unwrap());
        let address = *given.entry(mac).or_insert(next);
        Assignment { address, hostname: None, lease_secs: 3600, network: Arc::clone(&self.network) }
    }
}

#[async_trait::async_trait]
impl Directory for Memory {
    async fn offer(&self, sight: &Sight) -> Result<Assignment, Refused> {
        Ok(self.assignment(sight.mac))
    }

    async fn commit(&self, sight: &Sight) -> Result<Assignment, Refused> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let assignment = self.assignment(sight.mac);
        self.committed.lock().unwrap().insert(sight.mac, assignment.address);
        Ok(assignment)
    }

    fn knows(&self, mac: MacAddr) -> bool {
        self.committed.lock().unwrap().contains_key(&mac)
    }

    async fn quarantine(&self, _: MacAddr, _: Ipv4Addr) {}

    fn network(&self, _: Option<Ipv4Addr>) -> Option<Arc<Network>> {
        Some(Arc::clone(&self.network))
    }

    fn network6(&self) -> Option<ipnet::Ipv6Net> {
        None
    }

    fn boot(&self, _: MacAddr) -> Boot {
        Boot::Disk
    }

    async fn answers(&self, _: &str, _: IpAddr) -> Result<String, Refused> {
        Err(Refused("none".to_owned()))
    }

    fn note(&self, _: Note) {}
}

fn main() {
    inside("dhcp", async || {
        let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|word| word.parse().ok()).unwrap_or(5);
        cable("52:54:00:aa:bb:01");
        let machine = Arc::new(Machine::take_eth0());
        run("ip addr add 10.64.0.1/10 dev lan0");
        machine.run("ip addr add 10.64.0.2/10 dev eth0");
        for broadcast in [false, true] {
            for rate in [6000, 9000, 12_000, 15_000] {
                let report = measure(&machine, rate, seconds, broadcast).await;
                let kind = if broadcast { "broadcast" } else { "relayed" };
                println!("{kind} clients, {rate}/s asked: {report}");
            }
        }
    });
}

/// Runs perfdhcp, whose clients are all new, and says what it says.
async fn measure(machine: &Arc<Machine>, rate: u32, seconds: u32, broadcast: bool) -> String {
    let address = [10, 64, 0, 1].into();
    let facts = ServerFacts { address, mode: Mode::Full, https: None };
    let network = Network {
        subnet: "10.64.0.0/10".parse().unwrap(),
        router: Some(address),
        dns: vec![address],
        domain: "elisandra".to_owned(),
        ntp: Vec::new(),
        routes: Vec::new(),
        mtu: None,
    };
    let directory =
        Arc::new(Memory { network: Arc::new(network), given: Mutex::default(), committed: Mutex::default() });
    let stop = CancellationToken::new();
    let sockets = Sockets::open("lan0", Mode::Full).unwrap();
    let server = tokio::spawn(serve(sockets, facts, directory.clone(), stop.clone()));
    let before = cpu_seconds();
    let to = if broadcast { "-B -l eth0 255.255.255.255" } else { "-l eth0 10.64.0.1" };
    let command = format!("perfdhcp -4 -r {rate} -R 1000000 -p {seconds} -u -W 1000000 {to}");
    let machine = Arc::clone(machine);
    let output = tokio::task::spawn_blocking(move || machine.output(&command)).await.unwrap();
    let used = cpu_seconds() - before;
    stop.cancel();
    server.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let figure =
        |name: &str| text.lines().filter_map(|line| line.strip_prefix(name)).next_back().map(str::trim);
    let words: Vec<String> = ["Rate:", "drops:", "drops ratio:", "avg delay:"]
        .iter()
        .map(|name| {
            let all: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim).collect();
            format!("{name} {}", all.join(" / "))
        })
        .collect();
    assert!(figure("Rate:").is_some(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    format!("{}; {used:.1} s of CPU, {} leases", words.join(", "), directory.committed.lock().unwrap().len())
}

fn cpu_seconds() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}
