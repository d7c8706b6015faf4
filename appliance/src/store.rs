//! The event log on SQLite: opened, read to its end, and appended to, many events to one durable commit.
//!
//! `synchronous=FULL` in WAL mode: a commit that returned is on the disk.

use std::path::Path;
use std::time::Duration;

use fleet::{Event, Fleet, NodeId, Observed, ObservedNode, Timestamp, evolve};
use serde::Serialize;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{QueryBuilder, Row};

#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the event log could not be {step}")]
    Database { step: &'static str, source: sqlx::Error },
    #[error("the event log could not be brought to this version")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the event log has a hole: after position {after} comes {found}")]
    Hole { after: i64, found: i64 },
    #[error("position {position} of the event log cannot be read (version {version}): {reason}")]
    Unreadable { position: i64, version: i64, reason: String },
}

/// One event as it goes into the log.
#[derive(Debug, Clone)]
pub struct Fact {
    pub at: Timestamp,
    pub actor: String,
    pub event: Event,
}

/// A line of a timeline that is not an event.
#[derive(Debug, Clone)]
pub struct Note {
    pub at: Timestamp,
    pub subject: String,
    pub kind: &'static str,
    pub text: String,
}

/// A line of a timeline, event or note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub at: Timestamp,
    pub actor: String,
    /// `event`, or the kind of the note: `dhcp`, `tftp`, `http`, `node`, `refused`.
    pub kind: String,
    pub subject: String,
    pub text: String,
}

/// Notes beyond so many are forgotten, the oldest first. Events never are.
const NOTES_KEPT: i64 = 200_000;

