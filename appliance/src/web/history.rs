//! The log as a page: every event there is, told, newest first, and a search through it.

use std::time::{Duration, Instant};

use fleet::{Fleet, Timestamp, machine, name_of};

use super::look::Look;
use super::overview::href_of;
use crate::core::person_and_place;
use crate::store::Record;
use crate::{App, web};

/// Events that are read at once.
const BLOCK: u32 = 250;

/// A search that has found too little by then goes on when it is asked to.
const PATIENCE: Duration = Duration::from_millis(25);

#[derive(Debug, Clone)]
pub struct Row {
    pub position: i64,
    pub at: Timestamp,
    /// Who did it; empty where it is the appliance, or the thing itself.
    pub who: String,
    pub from: Option<String>,
    pub name: String,
    pub href: Option<String>,
    pub sentence: String,
}

impl Row {
    pub fn of(fleet: &Fleet, record: &Record) -> Row {
        let (who, from) = person_and_place(&record.actor);
        let is_person = !who.contains(':') && who != record.subject && who != "appliance";
        let is_node = who.parse::<fleet::NodeId>().is_ok();
        let shown = is_person && !is_node;
        Row {
            position: record.position,
            at: record.at,
            who: if shown { who.to_owned() } else { String::new() },
            from: from.filter(|_| shown).map(str::to_owned),
            name: named(fleet, &record.subject),
            href: href_of(fleet, &record.subject),
            sentence: record.event.sentence(),
        }
    }

    fn has(&self, word: &str, subject: &str) -> bool {
        [self.sentence.as_str(), &self.name, &self.who, self.from.as_deref().unwrap_or_default(), subject]
            .iter()
            .any(|text| text.to_lowercase().contains(word))
    }
}

/// What an event is about, as people call it; a NIC by its machine.
fn named(fleet: &Fleet, subject: &str) -> String {
    let of_nic = || machine::by_mac(fleet, subject.parse().ok()?).map(|machine| machine.name.to_string());
    name_of(fleet, subject).or_else(of_nic).unwrap_or_else(|| subject.to_owned())
}

/// A page of the log.
#[derive(Debug, Clone)]
pub struct Page {
    pub rows: Vec<Row>,
    pub look: Look,
    /// Of the last event in the log.
    pub end: i64,
    /// Where what is older is.
    pub older: Option<String>,
    /// The newest page.
    pub newest: Option<String>,
    /// A search was not patient enough to look further back than this.
    pub searched_until: Option<Timestamp>,
}

pub async fn page(app: &App, fleet: &Fleet, look: &Look) -> Result<Page, web::Error> {
    let begun = Instant::now();
    let end = app.core.position();
    let words: Vec<String> = look.q.split_whitespace().map(str::to_lowercase).collect();
    // Positions that have not been looked at: 1 to this.
    let mut left = look.before.map_or(end, |before| (before - 1).min(end)).max(0);
    let mut rows: Vec<Row> = Vec::new();
    let mut searched_until = None;
    while left > 0 && rows.len() < look.size {
        if !words.is_empty() && begun.elapsed() > PATIENCE {
            break;
        }
        let wanted = if words.is_empty() { u32::try_from(look.size).unwrap_or(BLOCK) } else { BLOCK };
        let after = (left - i64::from(wanted)).max(0);
        let records = match app.core.history(after, u32::try_from(left - after).unwrap_or(BLOCK)).await {
            // The page says so already.
            Err(error) if error.is_away() => break,
            records => records?,
        };
        searched_until = records.first().map(|record| record.at);
        left = after;
        for record in records.iter().rev() {
            let row = Row::of(fleet, record);
            if !words.iter().all(|word| row.has(word, &record.subject)) {
                continue;
            }
            rows.push(row);
            if rows.len() == look.size {
                left = record.position - 1;
                searched_until = None;
                break;
            }
        }
    }
    let href = |before| format!("/log{}", Look { before, ..look.clone() }.query());
    Ok(Page {
        rows,
        look: look.clone(),
        end,
        older: (left > 0).then(|| href(Some(left + 1))),
        newest: look.before.map(|_| href(None)),
        searched_until: searched_until.filter(|_| left > 0 && !words.is_empty()),
    })
}
