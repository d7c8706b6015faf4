//! The fields of every noun.

use std::net::Ipv4Addr;

use fleet::host::{self, Host};
use fleet::machine::Machine;
use fleet::medium::Medium;
use fleet::package::Package;
use fleet::profile::Profile;
use fleet::rack::{Occupant, Rack};
use fleet::service::Service;
use fleet::subnet::Subnet;
use fleet::switch::{Port, Switch};
use fleet::tenant::{self, Tenant};
use fleet::user::{self, User};
use fleet::vm::Vm;
use fleet::wire::{SoftwareState, VmState};
use fleet::{Mac, MachineId, NodeId, ObservedNode, Subject, VmId};

use super::field::Kind::{Bool, List, Number, Text, Version};
use super::field::{Cell, Field, Scene};
use super::time::rfc3339;
use crate::api::images::{self, Image};
use crate::api::volumes;
use crate::core::person_and_place;
use crate::store::Record;

const fn field<T>(
    name: &'static str,
    kind: super::field::Kind,
    about: &'static str,
    get: for<'a> fn(&'a Scene, &'a T) -> Cell<'a>,
) -> Field<T> {
    Field { name, kind, about, column: false, get }
}

/// One that a table shows without being told to.
const fn column<T>(
    name: &'static str,
    kind: super::field::Kind,
    about: &'static str,
    get: for<'a> fn(&'a Scene, &'a T) -> Cell<'a>,
) -> Field<T> {
    Field { name, kind, about, column: true, get }
}

pub static MACHINES: &[Field<Machine>] = &[
    column("id", Text, "m1", |_, m| Cell::text(m.id)),
    column("name", Text, "also its host name", |_, m| Cell::str(&m.name)),
    column("phase", Text, "sighted, found, adopted, installing, installed, ready, failed", |_, m| {
        Cell::str(m.phase.word())
    }),
    field("since", Text, "when it came into this phase, RFC 3339", |_, m| Cell::text(rfc3339(m.since))),
    column("age", Number, "seconds in this phase", |scene, m| scene.age(m.since)),
    field("appliance", Bool, "the appliance runs on it", |_, m| Cell::Bool(m.appliance)),
    column("firmware", Text, "bios, uefi, uefi_secure_boot", |_, m| {
        Cell::of(m.hardware.as_ref(), |hardware| Cell::str(firmware(hardware.firmware)))
    }),
    field("manufacturer", Text, "as its firmware says it", |_, m| {
        Cell::of(m.hardware.as_ref().and_then(|hardware| hardware.manufacturer.as_deref()), Cell::str)
    }),
    field("product", Text, "as its firmware says it", |_, m| {
        Cell::of(m.hardware.as_ref().and_then(|hardware| hardware.product.as_deref()), Cell::str)
    }),
    field("serial", Text, "as its firmware says it", |_, m| {
        Cell::of(m.hardware.as_ref().and_then(|hardware| hardware.serial.as_deref()), Cell::str)
    }),
    field("cpu", Text, "model", |_, m| {
        Cell::of(m.hardware.as_ref(), |hardware| Cell::str(&hardware.cpu.model))
    }),
    column("threads", Number, "of its CPUs", |_, m| {
        Cell::of(m.hardware.as_ref(), |hardware| Cell::count(hardware.cpu.threads))
    }),
    column("memory_mib", Number, "memory", |_, m| {
        Cell::of(m.hardware.as_ref(), |hardware| Cell::count(hardware.memory_mib))
    }),
    field("disks", Number, "how many disks it has", |_, m| {
        Cell::of(m.hardware.as_ref(), |hardware| Cell::count(hardware.disks.len()))
    }),
    field("macs", List, "MAC addresses", |_, m| Cell::list(&m.macs)),
    column("addresses", List, "IPv4 addresses", |scene, m| {
        Cell::list(m.macs.iter().flat_map(|mac| scene.fleet.leases.given.of(*mac)))
    }),
    field("attempts", Number, "installations that were begun", |_, m| Cell::count(m.attempts)),
    field("profile", Text, "what it is to be, or was, installed with, if not our system", |_, m| {
        Cell::of(m.system.as_ref(), |system| Cell::str(&system.profile))
    }),
    field("waiting", List, "what it waits for", |scene, m| scene.waits(Subject::Machine(m.id))),
    field("observed.version", Version, "of its node agent", |scene, m| {
        Cell::of(seen(scene, m.id), |node| Cell::Version(node.said.version.as_str().into()))
    }),
    field("observed.silent", Number, "seconds since its agent spoke", |scene, m| {
        Cell::of(seen(scene, m.id), |node| scene.age(node.at))
    }),
    field("observed.uptime", Number, "seconds since it started", |scene, m| {
        Cell::of(seen(scene, m.id), |node| Cell::count(node.said.uptime_secs))
    }),
];

