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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Ready(Host),
    CapacityChanged(Host),
    Draining { machine: MachineId, at: Timestamp },
    Undrained { machine: MachineId, at: Timestamp },
}

impl Event {
    pub(crate) fn machine(&self) -> MachineId {
        match self {
            Event::Ready(host) | Event::CapacityChanged(host) => host.machine,
            Event::Draining { machine, .. } | Event::Undrained { machine, .. } => *machine,
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
        Refusal::Conflict(format!("{} is {}; only a host can be drained", machine.name, machine.phase.word()))
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
    }
}

fn set_draining(fleet: &mut Fleet, id: MachineId, since: Option<Timestamp>) {
    if let Some(host) = fleet.hosts.get(&id) {
        let host = Host { draining_since: since, ..Host::clone(host) };
        fleet.put_host(host);
    }
    fleet.change_machine(id, |machine| machine.late = None);
}
