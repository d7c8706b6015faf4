//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that is sent again with the same key is
//! carried out once, and answered as it was the first time.
//!
//! Answers are kept in memory for a day, so a restart forgets them; names keep most things from being made twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use fleet::Timestamp;
use sha2::{Digest as _, Sha256};

use super::guard::Person;
use crate::{core, web};

pub const HEADER: &str = "idempotency-key";

const KEPT_SECS: u64 = 24 * 3600;

/// For one user and for all together; with more, the oldest are forgotten.
const MOST_OF_ONE: usize = 1000;
const MOST: usize = 10_000;

/// A key, and an answer, are at most so long; a longer answer is not kept, and its key is refused.
const LONGEST_KEY: usize = 255;
const LONGEST: usize = 64 << 10;

/// Bodies that are read whole; those of plans are the largest.
const LONGEST_BODY: usize = super::plan::LIMIT;

#[derive(Debug, Default)]
pub struct Answers {
    kept: Mutex<BTreeMap<Key, Kept>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    user: String,
    key: String,
}

#[derive(Debug, Clone)]
struct Kept {
    at: Timestamp,
    /// Of the method, the path and the body.
    asked: [u8; 32],
    /// None while it is being carried out.
    answer: Option<(StatusCode, HeaderMap, Vec<u8>)>,
}

/// For POSTs whose body is read whole.
pub async fn once(
    State(answers): State<Arc<Answers>>,
    request: Request,
    next: Next,
) -> Result<Response, web::Error> {
    let Some(key) = request.headers().get(HEADER) else { return Ok(next.run(request).await) };
    let key = key.to_str().unwrap_or_default().trim().trim_matches('"').to_owned();
    if key.is_empty() || key.len() > LONGEST_KEY {
        let sentence = format!("an Idempotency-Key has 1 to {LONGEST_KEY} printable ASCII characters");
        return Err(web::Error::refused(StatusCode::BAD_REQUEST, sentence));
    }
    let Some(person) = request.extensions().get::<Person>() else { return Ok(next.run(request).await) };
    // What is only planned is not done at all.
    if person.rehearsal.is_some() {
        return Ok(next.run(request).await);
    }
    // Another may have the name later.
    let key = Key { user: format!("{} {}", person.user.name, person.user.added.0), key };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LONGEST_BODY).await.map_err(|error| {
        let sentence = format!("a request with an Idempotency-Key is read whole: {error}");
        web::Error::refused(StatusCode::PAYLOAD_TOO_LARGE, sentence)
    })?;
    let mut sum = Sha256::new();
    sum.update(parts.method.as_str());
    sum.update(parts.uri.to_string());
    sum.update([0]);
    sum.update(&body);
    let asked: [u8; 32] = sum.finalize().into();
    if let Some(answer) = answers.begin(&key, asked, core::now())? {
        return Ok(answer);
    }
    // Whoever asked may go away in the middle; then the key is free again.
    let mut turn = Turn { answers: &answers, key: &key, done: false };
    let (head, body) = next.run(Request::from_parts(parts, Body::from(body))).await.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| web::Error::Broken(error.into()))?;
    // What could not be done may be tried again.
    if head.status.is_success() && bytes.len() <= LONGEST {
        let kinds = [header::CONTENT_TYPE, header::LINK, header::LOCATION];
        let headers =
            kinds.into_iter().filter_map(|name| Some((name.clone(), head.headers.get(name)?.clone())));
        answers.end(&key, (head.status, headers.collect(), bytes.to_vec()));
        turn.done = true;
    }
    Ok(Response::from_parts(head, Body::from(bytes)))
}

/// Uploads are not read whole, and a token is shown once: what these do cannot be answered a second time.
pub async fn never(request: Request, next: Next) -> Result<Response, web::Error> {
    if request.headers().contains_key(HEADER) {
        let sentence = "this cannot be answered a second time, so it takes no Idempotency-Key";
        return Err(web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence));
    }
    Ok(next.run(request).await)
}

