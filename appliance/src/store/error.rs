//! What can go wrong with the log, and what it means for a change that was to be written.

use std::error::Error as _;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database's address must begin with sqlite: or postgres://")]
    Url,
    #[error("the event log could not be {step}")]
    Database { step: &'static str, source: sqlx::Error },
    #[error("the event log could not be brought to this version")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("an event could not be written as JSON")]
    Unwritable { source: serde_json::Error },
    #[error("the event log has a hole: after position {after} comes {found}")]
    Hole { after: i64, found: i64 },
    #[error("position {position} of the event log cannot be read (version {version}): {reason}")]
    Unreadable { position: i64, version: i64, reason: String },
    #[error("position {position} of the event log was altered: its checksum is wrong")]
    Altered { position: i64 },
    #[error(
        "the event log ends at position {end}, but there is a snapshot of position {snapshot}: events are missing"
    )]
    Short { end: i64, snapshot: i64 },
    #[error("the snapshot could not be made: {reason}")]
    Snapshot { reason: String },
    #[error(
        "the log up to position {position} gives the state {log}, and the snapshot of that position has {snapshot}: one of them was altered"
    )]
    Differs { position: i64, log: String, snapshot: String },
    #[error(
        "this log belongs to the site whose authority is {bound}: copy ca.pem, ca-key.pem, secret and seal-key from its appliance into the folder `state`"
    )]
    OtherAuthority { bound: String },
    /// Somebody else appended first; nothing was written.
    #[error("the event log has grown meanwhile")]
    Conflict,
    /// Nothing was written.
    #[error("the database cannot be reached")]
    Away { source: sqlx::Error },
    /// The connection ended while a commit was under way: it was made, or it was not.
    #[error("the database did not say whether the change was made")]
    Doubt { source: sqlx::Error },
    /// What was written before may be lost, too: after this, only what a new start reads is true (fsyncgate).
    #[error("the disk did not take what was written to it")]
    Sync { source: sqlx::Error },
}

/// SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_TRUNCATE
const NOT_SYNCED: [&str; 3] = ["1034", "1290", "1546"];

/// SQLITE_CONSTRAINT_PRIMARYKEY; unique_violation
const TAKEN: [&str; 2] = ["1555", "23505"];

impl StoreError {
    /// What an error means that came before anything was committed.
    pub(crate) fn of(step: &'static str, source: sqlx::Error) -> StoreError {
        let code = source.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        if NOT_SYNCED.contains(&code.as_str()) {
            StoreError::Sync { source }
        } else if TAKEN.contains(&code.as_str()) {
            StoreError::Conflict
        } else if is_lost(&source) {
            StoreError::Away { source }
        } else {
            StoreError::Database { step, source }
        }
    }

    /// What an error means that came in answer to a commit.
    pub(super) fn of_commit(source: sqlx::Error) -> StoreError {
        match StoreError::of("written", source) {
            StoreError::Away { source } => StoreError::Doubt { source },
            other => other,
        }
    }

    pub fn is_away(&self) -> bool {
        matches!(self, StoreError::Away { .. } | StoreError::Doubt { .. })
    }

    /// Whether the log itself is wrong, rather than its being read.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            StoreError::Hole { .. }
                | StoreError::Unreadable { .. }
                | StoreError::Altered { .. }
                | StoreError::Short { .. }
                | StoreError::Differs { .. }
        )
    }

    /// The innermost reason, for people.
    pub fn why(&self) -> String {
        let mut error: &dyn std::error::Error = self;
        while let Some(source) = error.source() {
            error = source;
        }
        match self {
            StoreError::Away { source: sqlx::Error::PoolTimedOut } => {
                "no connection within two seconds".into()
            }
            _ if self.source().is_some() => error.to_string(),
            _ => self.to_string(),
        }
    }
}

/// Whether the connection is gone, rather than the statement wrong. Class 57: an operator intervened (shutdown,
/// crash, still starting); class 08: connection exceptions; 25006: read only, as a standby is; class 53 that is
/// not a full disk: too many connections.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.len() == 5
                && (code.starts_with("57P") || code.starts_with("08") || code == "25006" || code == "53300")
        }),
        _ => false,
    }
}
