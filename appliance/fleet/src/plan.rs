//! What is to be done next, and where nothing can be done, why.
//!
//! The reconciler calls `plan` after every change and every ten seconds, and gives the commands it returns.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::wire::{self, SoftwareState, VmState};
use crate::{
    Command, Fleet, MachineId, NodeId, ServiceId, Timestamp, VmId, machine, service, site, switch, vm,
};

/// What the nodes said last.
pub type Observed = BTreeMap<NodeId, ObservedNode>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNode {
    pub at: Timestamp,
    pub said: wire::Observed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub actions: Vec<Command>,
    pub waiting: Vec<Waiting>,
}

/// Why something is not further than it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub subject: Subject,
    pub since: Timestamp,
    /// What it waits for.
    pub what: String,
    /// What a person could do.
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

/// A node that has not been heard of for so long is shown as silent.
const SILENT_SECS: u64 = 45;

/// Limits of the states that should pass by themselves, in seconds: after them the page says what is late.
const REPORT_LIMIT: u64 = 180;
const INSTALL_LIMIT: u64 = 900;
const JOIN_LIMIT: u64 = 600;
const VM_LIMIT: u64 = 600;
const SERVICE_LIMIT: u64 = 900;

pub fn plan(fleet: &Fleet, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for machine in fleet.machines.values() {
        plan_machine(fleet, machine, observed, now, &mut plan);
    }
    for vm in fleet.vms.values() {
        plan_vm(vm, observed, now, &mut plan);
    }
    for service in fleet.services.values() {
        plan_service(fleet, service, observed, now, &mut plan);
    }
    plan
}

