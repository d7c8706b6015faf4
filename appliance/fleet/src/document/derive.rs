//! From a document to the least list of commands that makes the site like it.

use std::collections::BTreeSet;

use super::{Document, MachinePart, ReservationPart, ServicePart, SwitchPart, TenantPart, UserPart, VmPart};
use crate::machine::{self, Machine, Phase};
use crate::rack::{self, Occupant, Place};
use crate::site::Policy;
use crate::subnet::{self, Subnet};
use crate::{Command, Ctx, Fleet, decide, evolve, service, tenant, user, vm};

/// What a VM has if a document says nothing else.
const USUAL_MEMORY_MIB: u64 = 512;
const USUAL_DISK_GIB: u64 = 4;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Derived {
    pub commands: Vec<Command>,
    /// What stays different from the document, and why.
    pub left: Vec<String>,
}

/// Compares `document` to the site. `image` is what VMs are made from; without one none can be made.
pub fn derive(fleet: &Fleet, document: &Document, image: Option<&vm::Image>, ctx: Ctx) -> Derived {
    let mut work = Work { after: fleet.clone(), ctx, derived: Derived::default() };
    work.say_twice(document);
    work.policy(document);
    work.tenants(document);
    work.users(document);
    work.racks(document);
    work.switches(document);
    work.profiles(document);
    work.subnets(document);
    work.reservations(document);
    work.machines(document);
    work.places(document);
    work.plugs(document);
    work.vms(document, image);
    work.services(document, image);
    work.prune(document);
    work.derived
}

struct Work {
    /// As the commands so far leave it behind.
    after: Fleet,
    ctx: Ctx,
    derived: Derived,
}

impl Work {
    /// Adds a command, unless it changes nothing; what is refused is said.
    fn order(&mut self, what: &str, command: Command) {
        if let Err(refusal) = self.try_order(command) {
            self.left(format!("{what}: {refusal}"));
        }
    }

    fn try_order(&mut self, command: Command) -> Result<(), crate::Refusal> {
        let events = decide(&self.after, &command, self.ctx)?;
        if !events.is_empty() {
            events.iter().for_each(|event| evolve(&mut self.after, event));
            self.derived.commands.push(command);
        }
        Ok(())
    }

    fn left(&mut self, sentence: String) {
        self.derived.left.push(sentence);
    }

    fn say_twice(&mut self, document: &Document) {
        let mut twice = Vec::new();
        let mut look = |noun: &str, names: &mut dyn Iterator<Item = String>| {
            let mut seen = BTreeSet::new();
            twice.extend(names.filter(|name| !seen.insert(name.clone())).map(|name| {
                format!("{noun} {name} is in the document twice; what stands there last was not looked at")
            }));
        };
        look("tenant", &mut document.tenants.iter().map(|part| part.name.clone()));
        look("user", &mut document.users.iter().map(|part| part.name.clone()));
        look("rack", &mut document.racks.iter().map(|part| part.name.clone()));
        look("switch", &mut document.switches.iter().map(|part| part.name.clone()));
        look("profile", &mut document.profiles.iter().map(|part| part.name.clone()));
        look("subnet", &mut document.subnets.iter().map(|part| part.name.clone()));
        look("reservation of", &mut document.reservations.iter().map(|part| part.address.to_string()));
        look("machine", &mut document.machines.iter().map(MachinePart::handle));
        look("VM", &mut document.vms.iter().map(|part| part.name.clone()));
        look("service", &mut document.services.iter().map(ServicePart::name));
        self.derived.left.extend(twice);
    }

    fn policy(&mut self, document: &Document) {
        let Some(part) = &document.policy else { return };
        let policy = Policy {
            adopt: part.adopt.unwrap_or(self.after.policy.adopt),
            ssh_keys: part.ssh_keys.clone().unwrap_or_else(|| self.after.policy.ssh_keys.clone()),
            fencing: part.fencing.unwrap_or(self.after.policy.fencing),
            bmc_accounts: part.bmc_accounts.unwrap_or(self.after.policy.bmc_accounts),
        };
        self.order("policy", Command::SetPolicy { policy });
    }

    fn tenants(&mut self, document: &Document) {
        for TenantPart { name, limits } in &document.tenants {
            let (name, limits) = (name.clone(), *limits);
            let what = format!("tenant {name}");
            let command = match self.after.tenants.contains_key(&name) {
                true => Command::SetTenant { name, limits },
                false => Command::AddTenant { name, limits },
            };
            self.order(&what, command);
        }
    }

