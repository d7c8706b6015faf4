//! Erasing and retiring machines by the REST API, on both databases: the certificate, and that openssl believes it.

use std::path::Path;
use std::process::Command as Program;

use crate::client::{Client, logged_in};
use crate::database::{Database, Kind};
use crate::example;
use appliance::core::Actor;
use appliance::web;
use axum::http::StatusCode;
use base64::Engine as _;
use fleet::wire::{EraseOutcome, Means, Proof};
use fleet::{Command, MachineId, NodeId};
use serde_json::{Value, json};

const MACHINE: MachineId = MachineId(1);

async fn logged_in_on(database: &Database) -> Client {
    let dir = tempfile::tempdir().unwrap();
    let site = example::site_on(dir.path(), database.open().await).await;
    let router = web::router(site.app.clone());
    let mut client = Client { site, router, token: String::new(), dir };
    let password = json!({ "code": client.site.app.auth.code().unwrap(), "password": "correct horse" });
    let answer = client.post("/api/v1/password", password).await.of(StatusCode::OK);
    client.token = answer["token"].as_str().unwrap().to_owned();
    client
}

/// A machine whose disk holds data, so that nothing becomes of it by itself.
async fn found(client: &Client) {
    report(client, "k1").await;
}

async fn report(client: &Client, key: &str) {
    let mac = example::mac(1);
    let report = Command::Report { key: key.into(), hardware: example::hardware(mac, true) };
    client.site.app.core.execute(&Actor::Wire(mac), report).await.unwrap();
}

async fn said(client: &Client, outcome: EraseOutcome) {
    let said = Command::ReportErased { machine: MACHINE, number: 0, attempt: 1, outcome };
    client.site.app.core.execute(&Actor::Node(NodeId::Machine(MACHINE)), said).await.unwrap();
}

fn done() -> EraseOutcome {
    let means = vec![Means::NvmeUserData];
    EraseOutcome::Done(Proof {
        means,
        seconds: 9,
        places: 66,
        bytes_read: 66 << 20,
        zero: true,
        version: "0.1.0".into(),
    })
}

async fn certificates(client: &Client) -> Vec<Value> {
    let list = client.get("/api/v1/machines/m1/erasures").await.of(StatusCode::OK);
    list.as_array().unwrap().clone()
}

/// As docs/operating.md says that it is checked.
fn openssl(folder: &Path, signed: &Value, document: &str) -> bool {
    let signature = base64::engine::general_purpose::STANDARD.decode(signed["signature"].as_str().unwrap());
    std::fs::write(folder.join("c.json"), document).unwrap();
    std::fs::write(folder.join("c.sig"), signature.unwrap()).unwrap();
    std::fs::write(folder.join("authority.pem"), signed["authority"].as_str().unwrap()).unwrap();
    let script = "openssl x509 -in authority.pem -noout -pubkey > authority.pub && \
                  openssl dgst -sha256 -verify authority.pub -signature c.sig c.json";
    let output = Program::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.success(), said.contains("Verified OK"), "{said}{output:?}");
    output.status.success()
}

