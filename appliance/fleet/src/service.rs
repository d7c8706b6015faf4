//! Services: installed packages that answer on the network, and the registry that says where.
//!
//! ```text
//! Installing ──health check answers──▶ Answering ──remove──▶ Removing ──its VMs are gone──▶ (removed)
//! ```
//!
//! cancel: Installing ──▶ Removing; Removing ──▶ Installing while its VMs are there. remove by force: from every phase.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Ctx, Fleet, Refusal, ServiceId, Timestamp, VmId, is_label, package, tenant, vm};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    pub name: String,
    pub version: String,
    /// Of its bundle.
    pub sha256: String,
    pub nodes: Vec<VmId>,
    pub address: Ipv4Addr,
    pub port: u16,
    pub protocol: String,
    pub phase: Phase,
    pub since: Timestamp,
    /// When it was said that this phase lasts longer than it should.
    #[serde(default)]
    pub late: Option<Timestamp>,
    /// Whose it is; without one, the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
}

impl Service {
    /// The name of what it is installed from: a tenant's service is called after the tenant, too.
    pub fn package(&self) -> &str {
        let tenant = self.tenant.as_deref().unwrap_or_default();
        let rest = self.name.strip_prefix(tenant).and_then(|rest| rest.strip_prefix('-'));
        rest.filter(|_| self.tenant.is_some()).unwrap_or(&self.name)
    }

