//! How quick DHCP is, beside Kea and dnsmasq on the same cable:
//! `cargo bench -p appliance --bench dhcp -- rate|burst|memory [netboot|appliance|kea|dnsmasq]…`; without words, all.
//!
//! Each server has a network namespace of its own, and the clients one at the other end of a cable. Relayed clients are
//! perfdhcp's, which speaks as a relay; the others are this program's own: they broadcast, as machines do that have no
//! address, and each is another machine. Needs root and Debian's kea-admin, kea-dhcp4-server and dnsmasq-base.

#[path = "dhcp/clients.rs"]
mod clients;
#[path = "dhcp/lan.rs"]
mod lan;
#[path = "../../pxe/tests/it/namespace.rs"]
mod namespace;
#[path = "dhcp/packet.rs"]
mod packet;
#[path = "dhcp/servers.rs"]
mod servers;

use std::time::Duration;

use clients::{Pace, Wanted};
use namespace::Machine;
use servers::{Kind, Running};

/// Exchanges in a second that are tried.
const LADDER: [u32; 30] = [
    200, 300, 400, 600, 800, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000, 5500, 6000, 6500, 7000,
    8000, 9000, 10_000, 11_000, 12_000, 13_000, 14_000, 16_000, 18_000, 20_000, 22_000, 24_000,
];
const TRIAL: Duration = Duration::from_secs(6);
/// Of what was asked, lost.
const LOSS: f64 = 0.01;
const TRIES: usize = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if words.first().is_some_and(|word| word == "clients") {
        return clients::main(&words[1..]);
    }
    lan::enter(&words);
    let kinds: Vec<Kind> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let kinds = if kinds.is_empty() { Kind::ALL.to_vec() } else { kinds };
    let works: Vec<&str> = ["rate", "burst", "memory"]
        .into_iter()
        .filter(|work| {
            words.iter().any(|word| word == work)
                || !words.iter().any(|word| ["rate", "burst", "memory"].contains(&word.as_str()))
        })
        .collect();

    let machine = lan::lay_cable();
    println!("load of the computer before: {}", lan::load());
    for kind in kinds {
        for work in &works {
            match *work {
                "rate" => rate(kind, &machine),
                "burst" => burst(kind, &machine),
                _ => memory(kind, &machine),
            }
        }
    }
    println!("load of the computer after: {}", lan::load());
}

/// The highest rate at which fewer than one in a hundred exchanges are lost.
fn rate(kind: Kind, machine: &Machine) {
    let relayed = highest(|rate| perfdhcp(kind, machine, rate));
    let broadcast = highest(|rate| {
        let server = Running::start(kind);
        let wanted =
            Wanted { clients: u64::from(rate) * TRIAL.as_secs(), pace: Pace::Rate(rate), retry: false };
        let done = clients::in_namespace(machine, &wanted);
        report(&server, &format!("  {kind:?} broadcast {rate}/s: {done}"));
        done.lost() < LOSS && done.in_time()
    });
    println!("rate {kind:?}: {relayed} exchanges/s relayed (perfdhcp), {broadcast} exchanges/s broadcast");
}

/// Walks up the ladder by halves.
fn highest(mut holds: impl FnMut(u32) -> bool) -> u32 {
    let (mut good, mut bad) = (0, LADDER.len() + 1);
    while bad - good > 1 {
        let middle = (good + bad) / 2;
        if (0..TRIES).any(|_| holds(LADDER[middle - 1])) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    if good == 0 { 0 } else { LADDER[good - 1] }
}

/// One run of perfdhcp, whose clients are drawn from a million.
fn perfdhcp(kind: Kind, machine: &Machine, rate: u32) -> bool {
    let server = Running::start(kind);
    let output = machine.output(&format!(
        "perfdhcp -4 -r {rate} -R 1000000 -p {} -W 1000000 -g single -l {} {}",
        TRIAL.as_secs(),
        servers::CLIENTS,
        servers::SERVER
    ));
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |line: &str| line.split(':').nth(1)?.split_whitespace().next()?.parse::<f64>().ok();
    let numbers = |name: &str| -> Vec<f64> {
        text.lines().filter(|line| line.starts_with(name)).filter_map(number).collect()
    };
    let (sent, received) = (numbers("sent packets"), numbers("received packets"));
    let reached = numbers("Rate").first().copied().unwrap_or(0.0);
    let (Some(asked), Some(answered)) = (sent.first(), received.last()) else {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    };
    let lost = 1.0 - answered / asked;
    // perfdhcp sends late when it has no time, and then asks for less than it should.
    let asked_rate = asked / TRIAL.as_secs_f64();
    report(
        &server,
        &format!(
            "  {kind:?} relayed {rate}/s: {reached:.0}/s, {:.2} % lost, {asked_rate:.0}/s asked",
            lost * 100.0
        ),
    );
    lost < LOSS && asked_rate > f64::from(rate) * 0.95
}

/// A thousand machines that ask at the same moment, until the last has its address.
fn burst(kind: Kind, machine: &Machine) {
    let wanted = Wanted { clients: 1000, pace: Pace::AllAtOnce, retry: true };
    let best = (0..TRIES)
        .map(|_| {
            let server = Running::start(kind);
            let done = clients::in_namespace(machine, &wanted);
            report(&server, &format!("  {kind:?} 1,000 at once: {done}"));
            assert_eq!(done.done, 1000, "{kind:?} leaves machines without an address");
            done.secs
        })
        .fold(f64::INFINITY, f64::min);
    println!("burst {kind:?}: 1,000 machines at once all have an address after {best:.2} s");
}

/// What the process takes when it knows 100,000 machines.
fn memory(kind: Kind, machine: &Machine) {
    if kind == Kind::Dnsmasq {
        return println!("memory {kind:?}: not measured, 100,000 leases would take it minutes");
    }
    let server = Running::start(kind);
    let done =
        clients::in_namespace(machine, &Wanted { clients: 100_000, pace: Pace::Window(200), retry: true });
    println!(
        "memory {kind:?}: {:.1} MB resident with {} leases, given in {:.1} s ({:.0} exchanges/s, 200 at a time)",
        server.resident_mb(),
        done.done,
        done.secs,
        done.done as f64 / done.secs
    );
}

fn report(server: &Running, line: &str) {
    println!("{line}; server used {:.1} s of processor", server.processor_secs());
}
