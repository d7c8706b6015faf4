//! Somebody who is logged in and asks the REST API, without a network between them.

#![allow(dead_code, reason = "each test uses a part of it")]

use appliance::web;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::example::{Site, site};

pub struct Client {
    pub site: Site,
    router: Router,
    token: String,
    pub dir: tempfile::TempDir,
}

pub async fn logged_in() -> Client {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path()).await;
    let router = web::router(site.app.clone());
    let mut client = Client { site, router, token: String::new(), dir };
    let code = client.site.app.auth.code().unwrap();
    let password = json!({ "code": code, "password": "correct horse" });
    let (status, answer) = client.post("/api/v1/password", password).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    client.token = answer["token"].as_str().unwrap().to_owned();
    client
}

impl Client {
    pub async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 28).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(self.request("GET", path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(self.request("POST", path).body(body.to_string().into()).unwrap()).await
    }

    /// The same request, planned and not carried out.
    pub async fn plan(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.request(method, path).header("Elisandra-Plan", "1");
        self.send(request.body(body.to_string().into()).unwrap()).await
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
        let (status, answer) = self.get(&path).await;
        match answer {
            Value::Array(objects) => Ok(objects),
            other => Err(other["error"].as_str().unwrap_or_else(|| panic!("{status}")).to_owned()),
        }
    }
}

pub fn names(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["name"].as_str().unwrap()).collect()
}
