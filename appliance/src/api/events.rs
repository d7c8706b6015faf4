//! `GET /api/v1/events`: server-sent events, one whenever something has changed.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, stream};
use serde_json::json;
use tokio::time::Instant;

use crate::App;

/// Changes come in bursts (an installation writes many lines): the first is shown at once, the rest together after this.
pub const DEBOUNCE: Duration = Duration::from_millis(200);

/// `event: change`, `data: {"revision":17}`: ask for the state again.
pub async fn get(State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut changes = app.core.changes();
    changes.mark_changed();
    let stream = stream::unfold((changes, Instant::now()), |(mut changes, calm)| async move {
        changes.changed().await.ok()?;
        tokio::time::sleep_until(calm).await;
        let revision = *changes.borrow_and_update();
        let event = Event::default().event("change").data(json!({ "revision": revision }).to_string());
        Some((Ok(event), (changes, Instant::now() + DEBOUNCE)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}
