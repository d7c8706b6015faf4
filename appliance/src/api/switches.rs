//! `/api/v1/switches`: their ports, and what is plugged in.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use fleet::rack::{self, Occupant, Place};
use fleet::switch::{self, Plugged};
use fleet::{Command, Fleet, machine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, Force, Json};
use crate::{App, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Switch {
    pub name: String,
    /// As LLDP says it.
    pub chassis: Option<String>,
    /// Where it stands, as a sentence's end.
    pub place: Option<String>,
    pub ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SwitchPort")]
pub struct Port {
    pub name: String,
    pub by_hand: Option<Thing>,
    /// As LLDP says.
    pub heard: Vec<Thing>,
    pub contradiction: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thing {
    #[serde(flatten)]
    pub what: Plugged,
    /// `host-2 (52:54:00:00:00:02)`
    pub name: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSwitch {
    pub name: String,
    pub ports: Vec<String>,
    #[serde(default)]
    pub place: Option<Place>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plug {
    pub port: String,
    pub what: Plugged,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unplug {
    pub port: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    #[serde(default)]
    pub add: Vec<String>,
    #[serde(default)]
    pub remove: Vec<String>,
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Switch>, web::Error> {
    page.of_all(all(&app.core.fleet()), |switch| switch.name.clone())
}

pub async fn add(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(NewSwitch { name, ports, place }): Json<NewSwitch>,
) -> Result<(StatusCode, axum::Json<Changed>), web::Error> {
    Ok((StatusCode::CREATED, person.gives(&app, Command::AddSwitch { name, ports, place }).await?))
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::RemoveSwitch { name, force }).await
}

/// Adds and removes ports, all or none.
pub async fn ports(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(switch): Path<String>,
    Json(Ports { add, remove }): Json<Ports>,
) -> Result<axum::Json<Changed>, web::Error> {
    let commands = vec![
        Command::AddPorts { switch: switch.clone(), ports: add },
        Command::RemovePorts { switch, ports: remove },
    ];
    Ok(Changed::by(&app.core.execute_all(&person.actor(), commands, None).await?))
}

pub async fn plug(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(switch): Path<String>,
    Json(Plug { port, what }): Json<Plug>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::Plug { switch, port, what }).await
}

pub async fn unplug(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(switch): Path<String>,
    Json(Unplug { port }): Json<Unplug>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::Unplug { switch, port }).await
}

pub fn all(fleet: &Fleet) -> Vec<Switch> {
    fleet.switches.values().map(|switch| document(fleet, switch)).collect()
}

fn document(fleet: &Fleet, switch: &switch::Switch) -> Switch {
    let place = rack::place_of(fleet, &Occupant::Switch(switch.name.clone()));
    let thing = |what: Plugged| Thing { name: switch::name_of(fleet, &what), what };
    let mut ports: Vec<Port> = switch
        .ports
        .iter()
        .map(|(name, port)| Port {
            name: name.clone(),
            by_hand: port.by_hand.clone().map(thing),
            heard: port.heard.iter().map(|mac| thing(Plugged::Nic { mac: *mac })).collect(),
            contradiction: port.heard.first().and_then(|mac| switch::contradiction(fleet, *mac)),
        })
        .collect();
    ports.sort_by_cached_key(|port| natural(&port.name));
    Switch {
        name: switch.name.clone(),
        chassis: switch.chassis.clone(),
        place: place.map(|place| place.to_string()),
        ports,
    }
}

/// `Gi1/0/9` before `Gi1/0/10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(text);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (digits, after) = after.split_at(digits);
        parts.push((text.to_owned(), digits.parse().unwrap_or(u64::MAX)));
        rest = after;
    }
    parts
}

/// The ports that a machine's NICs are in, in words.
pub fn of_machine(fleet: &Fleet, machine: &machine::Machine) -> Vec<String> {
    let sockets = machine.macs.iter().filter_map(|mac| switch::socket_of(fleet, *mac));
    sockets.map(|socket| socket.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn ports_come_in_the_order_of_their_numbers() {
        let mut names = ["Gi1/0/10", "Gi1/0/9", "Gi1/0/1", "10", "9", "mgmt"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["9", "10", "Gi1/0/1", "Gi1/0/9", "Gi1/0/10", "mgmt"]);
    }
}