pub static HOSTS: &[Field<Host>] = &[
    column("id", Text, "of its machine", |_, h| Cell::text(h.machine)),
    column("name", Text, "of its machine", |scene, h| Cell::of(machine(scene, h.machine), Cell::str)),
    column("version", Version, "of its node agent, as it said it last", |scene, h| {
        Cell::of(seen(scene, h.machine), |node| Cell::Version(node.said.version.as_str().into()))
    }),
    column("hypervisor", Text, "as libvirt says it", |_, h| Cell::str(&h.hypervisor)),
    column("threads", Number, "of its CPUs", |_, h| Cell::count(h.threads)),
    column("memory_mib", Number, "all its memory", |_, h| Cell::count(h.memory_mib)),
    column("free_memory_mib", Number, "what VMs may still take", |scene, h| {
        Cell::count(host::free_memory_mib(&scene.fleet, h))
    }),
    field("volume_bytes", Number, "room for volumes", |_, h| Cell::count(h.volume_bytes)),
    field("draining", Bool, "no VM is placed on it", |_, h| Cell::Bool(h.draining_since.is_some())),
    field("vms", List, "names of the VMs it carries", |scene, h| {
        Cell::list(fleet::vm::on_host(&scene.fleet, h.machine).map(|vm| &vm.name))
    }),
    field("since", Text, "when it became a host, RFC 3339", |_, h| Cell::text(rfc3339(h.ready_since))),
    field("age", Number, "seconds since it became a host", |scene, h| scene.age(h.ready_since)),
    field("waiting", List, "what it waits for", |scene, h| scene.waits(Subject::Machine(h.machine))),
    column("observed.silent", Number, "seconds since its agent spoke", |scene, h| {
        Cell::of(seen(scene, h.machine), |node| scene.age(node.at))
    }),
    field("observed.uptime", Number, "seconds since it started", |scene, h| {
        Cell::of(seen(scene, h.machine), |node| Cell::count(node.said.uptime_secs))
    }),
    field("observed.volume_free_bytes", Number, "what its pool has left", |scene, h| {
        let capacity = seen(scene, h.machine).and_then(|node| node.said.capacity.as_ref());
        Cell::of(capacity, |capacity| Cell::count(capacity.volume_free_bytes))
    }),
];

