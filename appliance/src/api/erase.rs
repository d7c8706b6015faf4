//! `/api/v1/machines/{id}/erase`, `…/erasures`, `…/retire`: machines that give away what they hold, and leave.

use axum::Extension;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet::machine::{self, EraseState, Phase};
use fleet::wire::Method;
use fleet::{Command, Fleet, MachineId, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::{Changed, Json, machines};
use crate::certificate::{self, Certificate};
use crate::{App, web};

/// How far the erasing of a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Erasing {
    pub method: Method,
    /// It was cancelled, and stops after the disk that is under way.
    pub stopping: bool,
    /// The machine is retired afterwards.
    pub retire: bool,
    pub disks: Vec<DiskErasing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskErasing {
    /// `/dev/sda (500 GB, serial S1)`
    pub disk: String,
    /// waiting, begun, done, failed
    pub is: String,
    pub error: Option<String>,
}

pub fn erasing(machine: &machine::Machine) -> Option<Erasing> {
    let Phase::Erasing(erasing) = &machine.phase else { return None };
    let disks = erasing.disks.iter().map(|task| {
        let (is, error) = match &task.state {
            EraseState::Waiting => ("waiting", None),
            EraseState::Begun { .. } => ("begun", None),
            EraseState::Done => ("done", None),
            EraseState::Failed { error } => ("failed", Some(error.clone())),
        };
        DiskErasing { disk: task.disk.to_string(), is: is.to_owned(), error }
    });
    Some(Erasing {
        method: erasing.method,
        stopping: erasing.stopping,
        retire: erasing.retire,
        disks: disks.collect(),
    })
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Erase {
    /// Serials, stable names or paths; all disks that are built in, if none is named.
    pub disks: Vec<String>,
    /// auto, discard, format, overwrite
    pub method: Method,
    /// It leaves for good when all of them are erased.
    pub retire: bool,
}

pub async fn erase(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(Erase { disks, method, retire }): Json<Erase>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    let how = machine::Erase { disks, method, retire };
    person.gives(&app, Command::EraseMachine { machine, how }).await
}

pub async fn retire(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::Retire { machine }).await
}

pub async fn unretire(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::Unretire { machine }).await
}

/// A certificate, and what shows that it is this site's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signed {
    pub certificate: Certificate,
    /// The same as a text: what is signed, octet for octet.
    pub document: String,
    /// Of the site's authority: ECDSA over P-256 with SHA-256, ASN.1 DER, in base64.
    pub signature: String,
    /// The authority, PEM.
    pub authority: String,
}

pub async fn certificates(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<axum::Json<Vec<Signed>>, web::Error> {
    let broken = |error: crate::ca::CaError| web::Error::Broken(error.into());
    let sign = |certificate: Certificate| {
        let document = serde_json::to_string_pretty(&certificate)
            .map_err(|error| web::Error::Broken(error.into()))?
            + "\n";
        let signature = app.ca.sign_document(document.as_bytes()).map_err(broken)?;
        let authority = app.ca.pem().to_owned();
        Ok(Signed { certificate, document, signature: STANDARD.encode(signature), authority })
    };
    let signed: Result<_, web::Error> = of(&app, &id).await?.into_iter().map(sign).collect();
    Ok(axum::Json(signed?))
}

/// From the log alone, so that they can be made again, and when the machine is gone.
pub async fn of(app: &App, id: &str) -> Result<Vec<Certificate>, web::Error> {
    let fleet = app.core.fleet();
    let machine = known(&fleet, id)?;
    let records = app.core.history_of(&machine.to_string(), "erase").await?;
    Ok(certificate::certificates(fleet.site.as_ref().map(|site| site.id), &records))
}

/// By id or by name; one that was removed by its id.
fn known(fleet: &Fleet, id: &str) -> Result<MachineId, Refusal> {
    let once = id.parse().ok().filter(|id: &MachineId| (1..=fleet.last_machine).contains(&id.0));
    machines::find(fleet, id).map(|machine| machine.id).or_else(|missing| once.ok_or(missing))
}
