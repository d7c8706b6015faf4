//! Which subjects a difference can matter to: the other side of what the functions of plan.rs look at.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::host::Host;
use crate::machine::{Machine, Phase};
use crate::switch::{Port, Switch};
use crate::vm::Vm;
use crate::{Fleet, Mac, MachineId, NodeId, Observed, ObservedNode, Subject, VmId, vm};

pub(super) fn by_change(
    before: &Fleet,
    after: &Fleet,
    heard_before: &Observed,
    heard: &Observed,
) -> BTreeSet<Subject> {
    let mut touched = Touched { before, after, subjects: BTreeSet::new() };
    touched.policy();
    for (id, old, new) in differences(&before.machines, &after.machines) {
        touched.subjects.insert(Subject::Machine(*id));
        touched.machine(old.map(AsRef::as_ref), new.map(AsRef::as_ref));
        touched.power(*id, old.map(AsRef::as_ref), new.map(AsRef::as_ref));
    }
    for (id, old, new) in differences(&before.hosts, &after.hosts) {
        touched.subjects.insert(Subject::Machine(*id));
        let suspected = |host: Option<&Arc<Host>>| host.map(|host| host.suspected_since);
        if suspected(old) != suspected(new) {
            touched.suspects();
        }
    }
    for (id, old, new) in differences(&before.vms, &after.vms) {
        touched.subjects.insert(Subject::Vm(*id));
        let stands = |vm: Option<&Arc<Vm>>| vm.map(|vm| (vm.host, vm.phase));
        if stands(old) != stands(new) {
            touched.services(*id);
            // It says what is still on it when it is drained, and is fenced for what would run elsewhere.
            touched.subjects.extend([old, new].into_iter().flatten().map(|vm| Subject::Machine(vm.host)));
        }
    }
    for (id, _, _) in differences(&before.services, &after.services) {
        touched.subjects.insert(Subject::Service(*id));
    }
    for (_, old, new) in differences(&before.switches, &after.switches) {
        touched.switch(old.map(AsRef::as_ref), new.map(AsRef::as_ref));
    }
    for (node, old, new) in differences(heard_before, heard) {
        touched.heard(*node, old.map(AsRef::as_ref), new.map(AsRef::as_ref));
    }
    touched.subjects
}

struct Touched<'a> {
    before: &'a Fleet,
    after: &'a Fleet,
    subjects: BTreeSet<Subject>,
}

impl Touched<'_> {
    /// Whether machines are adopted by themselves is what those wait for that nobody wants yet; how long hosts may be
    /// silent is asked of all.
    fn policy(&mut self) {
        if self.before.policy.fencing != self.after.policy.fencing {
            self.subjects.extend(self.after.hosts.keys().map(|host| Subject::Machine(*host)));
        }
        if self.before.policy.adopt == self.after.policy.adopt {
            return;
        }
        let reported = self.after.machines.values().filter(|machine| machine.phase == Phase::Reported);
        self.subjects.extend(reported.map(|machine| Subject::Machine(machine.id)));
    }

    /// VMs wait for a host that is fenced; and how many are fenced is what suspected ones wait for.
    fn power(&mut self, id: MachineId, before: Option<&Machine>, after: Option<&Machine>) {
        let fence =
            |machine: Option<&Machine>| machine.map(|it| (it.power.fence.clone(), it.power.fenced_alone));
        if fence(before) == fence(after) {
            return;
        }
        let vms = vm::on_host(self.after, id).map(|vm| Subject::Vm(vm.id));
        self.subjects.extend(vms);
        self.suspects();
    }

    fn suspects(&mut self) {
        let suspected = self.after.hosts.values().filter(|host| host.suspected_since.is_some());
        self.subjects.extend(suspected.map(|host| Subject::Machine(host.machine)));
    }

    /// What is in the same ports may be called after this machine.
    fn machine(&mut self, before: Option<&Machine>, after: Option<&Machine>) {
        let called = |machine: Option<&Machine>| machine.map(|it| (it.name.clone(), it.macs.clone()));
        if called(before) == called(after) {
            return;
        }
        for mac in [before, after].into_iter().flatten().flat_map(|machine| &machine.macs) {
            for fleet in [self.before, self.after] {
                let port = fleet.index.socket_of(*mac).and_then(|socket| {
                    let switch = fleet.switches.get(&socket.switch)?;
                    switch.ports.get(&socket.port)
                });
                self.nics(port.into_iter().flat_map(Port::nics));
            }
        }
    }

    fn services(&mut self, vm: VmId) {
        for fleet in [self.before, self.after] {
            self.subjects.extend(fleet.index.services_of(vm).map(Subject::Service));
        }
    }

    /// What is in its ports. Which NIC heard a switch, too, is what the switch's port knows.
    fn switch(&mut self, before: Option<&Switch>, after: Option<&Switch>) {
        let chassis = |switch: Option<&Switch>| switch.map(|switch| switch.chassis.clone());
        let another = chassis(before) != chassis(after);
        for (switch, other) in [(before, after), (after, before)] {
            for (name, port) in switch.into_iter().flat_map(|switch| &switch.ports) {
                if another || other.and_then(|other| other.ports.get(name)) != Some(port) {
                    self.nics(port.nics());
                }
            }
        }
    }

    fn nics(&mut self, macs: impl IntoIterator<Item = Mac>) {
        for mac in macs {
            for fleet in [self.before, self.after] {
                let machines = fleet.index.nodes_by_mac(mac).filter_map(|node| match node {
                    NodeId::Machine(machine) => Some(Subject::Machine(machine)),
                    NodeId::Vm(_) => None,
                });
                self.subjects.extend(machines);
            }
        }
    }

    /// A host speaks of itself and of its VMs, a guest of the services that it carries.
    fn heard(&mut self, node: NodeId, before: Option<&ObservedNode>, after: Option<&ObservedNode>) {
        match node {
            NodeId::Machine(host) => {
                self.subjects.insert(Subject::Machine(host));
                let said = [before, after].map(|node| node.map(|node| &node.said.vms));
                let same = said[0] == said[1];
                // One that is to be removed is gone, and one that is to run does, once its host has spoken since.
                let vms = vm::on_host(self.after, host).filter(|vm| !same || vm.phase != vm::Phase::Running);
                self.subjects.extend(vms.map(|vm| Subject::Vm(vm.id)));
            }
            NodeId::Vm(vm) => {
                self.services(vm);
                // That a VM speaks shows that its silent host runs.
                let host = self.after.vms.get(&vm).and_then(|vm| self.after.hosts.get(&vm.host));
                let silent = host.filter(|host| host.suspected_since.is_some());
                self.subjects.extend(silent.map(|host| Subject::Machine(host.machine)));
            }
        }
    }
}

fn differences<'a, K: Ord, V: PartialEq>(
    before: &'a OrdMap<K, V>,
    after: &'a OrdMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    before.diff(after).map(|difference| match difference {
        DiffItem::Add(key, new) => (key, None, Some(new)),
        DiffItem::Update { old: (_, old), new: (key, new) } => (key, Some(old), Some(new)),
        DiffItem::Remove(key, old) => (key, Some(old), None),
    })
}
