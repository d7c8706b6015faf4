//! The first page: what waits for a person, what goes on by itself, how much room there is, what was said last.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet::{Fleet, Mac, MachineId, Subject, Timestamp, VmId, host, lease, machine, subnet};

use super::glance::Counts;
use super::list::{NEEDS, Noun, Scene};
use super::show::{self, Tone};
use super::{gantt, nouns};
use crate::api::machines;
use crate::store::Entry;
use crate::{App, core, web};

/// Lines of a part of the overview; the lists have the rest.
const LINES: usize = 12;

/// Machines that are looked at for why they do not boot.
const DIAGNOSED: usize = 100;

/// Something that goes no further without a person, or something that goes on.
#[derive(Debug, Clone)]
pub struct Line {
    pub href: String,
    pub name: String,
    pub tone: Tone,
    pub word: String,
    pub since: Option<Timestamp>,
    pub what: String,
    /// What a person could do.
    pub hint: Option<String>,
    pub progress: Option<Progress>,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub percent: u64,
    pub step: String,
    /// How long it would take at the pace so far.
    pub left: Option<String>,
}

pub fn asks<'a, N>(noun: Option<&'a Arc<N>>, scene: Scene<'_>) -> usize
where
    &'a N: Noun,
{
    usize::from(noun.is_some_and(|noun| noun.as_ref().asks(scene)))
}

/// The lines that are shown, and how many there are.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    pub shown: Vec<Line>,
    pub all: usize,
    /// Where all of them are: a list, its words and its length.
    pub more: Vec<(String, String)>,
}

/// What waits for a person: what is wrong with the site itself first, then things, newest first.
pub fn needs(app: &App, scene: Scene<'_>, counts: &Counts) -> Lines {
    needs_of(of_site(app, scene.fleet), troubled(app, scene), scene, counts)
}

/// With these lines before what things wait for.
pub fn needs_of(mut site: Vec<Line>, troubled: Vec<Line>, scene: Scene<'_>, counts: &Counts) -> Lines {
    let mut things: Vec<(Timestamp, Subject)> = Vec::new();
    for (subject, item) in &scene.plan.subjects {
        let asks = match subject {
            Subject::Machine(id) => asks(scene.fleet.machines.get(id), scene),
            Subject::Vm(id) => asks(scene.fleet.vms.get(id), scene),
            Subject::Service(id) => asks(scene.fleet.services.get(id), scene),
        };
        if asks > 0 {
            let since = item.waiting.iter().map(|waiting| waiting.since).max();
            things.push((since.unwrap_or_default(), *subject));
        }
    }
    let all = site.len() + troubled.len() + things.len();
    things.sort_unstable_by(|a, b| b.cmp(a));
    site.extend(troubled);
    let room = LINES.saturating_sub(site.len().min(LINES / 2));
    site.truncate(LINES / 2);
    site.extend(things.iter().take(room).filter_map(|(_, subject)| line(scene, *subject)));
    let mut more = Vec::new();
    for (count, path, word) in [
        (counts.machines_asking, "machines", "machines"),
        (counts.vms_asking, "vms", "VMs"),
        (counts.services_asking, "services", "services"),
    ] {
        if all > site.len() && count > 0 {
            more.push((format!("/{path}?is={NEEDS}"), format!("all {} {word}", show::count(count as u64))));
        }
    }
    Lines { shown: site, all, more }
}

fn of_site(app: &App, fleet: &Fleet) -> Vec<Line> {
    let line = |name: &str, what: String, hint: Option<&str>| Line {
        href: "/networks".to_owned(),
        name: name.to_owned(),
        tone: Tone::Bad,
        word: "network".to_owned(),
        since: None,
        what,
        hint: hint.map(str::to_owned),
        progress: None,
    };
    let now = core::now();
    let foreign = fleet.site.as_ref().is_some_and(|site| site.foreign);
    let exhausted = subnet::all(fleet).filter(|subnet| {
        let learnt = foreign && subnet.name == subnet::OWN;
        !learnt && lease::usage(fleet, subnet, now).free() == 0
    });
    let exhausted = exhausted.map(|subnet| {
        line(
            &subnet.name,
            "Every address of its pool is in use. Machines that are new get none.".to_owned(),
            Some("give it another range, or free addresses"),
        )
    });
    let warnings = app.wires.warnings().into_iter().map(|warning| line("another DHCP server", warning, None));
    exhausted.chain(warnings).collect()
}

