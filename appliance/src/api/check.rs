//! `/api/v1/machines/{id}/check`: the disks of a machine are read from end to end.

use axum::Extension;
use axum::extract::{Path, State};
use fleet::Command;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::{Changed, Json, machines};
use crate::{App, web};

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// False ends one that goes on.
    pub on: bool,
}

pub async fn check(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(Check { on }): Json<Check>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::CheckDisks { machine, on }).await
}
