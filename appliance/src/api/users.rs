//! `/api/v1/users`, `/api/v1/me`: who may do what, and their passwords.

use axum::Extension;
use axum::extract::{Path, State};
use fleet::scope::Scope;
use fleet::user::{self, Role, User};
use fleet::{Command, Refusal, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, Json};
use crate::{App, core, web};

/// The one that is built in was added at 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ListedUser")]
pub struct Listed {
    #[serde(flatten)]
    pub user: User,
    /// Without one nobody can log in by this name.
    pub password: bool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    pub name: String,
    pub role: Role,
    /// Whose things he is to see, and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    pub role: Role,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    pub password: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedPassword {
    pub old: String,
    pub new: String,
}

/// Who one is, and what one may do with this session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Me {
    pub name: String,
    pub role: Role,
    /// Whose things one sees, and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What this token is for, if not for all that the role may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    pub session: String,
    pub ends_at: Timestamp,
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Listed>, web::Error> {
    let passwords = app.auth.passwords().await?;
    let fleet = app.core.fleet();
    let listed = user::all(&fleet).map(|user| Listed {
        password: passwords.get(&user.name).is_some_and(|set_at| *set_at >= user.added),
        user,
    });
    page.of_all(listed.collect(), |listed| listed.user.name.clone())
}

pub async fn add(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(NewUser { name, role, tenant }): Json<NewUser>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::AddUser { name, role, tenant }).await
}

pub async fn set_role(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Json(NewRole { role }): Json<NewRole>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::SetRole { name, role }).await
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::RemoveUser { name }).await
}

/// By an admin, for somebody who has none yet or has forgotten it. Who is logged in as this user is not any more.
pub async fn set_password(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Json(NewPassword { password }): Json<NewPassword>,
) -> Result<axum::Json<Changed>, web::Error> {
    let found = user::find(&app.core.fleet(), &name);
    let user = found.ok_or_else(|| Refusal::Missing { what: "user", name: name.clone() })?;
    app.auth.set_password(&user, &password, None, core::now()).await?;
    app.core.bump();
    Ok(axum::Json(noted(&app, &person, format!("The password of {name} was set"))))
}

pub async fn me(Extension(person): Extension<Person>) -> axum::Json<Me> {
    let Person { user, role, session, .. } = person;
    axum::Json(Me {
        name: user.name,
        role,
        tenant: user.tenant,
        scope: session.scope,
        session: session.id,
        ends_at: session.ends_at,
    })
}

/// One's own. The session that asks goes on, one's others end.
pub async fn change_password(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    headers: axum::http::HeaderMap,
    Json(ChangedPassword { old, new }): Json<ChangedPassword>,
) -> Result<axum::Json<Changed>, web::Error> {
    let kept = super::guard::token(&headers);
    app.auth.change_password(person.from, &person.user, (&old, &new), kept, core::now()).await?;
    app.core.bump();
    Ok(axum::Json(noted(&app, &person, format!("{} has a new password", person.user.name))))
}

/// What is not in the log, because it is about secrets, is on the timeline.
pub(super) fn noted(app: &App, person: &Person, sentence: String) -> Changed {
    app.core.note("site", "login", format!("{sentence}, by {} from {}", person.user.name, person.from));
    Changed { id: None, changed: vec![sentence], leftovers: Vec::new() }
}