fn plan_machine(
    fleet: &Fleet,
    machine: &machine::Machine,
    observed: &Observed,
    now: Timestamp,
    plan: &mut Plan,
) {
    let seen = observed.get(&NodeId::Machine(machine.id));
    let mut wait = |what: String, hint: Option<&str>| {
        plan.waiting.push(Waiting {
            subject: Subject::Machine(machine.id),
            since: machine.since,
            what,
            hint: hint.map(str::to_owned),
        });
    };
    for contradiction in contradictions(fleet, machine) {
        wait(
            contradiction,
            Some("look at the cable; then plug in by hand what is there, or unplug the port"),
        );
    }
    let late = |limit: u64| now.secs_since(machine.since) > limit;
    match &machine.phase {
        machine::Phase::Sighted if late(REPORT_LIMIT) => wait(
            "asked for an address but never reported what it is".to_owned(),
            Some(
                "see its timeline for the last file it fetched; is it set to start from its own disk first?",
            ),
        ),
        machine::Phase::Sighted => {
            wait("starts from the network and will report what it is".to_owned(), None)
        }
        machine::Phase::Reported => wait_for_adoption(fleet, machine, &mut wait),
        machine::Phase::Adopted { .. } => wait(
            "will be installed as soon as it has started from the network".to_owned(),
            Some("restart it if its screen does not say that it waits for the appliance"),
        ),
        machine::Phase::Installing { .. } if late(INSTALL_LIMIT) => wait(
            "the installation takes longer than it should".to_owned(),
            Some("look at its screen; restart it, and the installation starts over"),
        ),
        machine::Phase::Installing { .. } => wait("the installation goes on".to_owned(), None),
        machine::Phase::Failed { step, error } => wait(
            format!("the installation failed while {step}: {error}"),
            Some("adopt it again to try once more"),
        ),
        machine::Phase::Installed | machine::Phase::Ready => {
            if let Some(node) = seen {
                plan.actions.extend(news_of_neighbours(fleet, machine, &node.said.neighbours));
            }
            if let Some(capacity) = seen.and_then(|node| node.said.capacity.as_ref()) {
                let changed = fleet.hosts.get(&machine.id).is_none_or(|host| {
                    host.hypervisor != capacity.hypervisor
                        || host.threads != capacity.threads
                        || host.memory_mib != capacity.memory_mib
                        || host.volume_bytes != capacity.volume_bytes
                });
                if capacity.domain_type != "kvm" {
                    wait(
                        format!("offers virtualization by {} and not by kvm", capacity.domain_type),
                        Some("switch virtualization (VT-x or AMD-V) on in its firmware and restart it"),
                    );
                } else if changed {
                    plan.actions
                        .push(Command::ObserveHost { machine: machine.id, capacity: capacity.clone() });
                }
            } else if machine.phase == machine::Phase::Installed && late(JOIN_LIMIT) {
                wait(
                    "is installed but its host agent has not spoken".to_owned(),
                    Some("look at its screen: does it start from its own disk?"),
                );
            } else if machine.phase == machine::Phase::Installed {
                wait("starts from its own disk".to_owned(), None);
            }
            if let Some(node) = seen
                && now.secs_since(node.at) > SILENT_SECS
            {
                plan.waiting.push(Waiting {
                    subject: Subject::Machine(machine.id),
                    since: node.at,
                    what: "its host agent is silent".to_owned(),
                    hint: Some("is it switched on and plugged in?".to_owned()),
                });
            }
        }
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

fn wait_for_adoption(fleet: &Fleet, machine: &machine::Machine, wait: &mut impl FnMut(String, Option<&str>)) {
    let Some(hardware) = &machine.hardware else { return };
    match machine::target_disk(hardware, false) {
        Err(_) if hardware.disks.iter().any(|disk| !disk.removable && !disk.contents.is_empty()) => {
            for disk in hardware.disks.iter().filter(|disk| !disk.removable && !disk.contents.is_empty()) {
                wait(
                    format!("{} holds {}; wipe it?", disk.path, machine::contents(disk)),
                    Some("adopt it with wiping, or leave it alone"),
                );
            }
        }
        Err(refusal) => wait(refusal.to_string(), Some("put another disk in and restart it")),
        Ok(_) => match fleet.policy.adopt {
            site::Adopt::Ask => wait("the policy says to ask before adopting".to_owned(), Some("adopt it")),
            site::Adopt::Blank => wait("will be adopted at its next report".to_owned(), None),
        },
    }
}

fn plan_vm(vm: &vm::Vm, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    let host = observed.get(&NodeId::Machine(vm.host));
    let state =
        host.and_then(|node| node.said.vms.iter().find(|seen| seen.id == vm.id)).map(|seen| &seen.state);
    let mut wait = |what: String, hint: Option<&str>| {
        plan.waiting.push(Waiting {
            subject: Subject::Vm(vm.id),
            since: vm.since,
            what,
            hint: hint.map(str::to_owned),
        });
    };
    match (vm.phase, state) {
        (vm::Phase::Wanted, Some(VmState::Running)) => {
            plan.actions.push(Command::ObserveVmRunning { vm: vm.id });
        }
        (vm::Phase::Wanted | vm::Phase::Running, Some(VmState::Failing { reason })) => {
            wait(reason.clone(), Some("its host tries again by itself"));
        }
        (vm::Phase::Wanted, Some(VmState::Creating { step })) => wait(step.clone(), None),
        (vm::Phase::Wanted, None | Some(VmState::Stopped)) if now.secs_since(vm.since) > VM_LIMIT => {
            wait("its host has not made it yet".to_owned(), Some("look at the host's timeline"));
        }
        (vm::Phase::Wanted, None | Some(VmState::Stopped)) => wait("its host will make it".to_owned(), None),
        (vm::Phase::Running, Some(VmState::Running)) => {}
        (vm::Phase::Running, Some(VmState::Stopped | VmState::Creating { .. }) | None) => {
            wait("is not running; its host starts it again".to_owned(), None);
        }
        // Gone is what the host says after it carried out a desired state in which the VM was no more.
        (vm::Phase::Removing, None) => match host {
            Some(node) if node.at > vm.since => plan.actions.push(Command::ObserveVmGone { vm: vm.id }),
            Some(_) | None => wait("its host has not confirmed that it is gone".to_owned(), None),
        },
        (
            vm::Phase::Removing,
            Some(VmState::Running | VmState::Stopped | VmState::Creating { .. } | VmState::Failing { .. }),
        ) => {
            wait("its host is removing it".to_owned(), None);
        }
    }
}

fn plan_service(
    fleet: &Fleet,
    service: &service::Service,
    observed: &Observed,
    now: Timestamp,
    plan: &mut Plan,
) {
    let states: Vec<Option<&SoftwareState>> = service
        .nodes
        .iter()
        .map(|vm| {
            let node = observed.get(&NodeId::Vm(*vm))?;
            let software = node.said.software.iter().find(|software| software.name == service.name)?;
            (software.version == service.version).then_some(&software.state)
        })
        .collect();
    let mut wait = |what: String, hint: Option<&str>| {
        plan.waiting.push(Waiting {
            subject: Subject::Service(service.id),
            since: service.since,
            what,
            hint: hint.map(str::to_owned),
        });
    };
    match service.phase {
        service::Phase::Removing => {
            if service.nodes.iter().any(|vm| fleet.vms.contains_key(vm)) {
                wait("its nodes are being removed".to_owned(), None);
            } else {
                plan.actions.push(Command::RemoveService { service: service.id });
            }
        }
        service::Phase::Installing | service::Phase::Answering => {
            if !states.is_empty() && states.iter().all(|state| matches!(state, Some(SoftwareState::Healthy)))
            {
                if service.phase == service::Phase::Installing {
                    plan.actions.push(Command::ObserveAnswering { service: service.id });
                }
                return;
            }
            match states.into_iter().flatten().find(|state| !matches!(state, SoftwareState::Healthy)) {
                Some(SoftwareState::Installing { step }) => wait(step.clone(), None),
                Some(SoftwareState::Failing { reason }) => {
                    wait(reason.clone(), Some("its node tries again by itself"));
                }
                Some(SoftwareState::Healthy) | None if now.secs_since(service.since) > SERVICE_LIMIT => {
                    wait("its node has not spoken yet".to_owned(), Some("look at the timeline of its VM"));
                }
                Some(SoftwareState::Healthy) | None => wait("its node is starting".to_owned(), None),
            }
        }
    }
}
