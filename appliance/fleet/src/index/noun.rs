//! What the index knows of each noun.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdSet;

use super::{Index, Reverse, Room};
use crate::rack::Occupant;
use crate::switch::{Plugged, Socket};
use crate::{Fleet, Mac, MachineId, NodeId, ServiceId, VmId, host, machine, rack, service, switch, vm};

#[derive(PartialEq, Eq)]
pub(super) struct Machine {
    name: u64,
    macs: Vec<Mac>,
    key: Option<u64>,
    appliance: bool,
    fenced: bool,
}

impl Machine {
    pub(super) fn of(machine: &machine::Machine) -> Machine {
        Machine {
            name: digest(&machine.name),
            macs: machine.macs.clone(),
            key: machine.key.as_deref().map(digest),
            appliance: machine.appliance,
            fenced: machine.power.fence.is_some(),
        }
    }
}

#[derive(PartialEq, Eq)]
pub(super) struct Vm {
    name: u64,
    host: MachineId,
    mac: Mac,
    memory_mib: u64,
    disk_gib: u64,
    image: Arc<vm::Image>,
    tenant: Option<Arc<str>>,
}

impl Vm {
    pub(super) fn of(vm: &vm::Vm) -> Vm {
        Vm {
            name: digest(&vm.name),
            host: vm.host,
            mac: vm.mac,
            memory_mib: vm.memory_mib,
            disk_gib: vm.disk_gib,
            image: Arc::clone(&vm.image),
            tenant: vm.tenant.clone(),
        }
    }
}

#[derive(PartialEq, Eq)]
pub(super) struct Service {
    name: u64,
    nodes: Vec<VmId>,
    tenant: Option<Arc<str>>,
}

impl Service {
    pub(super) fn of(service: &service::Service) -> Service {
        Service { name: digest(&service.name), nodes: service.nodes.clone(), tenant: service.tenant.clone() }
    }
}

#[derive(Default, PartialEq, Eq)]
pub(super) struct Switch {
    pub(super) chassis: Option<String>,
    pub(super) nics: BTreeSet<(Mac, Socket)>,
}

impl Switch {
    pub(super) fn of(switch: &switch::Switch) -> Switch {
        let nics = switch.ports.iter().flat_map(|(name, port)| {
            let socket = Socket { switch: switch.name.clone(), port: name.clone() };
            let by_hand = match port.by_hand {
                Some(Plugged::Nic { mac }) => Some(mac),
                Some(Plugged::Port { .. } | Plugged::Note { .. }) | None => None,
            };
            port.heard.iter().copied().chain(by_hand).map(move |mac| (mac, socket.clone()))
        });
        Switch { chassis: switch.chassis.clone(), nics: nics.collect() }
    }
}

pub(super) fn occupants(rack: &rack::Rack) -> BTreeSet<Occupant> {
    rack.holds.values().map(|held| held.what.clone()).collect()
}

impl Index {
    pub(super) fn switch(&mut self, name: &str, before: Option<Switch>, after: Option<Switch>) {
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        let named = |chassis: Option<String>| Some((chassis?, name.to_owned()));
        swap(&mut self.switches_by_chassis, named(before.chassis), named(after.chassis));
        for gone in before.nics.difference(&after.nics) {
            self.sockets.remove(gone);
        }
        for new in after.nics.difference(&before.nics) {
            self.sockets.insert(new.clone());
        }
    }

    pub(super) fn rack(&mut self, name: &str, before: BTreeSet<Occupant>, after: BTreeSet<Occupant>) {
        for gone in before.difference(&after) {
            self.racks_by_occupant.remove(&(gone.clone(), name.to_owned()));
        }
        for new in after.difference(&before) {
            self.racks_by_occupant.insert((new.clone(), name.to_owned()));
        }
    }
}

