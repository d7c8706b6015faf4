//! What is to be done next, and where nothing can be done, why.
//!
//! The plan of one subject is a function of that subject, of what nodes said and of the time; [`plan`] puts those
//! of all subjects together, and [`crate::Planner`] keeps them up to date. What a subject's plan looks at besides
//! stands in planner/touched.rs.

mod power;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

use crate::wire::{self, SoftwareState, VmState};
use crate::{
    Command, Fleet, MachineId, NodeId, ServiceId, Timestamp, VmId, host, machine, service, site, switch, vm,
};

/// What the nodes said last.
pub type Observed = OrdMap<NodeId, Arc<ObservedNode>>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNode {
    pub at: Timestamp,
    pub said: wire::Observed,
}

/// The last word of a node, if it came after `at`: one from before is of another system, or of what was there then.
fn word_since(observed: &Observed, node: NodeId, at: Option<Timestamp>) -> Option<&Arc<ObservedNode>> {
    observed.get(&node).filter(|node| at.is_none_or(|at| node.at > at))
}

/// What nodes have said between two moments; it costs what has changed.
pub fn heard_since(before: &Observed, after: &Observed) -> impl Iterator<Item = (NodeId, Arc<ObservedNode>)> {
    before.diff(after).filter_map(|difference| match difference {
        DiffItem::Add(node, seen) | DiffItem::Update { new: (node, seen), .. } => {
            Some((*node, Arc::clone(seen)))
        }
        DiffItem::Remove(..) => None,
    })
}

/// Subjects of which nothing is to be said have no item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub subjects: OrdMap<Subject, Arc<Item>>,
}

/// The plan of one subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Item {
    pub actions: Vec<Command>,
    pub waiting: Vec<Waiting>,
    /// When this item changes although nothing else does: a limit is over.
    pub due: Option<Timestamp>,
}

/// Why something is not further than it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub subject: Subject,
    pub since: Timestamp,
    /// What it waits for.
    pub what: Cow<'static, str>,
    /// What a person could do.
    pub hint: Option<Cow<'static, str>>,
}

/// As JSON and text its id: `m1`, `v2`, `s3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Subject {
    Machine(MachineId),
    Vm(VmId),
    Service(ServiceId),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Machine(machine) => machine.fmt(f),
            Subject::Vm(vm) => vm.fmt(f),
            Subject::Service(service) => service.fmt(f),
        }
    }
}

impl Plan {
    pub fn actions(&self) -> impl Iterator<Item = &Command> {
        self.subjects.values().flat_map(|item| &item.actions)
    }

    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.subjects.values().flat_map(|item| &item.waiting)
    }

    pub fn waiting_of(&self, subject: Subject) -> &[Waiting] {
        self.subjects.get(&subject).map_or(&[], |item| &item.waiting)
    }
}

/// Looks at everything.
pub fn plan(fleet: &Fleet, observed: &Observed, now: Timestamp) -> Plan {
    let machines = fleet.machines.keys().map(|id| Subject::Machine(*id));
    let vms = fleet.vms.keys().map(|id| Subject::Vm(*id));
    let services = fleet.services.keys().map(|id| Subject::Service(*id));
    let subjects = machines.chain(vms).chain(services);
    let items = subjects.map(|subject| (subject, plan_subject(fleet, subject, observed, now)));
    Plan { subjects: items.filter(|(_, item)| *item != Item::default()).collect() }
}

/// The item of one subject; an empty one of a subject that is no more.
pub(crate) fn plan_subject(fleet: &Fleet, subject: Subject, observed: &Observed, now: Timestamp) -> Item {
    let item = match subject {
        Subject::Machine(id) => fleet.machines.get(&id).map(|it| plan_machine(fleet, it, observed, now)),
        Subject::Vm(id) => fleet.vms.get(&id).map(|it| plan_vm(fleet, it, observed, now)),
        Subject::Service(id) => fleet.services.get(&id).map(|it| plan_service(fleet, it, observed, now)),
    };
    item.unwrap_or_default()
}

/// A look at one subject: takes down what is found.
struct Look {
    subject: Subject,
    /// When the subject came into its phase.
    since: Timestamp,
    now: Timestamp,
    item: Item,
}

impl Look {
    fn at(subject: Subject, since: Timestamp, now: Timestamp) -> Look {
        Look { subject, since, now, item: Item::default() }
    }

    fn act(&mut self, command: Command) {
        self.item.actions.push(command);
    }

    fn wait(&mut self, what: impl Into<Cow<'static, str>>, hint: Option<&'static str>) {
        self.wait_since(self.since, what, hint);
    }

    fn wait_since(
        &mut self,
        since: Timestamp,
        what: impl Into<Cow<'static, str>>,
        hint: Option<&'static str>,
    ) {
        let hint = hint.map(Cow::Borrowed);
        self.item.waiting.push(Waiting { subject: self.subject, since, what: what.into(), hint });
    }

