//! The operator's list of logins, tried at BMCs that speak Redfish.

use crate::client;
use crate::example;
use std::time::Duration;

use crate::client::Client;
use crate::fake_bmc::{Fake, PASSWORD, Reply, USER, ok, system};
use appliance::core::Actor;
use appliance::node_api::desired::{Sources, desired};
use axum::http::StatusCode;
use fleet::wire::{BmcKind, BmcSeen, Hardware};
use fleet::{Command, Fleet, MachineId, NodeId};
use serde_json::{Value, json};

async fn until(client: &Client, what: &str, so: impl Fn(&Fleet) -> bool) {
    let mut changed = client.site.app.core.watch_fleet();
    let wait = changed.wait_for(|head| so(&head.fleet));
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "never: {what}");
}

async fn add(client: &Client, password: &str) {
    client.post("/api/v1/bmc/logins", json!({ "user": USER, "password": password })).await.of(StatusCode::OK);
}

async fn find(client: &Client, machine: MachineId, fake: &Fake) {
    let path = format!("/api/v1/machines/{machine}/bmc/find");
    client.post(&path, json!({ "address": fake.address })).await.of(StatusCode::OK);
}

async fn timeline(client: &Client, machine: MachineId) -> String {
    client.get(&format!("/api/v1/machines/{machine}/timeline")).await.text
}

/// How often somebody tried to get in.
fn tries(fake: &Fake) -> usize {
    let world = fake.world.lock().unwrap();
    let logins = world.requests.iter().filter(|it| it.method == "POST" && it.path.contains("Sessions"));
    logins.count()
}

