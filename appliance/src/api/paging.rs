//! Lists in parts: `?limit=&after=`, and where the next part is as `Link: <…>; rel="next"` (RFC 8288).

use std::fmt::Display;
use std::ops::Bound;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::web;

/// In one answer, if it is not said.
pub const USUAL: usize = 1000;

/// In one answer, however many are asked for.
pub const MOST: usize = 100_000;

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// So many at most; 1000, if it is not said.
    #[schemars(range(min = 1, max = 100_000))]
    limit: Option<usize>,
    /// Those that come after this one in the order of the list: its id, or name, or address.
    after: Option<String>,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone)]
pub struct Page {
    path: String,
    wanted: Wanted,
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = web::Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Page, web::Error> {
        let read = Query::<Wanted>::from_request_parts(parts, state).await;
        let Query(wanted) =
            read.map_err(|error| web::Error::refused(StatusCode::BAD_REQUEST, error.body_text()))?;
        if wanted.limit.is_some_and(|limit| !(1..=MOST).contains(&limit)) {
            let sentence = format!("a part of a list has 1 to {MOST} lines");
            return Err(web::Error::refused(StatusCode::BAD_REQUEST, sentence));
        }
        Ok(Page { path: parts.uri.path().to_owned(), wanted })
    }
}

impl Page {
    /// After which one the part begins.
    pub fn after<K: FromStr>(&self) -> Result<Option<K>, web::Error> {
        let Some(after) = &self.wanted.after else { return Ok(None) };
        let key = after.parse().map_err(|_| {
            let sentence = format!("after={after}: nothing in this list can be called so");
            web::Error::refused(StatusCode::BAD_REQUEST, sentence)
        })?;
        Ok(Some(key))
    }

    /// What comes after [`Page::after`].
    pub fn range<K: FromStr>(&self) -> Result<(Bound<K>, Bound<K>), web::Error> {
        Ok((self.after()?.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// The part of `rest`, which comes after [`Page::after`] in the order of its keys. Only what is shown is made.
    pub fn of<T, K: Display>(&self, rest: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> Part<T> {
        let limit = self.wanted.limit.unwrap_or(USUAL);
        let mut rest = rest;
        let mut lines: Vec<T> = rest.by_ref().take(limit).collect();
        lines.shrink_to_fit();
        let more = lines.len() == limit && rest.next().is_some();
        let next = lines.last().filter(|_| more).map(|last| {
            let after = form(&key(last).to_string());
            format!("<{}?limit={limit}&after={after}>; rel=\"next\"", self.path)
        });
        Part { lines, next }
    }

    /// Of a list that is short enough to be made as a whole.
    pub fn of_all<T, K>(&self, all: Vec<T>, key: impl Fn(&T) -> K) -> Result<Part<T>, web::Error>
    where
        K: Ord + Display + FromStr,
    {
        let mut all = all;
        all.sort_by_key(&key);
        let after = self.after::<K>()?;
        let rest = all.into_iter().filter(|line| after.as_ref().is_none_or(|after| key(line) > *after));
        Ok(self.of(rest, &key))
    }
}

/// A part of a list.
#[derive(Debug)]
pub struct Part<T> {
    pub lines: Vec<T>,
    next: Option<String>,
}

impl<T> Part<T> {
    /// The same part, as it is shown.
    pub fn made<U>(self, make: impl FnOnce(Vec<T>) -> Vec<U>) -> Part<U> {
        Part { lines: make(self.lines), next: self.next }
    }
}

impl<T: Serialize> IntoResponse for Part<T> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.lines).into_response();
        if let Some(next) = self.next.and_then(|next| HeaderValue::from_str(&next).ok()) {
            response.headers_mut().insert(header::LINK, next);
        }
        response
    }
}

/// As a value of a query.
fn form(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(byte.into())
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Where the next part of a list is, as its `Link` says.
pub fn next(link: &str) -> Option<&str> {
    let next = link.split(',').find(|link| link.contains("rel=\"next\""))?;
    next.trim().strip_prefix('<')?.split_once('>').map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_in_parts_that_end() {
        let all: Vec<u64> = (1..=25).collect();
        let (mut seen, mut after) = (Vec::<u64>::new(), None);
        loop {
            let wanted = Wanted { limit: Some(10), after };
            let page = Page { path: "/api/v1/vms".to_owned(), wanted };
            let part = page.of_all(all.clone(), |line| *line).unwrap();
            seen.extend(&part.lines);
            let Some(link) = part.next else { break };
            let path = next(&link).unwrap();
            after = path.split_once("after=").map(|(_, after)| after.to_owned());
            assert!(seen.len() < 25, "a part without end: {path}");
        }
        assert_eq!(seen, all);
        let page = Page { path: String::new(), wanted: Wanted { limit: None, after: Some("x".to_owned()) } };
        assert!(page.after::<u64>().is_err());
    }
}
