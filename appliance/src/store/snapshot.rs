//! Snapshots: the fleet as it was after some event, so that a start reads that and replays only what came after.
//!
//! A snapshot is a shortcut and never the truth: one that is broken, or of another version, is left aside with a
//! warning, and the log is replayed from the beginning.

use fleet::{Fleet, Part, Restore, SNAPSHOT_VERSION, StateHash, Timestamp};
use futures::StreamExt as _;
use sqlx::Row as _;

use super::{Loaded, Store, StoreError, on_pool};

/// Snapshots that stay: the newest, and one before it.
const KEPT: i64 = 2;

/// Parts that are decoded at the same time.
const DECODED_AT_ONCE: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    position: i64,
    version: i64,
    hash: String,
    parts: i64,
}

impl Store {
    /// The newest snapshot at or before `until` that is good, or the empty fleet at position 0.
    pub(super) async fn load_snapshot(&self, until: i64) -> Result<Loaded, StoreError> {
        let end = self.end().await?;
        for header in self.headers(until).await? {
            if header.position > end {
                return Err(StoreError::Short { end, snapshot: header.position });
            }
            match self.read_snapshot(&header).await? {
                Ok(fleet) => {
                    return Ok(Loaded { fleet, position: header.position, snapshot: Some(header.position) });
                }
                Err(reason) => tracing::warn!(
                    "The snapshot of position {} is left aside: {reason}. The log is replayed from before it",
                    header.position
                ),
            }
        }
        Ok(Loaded { fleet: Fleet::default(), position: 0, snapshot: None })
    }

    /// Newest first.
    async fn headers(&self, until: i64) -> Result<Vec<Header>, StoreError> {
        on_pool!(&self.pool, pool => {
            let rows = sqlx::query(
                "SELECT position, version, hash, parts FROM snapshot WHERE position <= $1 ORDER BY position DESC",
            )
            .bind(until)
            .fetch_all(pool)
            .await
            .map_err(|source| StoreError::of("read", source))?;
            Ok(rows
                .into_iter()
                .map(|row| Header { position: row.get(0), version: row.get(1), hash: row.get(2), parts: row.get(3) })
                .collect())
        })
    }

    /// The inner error says why the snapshot is not usable.
    async fn read_snapshot(&self, header: &Header) -> Result<Result<Fleet, String>, StoreError> {
        if header.version != SNAPSHOT_VERSION {
            return Ok(Err(format!(
                "it is of version {}, and this program reads version {SNAPSHOT_VERSION}",
                header.version
            )));
        }
        on_pool!(&self.pool, pool => {
            let mut parts = sqlx::query("SELECT noun, body FROM snapshot_part WHERE position = $1 ORDER BY part")
                .bind(header.position)
                .fetch(pool)
                .map(|row| row.map(|row| Part { noun: row.get(0), body: row.get(1) }))
                .map(|part| tokio::task::spawn_blocking(move || part.map(|part| part.decode())))
                .buffered(DECODED_AT_ONCE);
            let mut restore = Restore::default();
            let mut count = 0;
            while let Some(part) = parts.next().await {
                let part = match part {
                    Ok(part) => part.map_err(|source| StoreError::of("read", source))?,
                    Err(panic) => return Ok(Err(panic.to_string())),
                };
                count += 1;
                if let Err(bad) = part.and_then(|part| restore.add(part)) {
                    return Ok(Err(bad.to_string()));
                }
            }
            if count != header.parts {
                return Ok(Err(format!("it has {count} parts and should have {}", header.parts)));
            }
            match restore.hash() {
                Some(hash) if hash.to_string() == header.hash => {}
                hash => {
                    let hash = hash.map_or_else(|| "missing".to_owned(), |hash| hash.to_string());
                    return Ok(Err(format!("its state hash is {hash} and should be {}", header.hash)));
                }
            }
            Ok(restore.finish().map_err(|bad| bad.to_string()))
        })
    }