impl Store {
    /// Opens the log at `path`, made if it is not there.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .auto_vacuum(SqliteAutoVacuum::None)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Database { step: "opened", source })?;
        sqlx::migrate!("../migrations/sqlite").run(&pool).await?;
        Ok(Store { pool })
    }

    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// The fold of the whole log, and its last position.
    pub async fn load(&self) -> Result<(Fleet, i64), StoreError> {
        let mut fleet = Fleet::default();
        let mut last = 0;
        let rows = sqlx::query("SELECT position, version, body FROM event ORDER BY position")
            .fetch_all(&self.pool)
            .await
            .map_err(|source| StoreError::Database { step: "read", source })?;
        for row in rows {
            let position: i64 = row.get(0);
            let version: i64 = row.get(1);
            if position != last + 1 {
                return Err(StoreError::Hole { after: last, found: position });
            }
            let event = read_event(position, version, row.get(2))?;
            evolve(&mut fleet, &event);
            last = position;
        }
        Ok((fleet, last))
    }

    /// What the nodes said last, before this start.
    pub async fn load_observed(&self) -> Result<Observed, StoreError> {
        let rows = sqlx::query("SELECT node, at, body FROM observed")
            .fetch_all(&self.pool)
            .await
            .map_err(|source| StoreError::Database { step: "read", source })?;
        let mut observed = Observed::new();
        for row in rows {
            let at = Timestamp(row.get::<i64, _>(1).cast_unsigned());
            let node = row.get::<&str, _>(0).parse::<NodeId>();
            // A body of an older version is replaced within seconds by the node itself.
            if let (Ok(node), Ok(said)) = (node, serde_json::from_str(row.get(2))) {
                observed.insert(node, ObservedNode { at, said });
            }
        }
        Ok(observed)
    }

    /// Appends `rows` after position `last` in one durable commit; all or none.
    pub async fn append(&self, last: i64, rows: &[Fact]) -> Result<(), StoreError> {
        let failed = |source| StoreError::Database { step: "written", source };
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        // SQLite takes at most 32766 bound values in a statement.
        for (batch, chunk) in rows.chunks(1000).enumerate() {
            let mut insert =
                QueryBuilder::new("INSERT INTO event (position, at, actor, subject, kind, version, body) ");
            insert.push_values(chunk.iter().enumerate(), |mut values, (place, row)| {
                let position = last + 1 + i64::try_from(batch * 1000 + place).unwrap_or(i64::MAX);
                let body = serde_json::to_value(&row.event).unwrap_or_default();
                values
                    .push_bind(position)
                    .push_bind(row.at.0.cast_signed())
                    .push_bind(&row.actor)
                    .push_bind(row.event.subject())
                    .push_bind(kind(&body))
                    .push_bind(Event::VERSION)
                    .push_bind(body.to_string());
            });
            insert.build().execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// Writes notes and last observations, which may be lost without harm, in one commit.
    pub async fn keep(&self, notes: &[Note], observed: &[(NodeId, ObservedNode)]) -> Result<(), StoreError> {
        let failed = |source| StoreError::Database { step: "written", source };
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        for note in notes {
            sqlx::query("INSERT INTO note (at, subject, kind, text) VALUES ($1, $2, $3, $4)")
                .bind(note.at.0.cast_signed())
                .bind(&note.subject)
                .bind(note.kind)
                .bind(&note.text)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        if !notes.is_empty() {
            sqlx::query("DELETE FROM note WHERE id <= (SELECT max(id) FROM note) - $1")
                .bind(NOTES_KEPT)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        for (node, last) in observed {
            sqlx::query("INSERT INTO observed (node, at, body) VALUES ($1, $2, $3) ON CONFLICT (node) DO UPDATE SET at = $2, body = $3")
                .bind(node.to_string())
                .bind(last.at.0.cast_signed())
                .bind(serde_json::to_string(&last.said).unwrap_or_default())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// The last `limit` lines about any of `subjects`, oldest first.
    pub async fn timeline(&self, subjects: &[String], limit: u32) -> Result<Vec<Entry>, StoreError> {
        let failed = |source| StoreError::Database { step: "read", source };
        let mut entries = Vec::new();

        let mut events = QueryBuilder::new(
            "SELECT at, actor, subject, version, body, position FROM event WHERE subject IN (",
        );
        let mut list = events.separated(", ");
        for subject in subjects {
            list.push_bind(subject);
        }
        events.push(") ORDER BY position DESC LIMIT ").push_bind(limit);
        for row in events.build().fetch_all(&self.pool).await.map_err(failed)? {
            let event = read_event(row.get(5), row.get(3), row.get(4))?;
            entries.push(Entry {
                at: Timestamp(row.get::<i64, _>(0).cast_unsigned()),
                actor: row.get(1),
                kind: "event".to_owned(),
                subject: row.get(2),
                text: event.sentence(),
            });
        }

        let mut notes = QueryBuilder::new("SELECT at, subject, kind, text FROM note WHERE subject IN (");
        let mut list = notes.separated(", ");
        for subject in subjects {
            list.push_bind(subject);
        }
        notes.push(") ORDER BY id DESC LIMIT ").push_bind(limit);
        for row in notes.build().fetch_all(&self.pool).await.map_err(failed)? {
            entries.push(Entry {
                at: Timestamp(row.get::<i64, _>(0).cast_unsigned()),
                actor: String::new(),
                kind: row.get(2),
                subject: row.get(1),
                text: row.get(3),
            });
        }
        // Both lists came newest first; of equal times, what stood first in its list stays first.
        entries.reverse();
        entries.sort_by_key(|entry| entry.at);
        let surplus = entries.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        entries.drain(..surplus);
        Ok(entries)
    }
}

fn read_event(position: i64, version: i64, body: &str) -> Result<Event, StoreError> {
    let unreadable = |reason: String| StoreError::Unreadable { position, version, reason };
    if version != Event::VERSION {
        return Err(unreadable(format!("this program reads version {}", Event::VERSION)));
    }
    serde_json::from_str(body).map_err(|error| unreadable(error.to_string()))
}

fn kind(body: &serde_json::Value) -> String {
    let word = |key: &str| body.get(key).and_then(|word| word.as_str()).unwrap_or("?").to_owned();
    format!("{}.{}", word("noun"), word("event"))
}
