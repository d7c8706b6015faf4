//! Tenants: people who share a site and see nothing of each other, and of the site only what they need.
//!
//! What a tenant sees is a fleet of its own ([`view`]), in which there is nothing else: who renders from it cannot show
//! what is not in it. What a tenant may order is asked again by the core ([`decide`]), because commands come as data, too.

mod shown;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Command, Ctx, Fleet, Refusal, Subject, Timestamp, VmId, service, vm};

pub use shown::{observed, owns, plan, simulate, told, view};

/// So that something is left of a name of 63 characters.
const LONGEST: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tenant {
    pub name: String,
    pub limits: Limits,
    pub added: Timestamp,
}

/// What all its VMs may take together; without a number, what there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_gib: Option<u64>,
}

/// `at most 4 VMs, 8 vCPUs`
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limits { vms, vcpus, memory_mib, disk_gib } = self;
        let said: Vec<String> = [
            vms.map(|most| format!("{most} VMs")),
            vcpus.map(|most| format!("{most} vCPUs")),
            memory_mib.map(|most| format!("{most} MiB memory")),
            disk_gib.map(|most| format!("{most} GiB disk")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if said.is_empty() { f.write_str("no limits") } else { write!(f, "at most {}", said.join(", ")) }
    }
}

/// What the VMs of a tenant take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "TenantUsage"))]
pub struct Usage {
    pub vms: u64,
    pub vcpus: u64,
    pub memory_mib: u64,
    pub disk_gib: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Added { name: String, limits: Limits, at: Timestamp },
    LimitsSet { name: String, limits: Limits },
    Removed { name: String },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        match self {
            Event::Added { name, .. } | Event::LimitsSet { name, .. } | Event::Removed { name } => {
                subject(name)
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Added { name, limits, .. } => write!(f, "Tenant {name} was added, {limits}"),
            Event::LimitsSet { name, limits } => write!(f, "Tenant {name} has {limits} now"),
            Event::Removed { name } => write!(f, "Tenant {name} was removed"),
        }
    }
}

/// What the timeline of a tenant is found by.
pub fn subject(name: &str) -> String {
    format!("tenant:{name}")
}

pub fn find<'a>(fleet: &'a Fleet, name: &str) -> Result<&'a Tenant, Refusal> {
    let known = fleet.tenants.get(name).map(Arc::as_ref);
    known.ok_or_else(|| Refusal::Missing { what: "tenant", name: name.to_owned() })
}

/// What a tenant's thing is called: `acme-web`. Without a tenant, it has the name alone.
pub fn called(tenant: Option<&str>, name: &str) -> String {
    tenant.map_or_else(|| name.to_owned(), |tenant| format!("{tenant}-{name}"))
}

pub fn vms<'a>(fleet: &'a Fleet, tenant: &str) -> impl Iterator<Item = &'a Arc<vm::Vm>> {
    fleet.index.vms_of_tenant(tenant).filter_map(|vm| fleet.vms.get(&vm))
}

pub fn services<'a>(fleet: &'a Fleet, tenant: &str) -> impl Iterator<Item = &'a Arc<service::Service>> {
    fleet.index.services_of_tenant(tenant).filter_map(|service| fleet.services.get(&service))
}

/// It costs what the tenant has.
pub fn usage(fleet: &Fleet, tenant: &str) -> Usage {
    vms(fleet, tenant).fold(Usage::default(), |usage, vm| Usage {
        vms: usage.vms + 1,
        vcpus: usage.vcpus + u64::from(vm.vcpus),
        memory_mib: usage.memory_mib.saturating_add(vm.memory_mib),
        disk_gib: usage.disk_gib.saturating_add(vm.disk_gib),
    })
}

pub(crate) fn add(fleet: &Fleet, name: &str, limits: Limits, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let usable = (1..=LONGEST).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !usable {
        return Err(Refusal::Invalid(format!(
            "{name:?} is not usable as a tenant's name: a-z and 0-9, at most {LONGEST} characters"
        )));
    }
    if fleet.tenants.contains_key(name) {
        return Err(Refusal::Conflict(format!("there is a tenant {name} already")));
    }
    let prefix = format!("{name}-");
    let vms = fleet.vms.values().map(|vm| ("VM", &*vm.name));
    let services = fleet.services.values().map(|service| ("service", service.name.as_str()));
    if let Some((what, taken)) = vms.chain(services).find(|(_, taken)| taken.starts_with(&prefix)) {
        return Err(Refusal::Conflict(format!(
            "the {what} {taken} is the site's, and is called as if it were {name}'s; remove it, or choose another name"
        )));
    }
    Ok(vec![crate::Event::Tenant(Event::Added { name: name.to_owned(), limits, at: ctx.now })])
}

