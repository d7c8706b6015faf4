//! Power, fencing and reimaging by the REST API, with a BMC that speaks Redfish; bmc_peers.rs has those of third parties.

use crate::client;
use crate::example;
use std::time::Duration;

use crate::client::Client;
use crate::fake_bmc::{Fake, PASSWORD, USER};
use axum::http::StatusCode;
use fleet::{Fleet, MachineId};
use serde_json::{Value, json};

fn given(fake: &Fake, password: &str) -> Value {
    json!({ "kind": "redfish", "address": fake.address, "user": USER, "password": password })
}

async fn until(client: &Client, what: &str, so: impl Fn(&Fleet) -> bool) {
    let mut changed = client.site.app.core.watch_fleet();
    let wait = changed.wait_for(|head| so(&head.fleet));
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "never: {what}");
}

fn is(fake: &Fake) -> String {
    fake.world.lock().unwrap().power.clone()
}

/// Two hosts, and the BMC of the first.
async fn two_hosts() -> (Client, [MachineId; 2], Fake) {
    let client = client::logged_in().await;
    let core = &client.site.app.core;
    let hosts = [example::host(core, example::mac(1)).await, example::host(core, example::mac(2)).await];
    (client, hosts, Fake::of_machine(1).await)
}

#[tokio::test]
async fn a_bmc_is_tried_out_before_it_is_set_and_its_login_is_shown_nowhere() {
    let (client, [one, two], fake) = two_hosts().await;
    let path = format!("/api/v1/machines/{one}/bmc");
    let wrong = client.put(&path, given(&fake, "planted-wrong")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.text);
    assert!(wrong.text.contains("nothing was set") && !wrong.text.contains("planted"), "{}", wrong.text);
    let other = client.put(&format!("/api/v1/machines/{two}/bmc"), given(&fake, PASSWORD)).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "another machine's BMC: {}", other.text);
    assert_eq!(client.site.app.vault.names().await.unwrap(), Vec::<String>::new());

    client.put(&path, given(&fake, PASSWORD)).await.of(StatusCode::OK);
    let shown = client.get(&format!("/api/v1/machines/{one}")).await.of(StatusCode::OK);
    assert_eq!(shown["bmc"]["pin"], fake.certificate.as_str());
    for path in ["machines", "state", "log", "history", "document", "timeline/site"] {
        let text = client.get(&format!("/api/v1/{path}")).await.text;
        assert!(!text.contains("planted"), "{path}: {text}");
    }
    client.delete(&path).await.of(StatusCode::OK);
    for _ in 0..100 {
        if client.site.app.vault.names().await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the login is kept for a BMC that is not known any more");
}

#[tokio::test]
async fn a_host_is_fenced_by_its_bmc_and_its_vm_is_made_anew_on_the_other() {
    let (client, [one, two], fake) = two_hosts().await;
    client.put(&format!("/api/v1/machines/{one}/bmc"), given(&fake, PASSWORD)).await.of(StatusCode::OK);
    client.post(&format!("/api/v1/hosts/{two}/drain"), json!({})).await.of(StatusCode::OK);
    let vm = json!({ "name": "web", "memory_mib": 512, "vcpus": 1, "disk_gib": 4, "recover": "anew" });
    let vm = client.post("/api/v1/vms", vm).await.of(StatusCode::CREATED)["id"].as_str().unwrap().to_owned();
    client.post(&format!("/api/v1/hosts/{two}/undrain"), json!({})).await.of(StatusCode::OK);
    let early = client.post(&format!("/api/v1/vms/{vm}/recover"), json!({})).await;
    assert_eq!(early.status, StatusCode::CONFLICT, "{}", early.text);

    client
        .post(&format!("/api/v1/machines/{one}/fence"), json!({ "why": "it hangs" }))
        .await
        .of(StatusCode::OK);
    until(&client, "fenced", |fleet| fleet::power::off_since(fleet, one).is_some()).await;
    assert_eq!(is(&fake), "Off");
    until(&client, "moved", |fleet| fleet.vms.values().all(|vm| vm.host == two)).await;
    let shown = client.get(&format!("/api/v1/machines/{one}")).await.of(StatusCode::OK);
    assert_eq!(shown["fence"]["phase"], "off");
    assert_eq!(shown["power"]["is"], "off");
    let refusal = |action: &str| {
        let actions = shown["actions"].as_array().unwrap();
        actions.iter().find(|it| it["do"] == action).unwrap()["refusal"].clone()
    };
    assert_eq!(refusal("unfence"), Value::Null);
    assert_eq!(refusal("power-on"), "host-1 is fenced and off; unfencing it switches it on");

    client.post(&format!("/api/v1/machines/{one}/unfence"), json!({})).await.of(StatusCode::OK);
    until(&client, "on", |fleet| fleet.machines[&one].power.order.is_none()).await;
    assert_eq!(is(&fake), "On");
}

#[tokio::test]
async fn a_reimaged_host_is_restarted_from_the_network_and_one_without_bmc_is_told_to_restart() {
    let (client, [one, two], fake) = two_hosts().await;
    client.put(&format!("/api/v1/machines/{one}/bmc"), given(&fake, PASSWORD)).await.of(StatusCode::OK);
    client.post(&format!("/api/v1/machines/{one}/reimage"), json!({})).await.of(StatusCode::OK);
    until(&client, "restarted", |fleet| fleet.machines[&one].power.order.is_none()).await;
    assert_eq!(is(&fake), "On");
    assert_eq!(fake.world.lock().unwrap().boot["BootSourceOverrideTarget"], "Pxe");
    let foreign =
        client.post(&format!("/api/v1/machines/{two}/reimage"), json!({ "wipe": ["S4EV0001"] })).await;
    assert_eq!(foreign.status, StatusCode::CONFLICT, "{}", foreign.text);
    client.post(&format!("/api/v1/machines/{two}/reimage"), json!({})).await.of(StatusCode::OK);
    client.post(&format!("/api/v1/machines/{two}/cancel"), json!({})).await.of(StatusCode::OK);
    assert!(client.site.app.core.fleet().hosts.contains_key(&two));
}

#[tokio::test]
async fn a_failure_is_only_imagined() {
    let (client, [one, two], fake) = two_hosts().await;
    client.put(&format!("/api/v1/machines/{one}/bmc"), given(&fake, PASSWORD)).await.of(StatusCode::OK);
    client.post(&format!("/api/v1/hosts/{two}/drain"), json!({})).await.of(StatusCode::OK);
    let vm = json!({ "name": "web", "memory_mib": 512, "vcpus": 1, "disk_gib": 4, "recover": "anew" });
    client.post("/api/v1/vms", vm).await.of(StatusCode::CREATED);
    client.post(&format!("/api/v1/hosts/{two}/undrain"), json!({})).await.of(StatusCode::OK);
    let path = format!("/api/v1/hosts/{one}/fail");
    let earnest = client.post(&path, json!({})).await;
    assert_eq!(earnest.status, StatusCode::UNPROCESSABLE_ENTITY);
    let before = client.site.app.core.position();
    let request = client.request("POST", &path, "application/json").header("elisandra-plan", "1");
    let plan = client.send(request.body("{}".into()).unwrap()).await.of(StatusCode::OK);
    let text = plan.to_string();
    for sentence in [
        "Suspected: its host agent has been silent for 30 s",
        "To be fenced by policy",
        "Fenced, it is off",
        "Made anew on host-2, from its image: its host is fenced",
    ] {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }
    assert_eq!(client.site.app.core.position(), before);
    assert_eq!(is(&fake), "On");
}