    /// Writes the snapshot of `fleet` as it is after `position`, a part at a time so that nobody waits for long; and
    /// forgets older ones.
    pub async fn save_snapshot(
        &self,
        fleet: &Fleet,
        position: i64,
        at: Timestamp,
    ) -> Result<StateHash, StoreError> {
        let written = |source| StoreError::of("written", source);
        let (send, mut parts) = tokio::sync::mpsc::channel::<Part>(2);
        let encoding = {
            let fleet = fleet.clone();
            tokio::task::spawn_blocking(move || {
                let mut hash = None;
                for part in fleet::parts(&fleet) {
                    // The last part holds the digests of all others, and its own is the state hash.
                    hash = Some(part.digest());
                    if send.blocking_send(part).is_err() {
                        break;
                    }
                }
                hash
            })
        };
        let mut count = 0_i64;
        while let Some(part) = parts.recv().await {
            on_pool!(&self.pool, pool => {
                sqlx::query(
                    "INSERT INTO snapshot_part (position, part, noun, body) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (position, part) DO UPDATE SET noun = $3, body = $4",
                )
                .bind(position)
                .bind(count)
                .bind(part.noun)
                .bind(part.body)
                .execute(pool)
                .await
                .map_err(written)?;
            });
            count += 1;
        }
        let hash = encoding.await.map_err(|panic| StoreError::Snapshot { reason: panic.to_string() })?;
        let hash = hash.ok_or_else(|| StoreError::Snapshot { reason: "it is empty".to_owned() })?;
        on_pool!(&self.pool, pool => {
            sqlx::query(
                "INSERT INTO snapshot (position, at, version, hash, parts) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (position) DO UPDATE SET at = $2, version = $3, hash = $4, parts = $5",
            )
            .bind(position)
            .bind(at.0.cast_signed())
            .bind(SNAPSHOT_VERSION)
            .bind(hash.to_string())
            .bind(count)
            .execute(pool)
            .await
            .map_err(written)?;
            sqlx::query(
                "DELETE FROM snapshot WHERE position <
                     (SELECT min(position) FROM (SELECT position FROM snapshot ORDER BY position DESC LIMIT $1) AS kept)",
            )
            .bind(KEPT)
            .execute(pool)
            .await
            .map_err(written)?;
        });
        self.sweep_parts(position).await?;
        Ok(hash)
    }

    /// Forgets parts that belong to no snapshot, and are not of one that another daemon is writing now.
    async fn sweep_parts(&self, before: i64) -> Result<(), StoreError> {
        on_pool!(&self.pool, pool => {
            sqlx::query(
                "DELETE FROM snapshot_part WHERE position < $1 AND position NOT IN (SELECT position FROM snapshot)",
            )
            .bind(before)
            .execute(pool)
            .await
            .map(drop)
        })
        .map_err(|source| StoreError::of("written", source))
    }

    /// Forgets every snapshot; the next start replays the log.
    pub async fn drop_snapshots(&self) -> Result<(), StoreError> {
        on_pool!(&self.pool, pool => {
            sqlx::query("DELETE FROM snapshot").execute(pool).await.map(drop)
        })
        .map_err(|source| StoreError::of("written", source))
    }

    /// Reads every row up to `position`, also those that a start with a snapshot leaves out; with `state`, replays
    /// them and compares the state with the snapshot of that position.
    pub async fn audit(&self, position: i64, state: bool) -> Result<(), StoreError> {
        if !state {
            return self.check(position).await;
        }
        let mut fleet = Fleet::default();
        self.replay(&mut fleet, 0, position).await?;
        let Some(header) =
            self.headers(position).await?.into_iter().find(|header| header.position == position)
        else {
            return Ok(());
        };
        let hash = tokio::task::spawn_blocking(move || fleet::state_hash(&fleet).to_string())
            .await
            .map_err(|panic| StoreError::Snapshot { reason: panic.to_string() })?;
        if hash != header.hash {
            return Err(StoreError::Differs { position, log: hash, snapshot: header.hash });
        }
        Ok(())
    }
}
