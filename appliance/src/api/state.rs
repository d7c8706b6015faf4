//! `GET /api/v1/state`: everything there is, in one document.

use std::net::Ipv4Addr;
use std::path::Path;

use axum::Extension;
use axum::extract::State as Extract;
use fleet::medium::Medium;
use fleet::site::Policy;
use fleet::user::{self, User};
use fleet::{Fleet, Timestamp};
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::hosts::{self, Host};
use super::machines::{self, Machine};
use super::networks::{self, Lease, Networks};
use super::packages::{self, Package};
use super::racks::{self, Rack};
use super::services::{self, Service};
use super::switches::{self, Switch};
use super::systems::{self, Listed};
use super::vms::{self, Vm};
use crate::core::Seen;
use crate::{App, core};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// Grows with every change.
    pub revision: u64,
    pub now: Timestamp,
    pub site: Option<Site>,
    pub daemon: Daemon,
    pub policy: Policy,
    pub machines: Vec<Machine>,
    pub hosts: Vec<Host>,
    pub vms: Vec<Vm>,
    pub services: Vec<Service>,
    pub packages: Vec<Package>,
    pub racks: Vec<Rack>,
    pub switches: Vec<Switch>,
    #[serde(default)]
    pub media: Vec<Medium>,
    #[serde(default)]
    pub profiles: Vec<Listed>,
    pub networks: Networks,
    #[serde(default)]
    pub users: Vec<User>,
    /// Those with the lowest addresses; `GET /leases` has all.
    #[serde(default)]
    pub leases: Vec<Lease>,
}

/// Addresses in one document; there may be a hundred thousand of them.
const LEASES: usize = 200;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Site {
    pub id: uuid::Uuid,
    #[schemars(with = "String")]
    pub network: Ipv4Net,
    /// The appliance's own address in it.
    pub address: Ipv4Addr,
    pub domain: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Daemon {
    pub version: String,
    /// Memory of the process that is in RAM now.
    pub resident_bytes: Option<u64>,
    /// SHA-256 of the site's certificate authority, as the appliance's screen shows it.
    pub fingerprint: String,
    /// Why nothing survives a restart of this machine, where that is so.
    pub memory_only: Option<String>,
    /// Nothing here is real; another site's log is tried out.
    #[serde(default)]
    pub rehearsal: bool,
    /// Why nothing can be changed now: the database is away.
    #[serde(default)]
    pub away: Option<String>,
}

pub async fn get(Extract(app): Extract<App>, Extension(person): Extension<Person>) -> axum::Json<State> {
    axum::Json(match person.tenant() {
        Some(tenant) => of_tenant(&app, tenant),
        None => state(&app),
    })
}

/// What a tenant has and can install; of the site nothing but that it is there.
fn of_tenant(app: &App, tenant: &str) -> State {
    let Seen { fleet, plan, .. } = app.core.seen_by(Some(tenant));
    State {
        revision: *app.core.changes().borrow(),
        now: core::now(),
        site: None,
        daemon: daemon_for_tenant(app),
        policy: Policy::default(),
        machines: Vec::new(),
        hosts: Vec::new(),
        vms: vms::all(&fleet, &plan),
        services: services::all(&fleet, &plan),
        packages: packages::all(&fleet),
        racks: Vec::new(),
        switches: Vec::new(),
        media: Vec::new(),
        profiles: Vec::new(),
        networks: Networks::default(),
        users: Vec::new(),
        leases: Vec::new(),
    }
}

/// Which program it is, and whether something can be changed now.
pub fn daemon_for_tenant(app: &App) -> Daemon {
    let away = app.core.away().map(|_| "the site's people know more".to_owned());
    Daemon { resident_bytes: None, memory_only: None, away, ..daemon(app) }
}

pub fn state(app: &App) -> State {
    let fleet = app.core.fleet();
    let observed = app.core.observed();
    let plan = app.core.plan();
    State {
        revision: *app.core.changes().borrow(),
        now: core::now(),
        site: site(&fleet),
        daemon: daemon(app),
        policy: fleet.policy.clone(),
        machines: machines::all(app, &fleet, &observed, &plan),
        hosts: hosts::all(&fleet, &observed),
        vms: vms::all(&fleet, &plan),
        services: services::all(&fleet, &plan),
        packages: packages::all(&fleet),
        racks: racks::all(&fleet),
        switches: switches::all(&fleet),
        media: systems::all_media(&fleet),
        profiles: systems::all_profiles(&fleet),
        networks: networks::all(app, &fleet),
        users: user::all(&fleet).collect(),
        leases: networks::given(app, &fleet).take(LEASES).collect(),
    }
}

pub fn site(fleet: &Fleet) -> Option<Site> {
    let site = fleet.site.as_ref()?;
    Some(Site { id: site.id, network: site.network, address: site.address, domain: site.domain.clone() })
}

pub fn daemon(app: &App) -> Daemon {
    Daemon {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        resident_bytes: resident_bytes(),
        fingerprint: app.ca.fingerprint(),
        memory_only: memory_only(),
        rehearsal: app.rehearsal,
        away: app.core.away().map(|away| away.why),
    }
}

/// proc_pid_status(5): VmRSS is in kB.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Left by the initrd when it found no disk that it may use.
fn memory_only() -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/run/elisandra/memory-only")).ok()?;
    Some(text.trim().to_owned())
}
