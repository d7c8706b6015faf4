//! `PATCH` of a document by JSON Patch (RFC 6902).

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use fleet::Refusal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::web;

pub const KIND: &str = "application/json-patch+json";

/// A patch may copy a document into itself again and again.
const MOST_STEPS: usize = 1000;
const LARGEST: usize = 1 << 20;

#[derive(Debug)]
pub struct Patch(json_patch::Patch);

impl<S: Send + Sync> FromRequest<S> for Patch {
    type Rejection = web::Error;

    async fn from_request(request: Request, state: &S) -> Result<Patch, web::Error> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_none_or(|kind| kind.split(';').next().unwrap_or_default().trim() != KIND) {
            let sentence = format!("a patch is sent as {KIND} (RFC 6902)");
            return Err(web::Error::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
        }
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error| web::Error::refused(error.status(), error.body_text()))?;
        let patch: json_patch::Patch = serde_json::from_slice(&body).map_err(|error| {
            let sentence = format!("this is not a JSON Patch: {error}");
            web::Error::refused(StatusCode::BAD_REQUEST, sentence)
        })?;
        if patch.0.len() > MOST_STEPS {
            let sentence = format!("a patch has at most {MOST_STEPS} steps");
            return Err(web::Error::refused(StatusCode::PAYLOAD_TOO_LARGE, sentence));
        }
        Ok(Patch(patch))
    }
}

impl Patch {
    /// The document as it is after the patch.
    pub fn of<T: Serialize + DeserializeOwned>(self, current: &T) -> Result<T, web::Error> {
        let mut document = serde_json::to_value(current).map_err(|error| web::Error::Broken(error.into()))?;
        for (place, step) in self.0.0.into_iter().enumerate() {
            json_patch::patch(&mut document, std::slice::from_ref(&step))
                .map_err(|error| Refusal::Conflict(format!("step {place} of the patch: {}", error.kind)))?;
            if is_larger(&document, LARGEST) {
                let sentence = format!("with step {place} of the patch the document would be too large");
                return Err(web::Error::refused(StatusCode::PAYLOAD_TOO_LARGE, sentence));
            }
        }
        serde_json::from_value(document)
            .map_err(|error| Refusal::Invalid(format!("after the patch it is not usable: {error}")).into())
    }
}

/// Whether its texts and its values come to more.
fn is_larger(document: &Value, limit: usize) -> bool {
    fn left(value: &Value, limit: usize) -> Option<usize> {
        let limit = limit.checked_sub(8)?;
        match value {
            Value::String(text) => limit.checked_sub(text.len()),
            Value::Array(values) => values.iter().try_fold(limit, |limit, value| left(value, limit)),
            Value::Object(fields) => fields
                .iter()
                .try_fold(limit, |limit, (name, value)| left(value, limit.checked_sub(name.len())?)),
            Value::Null | Value::Bool(_) | Value::Number(_) => Some(limit),
        }
    }
    left(document, limit).is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(current: &Value, steps: &Value) -> Result<Value, String> {
        let patch = Patch(serde_json::from_value(steps.clone()).unwrap());
        patch.of(current).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_document_that_is_copied_into_itself_does_not_grow_without_end() {
        let double = json!({ "op": "copy", "from": "", "path": "/a/-" });
        let steps = Value::Array(vec![double; 100]);
        let refused = patched(&json!({ "a": ["x".repeat(1000)] }), &steps).unwrap_err();
        assert!(refused.contains("too large"), "{refused}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_step() {
        let steps = json!([
            { "op": "add", "path": "/a/-", "value": 2 },
            { "op": "test", "path": "/a/0", "value": 7 },
        ]);
        let refused = patched(&json!({ "a": [1] }), &steps).unwrap_err();
        assert!(refused.contains("step 1 of the patch"), "{refused}");
        let steps = json!([{ "op": "add", "path": "/a/-", "value": 2 }]);
        assert_eq!(patched(&json!({ "a": [1] }), &steps), Ok(json!({ "a": [1, 2] })));
    }
}
