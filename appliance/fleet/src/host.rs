//! Hosts: machines that run a hypervisor and have said what they have room for.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::machine::Phase;
use crate::wire::Capacity;
use crate::{Ctx, Fleet, MachineId, Refusal, Timestamp, machine};

/// How long draining may last until the log says that it is late.
pub const DRAIN_LIMIT_SECS: u64 = 3600;

/// Memory kept for the host itself, and on the appliance's machine for the appliance too.
const RESERVED_MIB: u64 = 768;
const RESERVED_APPLIANCE_MIB: u64 = 1536;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub machine: MachineId,
    pub hypervisor: String,
    pub threads: u32,
    pub memory_mib: u64,
    pub volume_bytes: u64,
    pub ready_since: Timestamp,
    /// No new VM is placed here since then.
    #[serde(default)]
    pub draining_since: Option<Timestamp>,
    /// Its agent was last heard of then, and has been silent for too long since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspected_since: Option<Timestamp>,
    /// It may be silent until then: it was switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_until: Option<Timestamp>,
}

/// A server takes minutes through its firmware.
const PATIENCE_MS: u64 = 15 * 60 * 1000;

/// Silence that begins within so long is of one cause.
const TOGETHER_MS: u64 = 60 * 1000;

/// An agent waits longer and longer between two attempts to reach the appliance.
const COMING_BACK_MS: u64 = 5 * 60 * 1000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Ready(Host),
    CapacityChanged(Host),
    Draining {
        machine: MachineId,
        at: Timestamp,
    },
    Undrained {
        machine: MachineId,
        at: Timestamp,
    },
    /// Its agent is silent: it may hang, be off, or be cut off.
    Suspected {
        machine: MachineId,
        since: Timestamp,
        at: Timestamp,
    },
    /// Its agent has spoken again.
    Heard {
        machine: MachineId,
        at: Timestamp,
    },
}

impl Event {
    pub(crate) fn machine(&self) -> MachineId {
        match self {
            Event::Ready(host) | Event::CapacityChanged(host) => host.machine,
            Event::Draining { machine, .. }
            | Event::Undrained { machine, .. }
            | Event::Suspected { machine, .. }
            | Event::Heard { machine, .. } => *machine,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Ready(host) => write!(f, "Ready as a host: {}", host.hypervisor),
            Event::CapacityChanged(host) => {
                write!(f, "Has {} MiB memory and {} threads now", host.memory_mib, host.threads)
            }
            Event::Draining { .. } => f.write_str("Being drained: no new VM is placed on it"),
            Event::Undrained { .. } => f.write_str("Not drained any more: VMs are placed on it again"),
            Event::Suspected { since, at, .. } => {
                write!(f, "Suspected: its host agent has been silent for {} s", at.secs_since(*since))
            }
            Event::Heard { .. } => f.write_str("Its host agent has spoken again"),
        }
    }
}

/// Memory that VMs on this host may still take.
pub fn free_memory_mib(fleet: &Fleet, host: &Host) -> u64 {
    let appliance = fleet.machines.get(&host.machine).is_some_and(|machine| machine.appliance);
    let reserved = if appliance { RESERVED_APPLIANCE_MIB } else { RESERVED_MIB };
    let taken = fleet.index.usage(host.machine).memory_mib;
    host.memory_mib.saturating_sub(reserved).saturating_sub(taken)
}

/// Room that is left for volumes once those of all its VMs are full.
pub fn free_volume_bytes(fleet: &Fleet, host: &Host) -> u64 {
    host.volume_bytes.saturating_sub(fleet.index.usage(host.machine).disk_bytes)
}

/// Hosts with at least this much free memory, the most first; the appliance's own machine after all others.
pub(crate) fn roomy(fleet: &Fleet, memory_mib: u64) -> impl Iterator<Item = &Host> {
    fleet.index.roomy(memory_mib).filter_map(|host| fleet.hosts.get(&host)).map(Arc::as_ref)
}

/// The host with the most free memory of all.
pub(crate) fn roomiest(fleet: &Fleet) -> Option<&Host> {
    let hosts = fleet.index.roomiest().filter_map(|host| fleet.hosts.get(&host)).map(Arc::as_ref);
    hosts.max_by_key(|host| free_memory_mib(fleet, host))
}

