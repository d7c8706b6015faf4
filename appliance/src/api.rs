//! REST over JSON, used by the page and by `eli`: one file per resource; [`router`] lists every route.
//!
//! The documents here are what both of them show, so that the page and the console cannot say different
//! things. Times are milliseconds since 1970-01-01T00:00:00Z; errors are `application/problem+json`
//! ([`crate::web::problem`]).

pub mod check;
pub mod consoles;
pub mod document;
pub mod erase;
pub mod events;
pub mod guard;
pub mod history;
pub mod hosts;
pub mod images;
pub mod logins;
pub mod machines;
pub mod many;
pub mod networks;
pub mod once;
pub mod openapi;
pub mod packages;
pub mod paging;
pub mod patch;
pub mod plan;
pub mod policy;
pub mod power;
pub mod query;
pub mod racks;
pub mod replay;
pub mod router;
pub mod secrets;
pub mod services;
pub mod session;
pub mod sessions;
pub mod state;
pub mod strips;
pub mod support;
pub mod switches;
pub mod systems;
pub mod tenants;
pub mod timeline;
pub mod users;
pub mod versions;
pub mod vms;
pub mod volumes;
pub mod webhooks;

use axum::extract::FromRequest;
use fleet::{Event, Plan, Subject, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::web;

/// A JSON body; what cannot be read is refused as a sentence.
#[derive(Debug, FromRequest)]
#[from_request(via(axum::Json), rejection(web::Error))]
pub struct Json<T>(pub T);

/// The answer to a command: what has changed by it, in the words of the timeline.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Id of what was made, for commands that make something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub changed: Vec<String>,
    /// What nobody looks after any more; it is said in `changed` too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<String>,
}

impl Changed {
    fn by(events: &[Event]) -> axum::Json<Changed> {
        let leftovers = events.iter().flat_map(Event::leftovers).cloned().collect();
        axum::Json(Changed { id: None, changed: events.iter().map(Event::sentence).collect(), leftovers })
    }
}

/// `?force=true`: whatever is in the way.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Force {
    #[serde(default)]
    pub force: bool,
}

/// Why something is not further than it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    pub since: Timestamp,
    pub what: String,
    /// What a person could do.
    pub hint: Option<String>,
}

fn waiting(plan: &Plan, subject: Subject) -> Vec<Wait> {
    let waits = plan.waiting_of(subject).iter();
    waits
        .map(|waiting| Wait {
            since: waiting.since,
            what: waiting.what.to_string(),
            hint: waiting.hint.as_ref().map(ToString::to_string),
        })
        .collect()
}
