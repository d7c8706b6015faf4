//! `/api/v1/vms`: virtual machines.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use fleet::{Command, Event, Fleet, Mac, MachineId, Plan, Refusal, Subject, Timestamp, VmId, service, vm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, Force, Json, Wait, waiting};
use crate::core::Seen;
use crate::{App, files, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vm {
    pub id: VmId,
    pub name: String,
    /// m0, without a name, where hosts are not seen.
    pub host: MachineId,
    pub host_name: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub disk_gib: u64,
    pub mac: Mac,
    pub address: Option<Ipv4Addr>,
    /// starting, running, being removed
    pub phase: String,
    pub since: Timestamp,
    pub waiting: Vec<Wait>,
    /// Whether something goes on with it that can be cancelled.
    pub cancellable: bool,
    /// When it was said that it takes longer than it should.
    pub late: Option<Timestamp>,
    /// The service that it carries.
    pub service: Option<String>,
    /// wait, anew: what becomes of it when its host is fenced.
    #[serde(default)]
    pub recover: vm::Recover,
    /// Whose it is, if not the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVm {
    pub name: String,
    pub memory_mib: u64,
    pub vcpus: u32,
    pub disk_gib: u64,
    /// What becomes of it when its host is fenced: it waits for its disk, or is made anew elsewhere.
    #[serde(default)]
    pub recover: vm::Recover,
    /// Whose it is; its name begins with the tenant's then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

pub async fn list(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    page: Page,
) -> Result<Part<Vm>, web::Error> {
    let Seen { fleet, plan, .. } = person.sees(&app);
    let vms = fleet.vms.range(page.range::<VmId>()?).map(|(_, vm)| vm);
    Ok(page.of(vms.map(|vm| document(&fleet, vm, &plan)), |vm| vm.id))
}

pub async fn create(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(new): Json<NewVm>,
) -> Result<(StatusCode, axum::Json<Changed>), web::Error> {
    let spec = vm::NewVm {
        name: new.name,
        vcpus: new.vcpus,
        memory_mib: new.memory_mib,
        disk_gib: new.disk_gib,
        image: guest_image(&app)?,
        recover: new.recover,
        tenant: person.makes_for(new.tenant),
    };
    let events = app.core.execute(&person.actor(), Command::CreateVm { spec }).await?;
    let mut changed = person.told(&events);
    changed.id = events.iter().find_map(|event| match event {
        Event::Vm(vm::Event::Created { vm, .. }) => Some(vm.id.to_string()),
        _ => None,
    });
    Ok((StatusCode::CREATED, changed))
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    let vm = find(&person.sees(&app).fleet, &id)?.id;
    person.gives(&app, Command::RemoveVm { vm, force }).await
}

pub async fn cancel(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let subject = Subject::Vm(find(&person.sees(&app).fleet, &id)?.id);
    person.gives(&app, Command::Cancel { subject }).await
}

/// The image that new VMs are made from.
pub fn guest_image(app: &App) -> Result<vm::Image, web::Error> {
    let image = files::manifest(&app.files).and_then(|manifest| manifest.guest_image());
    image.map_err(|error| web::Error::Broken(error.context("there is no image to make VMs from").into()))
}

pub fn all(fleet: &Fleet, plan: &Plan) -> Vec<Vm> {
    fleet.vms.values().map(|vm| document(fleet, vm, plan)).collect()
}

pub fn document(fleet: &Fleet, vm: &vm::Vm, plan: &Plan) -> Vm {
    let host = fleet.machines.get(&vm.host);
    let service = service::of_vm(fleet, vm.id).next();
    Vm {
        id: vm.id,
        name: vm.name.to_string(),
        host: vm.host,
        host_name: host.map(|machine| machine.name.to_string()).unwrap_or_default(),
        vcpus: vm.vcpus,
        memory_mib: vm.memory_mib,
        disk_gib: vm.disk_gib,
        mac: vm.mac,
        address: fleet.leases.address(vm.mac),
        phase: vm.phase.word().to_owned(),
        since: vm.since,
        waiting: waiting(plan, Subject::Vm(vm.id)),
        cancellable: service.is_none() && vm.phase.limit_secs().is_some(),
        late: vm.late,
        service: service.map(|service| service.name.clone()),
        recover: vm.recover,
        tenant: vm.tenant.as_deref().map(str::to_owned),
    }
}

/// By id or by name.
pub fn find<'a>(fleet: &'a Fleet, id: &str) -> Result<&'a vm::Vm, Refusal> {
    let by_id = id.parse().ok().and_then(|id: VmId| fleet.vms.get(&id)).map(Arc::as_ref);
    let known = by_id.or_else(|| vm::by_name(fleet, id));
    known.ok_or_else(|| Refusal::Missing { what: "VM", name: id.to_owned() })
}
