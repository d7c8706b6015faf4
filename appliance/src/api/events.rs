//! `GET /api/v1/events`: server-sent events, one for each event of the log, and one whenever something else is different.
//!
//! An event of the log has its position as id: who was away goes on after the last that he has (`Last-Event-ID`, or
//! `?after=`), however long ago that was.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use fleet::{Fleet, Timestamp, name_of, tenant};
use futures::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::guard::{self, Person};
use super::timeline;
use crate::store::Record;
use crate::{App, web};

/// Changes come in bursts (an installation writes many lines): the first is shown at once, the rest together after this.
pub const DEBOUNCE: Duration = Duration::from_millis(200);

/// Events that are read at once.
const PAGE: u32 = 500;

/// While the database is away.
const AGAIN: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Begins after this position of the log; without it, and without Last-Event-ID, with what happens from now on.
    after: Option<i64>,
    /// Only events of these subjects, with commas between them: m1,v2,subnet:lab.
    subjects: Option<String>,
}

/// An event of the log as those get it who follow it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Happened {
    pub position: i64,
    pub at: Timestamp,
    pub actor: String,
    /// Which object is different: m1, v2, s3, subnet:lab, site.
    pub subject: String,
    /// What people call it, if it is still there.
    pub name: Option<String>,
    /// `machine.adopted`
    pub kind: String,
    pub sentence: String,
}

impl Happened {
    pub fn of(fleet: &Fleet, record: &Record) -> Happened {
        Happened {
            position: record.position,
            at: record.at,
            actor: record.actor.clone(),
            subject: record.subject.clone(),
            name: name_of(fleet, &record.subject),
            kind: record.kind.clone(),
            sentence: record.event.sentence(),
        }
    }

    /// As somebody of `tenant` is told it, if it is about what the tenant has.
    fn told(fleet: &Fleet, tenant: &str, record: &Record) -> Option<Happened> {
        let told = tenant::told(&record.event);
        let actor = timeline::actor_for(fleet, tenant, &record.actor);
        tenant::owns(fleet, tenant, &record.subject).then(|| Happened {
            actor,
            sentence: told.sentence(),
            ..Happened::of(fleet, record)
        })
    }
}

struct Follower {
    app: App,
    token: String,
    tenant: Option<String>,
    changes: watch::Receiver<u64>,
    subjects: Option<Vec<String>>,
    /// Of the last event that was looked at.
    position: i64,
    /// Nothing is sent before this moment.
    calm: Instant,
    ready: VecDeque<Event>,
    over: bool,
}

/// `event: happened`, `id: 17`, `data: {"position":17,"subject":"m1",…}`; and `event: change`, `data:
/// {"revision":17}`: ask again for what is not in the log, such as what nodes say. `event: over` when the session has
/// ended.
pub async fn get(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, web::Error> {
    let token = guard::token(&headers).ok_or_else(web::Error::not_logged_in)?.to_owned();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let end = app.core.position();
    let mut changes = app.core.changes();
    changes.mark_changed();
    let follower = Follower {
        token,
        tenant: person.user.tenant,
        changes,
        subjects: wanted.subjects.map(|names| names.split(',').map(|name| name.trim().to_owned()).collect()),
        position: last.or(wanted.after).unwrap_or(end).clamp(0, end),
        calm: Instant::now(),
        ready: VecDeque::new(),
        over: false,
        app,
    };
    let stream = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            if self.over {
                return None;
            }
            if self.position < self.app.core.position() {
                self.read().await;
                continue;
            }
            self.changes.changed().await.ok()?;
            tokio::time::sleep_until(self.calm).await;
            let revision = *self.changes.borrow_and_update();
            // Logging out elsewhere, or a session that ran out, ends what this one sees.
            if !matches!(guard::of_token(&self.app, &self.token).await, Ok(Some(_))) {
                self.ready.push_back(Event::default().event("over").data("logged out"));
                self.over = true;
                continue;
            }
            self.read().await;
            let change = json!({ "revision": revision, "position": self.position });
            self.ready.push_back(Event::default().event("change").data(change.to_string()));
            self.calm = Instant::now() + DEBOUNCE;
        }
        self.ready.pop_front()
    }

    /// What came after the last event that was looked at, a part of it.
    async fn read(&mut self) {
        if self.position >= self.app.core.position() {
            return;
        }
        let Ok(records) = self.app.core.history(self.position, PAGE).await else {
            tokio::time::sleep(AGAIN).await;
            return;
        };
        let fleet = self.app.core.fleet();
        for record in &records {
            self.position = record.position;
            if self.subjects.as_ref().is_some_and(|subjects| !subjects.contains(&record.subject)) {
                continue;
            }
            let happened = match &self.tenant {
                Some(tenant) => Happened::told(&fleet, tenant, record),
                None => Some(Happened::of(&fleet, record)),
            };
            let Some(happened) = happened else { continue };
            let happened = serde_json::to_string(&happened).unwrap_or_default();
            let event = Event::default().event("happened").id(record.position.to_string()).data(happened);
            self.ready.push_back(event);
        }
    }
}
