//! The page: everything there is on one page, kept live by server-sent events.
//!
//! Pages are rendered here from the same documents that the REST API gives out (`templates/`), and a little
//! plain JavaScript (`assets/page.js`) swaps in what has changed and sends commands to the REST API.

pub mod assets;
mod error;
pub mod live;
pub mod pages;
pub mod problem;
pub mod show;

pub use error::Error;

/// Page and REST API, to be served over TLS on port 443. Requests carry the caller's `SocketAddr` as an
/// extension.
pub fn router(app: crate::App) -> axum::Router {
    crate::api::router::router(app)
}