/// What it has already stays, also beyond its new limits.
pub(crate) fn set(fleet: &Fleet, name: &str, limits: Limits) -> Result<Vec<crate::Event>, Refusal> {
    if find(fleet, name)?.limits == limits {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Tenant(Event::LimitsSet { name: name.to_owned(), limits })])
}

pub(crate) fn remove(fleet: &Fleet, name: &str) -> Result<Vec<crate::Event>, Refusal> {
    find(fleet, name)?;
    let has = [
        (vms(fleet, name).count(), "VM"),
        (services(fleet, name).count(), "service"),
        (fleet.users.values().filter(|user| user.tenant.as_deref() == Some(name)).count(), "user"),
    ];
    let still: Vec<String> = has
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
        .collect();
    if !still.is_empty() {
        let still = still.join(", ");
        return Err(Refusal::Conflict(format!("{name} still has {still}; remove these first")));
    }
    Ok(vec![crate::Event::Tenant(Event::Removed { name: name.to_owned() })])
}

/// Whether something may have this name: a tenant's things are called after it, and nothing else is.
pub(crate) fn may_be_called(fleet: &Fleet, tenant: Option<&str>, name: &str) -> Result<(), Refusal> {
    let first = name.split_once('-').map(|(first, _)| first);
    match (tenant, first) {
        (Some(tenant), first) => {
            find(fleet, tenant)?;
            if first == Some(tenant) {
                return Ok(());
            }
            Err(Refusal::Invalid(format!("names of what {tenant} has begin with {tenant}-; {name} does not")))
        }
        (None, Some(first)) if fleet.tenants.contains_key(first) => Err(Refusal::Conflict(format!(
            "names that begin with {first}- are for what the tenant {first} has; say --tenant {first}, or choose \
             another name"
        ))),
        (None, Some(_) | None) => Ok(()),
    }
}

/// Whether a tenant's limits have room for another VM.
pub(crate) fn has_room(fleet: &Fleet, tenant: &str, new: &vm::NewVm) -> Result<(), Refusal> {
    let (limits, usage) = (find(fleet, tenant)?.limits, usage(fleet, tenant));
    let over = [
        (limits.vms, usage.vms, 1, "VMs"),
        (limits.vcpus, usage.vcpus, u64::from(new.vcpus), "vCPUs"),
        (limits.memory_mib, usage.memory_mib, new.memory_mib, "MiB memory"),
        (limits.disk_gib, usage.disk_gib, new.disk_gib, "GiB disk"),
    ];
    let over = over
        .into_iter()
        .filter_map(|(most, has, more, unit)| Some((most?, has, more, unit)))
        .find(|(most, has, more, _)| has.saturating_add(*more) > *most);
    match over {
        Some((most, has, more, unit)) => Err(Refusal::Conflict(format!(
            "{tenant} may have {most} {unit} and has {has}; {} wants {more} more",
            new.name
        ))),
        None => Ok(()),
    }
}

/// As [`crate::decide`], for somebody of a tenant: refuses what a tenant may not order, and says nothing of hosts.
pub fn decide(
    fleet: &Fleet,
    tenant: &str,
    command: &Command,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    may_order(fleet, tenant, command)?;
    crate::decide(fleet, command, ctx).map_err(Refusal::told)
}

