//! Requests to one BMC: bounded in time and size, nowhere else than to it, with a session that is ended afterwards.

use std::time::Duration;

use reqwest::header::{ACCEPT, ETAG, HeaderMap, HeaderValue, IF_MATCH, LOCATION};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde_json::{Value, json};

use super::document::{at, link};
use super::pin::{self, Seen};
use crate::bmc::driver::Address;
use crate::bmc::error::brief;
use crate::bmc::{BmcError, Login};
use crate::vault::Secret;

pub const ROOT: &str = "/redfish/v1/";
/// Members and logs are given in lists of some hundred kilobytes; nothing that is asked for here comes near.
const LARGEST: usize = 2 << 20;
const REDIRECTS: usize = 3;

pub struct Connection {
    http: Client,
    root: Url,
    pub address: String,
    pin: Option<[u8; 32]>,
    seen: Seen,
    answer: Duration,
    pass: Pass,
}

/// How requests say who asks.
enum Pass {
    None,
    /// The token, and the path that ends the session.
    Session(HeaderValue, Option<String>, String),
    Basic(Login),
}

pub struct Answer {
    pub status: StatusCode,
    pub etag: Option<String>,
    /// Null if it was not JSON.
    pub body: Value,
    headers: HeaderMap,
}

impl Connection {
    pub fn new(address: &Address, pin: Option<&str>, answer: Duration) -> Result<Connection, BmcError> {
        let pin = pin.map(read_pin).transpose()?;
        let unreached = |why: String| BmcError::Unreached { address: address.text.clone(), why };
        let root = Url::parse(&format!("https://{}{ROOT}", address.text))
            .map_err(|_| BmcError::Address { address: address.text.clone() })?;
        let seen = Seen::default();
        let tls = pin::config(pin, seen.clone()).map_err(|error| unreached(error.to_string()))?;
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            // Their servers were written for one kind of client, which spoke HTTP/1.1.
            .http1_only()
            .no_proxy()
            .user_agent(concat!("elisandra/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unreached(error.to_string()))?;
        let address = address.text.clone();
        Ok(Connection { http, root, address, pin, seen, answer, pass: Pass::None })
    }

    /// SHA-256 of the certificate that was shown.
    pub fn certificate(&self) -> Option<String> {
        self.seen.get().map(hex::encode)
    }

    /// Opens a session, or takes Basic where there are none. Returns the service root.
    pub async fn log_in(&mut self, login: &Login) -> Result<Value, BmcError> {
        // The root is for everybody; those that refuse it do not know sessions either.
        let root = self.send(Method::GET, ROOT, None, None).await?;
        let root = if root.status.is_success() { root.body } else { Value::Null };
        if let Some(sessions) = self.sessions(&root).await {
            let asked = json!({ "UserName": login.user, "Password": login.password.reveal() });
            let answer = self.send(Method::POST, &sessions, Some(&asked), None).await?;
            if answer.status == StatusCode::UNAUTHORIZED {
                return Err(self.refused(&login.user));
            }
            // What else went wrong may be that all sessions are taken.
            if answer.status.is_success()
                && let Some(token) = answer.headers.get("x-auth-token")
            {
                let ends = answer.headers.get(LOCATION).and_then(|it| it.to_str().ok()).map(str::to_owned);
                let mut token = token.clone();
                token.set_sensitive(true);
                self.pass = Pass::Session(token, ends.or_else(|| link(&answer.body)), login.user.clone());
                return Ok(root);
            }
        }
        self.pass = Pass::Basic(login.clone());
        Ok(root)
    }

    async fn sessions(&self, root: &Value) -> Option<String> {
        if let Some(sessions) = link(at(at(root, "Links"), "Sessions")) {
            return Some(sessions);
        }
        let service = link(at(root, "SessionService"))?;
        let service_says = self.get(&service).await.ok().and_then(|it| link(at(&it.body, "Sessions")));
        Some(service_says.unwrap_or_else(|| format!("{}/Sessions", service.trim_end_matches('/'))))
    }

    /// BMCs have room for a handful of sessions, and remember each for half an hour.
    pub async fn log_out(&mut self) {
        if let Pass::Session(_, Some(ends), _) = &self.pass {
            let ended = self.send(Method::DELETE, &ends.clone(), None, None).await;
            if let Err(error) = ended {
                tracing::debug!(bmc.address = %self.address, "A session was not ended: {error}");
            }
        }
        self.pass = Pass::None;
    }

    pub async fn get(&self, path: &str) -> Result<Answer, BmcError> {
        let answer = self.send(Method::GET, path, None, None).await?;
        if !answer.status.is_success() {
            return Err(BmcError::unclear(&self.address, path, answer.status.to_string()));
        }
        Ok(answer)
    }

    /// The answer, whatever its status; a login that is refused is an error.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        version: Option<&str>,
    ) -> Result<Answer, BmcError> {
        let work = self.send_and_follow(method, path, body, version);
        let Ok(answer) = tokio::time::timeout(self.answer, work).await else {
            return Err(BmcError::Silent { address: self.address.clone(), secs: self.answer.as_secs() });
        };
        let answer = answer?;
        let user = match &self.pass {
            Pass::None => None,
            Pass::Session(_, _, user) => Some(user),
            Pass::Basic(login) => Some(&login.user),
        };
        match user {
            Some(user) if answer.status == StatusCode::UNAUTHORIZED => Err(self.refused(user)),
            _ => Ok(answer),
        }
    }

    async fn send_and_follow(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        version: Option<&str>,
    ) -> Result<Answer, BmcError> {
        let mut url = self.within(&self.root, path)?;
        for _ in 0..=REDIRECTS {
            let mut request =
                self.http.request(method.clone(), url.clone()).header(ACCEPT, "application/json");
            request = self.show_pass(request).header("OData-Version", "4.0");
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(version) = version {
                request = request.header(IF_MATCH, version);
            }
            let answer = self.read(request).await?;
            let to = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok());
            match to {
                Some(to) if answer.status.is_redirection() => url = self.within(&url, to)?,
                _ => return Ok(answer),
            }
        }
        Err(BmcError::Elsewhere { address: self.address.clone(), to: format!("{path} in circles") })
    }

