//! The table of a run of the path: what was measured, what it may be, and on
//! which machine.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::accelerator::Accelerator;
use crate::world::World;

/// Seconds that a step may take, under TCG on two cores.
const TIME_BARS: [(&str, u64); 5] = [
    ("bios: power-on to found", 25),
    ("uefi: power-on to found", 35),
    ("bios: found to ready", 240),
    ("uefi: found to ready", 240),
    ("eli install to answering", 240),
];

const MB: f64 = 1e6;

struct Row {
    what: String,
    value: String,
    bar: Option<(String, bool)>,
}

/// Looks at what cannot be timed, too: sizes, and the daemon's memory now.
pub fn table(world: &World) -> Result<String> {
    let mut rows: Vec<Row> = world.times.iter().map(|(what, time)| time_row(what, *time)).collect();
    let out = &world.products.out;
    let size = |name: &str| -> Result<u64> {
        Ok(fs::metadata(out.join(name)).with_context(|| format!("looking at {name}"))?.len())
    };
    rows.push(size_row("kernel and initrd", size("vmlinuz")? + size("initrd")?, Some(80.0)));
    rows.push(size_row("squashfs", size("live.squashfs")?, Some(350.0)));
    rows.push(size_row("guest image", size("guest.img")?, None));
    rows.push(size_row("ISO", size("elisandra.iso")?, None));
    if let Some(bytes) = world.api()?.state()?.daemon.resident_bytes {
        rows.push(size_row("the daemon's memory when idle", bytes, Some(60.0)));
    }
    let mut text = String::from("| what | measured | bar | |\n|---|---|---|---|\n");
    for Row { what, value, bar } in rows {
        let (bar, mark) = match bar {
            Some((bar, true)) => (bar, "✓"),
            Some((bar, false)) => (bar, "✗"),
            None => (String::new(), ""),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {what} | {value} | {bar} | {mark} |");
    }
    Ok(text)
}

fn time_row(what: &str, time: Duration) -> Row {
    let bar = TIME_BARS.iter().find(|(name, _)| *name == what);
    Row {
        what: what.to_string(),
        value: format!("{:.1} s", time.as_secs_f64()),
        bar: bar.map(|(_, most)| (format!("{most} s"), time <= Duration::from_secs(*most))),
    }
}

fn size_row(what: &str, bytes: u64, bar: Option<f64>) -> Row {
    let size = bytes as f64 / MB;
    Row {
        what: what.to_string(),
        value: format!("{size:.1} MB"),
        bar: bar.map(|most| (format!("{most:.0} MB"), size <= most)),
    }
}

/// Writes docs/benchmarks/path.md.
pub fn write(path: &Path, table: &str, accelerator: &Accelerator) -> Result<()> {
    let text = format!(
        "# Benchmarks\n\n\
         One run of the path, from the ISO to an answering service, in the lab: an appliance, a BIOS machine and \
         then a UEFI machine, started one after the other. `target/release/story path --bench docs/benchmarks/path.md` \
         makes this page anew. *Found* means that the machine and its hardware are visible over the API. MB are a \
         million bytes.\n\n\
         {table}\n{}\n",
        this_computer(accelerator)
    );
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn this_computer(accelerator: &Accelerator) -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']).to_string();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
    let line = |program: &str, arguments: &[&str]| -> String {
        let output = Command::new(program).args(arguments).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_string()
    };
    format!(
        "Measured on {}: {cores} cores of {model}, {:.0} GB memory, {}, machines under {accelerator}.",
        line("date", &["-u", "+%Y-%m-%d"]),
        kib as f64 * 1024.0 / 1e9,
        line("qemu-system-x86_64", &["--version"]).replace("QEMU emulator version", "QEMU"),
    )
}
