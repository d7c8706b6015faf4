//! Versions of what is shown: `ETag` with every answer to a GET, `304` to who has it already (`If-None-Match`), and
//! changes that are made only to the version that one has seen (`If-Match`, RFC 9110, 13.1.1).

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, MutexGuard};

use crate::{App, web};

/// JSON answers are in memory as a whole already; this is only a bound that the type wants.
const LARGEST: usize = 1 << 30;

/// For GETs whose answers are JSON.
pub async fn conditional(request: Request, next: Next) -> Result<Response, web::Error> {
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let (mut parts, body) = next.run(request).await.into_parts();
    let json = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if parts.status != StatusCode::OK || !json {
        return Ok(Response::from_parts(parts, body));
    }
    let bytes = to_bytes(body, LARGEST).await.map_err(|error| web::Error::Broken(error.into()))?;
    let tag = tag(&bytes);
    let value = HeaderValue::from_str(&tag).map_err(|error| web::Error::Broken(error.into()))?;
    parts.headers.insert(header::ETAG, value);
    if known.is_some_and(|known| names(&known, &tag)) {
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Ok((StatusCode::NOT_MODIFIED, parts.headers).into_response());
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// From looking at a document's version to its change, nobody else of this daemon changes one.
static TURN: Mutex<()> = Mutex::const_new(());

pub async fn turn(app: &App) -> MutexGuard<'static, ()> {
    let turn = TURN.lock().await;
    app.core.catch_up().await;
    turn
}

/// Refuses a change of another version than the one that `current` is. Without `If-Match` any version is changed.
pub fn must_match(headers: &HeaderMap, current: Option<&impl Serialize>) -> Result<(), web::Error> {
    let Some(wanted) = headers.get(header::IF_MATCH) else { return Ok(()) };
    let tag = match current {
        Some(current) => {
            Some(tag(&serde_json::to_vec(current).map_err(|error| web::Error::Broken(error.into()))?))
        }
        None => None,
    };
    if tag.is_some_and(|tag| names(wanted, &tag)) {
        return Ok(());
    }
    let sentence = "this has changed since it was read (If-Match names another version); read it again";
    Err(web::Error::refused(StatusCode::PRECONDITION_FAILED, sentence))
}

fn tag(body: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(body)[..16]))
}

/// `"a", W/"b"` or `*`; whoever compresses answers on the way makes ours weak.
fn names(list: &HeaderValue, tag: &str) -> bool {
    let Ok(list) = list.to_str() else { return false };
    list.split(',')
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_versions_is_read_as_the_standard_has_it() {
        let tag = tag(b"[]");
        for list in [tag.clone(), format!("\"x\", {tag}"), format!("W/{tag}"), "*".to_owned()] {
            assert!(names(&HeaderValue::from_str(&list).unwrap(), &tag), "{list}");
        }
        for list in ["", "\"x\"", "x", "W/*"] {
            assert!(!names(&HeaderValue::from_static(list), &tag), "{list}");
        }
    }
}
