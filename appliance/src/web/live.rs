//! `GET /live?of=/machines%3Fq%3Dweb&have=head:0123456789abcdef`: what has changed on a page, as server-sent events.
//!
//! An event named after a section brings its new HTML, with the sum of it as its id; `tick` says that timelines may
//! have new lines; `over` says that the session has ended. A page names the sections that it has by their sums, and is
//! not brought these again.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, stream};
use serde::Deserialize;
use tokio::sync::watch;

use super::Error;
use super::kept::Kept;
use super::look::View;
use super::pages::{self, Section};
use super::views::{Sight, Views};
use crate::App;
use crate::api::guard;

#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// The page's address; the overview, if it is not said.
    of: Option<String>,
    /// Sections with their sums: `head:0123456789abcdef,machines:…`.
    #[serde(default)]
    have: String,
}

struct Live {
    app: App,
    token: String,
    sights: watch::Receiver<Sight>,
    /// Sums of the sections as the browser has them.
    sent: BTreeMap<String, String>,
    /// May have a section that is this person's own.
    view: View,
    ready: VecDeque<Event>,
    over: bool,
}

pub async fn get(
    State(app): State<App>,
    Extension(views): Extension<Arc<Views>>,
    Extension(person): Extension<guard::Person>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Error> {
    let token = guard::token(&headers).ok_or_else(Error::not_logged_in)?.to_owned();
    let view = View::at_address(wanted.of.as_deref().unwrap_or("/"));
    let view = view.ok_or_else(|| Error::refused(StatusCode::NOT_FOUND, "there is no such page"))?;
    if let Some(tenant) = person.tenant() {
        // What is not for tenants is refused before anything follows it.
        pages::look(&app, Some(tenant), &view, &mut Kept::default()).await?;
    }
    let mut sights = views.watch(&app, person.user.tenant, view.clone());
    // The page may be older than this connection.
    sights.mark_changed();
    let sent = wanted.have.split(',').filter_map(|pair| pair.split_once(':'));
    let sent = sent.map(|(name, sum)| (name.to_owned(), sum.to_owned())).collect();
    let live = Live { app, token, sights, sent, view, ready: VecDeque::new(), over: false };
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
            self.sights.changed().await.ok()?;
            let sight = self.sights.borrow_and_update().clone();
            self.look(sight).await;
        }
        self.ready.pop_front()
    }

    async fn look(&mut self, Sight { seen, revision }: Sight) {
        let Some(seen) = seen else { return };
        // Logging out elsewhere, or a session that ran out, ends what this one sees.
        let Ok(Some((user, role, session))) = guard::of_token(&self.app, &self.token).await else {
            self.ready.push_back(Event::default().event("over").data("logged out"));
            self.over = true;
            return;
        };
        for section in seen.sections() {
            self.bring(section);
        }
        let from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let person = guard::Person { user, role, session, from, rehearsal: None };
        match pages::own(&self.app, &person, &self.view).await {
            Ok(section) => section.iter().for_each(|section| self.bring(section)),
            Err(error) => tracing::warn!(?error, "What is this person's own could not be shown"),
        }
        self.ready.push_back(Event::default().event("tick").data(revision.to_string()));
    }

    fn bring(&mut self, section: &Section) {
        if self.sent.get(section.name) != Some(&section.sum) {
            let event = Event::default().event(section.name).id(&section.sum);
            self.ready.push_back(event.data(&section.html));
            self.sent.insert(section.name.to_owned(), section.sum.clone());
        }
    }
}
