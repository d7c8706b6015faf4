//! `/api/v1/webhooks`: where events are sent.

use std::net::IpAddr;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use fleet::Refusal;
use schemars::JsonSchema;
use serde::Deserialize;

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, Json, users};
use crate::vault::{Secret, VaultError};
use crate::webhooks::{self, Webhook};
use crate::{App, core, web};

/// Each is sent every event.
const MOST: usize = 32;

/// Of the secret, in bytes: HMAC-SHA256 takes no more from longer ones.
const SHORTEST: usize = 16;
const LONGEST: usize = 256;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// `https://…`; `http://` only to a loopback or private address.
    pub url: String,
    /// What events are signed with: 16 to 256 characters. It is shown by nothing.
    #[schemars(with = "String")]
    pub secret: Secret,
    /// Only events of these: m1, v2, subnet:lab.
    #[serde(default)]
    pub subjects: Vec<String>,
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Webhook>, web::Error> {
    page.of_all(webhooks::all(app.core.store()).await?, |webhook| webhook.id.clone())
}

pub async fn add(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(NewWebhook { url, secret, subjects }): Json<NewWebhook>,
) -> Result<(StatusCode, axum::Json<Changed>), web::Error> {
    let url = usable(&url).map_err(Refusal::Invalid)?;
    if !(SHORTEST..=LONGEST).contains(&secret.reveal().len()) {
        let sentence = format!("a webhook's secret has {SHORTEST} to {LONGEST} characters");
        return Err(Refusal::Invalid(sentence).into());
    }
    let is_subject = |name: &String| (1..=128).contains(&name.len()) && !name.contains([',', '\0']);
    if subjects.len() > 100 || !subjects.iter().all(is_subject) {
        let sentence = "at most 100 subjects, each as events name it: m1, v2, subnet:lab";
        return Err(Refusal::Invalid(sentence.to_owned()).into());
    }
    let store = app.core.store();
    if webhooks::all(store).await?.len() >= MOST {
        return Err(Refusal::Conflict(format!("there are {MOST} webhooks; remove one first")).into());
    }
    let webhook = Webhook {
        id: hex::encode(rand::random::<[u8; 6]>()),
        url,
        subjects,
        made_by: person.user.name.clone(),
        made_at: core::now(),
        position: app.core.position(),
        error: None,
        failed_at: None,
    };
    app.vault.put(&webhook.secret(), &secret, core::now()).await.map_err(unkept)?;
    webhooks::add(store, &webhook).await?;
    let mut changed = users::noted(&app, &person, format!("Events are sent to {}", webhook.url));
    changed.id = Some(webhook.id);
    Ok((StatusCode::CREATED, axum::Json(changed)))
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let all = webhooks::all(app.core.store()).await?;
    let Some(webhook) = all.into_iter().find(|webhook| webhook.id == id) else {
        return Err(Refusal::Missing { what: "webhook", name: id }.into());
    };
    webhooks::remove(app.core.store(), &webhook.id).await?;
    app.vault.remove(&webhook.secret()).await.map_err(unkept)?;
    let sentence = format!("Events are not sent to {} any more", webhook.url);
    Ok(axum::Json(users::noted(&app, &person, sentence)))
}

fn unkept(error: VaultError) -> web::Error {
    match error {
        VaultError::Store(error) => error.into(),
        VaultError::OtherKey { .. } => web::Error::refused(StatusCode::CONFLICT, error.to_string()),
        other => web::Error::Broken(other.into()),
    }
}

/// The address as it is kept, if events may be sent to it.
fn usable(url: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(url).map_err(|error| format!("{url:?} is not an address: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("a webhook's address has no name, password or fragment in it".to_owned());
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_near = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost",
    };
    match url.scheme() {
        "https" => Ok(url.into()),
        "http" if is_near => Ok(url.into()),
        "http" => Err("events go by http:// only to a loopback or private address; use https://".to_owned()),
        other => Err(format!("events are sent by https://, not by {other}://")),
    }
}

#[cfg(test)]
mod tests {
    use super::usable;

    #[test]
    fn events_go_where_nobody_listens_on_the_way() {
        for url in
            ["https://hooks.example.org/x", "http://127.0.0.1:8080/", "http://10.1.2.3/a", "http://[::1]/"]
        {
            assert!(usable(url).is_ok(), "{url}: {:?}", usable(url));
        }
        for url in [
            "http://hooks.example.org/",
            "http://8.8.8.8/",
            "http://169.254.169.254/latest",
            "https://ada:secret@example.org/",
            "ftp://10.1.2.3/",
            "file:///etc/passwd",
            "",
        ] {
            assert!(usable(url).is_err(), "{url}");
        }
    }
}
