//! `GET /metrics`: counts and times in the text format of Prometheus, version 0.0.4.
//!
//! What there is of each noun is counted once for each position of the log, however often it is asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use fleet::{Fleet, host};
use nix::sys::resource::{UsageWho, getrusage};

use crate::App;
use crate::api::state::resident_bytes;

pub const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Lines of timelines of these kinds are answers of the boot servers.
const ANSWERS: [&str; 3] = ["dhcp", "tftp", "http"];

/// Upper bounds in microseconds: memory, SSD, disk, a database elsewhere, one that hangs.
const BOUNDS: [u64; 12] =
    [500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 20_000_000];

/// What is counted while it happens.
#[derive(Debug, Default)]
pub struct Metrics {
    answers: [AtomicU64; ANSWERS.len()],
    appends: Times,
    counted: Mutex<Option<(i64, String)>>,
}

#[derive(Debug, Default)]
struct Times {
    /// How many took no longer than each bound, and longer than the one before it.
    within: [AtomicU64; BOUNDS.len()],
    longer: AtomicU64,
    micros: AtomicU64,
}

impl Metrics {
    /// A line of a timeline.
    pub fn noted(&self, kind: &str) {
        if let Some(place) = ANSWERS.iter().position(|answer| *answer == kind) {
            self.answers[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A group of events was made durable, or was not.
    pub fn appended(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bound = BOUNDS.iter().position(|bound| micros <= *bound);
        let count = bound.map_or(&self.appends.longer, |place| &self.appends.within[place]);
        count.fetch_add(1, Ordering::Relaxed);
        self.appends.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

pub async fn get(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, KIND)], text(&app)).into_response()
}

/// Everything that is measured.
pub fn text(app: &App) -> String {
    let head = app.core.head();
    let metrics = app.core.metrics();
    let mut text = {
        let mut counted = metrics.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match &*counted {
            Some((position, text)) if *position == head.position => text.clone(),
            Some(_) | None => counted.insert((head.position, count(&head.fleet))).1.clone(),
        }
    };
    let answers = ANSWERS.iter().zip(&metrics.answers);
    let answers = answers.map(|(kind, count)| (*kind, count.load(Ordering::Relaxed)));
    let name = "elisandra_boot_answers_total";
    many(&mut text, "counter", name, "What the boot servers were asked and told.", "protocol", answers);
    let mut one = |kind, name, about, value: f64| head_and(&mut text, kind, name, about, value);
    #[expect(clippy::cast_precision_loss, reason = "a position has less than 52 bits")]
    one("gauge", "elisandra_log_position", "Of the last event.", head.position as f64);
    let waiting = app.core.orders_waiting();
    one("gauge", "elisandra_orders_waiting", "Orders that the writer has not taken up.", float(waiting));
    let away = u64::from(app.core.away().is_some());
    one("gauge", "elisandra_database_away", "1 while nothing can be changed.", float(away));
    let listeners = app.core.listeners();
    one("gauge", "elisandra_listeners", "Open pages and others that follow changes.", float(listeners));
    let heard = app.core.observed().len() as u64;
    one("gauge", "elisandra_nodes_heard", "Nodes that have said what they are.", float(heard));
    let resident = resident_bytes().unwrap_or(0);
    one("gauge", "process_resident_memory_bytes", "Memory of the daemon in RAM.", float(resident));
    one("counter", "process_cpu_seconds_total", "Time of processors that the daemon took.", cpu_secs());
    times(&mut text, &metrics.appends);
    text
}

fn count(fleet: &Fleet) -> String {
    let mut text = String::new();
    let mut machines: BTreeMap<&str, u64> = BTreeMap::new();
    for machine in fleet.machines.values() {
        *machines.entry(machine.phase.word()).or_default() += 1;
    }
    let (mut vms, mut memory_mib, mut volumes_gib): (BTreeMap<&str, u64>, u64, u64) = Default::default();
    for vm in fleet.vms.values() {
        *vms.entry(vm.phase.word()).or_default() += 1;
        memory_mib += vm.memory_mib;
        volumes_gib += vm.disk_gib;
    }
    let hosts = || fleet.hosts.values();
    let sum = |of: &dyn Fn(&host::Host) -> u64| hosts().map(|host| of(host)).sum::<u64>();
    let (machines, vms) = (machines.into_iter(), vms.into_iter());
    many(&mut text, "gauge", "elisandra_machines", "Machines by phase.", "phase", machines);
    many(&mut text, "gauge", "elisandra_vms", "VMs by phase.", "phase", vms);
    let draining = sum(&|host| u64::from(host.draining_since.is_some()));
    for (name, about, value) in [
        ("elisandra_hosts", "Machines that carry VMs.", fleet.hosts.len() as u64),
        ("elisandra_hosts_draining", "Hosts on which no new VM is placed.", draining),
        ("elisandra_services", "Services.", fleet.services.len() as u64),
        ("elisandra_leases", "Addresses that are given.", fleet.leases.given.len() as u64),
        ("elisandra_host_memory_bytes", "Memory of all hosts.", sum(&|host| host.memory_mib << 20)),
        (
            "elisandra_host_memory_free_bytes",
            "What VMs may still take of it.",
            sum(&|host| host::free_memory_mib(fleet, host) << 20),
        ),
        ("elisandra_vm_memory_bytes", "Memory that is given to VMs.", memory_mib << 20),
        ("elisandra_host_volume_bytes", "Room for volumes of all hosts.", sum(&|host| host.volume_bytes)),
        ("elisandra_vm_volume_bytes", "Room that is promised to VMs.", volumes_gib << 30),
    ] {
        head_and(&mut text, "gauge", name, about, float(value));
    }
    text
}

fn head_of(text: &mut String, kind: &str, name: &str, about: &str) {
    let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} {kind}");
}

fn head_and(text: &mut String, kind: &str, name: &str, about: &str, value: f64) {
    head_of(text, kind, name, about);
    let _ = writeln!(text, "{name} {value}");
}

fn many<'a>(
    text: &mut String,
    kind: &str,
    name: &str,
    about: &str,
    label: &str,
    values: impl Iterator<Item = (&'a str, u64)>,
) {
    head_of(text, kind, name, about);
    for (word, value) in values {
        let _ = writeln!(text, "{name}{{{label}=\"{word}\"}} {value}");
    }
}

fn times(text: &mut String, times: &Times) {
    let name = "elisandra_log_append_seconds";
    head_of(text, "histogram", name, "Time that it took to make a group of events durable.");
    let mut count = 0;
    for (bound, within) in BOUNDS.iter().zip(&times.within) {
        count += within.load(Ordering::Relaxed);
        let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {count}", float(*bound) / 1e6);
    }
    count += times.longer.load(Ordering::Relaxed);
    let sum = float(times.micros.load(Ordering::Relaxed)) / 1e6;
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
}

#[expect(clippy::cast_precision_loss, reason = "the format has floating-point numbers only")]
fn float(value: u64) -> f64 {
    value as f64
}

fn cpu_secs() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0.0 };
    let secs = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().unsigned_abs()).as_secs_f64()
            + f64::from(time.tv_usec() as i32) / 1e6
    };
    secs(usage.user_time()) + secs(usage.system_time())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_once_and_in_every_bucket_above_it() {
        let metrics = Metrics::default();
        for micros in [400, 600, 600, 30_000_000] {
            metrics.appended(Duration::from_micros(micros));
        }
        let mut text = String::new();
        times(&mut text, &metrics.appends);
        for line in
            ["{le=\"0.0005\"} 1\n", "{le=\"0.001\"} 3\n", "{le=\"20\"} 3\n", "{le=\"+Inf\"} 4\n", "_count 4"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