/// Machines that do not boot, of those that are to.
fn troubled(app: &App, scene: Scene<'_>) -> Vec<Line> {
    let waits = |machine: &&Arc<machine::Machine>| {
        matches!(machine.phase, machine::Phase::Sighted | machine::Phase::Adopted { .. })
            && !machine.as_ref().asks(scene)
    };
    let machines = scene.fleet.machines.values().rev().filter(waits).take(DIAGNOSED);
    let lines = machines.filter_map(|machine| {
        let trouble = machines::trouble_of(app, scene.fleet, machine, scene.observed)?;
        Some(Line {
            href: format!("/machines/{}", machine.id),
            name: machine.name.to_string(),
            tone: Tone::Asks,
            word: "does not boot".to_owned(),
            since: Some(trouble.since),
            what: format!("{} {}", trouble.what, trouble.why),
            hint: Some(trouble.next_step),
            progress: None,
        })
    });
    lines.collect()
}

/// What goes on by itself, and how far it is, if the notes of `app` are to be looked into.
pub async fn doing(app: Option<&App>, scene: Scene<'_>) -> Result<Lines, web::Error> {
    let mut things: Vec<(Timestamp, Subject)> = Vec::new();
    for subject in scene.plan.subjects.keys() {
        if let Some(since) = goes_on_since(scene, *subject) {
            things.push((since, *subject));
        }
    }
    let all = things.len();
    things.sort_unstable_by(|a, b| b.cmp(a));
    things.truncate(LINES);
    let steps = match app {
        Some(app) => steps(app, &things).await?,
        None => BTreeMap::new(),
    };
    let shown = things.iter().filter_map(|(since, subject)| {
        let progress = steps.get(&subject.to_string()).cloned();
        Some(Line { hint: None, progress, since: Some(*since), ..line(scene, *subject)? })
    });
    Ok(Lines { shown: shown.collect(), all, more: Vec::new() })
}

fn goes_on_since(scene: Scene<'_>, subject: Subject) -> Option<Timestamp> {
    let Fleet { machines, vms, services, .. } = scene.fleet;
    match subject {
        Subject::Machine(id) => {
            let machine = machines.get(&id).filter(|machine| !machine.as_ref().asks(scene))?;
            let goes_on = match machine.phase {
                machine::Phase::Sighted
                | machine::Phase::Adopted { .. }
                | machine::Phase::Installing { .. }
                | machine::Phase::Erasing(_)
                | machine::Phase::Installed => true,
                machine::Phase::Reported
                | machine::Phase::Ready
                | machine::Phase::Failed { .. }
                | machine::Phase::Retired => false,
            };
            goes_on.then_some(machine.since)
        }
        Subject::Vm(id) => {
            let vm = vms.get(&id).filter(|vm| !vm.as_ref().asks(scene))?;
            vm.phase.limit_secs().is_some().then_some(vm.since)
        }
        Subject::Service(id) => {
            let service = services.get(&id).filter(|service| !service.as_ref().asks(scene))?;
            service.phase.limit_secs().is_some().then_some(service.since)
        }
    }
}

/// How far each is, where its node said so.
async fn steps(app: &App, things: &[(Timestamp, Subject)]) -> Result<BTreeMap<String, Progress>, web::Error> {
    const LAST: u32 = 200;
    let subjects: Vec<String> = things.iter().map(|(_, subject)| subject.to_string()).collect();
    if subjects.is_empty() {
        return Ok(BTreeMap::new());
    }
    let entries = match app.core.timeline(&subjects, LAST).await {
        Err(error) if error.is_away() => Vec::new(),
        entries => entries?,
    };
    let of = |subject: &String| {
        let lines: Vec<&Entry> = entries.iter().filter(|entry| entry.subject == *subject).collect();
        Some((subject.clone(), progress(&lines)?))
    };
    Ok(subjects.iter().filter_map(of).collect())
}

