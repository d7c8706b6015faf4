//! The page of one thing: what it is to be beside what it is, and what a person can do with it.

use fleet::machine::{self, Boot};
use fleet::wire::{SoftwareState, VmState};
use fleet::{Fleet, Mac, NodeId, Timestamp, service, vm};

use super::list::Scene;
use super::show;
use crate::api::machines::Machine;
use crate::api::strips::OutletsShown;

/// Something that was decided, and what was seen of it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    pub what: &'static str,
    pub wanted: String,
    pub is: String,
    /// When it was seen to be so.
    pub seen: Option<Timestamp>,
    pub fits: bool,
}

impl Compared {
    fn new(what: &'static str, wanted: impl Into<String>, is: impl Into<String>, fits: bool) -> Compared {
        Compared { what, wanted: wanted.into(), is: is.into(), seen: None, fits }
    }

    fn seen(self, seen: Option<Timestamp>) -> Compared {
        Compared { seen, ..self }
    }
}

/// Its power, where there is a BMC or a power strip that can be asked.
pub fn power_of(machine: &Machine) -> Option<Compared> {
    let (bmc, outlets) = (machine.bmc.as_ref(), machine.outlets.as_ref());
    let (trouble, says) = match (bmc, outlets) {
        (Some(bmc), _) => (&bmc.trouble, format!("says {} at {}", bmc.kind, bmc.address)),
        (None, Some(outlets)) => (&outlets.trouble, format!("says its power strip, {}", places(outlets))),
        (None, None) => return None,
    };
    let (wanted, so) = match (&machine.fence, &machine.order) {
        (Some(fence), _) => (format!("off: fenced, {}", fence.why), fence.phase == "off"),
        (None, Some(order)) => (format!("to be {}", order.what), false),
        (None, None) => ("nothing else".to_owned(), true),
    };
    let is = match (trouble, &machine.power) {
        (Some(trouble), _) => trouble.clone(),
        (None, Some(power)) => format!("{}, {says}", power.is),
        (None, None) => "nothing was asked yet".to_owned(),
    };
    let seen = machine.power.as_ref().map(|power| power.at);
    Some(Compared::new("Power", wanted, is, so && trouble.is_none()).seen(seen))
}

/// Its outlets, where they are beside a BMC: what is to be there when that fails.
pub fn outlets_of(machine: &Machine) -> Option<Compared> {
    machine.bmc.as_ref()?;
    let outlets = machine.outlets.as_ref()?;
    let (wanted, is) = match (&outlets.trouble, &outlets.is) {
        (Some(trouble), _) => ("to answer".to_owned(), trouble.clone()),
        (None, Some(is)) => ("nothing else".to_owned(), format!("{is}, {}", places(outlets))),
        (None, None) => ("nothing else".to_owned(), format!("not asked yet, {}", places(outlets))),
    };
    Some(Compared::new("Power strip", wanted, is, outlets.trouble.is_none()))
}

fn places(outlets: &OutletsShown) -> String {
    let strips =
        outlets.strips.iter().map(|strip| format!("{} at {}", strip.outlets.join(", "), strip.address));
    format!("outlet {}", strips.collect::<Vec<_>>().join(" and "))
}

fn of_erasing(task: &machine::EraseTask) -> Compared {
    let is = match &task.state {
        machine::EraseState::Waiting => "not begun".to_owned(),
        machine::EraseState::Begun { attempt: 1, .. } => "being erased".to_owned(),
        machine::EraseState::Begun { attempt, .. } => format!("being erased, attempt {attempt}"),
        machine::EraseState::Done => "erased".to_owned(),
        machine::EraseState::Failed { error } => error.clone(),
    };
    let fits = task.state == machine::EraseState::Done;
    Compared::new("Disk", format!("{} erased", task.disk), is, fits)
}

