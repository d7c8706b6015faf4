//! What may be lost without harm: lines of timelines that are not events, and what nodes said last.

use std::sync::Arc;

use fleet::{Event, NodeId, Observed, ObservedNode, Timestamp, host, machine, service, vm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Row as _};

use super::log::largest_insert;
use super::{Store, StoreError, on_pool};

/// A line of a timeline that is not an event.
#[derive(Debug, Clone)]
pub struct Note {
    pub at: Timestamp,
    pub subject: String,
    pub kind: &'static str,
    pub text: String,
}

/// A line of a timeline, event or note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    pub at: Timestamp,
    pub actor: String,
    /// `event`, or the kind of the note: `dhcp`, `tftp`, `http`, `node`, `refused`.
    pub kind: String,
    pub subject: String,
    pub text: String,
    /// The phase that its subject has come into by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}

/// Notes beyond so many are forgotten, the oldest first. Events never are.
const NOTES_KEPT: i64 = 200_000;

impl Store {
    /// What the nodes said at or after `since`.
    pub async fn observed_since(&self, since: Timestamp) -> Result<Observed, StoreError> {
        let mut observed = Observed::new();
        on_pool!(&self.pool, pool => {
            let rows = sqlx::query("SELECT node, at, body FROM observed WHERE at >= $1")
                .bind(since.0.cast_signed())
                .fetch_all(pool)
                .await
                .map_err(|source| StoreError::of("read", source))?;
            for row in rows {
                let at = Timestamp(row.get::<i64, _>(1).cast_unsigned());
                let node = row.get::<&str, _>(0).parse::<NodeId>();
                // A body of an older version is replaced within seconds by the node itself.
                if let (Ok(node), Ok(said)) = (node, serde_json::from_str(row.get(2))) {
                    observed.insert(node, Arc::new(ObservedNode { at, said }));
                }
            }
        });
        Ok(observed)
    }

