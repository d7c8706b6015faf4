//! What holds for the whole API: errors, versions, keys of requests, parts of lists, patches, events.

use crate::client::{Answer, Client, logged_in};
use crate::example;
use appliance::api::paging;
use appliance::core::Actor;
use axum::http::{StatusCode, header};
use fleet::Command;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

impl Client {
    async fn with_header(&self, what: (&str, &str, Value), header: (&str, &str)) -> Answer {
        let (method, path, body) = what;
        let request = self.request(method, path, "application/json").header(header.0, header.1);
        self.send(request.body(body.to_string().into()).unwrap()).await
    }

    async fn patch(&self, path: &str, steps: Value) -> Answer {
        self.call("PATCH", path, "application/json-patch+json", steps.to_string()).await
    }

    async fn version(&self, path: &str) -> String {
        self.get(path).await.headers[header::ETAG].to_str().unwrap().to_owned()
    }
}

fn rack(name: &str) -> Value {
    json!({ "name": name, "units": 42 })
}

#[tokio::test]
async fn every_error_is_a_problem_with_a_sentence() {
    let client = logged_in().await;
    let nobody = Client {
        site: example::Site {
            app: client.site.app.clone(),
            tasks: tokio::task::JoinSet::new(),
            shutdown: client.site.shutdown.clone(),
        },
        router: client.router.clone(),
        token: String::new(),
        dir: tempfile::tempdir().unwrap(),
    };
    let json = "application/json";
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(300 << 10));
    for (who, method, path, kind, body, status) in [
        (&client, "GET", "/nothing/here", "", "", StatusCode::NOT_FOUND),
        (&client, "GET", "/api/v1/machines/m9/timeline", "", "", StatusCode::NOT_FOUND),
        (&client, "PUT", "/api/v1/machines", json, "{}", StatusCode::METHOD_NOT_ALLOWED),
        (&client, "POST", "/api/v1/racks", json, "{", StatusCode::BAD_REQUEST),
        (&client, "POST", "/api/v1/racks", json, "{}", StatusCode::UNPROCESSABLE_ENTITY),
        (&client, "POST", "/api/v1/racks", "text/plain", "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (&client, "POST", "/api/v1/racks", json, &large, StatusCode::PAYLOAD_TOO_LARGE),
        (&client, "GET", "/api/v1/history/first", "", "", StatusCode::BAD_REQUEST),
        (&client, "GET", "/api/v1/history?limit=x", "", "", StatusCode::BAD_REQUEST),
        (&client, "GET", "/api/v1/vms?limit=0", "", "", StatusCode::BAD_REQUEST),
        (&client, "GET", "/api/v1/machines/%ff/timeline", "", "", StatusCode::BAD_REQUEST),
        (&nobody, "GET", "/api/v1/machines", "", "", StatusCode::UNAUTHORIZED),
    ] {
        let answer = who.call(method, path, kind, body.to_owned()).await;
        let what = format!("{method} {path}: {} {}", answer.status, answer.text);
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json", "{what}");
        let problem = answer.json();
        assert_eq!(problem["type"], "about:blank", "{what}");
        assert_eq!(problem["status"], status.as_u16(), "{what}");
        assert_eq!(problem["title"], status.canonical_reason().unwrap(), "{what}");
        assert_eq!(problem["instance"], path.split('?').next().unwrap(), "{what}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 5), "{what}");
    }
}

#[tokio::test]
async fn what_one_has_already_is_not_sent_again() {
    let client = logged_in().await;
    let version = client.version("/api/v1/racks").await;
    let ask = || client.with_header(("GET", "/api/v1/racks", json!(null)), ("if-none-match", &version));
    let same = ask().await;
    assert_eq!((same.status, same.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    client.post("/api/v1/racks", rack("r7")).await.of(StatusCode::CREATED);
    let other = ask().await;
    assert_eq!(other.status, StatusCode::OK);
    assert_ne!(other.headers[header::ETAG], version.as_str());
}

/// A subnet to be changed.
async fn describe_lab(client: &Client) {
    let subnet = json!({ "name": "lab", "network": "10.99.0.0/24" });
    client.put("/api/v1/subnets/lab", subnet).await.of(StatusCode::OK);
}

#[tokio::test]
async fn a_document_is_changed_only_if_it_is_still_what_was_read() {
    let client = logged_in().await;
    describe_lab(&client).await;
    let profile = json!({ "name": "mine", "kind": "debian" });
    client.post("/api/v1/profiles", profile).await.of(StatusCode::OK);
    for (method, path, read) in [
        ("PUT", "/api/v1/policy", "/api/v1/policy"),
        ("PUT", "/api/v1/subnets/lab", "/api/v1/subnets/lab"),
        ("POST", "/api/v1/profiles", "/api/v1/profiles/mine"),
        ("POST", "/api/v1/document", "/api/v1/document"),
    ] {
        let (version, document) = (client.version(read).await, client.get(read).await.json());
        let change = |version| client.with_header((method, path, document.clone()), ("if-match", version));
        let refused = change("\"another\"").await;
        assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED, "{path}: {}", refused.text);
        change(&version).await.of(StatusCode::OK);
    }
    // Two people read it; one is too late.
    let seen = client.version("/api/v1/policy").await;
    client
        .patch("/api/v1/policy", json!([{ "op": "add", "path": "/ssh_keys/-", "value": KEY }]))
        .await
        .of(StatusCode::OK);
    let policy = json!({ "adopt": "ask", "ssh_keys": [] });
    let late = client.with_header(("PUT", "/api/v1/policy", policy), ("if-match", &seen)).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(client.get("/api/v1/policy").await.json()["ssh_keys"], json!([KEY]));
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAabcdefghijklmnopqrstuvwxyz0123456789ABCDE ada";

#[tokio::test]
async fn documents_are_patched() {
    let client = logged_in().await;
    describe_lab(&client).await;
    let path = "/api/v1/subnets/lab";
    client.patch(path, json!([{ "op": "add", "path": "/mtu", "value": 9000 }])).await.of(StatusCode::OK);
    assert_eq!(client.get(path).await.json()["mtu"], 9000);
    for (path, steps, status) in [
        (path, json!([{ "op": "test", "path": "/mtu", "value": 1500 }]), StatusCode::CONFLICT),
        (path, json!([{ "op": "remove", "path": "/dns/3" }]), StatusCode::CONFLICT),
        (path, json!([{ "op": "add", "path": "/colour", "value": "red" }]), StatusCode::UNPROCESSABLE_ENTITY),
        (path, json!([{ "op": "replace", "path": "/name", "value": "x" }]), StatusCode::UNPROCESSABLE_ENTITY),
        (path, json!({ "mtu": 1500 }), StatusCode::BAD_REQUEST),
        ("/api/v1/subnets/none", json!([]), StatusCode::NOT_FOUND),
        ("/api/v1/profiles/none", json!([]), StatusCode::NOT_FOUND),
    ] {
        let answer = client.patch(path, steps.clone()).await;
        assert_eq!(answer.status, status, "{path} {steps}: {}", answer.text);
    }
    assert_eq!(client.get(path).await.json()["mtu"], 9000);
    let wrong = client.call("PATCH", path, "application/json", "[]").await;
    assert_eq!(wrong.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_request_with_a_key_is_carried_out_once() {
    let client = logged_in().await;
    let send = |key: &'static str, name: &'static str| {
        client.with_header(("POST", "/api/v1/racks", rack(name)), ("idempotency-key", key))
    };
    let first = send("k1", "r7").await;
    assert_eq!(first.status, StatusCode::CREATED);
    let again = send("k1", "r7").await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(send("k1", "r8").await.status, StatusCode::UNPROCESSABLE_ENTITY, "another body");
    let refused = send("k2", "r7").await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "another key: there is one already");
    client.delete("/api/v1/racks/r7").await.of(StatusCode::OK);
    assert_eq!(send("k2", "r7").await.status, StatusCode::CREATED, "what was refused may be tried again");
    let made = client.get("/api/v1/history?limit=5000").await;
    assert_eq!(made.text.matches("\"rack:r7\"").count(), 3, "added, removed, added: {}", made.text);
    let token = json!({ "name": "monitor" });
    let token = client.with_header(("POST", "/api/v1/tokens", token), ("idempotency-key", "k3")).await;
    assert_eq!(token.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", token.text);
}

#[tokio::test]
async fn a_long_list_comes_in_parts() {
    let client = logged_in().await;
    for number in 0..25 {
        let command = Command::AddRack { name: format!("rack-{number:02}"), units: 10 };
        client.site.app.core.execute(&Actor::admin("ada"), command).await.unwrap();
    }
    let whole = client.get("/api/v1/racks").await.json();
    assert!(whole.as_array().unwrap().len() >= 25);
    let (mut path, mut seen) = ("/api/v1/racks?limit=7".to_owned(), Vec::new());
    loop {
        let answer = client.get(&path).await;
        let part = answer.json();
        let part = part.as_array().unwrap();
        assert!(!part.is_empty() && part.len() <= 7, "{path}: {}", part.len());
        seen.extend(part.iter().cloned());
        let Some(link) = answer.headers.get(header::LINK) else { break };
        path = paging::next(link.to_str().unwrap()).unwrap().to_owned();
        assert!(seen.len() < 100, "parts without end");
    }
    assert_eq!(json!(seen), whole);
    let refused = client.get("/api/v1/machines?after=x").await;
    assert!(refused.error().contains("nothing in this list can be called so"), "{}", refused.text);
}

#[tokio::test]
async fn events_say_what_changed_and_go_on_where_one_was() {
    let client = logged_in().await;
    let before = client.site.app.core.position();
    for name in ["r7", "r8", "r9"] {
        client.post("/api/v1/racks", rack(name)).await.of(StatusCode::CREATED);
    }
    let happened = |last: i64, count: usize, query: &'static str| {
        let request = client.request("GET", &format!("/api/v1/events{query}"), "");
        let request =
            request.header("last-event-id", last.to_string()).body(axum::body::Body::empty()).unwrap();
        let router = client.router.clone();
        async move {
            let mut body = router.oneshot(request).await.unwrap().into_body().into_data_stream();
            let mut text = String::new();
            while text.matches("event: happened").count() < count {
                let bytes = tokio::time::timeout(example::PATIENCE, body.next()).await;
                text += &String::from_utf8_lossy(&bytes.expect("no event came").unwrap().unwrap());
            }
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let data = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
            data.filter(|data| data["subject"].is_string()).collect::<Vec<_>>()
        }
    };
    let all = happened(before, 3, "").await;
    let subjects: Vec<&str> = all.iter().map(|event| event["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["rack:r7", "rack:r8", "rack:r9"]);
    assert_eq!(all[0]["kind"], "rack.added");
    assert_eq!(all[0]["position"], before + 1);
    let rest = happened(before + 2, 1, "").await;
    assert_eq!((rest.len(), &rest[0]["subject"]), (1, &json!("rack:r9")));
    let some = happened(before, 1, "?subjects=rack:r8").await;
    assert_eq!((some.len(), &some[0]["subject"]), (1, &json!("rack:r8")));
}

#[tokio::test]
async fn the_description_is_given_to_who_is_logged_in() {
    let client = logged_in().await;
    let document = client.get("/api/v1/openapi.json").await.of(StatusCode::OK);
    assert_eq!(document["openapi"], "3.1.0");
    let adopt = &document["paths"]["/api/v1/machines/{id}/adopt"]["post"];
    assert_eq!(adopt["x-role"], "operator");
    assert_eq!(document["components"]["schemas"]["Machine"]["properties"]["macs"]["type"], "array");
}
