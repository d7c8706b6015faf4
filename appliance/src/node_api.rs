//! The node API, port 7443: what machines in their initrd, hosts and guests say and ask.
//!
//! | who | is known by |
//! |---|---|
//! | a machine in its initrd | the SHA-256 of the key it made |
//! | a host, a guest | the certificate that the site's authority signed for its id |
//!
//! What may not be is answered with 403 and stands on the timeline of the one it was tried on.

mod consoles;
pub mod desired;
pub mod machine;
mod member;

use axum::Json;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fleet::Refusal;

use crate::App;
use crate::core::ExecuteError;

/// A report of a machine with hundreds of disks is some hundred kilobytes.
const BODY_LIMIT: usize = 4 << 20;

pub fn router(app: App) -> axum::Router {
    axum::Router::new()
        .route("/node/report", post(machine::report))
        .route("/node/kickstart/{token}", get(machine::kickstart))
        .route("/node/progress", post(machine::progress))
        .route("/node/said", post(machine::said))
        .route("/node/installed", post(machine::installed))
        .route("/node/failed", post(machine::failed))
        .route("/node/erased", post(machine::erased))
        .route("/node/checked", post(machine::checked))
        .route("/node/{id}/account", post(member::account))
        .route("/node/certificate", post(member::certificate))
        .route("/node/{id}/desired", get(member::desired))
        .route("/node/{id}/observed", post(member::observed))
        .route("/node/{id}/bundle/{sha256}", get(member::bundle))
        .route("/node/{id}/console/{console}", get(consoles::bring).post(consoles::trouble))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(app.clone(), catch_up))
        .with_state(app)
}

/// A node hops between appliances that share a log, and each answers for all of it.
async fn catch_up(State(app): State<App>, request: Request, next: Next) -> Response {
    app.core.catch_up().await;
    next.run(request).await
}

/// A refusal as nodes get it: `{"error":"a sentence"}`.
#[derive(Debug)]
struct NodeError {
    status: StatusCode,
    sentence: String,
}

impl NodeError {
    fn forbidden(sentence: impl Into<String>) -> Self {
        NodeError { status: StatusCode::FORBIDDEN, sentence: sentence.into() }
    }

    fn internal(what: &str, error: impl Into<anyhow::Error>) -> Self {
        tracing::error!("{what} failed: {:#}", error.into());
        NodeError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            sentence: format!("{what} failed on the appliance"),
        }
    }
}

impl From<ExecuteError> for NodeError {
    fn from(error: ExecuteError) -> Self {
        let status = match &error {
            ExecuteError::Refused(Refusal::Missing { .. }) => StatusCode::NOT_FOUND,
            ExecuteError::Refused(Refusal::Conflict(_) | Refusal::OfHosts { .. }) | ExecuteError::Changed => {
                StatusCode::CONFLICT
            }
            ExecuteError::Refused(Refusal::NotTenants(_)) => StatusCode::FORBIDDEN,
            ExecuteError::NotAllowed { .. } | ExecuteError::OutOfScope { .. } => StatusCode::FORBIDDEN,
            ExecuteError::Refused(Refusal::Invalid(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            ExecuteError::NotDurable(_)
            | ExecuteError::Away(_)
            | ExecuteError::Unknown(_)
            | ExecuteError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        NodeError { status, sentence: error.to_string() }
    }
}

impl IntoResponse for NodeError {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.sentence }))).into_response()
    }
}
