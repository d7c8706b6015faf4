//! The index of a whole fleet at once: sorted runs instead of a search for each entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::addresses::Addresses;
use super::given::Given;
use super::{Index, Usage, noun};
use crate::{Fleet, MachineId, NodeId};

impl Fleet {
    pub(crate) fn make_index(&mut self) {
        let machines = || self.machines.iter();
        let vms = || self.vms.iter();
        let services = || self.services.iter();
        let switches = || self.switches.iter();
        let racks = self.racks.iter();
        let macs = machines()
            .flat_map(|(id, machine)| machine.macs.iter().map(|mac| (*mac, NodeId::Machine(*id))))
            .chain(vms().map(|(id, vm)| (vm.mac, NodeId::Vm(*id))));
        let keys = machines().filter_map(|(id, machine)| Some((noun::digest(machine.key.as_deref()?), *id)));
        let mut usage = BTreeMap::<MachineId, Usage>::new();
        let mut images = BTreeMap::new();
        for (_, vm) in vms() {
            usage.entry(vm.host).or_default().add(vm.memory_mib, vm.disk_gib);
            let count: &mut (u64, _) =
                images.entry(Arc::as_ptr(&vm.image)).or_insert_with(|| (0, Arc::clone(&vm.image)));
            count.0 += 1;
        }
        self.index = Index {
            by_mac: set_of(macs.collect()),
            machines_by_key: set_of(keys.collect()),
            machines_by_name: set_of(
                machines().map(|(id, machine)| (noun::digest(&machine.name), *id)).collect(),
            ),
            vms_by_name: set_of(vms().map(|(id, vm)| (noun::digest(&vm.name), *id)).collect()),
            vms_by_host: set_of(vms().map(|(id, vm)| (vm.host, *id)).collect()),
            services_by_name: set_of(
                services().map(|(id, service)| (noun::digest(&service.name), *id)).collect(),
            ),
            services_by_vm: set_of(
                services().flat_map(|(id, service)| service.nodes.iter().map(|vm| (*vm, *id))).collect(),
            ),
            vms_by_tenant: set_of(vms().filter_map(|(id, vm)| Some((vm.tenant.clone()?, *id))).collect()),
            services_by_tenant: set_of(
                services().filter_map(|(id, service)| Some((service.tenant.clone()?, *id))).collect(),
            ),
            switches_by_chassis: switches()
                .filter_map(|(name, it)| Some((it.chassis.clone()?, name.clone())))
                .collect(),
            sockets: switches().flat_map(|(_, switch)| noun::Switch::of(switch).nics).collect(),
            racks_by_occupant: racks
                .flat_map(|(name, rack)| noun::occupants(rack).into_iter().map(|what| (what, name.clone())))
                .collect(),
            usage: map_of(usage.into_iter().collect()),
            rooms: OrdMap::new(),
            by_room: OrdSet::new(),
            images: images.into_values().map(|(count, image)| (image, count)).collect(),
            addresses: Addresses::of(self.leases.taken()),
            given: Given::of(self.leases.given.by_address().map(|(address, _)| address)),
        };
        for id in self.hosts.clone().keys() {
            self.rank(*id);
        }
    }
}

pub(crate) fn set_of<T: Ord + Clone>(mut all: Vec<T>) -> OrdSet<T> {
    all.sort_unstable();
    all.dedup();
    woven(all).collect()
}

/// Of keys that ascend.
pub(crate) fn map_of<K: Ord + Clone, V: Clone>(sorted: Vec<(K, V)>) -> OrdMap<K, V> {
    woven(sorted).collect()
}

/// Every other one first, then those in between: a B-tree that is filled in order keeps half of each leaf empty, and
/// these find their place there.
fn woven<T>(sorted: Vec<T>) -> impl Iterator<Item = T> {
    let mut between = Vec::with_capacity(sorted.len() / 2);
    let mut first = Vec::with_capacity(sorted.len().div_ceil(2));
    for (place, item) in sorted.into_iter().enumerate() {
        if place % 2 == 0 { first.push(item) } else { between.push(item) }
    }
    first.into_iter().chain(between)
}