pub static VMS: &[Field<Vm>] = &[
    column("id", Text, "v1", |_, vm| Cell::text(vm.id)),
    column("name", Text, "also its host name", |_, vm| Cell::str(&vm.name)),
    column("phase", Text, "starting, running, being removed", |_, vm| Cell::str(vm.phase.word())),
    column(
        "observed.state",
        Text,
        "what its host says: creating, running, stopped, failing, gone",
        |scene, vm| {
            Cell::of(scene.state(vm.id), |state| {
                Cell::str(match state {
                    VmState::Creating { .. } => "creating",
                    VmState::Running => "running",
                    VmState::Stopped => "stopped",
                    VmState::Failing { .. } => "failing",
                    VmState::Gone => "gone",
                })
            })
        },
    ),
    field("observed.reason", Text, "why it fails, or how far it is", |scene, vm| match scene.state(vm.id) {
        Some(VmState::Creating { step }) => Cell::str(step),
        Some(VmState::Failing { reason }) => Cell::str(reason),
        Some(VmState::Running | VmState::Stopped | VmState::Gone) | None => Cell::Null,
    }),
    field("since", Text, "when it came into this phase, RFC 3339", |_, vm| Cell::text(rfc3339(vm.since))),
    column("age", Number, "seconds in this phase", |scene, vm| scene.age(vm.since)),
    column("host", Text, "name of its host", |scene, vm| Cell::of(machine(scene, vm.host), Cell::str)),
    column("vcpus", Number, "CPUs", |_, vm| Cell::count(vm.vcpus)),
    column("memory_mib", Number, "memory", |_, vm| Cell::count(vm.memory_mib)),
    column("disk_gib", Number, "disk", |_, vm| Cell::count(vm.disk_gib)),
    field("image", Text, "file that its disk was made from", |_, vm| Cell::str(&vm.image.name)),
    field("mac", Text, "MAC address", |_, vm| Cell::text(vm.mac)),
    column("address", Text, "IPv4 address", |scene, vm| {
        Cell::of(scene.fleet.leases.address(vm.mac), Cell::text)
    }),
    field("service", Text, "that it carries", |scene, vm| {
        Cell::of(fleet::service::of_vm(&scene.fleet, vm.id).next(), |service| Cell::str(&service.name))
    }),
    field("tenant", Text, "whose it is, if not the site's", |_, vm| {
        Cell::of(vm.tenant.as_deref(), Cell::str)
    }),
    field("enrolled", Bool, "its guest agent has a certificate", |_, vm| Cell::Bool(vm.key.is_some())),
    field("waiting", List, "what it waits for", |scene, vm| scene.waits(Subject::Vm(vm.id))),
    field("observed.version", Version, "of its guest agent", |scene, vm| {
        Cell::of(guest(scene, vm.id), |node| Cell::Version(node.said.version.as_str().into()))
    }),
    field("observed.silent", Number, "seconds since its guest agent spoke", |scene, vm| {
        Cell::of(guest(scene, vm.id), |node| scene.age(node.at))
    }),
];

/// Each VM has one.
pub static VOLUMES: &[Field<Vm>] = &[
    column("name", Text, "as it is called in the pool of its host", |_, vm| Cell::text(vm.volume_name())),
    column("phase", Text, "being made, in use, being deleted", |_, vm| Cell::str(volumes::word(vm.phase))),
    column("size_gib", Number, "what it grows up to", |_, vm| Cell::count(vm.disk_gib)),
    column("vm", Text, "whose disk it is", |_, vm| Cell::str(&vm.name)),
    column("host", Text, "name of the host whose pool it is in", |scene, vm| {
        Cell::of(machine(scene, vm.host), Cell::str)
    }),
    column("image", Text, "id of the image that it was made from", |_, vm| {
        Cell::text(images::id_of(&vm.image.name, &vm.image.sha256))
    }),
    field("since", Text, "when it came into this phase, RFC 3339", |_, vm| Cell::text(rfc3339(vm.since))),
];

/// Those that something was made from, and media.
pub static IMAGES: &[Field<Image>] = &[
    column("id", Text, "its name and the beginning of its SHA-256", |_, image| Cell::str(&image.id)),
    column("name", Text, "of its file, or of the medium", |_, image| Cell::str(&image.name)),
    column("kind", Text, "guest image, medium", |_, image| Cell::str(image.kind.word())),
    column("bytes", Number, "its size", |_, image| Cell::count(image.bytes)),
    column("vms", Number, "VMs whose volumes were made from it", |_, image| Cell::count(image.vms)),
    column("machines", Number, "machines that were installed from it", |_, image| {
        Cell::count(image.machines)
    }),
    field("title", Text, "what it is", |_, image| Cell::str(&image.title)),
    field("sha256", Text, "of its file", |_, image| Cell::str(&image.sha256)),
];

