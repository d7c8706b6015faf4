//! Why a machine does not boot: from what was seen of it, to a sentence with the next step.
//!
//! [`diagnose`] is a pure function of the steps of one machine and the time. [`Journal`] keeps those steps, bounded, for
//! all machines; noting one costs a microsecond or two, so it is always on. The sentences are in [`cause`]. What is
//! not certain is not said as if it were: a diagnosis is what was seen, what is likely, and what to do next.

use std::{fmt, net::IpAddr};

use crate::{Boot, MacAddr};

mod attempt;
pub mod cause;
mod journal;
mod seen;

use attempt::{Attempt, attempts};
pub use cause::Cause;
pub use journal::Journal;
pub use seen::{End, Got, Millis, Role, Seen, What, Who};

/// What is the matter with a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    pub cause: Cause,
    /// What was seen, with its names and numbers: one sentence.
    pub what: String,
    /// Since when it does not get on.
    pub since: Millis,
}

impl Diagnosis {
    /// What is likely behind it.
    pub fn why(&self) -> &'static str {
        self.cause.why()
    }

    /// What to do.
    pub fn next_step(&self) -> &'static str {
        self.cause.next_step()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.what, self.why(), self.next_step())
    }
}

/// What is known of a machine besides its steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What it boots is ours and reports here when it runs.
    pub reports: bool,
    /// When it, or the system that it booted, last spoke to the appliance.
    pub reported: Option<Millis>,
    /// Since when it should start from the network and be installed.
    pub wanted_since: Option<Millis>,
    /// Other DHCP servers that were heard on its network.
    pub others: Vec<(IpAddr, MacAddr)>,
}

const SECOND: Millis = 1000;
const MINUTE: Millis = 60 * SECOND;

/// Firmware repeats a DISCOVER after 4, 8, 16 and 32 seconds.
const DHCP_QUIET: Millis = 20 * SECOND;
/// From one file to the next; slow firmware under emulation takes ten seconds to check a signature.
const FILE_QUIET: Millis = 30 * SECOND;
/// From the initrd to the first packet of the kernel.
const KERNEL_QUIET: Millis = 90 * SECOND;
/// From the kernel's address to the report.
const REPORT_QUIET: Millis = 2 * MINUTE;
/// From when a machine should start until it asks for an address: servers test their memory for minutes.
const START_QUIET: Millis = 10 * MINUTE;
/// So many starts within [`LOOP_SPAN`] are a loop.
const LOOP_STARTS: usize = 4;
const LOOP_SPAN: Millis = 30 * MINUTE;

/// Says what is the matter, from steps in their order; `None` when all is well or there is still hope.
pub fn diagnose<'a>(
    steps: impl IntoIterator<Item = &'a Seen>,
    facts: &Facts,
    now: Millis,
) -> Option<Diagnosis> {
    let attempts = attempts(steps);
    let last = attempts.last();
    if let Some(wanted) = facts.wanted_since
        && last.is_none_or(|last| last.start < wanted || !last.over_network())
        && facts.reported.is_none_or(|reported| reported < wanted)
    {
        let system = last.filter(|last| last.start >= wanted).map(|last| last.start);
        return (now >= wanted + START_QUIET).then(|| Diagnosis {
            cause: Cause::DiskInstead,
            what: match system {
                Some(_) => "It should start from the network, and started the system on its disk.".to_owned(),
                None => format!(
                    "It should start from the network, and has not asked for an address for {}.",
                    span(now - wanted)
                ),
            },
            since: wanted,
        });
    }
    let last = last?;
    if facts.reported.is_some_and(|reported| reported >= last.start) {
        return None;
    }
    stuck(last, facts, now)
        .or_else(|| over_and_over(&attempts, facts, now))
        .or_else(|| two_servers(last, facts))
}

