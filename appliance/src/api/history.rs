//! `GET /api/v1/history`, `/api/v1/at`: the log itself, and the state it comes to.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use fleet::{Event, Fleet, StateHash, Timestamp, compact, digest, name_of, state_hash};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::{Head, Line, Moment, What};
use crate::query::time::moment;
use crate::store::Record;
use crate::{App, core, web};

const USUAL: u32 = 200;
const MOST: u32 = 5000;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Without it, the last ones.
    after: Option<i64>,
    limit: Option<u32>,
}

/// An event of the log, told.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    pub position: i64,
    pub at: Timestamp,
    pub actor: String,
    pub subject: String,
    /// Of the subject, if it is still there.
    pub name: Option<String>,
    pub sentence: String,
}

/// An event of the log, and the command it came from.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Full {
    #[serde(flatten)]
    pub told: Told,
    pub event: serde_json::Value,
    /// None if it was written into the log without one.
    pub command: Option<serde_json::Value>,
    /// Where that command stands: at the first of its events.
    pub command_position: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sum {
    pub position: i64,
    pub hash: StateHash,
}

/// A short log, and the state that it and the long one come to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Compacted {
    #[serde(flatten)]
    pub sum: Sum,
    pub lines: Vec<Line>,
}

/// A part of the log, to be replayed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Lines {
    pub lines: Vec<Line>,
    /// Where to go on: the position of the last event in it.
    pub next: i64,
    pub more: bool,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct At {
    at: Option<String>,
}

pub async fn list(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<Vec<Told>>, web::Error> {
    let records = records(&app, &wanted).await?;
    let fleet = app.core.fleet();
    Ok(axum::Json(records.into_iter().map(|record| told(&fleet, &record)).collect()))
}

pub async fn show(State(app): State<App>, Path(position): Path<i64>) -> Result<axum::Json<Full>, web::Error> {
    // A command stands at the first of its events; what it makes at once is a few events.
    const BEFORE: i64 = 64;
    let after = (position - BEFORE).max(1) - 1;
    let records = app.core.history(after, u32::try_from(position - after).unwrap_or(0)).await?;
    let Some(record) = records.last().filter(|record| record.position == position) else {
        let end = app.core.position();
        let sentence = format!("there is nothing at position {position}; the log ends at {end}");
        return Err(web::Error::refused(StatusCode::NOT_FOUND, sentence));
    };
    let with_command = records.iter().rev().find(|earlier| earlier.command.is_some());
    let with_command =
        with_command.filter(|earlier| earlier.at == record.at && earlier.actor == record.actor);
    Ok(axum::Json(Full {
        told: told(&app.core.fleet(), record),
        event: serde_json::to_value(&record.event).unwrap_or_default(),
        command: with_command.and_then(|record| serde_json::to_value(&record.command).ok()),
        command_position: with_command.map(|record| record.position),
    }))
}

/// The log as lines that can be replayed: commands with their times, and events that came without one.
pub async fn lines(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<Lines>, web::Error> {
    let after = wanted.after.unwrap_or(0);
    let mut limit = wanted.limit.unwrap_or(MOST).clamp(1, MOST);
    loop {
        let records = app.core.history(after, limit).await?;
        let full = records.len() == limit as usize;
        let mut groups: Vec<&[Record]> = records.chunk_by(|_, next| !starts(next)).collect();
        // An event that came without a command may look like one more of the command before it.
        groups = groups.into_iter().flat_map(split).collect();
        // What the last command came to may go on after this page.
        if full {
            if groups.len() == 1 {
                limit = limit.saturating_mul(2);
                continue;
            }
            groups.pop();
        }
        let next = groups.last().and_then(|group| group.last()).map_or(after, |last| last.position);
        let lines = groups.into_iter().filter_map(line).collect();
        return Ok(axum::Json(Lines { lines, next, more: full }));
    }
}

fn starts(record: &Record) -> bool {
    record.command.is_some()
}

/// A command with its events, and each event that came without one.
fn split(group: &[Record]) -> Vec<&[Record]> {
    let Some(first) = group.first() else { return Vec::new() };
    let of_it = |record: &&Record| starts(first) && record.at == first.at && record.actor == first.actor;
    let own = group.iter().take_while(of_it).count().max(1);
    let (command, others) = group.split_at(own);
    std::iter::once(command).chain(others.chunks(1)).collect()
}

fn line(group: &[Record]) -> Option<Line> {
    let first = group.first()?;
    let events: Vec<Event> = group.iter().map(|record| record.event.clone()).collect();
    let (what, digest) = match &first.command {
        Some(command) => (What::Command(command.clone()), Some(digest(&events))),
        None => (What::Event(first.event.clone()), None),
    };
    Some(Line { position: Some(first.position), at: first.at, actor: first.actor.clone(), what, digest })
}

pub async fn compacted(State(app): State<App>) -> Result<axum::Json<Compacted>, web::Error> {
    let head = app.core.head();
    let at = core::now();
    blocking(move || {
        let commands = compact(&head.fleet).into_iter();
        let lines = commands.map(|command| Line {
            position: None,
            at,
            actor: "compaction".to_owned(),
            what: What::Command(command),
            digest: None,
        });
        axum::Json(Compacted { lines: lines.collect(), sum: sum(&head) })
    })
    .await
}

pub async fn state(State(app): State<App>, Query(wanted): Query<At>) -> Result<axum::Json<Sum>, web::Error> {
    let head = match &wanted.at {
        Some(at) => head_at(&app, at).await?,
        None => app.core.head(),
    };
    blocking(move || axum::Json(sum(&head))).await
}

/// The fleet at a moment as people write it.
pub async fn head_at(app: &App, at: &str) -> Result<Head, web::Error> {
    let wrong = |sentence: String| web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence);
    let moment = moment(at, core::now()).map_err(wrong)?;
    if let Moment::Position(position) = moment
        && position > app.core.position()
    {
        return Err(wrong(format!("the log ends at position {}", app.core.position())));
    }
    Ok(app.core.fleet_at(moment).await?)
}

fn sum(head: &Head) -> Sum {
    Sum { position: head.position, hash: state_hash(&head.fleet) }
}

/// Goes over everything there is: not on a thread that others wait for.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, web::Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| web::Error::Broken(error.into()))
}

async fn records(app: &App, wanted: &Wanted) -> Result<Vec<Record>, web::Error> {
    let limit = wanted.limit.unwrap_or(USUAL).min(MOST);
    let after = wanted.after.unwrap_or_else(|| (app.core.position() - i64::from(limit)).max(0));
    Ok(app.core.history(after, limit).await?)
}

fn told(fleet: &Arc<Fleet>, record: &Record) -> Told {
    Told {
        position: record.position,
        at: record.at,
        actor: record.actor.clone(),
        subject: record.subject.clone(),
        name: name_of(fleet, &record.subject),
        sentence: record.event.sentence(),
    }
}
