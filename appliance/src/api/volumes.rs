//! `/api/v1/volumes`: the disks of VMs. Each VM has one, in the pool of its host; it comes and goes with the VM.

use axum::extract::State;
use fleet::{Fleet, MachineId, Timestamp, VmId, vm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::images;
use super::paging::{Page, Part};
use crate::{App, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// As it is called in the pool of its host.
    pub name: String,
    /// being made, in use, being deleted
    pub phase: String,
    pub since: Timestamp,
    /// It grows up to this as it is written to.
    pub size_gib: u64,
    pub vm: VmId,
    pub vm_name: String,
    pub host: MachineId,
    pub host_name: String,
    /// The image that it was made from, by its id.
    pub image: String,
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Volume>, web::Error> {
    let fleet = app.core.fleet();
    let vms = fleet.vms.range(page.range::<VmId>()?).map(|(_, vm)| vm);
    Ok(page.of(vms.map(|vm| document(&fleet, vm)), |volume| volume.vm))
}

pub fn document(fleet: &Fleet, vm: &vm::Vm) -> Volume {
    let host = fleet.machines.get(&vm.host);
    Volume {
        name: vm.volume_name(),
        phase: word(vm.phase).to_owned(),
        since: vm.since,
        size_gib: vm.disk_gib,
        vm: vm.id,
        vm_name: vm.name.to_string(),
        host: vm.host,
        host_name: host.map_or_else(|| vm.host.to_string(), |machine| machine.name.to_string()),
        image: images::id_of(&vm.image.name, &vm.image.sha256),
    }
}

pub fn word(phase: vm::Phase) -> &'static str {
    match phase {
        vm::Phase::Wanted => "being made",
        vm::Phase::Running => "in use",
        vm::Phase::Removing => "being deleted",
    }
}