    fn users(&mut self, document: &Document) {
        for UserPart { name, role, tenant } in &document.users {
            let command = match user::find(&self.after, name) {
                Some(known) if known.tenant != *tenant => {
                    let of = |tenant: Option<&str>| tenant.unwrap_or("the site").to_owned();
                    self.left(format!(
                        "user {name} is of {} and not of {}; remove and add it anew to change that",
                        of(known.tenant.as_deref()),
                        of(tenant.as_deref())
                    ));
                    continue;
                }
                Some(_) => Command::SetRole { name: name.clone(), role: *role },
                None => Command::AddUser { name: name.clone(), role: *role, tenant: tenant.clone() },
            };
            self.order(&format!("user {name}"), command);
        }
    }

    fn racks(&mut self, document: &Document) {
        for part in &document.racks {
            match self.after.racks.get(&part.name).map(|rack| rack.units) {
                None => {
                    let command = Command::AddRack { name: part.name.clone(), units: part.units };
                    self.order(&format!("rack {}", part.name), command);
                }
                Some(units) if units != part.units => self.left(format!(
                    "rack {} has {units} units and not {}; remove it and add it anew to change that",
                    part.name, part.units
                )),
                Some(_) => {}
            }
        }
    }

    fn switches(&mut self, document: &Document) {
        for part in &document.switches {
            let what = format!("switch {}", part.name);
            if self.after.switches.contains_key(&part.name) {
                let ports = Command::AddPorts { switch: part.name.clone(), ports: part.ports.clone() };
                self.order(&what, ports);
            } else {
                let added =
                    Command::AddSwitch { name: part.name.clone(), ports: part.ports.clone(), place: None };
                self.order(&what, added);
            }
        }
    }

    fn profiles(&mut self, document: &Document) {
        for profile in &document.profiles {
            let command = Command::SetProfile { profile: profile.clone() };
            self.order(&format!("profile {}", profile.name), command);
        }
    }

    fn subnets(&mut self, document: &Document) {
        for part in &document.subnets {
            let what = format!("subnet {}", part.name);
            let known = subnet::by_name(&self.after, &part.name);
            let known = known.or_else(|| Some(Subnet::new(&part.name, part.network?)));
            match known {
                Some(known) => self.order(&what, Command::SetSubnet { subnet: part.on(known) }),
                None => self.left(format!("{what} is not here yet; say its `network`")),
            }
        }
    }

    /// What is reserved for another MAC address here than in the document is freed first.
    fn reservations(&mut self, document: &Document) {
        for ReservationPart { address, mac } in &document.reservations {
            let held = self.after.leases.reserved.holder(*address);
            if held.is_some_and(|held| held != *mac) {
                self.order(&format!("reservation of {address}"), Command::Unreserve { address: *address });
            }
        }
        for ReservationPart { address, mac } in &document.reservations {
            let command = Command::Reserve { mac: *mac, address: *address };
            self.order(&format!("reservation of {address}"), command);
        }
    }

    fn machines(&mut self, document: &Document) {
        for part in &document.machines {
            let Some(machine) = self.find(part) else {
                let handle = part.handle();
                self.left(format!(
                    "machine {handle} is not here yet; apply this again when it has started from the network"
                ));
                continue;
            };
            let (id, name, phase) = (machine.id, machine.name.clone(), machine.phase.clone());
            let system = machine.system.clone();
            let is_drained = self.after.hosts.get(&id).is_some_and(|host| host.draining_since.is_some());
            match part.drained {
                Some(true) if !is_drained => {
                    self.order(&format!("machine {name}"), Command::Drain { machine: id });
                }
                Some(false) if is_drained => {
                    self.order(&format!("machine {name}"), Command::Undrain { machine: id });
                }
                Some(_) | None => {}
            }
            if !part.adopt {
                continue;
            }
            match phase {
                Phase::Reported => {
                    self.order(
                        &format!("machine {name}"),
                        Command::Adopt {
                            machine: id,
                            wipe: false,
                            profile: part.profile.clone(),
                            disk: None,
                        },
                    );
                }
                Phase::Erasing(_) => self.left(format!("machine {name} is being erased; cancel that first")),
                Phase::Retired => {
                    self.left(format!("machine {name} is retired; eli machine unretire {name} takes it back"))
                }
                Phase::Sighted => self.left(format!("machine {name} has not said yet what it is made of")),
                Phase::Failed { step, .. } => self.left(format!(
                    "the installation of machine {name} failed while {step}; eli adopt {name} tries again"
                )),
                Phase::Adopted { .. } | Phase::Installing { .. } | Phase::Installed | Phase::Ready => {
                    let has = system.as_ref().map_or("elisandra", |system| &system.profile);
                    if let Some(wanted) = part.profile.as_deref().filter(|wanted| *wanted != has) {
                        self.left(format!(
                            "machine {name} has {has} and not {wanted}; remove it, and it can be installed anew"
                        ));
                    }
                }
            }
        }
    }

