//! Objects put back whole: what a compacted log consists of.
//!
//! Nobody decides here what becomes of an object: it comes with its id, its phase and its times as it was.
//! So only a replay may give these commands, and what does not fit the site as it is is refused.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::machine::{self, Machine};
use crate::medium::{self, Medium};
use crate::package::Package;
use crate::profile::{self, Profile};
use crate::rack::{self, Rack};
use crate::service::{self, Service};
use crate::site::{Policy, Site};
use crate::subnet::{self, Subnet};
use crate::switch::{self, Switch};
use crate::tenant::{self, Tenant};
use crate::user::{self, User};
use crate::vm::{self, Vm};
use crate::{Fleet, Mac, Refusal, Subject, lease};

/// One thing of a fleet, with all that is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "object", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a line of a log at a time")]
pub enum Object {
    Site { site: Site },
    Policy { policy: Policy },
    Lease { mac: Mac, address: Ipv4Addr },
    Subnet { subnet: Subnet },
    Reservation { mac: Mac, address: Ipv4Addr },
    Quarantine { quarantine: lease::Quarantine },
    Machine { machine: Machine },
    Host { host: Host },
    Switch { switch: Switch },
    Rack { rack: Rack },
    Package { package: Package },
    Vm { vm: Vm },
    Service { service: Service },
    Medium { medium: Medium },
    Profile { profile: Profile },
    User { user: User },
    Tenant { tenant: Tenant },
    Counters(Counters),
}

/// The last number handed out for each noun, where what had it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub last_machine: u64,
    pub last_vm: u64,
    pub last_service: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Restored { restored: Object },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        let Event::Restored { restored } = self;
        match restored {
            Object::Site { .. } | Object::Policy { .. } | Object::Counters(_) => "site".to_owned(),
            Object::Lease { mac, .. } | Object::Reservation { mac, .. } => mac.to_string(),
            Object::Subnet { subnet } => subnet::subject(&subnet.name),
            Object::Quarantine { quarantine } => quarantine.mac.to_string(),
            Object::Machine { machine } => machine.id.to_string(),
            Object::Host { host } => host.machine.to_string(),
            Object::Switch { switch } => switch::subject(&switch.name),
            Object::Rack { rack } => rack::subject(&rack.name),
            Object::Package { package } => package.bundle.manifest.name.clone(),
            Object::Vm { vm } => vm.id.to_string(),
            Object::Service { service } => service.id.to_string(),
            Object::Medium { medium } => medium::subject(&medium.name),
            Object::Profile { profile } => profile::subject(&profile.name),
            Object::User { user } => user::subject(&user.name),
            Object::Tenant { tenant } => tenant::subject(&tenant.name),
        }
    }

    pub(crate) fn planned(&self) -> Option<Subject> {
        let Event::Restored { restored } = self;
        match restored {
            Object::Machine { machine } => Some(Subject::Machine(machine.id)),
            Object::Host { host } => Some(Subject::Machine(host.machine)),
            Object::Vm { vm } => Some(Subject::Vm(vm.id)),
            Object::Service { service } => Some(Subject::Service(service.id)),
            Object::Site { .. }
            | Object::Policy { .. }
            | Object::Lease { .. }
            | Object::Subnet { .. }
            | Object::Reservation { .. }
            | Object::Quarantine { .. }
            | Object::Switch { .. }
            | Object::Rack { .. }
            | Object::Package { .. }
            | Object::Medium { .. }
            | Object::Profile { .. }
            | Object::User { .. }
            | Object::Tenant { .. }
            | Object::Counters(_) => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event::Restored { restored } = self;
        match restored {
            Object::Site { site } => write!(f, "The site that serves {} was put back", site.network),
            Object::Policy { .. } => f.write_str("The policy was put back"),
            Object::Lease { mac, address } => write!(f, "{mac} has {address} again"),
            Object::Subnet { subnet } => write!(f, "Subnet {} was put back", subnet.name),
            Object::Reservation { mac, address } => write!(f, "{address} is reserved for {mac} again"),
            Object::Quarantine { quarantine } => write!(f, "{} is in quarantine again", quarantine.address),
            Object::Machine { machine } => {
                write!(f, "{} was put back as it was: {}", machine.name, machine.phase.word())
            }
            Object::Host { host } => write!(f, "Put back as a host: {}", host.hypervisor),
            Object::Switch { switch } => write!(f, "Switch {} was put back", switch.name),
            Object::Rack { rack } => write!(f, "Rack {} was put back", rack.name),
            Object::Package { package } => {
                let manifest = &package.bundle.manifest;
                write!(f, "Package {} {} was put back", manifest.name, manifest.version)
            }
            Object::Vm { vm } => write!(f, "{} was put back as it was: {}", vm.name, vm.phase.word()),
            Object::Service { service } => {
                write!(f, "{} {} was put back, at {}", service.name, service.version, service.url())
            }
            Object::Medium { medium } => write!(f, "Medium {} was put back", medium.name),
            Object::Profile { profile } => write!(f, "Profile {} was put back", profile.name),
            Object::User { user } => write!(f, "User {} was put back", user.name),
            Object::Tenant { tenant } => write!(f, "Tenant {} was put back", tenant.name),
            Object::Counters(_) => f.write_str("The numbers that were handed out are known again"),
        }
    }
}