/// Of the last line, if that says how far a step is.
pub fn progress(lines: &[&Entry]) -> Option<Progress> {
    let last = lines.last().filter(|line| line.kind == "node")?;
    let (step, percent) = gantt::percent(&last.text)?;
    let same =
        lines.iter().rev().take_while(|line| gantt::percent(&line.text).is_some_and(|it| it.0 == step));
    let (begin, began_at) = same.last().and_then(|line| Some((line.at, gantt::percent(&line.text)?.1)))?;
    let (ms, done) = (last.at.0.saturating_sub(begin.0), percent.saturating_sub(began_at));
    // The pace of a moment says nothing.
    let left = (done >= 5 && ms >= 2000).then(|| ms * (100 - percent) / done);
    Some(Progress { percent, step: step.to_owned(), left: left.map(show::span_ms) })
}

/// What a thing is and what it waits for.
fn line(scene: Scene<'_>, subject: Subject) -> Option<Line> {
    let Fleet { machines, vms, services, .. } = scene.fleet;
    let (name, word, since, asks) = match subject {
        Subject::Machine(id) => {
            let it = machines.get(&id)?.as_ref();
            (it.name.to_string(), it.state(), it.since, it.asks(scene))
        }
        Subject::Vm(id) => {
            let it = vms.get(&id)?.as_ref();
            (it.name.to_string(), it.state(), it.since, it.asks(scene))
        }
        Subject::Service(id) => {
            let it = services.get(&id)?.as_ref();
            (it.name.clone(), it.state(), it.since, it.asks(scene))
        }
    };
    let tone = match (word, asks) {
        ("failed", _) => Tone::Bad,
        (_, true) => Tone::Asks,
        (_, false) => Tone::Busy,
    };
    let waiting = scene.plan.waiting_of(subject);
    let first = waiting.iter().find(|it| it.hint.is_some()).or(waiting.first());
    Some(Line {
        href: href(subject),
        name,
        tone,
        word: word.to_owned(),
        since: Some(since),
        what: first.map(|it| it.what.to_string()).unwrap_or_default(),
        hint: first.and_then(|it| it.hint.as_ref()).map(ToString::to_string),
        progress: None,
    })
}

pub fn href(subject: Subject) -> String {
    match subject {
        Subject::Machine(id) => format!("/machines/{id}"),
        Subject::Vm(id) => format!("/vms/{id}"),
        Subject::Service(id) => format!("/services/{id}"),
    }
}

/// Where the page of an event's subject is, if it has one and is still there.
pub fn href_of(fleet: &Fleet, subject: &str) -> Option<String> {
    if let Ok(id) = subject.parse::<MachineId>() {
        return fleet.machines.contains_key(&id).then(|| format!("/machines/{id}"));
    }
    if let Ok(id) = subject.parse::<VmId>() {
        return fleet.vms.contains_key(&id).then(|| format!("/vms/{id}"));
    }
    if let Ok(id) = subject.parse::<fleet::ServiceId>() {
        return fleet.services.contains_key(&id).then(|| format!("/services/{id}"));
    }
    if let Ok(mac) = subject.parse::<Mac>() {
        return machine::by_mac(fleet, mac).map(|machine| format!("/machines/{}", machine.id));
    }
    let (noun, _) = subject.split_once(':')?;
    Some(match noun {
        "rack" => "/racks".to_owned(),
        "switch" => "/switches".to_owned(),
        "subnet" => "/networks".to_owned(),
        "profile" | "medium" => "/systems".to_owned(),
        "user" => "/users".to_owned(),
        _ => return None,
    })
}

