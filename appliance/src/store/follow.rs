//! Hearing of what other processes appended: PostgreSQL's LISTEN and NOTIFY, and below them a poll.
//!
//! The notification is sent after the commit, by a connection of its own: inside the transaction it would cost more
//! than half of the throughput, and one that is lost costs no more than the time to the next poll.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Pool, Store};

/// Of all daemons on one database.
const CHANNEL: &str = "elisandra";

/// A row that was written by hand, or whose notification was lost, is seen after so long.
pub(crate) const POLL: Duration = Duration::from_millis(500);

/// Time between two attempts to listen again.
const AGAIN: Duration = Duration::from_secs(1);

/// What another process said that it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The last event's position.
    pub position: i64,
    /// It wrote what nodes said.
    pub observed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ear {
    heard: Mutex<Heard>,
    wake: Notify,
    /// The position that others are to be told of, and whether observations are new.
    tell: watch::Sender<Heard>,
}

impl Store {
    /// Waits until another process says that it has written something since this was last asked.
    pub(crate) async fn hear(&self) -> Heard {
        self.heard.wake.notified().await;
        std::mem::take(&mut *self.heard.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets the writer know that the log reaches to `position`.
    pub(crate) fn hear_of(&self, position: i64) {
        let mut heard = self.heard.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.position = heard.position.max(position);
        drop(heard);
        self.heard.wake.notify_one();
    }

    pub(super) fn tell(&self, position: i64) {
        self.heard.tell.send_modify(|tell| tell.position = position);
    }

    pub(super) fn tell_observed(&self) {
        self.heard.tell.send_modify(|tell| tell.observed = true);
    }

    /// Listens to other daemons and tells them, for ever. On SQLite there is nobody to listen to.
    pub(crate) async fn follow(&self, shutdown: CancellationToken) {
        if let Pool::Postgres(_) = &self.pool {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.listen() => {}
                () = self.notify() => {}
            }
        }
    }

    async fn listen(&self) {
        loop {
            if let Err(error) = self.listen_until_lost().await {
                tracing::debug!(%error, "Not listening to the database; it is polled meanwhile");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn listen_until_lost(&self) -> Result<(), sqlx::Error> {
        let Pool::Postgres(pool) = &self.pool else { return Ok(()) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        // None: the connection was lost. What was said meanwhile is found by the poll.
        while let Some(notification) = listener.try_recv().await? {
            let said = notification.payload();
            self.heard.heard.lock().unwrap_or_else(PoisonError::into_inner).observed |=
                said.starts_with("observed");
            self.hear_of(said.parse().unwrap_or(0));
        }
        Ok(())
    }

    async fn notify(&self) {
        let Pool::Postgres(pool) = &self.pool else { return };
        // A notification need not survive a crash of the server: the poll finds what it was about.
        let options =
            PgConnectOptions::clone(&pool.connect_options()).options([("synchronous_commit", "off")]);
        let mut tell = self.heard.tell.subscribe();
        let mut connection: Option<PgConnection> = None;
        while tell.changed().await.is_ok() {
            let said = *tell.borrow_and_update();
            self.heard.tell.send_if_modified(|tell| {
                tell.observed = false;
                false
            });
            let mut open = match connection.take() {
                Some(open) => open,
                None => match PgConnection::connect_with(&options).await {
                    Ok(open) => open,
                    Err(_) => {
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                },
            };
            let payload = if said.observed { "observed".to_owned() } else { said.position.to_string() };
            let told =
                sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(&mut open).await;
            if told.is_ok() {
                connection = Some(open);
            }
        }
    }
}