/// Where the last start does not get on: the furthest that it came.
fn stuck(last: &Attempt, facts: &Facts, now: Millis) -> Option<Diagnosis> {
    let quiet = now.saturating_sub(last.end);
    let found = |cause, what: String| Some(Diagnosis { cause, what, since: last.end });
    let silence = || format!("then nothing for {}", span(quiet));

    if last.waits {
        return None;
    }
    if let Some(reason) = &last.no_address {
        return found(Cause::NoAddressLeft, format!("No address could be given to it: {reason}."));
    }
    if last.declined {
        return found(
            Cause::AddressTaken,
            "It declined its address: another device answers to it.".to_owned(),
        );
    }
    if let Some(at) = last.system {
        return (facts.reports && last.boots_ours() && last.kernel.is_some() && now >= at + REPORT_QUIET)
            .then(|| Diagnosis {
                cause: Cause::NoReport,
                what: format!(
                    "Its kernel runs and asked for an address, and did not report for {}.",
                    span(now - at)
                ),
                since: at,
            });
    }
    if let Some((name, end)) = &last.initrd {
        return match end {
            End::Part { .. } if quiet >= FILE_QUIET => {
                found(Cause::InitrdBroken, format!("{}, {}.", broken(name, end), silence()))
            }
            End::Whole if quiet >= KERNEL_QUIET => {
                found(Cause::KernelSilent, format!("It fetched kernel and initrd ({name}), {}.", silence()))
            }
            _ => None,
        };
    }
    if let Some((name, end)) = &last.kernel {
        if quiet < FILE_QUIET {
            return None;
        }
        return match end {
            End::Part { .. } => found(Cause::KernelBroken, format!("{}, {}.", broken(name, end), silence())),
            // The memory test is a kernel by itself.
            _ if !last.wants_initrd() => None,
            _ => found(Cause::InitrdNotAsked, format!("It fetched the kernel ({name}), {}.", silence())),
        };
    }
    if let Some((loader, boots)) = &last.script
        && !last.handed_over
    {
        let goes_on = last.starts_disk() || **boots == *Boot::MemoryTest.to_string();
        return (!goes_on && quiet >= FILE_QUIET).then_some(()).and_then(|()| {
            found(Cause::ScriptOnly, format!("It fetched its {loader} script ({boots}), {}.", silence()))
        });
    }
    if last.config && !last.handed_over && quiet >= FILE_QUIET {
        return found(
            Cause::GrubLost,
            format!("GRUB fetched its first configuration over TFTP, {}.", silence()),
        );
    }
    if last.ipxe && quiet >= FILE_QUIET {
        return found(Cause::IpxeLost, format!("iPXE asked for an address, {}.", silence()));
    }
    if let Some((name, end)) = &last.loader {
        return loader(last, name, end, quiet);
    }
    if let Some((reason, times)) = &last.handshake {
        if quiet < DHCP_QUIET && *times < 2 {
            return None;
        }
        let times = if *times > 1 { format!(" {times} times") } else { String::new() };
        let what = format!(
            "It asked for its boot loader over HTTPS{times}, and no connection came about: {reason}."
        );
        return found(Cause::HandshakeFailed, what);
    }
    before_files(last, facts, now)
}

fn loader(last: &Attempt, name: &str, end: &End, quiet: Millis) -> Option<Diagnosis> {
    let found = |cause, what: String| Some(Diagnosis { cause, what, since: last.end });
    let times = if last.loader_times > 1 { format!(" {} times", last.loader_times) } else { String::new() };
    let silence = format!("then nothing for {}", span(quiet));
    // What is asked for again and again tells sooner.
    if quiet < FILE_QUIET && last.loader_times < 4 {
        return None;
    }
    match end {
        End::Missing | End::Refused => found(
            Cause::LoaderMissing,
            format!("It asked for {name}{times}, and there is no such file here."),
        ),
        End::Part { arrived: 0, words: None, .. } => found(
            Cause::AnswersLost,
            format!("It asked for {name}{times}, and acknowledged nothing of the answer."),
        ),
        End::Part { .. } => found(Cause::LoaderBroken, format!("{}{times}, {silence}.", broken(name, end))),
        End::Size => found(
            Cause::SizeOnly,
            format!("It asked for the size of {name}{times} and not for the file, {silence}."),
        ),
        End::Whole if quiet < FILE_QUIET => None,
        End::Whole => {
            let cause = match name.rsplit('/').next().unwrap_or(name) {
                name if name.starts_with("shim") || name.starts_with("boot") => Cause::ShimRefused,
                name if name.starts_with("grub") => Cause::GrubRefused,
                name if name.ends_with("kpxe") || name.starts_with("ipxe") || name.starts_with("snp") => {
                    Cause::RomSilent
                }
                _ => Cause::LoaderSilent,
            };
            found(cause, format!("It fetched {name}{times}, {silence}."))
        }
    }
}