    /// Machines and switches may change places with each other, so one that stands in the way of another is taken
    /// out first.
    fn places(&mut self, document: &Document) {
        let machines = document.machines.iter().filter_map(|part| {
            let place = wanted_place(part.rack.as_deref(), part.unit, part.height);
            Some((Occupant::Machine(self.find(part)?.id), place))
        });
        let switches =
            document.switches.iter().filter(|part| self.after.switches.contains_key(&part.name)).map(
                |part| {
                    let place = wanted_place(part.rack.as_deref(), part.unit, part.height);
                    (Occupant::Switch(part.name.clone()), place)
                },
            );
        let places: Vec<_> = machines.chain(switches).collect();
        let mut wanted = Vec::new();
        for (what, place) in places {
            match place {
                Ok(Some(place)) if rack::place_of(&self.after, &what).as_ref() != Some(&place) => {
                    wanted.push((what, place));
                }
                Ok(_) => {}
                Err(sentence) => {
                    let name = rack::name_of(&self.after, &what);
                    self.left(format!("{name}: {sentence}"));
                }
            }
        }
        let mut refused = self.place_all(wanted);
        if !refused.is_empty() {
            let first_try = (self.after.clone(), self.derived.commands.clone());
            for (what, ..) in &refused {
                // It is there, so this is not refused; if it stands nowhere, nothing is to be done.
                let _ = self.try_order(unplace(what));
            }
            let places = refused.iter().map(|(what, place, _)| (what.clone(), place.clone())).collect();
            let still = self.place_all(places);
            if still.is_empty() {
                refused = still;
            } else {
                // Nothing is left standing nowhere because another thing could not be placed.
                (self.after, self.derived.commands) = first_try;
            }
        }
        for (what, place, refusal) in refused {
            let name = rack::name_of(&self.after, &what);
            self.left(format!("{name} in {place}: {refusal}"));
        }
    }

    /// Places what can be placed, again and again while that makes room; returns the rest.
    fn place_all(&mut self, mut wanted: Vec<(Occupant, Place)>) -> Vec<(Occupant, Place, crate::Refusal)> {
        loop {
            let before = wanted.len();
            let mut refused = Vec::new();
            for (what, to) in wanted {
                if let Err(refusal) = self.try_order(place(&what, &to)) {
                    refused.push((what, to, refusal));
                }
            }
            if refused.is_empty() || refused.len() == before {
                return refused;
            }
            wanted = refused.into_iter().map(|(what, to, _)| (what, to)).collect();
        }
    }

    fn plugs(&mut self, document: &Document) {
        for SwitchPart { name, plugged, .. } in &document.switches {
            for (port, what) in plugged {
                let command = Command::Plug { switch: name.clone(), port: port.clone(), what: what.clone() };
                self.order(&format!("port {port} of {name}"), command);
            }
        }
    }

    fn vms(&mut self, document: &Document, image: Option<&vm::Image>) {
        for part in &document.vms {
            let name = &part.name;
            let Some(vm) = vm::by_name(&self.after, name) else {
                match part.image(image) {
                    Ok(image) => self.order(&format!("VM {name}"), part.create(image)),
                    Err(sentence) => self.left(format!("VM {name}: {sentence}")),
                }
                continue;
            };
            if vm.phase == vm::Phase::Removing {
                self.left(format!("VM {name} is being removed; apply this again when it is gone"));
                continue;
            }
            if let Some(difference) = part.difference(vm) {
                self.left(format!(
                    "VM {name} {difference}; a VM cannot be changed yet: delete it and apply this again"
                ));
            }
        }
    }