    /// Paths come from the BMC: a login is sent to nobody else, whatever it says.
    fn within(&self, base: &Url, path: &str) -> Result<Url, BmcError> {
        let elsewhere = || BmcError::Elsewhere { address: self.address.clone(), to: brief(path) };
        let url = base.join(path).map_err(|_| elsewhere())?;
        if url.origin() != self.root.origin() || !url.username().is_empty() {
            return Err(elsewhere());
        }
        Ok(url)
    }

    fn show_pass(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.pass {
            Pass::None => request,
            Pass::Session(token, _, _) => request.header("X-Auth-Token", token.clone()),
            Pass::Basic(Login { user, password }) => request.basic_auth(user, Some(Secret::reveal(password))),
        }
    }

    async fn read(&self, request: RequestBuilder) -> Result<Answer, BmcError> {
        let mut response = request.send().await.map_err(|error| self.unreached(&error))?;
        let status = response.status();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.unreached(&error))? {
            if body.len() + part.len() > LARGEST {
                return Err(BmcError::TooMuch { address: self.address.clone(), limit: LARGEST });
            }
            body.extend_from_slice(&part);
        }
        let etag = headers.get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        Ok(Answer { status, etag, body: serde_json::from_slice(&body).unwrap_or_default(), headers })
    }

    fn unreached(&self, error: &reqwest::Error) -> BmcError {
        if let (Some(pin), Some(seen)) = (self.pin, self.seen.get())
            && pin != seen
        {
            let (pinned, seen) = (hex::encode(pin), hex::encode(seen));
            return BmcError::OtherCertificate { address: self.address.clone(), pinned, seen };
        }
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        BmcError::Unreached { address: self.address.clone(), why: brief(&innermost.to_string()) }
    }

    fn refused(&self, user: &str) -> BmcError {
        BmcError::Refused { address: self.address.clone(), user: user.to_owned() }
    }
}

/// A question that nobody waits for any more leaves its session behind; it is ended beside.
impl Drop for Connection {
    fn drop(&mut self) {
        let Pass::Session(token, Some(ends), _) = std::mem::replace(&mut self.pass, Pass::None) else {
            return;
        };
        if let (Ok(url), Ok(runtime)) =
            (self.within(&self.root, &ends), tokio::runtime::Handle::try_current())
        {
            let ended = self.http.delete(url).header("X-Auth-Token", token).timeout(self.answer).send();
            // Where it fails, the BMC ends it by itself after a while.
            runtime.spawn(async move { drop(ended.await) });
        }
    }
}

/// With or without colons.
fn read_pin(pin: &str) -> Result<[u8; 32], BmcError> {
    let digits: String = pin.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    let octets = hex::decode(&digits).ok().and_then(|octets| octets.try_into().ok());
    octets.ok_or_else(|| BmcError::Pin { pin: brief(pin) })
}