    /// Whether the phase lasts longer than it should. The first time, `what` it waits for goes into the log.
    fn late(
        &mut self,
        limit_secs: Option<u64>,
        known: Option<Timestamp>,
        what: impl FnOnce() -> String,
    ) -> bool {
        let late = limit_secs.is_some_and(|limit| self.over(self.since, limit));
        if late && known.is_none() {
            self.act(Command::RecordLate { subject: self.subject, what: what() });
        }
        late
    }

    /// Whether more than `limit_secs` whole seconds have passed; if not, the item is due when they have.
    fn over(&mut self, since: Timestamp, limit_secs: u64) -> bool {
        let over = self.now.secs_since(since) > limit_secs;
        if !over {
            self.due(Some(Timestamp(since.0.saturating_add((limit_secs + 1) * 1000))));
        }
        over
    }

    /// The item changes then although nothing else does.
    fn due(&mut self, at: Option<Timestamp>) {
        self.item.due = self.item.due.into_iter().chain(at).min();
    }
}

fn plan_machine(fleet: &Fleet, machine: &machine::Machine, observed: &Observed, now: Timestamp) -> Item {
    let mut look = Look::at(Subject::Machine(machine.id), machine.since, now);
    for contradiction in contradictions(fleet, machine) {
        look.wait(
            contradiction,
            Some("look at the cable; then plug in by hand what is there, or unplug the port"),
        );
    }
    let late = |look: &mut Look, what: &'static str| {
        look.late(machine.limit_secs(), machine.late, || what.to_owned())
    };
    match &machine.phase {
        machine::Phase::Sighted => {
            let what = "asked for an address but never reported what it is";
            let hint =
                "see its timeline for the last file it fetched; is it set to start from its own disk first?";
            match late(&mut look, what) {
                true => look.wait(what, Some(hint)),
                false => look.wait("starts from the network and will report what it is", None),
            }
        }
        machine::Phase::Reported => wait_for_adoption(fleet, machine, &mut look),
        machine::Phase::Adopted { .. } => {
            let what = match machine.before {
                Some(_) => "will be installed again as soon as it has started from the network",
                None => "will be installed as soon as it has started from the network",
            };
            late(&mut look, what);
            look.wait(what, Some("restart it if its screen does not say that it waits for the appliance"));
        }
        machine::Phase::Installing { .. } => {
            let what = "the installation takes longer than it should";
            match late(&mut look, what) {
                true => look.wait(
                    what,
                    Some("look at its screen; restart it, and the installation starts over, or cancel it"),
                ),
                false => look.wait("the installation goes on", None),
            }
        }
        machine::Phase::Failed { step, error } => look.wait(
            format!("the installation failed while {step}: {error}"),
            Some("adopt it again to try once more"),
        ),
        machine::Phase::Erasing(erasing) => wait_for_erasing(machine, erasing, &mut look),
        machine::Phase::Retired => {}
        machine::Phase::Installed if machine.system.is_some() => {}
        machine::Phase::Installed | machine::Phase::Ready => join(fleet, machine, observed, &mut look),
    }
    wait_for_check(machine, &mut look);
    power::plan(fleet, machine, observed, &mut look);
    look.item
}

fn wait_for_erasing(machine: &machine::Machine, erasing: &machine::Erasing, look: &mut Look) {
    let then = if erasing.stopping { "; then it stops" } else { "" };
    let (what, hint) = match erasing.current() {
        Some(current) => (
            format!("{} is being erased{then}", current.disk),
            "look at its screen; restart it, and the disk is begun again",
        ),
        None if erasing.begun() => (
            "has ended with a disk and has not asked for the next".to_owned(),
            "look at its screen; restart it, and it goes on",
        ),
        None => {
            let what = "will be erased as soon as it has started from the network";
            look.late(machine.limit_secs(), machine.late, || what.to_owned());
            let hint = "restart it if its screen does not say that it waits for the appliance";
            return look.wait(what, Some(hint));
        }
    };
    let late = look.late(machine.limit_secs(), machine.late, || what.clone());
    look.wait(what, Some(hint).filter(|_| late));
}

fn wait_for_check(machine: &machine::Machine, look: &mut Look) {
    let Some(check) = &machine.check else { return };
    if check.ended.is_none() {
        return look.wait("its disks are being read from end to end; nothing on them is changed", None);
    }
    for trouble in check.disks.iter().filter_map(wire::DiskChecked::trouble) {
        look.wait(trouble, Some("put another disk in, and check again"));
    }
}

