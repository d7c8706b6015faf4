//! Ways to the nouns other than by id: by MAC address, key, name, host; and what hosts have room for.
//!
//! All of it follows from the rest of the fleet and is rebuilt from it ([`Fleet::make_index`]); it is neither
//! stored nor compared. `evolve` changes machines, hosts, VMs and services only by the functions at the end of
//! this file, which take what they change out of the index before and put it back afterwards.

mod addresses;
mod bulk;
mod given;
mod noun;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::host::Host;
use crate::machine::Machine;
use crate::rack::{Occupant, Rack};
use crate::service::Service;
use crate::switch::{Socket, Switch};
use crate::vm::{Image, Vm};
use crate::{Fleet, Mac, MachineId, NodeId, ServiceId, VmId};

use addresses::Addresses;
pub(crate) use bulk::{map_of, set_of};
use given::Given;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// A MAC address is one machine's or one VM's, but what machines say of theirs is not checked.
    by_mac: OrdSet<(Mac, NodeId)>,
    /// Keys and names by their digest; the text itself stands in its noun.
    machines_by_key: OrdSet<(u64, MachineId)>,
    machines_by_name: OrdSet<(u64, MachineId)>,
    vms_by_name: OrdSet<(u64, VmId)>,
    vms_by_host: OrdSet<(MachineId, VmId)>,
    services_by_name: OrdSet<(u64, ServiceId)>,
    services_by_vm: OrdSet<(VmId, ServiceId)>,
    vms_by_tenant: OrdSet<(Arc<str>, VmId)>,
    services_by_tenant: OrdSet<(Arc<str>, ServiceId)>,
    switches_by_chassis: OrdSet<(String, String)>,
    sockets: OrdSet<(Mac, Socket)>,
    racks_by_occupant: OrdSet<(Occupant, String)>,
    usage: OrdMap<MachineId, Usage>,
    rooms: OrdMap<MachineId, Room>,
    by_room: OrdSet<(Room, Reverse<MachineId>)>,
    /// Every image that a VM is made from, and by how many.
    images: OrdMap<Arc<Image>, u64>,
    pub(crate) addresses: Addresses,
    pub(crate) given: Given,
}

/// What the VMs on one machine take of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub vms: u64,
    pub memory_mib: u64,
    pub disk_bytes: u64,
}

impl Usage {
    fn add(&mut self, memory_mib: u64, disk_gib: u64) {
        self.vms += 1;
        self.memory_mib = self.memory_mib.wrapping_add(memory_mib);
        self.disk_bytes = self.disk_bytes.wrapping_add(disk_gib << 30);
    }

    fn subtract(&mut self, memory_mib: u64, disk_gib: u64) {
        self.vms -= 1;
        self.memory_mib = self.memory_mib.wrapping_sub(memory_mib);
        self.disk_bytes = self.disk_bytes.wrapping_sub(disk_gib << 30);
    }
}

/// How gladly a host takes another VM: the greater, the rather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Room {
    /// The appliance's own machine comes last.
    preferred: bool,
    free_memory_mib: u64,
}

impl Index {
    pub(crate) fn machine_by_mac(&self, mac: Mac) -> Option<MachineId> {
        self.nodes_by_mac(mac).find_map(machine)
    }

    pub(crate) fn vm_by_mac(&self, mac: Mac) -> Option<VmId> {
        self.nodes_by_mac(mac).find_map(vm)
    }

    pub(crate) fn nodes_by_mac(&self, mac: Mac) -> impl Iterator<Item = NodeId> {
        self.by_mac.range((mac, FIRST_NODE)..=(mac, LAST_NODE)).map(|(_, node)| *node)
    }

    pub(crate) fn machines_by_key(&self, key: &str) -> impl Iterator<Item = MachineId> {
        of_digest(&self.machines_by_key, key, MachineId(0))
    }

    pub(crate) fn machines_by_name(&self, name: &str) -> impl Iterator<Item = MachineId> {
        of_digest(&self.machines_by_name, name, MachineId(0))
    }

    pub(crate) fn vms_by_name(&self, name: &str) -> impl Iterator<Item = VmId> {
        of_digest(&self.vms_by_name, name, VmId(0))
    }

    pub(crate) fn services_by_name(&self, name: &str) -> impl Iterator<Item = ServiceId> {
        of_digest(&self.services_by_name, name, ServiceId(0))
    }

