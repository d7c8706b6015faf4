//! The last boot and installation of a thing as bars: its phases, and below each what was done in it.
//!
//! It is a table with a bar in each row, so it reads the same without seeing it.

use fleet::Timestamp;

use super::show::{self, Tone};
use crate::store::Entry;

/// Bars of one picture; of a boot that fetches more there is the timeline.
const MOST: usize = 40;

/// What was found longer ago than this waited for a person, and that is not a part of what went on.
const LONG_MS: u64 = 30 * 60 * 1000;

/// The width of a bar's picture.
const WIDTH: u64 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    pub from: Timestamp,
    /// How long all of it took.
    pub took: String,
    pub bars: Vec<Bar>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    pub label: String,
    /// A phase, and not a step of one.
    pub phase: bool,
    pub tone: Tone,
    from: Timestamp,
    to: Timestamp,
    /// In the units of the picture, which is `Bar::WIDTH` wide.
    pub x: u64,
    pub width: u64,
    /// When it began, from the beginning of the first.
    pub after: String,
    pub took: String,
}

impl Chart {
    /// From a timeline, oldest line first; nothing if it says of no phase.
    pub fn of(entries: &[Entry]) -> Option<Chart> {
        let entries = last_work(entries);
        let begin = entries.iter().find(|entry| entry.phase.is_some())?.at;
        let end = entries.last()?.at.max(begin);
        let mut bars = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let Some(phase) = &entry.phase else { continue };
            let rest = &entries[place + 1..];
            let next = rest.iter().position(|entry| entry.phase.is_some());
            let to = next.map_or(end, |next| rest[next].at).max(entry.at);
            let tone = tone(phase, next.is_some());
            bars.push(Bar::new(phase.clone(), true, tone, entry.at, to));
            let within = &rest[..next.unwrap_or(rest.len())];
            if !lasts(phase) {
                bars.extend(steps(entry.at, within, to));
            }
        }
        bars.truncate(MOST);
        // The last phase lasts as long as it does; it is a point.
        let whole = end.0.saturating_sub(begin.0).max(1);
        for bar in &mut bars {
            bar.x = (bar.from.0.saturating_sub(begin.0)) * WIDTH / whole;
            let width = bar.to.0.saturating_sub(bar.from.0) * WIDTH / whole;
            bar.width = width.max(4);
            bar.x = bar.x.min(WIDTH - bar.width.min(WIDTH));
            bar.after = show::span_ms(bar.from.0.saturating_sub(begin.0));
        }
        Some(Chart { from: begin, took: show::span_ms(whole), bars })
    }

    /// Five times between the beginning and the end.
    pub fn ticks(&self) -> Vec<String> {
        let end = self.bars.iter().map(|bar| bar.to).max().unwrap_or(self.from);
        let whole = end.0.saturating_sub(self.from.0);
        (0..=4).map(|quarter| show::span_ms(whole * quarter / 4)).collect()
    }
}

impl Bar {
    fn new(label: String, phase: bool, tone: Tone, from: Timestamp, to: Timestamp) -> Bar {
        let took = show::span_ms(to.0.saturating_sub(from.0));
        Bar { label, phase, tone, from, to, x: 0, width: 0, after: String::new(), took }
    }
}

/// Phases that something stays in.
fn lasts(phase: &str) -> bool {
    matches!(phase, "ready" | "running" | "answering" | "failed" | "retired")
}

fn tone(phase: &str, over: bool) -> Tone {
    match phase {
        "failed" => Tone::Bad,
        "found" => Tone::Asks,
        _ if lasts(phase) => Tone::Good,
        _ if over => Tone::Idle,
        _ => Tone::Busy,
    }
}

/// From where something began that went on last, to what it came to.
fn last_work(entries: &[Entry]) -> &[Entry] {
    let is_work = |entry: &Entry| entry.phase.as_deref().is_some_and(|phase| !lasts(phase));
    let is_end = |entry: &Entry| entry.phase.as_deref().is_some_and(lasts);
    let Some(last) = entries.iter().rposition(is_work) else { return entries };
    let begin = entries[..last].iter().rposition(is_end).map_or(0, |end| end + 1);
    let end = entries[last..].iter().position(is_end).map_or(entries.len(), |end| last + end + 1);
    let work = &entries[begin..end];
    let phases: Vec<usize> = (0..work.len()).filter(|place| work[*place].phase.is_some()).collect();
    let waited = |from: &Entry, to: &Entry| {
        matches!(from.phase.as_deref(), Some("sighted" | "found"))
            && to.at.0.saturating_sub(from.at.0) > LONG_MS
    };
    let after_wait =
        phases.windows(2).rev().find(|two| waited(&work[two[0]], &work[two[1]])).map(|two| two[1]);
    let first = after_wait.or(phases.first().copied()).unwrap_or(0);
    &work[first..]
}

