//! Plans: every request that changes something can be planned, nothing is touched by that, and what is applied is
//! what was shown.

use std::time::{Duration, SystemTime};

use crate::client::logged_in;
use crate::example;
use crate::example::{bundle, host, mac};
use appliance::api::packages;
use appliance::api::router::{Access, routes};
use axum::http::StatusCode;
use serde_json::{Value, json};

fn web(name: &str, memory_mib: u64) -> Value {
    json!({ "name": name, "memory_mib": memory_mib, "vcpus": 1, "disk_gib": 4 })
}

#[tokio::test]
async fn what_was_planned_is_what_is_applied() {
    let client = logged_in().await;
    host(&client.site.app.core, mac(1)).await;
    let position = client.site.app.core.position();

    let plan = client.plan("POST", "/api/v1/vms", web("web", 1024)).await.of(StatusCode::OK);
    let effects = plan["steps"][0]["effects"].as_array().unwrap();
    assert_eq!(effects[1]["name"], "web");
    let sentence = "Created as web on host-1: 1 vCPU, 1024 MiB memory, 4 GiB disk";
    assert_eq!(effects[1]["sentence"], sentence);
    assert_eq!(plan["placements"][0]["host"], "host-1");
    assert_eq!(plan["waiting"][0]["what"], "its host will make it");
    assert_eq!(plan["position"], position);
    assert_eq!(client.site.app.core.position(), position, "nothing was touched");
    assert!(client.site.app.core.fleet().vms.is_empty());

    let commands = json!([plan["steps"][0]["command"]]);
    let apply = json!({ "commands": commands, "digest": plan["digest"] });
    let done = client.post("/api/v1/apply", apply.clone()).await.of(StatusCode::OK);
    assert_eq!(done["changed"][1], sentence);
    assert_eq!(done["changed"][0], effects[0]["sentence"]);

    let again = client.post("/api/v1/apply", apply).await.of(StatusCode::CONFLICT);
    assert_eq!(again["detail"], "there is a VM web already");
}

#[tokio::test]
async fn a_plan_is_not_applied_where_it_would_do_something_else() {
    let client = logged_in().await;
    host(&client.site.app.core, mac(1)).await;
    let plan = client.plan("POST", "/api/v1/vms", web("web", 1024)).await.of(StatusCode::OK);
    // Another host has more free memory, and another VM takes the number.
    client.post("/api/v1/vms", web("first", 1024)).await;
    host(&client.site.app.core, mac(2)).await;
    let sentences = plan["steps"][0]["effects"].as_array().unwrap().iter();
    let sentences: Vec<String> = sentences
        .map(|e| format!("{}: {}", e["name"].as_str().unwrap(), e["sentence"].as_str().unwrap()))
        .collect();
    let position = client.site.app.core.position();
    let apply = json!({ "commands": [plan["steps"][0]["command"]], "digest": plan["digest"], "sentences": sentences });
    let refused = client.post("/api/v1/apply", apply).await.of(StatusCode::CONFLICT);
    let sentence = refused["detail"].as_str().unwrap();
    assert!(sentence.starts_with("the site has changed since this was planned"), "{sentence}");
    assert!(sentence.contains("The plan said"), "{sentence}");
    assert_eq!(client.site.app.core.position(), position);
}

#[tokio::test]
async fn a_plan_stands_while_others_do_what_does_not_concern_it() {
    let client = logged_in().await;
    host(&client.site.app.core, mac(1)).await;
    let plan = client.plan("POST", "/api/v1/vms", web("web", 1024)).await.of(StatusCode::OK);
    let rack = fleet::Command::AddRack { name: "a1".into(), units: 42 };
    client.site.app.core.execute(&appliance::core::Actor::Appliance, rack).await.unwrap();
    let apply = json!({ "commands": [plan["steps"][0]["command"]], "digest": plan["digest"] });
    client.post("/api/v1/apply", apply).await.of(StatusCode::OK);
}

