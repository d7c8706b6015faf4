//! The REST API as `eli` calls it. Errors are the API's own sentences.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::plan::Planned;
use crate::api::{guard, paging};

use super::ending::Own;
use super::pin::{self, Fingerprint, Seen};

const CONNECT_LIMIT: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub server: String,
    fingerprint: Fingerprint,
    token: Option<String>,
    seen: Seen,
    /// What would be changed is only planned.
    planning: bool,
}

/// What the appliance would do, for each thing that was named; ends a command that was only to be planned.
#[derive(Debug, thiserror::Error)]
#[error("this was planned and not done")]
pub struct PlanMade(pub Vec<Planned>);

/// The appliance did not answer, as opposed to: it refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotReached(pub String);

/// The appliance refused, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct Refused {
    pub status: StatusCode,
    pub sentence: String,
}

/// Tells whenever something has changed at the appliance.
pub struct Changes {
    response: Response,
    server: String,
}

const CHANGE: &[u8] = b"event: change";

/// The appliance says every fifteen seconds that it is still there.
const SILENCE: Duration = Duration::from_secs(45);

impl Changes {
    pub async fn next(&mut self) -> anyhow::Result<()> {
        loop {
            match tokio::time::timeout(SILENCE, self.response.chunk()).await {
                // What keeps the connection open is a comment; of events of the log a change is told, too, once for many.
                Ok(Ok(Some(bytes))) if !bytes.windows(CHANGE.len()).any(|part| part == CHANGE) => {}
                Ok(Ok(Some(_))) => return Ok(()),
                Ok(Ok(None) | Err(_)) | Err(_) => {
                    return Err(NotReached(format!("{} does not answer any more", self.server)).into());
                }
            }
        }
    }
}

impl Client {
    pub fn new(server: String, fingerprint: Fingerprint, token: Option<String>) -> anyhow::Result<Client> {
        let seen = Seen::default();
        let http = http(pin::pinned(fingerprint, seen.clone())?)?;
        Ok(Client { http, server, fingerprint, token, seen, planning: false })
    }

    pub fn is_planning(&self) -> bool {
        self.planning
    }

    /// A client whose changes are planned and not made: each ends with [`PlanMade`].
    pub fn planning(&self) -> Client {
        Client { planning: true, ..self.clone() }
    }

