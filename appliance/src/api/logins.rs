//! `/api/v1/bmc/logins`, `/api/v1/machines/{id}/bmc/find`: the list of logins that BMCs are tried with.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use fleet::{Command, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::power::not_kept;
use super::{Changed, Json, machines, users};
use crate::bmc::Login;
use crate::power::logins::{self, Listed};
use crate::vault::Secret;
use crate::{App, web};

/// BMCs would be tried for hours with more, and lock.
const MOST: usize = 20;

/// A login for BMCs; its password is kept sealed and shown to nobody.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLogin {
    pub user: String,
    #[schemars(with = "String")]
    pub password: Secret,
}

pub async fn list(State(app): State<App>) -> Result<axum::Json<Vec<Listed>>, web::Error> {
    Ok(axum::Json(logins::list(&app.vault).await.map_err(not_kept)?))
}

pub async fn add(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(NewLogin { user, password }): Json<NewLogin>,
) -> Result<axum::Json<Changed>, web::Error> {
    let is_user = (1..=64).contains(&user.len()) && !user.chars().any(char::is_control);
    if !is_user || !(1..=256).contains(&password.reveal().len()) {
        let sentence = "a login for BMCs has a user of 1 to 64 characters and a password of 1 to 256";
        return Err(web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence.to_owned()));
    }
    if logins::numbers(&app.vault).await.map_err(not_kept)?.len() >= MOST {
        return Err(
            Refusal::Conflict(format!("there are {MOST} logins in the list; remove one first")).into()
        );
    }
    let login = Login { user, password };
    let number = logins::add(&app.vault, &app.core.fleet(), &login).await.map_err(not_kept)?;
    app.core.bump();
    Ok(axum::Json(users::noted(&app, &person, format!("BMCs are tried with login {number}, too"))))
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(number): Path<u32>,
) -> Result<axum::Json<Changed>, web::Error> {
    if !logins::numbers(&app.vault).await.map_err(not_kept)?.contains(&number) {
        return Err(Refusal::Missing { what: "login", name: number.to_string() }.into());
    }
    logins::remove(&app.vault, number).await.map_err(not_kept)?;
    app.core.bump();
    Ok(axum::Json(users::noted(&app, &person, format!("BMCs are not tried with login {number} any more"))))
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Find {
    /// Where it is; what the machine says itself, if it is not said.
    #[serde(default)]
    pub address: Option<String>,
}

pub async fn find(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(Find { address }): Json<Find>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::FindBmc { machine, address }).await
}
