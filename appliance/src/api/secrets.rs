//! What viewers do not see of an answer: the hash of a profile's root password, wherever a profile is a part of it.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header;
use axum::response::Response;

use crate::web;

const KEY: &[u8] = b"\"password_hash\":\"";

/// Of the form that crypt(5) has, so that what a viewer was shown is still a document and a log.
const INSTEAD: &[u8] = b"$hidden$hidden";

/// JSON without the hashes. What is streamed has none and is left alone.
pub async fn hide(answer: Response) -> Result<Response, web::Error> {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        return Ok(answer);
    }
    let (mut parts, body) = answer.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| web::Error::Broken(error.into()))?;
    let bytes = without(bytes);
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// In the text itself: reading and writing megabytes of JSON anew would be felt. In a JSON string the key would have
/// its quotes escaped, so only a key is found; a hash has no quotes in it.
fn without(bytes: Bytes) -> Bytes {
    let mut rest = bytes.as_ref();
    let mut made = Vec::new();
    while let Some(begin) = rest.windows(KEY.len()).position(|window| window == KEY) {
        let (before, after) = rest.split_at(begin + KEY.len());
        let end = after.iter().position(|byte| *byte == b'"').unwrap_or(after.len());
        made.extend_from_slice(before);
        made.extend_from_slice(INSTEAD);
        rest = &after[end..];
    }
    if made.is_empty() {
        return bytes;
    }
    made.extend_from_slice(rest);
    made.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_hidden_and_nothing_else_is_touched() {
        let hidden = |text: &str| String::from_utf8(without(Bytes::from(text.to_owned())).to_vec()).unwrap();
        let text = r#"[{"password_hash":"$6$a$b","x":1},{"name":"\"password_hash\":\"y"},{"password_hash":null},{"password_hash":"$y$c"}]"#;
        let shown = r#"[{"password_hash":"$hidden$hidden","x":1},{"name":"\"password_hash\":\"y"},{"password_hash":null},{"password_hash":"$hidden$hidden"}]"#;
        assert_eq!(hidden(text), shown);
        assert_eq!(hidden(r#"{"password_hash":"cut"#), r#"{"password_hash":"$hidden$hidden"#);
    }
}
