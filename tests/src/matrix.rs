//! The boot matrix: every kind of firmware and card that the lab has, from power-on to where its boot answer leads,
//! against the boot servers of crate `pxe` alone. Each case asserts the steps on the timeline and what the machine's
//! console shows.
//!
//! ```text
//! network namespace of this process
//!   lan0 (bridge) ── pxe::Server + Book      tap ── machine, tap ── machine: two at a time
//!   lan1          ── pxe::Server whose GRUB is forged
//!   lan2          ── pxe::Server as ProxyDHCP ── dnsmasq, which gives the addresses
//!   lan3          ── pxe::Server with the whole system image
//!   lan5          ── pxe::Server that serves IPv6 only
//!   lan6          ── pxe::Server that names https URLs
//! ```

pub mod book;
pub mod cases;
pub mod network;
pub mod payload;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pxe::diagnosis::{Cause, Diagnosis};
use pxe::{Boot, MacAddr};

use self::book::Book;
use self::network::Lan;
use crate::lab::Lab;
use crate::machine::{Link, Machine, Spec};

pub use self::payload::Products;

/// Nothing is said before a step is half a minute overdue.
const DIAGNOSIS_LIMIT: Duration = Duration::from_secs(120);

/// One machine and what it has to come to.
pub struct Case {
    pub name: &'static str,
    pub lan: Side,
    pub spec: Spec,
    /// What it boots at its first script, at its second, …; the last one stays.
    pub boots: Vec<Boot>,
    /// Parts of lines of its timeline, in this order.
    pub timeline: Vec<String>,
    /// Parts of lines that must not be there.
    pub never: Vec<&'static str>,
    /// What the console shows in the end.
    pub console: &'static str,
    /// What a person is told is the matter with it; while it is on and nobody touches it.
    pub diagnosis: Option<Cause>,
    pub limit: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Ours,
    /// The same with a GRUB whose signature does not fit.
    Forged,
    /// Beside dnsmasq, which gives the addresses.
    Beside,
    /// With the whole system image.
    Whole,
    /// dnsmasq alone, with Python's web server.
    Peer,
    /// IPv6 only.
    Six,
    /// Firmware that boots over HTTP is sent to HTTPS.
    Https,
}

/// When it happened, counted from power-on.
#[derive(Debug, Clone, Default)]
pub struct Times {
    pub address: Option<Duration>,
    pub script: Option<Duration>,
    pub end: Duration,
}

/// Runs the cases two at a time and says how each ended; gives how many passed and failed.
pub fn run(cases: Vec<Case>, lab: &Lab, lans: &[(Side, Lan)], at_once: usize) -> (usize, usize) {
    let next = AtomicUsize::new(0);
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match boot(case, lab, lans) {
                        Ok(times) => {
                            passed.fetch_add(1, Ordering::Relaxed);
                            println!("passed  {}", line(case, &times));
                        }
                        Err(error) => println!("FAILED  {}: {error:#}", case.name),
                    }
                }
            });
        }
    });
    let passed = passed.into_inner();
    (passed, cases.len() - passed)
}

/// Boots each pair in turn, `rounds` times, and prints the best of each.
pub fn bench(pairs: &[(&str, [Case; 2])], lab: &Lab, lans: &[(Side, Lan)], rounds: u32) -> Result<()> {
    println!("| power-on to the kernel, best of {rounds} | ours | dnsmasq |\n|---|---|---|");
    for (name, cases) in pairs {
        let mut best: [Option<Duration>; 2] = [None; 2];
        for _ in 0..rounds {
            for (case, best) in cases.iter().zip(&mut best) {
                if !name.ends_with("(ours only)") || case.lan != Side::Peer {
                    let end = boot(case, lab, lans).with_context(|| format!("{name}, {:?}", case.lan))?.end;
                    *best = Some(best.map_or(end, |best| best.min(end)));
                }
            }
        }
        let [ours, peer] =
            best.map(|best| best.map_or_else(String::new, |b| format!("{:.1} s", b.as_secs_f64())));
        println!("| {name} | {ours} | {peer} |");
    }
    Ok(())
}

fn line(case: &Case, times: &Times) -> String {
    let secs =
        |time: Option<Duration>| time.map_or_else(|| "-".into(), |t| format!("{:.1} s", t.as_secs_f64()));
    format!(
        "{:<44} address {:>7}  script {:>7}  end {:>7}",
        case.name,
        secs(times.address),
        secs(times.script),
        secs(Some(times.end))
    )
}

fn boot(case: &Case, lab: &Lab, lans: &[(Side, Lan)]) -> Result<Times> {
    let (_, lan) = lans.iter().find(|(side, _)| *side == case.lan).context("there is no such LAN")?;
    let mut spec = case.spec.clone();
    let tap = lan.tap()?;
    spec.nics[0].link = Link::Tap { device: tap.name.clone() };
    let mac = MacAddr(spec.nics[0].mac);
    lan.book.expect(mac, case.boots.clone());
    let mut machine = lab.build(spec)?;
    let start = Instant::now();
    machine.power_on()?;
    let seen = watch(case, &mut machine, &lan.book, mac);
    let end = start.elapsed();
    machine.power_off();
    if let Err(error) = seen {
        bail!("{error:#}\nIts timeline:\n{}", lan.book.timeline(mac, start));
    }
    let at = |part: &str| lan.book.first(mac, part).map(|at| at.duration_since(start));
    Ok(Times { address: at("leased").or_else(|| at("boot information")), script: at(" script: "), end })
}

fn watch(case: &Case, machine: &mut Machine, book: &Arc<Book>, mac: MacAddr) -> Result<()> {
    machine.wait_for(case.console, case.limit)?;
    // Transfers are noted when they end, a moment after the machine has it all.
    let begun = Instant::now();
    while let Err(error) = in_order(&book.lines(mac), &case.timeline) {
        if begun.elapsed() > Duration::from_secs(5) {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(100));
    }
    for never in &case.never {
        let found = book.lines(mac).into_iter().find(|line| line.contains(never));
        ensure!(found.is_none(), "on its timeline stands {found:?}");
    }
    if let Some(cause) = case.diagnosis {
        let begun = Instant::now();
        let mut said = None;
        while said.as_ref().is_none_or(|said: &Diagnosis| said.cause != cause) {
            ensure!(
                begun.elapsed() < DIAGNOSIS_LIMIT,
                "what is said is the matter: {said:?}, and not {cause:?}"
            );
            thread::sleep(Duration::from_millis(500));
            said = book.diagnosis(mac).or(said);
        }
    }
    Ok(())
}

fn in_order(lines: &[String], wanted: &[String]) -> Result<()> {
    let mut rest = lines.iter();
    for part in wanted {
        if !rest.any(|line| line.contains(part.as_str())) {
            bail!("on its timeline there is no {part:?} at its place");
        }
    }
    Ok(())
}
