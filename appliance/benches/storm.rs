//! A hall of machines that is switched on at once, until all of them are on the page:
//! `cargo bench -p appliance --bench storm -- [bios|uefi] [page] [MACHINES]`; without words, all, with 1,000.
//!
//! `elisandra serve` has a network namespace, the machines one at the other end of a cable. Each has its own MAC
//! address, IP address and key, and does what firmware, boot loader and initrd do, without their pauses. A person is
//! logged in meanwhile: the page is open, and the REST API is asked twice a second. `page` measures what the page
//! costs with a large fleet. Needs root.

#[path = "../tests/it/example.rs"]
mod example;
#[path = "storm/hall.rs"]
mod hall;
#[path = "dhcp/lan.rs"]
mod lan;
#[path = "storm/machine.rs"]
mod machine;
#[path = "../../pxe/tests/it/namespace.rs"]
mod namespace;
#[path = "dhcp/packet.rs"]
mod packet;
#[path = "storm/page.rs"]
mod page;
#[path = "storm/person.rs"]
mod person;
#[path = "dhcp/servers.rs"]
mod servers;
#[path = "storm/transfer.rs"]
mod transfer;

use std::path::Path;

use machine::Firmware;
use namespace::Machine;
use servers::{Kind, Running};

const TRIES: usize = 3;
const MACHINES: u32 = 1000;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if words.first().is_some_and(|word| word == "hall") {
        return hall::main(&words[1..]);
    }
    let works: Vec<&str> = ["bios", "uefi", "page"]
        .into_iter()
        .filter(|work| {
            words.iter().any(|word| word == work)
                || !words.iter().any(|word| ["bios", "uefi", "page"].contains(&word.as_str()))
        })
        .collect();
    if works == ["page"] {
        return page::main();
    }
    lan::enter(&words);
    let machines = words.iter().find_map(|word| word.parse().ok()).unwrap_or(MACHINES);
    let cable = lan::lay_cable();
    println!("load of the computer before: {}", lan::load());
    for work in works {
        match work {
            "bios" => storm(Firmware::Bios, machines, &cable),
            "uefi" => storm(Firmware::Uefi, machines, &cable),
            _ => page::main(),
        }
    }
    println!("load of the computer after: {}", lan::load());
}

fn storm(firmware: Firmware, machines: u32, cable: &Machine) {
    let best = (0..TRIES)
        .map(|_| {
            let folder = tempfile::tempdir().unwrap();
            files(folder.path());
            let server = Running::start_in(folder, Kind::Appliance);
            let done = hall::in_namespace(cable, firmware, machines, &server);
            println!(
                "  {done}; {:.0} MB resident, {:.0} MB at most",
                server.resident_mb(),
                server.memory_mb("VmHWM")
            );
            done.page_secs.max(done.state_secs)
        })
        .fold(f64::INFINITY, f64::min);
    println!("storm {firmware:?}: {machines} machines are on the page after {best:.1} s");
}

/// As long as Debian's are.
fn files(folder: &Path) {
    let sizes = [
        ("undionly.kpxe", 70_085),
        ("shimx64.efi", 952_384),
        ("grubnetx64.efi", 2_320_264),
        ("vmlinuz", 12 << 20),
        ("initrd", 40 << 20),
        ("live.squashfs", 1 << 20),
    ];
    let mut manifest = serde_json::Map::new();
    for (name, size) in sizes {
        let content: Vec<u8> =
            (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(folder.join(name), &content).unwrap();
        manifest.insert(name.into(), serde_json::json!({ "sha256": "ab".repeat(32), "bytes": size }));
    }
    let manifest = serde_json::json!({ "version": "0.1.0", "files": manifest });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}
