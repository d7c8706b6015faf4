//! The desired state as a document: what a person keeps in a file and applies again and again.
//!
//! What a document does not mention is left alone, a field as well as a thing; `prune` names the nouns of which
//! it is the whole truth.

mod derive;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::machine::Phase;
use crate::profile::Profile;
use crate::rack::{self, Occupant};
use crate::site::{Adopt, Fencing, Policy};
use crate::subnet::{Range, Route, Subnet};
use crate::switch::Plugged;
use crate::tenant::Limits;
use crate::user::Role;
use crate::{Fleet, Mac, service, vm};

pub use derive::{Derived, derive};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyPart>,
    #[serde(skip_serializing_if = "Prune::is_nothing")]
    pub prune: Prune,
    /// Without the one that is built in; passwords are in no document.
    #[serde(rename = "tenant", skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantPart>,
    #[serde(rename = "user", skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserPart>,
    #[serde(rename = "rack", skip_serializing_if = "Vec::is_empty")]
    pub racks: Vec<RackPart>,
    #[serde(rename = "switch", skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<SwitchPart>,
    /// Those that are built in are not here.
    #[serde(rename = "profile", skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
    #[serde(rename = "subnet", skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<SubnetPart>,
    #[serde(rename = "reservation", skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<ReservationPart>,
    #[serde(rename = "machine", skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<MachinePart>,
    #[serde(rename = "vm", skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<VmPart>,
    #[serde(rename = "service", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServicePart>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PolicyPart {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
    /// All of them: a key that is not here is let in no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fencing: Option<Fencing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc_accounts: Option<bool>,
}

/// The nouns of which everything is removed that the document does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Prune {
    pub tenants: bool,
    pub users: bool,
    pub racks: bool,
    pub switches: bool,
    pub profiles: bool,
    pub subnets: bool,
    pub reservations: bool,
    pub machines: bool,
    pub vms: bool,
    pub services: bool,
}