async fn is_certified(kind: Kind) {
    let database = Database::new(kind);
    let client = logged_in_on(&database).await;
    found(&client).await;
    assert_eq!(certificates(&client).await, Vec::<Value>::new());

    // Cancelled before it has begun, there is nothing to certify.
    let erase = |body| client.post("/api/v1/machines/m1/erase", body);
    erase(json!({})).await.of(StatusCode::OK);
    client.post("/api/v1/machines/m1/cancel", json!({})).await.of(StatusCode::OK);
    assert_eq!(certificates(&client).await, Vec::<Value>::new());

    erase(json!({ "disks": ["S4EV0001"], "method": "format" })).await.of(StatusCode::OK);
    report(&client, "k2").await;
    let open = &certificates(&client).await[0]["certificate"];
    assert_eq!((&open["ended_at"], &open["complete"]), (&Value::Null, &json!(false)));
    let shown = client.get("/api/v1/machines/m1").await.of(StatusCode::OK);
    assert_eq!(shown["erasing"]["disks"][0]["is"], "begun");
    assert_eq!((&shown["phase"], &shown["cancellable"]), (&json!("erasing"), &json!(true)));
    said(&client, done()).await;

    let signed = certificates(&client).await.remove(0);
    let document = signed["document"].as_str().unwrap();
    let certificate = &signed["certificate"];
    assert_eq!(&serde_json::from_str::<Value>(document).unwrap(), certificate);
    assert_eq!(certificate["machine"]["product"], "PowerEdge R650");
    assert_eq!(certificate["machine"]["serial"], "7XK1");
    assert_eq!(certificate["ordered_by"], "admin");
    assert_eq!(certificate["ordered_from"], Value::Null, "nobody has an address without a network");
    assert_eq!(certificate["complete"], true);
    let disk = &certificate["disks"][0];
    assert_eq!((&disk["serial"], &disk["level"]), (&json!("S4EV0001"), &json!("purge")));
    assert!(disk["verified"].as_str().unwrap().starts_with("66 places with 69206016 bytes"), "{disk}");

    let folder = tempfile::tempdir().unwrap();
    assert!(openssl(folder.path(), &signed, document));
    assert!(!openssl(folder.path(), &signed, &document.replace("S4EV0001", "S4EV0002")));

    // It is made again from the log when the machine is gone.
    client.delete("/api/v1/machines/m1").await.of(StatusCode::OK);
    let again = certificates(&client).await.remove(0);
    assert_eq!(again["document"], signed["document"]);
    assert_eq!(client.get("/api/v1/machines/m2/erasures").await.status, StatusCode::NOT_FOUND);
    let page = client.get("/machines/m1/erasures").await;
    assert_eq!(page.status, StatusCode::OK);
    for text in ["Micron 7450, serial S4EV0001: erased", "Purge of NIST SP 800-88", "66 places"] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
}

#[tokio::test]
async fn what_was_done_is_certified_on_sqlite() {
    is_certified(Kind::Sqlite).await;
}

#[tokio::test]
async fn what_was_done_is_certified_on_postgres() {
    is_certified(Kind::Postgres).await;
}

#[tokio::test]
async fn a_machine_that_says_html_is_written_down_as_text() {
    let client = logged_in().await;
    found(&client).await;
    client.post("/api/v1/machines/m1/erase", json!({})).await.of(StatusCode::OK);
    report(&client, "k2").await;
    let outcome =
        EraseOutcome::Failed { step: "<script>alert(1)</script>".into(), error: "{{ 7 * 7 }}".into() };
    said(&client, outcome).await;
    for path in ["/machines/m1/erasures", "/machines/m1", "/log"] {
        let page = client.get(path).await.text;
        assert!(!page.contains("<script>alert"), "{path}");
    }
    let page = client.get("/machines/m1/erasures").await.text;
    assert!(page.contains("not erased") && page.contains("{{ 7 * 7 }}"), "{page}");
}

#[tokio::test]
async fn a_plan_shows_what_would_be_erased_and_changes_nothing() {
    let client = logged_in().await;
    found(&client).await;
    let before = client.site.app.core.position();
    let request = client.request("POST", "/api/v1/machines/m1/erase", "application/json");
    let request = request.header("elisandra-plan", "1").body(r#"{"retire":true}"#.into()).unwrap();
    let plan = client.send(request).await.of(StatusCode::OK).to_string();
    assert!(plan.contains("To be erased in the best way that each has: /dev/nvme0n1 (960 GB, serial S4EV0001), and then it is retired"), "{plan}");
    assert_eq!(client.site.app.core.position(), before);
}

#[tokio::test]
async fn a_retired_machine_is_shown_and_can_be_taken_back() {
    let client = logged_in().await;
    found(&client).await;
    let path = |verb: &str| format!("/api/v1/machines/m1/{verb}");
    client.post(&path("retire"), json!({})).await.of(StatusCode::OK);
    let shown = client.get("/api/v1/machines/m1").await.of(StatusCode::OK);
    assert_eq!((&shown["phase"], &shown["addresses"]), (&json!("retired"), &json!([])));
    let list = client.get("/machines?is=retired").await.text;
    assert!(list.contains("host-1"), "{list}");
    assert!(client.get("/machines/m1").await.text.contains("Take back"));
    client.post(&path("adopt"), json!({ "wipe": ["S4EV0001"] })).await.of(StatusCode::CONFLICT);
    client.post(&path("unretire"), json!({})).await.of(StatusCode::OK);
    let shown = client.get("/api/v1/machines/m1").await.of(StatusCode::OK);
    assert_eq!((&shown["phase"], &shown["adoptable"]), (&json!("found"), &json!(true)));
}
