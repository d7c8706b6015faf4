//! `/api/v1/policy`: which machines are adopted without asking, and who may log in to what runs here.

use axum::Extension;
use axum::extract::State;
use fleet::Command;
use fleet::site::Policy;

use super::guard::Person;
use super::{Changed, Json};
use crate::{App, web};

pub async fn get(State(app): State<App>) -> axum::Json<Policy> {
    axum::Json(app.core.fleet().policy.clone())
}

pub async fn put(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(policy): Json<Policy>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::SetPolicy { policy }).await
}
