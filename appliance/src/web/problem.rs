//! Errors as `application/problem+json` (RFC 9457): `{"type":"about:blank","title":"Conflict","status":409,"detail":"a
//! sentence","instance":"/api/v1/vms"}`. Also what axum refuses by itself becomes one.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "application/problem+json";

/// What axum says of a request that it refuses is shorter.
const LONGEST: usize = 64 << 10;

/// RFC 9457, 3.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The phrase of the status.
    pub title: String,
    pub status: u16,
    /// A sentence for a person: what is wrong, and what can be done.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
}

/// What a response carries beside its body until [`complete`] knows the path.
#[derive(Debug, Clone)]
struct Detail(String);

pub fn problem(status: StatusCode, sentence: String) -> Response {
    let mut response = status.into_response();
    response.extensions_mut().insert(Detail(sentence));
    response
}

/// Outermost: gives every error its body.
pub async fn complete(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let detail = match parts.extensions.remove::<Detail>() {
        Some(Detail(sentence)) => sentence,
        None if status == StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = parts.headers.get(header::ALLOW).and_then(|allowed| allowed.to_str().ok());
            format!("{method} is not for this path; it takes {}", allowed.unwrap_or("nothing"))
        }
        // A page says by itself that there is no such thing.
        None if is_page(&parts.headers) => return Response::from_parts(parts, body),
        None => text(body, status).await,
    };
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: title(status).to_owned(),
        status: status.as_u16(),
        detail,
        instance: path,
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(KIND));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(serde_json::to_vec(&problem).unwrap_or_default()))
}

fn is_page(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

async fn text(body: Body, status: StatusCode) -> String {
    let bytes = to_bytes(body, LONGEST).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if text.is_empty() { title(status).to_owned() } else { text.to_owned() }
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}