/// Of the neighbours that a machine heard, those that the fleet does not know. A NIC is in one port: if it hears several
/// (a switch that lets LLDP through stands between), the one that is known stays.
pub fn news_of_neighbours<'a>(
    fleet: &'a Fleet,
    machine: &'a machine::Machine,
    neighbours: &'a [wire::Neighbour],
) -> impl Iterator<Item = Command> + 'a {
    machine.macs.iter().filter_map(move |mac| {
        let heard = || neighbours.iter().filter(|neighbour| neighbour.mac == *mac);
        if heard().any(|neighbour| switch::is_known(fleet, neighbour)) {
            return None;
        }
        let neighbour = heard().min()?.clone();
        Some(Command::ObserveNeighbour { machine: machine.id, neighbour })
    })
}

fn contradictions(fleet: &Fleet, machine: &machine::Machine) -> BTreeSet<String> {
    machine.macs.iter().filter_map(|mac| switch::contradiction(fleet, *mac)).collect()
}

fn wait_for_adoption(fleet: &Fleet, machine: &machine::Machine, look: &mut Look) {
    let Some(hardware) = &machine.hardware else { return };
    if machine.held {
        return look.wait("what went on with it was cancelled", Some("adopt it, or remove it"));
    }
    match machine::target_disk(hardware, false) {
        Err(_) if hardware.disks.iter().any(|disk| !disk.removable && !disk.contents.is_empty()) => {
            for disk in hardware.disks.iter().filter(|disk| !disk.removable && !disk.contents.is_empty()) {
                look.wait(
                    format!("{} holds {}; wipe it?", disk.path, machine::contents(disk)),
                    Some("adopt it with wiping, or leave it alone"),
                );
            }
        }
        Err(refusal) => look.wait(refusal.to_string(), Some("put another disk in and restart it")),
        Ok(_) => match fleet.policy.adopt {
            site::Adopt::Ask => look.wait("the policy says to ask before adopting", Some("adopt it")),
            site::Adopt::Blank => look.wait("will be adopted at its next report", None),
        },
    }
}

fn join(fleet: &Fleet, machine: &machine::Machine, observed: &Observed, look: &mut Look) {
    let installed_at = (machine.phase == machine::Phase::Installed).then_some(machine.since);
    let seen = word_since(observed, NodeId::Machine(machine.id), installed_at);
    if let Some(node) = seen {
        look.item.actions.extend(news_of_neighbours(fleet, machine, &node.said.neighbours));
    }
    if let Some(capacity) = seen.and_then(|node| node.said.capacity.as_ref()) {
        let changed = fleet.hosts.get(&machine.id).is_none_or(|host| {
            host.hypervisor != capacity.hypervisor
                || host.threads != capacity.threads
                || host.memory_mib != capacity.memory_mib
                || host.volume_bytes != capacity.volume_bytes
        });
        if capacity.domain_type != "kvm" {
            look.wait(
                format!("offers virtualization by {} and not by kvm", capacity.domain_type),
                Some("switch virtualization (VT-x or AMD-V) on in its firmware and restart it"),
            );
        } else if changed {
            look.act(Command::ObserveHost { machine: machine.id, capacity: capacity.clone() });
        }
    } else if machine.phase == machine::Phase::Installed {
        let what = "is installed but its host agent has not spoken";
        match look.late(machine.limit_secs(), machine.late, || what.to_owned()) {
            true => look.wait(what, Some("look at its screen: does it start from its own disk?")),
            false => look.wait("starts from its own disk", None),
        }
    }
    if let Some(host) = fleet.hosts.get(&machine.id)
        && let Some(since) = host.draining_since
    {
        drained(fleet, machine, since, look);
    }
}

fn drained(fleet: &Fleet, machine: &machine::Machine, since: Timestamp, look: &mut Look) {
    let vms: Vec<&str> = vm::on_host(fleet, machine.id).map(|vm| vm.name.as_ref()).collect();
    if vms.is_empty() {
        return look.wait_since(since, "is drained: no VM is on it", None);
    }
    let what = format!("is being drained; still on it: {}", vms.join(", "));
    if look.over(since, host::DRAIN_LIMIT_SECS) && machine.late.is_none() {
        look.act(Command::RecordLate { subject: look.subject, what: what.clone() });
    }
    look.wait_since(since, what, Some("remove them; they can be made anew elsewhere"));
}

