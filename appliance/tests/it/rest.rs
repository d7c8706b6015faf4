//! The REST API and the pages as a router, on a real log: who gets in, what commands answer, and what is
//! refused with which sentence.

use std::path::Path;

use crate::client::{Client, logged_in, started};
use crate::example;
use crate::example::{bundle, hardware, host, mac, report, sight};
use appliance::api::router::{Access, routes};
use appliance::core::Actor;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use fleet::Command;
use fleet::machine::Phase;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

fn kept(client: &Client) -> Vec<String> {
    files(&client.dir.path().join("bundles"))
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn no_route_answers_without_a_login_but_those_one_logs_in_with() {
    let client = logged_in().await;
    let open: Vec<_> =
        routes().iter().filter(|r| r.access == Access::Open).map(|r| (r.method, r.path)).collect();
    let listed = [
        ("GET", "/login"),
        ("GET", "/welcome"),
        ("GET", "/assets/{file}"),
        ("GET", "/libraries/{*file}"),
        ("POST", "/api/v1/password"),
        ("POST", "/api/v1/login"),
    ];
    assert_eq!(open, listed, "who may come in without a login is decided here");

    let mut tried = 0;
    for route in routes().iter().filter(|route| route.access != Access::Open) {
        let path = route.path.replace("{id}", "m1");
        for carried in [
            None,
            Some((header::AUTHORIZATION, "Bearer wrong")),
            Some((header::COOKIE, "__Host-elisandra=wrong")),
        ] {
            let mut request = Request::builder()
                .method(route.method)
                .uri(&path)
                .header(header::CONTENT_TYPE, "application/json");
            if let Some((name, value)) = carried {
                request = request.header(name, value).header("x-elisandra", "1");
            }
            let answer = client.send(request.body(Body::from("{}")).unwrap()).await;
            match route.access {
                Access::Page => {
                    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{} {path}", route.method);
                    assert_eq!(answer.headers[header::LOCATION], "/login");
                    assert_eq!(answer.text, "");
                }
                Access::Api(_) | Access::Own(_) => {
                    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{} {path}", route.method);
                    assert_eq!(answer.error(), "log in first");
                }
                Access::Open => unreachable!(),
            }
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

#[tokio::test]
async fn a_call_without_a_login_is_on_the_timeline() {
    let client = logged_in().await;
    let request = Request::builder().uri("/api/v1/state").body(Body::empty()).unwrap();
    client.send(request).await;
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    let lines = client.get("/api/v1/timeline/site").await.json();
    let lines: Vec<&str> =
        lines.as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert!(lines.contains(&"GET /api/v1/state from 0.0.0.0: not logged in"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("The first password was set")), "{lines:?}");
}

#[tokio::test]
async fn pages_lead_to_the_first_password_and_then_to_the_login() {
    let mut client = started().await;
    assert_eq!(client.get("/").await.headers[header::LOCATION], "/welcome");
    assert_eq!(client.get("/login").await.headers[header::LOCATION], "/welcome");
    let welcome = client.get("/welcome").await;
    assert!(welcome.text.contains("One-time code"));
    let code = client.site.app.auth.code().unwrap();
    assert!(!welcome.text.contains(&code), "the code is for those who stand before the machine");

    let wrong =
        client.post("/api/v1/password", json!({ "code": "AAAA-AAAA", "password": "correct horse" })).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let short = client.post("/api/v1/password", json!({ "code": code, "password": "horse" })).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);

    let body = json!({ "code": code, "password": "correct horse" }).to_string();
    let request = Request::post("/api/v1/password")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::HOST, "10.77.0.1")
        .header(header::ORIGIN, "https://10.77.0.1")
        .body(Body::from(body.clone()))
        .unwrap();
    let set = client.send(request).await;
    assert_eq!(set.status, StatusCode::OK);
    assert_eq!(set.text, "{}", "a page's scripts have no use for the token");
    let cookie = set.headers[header::SET_COOKIE].to_str().unwrap().to_owned();
    for part in ["__Host-elisandra=", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let again = client.call("POST", "/api/v1/password", "application/json", body).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(client.get("/").await.headers[header::LOCATION], "/login");
    assert_eq!(client.get("/welcome").await.headers[header::LOCATION], "/login");

    client.token = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    let home = client.get("/").await;
    assert_eq!(home.status, StatusCode::OK);
    assert!(
        home.text.contains("No machines yet. Plug one in and let it start from the network."),
        "{}",
        home.text
    );
    assert!(home.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("default-src 'none'"));

    assert_eq!(client.post("/api/v1/logout", json!({})).await.status, StatusCode::OK);
    assert_eq!(client.get("/api/v1/state").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down() {
    let mut client = logged_in().await;
    client.token.clear();
    for _ in 0..5 {
        let wrong = client.post("/api/v1/login", json!({ "user": "admin", "password": "wrong" })).await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        assert_eq!(wrong.error(), "the name or the password is wrong");
    }
    let waits = client.post("/api/v1/login", json!({ "user": "admin", "password": "correct horse" })).await;
    assert_eq!(waits.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(waits.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn another_sites_page_cannot_use_the_session_of_a_browser() {
    let client = logged_in().await;
    let delete = |origin: Option<&str>| {
        let mut request = Request::delete("/api/v1/machines/m1")
            .header(header::HOST, "10.77.0.1:8443")
            .header(header::COOKIE, format!("other=1; __Host-elisandra={}", client.token));
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        client.send(request.body(Body::empty()).unwrap())
    };
    for foreign in
        ["https://evil.example", "null", "https://10.77.0.1", "https://10.77.0.1:8443.evil.example"]
    {
        assert_eq!(delete(Some(foreign)).await.status, StatusCode::FORBIDDEN, "{foreign}");
    }
    assert_eq!(delete(None).await.status, StatusCode::FORBIDDEN);
    assert_eq!(
        delete(Some("https://10.77.0.1:8443")).await.status,
        StatusCode::NOT_FOUND,
        "our own page may"
    );
}

#[tokio::test]
async fn a_disk_that_holds_data_is_wiped_only_when_it_is_named() {
    let client = logged_in().await;
    let machine = report(&client.site.app.core, mac(3), true).await;
    let path = format!("/api/v1/machines/{machine}/adopt");

    let state = client.get("/api/v1/machines").await.json();
    assert_eq!(state[0]["phase"], "found");
    assert_eq!(state[0]["question"]["sentence"], "this disk holds ext4 'data'; wipe it?");
    assert_eq!(state[0]["question"]["serial"], "S4EV0003");

    let plain = client.call("POST", &path, "", Body::empty()).await;
    assert_eq!(plain.status, StatusCode::CONFLICT);
    assert_eq!(plain.error(), "/dev/nvme0n1 holds ext4 'data'; wipe it?");
    let other = client.post(&path, json!({ "wipe": ["S4EV9999"] })).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert!(other.error().contains("which is not what may be wiped"), "{}", other.error());
    let unreadable = client.post(&path, json!({ "wipe": true })).await;
    assert!(unreadable.status.is_client_error());
    assert_eq!(client.site.app.core.fleet().machines[&machine].phase, Phase::Reported);

    let named = client.post(&path, json!({ "wipe": ["S4EV0003"] })).await;
    assert_eq!(named.status, StatusCode::OK, "{}", named.text);
    assert!(named.json()["changed"][0].as_str().unwrap().starts_with("Adopted by a person"));
    let again = client.post(&path, json!({ "wipe": ["S4EV0003"] })).await;
    assert_eq!(again.status, StatusCode::CONFLICT);

    assert_eq!(client.post("/api/v1/machines/m99/adopt", json!({})).await.error(), "there is no machine m99");
    assert_eq!(client.delete("/api/v1/machines/m99").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn wiping_is_not_asked_for_where_it_does_not_help() {
    let client = logged_in().await;
    let mut hardware = hardware(mac(3), true);
    hardware.disks[0].bytes = 1_000_000_000;
    let core = &client.site.app.core;
    core.execute(&Actor::Wire(mac(3)), Command::Report { key: "k".into(), hardware }).await.unwrap();
    let refused = client.post("/api/v1/machines/m1/adopt", json!({})).await;
    assert_eq!(refused.error(), "it has no disk of at least 10 GB that is built in");
}

#[tokio::test]
async fn everything_is_in_the_state_and_can_be_made_and_removed() {
    let client = logged_in().await;
    let core = &client.site.app.core;
    sight(core, mac(1)).await;
    let machine = host(core, mac(2)).await;

    let created = client
        .post("/api/v1/vms", json!({ "name": "build-1", "memory_mib": 2048, "vcpus": 2, "disk_gib": 8 }))
        .await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    assert_eq!(created.json()["id"], "v1");
    let wrong = client
        .post("/api/v1/vms", json!({ "name": "Build 1", "memory_mib": 2048, "vcpus": 2, "disk_gib": 8 }))
        .await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);

    let installed = client.upload(bundle("hello", 384)).await;
    assert_eq!(installed.status, StatusCode::CREATED, "{}", installed.text);
    assert_eq!(installed.json()["id"], "s1");
    assert_eq!(kept(&client).len(), 1);

    let state = client.get("/api/v1/state").await.json();
    assert!(state["daemon"]["resident_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(state["site"]["network"], "10.77.0.0/16");
    assert_eq!(state["policy"]["adopt"], "blank");
    assert_eq!(state["machines"][0]["phase"], "sighted");
    assert_eq!(state["machines"][0]["firmware"], "BIOS");
    assert_eq!(state["machines"][1]["phase"], "ready");
    assert!(state["machines"][1]["addresses"][0].as_str().unwrap().starts_with("10.77."));
    assert_eq!(state["hosts"][0]["free_memory_mib"], 64_000 - 768 - 2048 - 384);
    assert_eq!(state["hosts"][0]["vms"], json!(["v1", "v2"]));
    assert_eq!(state["vms"][0]["phase"], "starting");
    assert_eq!(state["vms"][0]["host_name"], "host-2");
    assert_eq!(state["vms"][1]["service"], "hello");
    assert_eq!(state["services"][0]["phase"], "installing");
    assert_eq!(state["services"][0]["summary"], "Says hello over HTTP");
    let url = state["services"][0]["url"].as_str().unwrap();
    assert!(url.starts_with("http://10.77.") && url.ends_with(":8080/"), "{url}");
    assert!(state["now"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(state["packages"][0]["name"], "hello");

    let twice = client.upload(bundle("hello", 384)).await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
    assert!(twice.error().contains("hello 1.0.0 is installing at http://10.77."), "{}", twice.error());
    assert_eq!(kept(&client).len(), 1, "the bundle of what is installed stays");

    let carried = client.delete("/api/v1/vms/v2").await;
    assert_eq!(carried.status, StatusCode::CONFLICT);
    assert_eq!(carried.error(), "hello-1 carries the service hello; remove that, or remove the VM by force");
    assert_eq!(client.delete("/api/v1/services/hello").await.status, StatusCode::OK);
    assert_eq!(client.delete("/api/v1/vms/build-1").await.status, StatusCode::OK);
    let busy = client.delete(&format!("/api/v1/machines/{machine}")).await;
    assert_eq!(
        busy.error(),
        "host-2 carries build-1, hello-1; remove that first, or remove host-2 by force, which forgets it too"
    );
    assert_eq!(client.delete("/api/v1/machines/host-1").await.status, StatusCode::OK);

    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    let lines = client.get(&format!("/api/v1/machines/{machine}/timeline")).await.json();
    let text = lines.to_string();
    for part in [
        "DISCOVER, offered",
        "fetched initrd",
        "Reported: Intel",
        "Phoned home: installed",
        "Ready as a host",
    ] {
        assert!(text.contains(part), "{part} is not on the timeline: {text}");
    }
    assert_eq!(client.get("/api/v1/timeline/m77").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn everything_can_be_cancelled_and_removed_and_what_is_left_over_is_said() {
    let client = logged_in().await;
    let core = &client.site.app.core;
    let machine = host(core, mac(2)).await;
    client.upload(bundle("hello", 384)).await;

    let drained = client.post(&format!("/api/v1/hosts/{machine}/drain"), json!({})).await;
    assert_eq!(drained.json()["changed"], json!(["Being drained: no new VM is placed on it"]));
    assert!(client.get("/api/v1/hosts").await.json()[0]["draining_since"].is_u64());
    let no_room = client
        .post("/api/v1/vms", json!({ "name": "build-1", "memory_mib": 256, "vcpus": 1, "disk_gib": 1 }))
        .await;
    assert!(no_room.error().ends_with("every host is being drained"), "{}", no_room.text);
    client.post("/api/v1/hosts/host-1/undrain", json!({})).await;

    assert_eq!(client.get("/api/v1/services").await.json()[0]["cancellable"], true);
    let cancelled = client.post("/api/v1/services/hello/cancel", json!({})).await;
    assert_eq!(cancelled.json()["changed"], json!(["To be removed", "To be removed"]));
    assert_eq!(client.post("/api/v1/services/hello/cancel", json!({})).await.status, StatusCode::OK);
    let vm = client.post("/api/v1/vms/hello-1/cancel", json!({})).await;
    assert_eq!(vm.error(), "hello-1 carries the service hello; cancel that");
    let nothing = client.post("/api/v1/machines/host-1/cancel", json!({})).await;
    assert_eq!(nothing.error(), "host-1 is ready; nothing goes on with it that could be cancelled");

    let refused = client.delete("/api/v1/packages/hello").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(client.delete("/api/v1/packages/hello?force=perhaps").await.status, StatusCode::BAD_REQUEST);
    let forced = client.delete(&format!("/api/v1/machines/{machine}?force=true")).await;
    assert_eq!(forced.status, StatusCode::OK, "{}", forced.text);
    let leftovers = forced.json()["leftovers"].to_string();
    assert!(leftovers.contains("volume hello-1-v1 of VM hello-1 stays on host-1's disk"), "{leftovers}");
    assert_eq!(client.get("/api/v1/services").await.json(), json!([]));
    assert_eq!(client.delete("/api/v1/packages/hello").await.status, StatusCode::OK);
    assert_eq!(kept(&client), [""; 0], "its bundle is gone too");

    let lines = client.get(&format!("/api/v1/timeline/{machine}")).await;
    assert!(lines.text.contains("Removed. Left over: host-1's system stays on its disk"), "{}", lines.text);
}

#[tokio::test]
async fn racks_and_switches_are_kept() {
    let client = logged_in().await;
    let core = &client.site.app.core;
    let machine = host(core, mac(2)).await;
    let added = client.post("/api/v1/racks", json!({ "name": "r1", "units": 42 })).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text);
    let placed = client.put("/api/v1/machines/host-1/place", json!({ "rack": "r1", "unit": 3 })).await;
    assert_eq!(placed.json()["changed"], json!(["host-1 stands in unit 3 of rack r1"]));
    let racks = client.get("/api/v1/racks").await.json();
    assert_eq!(
        racks[0]["holds"][0],
        json!({ "unit": 3, "height": 1, "what": "machine", "id": "m1", "name": "host-1" })
    );

    let switch =
        json!({ "name": "sw1", "ports": ["Gi1/0/10", "Gi1/0/9"], "place": { "rack": "r1", "unit": 42 } });
    assert_eq!(client.post("/api/v1/switches", switch).await.status, StatusCode::CREATED);
    let plug = json!({ "port": "Gi1/0/9", "what": { "is": "nic", "mac": mac(2) } });
    assert_eq!(client.post("/api/v1/switches/sw1/plug", plug).await.status, StatusCode::OK);
    let ports = json!({ "add": ["Gi1/0/11"], "remove": ["Gi1/0/10"] });
    assert_eq!(client.post("/api/v1/switches/sw1/ports", ports).await.status, StatusCode::OK);
    let switches = client.get("/api/v1/switches").await.json();
    assert_eq!(switches[0]["ports"][0]["name"], "Gi1/0/9");
    assert_eq!(switches[0]["ports"][0]["by_hand"]["name"], format!("host-1 ({})", mac(2)));
    assert_eq!(switches[0]["place"], "unit 42 of rack r1");
    let machines = client.get("/api/v1/machines").await.json();
    assert_eq!(machines[0]["place"], "unit 3 of rack r1");
    assert_eq!(machines[0]["ports"], json!(["port Gi1/0/9 of sw1"]));
    let page = client.get("/racks").await.text;
    assert!(page.contains("host-1") && page.contains("1 of 2 ports"), "{page}");
    let page = client.get("/switches").await.text;
    assert!(page.contains("Gi1/0/9") && page.contains("host-1"), "{page}");
    let lines = client.get("/api/v1/timeline/switch:sw1").await.text;
    assert!(lines.contains("is in port Gi1/0/9 of sw1, as a person says"), "{lines}");

    let unplug = json!({ "port": "Gi1/0/9" });
    assert_eq!(client.post("/api/v1/switches/sw1/unplug", unplug).await.status, StatusCode::OK);
    assert_eq!(client.delete(&format!("/api/v1/machines/{machine}/place")).await.status, StatusCode::OK);
    assert_eq!(client.delete("/api/v1/switches/sw1/place").await.status, StatusCode::OK);
    assert_eq!(client.delete("/api/v1/switches/sw1").await.status, StatusCode::OK);
    assert_eq!(client.delete("/api/v1/racks/r1").await.status, StatusCode::OK);
    assert_eq!(client.delete("/api/v1/racks/r1").await.error(), "there is no rack r1");
}

#[tokio::test]
async fn a_bundle_that_is_refused_changes_nothing() {
    let client = logged_in().await;
    host(&client.site.app.core, mac(2)).await;
    let before = client.site.app.core.fleet();
    let good = bundle("hello", 384);
    let manifest =
        String::from_utf8(good[512..512 + good[512..].iter().position(|b| *b == 0).unwrap()].to_vec())
            .unwrap();

    let lacks = example::pack(&[("manifest.toml", manifest.as_bytes())]);
    let leads_out = example::pack(&[("manifest.toml", manifest.as_bytes()), ("../../etc/cron.d/x", b"x")]);
    for (bytes, status, sentence) in [
        (good[..good.len() - 2000].to_vec(), StatusCode::UNPROCESSABLE_ENTITY, "cut short"),
        (b"PK\x03\x04 no tar".to_vec(), StatusCode::UNPROCESSABLE_ENTITY, "this is not a .eli bundle"),
        (leads_out, StatusCode::UNPROCESSABLE_ENTITY, "the path \"../../etc/cron.d/x\" has `..` in it"),
        (
            lacks,
            StatusCode::UNPROCESSABLE_ENTITY,
            "debs/hello.deb, which the manifest names, is not in the bundle",
        ),
        (
            bundle("hello", 640_000),
            StatusCode::CONFLICT,
            "hello-1 wants 640000 MiB memory, 1 vCPU and 2 GiB disk; no host has room for it",
        ),
    ] {
        let refused = client.upload(bytes).await;
        assert_eq!(refused.status, status, "{}", refused.text);
        assert!(refused.error().contains(sentence), "{}", refused.error());
        assert_eq!(kept(&client), [""; 0], "{sentence}");
        assert_eq!(client.site.app.core.fleet(), before, "{sentence}");
    }
    let elsewhere = [files(client.dir.path()), vec![]].concat();
    assert!(!elsewhere.iter().any(|name| name == "etc"), "{elsewhere:?}");
}

#[tokio::test]
async fn a_bundle_may_come_as_a_file_of_a_form() {
    let client = logged_in().await;
    host(&client.site.app.core, mac(2)).await;
    let mut body =
        b"--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"hello.eli\"\r\n\r\n".to_vec();
    body.extend(bundle("hello", 384));
    body.extend(b"\r\n--X--\r\n");
    let installed = client.call("POST", "/api/v1/packages", "multipart/form-data; boundary=X", body).await;
    assert_eq!(installed.status, StatusCode::CREATED, "{}", installed.text);
}

#[tokio::test]
async fn the_policy_is_set_whole_and_its_keys_are_looked_at() {
    let client = logged_in().await;
    let put = |policy: Value| client.put("/api/v1/policy", policy);
    let set = put(json!({ "adopt": "ask" })).await;
    assert_eq!(set.json()["changed"][0], "Policy: machines are adopted only when a person says so");
    assert_eq!(client.get("/api/v1/policy").await.json(), json!({ "adopt": "ask", "ssh_keys": [] }));
    assert_eq!(put(json!({ "adopt": "ask" })).await.json()["changed"], json!([]));
    let keys = put(json!({ "adopt": "ask", "ssh_keys": ["command=\"rm -rf /\" ssh-ed25519 AAAA"] })).await;
    assert_eq!(keys.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(put(json!({ "adopt": "all" })).await.status.is_client_error());
    assert!(put(json!({ "adopt": "ask", "wipe": true })).await.status.is_client_error());
}

#[tokio::test]
async fn what_a_node_says_about_itself_is_only_text_on_the_page() {
    let client = logged_in().await;
    let mut hardware = hardware(mac(3), false);
    hardware.product = Some("<script>alert(1)</script>\r\n\r\nevent: over".into());
    hardware.disks[0].serial = Some("\" onclick=\"alert(1)".into());
    hardware.disks[0].contents = vec![fleet::wire::DiskContent {
        path: "/dev/sda".into(),
        what: "<b>".into(),
        label: Some("<i>'\"".into()),
    }];
    let command = Command::Report { key: "k".into(), hardware };
    let core = &client.site.app.core;
    core.execute(&Actor::Wire(mac(3)), command).await.unwrap();
    let home = client.get("/machines").await.text;
    assert!(home.contains("&#60;script&#62;") || home.contains("&lt;script&gt;"), "{home}");
    for raw in ["<script>alert", "<b>'", "<i>'", "\" onclick=\""] {
        assert!(!home.contains(raw), "{raw}");
    }
}

#[tokio::test]
async fn the_live_page_brings_what_has_changed_and_ends_with_the_session() {
    let client = logged_in().await;
    let request = Request::get("/live?of=/machines")
        .header(header::AUTHORIZATION, format!("Bearer {}", client.token))
        .body(Body::empty())
        .unwrap();
    let response = client.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut heard = String::new();
    let mut hear = async |what: &str| {
        while !heard.contains(what) {
            let chunk = tokio::time::timeout(example::PATIENCE, stream.next()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("{what} was not heard: {heard}"));
            heard.push_str(std::str::from_utf8(&chunk.expect("the stream ended").unwrap()).unwrap());
        }
        std::mem::take(&mut heard)
    };
    let first = hear("event: tick").await;
    for section in ["head", "banners", "machines"] {
        assert!(first.contains(&format!("event: {section}\n")), "{section}");
    }
    assert!(first.contains("No machines yet"));

    sight(&client.site.app.core, mac(4)).await;
    let second = hear("event: tick").await;
    assert!(second.contains("event: machines\n") && second.contains("52:54:00:4a:10:04"), "{second}");
    assert!(!second.contains("event: banners\n"), "only what has changed is sent");

    client.post("/api/v1/logout", json!({})).await;
    sight(&client.site.app.core, mac(5)).await;
    hear("event: over").await;
}

#[tokio::test]
async fn a_page_is_brought_its_own_sections_only() {
    let client = logged_in().await;
    let request = Request::get("/live?of=/racks")
        .header(header::AUTHORIZATION, format!("Bearer {}", client.token))
        .body(Body::empty())
        .unwrap();
    let mut stream = client.router.clone().oneshot(request).await.unwrap().into_body().into_data_stream();
    let mut heard = String::new();
    while !heard.contains("event: tick") {
        let chunk = tokio::time::timeout(example::PATIENCE, stream.next()).await;
        heard.push_str(std::str::from_utf8(&chunk.unwrap().unwrap().unwrap()).unwrap());
    }
    let events: Vec<&str> = heard.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events, ["head", "banners", "racks", "tick"]);
    for (page, its) in [("/machines", "machines"), ("/racks", "racks"), ("/networks", "networks")] {
        let text = client.get(page).await.text;
        for section in ["machines", "racks", "networks"] {
            assert_eq!(
                text.contains(&format!("<section id=\"{section}\"")),
                section == its,
                "{section} on {page}"
            );
        }
    }
}

#[tokio::test]
async fn assets_are_part_of_the_program() {
    let client = started().await;
    for (file, kind) in [
        ("page.css", "text/css"),
        ("page.js", "text/javascript"),
        ("live.js", "text/javascript"),
        ("lists.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let answer = client.get(&format!("/assets/{file}")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with(kind));
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-cache");
    }
    assert_eq!(client.get("/assets/..%2f..%2fetc%2fpasswd").await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.get("/nothing").await.status, StatusCode::NOT_FOUND);
}
