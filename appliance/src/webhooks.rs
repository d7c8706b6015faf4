//! Webhooks: each event of the log is sent to an address, signed, from a kept position, until it is taken.
//!
//! The log is the queue: nothing is held in memory but a page of it, and a restart goes on where it was. An event may
//! come twice (the answer was lost, or several daemons share the log); its position tells.

mod send;

use std::collections::BTreeMap;
use std::time::Duration;

use fleet::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use send::signature;

use crate::App;
use crate::core::now;
use crate::store::{Store, StoreError, on_pool};

/// How often it is looked which webhooks there are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where events are sent, as it is shown. The secret is in the vault and in no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
pub struct Webhook {
    pub id: String,
    pub url: String,
    /// Only events of these; of all, if there is none.
    pub subjects: Vec<String>,
    pub made_by: String,
    pub made_at: Timestamp,
    /// Of the last event that was taken, or was none of these subjects.
    pub position: i64,
    /// Why the event after it was not taken yet.
    pub error: Option<String>,
    pub failed_at: Option<Timestamp>,
}

impl Webhook {
    /// What its secret is called in the vault.
    pub fn secret(&self) -> String {
        format!("webhook/{}", self.id)
    }
}

type Columns = (String, String, String, String, i64, i64, Option<String>, Option<i64>);

pub async fn all(store: &Store) -> Result<Vec<Webhook>, StoreError> {
    let rows: Vec<Columns> = on_pool!(store.pool(), pool => {
        sqlx::query_as(
            "SELECT id, url, subjects, made_by, made_at, position, error, failed_at FROM webhook ORDER BY id",
        )
        .fetch_all(pool)
        .await
    })
    .map_err(|source| StoreError::of("read", source))?;
    let webhooks =
        rows.into_iter().map(|(id, url, subjects, made_by, made_at, position, error, failed_at)| Webhook {
            id,
            url,
            subjects: subjects.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            made_by,
            made_at: Timestamp(made_at.cast_unsigned()),
            position,
            error,
            failed_at: failed_at.map(|at| Timestamp(at.cast_unsigned())),
        });
    Ok(webhooks.collect())
}

pub async fn add(store: &Store, webhook: &Webhook) -> Result<(), StoreError> {
    on_pool!(store.pool(), pool => {
        sqlx::query(
            "INSERT INTO webhook (id, url, subjects, made_by, made_at, position) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&webhook.id)
        .bind(&webhook.url)
        .bind(webhook.subjects.join(","))
        .bind(&webhook.made_by)
        .bind(webhook.made_at.0.cast_signed())
        .bind(webhook.position)
        .execute(pool)
        .await
        .map(drop)
    })
    .map_err(|source| StoreError::of("written", source))
}

/// Whether there was one.
pub async fn remove(store: &Store, id: &str) -> Result<bool, StoreError> {
    on_pool!(store.pool(), pool => {
        sqlx::query("DELETE FROM webhook WHERE id = $1")
            .bind(id)
            .execute(pool)
            .await
            .map(|done| done.rows_affected() > 0)
    })
    .map_err(|source| StoreError::of("written", source))
}

/// How far it has come, and what is in the way.
async fn keep(store: &Store, id: &str, position: i64, error: Option<&str>) -> Result<(), StoreError> {
    on_pool!(store.pool(), pool => {
        sqlx::query("UPDATE webhook SET position = $2, error = $3, failed_at = $4 WHERE id = $1 AND position <= $2")
            .bind(id)
            .bind(position)
            .bind(error)
            .bind(error.map(|_| now().0.cast_signed()))
            .execute(pool)
            .await
            .map(drop)
    })
    .map_err(|source| StoreError::of("written", source))
}

/// Sends what has happened to each of them, each at its own pace.
pub async fn run(app: App, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut running: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = look.tick() => {}
        }
        // With the database away there is nothing to send either.
        let Ok(webhooks) = all(app.core.store()).await else { continue };
        running.retain(|id, task| {
            let is_there = webhooks.iter().any(|webhook| webhook.id == *id);
            if !is_there {
                task.abort();
            }
            is_there && !task.is_finished()
        });
        for webhook in webhooks {
            let id = webhook.id.clone();
            running.entry(id).or_insert_with(|| tokio::spawn(send::follow(app.clone(), webhook)));
        }
    }
    running.into_values().for_each(|task| task.abort());
    Ok(())
}
