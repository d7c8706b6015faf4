//! `/api/v1/…/timeline`: what happened to a thing, events and packets and refusals in one list.

use axum::Extension;
use axum::extract::{Path, Query, State};
use fleet::{
    Fleet, Mac, MachineId, Refusal, ServiceId, VmId, machine, medium, profile, rack, subnet, switch, user, vm,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::guard::Person;
use super::{machines, services, vms};
use crate::core::person_and_place;
use crate::store::Entry;
use crate::{App, web};

const USUAL: u32 = 200;
const MOST: u32 = 5000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The last so many lines.
    limit: Option<u32>,
}

pub async fn get(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<Vec<Entry>>, web::Error> {
    Ok(axum::Json(entries(&app, person.tenant(), &id, wanted.limit.unwrap_or(USUAL).min(MOST)).await?))
}

/// The timeline of `id`: a machine, VM or service by id or name, a package by name, `rack:NAME`, `switch:NAME`,
/// `profile:NAME`, `medium:NAME`, or `site`.
pub async fn entries(
    app: &App,
    tenant: Option<&str>,
    id: &str,
    limit: u32,
) -> Result<Vec<Entry>, web::Error> {
    if let Some(tenant) = tenant {
        return for_tenant(app, tenant, id, limit).await;
    }
    let subjects = subjects(&app.core.fleet(), id)?;
    Ok(app.core.timeline(&subjects, limit).await?)
}

/// Of its VMs and services, while it has them. Addresses were others' before.
async fn for_tenant(app: &App, tenant: &str, id: &str, limit: u32) -> Result<Vec<Entry>, web::Error> {
    let view = app.core.seen_by(Some(tenant)).fleet;
    let subjects = match (vms::find(&view, id), services::find(&view, id)) {
        (Ok(vm), _) => vec![vm.id.to_string()],
        (Err(_), Ok(service)) => {
            let nodes = service.nodes.iter().filter(|vm| view.vms.contains_key(*vm)).map(ToString::to_string);
            [service.id.to_string()].into_iter().chain(nodes).collect()
        }
        (Err(_), Err(_)) => {
            return Err(Refusal::Missing { what: "VM or service", name: id.to_owned() }.into());
        }
    };
    let mut entries = app.core.timeline_for_tenant(&subjects, limit).await?;
    let fleet = app.core.fleet();
    for entry in &mut entries {
        entry.actor = actor_for(&fleet, tenant, &entry.actor);
    }
    Ok(entries)
}

/// Who did it, if it was somebody of the same tenant.
pub(super) fn actor_for(fleet: &Fleet, tenant: &str, actor: &str) -> String {
    let user = user::find(fleet, person_and_place(actor).0);
    let ours = user.is_some_and(|user| user.tenant.as_deref() == Some(tenant));
    if ours { actor.to_owned() } else { String::new() }
}

/// Everything that lines about `id` are written under: packets, for one, come from a MAC address.
fn subjects(fleet: &Fleet, id: &str) -> Result<Vec<String>, Refusal> {
    if id == "site" {
        return Ok(vec![id.to_owned()]);
    }
    if let Ok(machine) = machines::find(fleet, id) {
        let addresses = machines::addresses(fleet, machine).into_iter().map(|address| address.to_string());
        let macs = machine.macs.iter().map(ToString::to_string);
        return Ok([machine.id.to_string()].into_iter().chain(macs).chain(addresses).collect());
    }
    if let Ok(service) = services::find(fleet, id) {
        let nodes = service.nodes.iter().filter_map(|vm| fleet.vms.get(vm)).flat_map(|vm| of_vm(fleet, vm));
        return Ok([service.id.to_string(), service.name.clone()].into_iter().chain(nodes).collect());
    }
    if let Ok(vm) = vms::find(fleet, id) {
        return Ok(of_vm(fleet, vm));
    }
    if let Some(name) = id.strip_prefix("rack:").filter(|name| fleet.racks.contains_key(*name)) {
        return Ok(vec![rack::subject(name)]);
    }
    if let Some(switch) = id.strip_prefix("switch:").and_then(|name| fleet.switches.get(name)) {
        let nics = switch.ports.values().flat_map(|port| port.nics()).map(|mac| mac.to_string());
        return Ok([switch::subject(&switch.name)].into_iter().chain(nics).collect());
    }
    if let Some(name) = id.strip_prefix("profile:").filter(|name| profile::find(fleet, name).is_some()) {
        return Ok(vec![profile::subject(name)]);
    }
    if let Some(name) = id.strip_prefix("medium:").filter(|name| fleet.media.contains_key(*name)) {
        return Ok(vec![medium::subject(name)]);
    }
    if let Some(name) = id.strip_prefix("subnet:").filter(|name| subnet::by_name(fleet, name).is_some()) {
        return Ok(vec![subnet::subject(name)]);
    }
    // A machine that was never taken up is known by nothing else.
    if let Ok(mac) = id.parse::<Mac>() {
        let machine = machine::by_mac(fleet, mac).map(|machine| machine.id.to_string());
        let vm = vm::by_mac(fleet, mac).map(|vm| vm.id.to_string());
        return Ok(machine.into_iter().chain(vm).chain([mac.to_string()]).collect());
    }
    // What was removed has its history still, and in it what is left over.
    let once = |text: &str| {
        let machine = text.parse().is_ok_and(|id: MachineId| (1..=fleet.last_machine).contains(&id.0));
        let vm = text.parse().is_ok_and(|id: VmId| (1..=fleet.last_vm).contains(&id.0));
        let service = text.parse().is_ok_and(|id: ServiceId| (1..=fleet.last_service).contains(&id.0));
        machine || vm || service
    };
    if fleet.packages.contains_key(id) || once(id) {
        return Ok(vec![id.to_owned()]);
    }
    Err(Refusal::Missing {
        what: "machine, VM, service, package, rack, switch, subnet, profile or medium",
        name: id.to_owned(),
    })
}

fn of_vm(fleet: &Fleet, vm: &fleet::vm::Vm) -> Vec<String> {
    let address = fleet.leases.address(vm.mac).map(|address| address.to_string());
    [vm.id.to_string(), vm.mac.to_string()].into_iter().chain(address).collect()
}