pub(crate) fn restore(fleet: &Fleet, object: &Object) -> Result<Vec<crate::Event>, Refusal> {
    if stands(fleet, object) {
        return Ok(Vec::new());
    }
    fits(fleet, object)?;
    Ok(vec![crate::Event::Restore(Event::Restored { restored: object.clone() })])
}

fn stands(fleet: &Fleet, object: &Object) -> bool {
    match object {
        Object::Site { site } => fleet.site.as_ref() == Some(site),
        Object::Policy { policy } => fleet.policy == *policy,
        Object::Lease { mac, address } => fleet.leases.given.holder(*address) == Some(*mac),
        Object::Subnet { subnet } => fleet.subnets.get(&subnet.name).is_some_and(|known| **known == *subnet),
        Object::Reservation { mac, address } => fleet.leases.reserved.holder(*address) == Some(*mac),
        Object::Quarantine { quarantine } => {
            fleet.leases.quarantined.get(&quarantine.address) == Some(quarantine)
        }
        Object::Machine { machine } => {
            fleet.machines.get(&machine.id).is_some_and(|known| **known == *machine)
        }
        Object::Host { host } => fleet.hosts.get(&host.machine).is_some_and(|known| **known == *host),
        Object::Switch { switch } => fleet.switches.get(&switch.name).is_some_and(|known| **known == *switch),
        Object::Rack { rack } => fleet.racks.get(&rack.name).is_some_and(|known| **known == *rack),
        Object::Package { package } => {
            fleet.packages.get(&package.bundle.manifest.name).is_some_and(|known| **known == *package)
        }
        Object::Vm { vm } => fleet.vms.get(&vm.id).is_some_and(|known| **known == *vm),
        Object::Service { service } => {
            fleet.services.get(&service.id).is_some_and(|known| **known == *service)
        }
        Object::Medium { medium } => fleet.media.get(&medium.name).is_some_and(|known| **known == *medium),
        Object::Profile { profile } => {
            fleet.profiles.get(&profile.name).is_some_and(|known| **known == *profile)
        }
        Object::User { user } => user::find(fleet, &user.name).as_ref() == Some(user),
        Object::Tenant { tenant } => fleet.tenants.get(&tenant.name).is_some_and(|known| **known == *tenant),
        Object::Counters(counters) => Counters::of(fleet) == *counters,
    }
}

