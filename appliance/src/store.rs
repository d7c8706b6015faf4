//! The event log: opened, read to its end, followed, and appended to, many events to one durable commit.
//!
//! It stands in SQLite beside the daemon or in PostgreSQL, where several daemons share it. Positions are gapless,
//! so appending at `last + 1` succeeds for one daemon only; the others catch up and decide again.

mod error;
mod follow;
mod log;
mod migrations;
mod notes;
mod pool;
mod row;
mod snapshot;

use std::path::Path;
use std::sync::Arc;

use fleet::Timestamp;
use tokio::sync::watch;

pub use error::StoreError;
pub(crate) use follow::POLL;
pub use log::Loaded;
pub use notes::{Entry, Note};
pub use pool::Pool;
pub(crate) use pool::on_pool;
pub use row::{Fact, Record};

/// A handle on the database; clones are cheap and mean the same one.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool,
    away: Arc<watch::Sender<Option<Away>>>,
    heard: Arc<follow::Ear>,
}

/// The database cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    pub since: Timestamp,
    /// What was said when it was last tried.
    pub why: String,
}

impl Store {
    /// Opens `sqlite:PATH` or `postgres://…`.
    pub async fn open(url: &str) -> Result<Store, StoreError> {
        match url.split_once(':') {
            Some(("sqlite", path)) => Store::sqlite(Path::new(path.trim_start_matches("//"))).await,
            Some(("postgres" | "postgresql", _)) => Ok(Store::on(Pool::postgres(url).await?)),
            Some(_) | None => Err(StoreError::Url),
        }
    }

    /// Opens the log in the file `path`, made if it is not there.
    pub async fn sqlite(path: &Path) -> Result<Store, StoreError> {
        Ok(Store::on(Pool::sqlite(path).await?))
    }

    fn on(pool: Pool) -> Store {
        Store { pool, away: Arc::new(watch::Sender::new(None)), heard: Arc::default() }
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Wakes when the database goes away or comes back.
    pub(crate) fn watch_away(&self) -> watch::Receiver<Option<Away>> {
        self.away.subscribe()
    }

    /// Since when and why the database cannot be used, as far as the writer knows.
    pub fn away(&self) -> Option<Away> {
        self.away.borrow().clone()
    }

    /// Binds the log to the site's authority at the first start; another authority is refused, for the nodes of this
    /// log trust only the one that they know.
    pub async fn bind(&self, fingerprint: &str) -> Result<(), StoreError> {
        let bound: String = on_pool!(&self.pool, pool => {
            sqlx::query(
                "INSERT INTO authority (fingerprint)
                 SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM authority) ON CONFLICT DO NOTHING",
            )
            .bind(fingerprint)
            .execute(pool)
            .await
            .map_err(|source| StoreError::of("written", source))?;
            sqlx::query_scalar("SELECT fingerprint FROM authority")
                .fetch_one(pool)
                .await
                .map_err(|source| StoreError::of("read", source))?
        });
        if bound != fingerprint {
            return Err(StoreError::OtherAuthority { bound });
        }
        Ok(())
    }

    /// Takes note of how an attempt went.
    pub(crate) fn tried<T>(&self, result: &Result<T, StoreError>, now: Timestamp) {
        match result {
            Err(error) if error.is_away() => {
                let why = error.why();
                self.away.send_if_modified(|away| {
                    if away.is_none() {
                        tracing::error!("The database is away, changes are refused until it is back: {why}");
                    }
                    let since = away.as_ref().map_or(now, |away| away.since);
                    away.replace(Away { since, why }).is_none()
                });
            }
            Ok(_) => {
                self.away.send_if_modified(|away| {
                    let back = away.take();
                    if let Some(away) = &back {
                        tracing::info!("The database is back after {} s", now.secs_since(away.since));
                    }
                    back.is_some()
                });
            }
            Err(_) => {}
        }
    }
}
