//! Style sheet, scripts and icon, which are part of the program.

use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::Error;

const PAGE_CSS: &str = include_str!("../../assets/page.css");
const LIVE_JS: &str = include_str!("../../assets/live.js");
const LISTS_JS: &str = include_str!("../../assets/lists.js");
const PAGE_JS: &str = include_str!("../../assets/page.js");
const CONSOLE_JS: &str = include_str!("../../assets/console.js");
const ENTRY_JS: &str = include_str!("../../assets/entry.js");
const ICON_SVG: &str = include_str!("../../assets/icon.svg");

/// Part of the address of each asset, so that a browser asks anew after an update and not before.
pub fn version() -> String {
    use sha2::{Digest as _, Sha256};
    let mut digest = Sha256::new();
    for asset in [PAGE_CSS, LIVE_JS, LISTS_JS, PAGE_JS, CONSOLE_JS, ENTRY_JS, ICON_SVG] {
        digest.update(asset);
    }
    hex::encode(&digest.finalize()[..8])
}

#[derive(Debug, Deserialize)]
pub struct Asked {
    v: Option<String>,
}

pub async fn get(Path(file): Path<String>, Query(asked): Query<Asked>) -> Result<Response, Error> {
    let (kind, text) = match file.as_str() {
        "page.css" => ("text/css; charset=utf-8", PAGE_CSS),
        "live.js" => ("text/javascript; charset=utf-8", LIVE_JS),
        "lists.js" => ("text/javascript; charset=utf-8", LISTS_JS),
        "page.js" => ("text/javascript; charset=utf-8", PAGE_JS),
        "console.js" => ("text/javascript; charset=utf-8", CONSOLE_JS),
        "entry.js" => ("text/javascript; charset=utf-8", ENTRY_JS),
        "icon.svg" => ("image/svg+xml", ICON_SVG),
        _ => return Err(Error::refused(StatusCode::NOT_FOUND, "there is no such file")),
    };
    let lasting = asked.v.is_some_and(|asked| asked == version());
    let caching = if lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, caching)], text).into_response())
}