    /// Where it answers: `http://10.77.3.4:8080/`.
    pub fn url(&self) -> String {
        format!("{}://{}:{}/", self.protocol, self.address, self.port)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Installing,
    Answering,
    Removing,
}

impl Phase {
    /// How long it may last until the log says that it is late; `None` if it does not pass by itself.
    pub fn limit_secs(self) -> Option<u64> {
        match self {
            Phase::Installing => Some(900),
            Phase::Removing => Some(600),
            Phase::Answering => None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Phase::Installing => "installing",
            Phase::Answering => "answering",
            Phase::Removing => "being removed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Created(Service),
    Answering {
        service: ServiceId,
        at: Timestamp,
    },
    Removing {
        service: ServiceId,
        at: Timestamp,
    },
    /// It was to be removed, and is wanted again.
    Kept {
        service: ServiceId,
        at: Timestamp,
    },
    Late {
        service: ServiceId,
        what: String,
        at: Timestamp,
    },
    /// Its node is made anew.
    Restarting {
        service: ServiceId,
        at: Timestamp,
    },
    Removed {
        service: ServiceId,
        #[serde(default)]
        leftovers: Vec<String>,
    },
}

impl Event {
    pub(crate) fn service(&self) -> ServiceId {
        match self {
            Event::Created(service) => service.id,
            Event::Answering { service, .. }
            | Event::Removing { service, .. }
            | Event::Kept { service, .. }
            | Event::Late { service, .. }
            | Event::Restarting { service, .. }
            | Event::Removed { service, .. } => *service,
        }
    }
}

impl Event {
    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Removed { leftovers, .. } => leftovers,
            Event::Created(_)
            | Event::Answering { .. }
            | Event::Removing { .. }
            | Event::Kept { .. }
            | Event::Restarting { .. }
            | Event::Late { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Created(service) => {
                write!(
                    f,
                    "{} {} is being installed; it will answer at {}",
                    service.name,
                    service.version,
                    service.url()
                )
            }
            Event::Answering { .. } => f.write_str("Answering"),
            Event::Removing { .. } => f.write_str("To be removed"),
            Event::Kept { .. } => f.write_str("Not removed: it is installed again"),
            Event::Late { what, .. } => write!(f, "Is late: {what}"),
            Event::Restarting { .. } => f.write_str("Does not answer: its node is made anew"),
            Event::Removed { .. } => f.write_str("Removed"),
        }
    }
}

pub(crate) fn install(
    fleet: &Fleet,
    bundle: &package::Bundle,
    image: &vm::Image,
    tenant: Option<&str>,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let manifest = &bundle.manifest;
    if !is_label(&manifest.name) {
        return Err(Refusal::Invalid(format!("{:?} is not usable as a package's name", manifest.name)));
    }
    let called = tenant::called(tenant, &manifest.name);
    tenant::may_be_called(fleet, tenant, &called)?;
    if let Some(service) = by_name(fleet, &called) {
        return Err(Refusal::Conflict(format!(
            "{} {} is {} at {} already",
            service.name,
            service.version,
            service.phase.word(),
            service.url()
        )));
    }
    if manifest.nodes.min != 1 {
        return Err(Refusal::Invalid(format!(
            "{} wants {} nodes; this version puts a package on one node",
            manifest.name, manifest.nodes.min
        )));
    }

    let mut after = fleet.clone();
    let mut events = Vec::new();
    if fleet.packages.get(&manifest.name).is_none_or(|known| known.bundle != *bundle) {
        events.push(crate::Event::Package(package::Event::Added { bundle: bundle.clone() }));
    }
    // People may have named VMs so, too; after a few the search goes on at a number that nobody has had.
    let name = (1..100)
        .chain(fleet.last_vm + 1..)
        .map(|number| format!("{called}-{number}"))
        .find(|name| vm::by_name(fleet, name).is_none())
        .unwrap_or_else(|| called.clone());
    let node = vm::NewVm {
        name,
        vcpus: manifest.requires.vcpus,
        memory_mib: manifest.requires.memory_mib,
        disk_gib: manifest.requires.disk_gib,
        image: image.clone(),
        // Its package is installed again, and its data are not on it.
        recover: vm::Recover::Anew,
        tenant: tenant.map(str::to_owned),
    };
    events.extend(vm::create(fleet, &node, ctx)?);
    for event in &events {
        crate::evolve(&mut after, event);
    }
    let id = VmId(after.last_vm);
    let address = after.vms.get(&id).and_then(|vm| after.leases.address(vm.mac));
    let Some(address) = address else {
        return Err(Refusal::Conflict("there is no address for its node".to_owned()));
    };
    events.push(crate::Event::Service(Event::Created(Service {
        id: ServiceId(fleet.last_service + 1),
        name: called,
        version: manifest.version.clone(),
        sha256: bundle.sha256.clone(),
        nodes: vec![id],
        address,
        port: manifest.service.port,
        protocol: manifest.service.protocol.clone(),
        phase: Phase::Installing,
        since: ctx.now,
        late: None,
        tenant: tenant.map(Into::into),
    })));
    Ok(events)
}

pub fn by_name<'a>(fleet: &'a Fleet, name: &str) -> Option<&'a Service> {
    let services = fleet.index.services_by_name(name).filter_map(|service| fleet.services.get(&service));
    services.map(Arc::as_ref).find(|service| service.name == name)
}

/// The services that are installed from this package, the site's and those of tenants.
pub fn of_package<'a>(fleet: &'a Fleet, package: &'a str) -> impl Iterator<Item = &'a Service> {
    fleet.services.values().map(Arc::as_ref).filter(move |service| service.package() == package)
}

/// The services that this VM carries.
pub fn of_vm(fleet: &Fleet, vm: VmId) -> impl Iterator<Item = &Service> {
    fleet.index.services_of(vm).filter_map(|service| fleet.services.get(&service)).map(Arc::as_ref)
}

fn find(fleet: &Fleet, id: ServiceId) -> Result<&Service, Refusal> {
    fleet
        .services
        .get(&id)
        .map(Arc::as_ref)
        .ok_or_else(|| Refusal::Missing { what: "service", name: id.to_string() })
}

pub(crate) fn observe_answering(
    fleet: &Fleet,
    id: ServiceId,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let service = find(fleet, id)?;
    match service.phase {
        Phase::Installing => Ok(vec![crate::Event::Service(Event::Answering { service: id, at: ctx.now })]),
        Phase::Answering | Phase::Removing => Ok(Vec::new()),
    }
}

