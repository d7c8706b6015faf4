//! Metrics, the dashboard that shows them, the support bundle; and that none of what the appliance shows has a secret.

use std::collections::BTreeSet;
use std::io::Read as _;

use crate::client::{Client, logged_in};
use crate::example;
use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use serde_json::{Value, json};
use tower::ServiceExt as _;

fn names_in(metrics: &str) -> BTreeSet<&str> {
    metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[tokio::test]
async fn metrics_are_as_prometheus_reads_them() {
    let client = logged_in().await;
    let core = client.site.app.core.clone();
    example::host(&core, example::mac(1)).await;
    example::sight(&core, example::mac(2)).await;
    let answer = client.get("/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let position = format!("elisandra_log_position {}\n", core.position());
    for line in [
        "elisandra_machines{phase=\"sighted\"} 1\n",
        "elisandra_hosts 1\n",
        "elisandra_boot_answers_total{protocol=\"dhcp\"} 2\n",
        "elisandra_database_away 0\n",
        position.as_str(),
    ] {
        assert!(answer.text.contains(line), "{line}: {}", answer.text);
    }
    let names = names_in(&answer.text);
    for line in answer.text.lines().filter(|line| !line.starts_with('#')) {
        let (what, value) = line.rsplit_once(' ').unwrap();
        let name = what.split('{').next().unwrap();
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(names.contains(name) || names.contains(base), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[tokio::test]
async fn the_dashboard_shows_what_there_is() {
    let client = logged_in().await;
    let metrics = client.get("/metrics").await.text;
    let names = names_in(&metrics);
    let dashboard =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 8, "{}", panels.len());
    let mut shown = BTreeSet::new();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("elisandra_") || word.starts_with("process_")) {
                let base = word.strip_suffix("_bucket").unwrap_or(word);
                assert!(names.contains(base), "{}: there is no {word}", panel["title"]);
                shown.insert(base.to_owned());
            }
        }
    }
    assert!(shown.len() >= 12, "{shown:?}");
}

/// The texts of the files of the bundle, one after another.
async fn bundle(client: &Client) -> String {
    let request = client.request("GET", "/api/v1/support", "").body(Body::empty()).unwrap();
    let response = client.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let bytes = to_bytes(response.into_body(), 1 << 28).await.unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
    let mut text = String::new();
    for file in archive.entries().unwrap() {
        let mut file = file.unwrap();
        text += &format!("\n== {}\n", file.path().unwrap().display());
        file.read_to_string(&mut text).unwrap();
    }
    text
}

#[tokio::test]
async fn no_secret_is_in_anything_that_is_shown_or_kept_beside_it() {
    let client = logged_in().await;
    let password = "a-planted-password-7361";
    client.post("/api/v1/users", json!({ "name": "ada", "role": "viewer" })).await.of(StatusCode::OK);
    let set = client.put("/api/v1/users/ada/password", json!({ "password": password })).await;
    assert_eq!(set.status, StatusCode::OK);
    let login = json!({ "user": "ada", "password": password });
    let session = client.post("/api/v1/login", login).await.of(StatusCode::OK)["token"].clone();
    let token =
        client.post("/api/v1/tokens", json!({ "name": "t" })).await.of(StatusCode::OK)["token"].clone();
    let hash = "$6$plantedsalt$plantedhashplantedhash";
    let profile = json!({ "name": "mine", "kind": "debian", "password_hash": hash });
    client.post("/api/v1/profiles", profile).await.of(StatusCode::OK);
    let webhook = json!({ "url": "http://127.0.0.1:9/", "secret": "a-planted-secret-of-a-webhook" });
    client.post("/api/v1/webhooks", webhook).await.of(StatusCode::CREATED);
    let vault = &client.site.app.vault;
    let planted = appliance::vault::Secret::new("a-planted-password-of-a-bmc");
    vault.put("bmc/m1", &planted, appliance::core::now()).await.unwrap();
    let dir = client.dir.path();
    let mut secrets = vec![
        password.to_owned(),
        "correct horse".to_owned(),
        session.as_str().unwrap().to_owned(),
        token.as_str().unwrap().to_owned(),
        client.token.clone(),
        "a-planted-secret-of-a-webhook".to_owned(),
        "a-planted-password-of-a-bmc".to_owned(),
        std::fs::read_to_string(dir.join("seal-key")).unwrap().trim().to_owned(),
        std::fs::read_to_string(dir.join("secret")).unwrap().trim().to_owned(),
    ];
    let key = std::fs::read_to_string(dir.join("ca-key.pem")).unwrap();
    secrets.push(key.lines().nth(1).unwrap().to_owned());
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;

    let bundle = bundle(&client).await;
    for file in ["about.json", "state.json", "metrics.txt", "history.jsonl", "timelines.jsonl", "journal.txt"]
    {
        assert!(bundle.contains(&format!("== elisandra-support/{file}\n")), "{file}");
    }
    assert!(bundle.contains("User ada was added"));
    assert!(!bundle.contains("plantedhash"), "the hash of a profile's password is in the bundle");

    let mut shown = vec![("the bundle".to_owned(), bundle)];
    for path in [
        "/metrics",
        "/api/v1/openapi.json",
        "/api/v1/state",
        "/api/v1/document",
        "/api/v1/history?limit=5000",
        "/api/v1/log",
        "/api/v1/log/compacted",
        "/api/v1/sessions",
        "/api/v1/webhooks",
        "/api/v1/users",
        "/api/v1/timeline/site",
        "/",
        "/racks",
        "/networks",
        "/users",
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        shown.push((path.to_owned(), answer.text));
    }
    let mut database = Vec::new();
    for file in ["log.sqlite", "log.sqlite-wal"] {
        database.extend(std::fs::read(dir.join(file)).unwrap_or_default());
    }
    assert!(!database.is_empty());
    shown.push(("the database".to_owned(), String::from_utf8_lossy(&database).into_owned()));
    for (place, text) in &shown {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "a secret is in {place}: {secret}");
        }
        let argon = text.contains("$argon2id$");
        assert_eq!(argon, place == "the database", "{place}: password hashes are in their table only");
    }
}
