//! What a fleet of N VMs takes of memory, and how long a snapshot of it takes:
//! `cargo run --release -p fleet --example memory -- 100000`.

use std::time::Duration;

use fleet::{Decoded, Part, Restore, parts, state_hash};

fn main() {
    let vms = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let before = resident_kib();
    let (took, fleet) = timed(|| sample::fleet(vms));
    let taken = resident_kib() - before;
    println!("{vms} VMs on {} hosts", fleet.hosts.len());
    println!(
        "folded from its log in {took:.1?}: {} MiB, {} bytes for each VM",
        taken / 1024,
        taken * 1024 / vms
    );
    let (took, hash) = timed(|| state_hash(&fleet));
    println!("state hash {hash} in {took:.1?}");
    let (took, parts) = timed(|| parts(&fleet).collect::<Vec<Part>>());
    let bytes: usize = parts.iter().map(|part| part.body.len()).sum();
    println!("snapshot of {} MiB in {} parts written in {took:.1?}", bytes >> 20, parts.len());
    drop(fleet);
    let (took, decoded) =
        timed(|| parts.iter().map(|part| part.decode().expect("it is whole")).collect::<Vec<Decoded>>());
    println!("read in {took:.1?}");
    let (took, fleet) = timed(|| {
        let mut restore = Restore::default();
        for part in decoded {
            restore.add(part).expect("it is whole");
        }
        restore.finish().expect("it is whole")
    });
    println!("put together with its index in {took:.1?}");
    drop(parts);
    let held = resident_kib();
    drop(fleet);
    println!("it held {} MiB", (held - resident_kib()) / 1024);
}

/// Of the processor: other work on the same computer does not count.
fn timed<T>(what: impl FnOnce() -> T) -> (Duration, T) {
    let start = processor_time();
    let result = what();
    (processor_time() - start, result)
}

/// proc_pid_stat(5): the fields 14 and 15, in hundredths of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// proc_pid_status(5): VmRSS is in kB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or_default()
}
