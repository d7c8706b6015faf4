//! Somebody who is logged in and asks the REST API, without a network between them.

use appliance::web;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::example::{Site, site};

pub struct Client {
    pub site: Site,
    pub router: Router,
    pub token: String,
    pub dir: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text))
    }

    /// What it says, if it is of this status.
    #[track_caller]
    pub fn of(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    pub fn error(&self) -> String {
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

/// A site with a password, and somebody who is logged in.
pub async fn logged_in() -> Client {
    let mut client = started().await;
    let password = json!({ "code": client.site.app.auth.code().unwrap(), "password": "correct horse" });
    let answer = client.post("/api/v1/password", password).await.of(StatusCode::OK);
    client.token = answer["token"].as_str().unwrap().to_owned();
    client
}

pub async fn started() -> Client {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path()).await;
    let router = web::router(site.app.clone());
    Client { site, router, token: String::new(), dir }
}

impl Client {
    /// Somebody else at the same site, by another token.
    pub fn by(&self, token: &str) -> Client {
        let Site { app, shutdown, .. } = &self.site;
        Client {
            site: Site { app: app.clone(), tasks: JoinSet::new(), shutdown: shutdown.clone() },
            router: self.router.clone(),
            token: token.to_owned(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 28).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Status and the beginning of the body; for what does not end by itself.
    pub async fn send_head(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let begin =
            tokio::time::timeout(std::time::Duration::from_secs(5), body.into_data_stream().next()).await;
        let begin = begin.ok().flatten().map(|bytes| bytes.unwrap_or_default()).unwrap_or_default();
        (parts.status, String::from_utf8_lossy(&begin).into_owned())
    }

    pub fn request(&self, method: &str, path: &str, kind: &str) -> axum::http::request::Builder {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
        if self.token.is_empty() {
            return request;
        }
        request.header(header::AUTHORIZATION, format!("Bearer {}", self.token))
    }

    pub async fn call(&self, method: &str, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        self.send(self.request(method, path, kind).body(body.into()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, "application/json", body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, "application/json", body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, "", Body::empty()).await
    }

    pub async fn upload(&self, bytes: Vec<u8>) -> Answer {
        self.call("POST", "/api/v1/packages", "application/octet-stream", bytes).await
    }

    /// The same request, planned and not carried out.
    pub async fn plan(&self, method: &str, path: &str, body: Value) -> Answer {
        let request = self.request(method, path, "application/json").header("Elisandra-Plan", "1");
        self.send(request.body(body.to_string().into()).unwrap()).await
    }

    /// An upload, planned and not carried out.
    pub async fn plan_upload(&self, bytes: Vec<u8>) -> Answer {
        let request = self.request("POST", "/api/v1/packages", "application/octet-stream");
        self.send(request.header("Elisandra-Plan", "1").body(bytes.into()).unwrap()).await
    }

    /// What a question answers, or the sentence that it is refused with.
    pub async fn query(&self, noun: &str, filter: &str) -> Result<Vec<Value>, String> {
        self.query_at(noun, filter, "").await
    }

    pub async fn query_at(&self, noun: &str, filter: &str, at: &str) -> Result<Vec<Value>, String> {
        let escape = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
        let mut path = format!("/api/v1/query/{noun}?filter={}", escape(filter));
        if !at.is_empty() {
            path += &format!("&at={}", escape(at));
        }
        let answer = self.get(&path).await;
        match answer.json() {
            Value::Array(objects) => Ok(objects),
            _ => Err(answer.error()),
        }
    }
}

pub fn names(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["name"].as_str().unwrap()).collect()
}
