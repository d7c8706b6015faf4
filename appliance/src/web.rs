//! The pages: lists, things, and what stands above them, kept live by server-sent events.
//!
//! Pages are rendered here from the same documents that the REST API gives out (`templates/`), of no more than is
//! shown, and a little plain JavaScript swaps in what has changed (`assets/live.js`), looks for things in lists
//! (`lists.js`) and sends commands to the REST API (`page.js`).

pub mod actions;
pub mod assets;
pub mod certificate;
pub mod consoles;
mod error;
pub mod gantt;
pub mod glance;
pub mod history;
pub mod kept;
pub mod list;
pub mod live;
pub mod look;
pub mod nouns;
pub mod order;
pub mod overview;
pub mod pages;
pub mod problem;
pub mod racks;
pub mod show;
pub mod switches;
mod tenants;
pub mod thing;
pub mod views;
mod walk;
mod word;

pub use error::Error;

/// Page and REST API, to be served over TLS on port 443. Requests carry the caller's `SocketAddr` as an
/// extension.
pub fn router(app: crate::App) -> axum::Router {
    crate::api::router::router(app)
}
