//! The page: one list of everything, live by server-sent events.

/// Page and REST API, to be served over TLS on port 443.
pub fn router(app: crate::App) -> axum::Router {
    axum::Router::new().with_state(app)
}