    /// A request that changes nothing although it has a body.
    pub async fn ask<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let request = self.request(Method::POST, path).json(body).timeout(Duration::from_secs(120));
        self.answered(request).await
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.answered(self.request(Method::GET, path).timeout(Duration::from_secs(60))).await
    }

    /// An answer that is no JSON, into a file that only its owner may read.
    pub async fn download(&self, path: &str, file: &std::path::Path) -> anyhow::Result<u64> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let request = self.request(Method::GET, path).timeout(Duration::from_secs(120));
        let (bytes, _) = self.bytes(request).await?;
        let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let mut written = written.with_context(|| format!("writing {}", file.display()))?;
        written.write_all(&bytes).with_context(|| format!("writing {}", file.display()))?;
        Ok(bytes.len() as u64)
    }

    /// A list with all its parts.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        let mut path = path.to_owned();
        loop {
            let request = self.request(Method::GET, &path).timeout(Duration::from_secs(60));
            let (part, next) = self.part::<Vec<T>>(request).await?;
            let is_empty = part.is_empty();
            all.extend(part);
            match next {
                Some(next) if !is_empty => path = next,
                Some(_) | None => return Ok(all),
            }
        }
    }

    pub async fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let request = self.request(Method::from_bytes(method.as_bytes())?, path).json(body);
        self.change(request.timeout(Duration::from_secs(60))).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.change(self.request(Method::DELETE, path).timeout(Duration::from_secs(60))).await
    }

    /// However long it takes: the upload is as long as the file.
    pub async fn upload<T: DeserializeOwned>(&self, path: &str, bytes: u64, body: Body) -> anyhow::Result<T> {
        let request = self.request(Method::POST, path).header("content-type", "application/octet-stream");
        self.change(request.header("content-length", bytes).body(body)).await
    }

    async fn change<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        if !self.planning {
            return self.answered(request).await;
        }
        let planned: Planned = self.answered(request.header(guard::PLAN, "1")).await?;
        Err(PlanMade(vec![planned]).into())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/api/v1{path}", self.server));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// What has changed, as it changes. The first tells that it has begun.
    pub async fn changes(&self) -> anyhow::Result<Changes> {
        let request = self.request(Method::GET, "/events").header("accept", "text/event-stream");
        let response = request.send().await.map_err(|error| self.unreached(&error))?;
        if !response.status().is_success() {
            return self.get::<Value>("/events").await.and(Err(NotReached("no events".to_owned()).into()));
        }
        Ok(Changes { response, server: self.server.clone() })
    }

    async fn answered<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        Ok(self.part(request).await?.0)
    }

    /// An answer as a value.
    async fn part<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> anyhow::Result<(T, Option<String>)> {
        let (bytes, next) = self.bytes(request).await?;
        let answer = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} answered something unexpected", self.server))?;
        Ok((answer, next))
    }

    /// An answer's bytes, and where the next part of it is.
    async fn bytes(&self, request: RequestBuilder) -> anyhow::Result<(Vec<u8>, Option<String>)> {
        let response = request.send().await.map_err(|error| self.unreached(&error))?;
        let status = response.status();
        let link = response.headers().get(header::LINK).and_then(|link| link.to_str().ok());
        let next =
            link.and_then(paging::next).and_then(|next| next.strip_prefix("/api/v1")).map(str::to_owned);
        let bytes = response.bytes().await.map_err(|error| self.unreached(&error))?;
        if status.is_success() {
            return Ok((bytes.into(), next));
        }
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let sentence = match answer["detail"].as_str() {
            _ if status == StatusCode::UNAUTHORIZED && self.token.is_some() => {
                format!("the session is over; eli login {}", self.server)
            }
            Some(sentence) => sentence.to_owned(),
            None => format!("{} answered {status}", self.server),
        };
        Err(Refused { status, sentence }.into())
    }

    fn unreached(&self, error: &reqwest::Error) -> anyhow::Error {
        if let Some(seen) = self.seen.get() {
            let sentence = format!(
                "{} is not the appliance that is known here.\n  known  {}\n  there  {seen}\nIf it was set up anew, \
                 compare with its screen and log in again; if not, something stands in between.",
                self.server, self.fingerprint
            );
            return Own::NotTrusted(sentence).into();
        }
        NotReached(format!("{} does not answer: {}", self.server, innermost(error))).into()
    }
}

/// The fingerprint of whatever answers at `server`; nothing is sent to it.
pub async fn look(server: &str) -> anyhow::Result<Fingerprint> {
    let seen = Seen::default();
    let failed = http(pin::looking(seen.clone())?)?.get(server).send().await.err();
    match (seen.get(), failed) {
        (Some(fingerprint), _) => Ok(fingerprint),
        (None, Some(error)) => {
            Err(NotReached(format!("{server} does not answer: {}", innermost(&error))).into())
        }
        (None, None) => bail!("{server} does not speak TLS"),
    }
}

/// `https://HOST[:PORT]` from what a person types.
pub fn address(text: &str) -> anyhow::Result<String> {
    let host = match text.trim().split_once("://") {
        Some(("https", host)) => host,
        Some((other, _)) => bail!("the appliance is reached by https://, not by {other}://"),
        None => text.trim(),
    };
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains(|c: char| c == '/' || c == '@' || c.is_whitespace() || c.is_control())
    {
        bail!("{text:?} is not an address of an appliance: https://ADDRESS");
    }
    Ok(format!("https://{host}"))
}

fn http(tls: rustls::ClientConfig) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).connect_timeout(CONNECT_LIMIT);
    // The appliance is on this network; a proxy would be asked for its address in vain.
    Ok(builder.no_proxy().build()?)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_are_taken_as_people_type_them() {
        assert_eq!(address("10.77.0.1").unwrap(), "https://10.77.0.1");
        assert_eq!(address("https://127.0.0.1:8443/").unwrap(), "https://127.0.0.1:8443");
        for wrong in ["", "http://10.77.0.1", "https://", "https://a@b", "https://10.77.0.1/x", "10.77 .0.1"]
        {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
