//! `POST /api/v1/replay`: another log is carried out here, with its own times; only where nothing is real.

use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Json;
use crate::core::Line;
use crate::{App, web};

/// Some hundred lines come at once; one may hold a machine with all its hardware.
pub const LIMIT: usize = 16 << 20;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// Events that came of the lines.
    pub events: usize,
}

pub async fn post(
    State(app): State<App>,
    Json(replay): Json<Replay>,
) -> Result<axum::Json<Replayed>, web::Error> {
    if !app.rehearsal {
        return Err(web::Error::refused(
            StatusCode::FORBIDDEN,
            "this appliance serves a site; a log is replayed only into one whose settings say rehearsal = true",
        ));
    }
    let events = app.core.replay(replay.lines).await?;
    Ok(axum::Json(Replayed { events: events.len() }))
}
