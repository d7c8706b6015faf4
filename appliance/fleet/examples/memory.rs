//! What a fleet of N VMs takes of memory: `cargo run --release -p fleet --example memory -- 100000`.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn main() {
    let vms = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let before = resident_kib();
    let start = Instant::now();
    let fleet = sample::fleet(vms);
    let took = start.elapsed();
    let taken = resident_kib() - before;
    println!(
        "{vms} VMs on {} hosts: {} MiB, {} bytes for each VM; folded in {took:.1?}",
        fleet.hosts.len(),
        taken / 1024,
        taken * 1024 / vms
    );
}

/// proc_pid_status(5): VmRSS is in kB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or_default()
}