pub(crate) fn observe(
    fleet: &Fleet,
    id: MachineId,
    capacity: &Capacity,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let Some(machine) = fleet.machines.get(&id) else {
        return Err(Refusal::Missing { what: "machine", name: id.to_string() });
    };
    if !matches!(machine.phase, Phase::Installed | Phase::Ready) {
        return Err(Refusal::Conflict(format!(
            "{} is {}; it cannot be a host",
            machine.name,
            machine.phase.word()
        )));
    }
    if capacity.domain_type != "kvm" {
        return Err(Refusal::Conflict(format!(
            "{} offers {} and not kvm; is virtualization switched off in its firmware?",
            machine.name, capacity.domain_type
        )));
    }
    let known = fleet.hosts.get(&id);
    let host = Host {
        machine: id,
        hypervisor: capacity.hypervisor.clone(),
        threads: capacity.threads,
        memory_mib: capacity.memory_mib,
        volume_bytes: capacity.volume_bytes,
        ready_since: known.map_or(ctx.now, |host| host.ready_since),
        draining_since: known.and_then(|host| host.draining_since),
        suspected_since: known.and_then(|host| host.suspected_since),
        patience_until: known.and_then(|host| host.patience_until),
    };
    let event = match known {
        Some(known) if **known == host => return Ok(Vec::new()),
        Some(_) => Event::CapacityChanged(host),
        None => Event::Ready(host),
    };
    Ok(vec![crate::Event::Host(event)])
}

fn find(fleet: &Fleet, id: MachineId) -> Result<&Host, Refusal> {
    let Some(machine) = fleet.machines.get(&id) else {
        return Err(Refusal::Missing { what: "machine", name: id.to_string() });
    };
    fleet.hosts.get(&id).map(Arc::as_ref).ok_or_else(|| {
        Refusal::Conflict(format!("{} is {}; it is no host", machine.name, machine.phase.word()))
    })
}

pub(crate) fn drain(fleet: &Fleet, id: MachineId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let event = crate::Event::Host(Event::Draining { machine: id, at: ctx.now });
    Ok(find(fleet, id)?.draining_since.is_none().then_some(event).into_iter().collect())
}

pub(crate) fn undrain(fleet: &Fleet, id: MachineId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let event = crate::Event::Host(Event::Undrained { machine: id, at: ctx.now });
    Ok(find(fleet, id)?.draining_since.is_some().then_some(event).into_iter().collect())
}

/// Its agent was last heard of at `since`.
pub(crate) fn suspect(
    fleet: &Fleet,
    id: MachineId,
    since: Timestamp,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let event = crate::Event::Host(Event::Suspected { machine: id, since, at: ctx.now });
    Ok(find(fleet, id)?.suspected_since.is_none().then_some(event).into_iter().collect())
}

pub(crate) fn heard(fleet: &Fleet, id: MachineId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let event = crate::Event::Host(Event::Heard { machine: id, at: ctx.now });
    Ok(find(fleet, id)?.suspected_since.is_some().then_some(event).into_iter().collect())
}

/// It was switched on at this time, and is silent until it has started.
pub(crate) fn give_time(fleet: &mut Fleet, id: MachineId, at: Timestamp) {
    change(fleet, id, |host| {
        host.patience_until = Some(Timestamp(at.0.saturating_add(PATIENCE_MS)));
        host.suspected_since = None;
    });
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Ready(host) => {
            machine::enter(fleet, host.machine, host.ready_since, |machine| machine.phase = Phase::Ready);
            fleet.put_host(host.clone());
        }
        Event::CapacityChanged(host) => {
            fleet.put_host(host.clone());
        }
        Event::Draining { machine, at } => set_draining(fleet, *machine, Some(*at)),
        Event::Undrained { machine, .. } => set_draining(fleet, *machine, None),
        Event::Suspected { machine, since, .. } => {
            change(fleet, *machine, |host| host.suspected_since = Some(*since));
        }
        Event::Heard { machine, at } => {
            let silent_since = fleet.hosts.get(machine).and_then(|host| host.suspected_since);
            change(fleet, *machine, |host| host.suspected_since = None);
            if let Some(since) = silent_since {
                give_others_time(fleet, since, *at);
            }
        }
    }
}

/// Hosts that became silent together were cut off together, and come back one after the other.
fn give_others_time(fleet: &mut Fleet, silent_since: Timestamp, at: Timestamp) {
    let together = |host: &&Arc<Host>| {
        host.suspected_since.is_some_and(|since| since.0.abs_diff(silent_since.0) <= TOGETHER_MS)
    };
    let others: Vec<MachineId> = fleet.hosts.values().filter(together).map(|host| host.machine).collect();
    for other in others {
        change(fleet, other, |host| {
            host.patience_until = Some(Timestamp(at.0.saturating_add(COMING_BACK_MS)))
        });
    }
}

fn set_draining(fleet: &mut Fleet, id: MachineId, since: Option<Timestamp>) {
    change(fleet, id, |host| host.draining_since = since);
    fleet.change_machine(id, |machine| machine.late = None);
}

fn change(fleet: &mut Fleet, id: MachineId, change: impl FnOnce(&mut Host)) {
    let Some(host) = fleet.hosts.get(&id) else { return };
    let mut host = Host::clone(host);
    change(&mut host);
    fleet.put_host(host);
}
