//! `/api/v1/services`: the registry of what answers on the network, and where.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use fleet::{Command, Fleet, Plan, Refusal, ServiceId, Subject, Timestamp, VmId, service};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, Force, Wait, waiting};
use crate::core::Seen;
use crate::{App, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    pub id: ServiceId,
    pub name: String,
    pub version: String,
    pub summary: Option<String>,
    /// Where it answers.
    pub url: String,
    pub address: Ipv4Addr,
    pub port: u16,
    /// installing, answering, being removed
    pub phase: String,
    pub since: Timestamp,
    pub nodes: Vec<Node>,
    pub waiting: Vec<Wait>,
    /// Whether something goes on with it that can be cancelled.
    pub cancellable: bool,
    /// When it was said that it takes longer than it should.
    pub late: Option<Timestamp>,
    /// Whose it is, if not the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A VM that carries a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ServiceNode")]
pub struct Node {
    pub id: VmId,
    pub name: String,
    pub address: Option<Ipv4Addr>,
}

pub async fn list(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    page: Page,
) -> Result<Part<Service>, web::Error> {
    let Seen { fleet, plan, .. } = person.sees(&app);
    let services = fleet.services.range(page.range::<ServiceId>()?).map(|(_, service)| service);
    Ok(page.of(services.map(|service| document(&fleet, service, &plan)), |service| service.id))
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    let service = find(&person.sees(&app).fleet, &id)?.id;
    person.gives(&app, Command::RemoveService { service, force }).await
}

pub async fn cancel(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let subject = Subject::Service(find(&person.sees(&app).fleet, &id)?.id);
    person.gives(&app, Command::Cancel { subject }).await
}

pub fn all(fleet: &Fleet, plan: &Plan) -> Vec<Service> {
    fleet.services.values().map(|service| document(fleet, service, plan)).collect()
}

pub fn document(fleet: &Fleet, service: &service::Service, plan: &Plan) -> Service {
    let package = fleet.packages.get(service.package());
    let nodes = service.nodes.iter().map(|id| {
        let vm = fleet.vms.get(id);
        Node {
            id: *id,
            name: vm.map_or_else(|| id.to_string(), |vm| vm.name.to_string()),
            address: vm.and_then(|vm| fleet.leases.address(vm.mac)),
        }
    });
    Service {
        id: service.id,
        name: service.name.clone(),
        version: service.version.clone(),
        summary: package.map(|package| package.bundle.manifest.summary.clone()),
        url: service.url(),
        address: service.address,
        port: service.port,
        phase: service.phase.word().to_owned(),
        since: service.since,
        nodes: nodes.collect(),
        waiting: waiting(plan, Subject::Service(service.id)),
        cancellable: service.phase.limit_secs().is_some(),
        late: service.late,
        tenant: service.tenant.as_deref().map(str::to_owned),
    }
}

/// By id or by name.
pub fn find<'a>(fleet: &'a Fleet, id: &str) -> Result<&'a service::Service, Refusal> {
    let by_id = id.parse().ok().and_then(|id: ServiceId| fleet.services.get(&id)).map(Arc::as_ref);
    let known = by_id.or_else(|| service::by_name(fleet, id));
    known.ok_or_else(|| Refusal::Missing { what: "service", name: id.to_owned() })
}
