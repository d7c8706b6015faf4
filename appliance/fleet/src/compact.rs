//! A shorter log with the same result: one command for each thing that is still there.

use crate::host::Host;
use crate::machine::Machine;
use crate::medium::Medium;
use crate::package::Package;
use crate::profile::Profile;
use crate::rack::Rack;
use crate::restore::{Counters, Object};
use crate::service::Service;
use crate::subnet::Subnet;
use crate::switch::Switch;
use crate::tenant::Tenant;
use crate::user::User;
use crate::vm::Vm;
use crate::{Command, Fleet, site};

/// Commands that make an empty fleet equal to this one, ids, times and counters included.
///
/// In the order in which each finds what it refers to. Never more than the events that `fleet` was folded from:
/// every object came to be by an event of its own, and the counters stand alone only if something is gone.
pub fn compact(fleet: &Fleet) -> Vec<Command> {
    let mut objects: Vec<Object> =
        fleet.site.iter().map(|site| Object::Site { site: site.clone() }).collect();
    if fleet.policy != site::Policy::default() {
        objects.push(Object::Policy { policy: fleet.policy.clone() });
    }
    let tenants = fleet.tenants.values();
    objects.extend(tenants.map(|tenant| Object::Tenant { tenant: Tenant::clone(tenant) }));
    objects.extend(fleet.users.values().map(|user| Object::User { user: User::clone(user) }));
    let subnets = fleet.subnets.values();
    objects.extend(subnets.map(|subnet| Object::Subnet { subnet: Subnet::clone(subnet) }));
    let reserved = fleet.leases.reserved.iter();
    objects.extend(reserved.map(|(mac, address)| Object::Reservation { mac: *mac, address: *address }));
    let quarantined = fleet.leases.quarantined.values();
    objects.extend(quarantined.map(|quarantine| Object::Quarantine { quarantine: *quarantine }));
    let leases = fleet.leases.given.iter();
    objects.extend(leases.map(|(mac, address)| Object::Lease { mac: *mac, address: *address }));
    objects.extend(fleet.media.values().map(|medium| Object::Medium { medium: Medium::clone(medium) }));
    let profiles = fleet.profiles.values();
    objects.extend(profiles.map(|profile| Object::Profile { profile: Profile::clone(profile) }));
    let machines = fleet.machines.values();
    objects.extend(machines.map(|machine| Object::Machine { machine: Machine::clone(machine) }));
    let switches = fleet.switches.values();
    objects.extend(switches.map(|switch| Object::Switch { switch: Switch::clone(switch) }));
    objects.extend(fleet.racks.values().map(|rack| Object::Rack { rack: Rack::clone(rack) }));
    objects.extend(fleet.hosts.values().map(|host| Object::Host { host: Host::clone(host) }));
    objects
        .extend(fleet.packages.values().map(|package| Object::Package { package: Package::clone(package) }));
    objects.extend(fleet.vms.values().map(|vm| Object::Vm { vm: Vm::clone(vm) }));
    let services = fleet.services.values();
    objects.extend(services.map(|service| Object::Service { service: Service::clone(service) }));

    let counters = Counters::of(fleet);
    let seen = Counters {
        last_machine: fleet.machines.keys().next_back().map_or(0, |id| id.0),
        last_vm: fleet.vms.keys().next_back().map_or(0, |id| id.0),
        last_service: fleet.services.keys().next_back().map_or(0, |id| id.0),
    };
    if counters != seen {
        objects.push(Object::Counters(counters));
    }
    objects.into_iter().map(|object| Command::Restore { restore: object }).collect()
}
