//! `/api/v1/profiles` and `/api/v1/media`: what machines can be installed with, and from what.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use fleet::medium::Medium;
use fleet::profile::{self, Profile};
use fleet::{Command, Fleet, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::guard::Person;
use super::paging::{Page, Part};
use super::patch::Patch;
use super::{Changed, Force, Json, versions};
use crate::{App, systems, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ListedProfile")]
pub struct Listed {
    #[serde(flatten)]
    pub profile: Profile,
    /// Cannot be changed.
    pub built_in: bool,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    pub name: Option<String>,
    pub sha256: Option<String>,
}

pub async fn list_profiles(State(app): State<App>, page: Page) -> Result<Part<Listed>, web::Error> {
    page.of_all(all_profiles(&app.core.fleet()), |listed| listed.profile.name.clone())
}

pub async fn get_profile(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<axum::Json<Profile>, web::Error> {
    Ok(axum::Json(Profile::clone(&*find(&app.core.fleet(), &name)?)))
}

fn find(fleet: &Fleet, name: &str) -> Result<Arc<Profile>, Refusal> {
    profile::find(fleet, name).ok_or_else(|| Refusal::Missing { what: "profile", name: name.to_owned() })
}

pub fn all_profiles(fleet: &Fleet) -> Vec<Listed> {
    let listed = profile::all(fleet).map(|profile| Listed {
        built_in: !fleet.profiles.contains_key(&profile.name),
        profile: Profile::clone(&profile),
    });
    listed.collect()
}

/// The template that a profile renders; of one that has none of its own, that of its kind.
pub async fn template(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<axum::Json<String>, web::Error> {
    let fleet = app.core.fleet();
    let profile = find(&fleet, &name)?;
    let own = || systems::render::own_template(profile.kind).map(str::to_owned);
    let template = profile.template.clone().or_else(own);
    Ok(axum::Json(template.ok_or_else(|| Refusal::Conflict(format!("profile {name} has no template")))?))
}

pub async fn set_profile(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    headers: HeaderMap,
    Json(profile): Json<Profile>,
) -> Result<axum::Json<Changed>, web::Error> {
    let _turn = versions::turn(&app).await;
    let current = profile::find(&app.core.fleet(), &profile.name);
    versions::must_match(&headers, current.as_deref())?;
    systems::check(&profile).map_err(Refusal::Invalid)?;
    person.gives(&app, Command::SetProfile { profile }).await
}

pub async fn patch_profile(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    headers: HeaderMap,
    patch: Patch,
) -> Result<axum::Json<Changed>, web::Error> {
    let _turn = versions::turn(&app).await;
    let current = find(&app.core.fleet(), &name)?;
    versions::must_match(&headers, Some(&*current))?;
    let profile = patch.of(&*current)?;
    if profile.name != name {
        return Err(Refusal::Invalid(format!("a patch does not give {name} another name")).into());
    }
    systems::check(&profile).map_err(Refusal::Invalid)?;
    person.gives(&app, Command::SetProfile { profile }).await
}

pub async fn remove_profile(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::RemoveProfile { name, force }).await
}

pub async fn list_media(State(app): State<App>, page: Page) -> Result<Part<Medium>, web::Error> {
    page.of_all(all_media(&app.core.fleet()), |medium| medium.name.clone())
}

pub fn all_media(fleet: &Fleet) -> Vec<Medium> {
    fleet.media.values().map(|medium| Medium::clone(medium)).collect()
}

/// One at a time, so that a folder and what the log says of it are one thing.
static TURN: Mutex<()> = Mutex::const_new(());

/// Takes a medium as the body. Its files are there before the log says so.
pub async fn import(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Query(Import { name, sha256 }): Query<Import>,
    request: Request,
) -> Result<(StatusCode, axum::Json<Changed>), web::Error> {
    if person.rehearsal.is_some() {
        let sentence = "what a medium is shows only when it has come; its import cannot be planned";
        return Err(web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence));
    }
    let _turn = TURN.lock().await;
    let taken = |name: &String| app.core.fleet().media.contains_key(name);
    if let Some(name) = name.as_ref().filter(|name| taken(name)) {
        return Err(Refusal::Conflict(format!("there is a medium {name} already; remove it first")).into());
    }
    forget(&app).await;
    let body = Body::into_data_stream(request.into_body());
    let medium = systems::receive(&app.systems, systems::Wanted { name, sha256 }, body).await?;
    let name = medium.name.clone();
    let command = Command::AddMedium { medium };
    match app.core.execute(&person.actor(), command).await {
        Ok(events) => {
            let mut changed = Changed::by(&events);
            changed.id = Some(name);
            Ok((StatusCode::CREATED, changed))
        }
        Err(error) => {
            forget(&app).await;
            Err(error.into())
        }
    }
}

pub async fn remove_medium(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    let changed = person.gives(&app, Command::RemoveMedium { name, force }).await?;
    if person.rehearsal.is_none() {
        let _turn = TURN.lock().await;
        forget(&app).await;
    }
    Ok(changed)
}

/// Removes folders that the log knows nothing of.
async fn forget(app: &App) {
    let Ok(entries) = std::fs::read_dir(&app.systems) else { return };
    let fleet = app.core.fleet();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in names.filter(|name| fleet::is_label(name) && !fleet.media.contains_key(name)) {
        if let Err(error) = systems::remove(&app.systems, &name).await {
            tracing::warn!(%error, "The files of the medium {name} stay");
        }
    }
}
