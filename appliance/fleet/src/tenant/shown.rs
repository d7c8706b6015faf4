//! What a tenant is shown: a fleet of its own, and events, waits and plans in which nothing stands of hosts.

use std::borrow::Cow;
use std::sync::Arc;

use super::decide;
use crate::plan::{Item, ObservedNode, Waiting};
use crate::simulate::{Eyes, Forecast};
use crate::vm::Vm;
use crate::wire::VmState;
use crate::{
    Command, Ctx, Event, Fleet, MachineId, NodeId, Observed, Plan, ServiceId, Subject, Timestamp, lease,
    service, vm, wire,
};

/// Stands where the host of a VM would.
const SOMEWHERE: MachineId = MachineId(0);

/// Its VMs and services with their addresses, the packages that it can install, itself; and nothing else. It costs what
/// the tenant has.
pub fn view(fleet: &Fleet, tenant: &str) -> Fleet {
    let mut seen = Fleet { packages: fleet.packages.clone(), ..Fleet::default() };
    if let Some(itself) = fleet.tenants.get(tenant) {
        seen.tenants.insert(tenant.to_owned(), Arc::clone(itself));
    }
    for vm in super::vms(fleet, tenant) {
        for address in fleet.leases.given.of(vm.mac) {
            lease::evolve(&mut seen, &lease::Event::Assigned { mac: vm.mac, address });
        }
        seen.put_vm(somewhere(vm));
    }
    for service in super::services(fleet, tenant) {
        seen.put_service(service::Service::clone(service));
    }
    seen
}

fn somewhere(vm: &Vm) -> Vm {
    Vm { host: SOMEWHERE, key: None, ..vm.clone() }
}

/// Whether the timeline under `subject` is the tenant's. Of what was removed nothing is known any more.
pub fn owns(fleet: &Fleet, tenant: &str, subject: &str) -> bool {
    match subject.parse::<NodeId>() {
        Ok(NodeId::Vm(id)) => fleet.vms.get(&id).is_some_and(|vm| vm.tenant.as_deref() == Some(tenant)),
        Ok(NodeId::Machine(_)) => false,
        Err(_) => subject.parse().is_ok_and(|id: ServiceId| {
            fleet.services.get(&id).is_some_and(|it| it.tenant.as_deref() == Some(tenant))
        }),
    }
}

/// The event without what it says of hosts.
pub fn told(event: &Event) -> Event {
    let Event::Vm(of_vm) = event else { return event.clone() };
    Event::Vm(match of_vm {
        vm::Event::Created { vm, .. } => vm::Event::Created { vm: somewhere(vm), host_name: String::new() },
        vm::Event::Moved { vm, at, .. } => vm::Event::Moved {
            vm: *vm,
            host: SOMEWHERE,
            host_name: String::new(),
            leftovers: Vec::new(),
            at: *at,
        },
        vm::Event::Forgotten { vm, name, .. } => {
            vm::Event::Forgotten { vm: *vm, name: name.clone(), leftovers: Vec::new() }
        }
        vm::Event::Late { vm, at, .. } => {
            vm::Event::Late { vm: *vm, what: "the site is still at it".to_owned(), at: *at }
        }
        vm::Event::Enrolled { .. }
        | vm::Event::Running { .. }
        | vm::Event::Removing { .. }
        | vm::Event::Gone { .. }
        | vm::Event::Kept { .. } => of_vm.clone(),
    })
}

/// Of the plan, what its things wait for.
pub fn plan(view: &Fleet, plan: &Plan) -> Plan {
    let vms = view.vms.keys().map(|id| Subject::Vm(*id));
    let services = view.services.keys().map(|id| Subject::Service(*id));
    let items = vms.chain(services).filter_map(|subject| {
        let waiting: Vec<Waiting> = plan.waiting_of(subject).iter().map(waits).collect();
        (!waiting.is_empty()).then(|| (subject, Arc::new(Item { waiting, ..Item::default() })))
    });
    Plan { subjects: items.collect() }
}

/// What a VM waits for is a word of its host, and what a service does one of its own VM.
fn waits(waiting: &Waiting) -> Waiting {
    match waiting.subject {
        Subject::Service(_) => waiting.clone(),
        Subject::Vm(_) | Subject::Machine(_) => Waiting {
            what: Cow::Borrowed("the site is at work on it"),
            hint: waiting.hint.as_ref().map(|_| Cow::Borrowed("ask the site's people")),
            ..waiting.clone()
        },
    }
}

/// What its own VMs said last, and how its VMs stand, as one host would say it.
pub fn observed(view: &Fleet, fleet: &Fleet, observed: &Observed) -> Observed {
    let mut seen = Observed::new();
    let mut vms = Vec::new();
    let mut at = Timestamp(0);
    for id in view.vms.keys() {
        if let Some(guest) = observed.get(&NodeId::Vm(*id)) {
            seen.insert(NodeId::Vm(*id), Arc::clone(guest));
        }
        let Some(host) = fleet.vms.get(id).and_then(|vm| observed.get(&NodeId::Machine(vm.host))) else {
            continue;
        };
        let Some(vm) = host.said.vms.iter().find(|vm| vm.id == *id) else { continue };
        let state = match &vm.state {
            VmState::Creating { .. } => VmState::Creating { step: "by the site".to_owned() },
            VmState::Failing { .. } => VmState::Failing { reason: "the site tries again".to_owned() },
            VmState::Running | VmState::Stopped | VmState::Gone => vm.state.clone(),
        };
        vms.push(wire::ObservedVm { id: *id, state });
        at = at.max(host.at);
    }
    let said = wire::Observed {
        revision: 0,
        version: String::new(),
        uptime_secs: 0,
        capacity: None,
        vms,
        software: Vec::new(),
        neighbours: Vec::new(),
    };
    seen.insert(NodeId::Machine(SOMEWHERE), Arc::new(ObservedNode { at, said }));
    seen
}

/// As [`crate::simulate`], for somebody of a tenant: with the effects on its own things, and without a word on hosts. The
/// digest is of what is told, too: there are so few hosts that one could be guessed from it.
pub fn simulate(
    fleet: &Fleet,
    observed: &Observed,
    tenant: &str,
    commands: &[Command],
    ctx: Ctx,
) -> Forecast {
    let eyes = Eyes {
        decide: |fleet: &Fleet, command: &Command| decide(fleet, tenant, command, ctx),
        told: |event: Event| told(&event),
        waits: |waiting: Waiting| waits(&waiting),
    };
    eyes.simulate(fleet, observed, commands, ctx)
}
