//! `GET /live`: what has changed on the page, as server-sent events.
//!
//! An event named after a section brings its new HTML; `tick` says that timelines may have new lines; `over`
//! says that the session has ended. With `?show=head,machines` only these sections are looked at: a page names those
//! that it has.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, stream};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Error, pages};
use crate::App;
use crate::api::{events, guard, state};

#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// Names of sections with commas between them; all, if it is not said.
    show: Option<String>,
}

impl Wanted {
    fn has(&self, section: &str) -> bool {
        self.show.as_ref().is_none_or(|show| show.split(',').any(|name| name == section))
    }
}

struct Live {
    app: App,
    token: String,
    wanted: Wanted,
    changes: watch::Receiver<u64>,
    /// Each section as the browser has it.
    sent: BTreeMap<&'static str, String>,
    /// Nothing is sent before this moment.
    calm: Instant,
    ready: VecDeque<Event>,
    over: bool,
}

pub async fn get(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Error> {
    let token = guard::token(&headers).ok_or_else(Error::not_logged_in)?.to_owned();
    let mut changes = app.core.changes();
    // The page may be older than this connection.
    changes.mark_changed();
    let live = Live {
        app,
        token,
        wanted,
        changes,
        sent: BTreeMap::new(),
        calm: Instant::now(),
        ready: VecDeque::new(),
        over: false,
    };
    let stream = stream::unfold(live, |mut live| async move {
        let event = live.next().await?;
        Some((Ok(event), live))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Live {
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            if self.over {
                return None;
            }
            self.changes.changed().await.ok()?;
            tokio::time::sleep_until(self.calm).await;
            let revision = *self.changes.borrow_and_update();
            self.look(revision).await;
            self.calm = Instant::now() + events::DEBOUNCE;
        }
        self.ready.pop_front()
    }

    async fn look(&mut self, revision: u64) {
        // Logging out elsewhere, or a session that ran out, ends what this one sees.
        let Ok(Some((user, role, session))) = guard::of_token(&self.app, &self.token).await else {
            self.ready.push_back(Event::default().event("over").data("logged out"));
            self.over = true;
            return;
        };
        let state = state::state(&self.app);
        let mut sections = match pages::sections(&state, |name| self.wanted.has(name)) {
            Ok(sections) => sections,
            Err(error) => {
                tracing::error!(%error, "A section of the page could not be rendered");
                self.over = true;
                return;
            }
        };
        if self.wanted.has("sessions") {
            let from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            let person = guard::Person { user, role, session, from, rehearsal: None };
            match pages::own_sessions(&self.app, &person).await {
                Ok(section) => sections.push(section),
                Err(error) => tracing::warn!(?error, "The sessions could not be listed"),
            }
        }
        for section in sections {
            if self.sent.get(section.name) != Some(&section.html) {
                self.ready.push_back(Event::default().event(section.name).data(&section.html));
                self.sent.insert(section.name, section.html);
            }
        }
        self.ready.push_back(Event::default().event("tick").data(revision.to_string()));
    }
}