/// Whether `object` can be added to what is there. What is there already and differs is never replaced.
fn fits(fleet: &Fleet, object: &Object) -> Result<(), Refusal> {
    let differs = |what: &str| {
        Err(Refusal::Conflict(format!(
            "this site has another {what} already; put a log back on an empty one"
        )))
    };
    let taken = |what: String| Err(Refusal::Conflict(format!("{what} already")));
    let missing = |what: &'static str, name: String| Err(Refusal::Missing { what, name });
    match object {
        Object::Site { .. } if fleet.site.is_some() => differs("network and identity"),
        Object::Policy { .. } if fleet.policy != Policy::default() => differs("policy"),
        Object::Site { .. } | Object::Policy { .. } => Ok(()),
        Object::Lease { mac, address } => {
            if fleet.site.is_none() {
                return missing("site", format!("to take {address} from"));
            }
            put_back(&fleet.leases.given, fleet, *mac, *address)
        }
        Object::Reservation { mac, address } => put_back(&fleet.leases.reserved, fleet, *mac, *address),
        Object::Quarantine { quarantine } => {
            let address = quarantine.address;
            match fleet.leases.given.holder(address) {
                Some(holder) => taken(format!("{holder} has {address}")),
                None if fleet.leases.quarantined.contains_key(&address) => {
                    differs(&format!("quarantine of {address}"))
                }
                None => Ok(()),
            }
        }
        Object::Subnet { subnet } => {
            if fleet.subnets.contains_key(&subnet.name) {
                return differs(&format!("subnet {}", subnet.name));
            }
            subnet::set(fleet, subnet).map(drop)
        }
        Object::Machine { machine } => {
            if fleet.machines.contains_key(&machine.id) {
                return differs(&format!("machine {}", machine.id));
            }
            // Two machines may report one key or NIC, and a log that says so must come back.
            match machine::by_name(fleet, &machine.name) {
                Some(other) => taken(format!("{} has the name {}", other.id, machine.name)),
                None => Ok(()),
            }
        }
        Object::Switch { switch } if fleet.switches.contains_key(&switch.name) => {
            differs(&format!("switch {}", switch.name))
        }
        Object::Switch { switch } => {
            let chassis = switch.chassis.as_deref();
            match chassis.and_then(|chassis| switch::by_chassis(fleet, chassis)) {
                Some(other) => taken(format!("{} has the chassis of {}", other.name, switch.name)),
                None => Ok(()),
            }
        }
        Object::Rack { rack } if fleet.racks.contains_key(&rack.name) => {
            differs(&format!("rack {}", rack.name))
        }
        Object::Rack { rack } => rack.holds.values().try_for_each(|held| match &held.what {
            what if rack::place_of(fleet, what).is_some() => {
                taken(format!("{} stands in another rack", rack::name_of(fleet, what)))
            }
            rack::Occupant::Machine(machine) if !fleet.machines.contains_key(machine) => {
                missing("machine", machine.to_string())
            }
            rack::Occupant::Switch(switch) if !fleet.switches.contains_key(switch) => {
                missing("switch", switch.clone())
            }
            rack::Occupant::Machine(_) | rack::Occupant::Switch(_) => Ok(()),
        }),
        Object::Host { host } if !fleet.machines.contains_key(&host.machine) => {
            missing("machine", host.machine.to_string())
        }
        Object::Host { host } if fleet.hosts.contains_key(&host.machine) => {
            differs(&format!("host {}", host.machine))
        }
        Object::Package { package } if fleet.packages.contains_key(&package.bundle.manifest.name) => {
            differs(&format!("package {}", package.bundle.manifest.name))
        }
        Object::Medium { medium } if fleet.media.contains_key(&medium.name) => {
            differs(&format!("medium {}", medium.name))
        }
        Object::Profile { profile } if fleet.profiles.contains_key(&profile.name) => {
            differs(&format!("profile {}", profile.name))
        }
        Object::User { user } if user::find(fleet, &user.name).is_some() => {
            differs(&format!("user {}", user.name))
        }
        Object::Tenant { tenant } if fleet.tenants.contains_key(&tenant.name) => {
            differs(&format!("tenant {}", tenant.name))
        }
        Object::Host { .. }
        | Object::Package { .. }
        | Object::Medium { .. }
        | Object::Profile { .. }
        | Object::User { .. }
        | Object::Tenant { .. } => Ok(()),
        Object::Vm { vm } => {
            if fleet.vms.contains_key(&vm.id) {
                return differs(&format!("VM {}", vm.id));
            }
            if !fleet.hosts.contains_key(&vm.host) {
                return missing("host", vm.host.to_string());
            }
            match vm::by_name(fleet, &vm.name).or_else(|| vm::by_mac(fleet, vm.mac)) {
                Some(other) => taken(format!("{} has the name or MAC address of {}", other.id, vm.id)),
                None => Ok(()),
            }
        }
        Object::Service { service } => {
            if fleet.services.contains_key(&service.id) {
                return differs(&format!("service {}", service.id));
            }
            if service::by_name(fleet, &service.name).is_some() {
                return taken(format!("there is a service {}", service.name));
            }
            // The nodes of a service that is being removed may be gone before it.
            let lost = service.nodes.iter().find(|vm| !fleet.vms.contains_key(*vm));
            match lost {
                Some(vm) if service.phase != service::Phase::Removing => missing("VM", vm.to_string()),
                Some(_) | None => Ok(()),
            }
        }
        Object::Counters(counters) => {
            let now = Counters::of(fleet);
            let behind = counters.last_machine < now.last_machine
                || counters.last_vm < now.last_vm
                || counters.last_service < now.last_service;
            if behind { differs("count of what it had") } else { Ok(()) }
        }
    }
}