    pub(crate) fn switch_by_chassis(&self, chassis: &str) -> Option<&str> {
        let (found, name) = self.switches_by_chassis.range((chassis.to_owned(), String::new())..).next()?;
        (found == chassis).then_some(name)
    }

    /// Of the ports that a NIC is in, by LLDP or by hand.
    pub(crate) fn socket_of(&self, mac: Mac) -> Option<&Socket> {
        let first = Socket { switch: String::new(), port: String::new() };
        let (found, socket) = self.sockets.range((mac, first)..).next()?;
        (*found == mac).then_some(socket)
    }

    pub(crate) fn rack_of(&self, what: &Occupant) -> Option<&str> {
        let (found, rack) = self.racks_by_occupant.range((what.clone(), String::new())..).next()?;
        (found == what).then_some(rack)
    }

    pub(crate) fn vms_on(&self, host: MachineId) -> impl Iterator<Item = VmId> {
        self.vms_by_host.range((host, VmId(0))..=(host, VmId(u64::MAX))).map(|(_, vm)| *vm)
    }

    pub(crate) fn services_of(&self, vm: VmId) -> impl Iterator<Item = ServiceId> {
        let all = (vm, ServiceId(0))..=(vm, ServiceId(u64::MAX));
        self.services_by_vm.range(all).map(|(_, service)| *service)
    }

    pub(crate) fn vms_of_tenant(&self, tenant: &str) -> impl Iterator<Item = VmId> {
        let tenant = Arc::<str>::from(tenant);
        let all = (Arc::clone(&tenant), VmId(0))..=(tenant, VmId(u64::MAX));
        self.vms_by_tenant.range(all).map(|(_, vm)| *vm)
    }

    pub(crate) fn services_of_tenant(&self, tenant: &str) -> impl Iterator<Item = ServiceId> {
        let tenant = Arc::<str>::from(tenant);
        let all = (Arc::clone(&tenant), ServiceId(0))..=(tenant, ServiceId(u64::MAX));
        self.services_by_tenant.range(all).map(|(_, service)| *service)
    }

    pub fn usage(&self, host: MachineId) -> Usage {
        self.usage.get(&host).copied().unwrap_or_default()
    }

    /// Hosts with at least this much free memory, those that are to be taken first coming first.
    pub(crate) fn roomy(&self, free_memory_mib: u64) -> impl Iterator<Item = MachineId> {
        [true, false].into_iter().flat_map(move |preferred| {
            let least = (Room { preferred, free_memory_mib }, Reverse(MachineId(u64::MAX)));
            let most = (Room { preferred, free_memory_mib: u64::MAX }, Reverse(MachineId(0)));
            self.by_room.range(least..=most).rev().map(|(_, machine)| machine.0)
        })
    }

    /// The first of those that are preferred and of those that are not.
    pub(crate) fn roomiest(&self) -> impl Iterator<Item = MachineId> {
        [true, false].into_iter().filter_map(|preferred| {
            let least = (Room { preferred, free_memory_mib: 0 }, Reverse(MachineId(u64::MAX)));
            let most = (Room { preferred, free_memory_mib: u64::MAX }, Reverse(MachineId(0)));
            self.by_room.range(least..=most).next_back().map(|(_, machine)| machine.0)
        })
    }

    pub(crate) fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.images.keys()
    }

    /// Every image that a VM is made from, and by how many.
    pub fn image_uses(&self) -> impl Iterator<Item = (&Image, u64)> {
        self.images.iter().map(|(image, vms)| (image.as_ref(), *vms))
    }

    /// The image as it is shared by all VMs made from it.
    pub(crate) fn image(&self, image: &Arc<Image>) -> Arc<Image> {
        self.images.get_key_value(image).map_or_else(|| Arc::clone(image), |(known, _)| Arc::clone(known))
    }
}

const FIRST_NODE: NodeId = NodeId::Machine(MachineId(0));
const LAST_NODE: NodeId = NodeId::Vm(VmId(u64::MAX));

fn machine(node: NodeId) -> Option<MachineId> {
    match node {
        NodeId::Machine(machine) => Some(machine),
        NodeId::Vm(_) => None,
    }
}

fn vm(node: NodeId) -> Option<VmId> {
    match node {
        NodeId::Vm(vm) => Some(vm),
        NodeId::Machine(_) => None,
    }
}

