//! Requests made from the API's own description by schemathesis (PyPI; tests/needs installs it), over TLS on loopback:
//! as nobody, as a viewer, as an admin, and with a node's certificate. None is answered by a 500, and answers are as
//! described.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use crate::client::{Client, logged_in};
use crate::example;
use appliance::api::openapi;
use appliance::{node_api, tls, web};
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// All that may be wrong with an answer. What is refused, and what is not, is looked at by tests that know why.
const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// They do not end, end the session that asks, make its password another, or reach for addresses that are made up.
const NOT_ASKED: &str = r"^/(live|api/v1/(events|logout|me/password|sessions/.*|users/.*|support|replay|webhooks.*|machines/.*/(bmc|strip)(/find)?|bmc/logins.*))$";

struct Asked<'a> {
    dir: &'a Path,
    schema: &'a Value,
    address: SocketAddr,
    checks: &'a str,
    examples: u32,
    more: Vec<String>,
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn serve(client: &mut Client) -> SocketAddr {
    let (listener, address) = listen().await;
    let app = &client.site.app;
    let own = app.ca.server_certificate(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]).unwrap();
    let (router, shutdown) = (web::router(app.clone()), client.site.shutdown.clone());
    std::fs::write(client.dir.path().join("ca.pem"), app.ca.pem()).unwrap();
    let config = tls::page_config(own).unwrap();
    client.site.tasks.spawn(tls::serve(listener, config, router, None, shutdown));
    address
}

async fn ask(asked: Asked<'_>) {
    let schema = asked.dir.join("schema.json");
    std::fs::write(&schema, asked.schema.to_string()).unwrap();
    let mut command = tokio::process::Command::new(schemathesis());
    command
        .current_dir(asked.dir)
        .arg("run")
        .arg(&schema)
        .arg(format!("--url=https://{}", asked.address))
        .arg("--tls-verify=ca.pem")
        .args(["--phases=fuzzing", "--no-shrink", "--generation-database=none", "--seed=1", "--no-color"])
        .args(["--continue-on-failure", "--request-timeout=30", "--max-redirects=0", "--warnings=off"])
        .args(["--suppress-health-check=all", "--workers=1"])
        .arg(format!("--max-examples={}", asked.examples))
        .arg(format!("--checks={}", asked.checks))
        .args(&asked.more)
        .kill_on_drop(true);
    let Output { status, stdout, stderr } = tokio::time::timeout(Duration::from_secs(180), command.output())
        .await
        .expect("it did not end")
        .unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{said}");
    assert!(said.contains("Operations:") || said.contains("passed"), "nothing was asked: {said}");
    eprintln!("{said}");
}

fn schemathesis() -> PathBuf {
    let cache = std::env::var_os("ELISANDRA_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/elisandra");
    let program = cache.unwrap_or_else(home).join("python/bin/schemathesis");
    assert!(program.exists(), "{} is not there; tests/needs installs it", program.display());
    program
}

async fn asked_with(token: &str, client: &mut Client, examples: u32) {
    let address = serve(client).await;
    let mut more = vec![format!("--exclude-path-regex={NOT_ASKED}")];
    if !token.is_empty() {
        more.push(format!("--header=Authorization: Bearer {token}"));
    }
    let (schema, dir) = (openapi::document(), client.dir.path().to_owned());
    ask(Asked { dir: &dir, schema: &schema, address, checks: CHECKS, examples, more }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_answered_as_it_is_described() {
    let mut client = logged_in().await;
    asked_with("", &mut client, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_is_answered_as_it_is_described() {
    let mut client = logged_in().await;
    let token = client.post("/api/v1/tokens", json!({ "name": "viewer" })).await.of(StatusCode::OK);
    let token = token["token"].as_str().unwrap().to_owned();
    asked_with(&token, &mut client, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_is_answered_as_it_is_described() {
    let mut client = logged_in().await;
    let core = client.site.app.core.clone();
    example::host(&core, example::mac(1)).await;
    example::sight(&core, example::mac(2)).await;
    let token = client.token.clone();
    asked_with(&token, &mut client, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_a_key_breaks_nothing_at_the_node_api() {
    let mut client = logged_in().await;
    serve(&mut client).await;
    let (listener, address) = listen().await;
    let app = client.site.app.clone();
    let own = app.ca.server_certificate(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]).unwrap();
    let config = tls::node_config(own).unwrap();
    let (router, ca, shutdown) =
        (node_api::router(app.clone()), Some(app.ca.clone()), client.site.shutdown.clone());
    client.site.tasks.spawn(tls::serve(listener, config, router, ca, shutdown));

    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let dir = client.dir.path().to_owned();
    std::fs::write(dir.join("node.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("node.key"), key.serialize_pem()).unwrap();
    let more = vec!["--request-cert=node.pem".to_owned(), "--request-cert-key=node.key".to_owned()];
    let schema = node_paths();
    ask(Asked { dir: &dir, schema: &schema, address, checks: "not_a_server_error", examples: 10, more })
        .await;
}

/// The node API is for our own programs; this is as much of it as a stranger would guess.
fn node_paths() -> Value {
    let any = json!({ "description": "Whatever it is.", "content": {} });
    let body = json!({ "content": { "application/json": { "schema": { "type": "object" } } } });
    let text = json!({ "type": "string", "minLength": 1 });
    let mut paths = serde_json::Map::new();
    for (method, path) in [
        ("post", "/node/report"),
        ("get", "/node/kickstart/{token}"),
        ("post", "/node/progress"),
        ("post", "/node/said"),
        ("post", "/node/installed"),
        ("post", "/node/failed"),
        ("post", "/node/certificate"),
        ("get", "/node/{id}/desired"),
        ("post", "/node/{id}/observed"),
        ("get", "/node/{id}/bundle/{sha256}"),
        ("get", "/node/{id}/console/{console}"),
    ] {
        let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = names
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text }))
            .collect::<Vec<_>>();
        let mut operation = json!({ "parameters": parameters, "responses": { "default": any } });
        if method == "post" {
            operation["requestBody"] = body.clone();
        }
        paths.insert(path.to_owned(), json!({ method: operation }));
    }
    json!({ "openapi": "3.1.0", "info": { "title": "Node API", "version": "1" }, "paths": paths })
}