#[tokio::test]
async fn a_planned_package_is_kept_until_it_is_applied() {
    let client = logged_in().await;
    host(&client.site.app.core, mac(1)).await;
    let plan = client.plan_upload(bundle("hello", 512)).await.of(StatusCode::OK);
    assert_eq!(plan["placements"][0]["vm"], "hello-1");
    assert!(client.site.app.core.fleet().packages.is_empty());
    let apply = json!({ "commands": [plan["steps"][0]["command"]], "digest": plan["digest"] });
    client.post("/api/v1/apply", apply.clone()).await.of(StatusCode::OK);
    assert_eq!(client.site.app.core.fleet().services.len(), 1);

    let mut other = apply;
    other["commands"][0]["bundle"]["sha256"] = "0".repeat(64).into();
    let refused = client.post("/api/v1/apply", other).await.of(StatusCode::CONFLICT);
    let sentence = "the bundle of hello 1.0.0 is not kept here any more; plan its installation again";
    assert_eq!(refused["detail"], sentence);
}

#[tokio::test]
async fn a_package_that_was_only_planned_is_kept_for_a_day() {
    let client = logged_in().await;
    let app = &client.site.app;
    host(&app.core, mac(1)).await;
    let mut plans = Vec::new();
    for name in ["applied", "left"] {
        plans.push(client.plan_upload(bundle(name, 512)).await.of(StatusCode::OK));
    }
    let bundles = || {
        let entries = std::fs::read_dir(&app.bundles).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|it| it == "eli")).count()
    };
    // Nobody planned it here; whose it is is not known.
    std::fs::write(app.bundles.join(format!("{}.eli", "7".repeat(64))), "").unwrap();
    let hours = |hours: u64| SystemTime::now() + Duration::from_secs(hours * 3600);
    packages::sweep(app, hours(23)).await.unwrap();
    assert_eq!(bundles(), 3);
    let apply = json!({ "commands": [plans[0]["steps"][0]["command"]], "digest": plans[0]["digest"] });
    client.post("/api/v1/apply", apply).await.of(StatusCode::OK);
    packages::sweep(app, hours(25)).await.unwrap();
    assert_eq!(bundles(), 2);
    let apply = json!({ "commands": [plans[1]["steps"][0]["command"]], "digest": plans[1]["digest"] });
    let refused = client.post("/api/v1/apply", apply).await.of(StatusCode::CONFLICT);
    assert!(refused["detail"].as_str().unwrap().contains("is not kept here any more"), "{refused}");
    packages::sweep(app, hours(50)).await.unwrap();
    assert_eq!(
        std::fs::read_dir(&app.bundles).unwrap().count(),
        2,
        "what was installed stays, and no mark does"
    );
}

#[tokio::test]
async fn people_order_and_do_not_pretend_to_be_machines() {
    let client = logged_in().await;
    let pretend = json!({ "command": "phone_home", "machine": "m1", "attempt": 1 });
    for (path, body) in [
        ("/api/v1/plan", json!({ "commands": [pretend] })),
        ("/api/v1/apply", json!({ "commands": [pretend], "digest": "0".repeat(64) })),
    ] {
        let answer = client.post(path, body).await.of(StatusCode::UNPROCESSABLE_ENTITY);
        let sentence = "phone_home is said by machines and by the appliance itself; nobody can order it";
        assert_eq!(answer["detail"], sentence);
    }
}

#[tokio::test]
async fn no_route_does_anything_when_it_is_planned() {
    let client = logged_in().await;
    let core = client.site.app.core.clone();
    host(&core, mac(1)).await;
    client.post("/api/v1/vms", web("web", 512)).await;
    example::until(&core, |fleet| !fleet.vms.is_empty()).await;
    let position = core.position();
    for route in routes().iter().filter(|route| route.method != "GET") {
        let path = route.path.replace("{id}", "v1").replace("{position}", "1").replace("{noun}", "vms");
        let answer = client.plan(route.method, &path, json!({})).await;
        if matches!(route.access, Access::Open | Access::Own(_)) {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            assert_eq!(answer.status, status, "{} {path} {}", route.method, answer.text);
        }
    }
    assert_eq!(core.position(), position);
    let status = client.get("/api/v1/state").await.status;
    assert_eq!(status, StatusCode::OK, "the session was not ended by a planned logout");
}