fn plan_vm(fleet: &Fleet, vm: &vm::Vm, observed: &Observed, now: Timestamp) -> Item {
    let mut look = Look::at(Subject::Vm(vm.id), vm.since, now);
    if vm.phase != vm::Phase::Removing
        && let Some(off) = crate::power::off_since(fleet, vm.host)
    {
        power::without_host(vm, off, &mut look);
        return look.item;
    }
    // Where it is made now it may have run once before.
    let wanted_since = (vm.phase == vm::Phase::Wanted).then_some(vm.since);
    let host = NodeId::Machine(vm.host);
    let state = word_since(observed, host, wanted_since)
        .and_then(|node| node.said.vms.iter().find(|seen| seen.id == vm.id))
        .map(|seen| &seen.state);
    let limit = vm.phase.limit_secs();
    match (vm.phase, state) {
        (vm::Phase::Wanted, Some(VmState::Running)) => look.act(Command::ObserveVmRunning { vm: vm.id }),
        (vm::Phase::Wanted, Some(VmState::Failing { reason })) => {
            look.late(limit, vm.late, || format!("its host cannot make it: {reason}"));
            look.wait(reason.clone(), Some("its host tries again by itself; cancel it to stop that"));
        }
        (vm::Phase::Running, Some(VmState::Failing { reason })) => {
            look.wait(reason.clone(), Some("its host tries again by itself"));
        }
        (vm::Phase::Wanted, Some(VmState::Creating { step })) => {
            look.late(limit, vm.late, || format!("its host is still at: {step}"));
            look.wait(step.clone(), None);
        }
        (vm::Phase::Wanted, None | Some(VmState::Stopped | VmState::Gone)) => {
            let what = "its host has not made it yet";
            match look.late(limit, vm.late, || what.to_owned()) {
                true => look.wait(what, Some("look at the host's timeline, or cancel it")),
                false => look.wait("its host will make it", None),
            }
        }
        (vm::Phase::Running, Some(VmState::Running)) => {}
        (vm::Phase::Running, Some(VmState::Stopped | VmState::Gone | VmState::Creating { .. }) | None) => {
            look.wait("is not running; its host starts it again", None);
        }
        // A word from before may be of an earlier removal, which was cancelled.
        (vm::Phase::Removing, Some(VmState::Gone))
            if word_since(observed, host, Some(vm.since)).is_some() =>
        {
            look.act(Command::ObserveVmGone { vm: vm.id });
        }
        (vm::Phase::Removing, None | Some(VmState::Gone)) => {
            let what = "its host has not confirmed that it is gone";
            let late = look.late(limit, vm.late, || what.to_owned());
            look.wait(what, late.then_some("if the host is away for good, remove it by force"));
        }
        (
            vm::Phase::Removing,
            Some(VmState::Running | VmState::Stopped | VmState::Creating { .. } | VmState::Failing { .. }),
        ) => {
            let what = "its host is removing it";
            let late = look.late(limit, vm.late, || what.to_owned());
            look.wait(what, late.then_some("look at the host's timeline"));
        }
    }
    look.item
}

fn plan_service(fleet: &Fleet, service: &service::Service, observed: &Observed, now: Timestamp) -> Item {
    let mut look = Look::at(Subject::Service(service.id), service.since, now);
    let states: Vec<Option<&SoftwareState>> = service
        .nodes
        .iter()
        .map(|vm| {
            // One that is made anew has said nothing yet.
            let wanted_since =
                fleet.vms.get(vm).filter(|vm| vm.phase == vm::Phase::Wanted).map(|vm| vm.since);
            let node = word_since(observed, NodeId::Vm(*vm), wanted_since)?;
            let software = node.said.software.iter().find(|software| software.name == service.package())?;
            (software.version == service.version).then_some(&software.state)
        })
        .collect();
    let limit = service.phase.limit_secs();
    match service.phase {
        service::Phase::Removing => {
            let vms: Vec<&str> =
                service.nodes.iter().filter_map(|vm| fleet.vms.get(vm)).map(|vm| vm.name.as_ref()).collect();
            if vms.is_empty() {
                look.act(Command::RemoveService { service: service.id, force: false });
            } else {
                let late = look.late(limit, service.late, || format!("{} is not gone yet", vms.join(", ")));
                look.wait("its nodes are being removed", late.then_some("look at the timeline of its VM"));
            }
        }
        service::Phase::Installing | service::Phase::Answering => {
            if !states.is_empty() && states.iter().all(|state| matches!(state, Some(SoftwareState::Healthy)))
            {
                if service.phase == service::Phase::Installing {
                    look.act(Command::ObserveAnswering { service: service.id });
                }
                return look.item;
            }
            let stands =
                match states.into_iter().flatten().find(|state| !matches!(state, SoftwareState::Healthy)) {
                    Some(SoftwareState::Installing { step }) => step.clone(),
                    Some(SoftwareState::Failing { reason }) => {
                        look.late(limit, service.late, || reason.clone());
                        look.wait(reason.clone(), Some("its node tries again by itself"));
                        return look.item;
                    }
                    Some(SoftwareState::Healthy) | None => {
                        let what = "its node has not spoken yet";
                        match look.late(limit, service.late, || what.to_owned()) {
                            true => look.wait(what, Some("look at the timeline of its VM")),
                            false => look.wait("its node is starting", None),
                        }
                        return look.item;
                    }
                };
            look.late(limit, service.late, || format!("its node is still at: {stands}"));
            look.wait(stands, None);
        }
    }
    look.item
}
