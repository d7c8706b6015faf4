//! The log that simulated appliances share: rows with gapless positions, events as the text that a store keeps.

use fleet::{Event, Fleet, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub position: usize,
    pub at: Timestamp,
    pub actor: String,
    pub body: String,
}

#[derive(Debug, Default)]
pub struct Log {
    rows: Vec<Row>,
}

/// Somebody else has appended since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

impl Log {
    pub fn last(&self) -> usize {
        self.rows.len()
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Appends after `last`, which is the position that the events were decided at.
    pub fn append(
        &mut self,
        last: usize,
        at: Timestamp,
        actor: &str,
        events: &[Event],
    ) -> Result<(), Conflict> {
        if last != self.rows.len() {
            return Err(Conflict);
        }
        for event in events {
            let body = serde_json::to_string(event).expect("an event is JSON");
            let position = self.rows.len() + 1;
            self.rows.push(Row { position, at, actor: actor.to_owned(), body });
        }
        Ok(())
    }

    /// The events after `position`, read from their text.
    pub fn after(&self, position: usize) -> impl Iterator<Item = Event> {
        self.rows[position..].iter().map(|row| serde_json::from_str(&row.body).expect("an event was kept"))
    }

    /// The fleet that the rows fold to.
    pub fn replay(&self) -> Fleet {
        let mut fleet = Fleet::default();
        for event in self.after(0) {
            fleet::evolve(&mut fleet, &event);
        }
        fleet
    }

    /// All of it as text: two runs are the same if these are.
    pub fn text(&self) -> String {
        self.rows
            .iter()
            .map(|row| format!("{} {} {} {}\n", row.position, row.at.0, row.actor, row.body))
            .collect()
    }
}