pub fn of_machine(scene: Scene<'_>, machine: &machine::Machine) -> Vec<Compared> {
    let Scene { fleet, observed, .. } = scene;
    let node = observed.get(&NodeId::Machine(machine.id));
    let mut rows = Vec::new();
    let system =
        machine.system.as_ref().map_or("this appliance's own system".to_owned(), ToString::to_string);
    let (wanted, fits) = match &machine.phase {
        machine::Phase::Sighted | machine::Phase::Reported => ("nothing yet: it is not adopted".into(), true),
        machine::Phase::Erasing(_) => ("nothing: its disks are being erased".into(), false),
        machine::Phase::Retired => ("nothing: it has left for good".into(), true),
        machine::Phase::Failed { .. } => (system, false),
        machine::Phase::Adopted { .. } | machine::Phase::Installing { .. } => (system, false),
        machine::Phase::Installed => (system, machine.system.is_some()),
        machine::Phase::Ready => (system, true),
    };
    rows.push(Compared::new("System", wanted, machine.phase.word(), fits));
    if let machine::Phase::Erasing(erasing) = &machine.phase {
        rows.extend(erasing.disks.iter().map(of_erasing));
    }
    if let machine::Phase::Adopted { disk, wipe } | machine::Phase::Installing { disk, wipe, .. } =
        &machine.phase
    {
        let wiped = if *wipe { ", whose data may be wiped" } else { "" };
        let holds = machine.hardware.as_ref().and_then(|hardware| {
            let found = hardware.disks.iter().find(|it| it.path == disk.path)?;
            Some(machine::contents(found)).filter(|holds| !holds.is_empty())
        });
        let is = holds.map_or("blank".to_owned(), |holds| format!("holds {holds}"));
        rows.push(Compared::new("Disk", format!("{disk}{wiped}"), is, true));
    }
    if let Some(mac) = machine.macs.first().filter(|_| !machine.appliance) {
        let wanted =
            machine.once.map_or_else(|| usual(fleet, *mac).to_owned(), |once| format!("{once}, once"));
        let last = node.map_or("not heard of since its last start".to_owned(), |node| {
            format!("up for {}", show::span_ms(node.said.uptime_secs * 1000))
        });
        rows.push(Compared::new("Next start", wanted, last, true).seen(node.map(|node| node.at)));
    }
    if let Some(host) = fleet.hosts.get(&machine.id) {
        let usage = fleet.index.usage(machine.id);
        let running =
            node.map_or(0, |node| node.said.vms.iter().filter(|vm| vm.state == VmState::Running).count());
        let wanted = match (usage.vms, host.draining_since) {
            (count, None) => show::count(count),
            (count, Some(_)) => format!("{count}, and no new one"),
        };
        let fits = usize::try_from(usage.vms) == Ok(running) && host.draining_since.is_none();
        let is = format!("{} running", show::count(running as u64));
        rows.push(Compared::new("VMs", wanted, is, fits).seen(node.map(|node| node.at)));
    }
    rows
}

fn usual(fleet: &Fleet, mac: Mac) -> &'static str {
    match machine::boot(fleet, mac) {
        Boot::Discover => "reports what it is, over the network",
        Boot::Disk => "its own disk",
        Boot::Rescue => "the rescue system",
        Boot::MemoryTest => "the memory test",
        Boot::System => "the installer of another system",
    }
}

pub fn of_vm(scene: Scene<'_>, vm: &vm::Vm) -> Vec<Compared> {
    let observed = scene.observed;
    let host = observed.get(&NodeId::Machine(vm.host));
    let state = host.and_then(|node| node.said.vms.iter().find(|seen| seen.id == vm.id));
    let heard = host.map(|node| node.at);
    let is = match state.map(|seen| &seen.state) {
        None => "its host has said nothing of it".to_owned(),
        Some(VmState::Creating { step }) => format!("being made: {step}"),
        Some(VmState::Running) => "running".to_owned(),
        Some(VmState::Stopped) => "stopped".to_owned(),
        Some(VmState::Gone) => "gone".to_owned(),
        Some(VmState::Failing { reason }) => format!("failing: {reason}"),
    };
    let is_running = state.is_some_and(|seen| seen.state == VmState::Running);
    let (wanted, fits) = match vm.phase {
        vm::Phase::Wanted | vm::Phase::Running => ("running", is_running),
        vm::Phase::Removing => ("gone", false),
    };
    let mut rows = vec![Compared::new("State", wanted, is, fits).seen(heard)];
    let guest = observed.get(&NodeId::Vm(vm.id));
    let is = guest.map_or("has not spoken".to_owned(), |guest| {
        format!("up for {}", show::span_ms(guest.said.uptime_secs * 1000))
    });
    rows.push(Compared::new("Guest agent", "speaks", is, guest.is_some()).seen(guest.map(|guest| guest.at)));
    rows
}

pub fn of_service(scene: Scene<'_>, service: &service::Service) -> Vec<Compared> {
    let Scene { fleet, observed, .. } = scene;
    let mut rows = Vec::new();
    for id in &service.nodes {
        let guest = observed.get(&NodeId::Vm(*id));
        let software =
            guest.and_then(|guest| guest.said.software.iter().find(|it| it.name == service.package()));
        let (is, healthy) = match software.map(|it| (&it.state, &it.version)) {
            None => ("its VM has said nothing of it".to_owned(), false),
            Some((SoftwareState::Installing { step }, _)) => (step.clone(), false),
            Some((SoftwareState::Healthy, version)) => (format!("{version}, its health check answers"), true),
            Some((SoftwareState::Failing { reason }, _)) => (format!("failing: {reason}"), false),
        };
        let name = fleet.vms.get(id).map_or_else(|| id.to_string(), |vm| vm.name.to_string());
        let (wanted, fits) = match service.phase {
            service::Phase::Installing | service::Phase::Answering => {
                (format!("{} {} on {name}", service.name, service.version), healthy)
            }
            service::Phase::Removing => ("gone".to_owned(), false),
        };
        rows.push(Compared::new("Software", wanted, is, fits).seen(guest.map(|guest| guest.at)));
    }
    let answers = if service.phase == service::Phase::Answering { "answers" } else { "does not answer yet" };
    let fits = service.phase == service::Phase::Answering;
    rows.push(Compared::new("Address", service.url(), answers, fits));
    rows
}