pub(crate) fn remove(
    fleet: &Fleet,
    id: ServiceId,
    force: bool,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let service = find(fleet, id)?;
    let nodes = || service.nodes.iter().filter_map(|vm| fleet.vms.get(vm));
    let removed = |leftovers| crate::Event::Service(Event::Removed { service: id, leftovers });
    if force {
        let leftovers = nodes().map(|vm| format!("its VM {} is still being removed", vm.name)).collect();
        let vms = nodes().filter_map(|node| vm::removing(node, ctx));
        return Ok(vms.chain([removed(leftovers)]).collect());
    }
    if service.phase == Phase::Removing {
        let gone = nodes().count() == 0;
        return Ok(gone.then(|| removed(Vec::new())).into_iter().collect());
    }
    let mut events = vec![crate::Event::Service(Event::Removing { service: id, at: ctx.now })];
    events.extend(nodes().filter_map(|node| vm::removing(node, ctx)));
    Ok(events)
}

pub(crate) fn cancel(fleet: &Fleet, id: ServiceId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let service = find(fleet, id)?;
    match service.phase {
        Phase::Installing => remove(fleet, id, false, ctx),
        Phase::Removing => {
            let vms: Option<Vec<_>> = service.nodes.iter().map(|vm| fleet.vms.get(vm)).collect();
            let Some(vms) = vms.filter(|_| fleet.packages.contains_key(service.package())) else {
                return Err(Refusal::Conflict(format!(
                    "{} cannot be kept: its VM or its package is gone already",
                    service.name
                )));
            };
            let removing = vms.into_iter().filter(|vm| vm.phase == vm::Phase::Removing);
            let kept = removing.map(|vm| vm::kept(vm, ctx));
            Ok(kept.chain([crate::Event::Service(Event::Kept { service: id, at: ctx.now })]).collect())
        }
        Phase::Answering => Err(Refusal::Conflict(format!(
            "{} is answering; nothing goes on with it that could be cancelled",
            service.name
        ))),
    }
}

/// It does not answer while its node is made anew.
pub(crate) fn restarting(service: &Service, ctx: Ctx) -> Option<crate::Event> {
    let event = crate::Event::Service(Event::Restarting { service: service.id, at: ctx.now });
    (service.phase == Phase::Answering).then_some(event)
}

/// Events that remove the services that lost their last node with this VM.
pub(crate) fn without_nodes(fleet: &Fleet, vm: VmId) -> Vec<crate::Event> {
    of_vm(fleet, vm)
        .filter(|service| !service.nodes.iter().any(|node| fleet.vms.contains_key(node)))
        .map(|service| {
            let leftovers = vec![format!("nothing answers at {} any more", service.url())];
            crate::Event::Service(Event::Removed { service: service.id, leftovers })
        })
        .collect()
}

/// The phase lasts longer than it should: said once.
pub(crate) fn record_late(
    fleet: &Fleet,
    id: ServiceId,
    what: &str,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let service = find(fleet, id)?;
    if service.late.is_some() || service.phase.limit_secs().is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Service(Event::Late { service: id, what: what.to_owned(), at: ctx.now })])
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    let mut enter = |id: &ServiceId, phase: Phase, at: &Timestamp| {
        fleet.change_service(*id, |service| {
            service.phase = phase;
            service.since = *at;
            service.late = None;
        });
    };
    match event {
        Event::Created(service) => {
            fleet.last_service = fleet.last_service.max(service.id.0);
            fleet.put_service(service.clone());
        }
        Event::Answering { service, at } => enter(service, Phase::Answering, at),
        Event::Removing { service, at } => enter(service, Phase::Removing, at),
        Event::Kept { service, at } | Event::Restarting { service, at } => {
            enter(service, Phase::Installing, at);
        }
        Event::Late { service, at, .. } => {
            fleet.change_service(*service, |service| service.late = Some(*at));
        }
        Event::Removed { service, .. } => fleet.remove_service(*service),
    }
}