impl Prune {
    fn is_nothing(&self) -> bool {
        *self == Prune::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UserPart {
    pub name: String,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TenantPart {
    pub name: String,
    /// All of them: what is not said has none.
    #[serde(default)]
    pub limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RackPart {
    pub name: String,
    #[serde(default = "usual_units")]
    pub units: u32,
}

fn usual_units() -> u32 {
    42
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwitchPart {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// The lowest that it takes, counted from 1 at the bottom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<u32>,
    /// 1, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Ports it has at least; those that machines hear over LLDP come by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// By port: what a person says is plugged in. What LLDP says is not here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugged: BTreeMap<String, Plugged>,
}

/// `site` is the site's own network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SubnetPart {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub network: Option<Ipv4Net>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Vec<Ipv4Addr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ntp: Option<Vec<Ipv4Addr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_secs: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Vec<Range>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReservationPart {
    pub address: Ipv4Addr,
    pub mac: Mac,
}

/// Known by its MAC address if that is given, otherwise by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MachinePart {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// It is to be a host, or to have the system of `profile`. Its disks are never wiped by a document.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopt: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// No VM is placed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VmPart {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_gib: Option<u64>,
    /// The site's guest image, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What becomes of it when its host is fenced: it waits, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover: Option<vm::Recover>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ServicePart {
    pub package: String,
    /// Whichever is kept, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// What a person has decided of this site. Applied to the site it came from, it changes nothing; applied to another
/// one, it makes the same of what is there.
pub fn export(fleet: &Fleet) -> Document {
    let Policy { adopt, ssh_keys, fencing, bmc_accounts } = &fleet.policy;
    let carries_service = |id| service::of_vm(fleet, id).next().is_some();
    let vms = fleet.vms.values().filter(|vm| vm.phase != vm::Phase::Removing && !carries_service(vm.id));
    let services = fleet.services.values().filter(|service| service.phase != service::Phase::Removing);
    Document {
        policy: Some(PolicyPart {
            adopt: Some(*adopt),
            ssh_keys: Some(ssh_keys.clone()),
            fencing: Some(*fencing),
            bmc_accounts: Some(*bmc_accounts),
        }),
        prune: Prune::default(),
        tenants: fleet
            .tenants
            .values()
            .map(|tenant| TenantPart { name: tenant.name.clone(), limits: tenant.limits })
            .collect(),
        users: fleet
            .users
            .values()
            .map(|user| UserPart { name: user.name.clone(), role: user.role, tenant: user.tenant.clone() })
            .collect(),
        racks: fleet
            .racks
            .values()
            .map(|rack| RackPart { name: rack.name.clone(), units: rack.units })
            .collect(),
        switches: fleet.switches.values().map(|switch| switch_part(fleet, switch)).collect(),
        profiles: fleet.profiles.values().map(|profile| Profile::clone(profile)).collect(),
        subnets: fleet.subnets.values().map(|subnet| subnet_part(subnet)).collect(),
        reservations: fleet
            .leases
            .reserved
            .iter()
            .map(|(mac, address)| ReservationPart { address: *address, mac: *mac })
            .collect(),
        machines: fleet
            .machines
            .values()
            .filter(|machine| !machine.appliance)
            .map(|machine| machine_part(fleet, machine))
            .collect(),
        vms: vms
            .map(|vm| VmPart {
                name: vm.name.to_string(),
                vcpus: Some(vm.vcpus),
                memory_mib: Some(vm.memory_mib),
                disk_gib: Some(vm.disk_gib),
                image: None,
                recover: Some(vm.recover),
                tenant: vm.tenant.as_deref().map(str::to_owned),
            })
            .collect(),
        services: services
            .map(|service| ServicePart {
                package: service.package().to_owned(),
                version: Some(service.version.clone()),
                tenant: service.tenant.as_deref().map(str::to_owned),
            })
            .collect(),
    }
}

fn switch_part(fleet: &Fleet, switch: &crate::switch::Switch) -> SwitchPart {
    let by_hand = switch.ports.iter().filter_map(|(name, port)| Some((name.clone(), port.by_hand.clone()?)));
    let (rack, unit, height) = place(fleet, &Occupant::Switch(switch.name.clone()));
    SwitchPart {
        name: switch.name.clone(),
        rack,
        unit,
        height,
        ports: switch.ports.keys().cloned().collect(),
        plugged: by_hand.collect(),
    }
}

fn subnet_part(subnet: &Subnet) -> SubnetPart {
    let Subnet { name, network, router, dns, ntp, domain, routes, mtu, ranges, lease_secs } = subnet.clone();
    SubnetPart {
        name,
        network: Some(network),
        router,
        dns: Some(dns).filter(|dns| !dns.is_empty()),
        ntp: Some(ntp).filter(|ntp| !ntp.is_empty()),
        domain,
        mtu,
        lease_secs,
        routes: Some(routes).filter(|routes| !routes.is_empty()),
        ranges: Some(ranges).filter(|ranges| !ranges.is_empty()),
    }
}

impl SubnetPart {
    /// The subnet as it is with what this says of it.
    pub fn on(&self, subnet: Subnet) -> Subnet {
        let SubnetPart { name, network, router, dns, ntp, domain, mtu, lease_secs, routes, ranges } =
            self.clone();
        Subnet {
            name,
            network: network.unwrap_or(subnet.network),
            router: router.or(subnet.router),
            dns: dns.unwrap_or(subnet.dns),
            ntp: ntp.unwrap_or(subnet.ntp),
            domain: domain.or(subnet.domain),
            routes: routes.unwrap_or(subnet.routes),
            mtu: mtu.or(subnet.mtu),
            ranges: ranges.unwrap_or(subnet.ranges),
            lease_secs: lease_secs.or(subnet.lease_secs),
        }
    }
}

fn machine_part(fleet: &Fleet, machine: &crate::machine::Machine) -> MachinePart {
    let (rack, unit, height) = place(fleet, &Occupant::Machine(machine.id));
    let host = fleet.hosts.get(&machine.id);
    let wanted = match &machine.phase {
        Phase::Adopted { .. } | Phase::Installing { .. } | Phase::Installed | Phase::Ready => true,
        Phase::Sighted | Phase::Reported | Phase::Failed { .. } | Phase::Erasing(_) | Phase::Retired => false,
    };
    MachinePart {
        name: Some(machine.name.to_string()),
        mac: machine.macs.first().copied(),
        adopt: wanted,
        profile: machine.system.as_ref().filter(|_| wanted).map(|system| system.profile.clone()),
        drained: host.is_some_and(|host| host.draining_since.is_some()).then_some(true),
        rack,
        unit,
        height,
    }
}

/// Rack, unit, and height where it is not 1.
fn place(fleet: &Fleet, what: &Occupant) -> (Option<String>, Option<u32>, Option<u32>) {
    match rack::place_of(fleet, what) {
        Some(rack::Place { rack, unit, height }) => (Some(rack), Some(unit), (height != 1).then_some(height)),
        None => (None, None, None),
    }
}