/// All hosts together.
#[derive(Debug, Clone, Default)]
pub struct Capacity {
    pub hosts: u64,
    pub draining: u64,
    pub threads: u64,
    pub memory_mib: u64,
    pub free_memory_mib: u64,
    pub vm_memory_mib: u64,
    pub volume_bytes: u64,
    pub promised_bytes: u64,
    pub vms: u64,
    pub addresses: u64,
    pub free_addresses: u64,
    /// A state, how many, and where they are.
    pub machines: Vec<(&'static str, Tone, usize)>,
}

impl Capacity {
    pub fn of(scene: Scene<'_>) -> Capacity {
        let fleet = scene.fleet;
        let mut sum = Capacity::default();
        for host in fleet.hosts.values() {
            let usage = fleet.index.usage(host.machine);
            sum.hosts += 1;
            sum.draining += u64::from(host.draining_since.is_some());
            sum.threads += u64::from(host.threads);
            sum.memory_mib += host.memory_mib;
            sum.free_memory_mib += host::free_memory_mib(fleet, host);
            sum.vm_memory_mib += usage.memory_mib;
            sum.volume_bytes += host.volume_bytes;
            sum.promised_bytes += usage.disk_bytes.min(host.volume_bytes);
            sum.vms += usage.vms;
        }
        let now = core::now();
        for subnet in subnet::all(fleet) {
            let usage = lease::usage(fleet, &subnet, now);
            sum.addresses += usage.size;
            sum.free_addresses += usage.free();
        }
        let found = nouns::machines(scene, &super::look::Look::of(""));
        sum.machines = found
            .counts()
            .filter(|(_, count)| *count > 0)
            .map(|(state, count)| (state, tone_of(state), count))
            .collect();
        sum
    }

    pub fn memory(&self) -> String {
        show::mib(self.memory_mib)
    }

    pub fn free_memory(&self) -> String {
        show::mib(self.free_memory_mib)
    }

    pub fn own_percent(&self) -> u64 {
        let own = self.memory_mib.saturating_sub(self.free_memory_mib).saturating_sub(self.vm_memory_mib);
        show::percent(own, self.memory_mib)
    }

    pub fn vm_percent(&self) -> u64 {
        show::percent(self.vm_memory_mib, self.memory_mib)
    }

    pub fn volumes(&self) -> String {
        show::bytes(self.volume_bytes)
    }

    pub fn free_volumes(&self) -> String {
        show::bytes(self.volume_bytes.saturating_sub(self.promised_bytes))
    }

    pub fn volumes_percent(&self) -> u64 {
        show::percent(self.promised_bytes, self.volume_bytes)
    }

    pub fn addresses_percent(&self) -> u64 {
        show::percent(self.addresses.saturating_sub(self.free_addresses), self.addresses)
    }
}

fn tone_of(state: &str) -> Tone {
    match state {
        "failed" => Tone::Bad,
        "ready" => Tone::Good,
        "sighted" | "found" => Tone::Idle,
        _ => Tone::Busy,
    }
}

/// What stood in the log last, newest first.
pub async fn newest(app: &App, fleet: &Fleet) -> Result<Vec<super::history::Row>, web::Error> {
    let last = app.core.position();
    let records = match app.core.history((last - 12).max(0), 12).await {
        Err(error) if error.is_away() => Vec::new(),
        records => records?,
    };
    Ok(records.iter().rev().map(|record| super::history::Row::of(fleet, record)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(secs: u64, text: &str) -> Entry {
        Entry {
            at: Timestamp(secs * 1000),
            actor: String::new(),
            kind: "node".into(),
            subject: "m1".into(),
            text: text.into(),
            phase: None,
        }
    }

    #[test]
    fn a_step_says_how_far_it_is_and_how_long_it_takes_at_its_pace() {
        let lines = [
            said(0, "partitioning the disk"),
            said(10, "downloading the system, 0 %"),
            said(20, "downloading the system, 10 %"),
            said(40, "downloading the system, 40 %"),
        ];
        let all: Vec<&Entry> = lines.iter().collect();
        let wanted =
            Progress { percent: 40, step: "downloading the system".into(), left: Some("45 s".into()) };
        assert_eq!(progress(&all), Some(wanted));
        assert_eq!(progress(&all[..2]).unwrap().left, None);
        assert_eq!(progress(&all[..1]), None);
        assert_eq!(progress(&[]), None);
    }
}
