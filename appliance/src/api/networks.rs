//! `/api/v1/subnets`, `/reservations`, `/leases`, `/networks`: which addresses are given where, and who else gives any.

use std::net::Ipv4Addr;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use fleet::subnet::{self, Subnet};
use fleet::{Command, Fleet, Mac, Refusal, Timestamp, lease};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::patch::Patch;
use super::{Changed, Force, Json, versions};
use crate::network::Wire;
use crate::{App, core, web};

/// A subnet and how full it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    #[serde(flatten)]
    pub subnet: Subnet,
    /// Its pool in words, also if no range was said: `10.77.1.0-10.77.255.254`.
    pub pool: Vec<String>,
    /// Addresses that can be given.
    pub size: u64,
    pub given: u64,
    /// For machines that have not come for them.
    pub reserved: u64,
    pub quarantined: u64,
    pub free: u64,
    /// Another DHCP server gives its addresses; here they are only learnt.
    #[serde(default)]
    pub foreign: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reservation {
    pub address: Ipv4Addr,
    pub mac: Mac,
    /// Of the machine or VM with this MAC address, or the MAC address.
    pub name: String,
    pub subnet: Option<String>,
    /// It has been given.
    pub given: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub mac: Mac,
    /// Of the machine or VM with this MAC address, or the MAC address.
    pub name: String,
    pub subnet: Option<String>,
    /// A machine that has said what it is, a VM, or one with a reservation. From others, addresses can be taken back.
    pub known: bool,
    /// When it was last asked for; absent if it was not since this daemon started.
    pub asked: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantine {
    pub address: Ipv4Addr,
    /// Who found that another machine answers to it.
    pub mac: Mac,
    pub name: String,
    pub until: Timestamp,
}

/// What `GET /networks` gives, and the page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Networks {
    pub subnets: Vec<Network>,
    pub reservations: Vec<Reservation>,
    pub quarantined: Vec<Quarantine>,
    /// How each NIC of the appliance is served, and which other DHCP servers are heard there.
    pub wires: Vec<Wire>,
    /// How many addresses are given; `GET /leases` lists them.
    pub leases: usize,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReservation {
    pub mac: Mac,
    pub address: Ipv4Addr,
}

pub async fn get(State(app): State<App>) -> axum::Json<Networks> {
    axum::Json(all(&app, &app.core.fleet()))
}

pub async fn subnets(State(app): State<App>, page: Page) -> Result<Part<Network>, web::Error> {
    page.of_all(networks(&app.core.fleet(), core::now()), |network| network.subnet.name.clone())
}

pub async fn subnet(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<axum::Json<Subnet>, web::Error> {
    Ok(axum::Json(find_subnet(&app.core.fleet(), &name)?))
}

fn find_subnet(fleet: &Fleet, name: &str) -> Result<Subnet, Refusal> {
    subnet::by_name(fleet, name).ok_or_else(|| Refusal::Missing { what: "subnet", name: name.to_owned() })
}

/// Adds it, or describes it anew.
pub async fn set_subnet(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(subnet): Json<Subnet>,
) -> Result<axum::Json<Changed>, web::Error> {
    let _turn = versions::turn(&app).await;
    versions::must_match(&headers, subnet::by_name(&app.core.fleet(), &name).as_ref())?;
    if subnet.name != name {
        let sentence = format!("the subnet is called {} in the path and {} in the body", name, subnet.name);
        return Err(Refusal::Invalid(sentence).into());
    }
    person.gives(&app, Command::SetSubnet { subnet }).await
}

pub async fn patch_subnet(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    headers: HeaderMap,
    patch: Patch,
) -> Result<axum::Json<Changed>, web::Error> {
    let _turn = versions::turn(&app).await;
    let current = find_subnet(&app.core.fleet(), &name)?;
    versions::must_match(&headers, Some(&current))?;
    let subnet: Subnet = patch.of(&current)?;
    if subnet.name != name {
        return Err(Refusal::Invalid(format!("a patch does not give {name} another name")).into());
    }
    person.gives(&app, Command::SetSubnet { subnet }).await
}

pub async fn remove_subnet(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::RemoveSubnet { name, force }).await
}

pub async fn reservations(State(app): State<App>, page: Page) -> Result<Part<Reservation>, web::Error> {
    page.of_all(reserved(&app.core.fleet()), |reservation| reservation.address)
}

pub async fn reserve(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(NewReservation { mac, address }): Json<NewReservation>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::Reserve { mac, address }).await
}

pub async fn unreserve(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(address): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::Unreserve { address: address_of(&address)? }).await
}

pub async fn leases(State(app): State<App>, page: Page) -> Result<Part<Lease>, web::Error> {
    let fleet = app.core.fleet();
    let after = page.after()?;
    let rest = fleet.leases.given.by_address().skip_while(|(address, _)| Some(*address) <= after);
    Ok(page.of(rest.map(|(address, mac)| document(&app, &fleet, address, mac)), |lease| lease.address))
}

/// Ends a lease, or a quarantine.
pub async fn free(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(address): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::FreeAddress { address: address_of(&address)?, force }).await
}

fn address_of(text: &str) -> Result<Ipv4Addr, Refusal> {
    text.parse().map_err(|_| Refusal::Invalid(format!("{text:?} is not an IPv4 address")))
}

pub fn all(app: &App, fleet: &Fleet) -> Networks {
    let now = core::now();
    let quarantined = fleet.leases.quarantined.values().filter(|quarantine| quarantine.until > now);
    Networks {
        subnets: networks(fleet, now),
        reservations: reserved(fleet),
        quarantined: quarantined
            .map(|quarantine| Quarantine {
                address: quarantine.address,
                mac: quarantine.mac,
                name: lease::holder_name(fleet, quarantine.mac),
                until: quarantine.until,
            })
            .collect(),
        wires: app.wires.all(),
        leases: fleet.leases.given.len(),
    }
}

fn networks(fleet: &Fleet, now: Timestamp) -> Vec<Network> {
    subnet::all(fleet)
        .map(|subnet| {
            let usage = lease::usage(fleet, &subnet, now);
            let own = subnet.name == subnet::OWN;
            Network {
                pool: subnet.pool().iter().map(ToString::to_string).collect(),
                size: usage.size,
                given: usage.given,
                reserved: usage.reserved,
                quarantined: usage.quarantined,
                free: usage.free(),
                foreign: own && fleet.site.as_ref().is_some_and(|site| site.foreign),
                subnet,
            }
        })
        .collect()
}

fn reserved(fleet: &Fleet) -> Vec<Reservation> {
    let mut reserved: Vec<Reservation> = fleet
        .leases
        .reserved
        .iter()
        .map(|(mac, address)| Reservation {
            address: *address,
            mac: *mac,
            name: lease::holder_name(fleet, *mac),
            subnet: subnet::of_address(fleet, *address).map(|subnet| subnet.name),
            given: fleet.leases.given.holder(*address) == Some(*mac),
        })
        .collect();
    reserved.sort_by_key(|reservation| reservation.address);
    reserved
}

/// In the order of addresses.
pub fn given<'a>(app: &'a App, fleet: &'a Fleet) -> impl Iterator<Item = Lease> + 'a {
    fleet.leases.given.by_address().map(|(address, mac)| document(app, fleet, address, mac))
}

pub fn document(app: &App, fleet: &Fleet, address: Ipv4Addr, mac: Mac) -> Lease {
    Lease {
        address,
        mac,
        name: lease::holder_name(fleet, mac),
        subnet: subnet::of_address(fleet, address).map(|subnet| subnet.name),
        known: lease::is_known(fleet, mac),
        asked: app.seen.last(address),
    }
}