pub static SERVICES: &[Field<Service>] = &[
    column("id", Text, "s1", |_, s| Cell::text(s.id)),
    column("name", Text, "of its package, after its tenant's", |_, s| Cell::str(&s.name)),
    column("version", Version, "of its package", |_, s| Cell::Version(s.version.as_str().into())),
    column("phase", Text, "installing, answering, being removed", |_, s| Cell::str(s.phase.word())),
    column("observed.state", Text, "what its nodes say: installing, healthy, failing", |scene, s| {
        Cell::of(software(scene, s), |state| {
            Cell::str(match state {
                SoftwareState::Installing { .. } => "installing",
                SoftwareState::Healthy => "healthy",
                SoftwareState::Failing { .. } => "failing",
            })
        })
    }),
    field("observed.reason", Text, "why it fails, or how far it is", |scene, s| match software(scene, s) {
        Some(SoftwareState::Installing { step }) => Cell::str(step),
        Some(SoftwareState::Failing { reason }) => Cell::str(reason),
        Some(SoftwareState::Healthy) | None => Cell::Null,
    }),
    field("since", Text, "when it came into this phase, RFC 3339", |_, s| Cell::text(rfc3339(s.since))),
    column("age", Number, "seconds in this phase", |scene, s| scene.age(s.since)),
    column("url", Text, "where it answers", |_, s| Cell::text(s.url())),
    field("address", Text, "IPv4 address", |_, s| Cell::text(s.address)),
    field("port", Number, "TCP port", |_, s| Cell::count(s.port)),
    column("nodes", List, "names of the VMs that carry it", |scene, s| {
        Cell::list(s.nodes.iter().filter_map(|vm| scene.fleet.vms.get(vm)).map(|vm| &vm.name))
    }),
    field("tenant", Text, "whose it is, if not the site's", |_, s| Cell::of(s.tenant.as_deref(), Cell::str)),
    field("waiting", List, "what it waits for", |scene, s| scene.waits(Subject::Service(s.id))),
];

pub static PACKAGES: &[Field<Package>] = &[
    column("name", Text, "name", |_, p| Cell::str(&p.bundle.manifest.name)),
    column("version", Version, "version", |_, p| Cell::Version(p.bundle.manifest.version.as_str().into())),
    column("summary", Text, "what it is", |_, p| Cell::str(&p.bundle.manifest.summary)),
    column("installed", Bool, "there is a service of it", |scene, p| {
        Cell::Bool(fleet::service::of_package(&scene.fleet, &p.bundle.manifest.name).next().is_some())
    }),
    field("bytes", Number, "size of the bundle", |_, p| Cell::count(p.bundle.bytes)),
    field("sha256", Text, "of the bundle", |_, p| Cell::str(&p.bundle.sha256)),
    field("vcpus", Number, "for each node", |_, p| Cell::count(p.bundle.manifest.requires.vcpus)),
    field("memory_mib", Number, "for each node", |_, p| Cell::count(p.bundle.manifest.requires.memory_mib)),
    field("disk_gib", Number, "for each node", |_, p| Cell::count(p.bundle.manifest.requires.disk_gib)),
    field("nodes_min", Number, "how many nodes it wants", |_, p| Cell::count(p.bundle.manifest.nodes.min)),
];

pub static LEASES: &[Field<(Mac, Ipv4Addr)>] = &[
    column("mac", Text, "MAC address", |_, (mac, _)| Cell::text(mac)),
    column("address", Text, "IPv4 address", |_, (_, address)| Cell::text(address)),
    column("holder", Text, "name of the machine or VM that has it", |scene, (mac, _)| holder(scene, *mac)),
    column("subnet", Text, "that it is in", |scene, (_, address)| subnet_of(scene, *address)),
    field("known", Bool, "of a machine, a VM or a reservation, not of a passer-by", |scene, (mac, _)| {
        Cell::Bool(fleet::lease::is_known(&scene.fleet, *mac))
    }),
];