struct Turn<'a> {
    answers: &'a Answers,
    key: &'a Key,
    done: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.answers.lock().remove(self.key);
        }
    }
}

impl Answers {
    /// The answer that is known, or None: then it is to be carried out by who asks.
    fn begin(&self, key: &Key, asked: [u8; 32], now: Timestamp) -> Result<Option<Response>, web::Error> {
        let mut kept = self.lock();
        match kept.get(key).filter(|kept| now.secs_since(kept.at) < KEPT_SECS) {
            Some(known) if known.asked != asked => {
                let sentence = "this Idempotency-Key was used for another request";
                Err(web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence))
            }
            Some(Kept { answer: None, .. }) => {
                let sentence = "the request with this Idempotency-Key is still being carried out";
                Err(web::Error::refused(StatusCode::CONFLICT, sentence))
            }
            Some(Kept { answer: Some((status, headers, body)), .. }) => {
                let mut response = Response::new(Body::from(body.clone()));
                *response.status_mut() = *status;
                *response.headers_mut() = headers.clone();
                Ok(Some(response))
            }
            None => {
                make_room(&mut kept, &key.user, now);
                kept.insert(key.clone(), Kept { at: now, asked, answer: None });
                Ok(None)
            }
        }
    }

    fn end(&self, key: &Key, answer: (StatusCode, HeaderMap, Vec<u8>)) {
        if let Some(kept) = self.lock().get_mut(key) {
            kept.answer = Some(answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(kept: &mut BTreeMap<Key, Kept>, user: &str, now: Timestamp) {
    let is_own = |key: &Key| key.user == user;
    if kept.len() < MOST && kept.keys().filter(|key| is_own(key)).count() < MOST_OF_ONE {
        return;
    }
    kept.retain(|_, answer| now.secs_since(answer.at) < KEPT_SECS);
    let own_full = kept.keys().filter(|key| is_own(key)).count() >= MOST_OF_ONE;
    let oldest = kept
        .iter()
        .filter(|(key, answer)| answer.answer.is_some() && (!own_full || is_own(key)))
        .min_by_key(|(_, answer)| answer.at)
        .map(|(key, _)| key.clone());
    if (own_full || kept.len() >= MOST)
        && let Some(oldest) = oldest
    {
        kept.remove(&oldest);
    }
}

/// Whether a route's answer is kept: what is about the session itself is not, nor what is streamed.
pub fn takes_a_key(method: &str, path: &str) -> bool {
    let streamed = ["/api/v1/packages", "/api/v1/media"].contains(&path);
    let secret = ["/api/v1/tokens", "/api/v1/login", "/api/v1/password", "/api/v1/logout"].contains(&path);
    method == "POST" && path.starts_with("/api/v1/") && !streamed && !secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_for_one_and_for_all() {
        let answers = Answers::default();
        let answer = || (StatusCode::OK, HeaderMap::new(), Vec::new());
        let of = |number: usize| Key { user: format!("user-{}", number % 30), key: number.to_string() };
        for number in 0..MOST {
            let at = Timestamp(number as u64);
            answers.lock().insert(of(number), Kept { at, asked: [0; 32], answer: Some(answer()) });
        }
        for number in MOST..MOST + 10 {
            answers.begin(&of(number), [0; 32], Timestamp(number as u64)).unwrap();
            answers.end(&of(number), answer());
        }
        let kept = answers.lock();
        assert!(kept.len() <= MOST && !kept.contains_key(&of(0)) && kept.contains_key(&of(MOST + 9)));
        drop(kept);
        let answers = Answers::default();
        for number in 0..2 * MOST_OF_ONE {
            let key = Key { user: "ada".to_owned(), key: number.to_string() };
            answers.begin(&key, [0; 32], Timestamp(number as u64)).unwrap();
            answers.end(&key, answer());
        }
        assert!(answers.lock().keys().filter(|key| key.user == "ada").count() <= MOST_OF_ONE);
    }
}
