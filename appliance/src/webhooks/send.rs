//! Sends events to one webhook, one after another.

use std::time::Duration;

use fleet::Timestamp;
use reqwest::StatusCode;
use ring::hmac;
use tokio::time::sleep;

use super::{Webhook, keep};
use crate::App;
use crate::api::events::Happened;
use crate::core::now;

/// Events that are read at once.
const PAGE: u32 = 100;

const LIMIT: Duration = Duration::from_secs(20);

/// Between attempts: twice as long each time, up to this.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Ends when it cannot go on; it is begun anew then.
pub(super) async fn follow(app: App, webhook: Webhook) {
    let secret = match app.vault.get(&webhook.secret()).await {
        Ok(Some(secret)) => secret,
        Ok(None) => return sleep(LONGEST_WAIT).await,
        Err(error) => {
            tracing::warn!(%error, webhook = webhook.id, "The secret of a webhook cannot be read");
            return sleep(LONGEST_WAIT).await;
        }
    };
    let Ok(http) = client() else { return sleep(LONGEST_WAIT).await };
    let (mut position, mut wait) = (webhook.position, FIRST_WAIT);
    let mut head = app.core.watch_fleet();
    loop {
        // An error means that the daemon is stopping.
        if head.wait_for(|head| head.position > position).await.is_err() {
            return;
        }
        // The database is away, or does not show yet what this daemon knows.
        let records = app.core.history(position, PAGE).await.unwrap_or_default();
        if records.is_empty() {
            sleep(FIRST_WAIT).await;
            continue;
        }
        let fleet = app.core.fleet();
        for record in &records {
            let wanted = webhook.subjects.is_empty() || webhook.subjects.contains(&record.subject);
            if !wanted {
                position = record.position;
                continue;
            }
            loop {
                let body = serde_json::to_string(&Happened::of(&fleet, record)).unwrap_or_default();
                let Err(why) = post(&http, &webhook.url, secret.reveal(), body).await else { break };
                tracing::debug!(webhook = webhook.id, why, "A webhook did not take an event");
                let _ = keep(app.core.store(), &webhook.id, position, Some(&why)).await;
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            (position, wait) = (record.position, FIRST_WAIT);
            // If that is not written, the event comes once more after a restart.
            let _ = keep(app.core.store(), &webhook.id, position, None).await;
        }
        let _ = keep(app.core.store(), &webhook.id, position, None).await;
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    // An error means that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A redirect would lead to where nobody said that events may go.
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(LIMIT).no_proxy().build()
}

async fn post(http: &reqwest::Client, url: &str, secret: &str, body: String) -> Result<(), String> {
    let signature = signature(secret, now(), &body);
    let request = http.post(url).header("content-type", "application/json");
    let answer = request.header("elisandra-signature", signature).body(body).send().await;
    match answer.map(|answer| answer.status()) {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) if status.is_redirection() => {
            Err(format!("it answered {status}; redirects are not followed"))
        }
        // It does not want to be told any more, and says so for ever; a person looks at the last error.
        Ok(StatusCode::GONE) => Err("it answered 410 Gone; remove this webhook".to_owned()),
        Ok(status) => Err(format!("it answered {status}")),
        Err(error) => Err(innermost(&error.without_url())),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// `t=1764331200,v1=5257a8…`: HMAC-SHA256 over `1764331200.BODY` with the secret.
pub fn signature(secret: &str, at: Timestamp, body: &str) -> String {
    let secs = at.0 / 1000;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{secs}.{body}").as_bytes());
    format!("t={secs},v1={}", hex::encode(tag))
}
