//! `/api/v1/racks`: where machines and switches stand.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use fleet::rack::{self, Occupant, Place};
use fleet::{Command, Fleet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, Force, Json, machines};
use crate::{App, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rack {
    pub name: String,
    pub units: u32,
    /// The lowest unit last, as one stands before it.
    pub holds: Vec<Held>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// The lowest that it takes, counted from 1 at the bottom.
    pub unit: u32,
    pub height: u32,
    /// machine, switch
    pub what: String,
    pub id: String,
    pub name: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRack {
    pub name: String,
    pub units: u32,
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Rack>, web::Error> {
    page.of_all(all(&app.core.fleet()), |rack| rack.name.clone())
}

pub async fn add(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(NewRack { name, units }): Json<NewRack>,
) -> Result<(StatusCode, axum::Json<Changed>), web::Error> {
    Ok((StatusCode::CREATED, person.gives(&app, Command::AddRack { name, units }).await?))
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::RemoveRack { name, force }).await
}

/// Puts a machine into a rack, or moves it.
pub async fn place_machine(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(Place { rack, unit, height }): Json<Place>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    let command = Command::PlaceMachine { machine, rack, unit, height };
    person.gives(&app, command).await
}

pub async fn unplace_machine(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::UnplaceMachine { machine }).await
}

pub async fn place_switch(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(switch): Path<String>,
    Json(Place { rack, unit, height }): Json<Place>,
) -> Result<axum::Json<Changed>, web::Error> {
    let command = Command::PlaceSwitch { switch, rack, unit, height };
    person.gives(&app, command).await
}

pub async fn unplace_switch(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(switch): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::UnplaceSwitch { switch }).await
}

pub fn all(fleet: &Fleet) -> Vec<Rack> {
    fleet.racks.values().map(|rack| document(fleet, rack)).collect()
}

fn document(fleet: &Fleet, rack: &rack::Rack) -> Rack {
    let holds = rack.holds.iter().rev().map(|(unit, held)| {
        let (what, id) = match &held.what {
            Occupant::Machine(machine) => ("machine", machine.to_string()),
            Occupant::Switch(switch) => ("switch", switch.clone()),
        };
        let name = rack::name_of(fleet, &held.what);
        Held { unit: *unit, height: held.height, what: what.to_owned(), id, name }
    });
    Rack { name: rack.name.clone(), units: rack.units, holds: holds.collect() }
}