/// Those whose key or name has the digest of `text`; whether it is that text stands in their nouns.
fn of_digest<Id: Ord + Copy>(set: &OrdSet<(u64, Id)>, text: &str, first: Id) -> impl Iterator<Item = Id> {
    let digest = noun::digest(text);
    set.range((digest, first)..).take_while(move |(found, _)| *found == digest).map(|(_, id)| *id)
}

/// The only ways in which `evolve` changes nouns that the index knows.
impl Fleet {
    pub(crate) fn put_machine(&mut self, machine: Machine) {
        let id = machine.id;
        self.replace_machine(id, Some(Arc::new(machine)));
    }

    pub(crate) fn change_machine(&mut self, id: MachineId, change: impl FnOnce(&mut Machine)) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let before = noun::Machine::of(machine);
        change(Arc::make_mut(machine));
        let after = noun::Machine::of(machine);
        self.index_machine(id, Some(before), Some(after));
    }

    pub(crate) fn remove_machine(&mut self, id: MachineId) {
        self.replace_machine(id, None);
        self.replace_host(id, None);
    }

    pub(crate) fn put_host(&mut self, host: Host) {
        self.replace_host(host.machine, Some(Arc::new(host)));
    }

    pub(crate) fn remove_host(&mut self, id: MachineId) {
        self.replace_host(id, None);
    }

    pub(crate) fn put_vm(&mut self, vm: Vm) {
        let id = vm.id;
        let image = self.index.image(&vm.image);
        self.replace_vm(id, Some(Arc::new(Vm { image, ..vm })));
    }

    pub(crate) fn change_vm(&mut self, id: VmId, change: impl FnOnce(&mut Vm)) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let before = noun::Vm::of(vm);
        change(Arc::make_mut(vm));
        let after = noun::Vm::of(vm);
        self.index_vm(id, Some(before), Some(after));
    }

    pub(crate) fn remove_vm(&mut self, id: VmId) {
        self.replace_vm(id, None);
    }

    pub(crate) fn put_service(&mut self, service: Service) {
        let id = service.id;
        self.replace_service(id, Some(Arc::new(service)));
    }

    pub(crate) fn change_service(&mut self, id: ServiceId, change: impl FnOnce(&mut Service)) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let before = noun::Service::of(service);
        change(Arc::make_mut(service));
        let after = noun::Service::of(service);
        self.index_service(id, Some(before), Some(after));
    }

    pub(crate) fn remove_service(&mut self, id: ServiceId) {
        self.replace_service(id, None);
    }

    pub(crate) fn put_switch(&mut self, switch: Switch) {
        let after = noun::Switch::of(&switch);
        let name = switch.name.clone();
        let before = self.switches.insert(name.clone(), Arc::new(switch));
        self.index.switch(&name, before.as_deref().map(noun::Switch::of), Some(after));
    }

    pub(crate) fn change_switch(&mut self, name: &str, change: impl FnOnce(&mut Switch)) {
        let Some(switch) = self.switches.get_mut(name) else { return };
        let before = noun::Switch::of(switch);
        change(Arc::make_mut(switch));
        let after = noun::Switch::of(switch);
        self.index.switch(name, Some(before), Some(after));
    }

    pub(crate) fn remove_switch(&mut self, name: &str) {
        let before = self.switches.remove(name);
        self.index.switch(name, before.as_deref().map(noun::Switch::of), None);
    }

    pub(crate) fn put_rack(&mut self, rack: Rack) {
        let after = noun::occupants(&rack);
        let name = rack.name.clone();
        let before = self.racks.insert(name.clone(), Arc::new(rack));
        self.index.rack(&name, before.as_deref().map(noun::occupants).unwrap_or_default(), after);
    }

    pub(crate) fn change_rack(&mut self, name: &str, change: impl FnOnce(&mut Rack)) {
        let Some(rack) = self.racks.get_mut(name) else { return };
        let before = noun::occupants(rack);
        change(Arc::make_mut(rack));
        let after = noun::occupants(rack);
        self.index.rack(name, before, after);
    }

    pub(crate) fn remove_rack(&mut self, name: &str) {
        let before = self.racks.remove(name);
        self.index.rack(name, before.as_deref().map(noun::occupants).unwrap_or_default(), BTreeSet::new());
    }

    /// The same fleet with its index made anew, and with its images shared.
    pub(crate) fn indexed(mut self) -> Fleet {
        for (id, vm) in &self.vms.clone() {
            self.vms.remove(id);
            self.put_vm(Vm::clone(vm));
        }
        self.make_index();
        self
    }
}
