//! `POST /api/v1/password`, `/login`, `/logout`: the first password, and sessions.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use fleet::user;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Json, guard};
use crate::auth::{AuthError, Client};
use crate::{App, core, web};

/// Browsers forget the cookie after this time; when a session is over is decided by its last use.
const COOKIE_SECS: u64 = 90 * 24 * 3600;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstPassword {
    /// As the appliance's screen shows it.
    pub code: String,
    pub password: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    #[serde(default = "first_person")]
    pub user: String,
    pub password: String,
}

fn first_person() -> String {
    user::FIRST.to_owned()
}

/// For those who carry it themselves; a browser gets a cookie that its scripts cannot read.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    pub token: String,
}

pub async fn set_password(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<FirstPassword>,
) -> Result<Response, web::Error> {
    let from = caller.from;
    let done =
        app.auth.set_first_password(from, &body.code, &body.password, caller.client, core::now()).await;
    if done.is_ok() {
        app.core.note("site", "login", format!("The first password was set from {from}"));
    }
    answer(&app, &caller, done)
}

pub async fn login(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<Login>,
) -> Result<Response, web::Error> {
    let user = user::find(&app.core.fleet(), &body.user);
    let who = (body.user.as_str(), user.as_ref());
    let done = app.auth.login(caller.from, who, &body.password, caller.client, core::now()).await;
    if done.is_ok() {
        app.core.note("site", "login", format!("{} logged in from {}", body.user, caller.from));
    }
    answer(&app, &caller, done)
}

pub async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<Response, web::Error> {
    if let Some(token) = guard::token(&headers) {
        app.auth.logout(token).await?;
        app.core.bump();
    }
    let mut response = axum::Json(serde_json::json!({})).into_response();
    set_cookie(&mut response, "", 0)?;
    Ok(response)
}

fn answer(app: &App, caller: &Caller, done: Result<String, AuthError>) -> Result<Response, web::Error> {
    match done {
        Ok(token) => {
            app.core.bump();
            if caller.client == Client::Console {
                return Ok(axum::Json(Token { token }).into_response());
            }
            let mut response = axum::Json(serde_json::json!({})).into_response();
            set_cookie(&mut response, &token, COOKIE_SECS)?;
            Ok(response)
        }
        Err(error) => {
            let guessed = matches!(
                error,
                AuthError::WrongCode | AuthError::WrongPassword | AuthError::TooManyTries { .. }
            );
            if guessed && app.auth.worth_a_note(core::now()) {
                app.core.note("site", "refused", format!("A login from {}: {error}", caller.from));
            }
            Err(error.into())
        }
    }
}

fn set_cookie(response: &mut Response, token: &str, max_age_secs: u64) -> Result<(), web::Error> {
    let cookie = format!(
        "{}={token}; Path=/; Max-Age={max_age_secs}; Secure; HttpOnly; SameSite=Strict",
        guard::COOKIE
    );
    let value = HeaderValue::from_str(&cookie).map_err(|error| web::Error::Broken(error.into()))?;
    response.headers_mut().insert(header::SET_COOKIE, value);
    Ok(())
}

/// Where a login comes from, and by what.
#[derive(Debug)]
pub struct Caller {
    from: IpAddr,
    client: Client,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Self::Rejection> {
        // Only a browser names the page that a request comes from; everybody else carries the token himself.
        let client = if parts.headers.contains_key(header::ORIGIN) { Client::Page } else { Client::Console };
        Ok(Caller { from: guard::address(&parts.extensions), client })
    }
}