pub static RESERVATIONS: &[Field<(Mac, Ipv4Addr)>] = &[
    column("address", Text, "IPv4 address", |_, (_, address)| Cell::text(address)),
    column("mac", Text, "MAC address", |_, (mac, _)| Cell::text(mac)),
    column("holder", Text, "name of the machine or VM that it is for", |scene, (mac, _)| holder(scene, *mac)),
    column("subnet", Text, "that it is in", |scene, (_, address)| subnet_of(scene, *address)),
    column("given", Bool, "it has come for it", |scene, (mac, address)| {
        Cell::Bool(scene.fleet.leases.given.holder(*address) == Some(*mac))
    }),
];

pub static USERS: &[Field<User>] = &[
    column("name", Text, "that one logs in by", |_, user| Cell::str(&user.name)),
    column("role", Text, "viewer, operator, admin", |_, user| Cell::str(user.role.word())),
    column("built_in", Bool, "it cannot be removed", |_, user| Cell::Bool(user.name == user::FIRST)),
    column("tenant", Text, "whose things he sees, and no others", |_, user| {
        Cell::of(user.tenant.as_deref(), Cell::str)
    }),
    field("age", Number, "seconds since it was added", |scene, user| scene.age(user.added)),
];

pub static TENANTS: &[Field<Tenant>] = &[
    column("name", Text, "that the names of its things begin with", |_, t| Cell::str(&t.name)),
    column("vms", Number, "VMs that it has", |scene, t| Cell::count(taken(scene, t).vms)),
    column("vcpus", Number, "of all its VMs", |scene, t| Cell::count(taken(scene, t).vcpus)),
    column("memory_mib", Number, "of all its VMs", |scene, t| Cell::count(taken(scene, t).memory_mib)),
    column("disk_gib", Number, "of all its VMs", |scene, t| Cell::count(taken(scene, t).disk_gib)),
    field("most.vms", Number, "VMs that it may have", |_, t| Cell::of(t.limits.vms, Cell::count)),
    field("most.vcpus", Number, "that it may have", |_, t| Cell::of(t.limits.vcpus, Cell::count)),
    field("most.memory_mib", Number, "that it may have", |_, t| Cell::of(t.limits.memory_mib, Cell::count)),
    field("most.disk_gib", Number, "that it may have", |_, t| Cell::of(t.limits.disk_gib, Cell::count)),
    field("age", Number, "seconds since it was added", |scene, t| scene.age(t.added)),
];

fn taken(scene: &Scene, tenant: &Tenant) -> tenant::Usage {
    tenant::usage(&scene.fleet, &tenant.name)
}

pub static SUBNETS: &[Field<Subnet>] = &[
    column("name", Text, "site is the site's own", |_, subnet| Cell::str(&subnet.name)),
    column("network", Text, "10.77.0.0/16", |_, subnet| Cell::text(subnet.network)),
    column("router", Text, "the default route", |_, subnet| Cell::of(subnet.router, Cell::text)),
    column("dns", List, "DNS servers", |_, subnet| Cell::list(&subnet.dns)),
    field("ntp", List, "NTP servers", |_, subnet| Cell::list(&subnet.ntp)),
    field("domain", Text, "if it is not the site's", |_, subnet| {
        Cell::of(subnet.domain.as_deref(), Cell::str)
    }),
    field("mtu", Number, "bytes", |_, subnet| Cell::of(subnet.mtu, Cell::count)),
    field("lease_secs", Number, "how long an address is given for", |_, subnet| {
        Cell::count(subnet.lease_secs())
    }),
    field("pool", List, "ranges that addresses are given from", |_, subnet| Cell::list(subnet.pool())),
    column("size", Number, "addresses that can be given", |scene, subnet| {
        Cell::count(usage(scene, subnet).size)
    }),
    column("given", Number, "addresses of the pool that are", |scene, subnet| {
        Cell::count(usage(scene, subnet).given)
    }),
    column("free", Number, "addresses that are left", |scene, subnet| {
        Cell::count(usage(scene, subnet).free())
    }),
    field("quarantined", Number, "addresses that somebody else answers to", |scene, subnet| {
        Cell::count(usage(scene, subnet).quarantined)
    }),
];