/// Whether a MAC address can have this address beside those that it has.
fn put_back(addresses: &lease::Addresses, fleet: &Fleet, mac: Mac, address: Ipv4Addr) -> Result<(), Refusal> {
    let other = subnet::of_address(fleet, address).and_then(|subnet| addresses.of_in(mac, subnet.network));
    match (addresses.holder(address), other) {
        (Some(holder), _) => Err(Refusal::Conflict(format!("{holder} has {address} already"))),
        (None, Some(_)) => Err(Refusal::Conflict(format!("{mac} has another address already"))),
        (None, None) => Ok(()),
    }
}

impl Counters {
    pub(crate) fn of(fleet: &Fleet) -> Counters {
        Counters {
            last_machine: fleet.last_machine,
            last_vm: fleet.last_vm,
            last_service: fleet.last_service,
        }
    }
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    let Event::Restored { restored } = event;
    match restored {
        Object::Site { site } => fleet.site = Some(site.clone()),
        Object::Policy { policy } => fleet.policy = policy.clone(),
        Object::Lease { mac, address } => {
            let assigned = lease::Event::Assigned { mac: *mac, address: *address };
            lease::evolve(fleet, &assigned);
        }
        Object::Subnet { subnet } => {
            subnet::evolve(fleet, &subnet::Event::Set { subnet: subnet.clone() });
        }
        Object::Reservation { mac, address } => {
            lease::evolve(fleet, &lease::Event::Reserved { mac: *mac, address: *address });
        }
        Object::Quarantine { quarantine } => lease::restore_quarantine(fleet, *quarantine),
        Object::Machine { machine } => {
            fleet.last_machine = fleet.last_machine.max(machine.id.0);
            fleet.put_machine(machine.clone());
        }
        Object::Host { host } => {
            fleet.put_host(host.clone());
        }
        Object::Switch { switch } => {
            fleet.put_switch(switch.clone());
        }
        Object::Rack { rack } => {
            fleet.put_rack(rack.clone());
        }
        Object::Package { package } => {
            fleet.packages.insert(package.bundle.manifest.name.clone(), Arc::new(package.clone()));
        }
        Object::Vm { vm } => {
            fleet.last_vm = fleet.last_vm.max(vm.id.0);
            fleet.put_vm(vm.clone());
        }
        Object::Service { service } => {
            fleet.last_service = fleet.last_service.max(service.id.0);
            fleet.put_service(service.clone());
        }
        Object::Medium { medium } => {
            fleet.media.insert(medium.name.clone(), Arc::new(medium.clone()));
        }
        Object::Profile { profile } => {
            fleet.profiles.insert(profile.name.clone(), Arc::new(profile.clone()));
        }
        Object::User { user } => {
            fleet.users.insert(user.name.clone(), Arc::new(user.clone()));
        }
        Object::Tenant { tenant } => {
            fleet.tenants.insert(tenant.name.clone(), Arc::new(tenant.clone()));
        }
        Object::Counters(counters) => {
            fleet.last_machine = fleet.last_machine.max(counters.last_machine);
            fleet.last_vm = fleet.last_vm.max(counters.last_vm);
            fleet.last_service = fleet.last_service.max(counters.last_service);
        }
    }
}
