//! `/api/v1/document`: the desired state as a document, and what would make the site like one.

use axum::extract::State;
use axum::http::HeaderMap;
use fleet::Ctx;
use fleet::document::{Document, derive, export};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{Planned, planned};
use super::{Json, versions, vms};
use crate::{App, core, web};

/// The plan of a document, and what would still differ from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedDocument {
    #[serde(flatten)]
    pub plan: Planned,
    /// What stays different, and why.
    pub left: Vec<String>,
}

pub async fn get(State(app): State<App>) -> axum::Json<Document> {
    axum::Json(export(&app.core.fleet()))
}

/// Nothing is changed by it; what it answers is given to `/api/v1/apply`.
pub async fn plan(
    State(app): State<App>,
    headers: HeaderMap,
    Json(document): Json<Document>,
) -> Result<axum::Json<PlannedDocument>, web::Error> {
    versions::must_match(&headers, Some(&export(&app.core.fleet())))?;
    let image = vms::guest_image(&app).ok();
    let derived = derive(&app.core.fleet(), &document, image.as_ref(), Ctx { now: core::now() });
    Ok(axum::Json(PlannedDocument { plan: planned(&app, None, derived.commands), left: derived.left }))
}
