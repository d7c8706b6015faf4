//! A host that is cut off stops by itself: what runs on it may be started elsewhere by then, and nobody can reach it to
//! tell it so.

use std::net::Ipv4Addr;

use crate::wire::Alone;
use crate::{Fleet, MachineId, vm};

/// So many neighbours are asked before a host believes that it is cut off.
const NEIGHBOURS: usize = 5;

/// A switch that starts anew takes minutes, and what a short break of the network stops was stopped for nothing.
const AT_LEAST_SECS: u64 = 300;

/// Whether a host that is cut off is to stop by itself, and how it knows. Where nothing would be started elsewhere, what
/// runs on it is better off running.
pub fn alone(fleet: &Fleet, id: MachineId) -> Option<Alone> {
    let policy = &fleet.policy.fencing;
    let machine = fleet.machines.get(&id)?;
    if !policy.automatic || machine.appliance || !vm::on_host(fleet, id).any(vm::may_move) {
        return None;
    }
    // Those after it, around: so not all ask the same ones.
    let others = fleet.hosts.range(id..).skip(1).chain(fleet.hosts.range(..id));
    let addresses = others.filter_map(|(other, _)| address(fleet, *other));
    let neighbours: Vec<Ipv4Addr> = addresses.take(NEIGHBOURS).collect();
    let after_secs = (3 * policy.silent_secs).max(AT_LEAST_SECS);
    (!neighbours.is_empty()).then_some(Alone { neighbours, after_secs })
}

fn address(fleet: &Fleet, id: MachineId) -> Option<Ipv4Addr> {
    let machine = fleet.machines.get(&id)?;
    if machine.appliance {
        return None;
    }
    machine.macs.iter().find_map(|mac| fleet.leases.address(*mac))
}