pub static RACKS: &[Field<Rack>] = &[
    column("name", Text, "name", |_, rack| Cell::str(&rack.name)),
    column("units", Number, "how tall it is", |_, rack| Cell::count(rack.units)),
    column("used", Number, "units that something stands in", |_, rack| {
        Cell::count(rack.holds.values().map(|held| held.height).sum::<u32>())
    }),
    column("holds", List, "names of what stands in it, from the bottom", |scene, rack| {
        Cell::list(rack.holds.values().map(|held| fleet::rack::name_of(&scene.fleet, &held.what)))
    }),
];

pub static SWITCHES: &[Field<Switch>] = &[
    column("name", Text, "name", |_, switch| Cell::str(&switch.name)),
    column("ports", Number, "how many ports are known", |_, switch| Cell::count(switch.ports.len())),
    column("used", Number, "ports that something is plugged into", |_, switch| {
        let used = |port: &&Port| port.by_hand.is_some() || !port.heard.is_empty();
        Cell::count(switch.ports.values().filter(used).count())
    }),
    column("chassis", Text, "as LLDP says it", |_, switch| Cell::of(switch.chassis.as_deref(), Cell::str)),
    column("rack", Text, "where it stands", |scene, switch| {
        let place = fleet::rack::place_of(&scene.fleet, &Occupant::Switch(switch.name.clone()));
        Cell::of(place, |place| Cell::text(place.rack))
    }),
];

/// A port with the switch that it is part of.
pub struct SwitchPort {
    pub switch: String,
    pub name: String,
    pub port: Port,
}

pub static PORTS: &[Field<SwitchPort>] = &[
    column("switch", Text, "that it is part of", |_, port| Cell::str(&port.switch)),
    column("name", Text, "of the port", |_, port| Cell::str(&port.name)),
    column("plugged", Text, "what a person says is in it", |scene, port| {
        Cell::of(port.port.by_hand.as_ref(), |what| Cell::text(fleet::switch::name_of(&scene.fleet, what)))
    }),
    column("heard", List, "names of the machines that hear it over LLDP", |scene, port| {
        let heard = port.port.heard.iter();
        Cell::list(heard.map(|mac| match fleet::machine::by_mac(&scene.fleet, *mac) {
            Some(machine) => machine.name.to_string(),
            None => mac.to_string(),
        }))
    }),
    field("macs", List, "MAC addresses that hear it over LLDP", |_, port| Cell::list(&port.port.heard)),
    column("contradicts", Bool, "LLDP says something else than a person", |_, port| {
        Cell::Bool(port.port.heard.iter().any(|mac| port.port.contradicts(*mac)))
    }),
];

pub static MEDIA: &[Field<Medium>] = &[
    column("name", Text, "also its folder", |_, medium| Cell::str(&medium.name)),
    column("family", Text, "debian, ubuntu, red_hat", |_, medium| Cell::str(medium.family.word())),
    column("title", Text, "as it calls itself", |_, medium| Cell::str(&medium.title)),
    column("version", Version, "of the system", |_, medium| Cell::Version(medium.version.as_str().into())),
    column("arch", Text, "amd64, arm64", |_, medium| Cell::str(&medium.arch)),
    field("bytes", Number, "size of what was imported", |_, medium| Cell::count(medium.bytes)),
    field("sha256", Text, "of what was imported", |_, medium| Cell::str(&medium.sha256)),
];

pub static PROFILES: &[Field<Profile>] = &[
    column("name", Text, "name", |_, profile| Cell::str(&profile.name)),
    column("kind", Text, "elisandra, debian, ubuntu, kickstart, ipxe, grub", |_, profile| {
        Cell::str(profile.kind.word())
    }),
    column("medium", Text, "that it is installed from; the newest, if it is not said", |_, profile| {
        Cell::of(profile.medium.as_deref(), Cell::str)
    }),
    field("arguments", Text, "for the installer's kernel", |_, profile| Cell::str(&profile.arguments)),
    field("template", Bool, "it has a template of its own", |_, p| Cell::Bool(p.template.is_some())),
    column("language", Text, "en_US.UTF-8", |_, profile| Cell::str(&profile.language)),
    field("keyboard", Text, "us", |_, profile| Cell::str(&profile.keyboard)),
    column("time_zone", Text, "Europe/Berlin", |_, profile| Cell::str(&profile.time_zone)),
    column("built_in", Bool, "it cannot be changed", |scene, profile| {
        Cell::Bool(!scene.fleet.profiles.contains_key(&profile.name))
    }),
];