    fn services(&mut self, document: &Document, image: Option<&vm::Image>) {
        for part in &document.services {
            let ServicePart { package, version, tenant } = part;
            let called = &part.name();
            let known = service::by_name(&self.after, called);
            if let Some(known) = known {
                let (phase, has) = (known.phase, known.version.clone());
                if phase == service::Phase::Removing {
                    self.left(format!("service {called} is being removed; apply this again when it is gone"));
                } else if version.as_ref().is_some_and(|version| *version != has) {
                    self.left(format!(
                        "service {called} has version {has} and not {}; a service cannot be upgraded yet: remove \
                         it, bring the other version with eli install",
                        version.as_deref().unwrap_or_default()
                    ));
                }
                continue;
            }
            let kept = self.after.packages.get(package).map(|package| package.bundle.clone());
            let wanted = |bundle: &crate::package::Bundle| {
                version.as_ref().is_none_or(|version| *version == bundle.manifest.version)
            };
            match (kept.filter(wanted), image) {
                (Some(bundle), Some(image)) => {
                    let command =
                        Command::InstallPackage { bundle, image: image.clone(), tenant: tenant.clone() };
                    self.order(&format!("service {called}"), command);
                }
                (Some(_), None) => self.left(format!("service {called}: there is no image to make VMs from")),
                (None, _) => {
                    let version = version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
                    self.left(format!(
                        "the package {package}{version} is not kept here; eli install FILE brings and installs it"
                    ));
                }
            }
        }
    }

    fn prune(&mut self, document: &Document) {
        let prune = document.prune;
        if prune.services {
            let named = |name: &str| document.services.iter().any(|part| part.name() == name);
            let gone = self.after.services.values();
            let gone = gone.filter(|s| s.phase != service::Phase::Removing && !named(&s.name));
            for (service, name) in gone.map(|service| (service.id, service.name.clone())).collect::<Vec<_>>()
            {
                self.order(&format!("service {name}"), Command::RemoveService { service, force: false });
            }
        }
        if prune.vms {
            let named = |name: &str| document.vms.iter().any(|part| part.name == name);
            let node = |id| service::of_vm(&self.after, id).next().is_some();
            let gone = self.after.vms.values();
            let gone = gone.filter(|vm| vm.phase != vm::Phase::Removing && !named(&vm.name) && !node(vm.id));
            for (vm, name) in gone.map(|vm| (vm.id, vm.name.clone())).collect::<Vec<_>>() {
                self.order(&format!("VM {name}"), Command::RemoveVm { vm, force: false });
            }
        }
        if prune.machines {
            let named: BTreeSet<_> = document
                .machines
                .iter()
                .filter_map(|part| self.find(part))
                .map(|machine| machine.id)
                .collect();
            let gone = self.after.machines.values();
            let gone = gone.filter(|machine| !machine.appliance && !named.contains(&machine.id));
            for (machine, name) in gone.map(|m| (m.id, m.name.clone())).collect::<Vec<_>>() {
                self.order(&format!("machine {name}"), Command::RemoveMachine { machine, force: false });
            }
        }
        if prune.profiles {
            let named = |name: &str| document.profiles.iter().any(|part| part.name == name);
            let gone: Vec<String> = self.after.profiles.keys().filter(|name| !named(name)).cloned().collect();
            for name in gone {
                self.order(&format!("profile {name}"), Command::RemoveProfile { name, force: false });
            }
        }
        if prune.reservations {
            let named = |address| document.reservations.iter().any(|part| part.address == address);
            let gone = self.after.leases.reserved.iter().map(|(_, address)| *address);
            for address in gone.filter(|address| !named(*address)).collect::<Vec<_>>() {
                self.order(&format!("reservation of {address}"), Command::Unreserve { address });
            }
        }
        if prune.subnets {
            let named = |name: &str| document.subnets.iter().any(|part| part.name == name);
            let gone: Vec<String> = self.after.subnets.keys().filter(|name| !named(name)).cloned().collect();
            for name in gone {
                let what = format!("subnet {name}");
                self.order(&what, Command::RemoveSubnet { name, force: false });
            }
        }
        if prune.switches {
            let named = |name: &str| document.switches.iter().any(|part| part.name == name);
            let gone: Vec<String> = self.after.switches.keys().filter(|name| !named(name)).cloned().collect();
            for name in gone {
                let what = format!("switch {name}");
                self.order(&what, Command::RemoveSwitch { name, force: false });
            }
        }
        if prune.users {
            let named = |name: &str| document.users.iter().any(|part| part.name == name);
            let gone: Vec<String> = self.after.users.keys().filter(|name| !named(name)).cloned().collect();
            for name in gone {
                self.order(&format!("user {name}"), Command::RemoveUser { name });
            }
        }
        if prune.tenants {
            let named = |name: &str| document.tenants.iter().any(|part| part.name == name);
            let gone: Vec<String> = self.after.tenants.keys().filter(|name| !named(name)).cloned().collect();
            for name in gone {
                self.order(&format!("tenant {name}"), Command::RemoveTenant { name });
            }
        }
        if prune.racks {
            let named = |name: &str| document.racks.iter().any(|part| part.name == name);
            let gone: Vec<String> = self.after.racks.keys().filter(|name| !named(name)).cloned().collect();
            for name in gone {
                let what = format!("rack {name}");
                self.order(&what, Command::RemoveRack { name, force: false });
            }
        }
    }

