//! What a token is for, who may see hashes of passwords, and guessing by a hostile hand.

use crate::client::{Client, logged_in};
use crate::example::{host, mac};
use appliance::api::router::routes;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

async fn token(client: &Client, body: Value) -> Client {
    let made = client.post("/api/v1/tokens", body).await.of(StatusCode::OK);
    client.by(made["token"].as_str().unwrap())
}

#[tokio::test]
async fn a_token_does_what_it_is_for_and_nothing_else() {
    let admin = logged_in().await;
    host(&admin.site.app.core, mac(1)).await;
    let scope = json!({ "name": "ci", "role": "operator", "scope": "vms machines:read add_rack" });
    let ci = token(&admin, scope).await;
    assert_eq!(ci.get("/api/v1/me").await.json()["scope"], "add_rack machines:read vms");

    let vm = json!({ "name": "web", "memory_mib": 512, "vcpus": 1, "disk_gib": 4 });
    ci.post("/api/v1/vms", vm.clone()).await.of(StatusCode::CREATED);
    for path in ["/api/v1/vms", "/api/v1/machines", "/api/v1/query/vms", "/api/v1/query/machines"] {
        ci.get(path).await.of(StatusCode::OK);
    }
    ci.post("/api/v1/racks", json!({ "name": "r1", "units": 42 })).await.of(StatusCode::CREATED);
    let refused = ci.delete("/api/v1/racks/r1").await.of(StatusCode::FORBIDDEN);
    assert_eq!(refused["detail"], "this token is for add_rack machines:read vms, and not for remove_rack");
    let refused = ci.post("/api/v1/machines/m1/cancel", json!({})).await.of(StatusCode::FORBIDDEN);
    assert_eq!(refused["detail"], "this token is for add_rack machines:read vms, and not for machines");

    // As data: planned or applied, and with what it may among it.
    let own = json!({ "command": "remove_vm", "vm": "v1", "force": false });
    let others = json!({ "command": "remove_rack", "name": "r1", "force": false });
    let both = json!({ "commands": [own, others] });
    ci.post("/api/v1/plan", both).await.of(StatusCode::FORBIDDEN);
    let plan = admin.post("/api/v1/plan", json!({ "commands": [others] })).await.of(StatusCode::OK);
    let apply = json!({ "commands": [others], "digest": plan["digest"] });
    ci.post("/api/v1/apply", apply).await.of(StatusCode::FORBIDDEN);
    assert_eq!(admin.site.app.core.fleet().racks.len(), 1);
    let plan = ci.post("/api/v1/plan", json!({ "commands": [own] })).await.of(StatusCode::OK);
    let apply = json!({ "commands": [own], "digest": plan["digest"] });
    ci.post("/api/v1/apply", apply).await.of(StatusCode::OK);

    // It can end itself, and is told of by what it is for.
    let listed = admin.get("/api/v1/sessions").await.json();
    let listed = listed.as_array().unwrap().iter().find(|session| session["name"] == "ci").unwrap().clone();
    assert_eq!(listed["scope"], "add_rack machines:read vms");
    ci.delete(&format!("/api/v1/sessions/{}", listed["id"].as_str().unwrap())).await.of(StatusCode::OK);
    ci.get("/api/v1/me").await.of(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_route_is_closed_to_a_token_that_is_for_something_else() {
    let admin = logged_in().await;
    let narrow =
        token(&admin, json!({ "name": "narrow", "role": "admin", "scope": "reservations:read" })).await;
    // Of plan, apply and many, each command is looked at.
    let about_itself = [
        "/api/v1/me",
        "/api/v1/logout",
        "/api/v1/sessions/{id}",
        "/api/v1/plan",
        "/api/v1/apply",
        "/api/v1/many",
        // Of the API, and not of the site.
        "/api/v1/openapi.json",
    ];
    let mut closed = 0;
    for route in routes() {
        let open = route.access == appliance::api::router::Access::Open;
        let own = about_itself.contains(&route.path)
            || (route.method, route.path) == ("GET", "/api/v1/reservations");
        if open || own {
            continue;
        }
        let path = route.path.replace("{id}", "m9").replace("{position}", "1").replace("{noun}", "vms");
        let request = narrow.request(route.method, &path, "application/json").body(Body::from("{}")).unwrap();
        let (status, text) = narrow.send_head(request).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{} {path}: {text}", route.method);
        closed += 1;
    }
    assert!(closed > 70, "{closed}");
    narrow.get("/api/v1/reservations").await.of(StatusCode::OK);
    let seer = token(&admin, json!({ "name": "seer", "scope": "metrics:read" })).await;
    assert_eq!(seer.get("/metrics").await.status, StatusCode::OK);
    seer.get("/api/v1/machines").await.of(StatusCode::FORBIDDEN);
    for wrong in ["", "everything", "vms:write"] {
        let body = json!({ "name": "x", "scope": wrong });
        let answer = admin.post("/api/v1/tokens", body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}: {}", answer.text);
    }
}

/// sha512crypt of nothing in particular.
const HASH: &str =
    "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/";

#[tokio::test]
async fn no_viewer_sees_the_hash_of_a_password_on_any_route() {
    let admin = logged_in().await;
    let profile = json!({ "name": "mine", "kind": "debian", "password_hash": HASH });
    admin.post("/api/v1/profiles", profile.clone()).await.of(StatusCode::OK);
    let viewer = token(&admin, json!({ "name": "viewer", "role": "viewer" })).await;
    let operator = token(&admin, json!({ "name": "operator", "role": "operator" })).await;
    let last = admin.site.app.core.position();

    let nouns = viewer.get("/api/v1/query").await.json();
    let nouns: Vec<String> =
        nouns.as_array().unwrap().iter().map(|noun| noun["noun"].as_str().unwrap().to_owned()).collect();
    let mut seen_by_operators = 0;
    for route in routes().into_iter().filter(|route| route.method == "GET") {
        let base = route.path.replace("{position}", &last.to_string()).replace("{file}", "page.js");
        let paths: Vec<String> = if base.contains("{noun}") {
            nouns.iter().map(|noun| base.replace("{noun}", noun)).collect()
        } else if base.contains("{id}") {
            ["mine", "site", "profile:mine"].iter().map(|id| base.replace("{id}", id)).collect()
        } else {
            vec![base]
        };
        for path in paths {
            let look = async |client: &Client| {
                let request = client.request("GET", &path, "").body(Body::empty()).unwrap();
                client.send_head(request).await.1
            };
            let seen = look(&viewer).await;
            assert!(!seen.contains(HASH) && !seen.contains("$6$"), "{path}: {seen}");
            if look(&operator).await.contains(HASH) {
                assert!(seen.contains("$hidden$hidden"), "{path}: {seen}");
                seen_by_operators += 1;
            }
        }
    }
    // state, profiles, profiles/{id}, document, history/{position}, log, log/compacted
    assert_eq!(seen_by_operators, 7);

    // What is planned with a document does not tell what is there.
    let document = viewer.get("/api/v1/document").await.json();
    let planned = viewer.post("/api/v1/document", document).await;
    assert!(!planned.text.contains("$6$"), "{}", planned.text);
}

async fn log_in(client: &Client, user: &str, password: &str, forwarded: &str) -> StatusCode {
    let body = json!({ "user": user, "password": password }).to_string();
    let request = Request::post("/api/v1/login")
        .header("content-type", "application/json")
        .header("x-forwarded-for", forwarded)
        .header("forwarded", format!("for={forwarded}"))
        .header("x-real-ip", forwarded);
    client.send(request.body(Body::from(body)).unwrap()).await.status
}

#[tokio::test]
async fn guessing_at_once_or_with_made_up_addresses_is_counted_all_the_same() {
    let admin = logged_in().await;
    let mut all = Vec::new();
    for number in 0..40 {
        let other = admin.by("");
        all.push(async move { log_in(&other, "admin", "no horse", &format!("203.0.113.{number}")).await });
    }
    let answers = futures::future::join_all(all).await;
    let tried = answers.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count();
    let waited = answers.iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count();
    // On a busy computer the first wait, of a second, may be over before all have asked.
    assert!((5..=6).contains(&tried) && tried + waited == 40, "{answers:?}");
    assert_eq!(log_in(&admin, "admin", "correct horse", "203.0.113.77").await, StatusCode::TOO_MANY_REQUESTS);
}
