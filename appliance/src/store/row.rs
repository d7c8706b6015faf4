//! One row of the log: an event, where it stands, who it came from, and a checksum over all of that.

use fleet::{Command, Event, Timestamp};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::StoreError;

/// What is to be appended: an event, and at the first event of an order that order.
#[derive(Debug, Clone)]
pub struct Fact {
    pub at: Timestamp,
    pub actor: String,
    pub event: Event,
    pub command: Option<Command>,
}

/// What stands in the log at a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    pub position: i64,
    pub at: Timestamp,
    pub actor: String,
    pub subject: String,
    /// `machine.adopted`
    pub kind: String,
    pub event: Event,
    pub command: Option<Command>,
}

/// A row as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub position: i64,
    pub at: i64,
    pub actor: String,
    pub subject: String,
    pub kind: String,
    pub version: i64,
    pub body: String,
    pub command: Option<String>,
    pub sum: Option<i64>,
}

impl Row {
    pub fn new(position: i64, fact: &Fact) -> Result<Row, StoreError> {
        let unwritable = |source| StoreError::Unwritable { source };
        let body = serde_json::to_value(&fact.event).map_err(unwritable)?;
        let mut row = Row {
            position,
            at: fact.at.0.cast_signed(),
            actor: fact.actor.clone(),
            subject: fact.event.subject(),
            kind: kind(&body),
            version: Event::VERSION,
            body: body.to_string(),
            command: fact.command.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)?,
            sum: None,
        };
        row.sum = Some(row.checksum());
        Ok(row)
    }

    /// Checks the row and reads its event. A row without a checksum was written by hand and is taken as it is.
    pub fn read(self) -> Result<Record, StoreError> {
        if self.sum.is_some_and(|sum| sum != self.checksum()) {
            return Err(StoreError::Altered { position: self.position });
        }
        let Row { position, version, .. } = self;
        let unreadable = |reason: String| StoreError::Unreadable { position, version, reason };
        if version != Event::VERSION {
            return Err(unreadable(format!("this program reads version {}", Event::VERSION)));
        }
        let event = serde_json::from_str(&self.body).map_err(|error| unreadable(error.to_string()))?;
        // Of another version of the program, perhaps: the event is what counts.
        let command = self.command.as_deref().and_then(|command| serde_json::from_str(command).ok());
        Ok(Record {
            position,
            at: Timestamp(self.at.cast_unsigned()),
            actor: self.actor,
            subject: self.subject,
            kind: self.kind,
            event,
            command,
        })
    }

    /// First eight octets of SHA-256 over all other columns, each preceded by its length.
    pub fn checksum(&self) -> i64 {
        let mut hash = Sha256::new();
        for number in [self.position, self.at, self.version] {
            hash.update(number.to_be_bytes());
        }
        let command = self.command.as_deref().unwrap_or_default();
        for text in [&self.actor, &self.subject, &self.kind, &self.body, command] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

fn kind(body: &serde_json::Value) -> String {
    let word = |key: &str| body.get(key).and_then(|word| word.as_str()).unwrap_or("?");
    format!("{}.{}", word("noun"), word("event"))
}