    fn find(&self, part: &MachinePart) -> Option<&Machine> {
        match (part.mac, &part.name) {
            (Some(mac), _) => machine::by_mac(&self.after, mac),
            (None, Some(name)) => machine::by_name(&self.after, name),
            (None, None) => None,
        }
    }
}

fn place(what: &Occupant, place: &Place) -> Command {
    let Place { rack, unit, height } = place.clone();
    match what {
        Occupant::Machine(machine) => Command::PlaceMachine { machine: *machine, rack, unit, height },
        Occupant::Switch(switch) => Command::PlaceSwitch { switch: switch.clone(), rack, unit, height },
    }
}

fn unplace(what: &Occupant) -> Command {
    match what {
        Occupant::Machine(machine) => Command::UnplaceMachine { machine: *machine },
        Occupant::Switch(switch) => Command::UnplaceSwitch { switch: switch.clone() },
    }
}

impl MachinePart {
    fn handle(&self) -> String {
        match (&self.name, self.mac) {
            (Some(name), Some(mac)) => format!("{name} ({mac})"),
            (Some(name), None) => name.clone(),
            (None, Some(mac)) => mac.to_string(),
            (None, None) => "without name and MAC address".to_owned(),
        }
    }
}

fn wanted_place(
    rack: Option<&str>,
    unit: Option<u32>,
    height: Option<u32>,
) -> Result<Option<Place>, &'static str> {
    match (rack, unit) {
        (None, None) => Ok(None),
        (Some(rack), Some(unit)) => {
            Ok(Some(Place { rack: rack.to_owned(), unit, height: height.unwrap_or(1) }))
        }
        (Some(_), None) | (None, Some(_)) => Err("a place in a rack has both `rack` and `unit`"),
    }
}

impl ServicePart {
    /// What the service is called.
    fn name(&self) -> String {
        tenant::called(self.tenant.as_deref(), &self.package)
    }
}

impl VmPart {
    fn create(&self, image: &vm::Image) -> Command {
        Command::CreateVm {
            spec: vm::NewVm {
                name: self.name.clone(),
                vcpus: self.vcpus.unwrap_or(1),
                memory_mib: self.memory_mib.unwrap_or(USUAL_MEMORY_MIB),
                disk_gib: self.disk_gib.unwrap_or(USUAL_DISK_GIB),
                image: image.clone(),
                recover: self.recover.unwrap_or_default(),
                tenant: self.tenant.clone(),
            },
        }
    }

    fn image<'a>(&self, image: Option<&'a vm::Image>) -> Result<&'a vm::Image, String> {
        let image = image.ok_or("there is no image to make VMs from")?;
        match &self.image {
            Some(name) if *name != image.name => {
                Err(format!("there is no image {name}; the site's guest image is {}", image.name))
            }
            Some(_) | None => Ok(image),
        }
    }

    /// `has 512 MiB memory and not 1024 MiB`, for what the document says of it.
    fn difference(&self, vm: &vm::Vm) -> Option<String> {
        let vcpus = self.vcpus.filter(|wanted| *wanted != vm.vcpus);
        let memory = self.memory_mib.filter(|wanted| *wanted != vm.memory_mib);
        let disk = self.disk_gib.filter(|wanted| *wanted != vm.disk_gib);
        let image = self.image.as_ref().filter(|wanted| **wanted != vm.image.name);
        let recover = self.recover.filter(|wanted| *wanted != vm.recover);
        let differences: Vec<String> = [
            vcpus.map(|wanted| format!("{} vCPU and not {wanted}", vm.vcpus)),
            memory.map(|wanted| format!("{} MiB memory and not {wanted} MiB", vm.memory_mib)),
            disk.map(|wanted| format!("a disk of {} GiB and not {wanted} GiB", vm.disk_gib)),
            recover.map(|_| "another way to be recovered".to_owned()),
            image.map(|wanted| format!("a disk made from {} and not from {wanted}", vm.image.name)),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!differences.is_empty()).then(|| format!("has {}", differences.join(", ")))
    }
}