/// Whether somebody of a tenant may order it. What another has is answered as what does not exist.
pub fn may_order(fleet: &Fleet, tenant: &str, command: &Command) -> Result<(), Refusal> {
    let for_itself = |named: &Option<String>| match named.as_deref() == Some(tenant) {
        true => Ok(()),
        false => {
            Err(Refusal::NotTenants(format!("what {tenant} makes is {tenant}'s; say so with its tenant")))
        }
    };
    match command {
        Command::CreateVm { spec } => for_itself(&spec.tenant),
        Command::InstallPackage { bundle, tenant: named, .. } => {
            for_itself(named)?;
            // A bundle is the same for all who install it.
            match fleet.packages.get(&bundle.manifest.name).is_some_and(|known| known.bundle == *bundle) {
                true => Ok(()),
                false => Err(Refusal::NotTenants(format!(
                    "bundles are brought by the site; {tenant} installs what is kept already"
                ))),
            }
        }
        Command::RemoveVm { vm, force } => own_vm(fleet, tenant, *vm).and_then(|()| without(*force, tenant)),
        Command::RemoveService { service, force } => {
            own_service(fleet, tenant, *service).and_then(|()| without(*force, tenant))
        }
        Command::Cancel { subject: Subject::Vm(vm) } => own_vm(fleet, tenant, *vm),
        Command::Cancel { subject: Subject::Service(service) } => own_service(fleet, tenant, *service),
        Command::Cancel { subject: Subject::Machine(_) }
        | Command::Found { .. }
        | Command::SetPolicy { .. }
        | Command::Sight { .. }
        | Command::SetSubnet { .. }
        | Command::RemoveSubnet { .. }
        | Command::Reserve { .. }
        | Command::Unreserve { .. }
        | Command::FreeAddress { .. }
        | Command::Quarantine { .. }
        | Command::TakeBack { .. }
        | Command::Learn { .. }
        | Command::ObserveServer { .. }
        | Command::Report { .. }
        | Command::RecordAppliance { .. }
        | Command::BootOnce { .. }
        | Command::BootedOnce { .. }
        | Command::Adopt { .. }
        | Command::ServeKickstart { .. }
        | Command::ServeAnswers { .. }
        | Command::PhoneHome { .. }
        | Command::FailInstall { .. }
        | Command::RecordLate { .. }
        | Command::RemoveMachine { .. }
        | Command::Drain { .. }
        | Command::Undrain { .. }
        | Command::Reimage { .. }
        | Command::EraseMachine { .. }
        | Command::ReportErased { .. }
        | Command::CheckDisks { .. }
        | Command::ReportChecked { .. }
        | Command::ReportAccount { .. }
        | Command::FindBmc { .. }
        | Command::TryLogin { .. }
        | Command::TakeLogin { .. }
        | Command::EndSearch { .. }
        | Command::SetStrip { .. }
        | Command::RemoveStrip { .. }
        | Command::BeginStrips { .. }
        | Command::DoubtOff { .. }
        | Command::Retire { .. }
        | Command::Unretire { .. }
        | Command::SetBmc { .. }
        | Command::RemoveBmc { .. }
        | Command::PinBmc { .. }
        | Command::Power { .. }
        | Command::ReportPower { .. }
        | Command::Light { .. }
        | Command::Fence { .. }
        | Command::FenceSuspect { .. }
        | Command::AttestOff { .. }
        | Command::Unfence { .. }
        | Command::ImagineFailure { .. }
        | Command::Suspect { .. }
        | Command::ObserveHeard { .. }
        | Command::RecoverVm { .. }
        | Command::Enroll { .. }
        | Command::ObserveHost { .. }
        | Command::ObserveVmRunning { .. }
        | Command::ObserveVmGone { .. }
        | Command::ObserveAnswering { .. }
        | Command::RemovePackage { .. }
        | Command::AddRack { .. }
        | Command::RemoveRack { .. }
        | Command::PlaceMachine { .. }
        | Command::UnplaceMachine { .. }
        | Command::AddSwitch { .. }
        | Command::RemoveSwitch { .. }
        | Command::PlaceSwitch { .. }
        | Command::UnplaceSwitch { .. }
        | Command::AddPorts { .. }
        | Command::RemovePorts { .. }
        | Command::Plug { .. }
        | Command::Unplug { .. }
        | Command::SetProfile { .. }
        | Command::RemoveProfile { .. }
        | Command::AddMedium { .. }
        | Command::RemoveMedium { .. }
        | Command::AddUser { .. }
        | Command::SetRole { .. }
        | Command::RemoveUser { .. }
        | Command::AddTenant { .. }
        | Command::SetTenant { .. }
        | Command::RemoveTenant { .. }
        | Command::ObserveNeighbour { .. }
        | Command::Restore { .. } => Err(of_the_site()),
    }
}

/// The same whether what was named is there or not.
pub fn of_the_site() -> Refusal {
    Refusal::NotTenants("this is of the site, and not for tenants".to_owned())
}

fn own_vm(fleet: &Fleet, tenant: &str, id: VmId) -> Result<(), Refusal> {
    let own = fleet.vms.get(&id).is_some_and(|vm| vm.tenant.as_deref() == Some(tenant));
    if own { Ok(()) } else { Err(Refusal::Missing { what: "VM", name: id.to_string() }) }
}

fn own_service(fleet: &Fleet, tenant: &str, id: crate::ServiceId) -> Result<(), Refusal> {
    let own = fleet.services.get(&id).is_some_and(|service| service.tenant.as_deref() == Some(tenant));
    if own { Ok(()) } else { Err(Refusal::Missing { what: "service", name: id.to_string() }) }
}

/// What is removed by force is left on hosts, which a tenant does not see.
fn without(force: bool, tenant: &str) -> Result<(), Refusal> {
    match force {
        false => Ok(()),
        true => Err(Refusal::NotTenants(format!("{tenant} is a tenant; by force the site removes"))),
    }
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Added { name, limits, at } => {
            let tenant = Tenant { name: name.clone(), limits: *limits, added: *at };
            fleet.tenants.insert(name.clone(), Arc::new(tenant));
        }
        Event::LimitsSet { name, limits } => {
            if let Some(tenant) = fleet.tenants.get_mut(name) {
                Arc::make_mut(tenant).limits = *limits;
            }
        }
        Event::Removed { name } => {
            fleet.tenants.remove(name);
        }
    }
}
