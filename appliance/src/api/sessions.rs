//! `/api/v1/sessions`, `/api/v1/tokens`: who is logged in, and the tokens that people made for programs.

use axum::Extension;
use axum::extract::{Path, State};
use fleet::scope::Scope;
use fleet::user::Role;
use fleet::{Refusal, Timestamp, is_label};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::session::Token;
use super::{Changed, Json, users};
use crate::auth::{Client, NewToken as Made, Session};
use crate::{App, core, web};

/// How long a token is good for, if it is not said, in days.
pub const USUAL_DAYS: u64 = 90;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Session")]
pub struct Listed {
    pub id: String,
    pub user: String,
    /// page, console, program
    pub client: String,
    /// What a token was made for.
    pub name: Option<String>,
    /// May not do more than this, whatever the user may.
    pub role: Option<Role>,
    /// Is for this only.
    pub scope: Option<Scope>,
    /// The address that it was opened from.
    pub from: Option<String>,
    pub made_at: Timestamp,
    /// To within five minutes.
    pub used_at: Timestamp,
    pub ends_at: Timestamp,
    /// It is the one that asks.
    pub here: bool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for: an RFC 1123 label.
    pub name: String,
    #[serde(default = "least")]
    pub role: Role,
    /// What it is for; without it, for all that its role may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    #[serde(default = "usual_days")]
    pub days: u64,
}

fn least() -> Role {
    Role::Viewer
}

fn usual_days() -> u64 {
    USUAL_DAYS
}

pub async fn list(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    page: Page,
) -> Result<Part<Listed>, web::Error> {
    page.of_all(of(&app, &person).await?, |listed| listed.id.clone())
}

pub async fn of(app: &App, person: &Person) -> Result<Vec<Listed>, web::Error> {
    let sessions = seen_by(app, person).await?;
    let listed = sessions.into_iter().map(|session| Listed {
        here: session.id == person.session.id,
        id: session.id,
        user: session.person,
        client: session.client.word().to_owned(),
        name: session.name,
        role: session.role,
        scope: session.scope,
        from: session.origin,
        made_at: session.made_at,
        used_at: session.used_at,
        ends_at: session.ends_at,
    });
    Ok(listed.collect())
}

/// One's own; an admin sees everybody's.
async fn seen_by(app: &App, person: &Person) -> Result<Vec<Session>, web::Error> {
    let whose = (person.role < Role::Admin).then_some(person.user.name.as_str());
    Ok(app.auth.sessions(whose, core::now()).await?)
}

/// Ends one's own; an admin ends anybody's.
pub async fn end(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let sessions = seen_by(&app, &person).await?;
    let Some(session) = sessions.into_iter().find(|session| session.id == id) else {
        return Err(Refusal::Missing { what: "session", name: id }.into());
    };
    if person.session.client == Client::Program && session.id != person.session.id {
        let sentence = "a token can end itself only; log in for that";
        return Err(Refusal::Conflict(sentence.to_owned()).into());
    }
    app.auth.revoke(&session.id).await?;
    app.core.bump();
    let what = match &session.name {
        Some(name) => format!("The token {name} of {} was ended", session.person),
        None => format!("A session of {} was ended", session.person),
    };
    Ok(axum::Json(users::noted(&app, &person, what)))
}

/// For a program; the token is shown this once.
pub async fn make_token(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(NewToken { name, role, scope, days }): Json<NewToken>,
) -> Result<axum::Json<Token>, web::Error> {
    if !is_label(&name) {
        let sentence =
            format!("{name:?} is not usable as a name: a-z, 0-9 and - inside, at most 63 characters");
        return Err(Refusal::Invalid(sentence).into());
    }
    if person.session.client == Client::Program {
        return Err(Refusal::Conflict("a token cannot make another; log in for that".to_owned()).into());
    }
    if role > person.role {
        let sentence = format!(
            "{} is {}, so a token cannot be {}",
            person.user.name,
            person.role.with_article(),
            role.with_article()
        );
        return Err(Refusal::Conflict(sentence).into());
    }
    let what_for = scope.as_ref().map(|scope| format!(", for {scope}")).unwrap_or_default();
    let new = Made { name: name.clone(), role, scope, days };
    let token = app.auth.make_token(person.from, &person.user.name, new, core::now()).await?;
    app.core.bump();
    users::noted(
        &app,
        &person,
        format!("A token {name} was made, {}{what_for}, good for {days} days", role.with_article()),
    );
    Ok(axum::Json(Token { token }))
}
