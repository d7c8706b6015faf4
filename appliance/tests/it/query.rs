//! Questions: what expressions can say, what is wrong with others, and the past.

use std::fmt::Write as _;

use crate::client::{logged_in, names};
use crate::example::{guest, host, join, mac, report};
use fleet::wire::{Observed, SoftwareState};
use fleet::{NodeId, VmId};
use serde_json::{Value, json};

fn vm(name: &str, memory_mib: u64) -> Value {
    json!({ "name": name, "memory_mib": memory_mib, "vcpus": 1, "disk_gib": 4 })
}

#[tokio::test]
async fn objects_are_found_by_what_is_wanted_and_by_what_is_seen() {
    let client = logged_in().await;
    let core = &client.site.app.core;
    let machine = host(core, mac(1)).await;
    report(core, mac(3), true).await;
    for (name, memory) in [("web", 512), ("db", 2048), ("build", 4096)] {
        client.post("/api/v1/vms", vm(name, memory)).await;
    }
    let found = |filter| {
        let client = &client;
        async move { client.query("vms", filter).await.map(|vms| names(&vms).join(" ")) }
    };
    assert_eq!(found("").await.unwrap(), "web db build");
    assert_eq!(found("memory_mib > 600").await.unwrap(), "db build");
    assert_eq!(found("memory_mib > 600 && name != 'db'").await.unwrap(), "build");
    assert_eq!(found("name.startsWith('w') || name in ['db']").await.unwrap(), "web db");
    assert_eq!(found("host == 'host-1' && phase == 'starting'").await.unwrap(), "web db build");
    assert_eq!(found("name.matches('^(web|build)$')").await.unwrap(), "web build");
    found("waiting.exists(what, what.contains('its host'))").await.unwrap();
    assert_eq!(found("observed.state == 'running'").await.unwrap(), "", "nothing is known of them yet");
    assert_eq!(found("!has(observed.state)").await.unwrap(), "web db build");
    join(core, machine).await;
    assert_eq!(found("observed.state == 'running' && age < 3600").await.unwrap(), "web db build");
    assert_eq!(found("observed.version < '2' || memory_mib == 512").await.unwrap(), "web", "what is unknown");

    let machines = client.query("machines", "'52:54:00:4a:10:03' in macs").await.unwrap();
    assert_eq!(machines[0]["phase"], "found");
    assert_eq!(machines[0]["observed.version"], Value::Null);
    let some = client.get("/api/v1/query/machine?fields=name,phase").await.json();
    assert_eq!(some[1], json!({ "name": "host-2", "phase": "found" }));
    guest(core, VmId(1), "x", "1", SoftwareState::Healthy);
    assert_eq!(found("observed.version == '0.1'").await.unwrap(), "web", "0.1.0 is 0.1");
}

#[tokio::test]
async fn versions_are_compared_as_versions() {
    let client = logged_in().await;
    let core = &client.site.app.core;
    for (number, version) in [(1, "1.2"), (2, "1.10"), (3, "1.1.9")] {
        let machine = host(core, mac(number)).await;
        let said = core.observed()[&NodeId::Machine(machine)].said.clone();
        core.observe(NodeId::Machine(machine), Observed { version: version.into(), ..said });
    }
    for (filter, found) in [
        ("version < \"1.2\"", "host-3"),
        ("\"1.2\" > version", "host-3"),
        ("version >= '1.2'", "host-1 host-2"),
        ("version == '1.2.0'", "host-1"),
        ("'1.10.0' == version", "host-2"),
        ("version in ['1.10', '1.1.9']", "host-2 host-3"),
        ("version != '1.2' && !(version > '1.9')", "host-3"),
        ("version > version('1.9')", "host-2"),
    ] {
        let hosts = client.query("hosts", filter).await.unwrap();
        assert_eq!(names(&hosts).join(" "), found, "{filter}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_shown_where_it_stands() {
    let client = logged_in().await;
    host(&client.site.app.core, mac(1)).await;
    client.post("/api/v1/vms", vm("web", 512)).await;
    let mut said = String::new();
    let deep = "(".repeat(30);
    for filter in [
        "memry_mib > 5",
        "name == 'web' && observed.stat == 'running'",
        "name.first == 'w'",
        "memory_mib > '5'",
        "memory_mib >",
        "name = 'web'",
        "name == 'web",
        "memory_mib",
        "name.starts('w')",
        "frobnicate(name)",
        &deep,
        "{'a': 1}.a == 1",
        "[1].all(a, [1].all(b, [1].all(c, true)))",
        "memory_mib / 0 == 1",
    ] {
        let sentence = client.query("vms", filter).await.unwrap_err();
        writeln!(said, "{sentence}\n").unwrap();
    }
    insta::assert_snapshot!(said);
    assert_eq!(
        client.query("cats", "").await.unwrap_err(),
        "cats is not a noun; there are machines, hosts, vms, volumes, images, services, packages, racks, switches, ports, media, profiles, leases, subnets, reservations, users, tenants, events"
    );
}

#[tokio::test]
async fn an_expression_cannot_end_the_appliance() {
    let client = logged_in().await;
    host(&client.site.app.core, mac(1)).await;
    client.post("/api/v1/vms", vm("web", 512)).await;
    for filter in [
        "a".repeat(10_000),
        format!("{}true{}", "(".repeat(24), ")".repeat(24)),
        format!("{}true", "!".repeat(1000)),
        format!("{}1 > 0", "-".repeat(1000)),
        vec!["true"; 300].join("&&"),
        vec!["memory_mib"; 180].join("+") + ">0",
        format!("{}true", "true?true:".repeat(190)),
        format!("name{}", ".a".repeat(900)),
        format!("memory_mib in [{}]", vec!["1"; 300].join(",")),
        "[1,2]".repeat(300),
        format!("name{} == ''", ".replace('a','aa')".repeat(100)),
        "\u{0}\u{1F600}'".repeat(100),
    ] {
        let _ = client.query("vms", &filter).await;
    }
    assert_eq!(client.query("vms", "name == 'web'").await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_past_is_asked_like_the_present() {
    let client = logged_in().await;
    let core = &client.site.app.core;
    host(core, mac(1)).await;
    let before = core.position();
    client.post("/api/v1/vms", vm("web", 512)).await;
    let created = core.position();
    assert_eq!(client.query_at("vms", "", &before.to_string()).await.unwrap().len(), 0);
    let then = client.query_at("vms", "memory_mib == 512", &created.to_string()).await.unwrap();
    assert_eq!(names(&then), ["web"]);
    assert_eq!(then[0]["observed.state"], Value::Null);
    assert_eq!(client.query_at("vms", "", "-1h").await.unwrap().len(), 0);
    let time = appliance::query::time::rfc3339(appliance::core::now());
    assert_eq!(client.query_at("vms", "", &time).await.unwrap().len(), 1);
    let wrong = client.query_at("vms", "", "9999").await.unwrap_err();
    assert_eq!(wrong, format!("the log ends at position {}", core.position()));
    assert!(client.query_at("vms", "", "yesterday").await.unwrap_err().contains("is not a moment"));

    let events = client.query("events", "kind == 'vm.created' && actor == 'admin'").await.unwrap();
    assert_eq!(names(&events), ["web"]);
    let until = client.query_at("events", "", "3").await.unwrap();
    assert_eq!(until.len(), 3);
}
