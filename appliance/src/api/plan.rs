//! `POST /api/v1/plan`, `POST /api/v1/apply`: what commands would do, and doing exactly that.
//!
//! Every request that changes something can also be planned where it is: with the header `Elisandra-Plan: 1` it is
//! answered by a [`Planned`] and not carried out.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use fleet::{Command, Ctx, Digest, Forecast, Refusal, simulate, tenant, user};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::{Changed, Json, packages, vms};
use crate::core::ExecuteError;
use crate::{App, core, web};

/// A plan of a document may hold some thousand commands.
pub const LIMIT: usize = 16 << 20;

/// A forecast, and the position of the log that it was made at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    pub position: i64,
    #[serde(flatten)]
    pub forecast: Forecast,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    pub commands: Vec<Command>,
}

/// What a plan showed, to be done as it was shown or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    pub commands: Vec<Command>,
    pub digest: Digest,
    /// The sentences of the plan, so that a refusal can say which of them does not hold any more.
    #[serde(default)]
    pub sentences: Vec<String>,
}

pub async fn plan(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(wanted): Json<Wanted>,
) -> Result<axum::Json<Planned>, web::Error> {
    orders(&wanted.commands)?;
    images(&app, &person, &wanted.commands)?;
    person.orders().in_scope(&wanted.commands)?;
    Ok(axum::Json(planned(&app, person.tenant(), wanted.commands)))
}

pub async fn apply(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(wanted): Json<Apply>,
) -> Result<axum::Json<Changed>, web::Error> {
    orders(&wanted.commands)?;
    images(&app, &person, &wanted.commands)?;
    packages::hold(&app, &wanted.commands).await?;
    let done = app.core.execute_all(&person.actor(), wanted.commands.clone(), Some(wanted.digest)).await;
    match done {
        Ok(events) => Ok(person.told(&events)),
        Err(ExecuteError::Changed) => {
            let now = sentences(&planned(&app, person.tenant(), wanted.commands).forecast);
            let sentence = format!("{}{}", ExecuteError::Changed, difference(&wanted.sentences, &now));
            Err(web::Error::refused(StatusCode::CONFLICT, sentence))
        }
        Err(error) => Err(error.into()),
    }
}

/// As somebody of `tenant` is told it, if there is one.
pub fn planned(app: &App, tenant: Option<&str>, commands: Vec<Command>) -> Planned {
    let (head, observed, ctx) = (app.core.head(), app.core.observed(), Ctx { now: core::now() });
    let forecast = match tenant {
        Some(tenant) => tenant::simulate(&head.fleet, &observed, tenant, &commands, ctx),
        None => simulate(&head.fleet, &observed, &commands, ctx),
    };
    Planned { position: head.position, forecast }
}

/// Each effect with the name of what it is about.
pub fn sentences(forecast: &Forecast) -> Vec<String> {
    let effects = forecast.steps.iter().flat_map(|step| &step.effects);
    effects.map(|effect| format!("{}: {}", effect.name, effect.sentence)).collect()
}

/// What nodes and the wire say is not for people to say.
fn orders(commands: &[Command]) -> Result<(), Refusal> {
    let Some(other) = commands.iter().find(|command| user::least_role(command).is_none()) else {
        return Ok(());
    };
    let json = serde_json::to_value(other).unwrap_or_default();
    let word = json["command"].as_str().unwrap_or_default();
    Err(Refusal::Invalid(format!(
        "{word} is said by machines and by the appliance itself; nobody can order it"
    )))
}

/// A tenant's VMs are made from what the appliance makes VMs from, and from nothing else that lies beside it.
fn images(app: &App, person: &Person, commands: &[Command]) -> Result<(), web::Error> {
    let image = |command: &Command| match command {
        Command::CreateVm { spec } => Some(spec.image.clone()),
        Command::InstallPackage { image, .. } => Some(image.clone()),
        _ => None,
    };
    let mut named = commands.iter().filter_map(image).filter(|_| person.tenant().is_some()).peekable();
    if named.peek().is_none() {
        return Ok(());
    }
    let usual = vms::guest_image(app)?;
    match named.find(|image| *image != usual) {
        Some(other) => Err(Refusal::Missing { what: "image", name: other.name }.into()),
        None => Ok(()),
    }
}

fn difference(shown: &[String], now: &[String]) -> String {
    let different = shown.iter().zip(now).find(|(shown, now)| shown != now);
    match different {
        Some((shown, now)) => format!(". The plan said {shown:?}, now it would be {now:?}"),
        None if shown.len() > now.len() => {
            format!(". The plan said {:?}, which is not so any more", shown[now.len()])
        }
        None if shown.len() < now.len() && !shown.is_empty() => {
            format!(". Now there would also be {:?}", now[shown.len()])
        }
        None => String::new(),
    }
}