/// What was done in a phase. A line about a file is written when it has been fetched; one about a step, when it begins.
fn steps(from: Timestamp, lines: &[Entry], to: Timestamp) -> Vec<Bar> {
    let mut steps: Vec<Bar> = Vec::new();
    let mut before = from;
    for line in lines {
        match line.kind.as_str() {
            "node" => {
                if let Some(last) = steps.last_mut().filter(|last| last.tone == Tone::Busy) {
                    last.to = line.at;
                }
                let label = without_percent(&line.text);
                if steps.last().is_none_or(|last| last.label != label || last.tone != Tone::Busy) {
                    steps.push(Bar::new(label.to_owned(), false, Tone::Busy, line.at, to));
                }
            }
            "dhcp" | "tftp" | "http" | "mirror" => {
                let label = if line.kind == "dhcp" { "DHCP" } else { line.text.as_str() };
                match steps.last_mut().filter(|last| last.label == label) {
                    Some(last) => last.to = line.at,
                    None => steps.push(Bar::new(label.to_owned(), false, Tone::Idle, before, line.at)),
                }
            }
            _ => {}
        }
        before = line.at;
    }
    for step in &mut steps {
        step.took = show::span_ms(step.to.0.saturating_sub(step.from.0));
    }
    steps
}

/// `downloading the system, 40 %` and `downloading the system` are one step.
pub fn without_percent(text: &str) -> &str {
    percent(text).map_or(text, |(step, _)| step)
}

/// A step and how far it is.
pub fn percent(text: &str) -> Option<(&str, u64)> {
    let (step, percent) = text.rsplit_once(", ")?;
    Some((step, percent.strip_suffix(" %")?.parse().ok().filter(|percent| *percent <= 100)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(secs: u64, kind: &str, text: &str, phase: Option<&str>) -> Entry {
        Entry {
            at: Timestamp(1_000_000 + secs * 1000),
            actor: String::new(),
            kind: kind.into(),
            subject: "m1".into(),
            text: text.into(),
            phase: phase.map(str::to_owned),
        }
    }

    fn installation() -> Vec<Entry> {
        vec![
            line(0, "event", "Seen", Some("sighted")),
            line(1, "dhcp", "DISCOVER", None),
            line(2, "dhcp", "REQUEST", None),
            line(5, "tftp", "fetched shimx64.efi, 948 kB", None),
            line(10, "event", "Reported", Some("found")),
            line(10, "event", "Adopted", Some("adopted")),
            line(12, "event", "Installation started", Some("installing")),
            line(13, "node", "downloading the system, 0 %", None),
            line(40, "node", "downloading the system, 50 %", None),
            line(70, "node", "installing GRUB", None),
            line(80, "event", "Phoned home", Some("installed")),
            line(100, "event", "Ready", Some("ready")),
        ]
    }

    #[test]
    fn an_installation_is_its_phases_and_steps() {
        let chart = Chart::of(&installation()).unwrap();
        let bars: Vec<(&str, &str, &str)> = chart
            .bars
            .iter()
            .map(|bar| (bar.label.as_str(), bar.after.as_str(), bar.took.as_str()))
            .collect();
        assert_eq!(
            bars,
            [
                ("sighted", "0 s", "10 s"),
                ("DHCP", "0 s", "2 s"),
                ("fetched shimx64.efi, 948 kB", "2 s", "3 s"),
                ("found", "10 s", "0 s"),
                ("adopted", "10 s", "2 s"),
                ("installing", "12 s", "1 min 8 s"),
                ("downloading the system", "13 s", "57 s"),
                ("installing GRUB", "1 min 10 s", "10 s"),
                ("installed", "1 min 20 s", "20 s"),
                ("ready", "1 min 40 s", "0 s"),
            ]
        );
        assert_eq!(chart.took, "1 min 40 s");
        assert_eq!(chart.ticks(), ["0 s", "25 s", "50 s", "1 min 15 s", "1 min 40 s"]);
        assert!(chart.bars.iter().all(|bar| bar.x + bar.width <= WIDTH), "{:?}", chart.bars);
        let at = |label: &str| chart.bars.iter().find(|bar| bar.label == label).map(|bar| (bar.x, bar.width));
        assert_eq!(at("installing"), Some((120, 680)));
    }

    #[test]
    fn what_waited_for_a_person_for_days_does_not_hide_what_went_on() {
        let mut lines = installation();
        for line in &mut lines[5..] {
            line.at.0 += 3 * 24 * 3600 * 1000;
        }
        let chart = Chart::of(&lines).unwrap();
        assert_eq!(chart.bars[0].label, "adopted");
        assert_eq!(chart.took, "1 min 30 s");
    }

    #[test]
    fn only_the_last_time_is_shown_and_a_timeline_without_phases_is_no_picture() {
        let mut lines = installation();
        lines.extend(installation().into_iter().skip(5).map(|mut line| {
            line.at.0 += 1_000_000;
            line
        }));
        lines.push(line(5000, "node", "its agent was updated", None));
        let chart = Chart::of(&lines).unwrap();
        assert_eq!(chart.bars.iter().filter(|bar| bar.label == "ready").count(), 1);
        assert_eq!(chart.took, "1 min 30 s");
        assert_eq!(Chart::of(&[line(0, "dhcp", "DISCOVER", None)]), None);
        assert_eq!(Chart::of(&[]), None);
        // Clocks are set back, too.
        lines.reverse();
        Chart::of(&lines);
    }

    #[test]
    fn steps_say_how_far_they_are() {
        assert_eq!(percent("downloading the system, 40 %"), Some(("downloading the system", 40)));
        assert_eq!(percent("fetched vmlinuz, 12 MB"), None);
        assert_eq!(percent("x, 400 %"), None);
    }
}