    /// Writes notes and last observations in one commit.
    pub async fn keep(
        &self,
        notes: &[Note],
        observed: &[(NodeId, Arc<ObservedNode>)],
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::of("written", source);
        on_pool!(&self.pool, pool => {
            let mut transaction = pool.begin_with(self.pool.begin()).await.map_err(failed)?;
            let mut rest = notes;
            while !rest.is_empty() {
                let (some, after) = rest.split_at(largest_insert(rest.len()));
                let mut insert = QueryBuilder::new("INSERT INTO note (at, subject, kind, text) ");
                insert.push_values(some, |mut values, note| {
                    values
                        .push_bind(note.at.0.cast_signed())
                        .push_bind(&note.subject)
                        .push_bind(note.kind)
                        // PostgreSQL has no place for NUL in a text, and the wire may bring one.
                        .push_bind(note.text.replace('\0', "\u{fffd}"));
                });
                insert.build().execute(&mut *transaction).await.map_err(failed)?;
                rest = after;
            }
            if !notes.is_empty() {
                sqlx::query("DELETE FROM note WHERE id <= (SELECT max(id) FROM note) - $1")
                    .bind(NOTES_KEPT)
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed)?;
            }
            for (node, last) in observed {
                // What another daemon heard later stays.
                sqlx::query(
                    "INSERT INTO observed (node, at, body) VALUES ($1, $2, $3)
                     ON CONFLICT (node) DO UPDATE SET at = $2, body = $3 WHERE observed.at <= $2",
                )
                .bind(node.to_string())
                .bind(last.at.0.cast_signed())
                .bind(serde_json::to_string(&last.said).map_err(|source| StoreError::Unwritable { source })?)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            }
            transaction.commit().await.map_err(failed)
        })?;
        if !observed.is_empty() {
            self.tell_observed();
        }
        Ok(())
    }

    /// The last `limit` lines about any of `subjects`, oldest first.
    pub async fn timeline(&self, subjects: &[String], limit: u32) -> Result<Vec<Entry>, StoreError> {
        self.lines(subjects, limit, false).await
    }

    /// As a tenant is told it: notes say what hosts do and who of the site looked in, so there are none.
    pub async fn timeline_for_tenant(
        &self,
        subjects: &[String],
        limit: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        self.lines(subjects, limit, true).await
    }

    async fn lines(
        &self,
        subjects: &[String],
        limit: u32,
        for_tenant: bool,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut entries = on_pool!(&self.pool, pool => {
            let mut entries = Vec::new();
            let failed = |source| StoreError::of("read", source);

            let mut events = QueryBuilder::new(
                "SELECT at, actor, subject, version, body, position FROM event WHERE subject IN (",
            );
            let mut list = events.separated(", ");
            for subject in subjects {
                list.push_bind(subject);
            }
            events.push(") ORDER BY position DESC LIMIT ").push_bind(i64::from(limit));
            for row in events.build().fetch_all(pool).await.map_err(failed)? {
                let (version, position) = (row.get(3), row.get(5));
                let event: fleet::Event = serde_json::from_str(row.get(4)).map_err(|error| {
                    StoreError::Unreadable { position, version, reason: error.to_string() }
                })?;
                let event = if for_tenant { fleet::tenant::told(&event) } else { event };
                entries.push(Entry {
                    at: Timestamp(row.get::<i64, _>(0).cast_unsigned()),
                    actor: row.get(1),
                    kind: "event".to_owned(),
                    subject: row.get(2),
                    text: event.sentence(),
                    phase: phase_after(&event).map(str::to_owned),
                });
            }

            let mut notes = QueryBuilder::new("SELECT at, subject, kind, text FROM note WHERE subject IN (");
            let mut list = notes.separated(", ");
            for subject in subjects {
                list.push_bind(subject);
            }
            let most = if for_tenant { 0 } else { i64::from(limit) };
            notes.push(") ORDER BY id DESC LIMIT ").push_bind(most);
            for row in notes.build().fetch_all(pool).await.map_err(failed)? {
                entries.push(Entry {
                    at: Timestamp(row.get::<i64, _>(0).cast_unsigned()),
                    actor: String::new(),
                    kind: row.get(2),
                    subject: row.get(1),
                    text: row.get(3),
                    phase: None,
                });
            }
            entries
        });
        // Both lists came newest first; of equal times, what stood first in its list stays first.
        entries.reverse();
        entries.sort_by_key(|entry| entry.at);
        let surplus = entries.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        entries.drain(..surplus);
        Ok(entries)
    }
}

/// In the words of the nouns' own phases.
fn phase_after(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Machine(machine::Event::Sighted { .. }) => "sighted",
        Event::Machine(machine::Event::Reported { .. } | machine::Event::Cancelled { .. }) => "found",
        Event::Machine(machine::Event::Adopted { .. }) => "adopted",
        Event::Machine(machine::Event::InstallStarted { .. }) => "installing",
        Event::Machine(machine::Event::Installed { .. } | machine::Event::ApplianceRecorded { .. }) => {
            "installed"
        }
        Event::Machine(machine::Event::InstallFailed { .. }) => "failed",
        Event::Machine(machine::Event::Unretired { .. }) => "found",
        Event::Machine(machine::Event::Retired { .. }) => "retired",
        Event::Erase(machine::EraseEvent::Asked { .. }) => "erasing",
        Event::Erase(machine::EraseEvent::Ended { .. }) => "found",
        Event::Host(host::Event::Ready(_)) => "ready",
        Event::Vm(vm::Event::Created { .. } | vm::Event::Kept { .. }) => "starting",
        Event::Vm(vm::Event::Running { .. }) => "running",
        Event::Vm(vm::Event::Removing { .. }) | Event::Service(service::Event::Removing { .. }) => {
            "being removed"
        }
        Event::Service(service::Event::Created(_) | service::Event::Kept { .. }) => "installing",
        Event::Service(service::Event::Answering { .. }) => "answering",
        _ => return None,
    })
}