/// It has fetched nothing yet.
fn before_files(last: &Attempt, facts: &Facts, now: Millis) -> Option<Diagnosis> {
    let quiet = now.saturating_sub(last.end);
    let found = |cause, what: String| Some(Diagnosis { cause, what, since: last.start });
    if let Some(arch) = last.no_loader {
        return found(
            Cause::NoLoader,
            format!(
                "Its firmware is of architecture {arch} (DHCP option 93), which there is no boot loader for."
            ),
        );
    }
    if !last.over_network() || now < last.start + DHCP_QUIET {
        return None;
    }
    if last.took {
        if quiet < DHCP_QUIET {
            return None;
        }
        let what = "It took its address and the name of its boot loader, and fetched nothing";
        return found(Cause::NoFileAsked, format!("{what} for {}.", span(quiet)));
    }
    if let Some(server) = last.elsewhere {
        if quiet < DHCP_QUIET {
            return None;
        }
        return if last.beside {
            let what = format!(
                "It took its address from {server} and boot information from here, and fetched nothing"
            );
            found(Cause::NoFileAsked, format!("{what} for {}.", span(quiet)))
        } else {
            let who = other(facts, server);
            let what =
                format!("It took its address from another DHCP server, {who}, and asked for nothing here");
            found(Cause::OtherServerWins, format!("{what} for {}.", span(quiet)))
        };
    }
    let times = last.discovers;
    let asked = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    // Once is no sign where the network was just being plugged in, until it stays at that.
    if times < 2 && quiet < FILE_QUIET {
        return None;
    }
    if last.beside {
        return found(
            Cause::NoAddressBeside,
            format!(
                "It asked {asked} for an address, was told here what to boot, and took no address anywhere."
            ),
        );
    }
    let heard = match facts.others.first() {
        Some((server, _)) => format!(" Another DHCP server is on this network: {}.", other(facts, *server)),
        None => String::new(),
    };
    found(
        Cause::OfferLost,
        format!("It asked {asked} for an address and did not take the one that it was offered.{heard}"),
    )
}

fn over_and_over(attempts: &[Attempt], facts: &Facts, now: Millis) -> Option<Diagnosis> {
    let since = now.saturating_sub(LOOP_SPAN).max(facts.reported.unwrap_or_default());
    let starts: Vec<&Attempt> =
        attempts.iter().filter(|attempt| attempt.start >= since && attempt.over_network()).collect();
    let first = starts.first()?;
    if starts.len() < LOOP_STARTS {
        return None;
    }
    let (times, span) = (starts.len(), span(now - first.start));
    let disk = starts.iter().filter(|attempt| attempt.starts_disk()).count();
    let (cause, what) = if disk + 1 >= times {
        (
            Cause::DiskEmpty,
            format!("It was told {disk} times in {span} to start its own disk, and came back."),
        )
    } else {
        (Cause::Loop, format!("It started {times} times in {span}, and did not get to its end once."))
    };
    Some(Diagnosis { cause, what, since: first.start })
}

fn two_servers(last: &Attempt, facts: &Facts) -> Option<Diagnosis> {
    let server = last.elsewhere.filter(|_| last.took && !last.beside)?;
    let what = format!("It took an address from here, and one from {}.", other(facts, server));
    Some(Diagnosis { cause: Cause::TwoServers, what, since: last.start })
}

fn other(facts: &Facts, server: IpAddr) -> String {
    match facts.others.iter().find(|(address, _)| *address == server) {
        Some((address, mac)) => format!("{address} ({mac})"),
        None => server.to_string(),
    }
}

fn broken(name: &str, end: &End) -> String {
    match end {
        End::Part { arrived, bytes, words: Some(words) } => {
            format!("It broke off {name} after {arrived} of {bytes} bytes and said {words:?}")
        }
        End::Part { arrived, bytes, words: None } => {
            format!("The transfer of {name} ended after {arrived} of {bytes} bytes")
        }
        End::Whole | End::Size | End::Missing | End::Refused => format!("It fetched {name}"),
    }
}

fn span(millis: Millis) -> String {
    match millis / SECOND {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

impl Attempt {
    fn starts_disk(&self) -> bool {
        self.script.as_ref().is_some_and(|(_, boots)| **boots == *Boot::Disk.to_string())
    }

    /// What reports when it runs: not a rescue shell, not another system.
    fn boots_ours(&self) -> bool {
        let ours = [Boot::Discover.to_string(), Boot::Live.to_string()];
        self.script.as_ref().is_none_or(|(_, boots)| ours.iter().any(|our| **boots == **our))
    }

    fn wants_initrd(&self) -> bool {
        let test = Boot::MemoryTest.to_string();
        self.script.as_ref().is_none_or(|(_, boots)| **boots != *test)
    }
}

#[cfg(test)]
mod tests;