pub static EVENTS: &[Field<Record>] = &[
    column("position", Number, "in the log", |_, event| Cell::count(event.position)),
    column("at", Text, "when, RFC 3339", |_, event| Cell::text(rfc3339(event.at))),
    field("age", Number, "seconds ago", |scene, event| scene.age(event.at)),
    column("actor", Text, "a person, a machine's or VM's id, a MAC address, or appliance", |_, event| {
        Cell::str(person_and_place(&event.actor).0)
    }),
    field("from", Text, "the address that a person spoke from", |_, event| {
        Cell::of(person_and_place(&event.actor).1, Cell::str)
    }),
    field("subject", Text, "id of what it is about", |_, event| Cell::str(&event.subject)),
    column("name", Text, "of what it is about, if that is there", |scene, event| {
        Cell::of(fleet::name_of(&scene.fleet, &event.subject), Cell::text)
    }),
    column("kind", Text, "machine.adopted", |_, event| Cell::str(&event.kind)),
    column("sentence", Text, "as on the timeline", |_, event| Cell::text(event.event.sentence())),
    field("command", Text, "that it is the first event of", |_, event| {
        let json = event.command.as_ref().and_then(|command| serde_json::to_value(command).ok());
        Cell::of(json.as_ref().and_then(|json| json["command"].as_str()), Cell::text)
    }),
];

fn holder(scene: &Scene, mac: Mac) -> Cell<'_> {
    let machine = fleet::machine::by_mac(&scene.fleet, mac).map(|machine| machine.name.as_ref());
    let vm = || fleet::vm::by_mac(&scene.fleet, mac).map(|vm| vm.name.as_ref());
    Cell::of(machine.or_else(vm), Cell::str)
}

fn subnet_of(scene: &Scene, address: Ipv4Addr) -> Cell<'static> {
    Cell::of(fleet::subnet::of_address(&scene.fleet, address), |subnet| Cell::text(subnet.name))
}

fn usage(scene: &Scene, subnet: &Subnet) -> fleet::lease::Usage {
    fleet::lease::usage(&scene.fleet, subnet, scene.time)
}

fn firmware(firmware: fleet::wire::Firmware) -> &'static str {
    match firmware {
        fleet::wire::Firmware::Bios => "bios",
        fleet::wire::Firmware::Uefi => "uefi",
        fleet::wire::Firmware::UefiSecureBoot => "uefi_secure_boot",
    }
}

fn machine(scene: &Scene, id: MachineId) -> Option<&str> {
    scene.fleet.machines.get(&id).map(|machine| machine.name.as_ref())
}

fn seen(scene: &Scene, machine: MachineId) -> Option<&ObservedNode> {
    scene.observed()?.get(&NodeId::Machine(machine)).map(AsRef::as_ref)
}

fn guest(scene: &Scene, vm: VmId) -> Option<&ObservedNode> {
    scene.observed()?.get(&NodeId::Vm(vm)).map(AsRef::as_ref)
}

/// The worst that its nodes say.
fn software<'a>(scene: &'a Scene, service: &Service) -> Option<&'a SoftwareState> {
    let said = service.nodes.iter().filter_map(|vm| guest(scene, *vm));
    let states =
        said.flat_map(|node| &node.said.software).filter(|software| software.name == service.package());
    states.map(|software| &software.state).min_by_key(|state| match state {
        SoftwareState::Failing { .. } => 0,
        SoftwareState::Installing { .. } => 1,
        SoftwareState::Healthy => 2,
    })
}
