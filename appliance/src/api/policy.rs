//! `/api/v1/policy`: which machines are adopted without asking, and who may log in to what runs here.

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use fleet::Command;
use fleet::site::Policy;

use super::guard::Person;
use super::patch::Patch;
use super::{Changed, Json, versions};
use crate::{App, web};

pub async fn get(State(app): State<App>) -> axum::Json<Policy> {
    axum::Json(app.core.fleet().policy.clone())
}

pub async fn put(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    headers: HeaderMap,
    Json(policy): Json<Policy>,
) -> Result<axum::Json<Changed>, web::Error> {
    let _turn = versions::turn(&app).await;
    versions::must_match(&headers, Some(&app.core.fleet().policy))?;
    person.gives(&app, Command::SetPolicy { policy }).await
}

pub async fn patch(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    headers: HeaderMap,
    patch: Patch,
) -> Result<axum::Json<Changed>, web::Error> {
    let _turn = versions::turn(&app).await;
    let current = app.core.fleet().policy.clone();
    versions::must_match(&headers, Some(&current))?;
    person.gives(&app, Command::SetPolicy { policy: patch.of(&current)? }).await
}