#[tokio::test]
async fn a_list_of_logins_is_tried_once_each_and_what_is_taken_is_set() {
    let client = client::logged_in().await;
    let core = &client.site.app.core;
    let [one, two] = [example::host(core, example::mac(1)).await, example::host(core, example::mac(2)).await];
    let [first, second] = [Fake::of_machine(1).await, Fake::of_machine(2).await];
    let nowhere = client.post(&format!("/api/v1/machines/{one}/bmc/find"), json!({})).await;
    assert_eq!(nowhere.status, StatusCode::CONFLICT, "{}", nowhere.text);
    assert!(nowhere.text.contains("says of no BMC where it is"), "{}", nowhere.text);
    find(&client, one, &first).await;

    add(&client, "planted-wrong").await;
    let is_over = |fleet: &Fleet| {
        let search = fleet.machines[&one].power.search.as_ref();
        search.is_some_and(|search| search.tried == [1])
    };
    until(&client, "tried", is_over).await;
    for _ in 0..100 {
        if timeline(&client, one).await.contains("takes no login of the list") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = timeline(&client, one).await;
    assert!(told.contains("Login 1 of the list is tried at its BMC at"), "{told}");
    assert!(told.contains("takes no login of the list: ") && told.contains("eli bmc logins add"), "{told}");
    assert_eq!(tries(&first), 1);

    // What was asked a moment ago rests, and what was tried is not tried again.
    add(&client, PASSWORD).await;
    client.delete("/api/v1/bmc/logins/1").await.of(StatusCode::OK);
    find(&client, two, &second).await;
    until(&client, "found", |fleet| fleet.machines[&two].power.bmc.is_some()).await;
    let told = timeline(&client, two).await;
    assert!(
        told.contains("takes login 2 of the list") && told.contains("Its power is switched by Redfish"),
        "{told}"
    );
    assert_eq!(tries(&first), 1);
    let shown = client.get(&format!("/api/v1/machines/{two}")).await.of(StatusCode::OK);
    assert_eq!(shown["bmc"]["pin"], second.certificate.as_str());
    client.post(&format!("/api/v1/machines/{two}/power"), json!({ "action": "on" })).await.of(StatusCode::OK);
    until(&client, "on", |fleet| fleet.machines[&two].power.order.is_none()).await;

    let listed = client.get("/api/v1/bmc/logins").await.of(StatusCode::OK);
    assert_eq!(listed, json!([{ "number": 2, "user": USER }]));
    for path in ["machines", "state", "log", "history", "document", "timeline/site", "bmc/logins"] {
        let text = client.get(&format!("/api/v1/{path}")).await.text;
        assert!(!text.contains("planted"), "{path}: {text}");
    }
    let gone = client.delete("/api/v1/bmc/logins/7").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "{}", gone.text);
    let empty: Value = json!({ "user": "", "password": "x" });
    assert_eq!(client.post("/api/v1/bmc/logins", empty).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn the_bmc_of_another_machine_is_not_taken_and_nothing_more_is_tried_there() {
    let client = client::logged_in().await;
    let one = example::host(&client.site.app.core, example::mac(1)).await;
    let others = Fake::of_machine(7).await;
    add(&client, PASSWORD).await;
    find(&client, one, &others).await;
    until(&client, "stopped", |fleet| {
        fleet.machines[&one].power.search.as_ref().is_some_and(|search| search.stopped)
    })
    .await;
    assert!(client.site.app.core.fleet().machines[&one].power.bmc.is_none());
    let told = timeline(&client, one).await;
    assert!(told.contains("is it the BMC of another machine?"), "{told}");
}

#[tokio::test]
async fn a_host_makes_an_account_by_policy_and_its_bmc_is_known_by_it() {
    let client = client::logged_in().await;
    let (app, mac) = (&client.site.app, example::mac(1));
    let bmc = Some(BmcSeen { address: Some([127, 0, 0, 1].into()), mac: None, kind: BmcKind::Redfish });
    let one = example::host_of(&app.core, Hardware { bmc, ..example::hardware(mac, false) }).await;
    let password = app.tokens.bmc_password(one);
    let (accepted, uuid) =
        (json!({ "UserName": "elisandra", "Password": password }), uuid::Uuid::from_u128(1));
    let fake = Fake::start(move |request, world| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/redfish/v1/SessionService/Sessions") if request.body == accepted => {
            world.sessions.push("made".to_owned());
            let place = "/redfish/v1/SessionService/Sessions/made".to_owned();
            Some(Reply::Json(201, vec![("X-Auth-Token", "made".to_owned()), ("Location", place)], json!({})))
        }
        ("GET", "/redfish/v1/Systems/1") => {
            let mut system = system(world);
            system["UUID"] = uuid.to_string().into();
            Some(ok(system))
        }
        _ => None,
    })
    .await;
    let told = || {
        let sources = Sources {
            ca_sha256: String::new(),
            tokens: &app.tokens,
            bundles: "/".as_ref(),
            consoles: &app.consoles,
        };
        desired(&app.core.fleet(), &sources, NodeId::Machine(one)).unwrap().bmc_account
    };
    assert_eq!(told(), None);
    let policy = json!({ "adopt": "blank", "bmc_accounts": true });
    client.put("/api/v1/policy", policy).await.of(StatusCode::OK);
    let account = told().unwrap();
    assert_eq!((account.user.as_str(), account.password), ("elisandra", password.clone()));

    find(&client, one, &fake).await;
    let made = Command::ReportAccount { machine: one, trouble: None };
    app.core.execute(&Actor::Node(NodeId::Machine(one)), made).await.unwrap();
    assert_eq!(told(), None);
    until(&client, "found", |fleet| fleet.machines[&one].power.bmc.is_some()).await;
    let told = timeline(&client, one).await;
    assert!(told.contains("It made an account for the appliance at its BMC"), "{told}");
    assert!(told.contains("takes the account that it made"), "{told}");
    for path in ["machines", "state", "log", "history", "document", "timeline/site", "bmc/logins", "policy"] {
        let text = client.get(&format!("/api/v1/{path}")).await.text;
        assert!(!text.contains(&password), "{path}: {text}");
    }
}