/// FNV-1a of 64 bits.
pub(super) fn digest(key: &str) -> u64 {
    key.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Fleet {
    pub(super) fn replace_machine(&mut self, id: MachineId, machine: Option<Arc<machine::Machine>>) {
        let after = machine.as_deref().map(Machine::of);
        let before = match machine {
            Some(machine) => self.machines.insert(id, machine),
            None => self.machines.remove(&id),
        };
        self.index_machine(id, before.as_deref().map(Machine::of), after);
    }

    pub(super) fn index_machine(&mut self, id: MachineId, before: Option<Machine>, after: Option<Machine>) {
        if before == after {
            return;
        }
        let node = NodeId::Machine(id);
        let index = &mut self.index;
        if let Some(before) = before {
            index.machines_by_name.remove(&(before.name, id));
            swap(&mut index.machines_by_key, before.key.map(|key| (key, id)), None);
            for mac in before.macs {
                index.by_mac.remove(&(mac, node));
            }
        }
        if let Some(after) = after {
            index.machines_by_name.insert((after.name, id));
            swap(&mut index.machines_by_key, None, after.key.map(|key| (key, id)));
            for mac in after.macs {
                index.by_mac.insert((mac, node));
            }
        }
        self.rank(id);
    }

    pub(super) fn replace_host(&mut self, id: MachineId, host: Option<Arc<host::Host>>) {
        match host {
            Some(host) => self.hosts.insert(id, host),
            None => self.hosts.remove(&id),
        };
        self.rank(id);
    }

    /// Puts a host at its place among the others; to be called when its room may have changed.
    pub(super) fn rank(&mut self, id: MachineId) {
        let machine = self.machines.get(&id);
        let is_open = |host: &&Arc<host::Host>| {
            host.draining_since.is_none()
                && host.suspected_since.is_none()
                && machine.is_none_or(|machine| machine.power.fence.is_none())
        };
        let room = self.hosts.get(&id).filter(is_open).map(|host| Room {
            preferred: machine.is_none_or(|machine| !machine.appliance),
            free_memory_mib: host::free_memory_mib(self, host),
        });
        let index = &mut self.index;
        let before = index.rooms.get(&id).copied();
        if before == room {
            return;
        }
        match room {
            Some(room) => index.rooms.insert(id, room),
            None => index.rooms.remove(&id),
        };
        let place = |room| (room, Reverse(id));
        swap(&mut index.by_room, before.map(place), room.map(place));
    }

    pub(super) fn replace_vm(&mut self, id: VmId, vm: Option<Arc<vm::Vm>>) {
        let after = vm.as_deref().map(Vm::of);
        let before = match vm {
            Some(vm) => self.vms.insert(id, vm),
            None => self.vms.remove(&id),
        };
        self.index_vm(id, before.as_deref().map(Vm::of), after);
    }

    pub(super) fn index_vm(&mut self, id: VmId, before: Option<Vm>, after: Option<Vm>) {
        if before == after {
            return;
        }
        let node = NodeId::Vm(id);
        let index = &mut self.index;
        let (b, a) = (before.as_ref(), after.as_ref());
        swap(&mut index.vms_by_name, b.map(|vm| (vm.name, id)), a.map(|vm| (vm.name, id)));
        swap(&mut index.vms_by_host, b.map(|vm| (vm.host, id)), a.map(|vm| (vm.host, id)));
        swap(&mut index.by_mac, b.map(|vm| (vm.mac, node)), a.map(|vm| (vm.mac, node)));
        let tenant = |vm: Option<&Vm>| Some((vm?.tenant.clone()?, id));
        swap(&mut index.vms_by_tenant, tenant(b), tenant(a));
        if let Some(before) = b {
            self.unload(before);
        }
        if let Some(after) = a {
            self.load(after);
        }
    }

    fn load(&mut self, vm: &Vm) {
        *self.index.images.entry(Arc::clone(&vm.image)).or_default() += 1;
        self.index.usage.entry(vm.host).or_default().add(vm.memory_mib, vm.disk_gib);
        self.rank(vm.host);
    }

    fn unload(&mut self, vm: &Vm) {
        if let Some(count) = self.index.images.get_mut(&vm.image) {
            *count -= 1;
            if *count == 0 {
                self.index.images.remove(&vm.image);
            }
        }
        if let Some(usage) = self.index.usage.get_mut(&vm.host) {
            usage.subtract(vm.memory_mib, vm.disk_gib);
            if usage.vms == 0 {
                self.index.usage.remove(&vm.host);
            }
        }
        self.rank(vm.host);
    }

    pub(super) fn replace_service(&mut self, id: ServiceId, service: Option<Arc<service::Service>>) {
        let after = service.as_deref().map(Service::of);
        let before = match service {
            Some(service) => self.services.insert(id, service),
            None => self.services.remove(&id),
        };
        self.index_service(id, before.as_deref().map(Service::of), after);
    }

    pub(super) fn index_service(&mut self, id: ServiceId, before: Option<Service>, after: Option<Service>) {
        if before == after {
            return;
        }
        let index = &mut self.index;
        let tenant = |service: &Option<Service>| Some((service.as_ref()?.tenant.clone()?, id));
        swap(&mut index.services_by_tenant, tenant(&before), tenant(&after));
        if let Some(before) = before {
            index.services_by_name.remove(&(before.name, id));
            for vm in before.nodes {
                index.services_by_vm.remove(&(vm, id));
            }
        }
        if let Some(after) = after {
            for vm in after.nodes {
                index.services_by_vm.insert((vm, id));
            }
            index.services_by_name.insert((after.name, id));
        }
    }
}

/// Takes `before` out of the set and puts `after` in; does nothing where they are the same.
fn swap<T: Ord + Clone>(set: &mut OrdSet<T>, before: Option<T>, after: Option<T>) {
    if before == after {
        return;
    }
    if let Some(before) = before {
        set.remove(&before);
    }
    if let Some(after) = after {
        set.insert(after);
    }
}
