//! `/api/v1/hosts`: machines that carry VMs, and the room they have.

use axum::Extension;
use axum::extract::{Path, State};
use fleet::{Command, Fleet, MachineId, NodeId, Observed, Timestamp, VmId, host, vm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, machines};
use crate::{App, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    pub id: MachineId,
    pub name: String,
    pub hypervisor: String,
    pub threads: u32,
    pub memory_mib: u64,
    /// What VMs may still take.
    pub free_memory_mib: u64,
    /// What is given to VMs; the rest is kept for the host itself.
    pub vm_memory_mib: u64,
    pub volume_bytes: u64,
    pub volume_free_bytes: Option<u64>,
    pub ready_since: Timestamp,
    /// When its agent last spoke.
    pub seen_at: Option<Timestamp>,
    pub vms: Vec<VmId>,
    /// No new VM is placed on it since then.
    pub draining_since: Option<Timestamp>,
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Host>, web::Error> {
    let (fleet, observed) = (app.core.fleet(), app.core.observed());
    let hosts = fleet.hosts.range(page.range::<MachineId>()?).map(|(_, host)| host);
    Ok(page.of(hosts.map(|host| document(&fleet, host, &observed)), |host| host.id))
}

pub async fn drain(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::Drain { machine }).await
}

pub async fn undrain(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::Undrain { machine }).await
}

pub fn all(fleet: &Fleet, observed: &Observed) -> Vec<Host> {
    fleet.hosts.values().map(|host| document(fleet, host, observed)).collect()
}

pub fn document(fleet: &Fleet, host: &host::Host, observed: &Observed) -> Host {
    let seen = observed.get(&NodeId::Machine(host.machine));
    let machine = fleet.machines.get(&host.machine);
    Host {
        id: host.machine,
        name: machine.map_or_else(|| host.machine.to_string(), |machine| machine.name.to_string()),
        hypervisor: host.hypervisor.clone(),
        threads: host.threads,
        memory_mib: host.memory_mib,
        free_memory_mib: host::free_memory_mib(fleet, host),
        vm_memory_mib: fleet.index.usage(host.machine).memory_mib,
        volume_bytes: host.volume_bytes,
        volume_free_bytes: seen
            .and_then(|node| node.said.capacity.as_ref())
            .map(|said| said.volume_free_bytes),
        ready_since: host.ready_since,
        draining_since: host.draining_since,
        seen_at: seen.map(|node| node.at),
        vms: vm::on_host(fleet, host.machine).map(|vm| vm.id).collect(),
    }
}
