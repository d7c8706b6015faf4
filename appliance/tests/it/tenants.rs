//! Tenants are kept apart: one asks for what another has by every route and every way there is, and learns nothing.

use std::time::Duration;

use crate::client::{Answer, Client, logged_in};
use crate::example::{bundle, host, mac};
use appliance::api::router::{Access, routes};
use axum::http::StatusCode;
use fleet::{Fleet, MachineId, ServiceId, VmId, service, state_hash, vm};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// A site with two hosts and a VM of its own, and two tenants with a VM and a service each.
struct World {
    admin: Client,
    /// Operators of acme and of beta.
    olga: Client,
    bert: Client,
    /// What must not be in any answer to olga.
    planted: Vec<String>,
}

async fn user(admin: &Client, name: &str, role: &str, tenant: Option<&str>) -> Client {
    let new = json!({ "name": name, "role": role, "tenant": tenant });
    admin.post("/api/v1/users", new).await.of(StatusCode::OK);
    let password = json!({ "password": format!("{name} has a horse") });
    let path = format!("/api/v1/users/{name}/password");
    admin.put(&path, password).await.of(StatusCode::OK);
    let login = json!({ "user": name, "password": format!("{name} has a horse") });
    let token = admin.post("/api/v1/login", login).await.of(StatusCode::OK);
    admin.by(token["token"].as_str().unwrap())
}

fn new_vm(name: &str) -> Value {
    json!({ "name": name, "memory_mib": 512, "vcpus": 1, "disk_gib": 4 })
}

async fn world() -> World {
    let admin = logged_in().await;
    let core = admin.site.app.core.clone();
    host(&core, mac(1)).await;
    host(&core, mac(2)).await;
    for tenant in ["acme", "beta"] {
        admin.post("/api/v1/tenants", json!({ "name": tenant })).await.of(StatusCode::OK);
    }
    let olga = user(&admin, "olga", "operator", Some("acme")).await;
    let bert = user(&admin, "bert", "operator", Some("beta")).await;
    admin.post("/api/v1/vms", new_vm("sitevm")).await.of(StatusCode::CREATED);
    let hello = bundle("hello", 256);
    let path = "/api/v1/packages?tenant=beta";
    admin.call("POST", path, "application/octet-stream", hello).await.of(StatusCode::CREATED);
    bert.post("/api/v1/vms", new_vm("beta-web")).await.of(StatusCode::CREATED);
    olga.post("/api/v1/vms", new_vm("acme-web")).await.of(StatusCode::CREATED);
    olga.post("/api/v1/packages", json!({ "package": "hello" })).await.of(StatusCode::CREATED);
    // The site's people look after it, too.
    let magda = user(&admin, "magda", "admin", None).await;
    let mut for_acme = new_vm("acme-db");
    for_acme["tenant"] = json!("acme");
    magda.post("/api/v1/vms", for_acme).await.of(StatusCode::CREATED);
    let planted = planted(&core.fleet());
    World { admin, olga, bert, planted }
}

fn planted(fleet: &Fleet) -> Vec<String> {
    let mut planted: Vec<String> =
        ["beta", "bert", "sitevm", "magda", "QEMU 10", "href=\"/machines"].map(str::to_owned).into();
    for machine in fleet.machines.values() {
        planted.extend([machine.name.to_string(), format!("\"{}\"", machine.id)]);
        planted.extend(machine.macs.iter().map(ToString::to_string));
    }
    for vm in fleet.vms.values().filter(|vm| vm.tenant.as_deref() != Some("acme")) {
        planted.extend([vm.mac.to_string(), format!("\"{}\"", vm.id)]);
        let address = fleet.leases.address(vm.mac).unwrap();
        planted.extend([format!("{address}\""), format!("{address}<"), format!("{address}:")]);
    }
    planted
}

/// Without what depends on when it was made, and on the text in it.
fn still(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = ["data-now=\"", "data-sum=\""]
        .iter()
        .filter_map(|key| rest.find(key).map(|at| (at, key.len())))
        .min()
        .map(|(at, length)| rest.split_at(at + length))
    {
        kept.push_str(before);
        rest = after.split_once('"').map_or("", |(_, rest)| rest);
    }
    kept + rest
}

impl World {
    #[track_caller]
    fn tells_nothing(&self, what: &str, text: &str) {
        for word in &self.planted {
            assert!(!text.contains(word.as_str()), "{what} tells {word:?}: {text}");
        }
    }

    fn vm(&self, name: &str) -> VmId {
        vm::by_name(&self.admin.site.app.core.fleet(), name).unwrap().id
    }

    fn service(&self, name: &str) -> ServiceId {
        service::by_name(&self.admin.site.app.core.fleet(), name).unwrap().id
    }

    fn hash(&self) -> fleet::StateHash {
        state_hash(&self.admin.site.app.core.fleet())
    }

    /// What there is, and the like of it that is not.
    fn pairs(&self) -> Vec<(String, String)> {
        let fleet = self.admin.site.app.core.fleet();
        let beta = vm::by_name(&fleet, "beta-web").unwrap();
        let machine = &fleet.machines[&MachineId(1)];
        let address = fleet.leases.address(beta.mac).unwrap().to_string();
        let of = |there: &dyn ToString, not: &str| (there.to_string(), not.to_owned());
        vec![
            of(&beta.id, "v91"),
            of(&beta.name, "nobody-web"),
            of(&self.vm("sitevm"), "v92"),
            of(&self.service("beta-hello"), "s93"),
            of(&"beta-hello", "nobody-hello"),
            of(&machine.id, "m94"),
            of(&machine.name, "nomachine"),
            of(&"beta", "nobody"),
            of(&"bert", "nobert"),
            of(&"tenant:beta", "tenant:nobody"),
            of(&"user:bert", "user:nobert"),
            of(&beta.mac, "02:ff:ff:ff:ff:ff"),
            of(&address, "10.77.250.250"),
        ]
    }
}

#[tokio::test]
async fn by_every_route_what_another_has_is_answered_as_what_is_not_there() {
    let world = world().await;
    let before = world.hash();
    let mut pairs = world.pairs();
    let sessions = world.bert.get("/api/v1/sessions").await.json();
    pairs.push((sessions[0]["id"].as_str().unwrap().to_owned(), "0".repeat(32)));
    let mut asked = 0;
    for route in routes() {
        if route.access == Access::Open || route.path.ends_with("/logout") {
            continue;
        }
        if !route.path.contains('{') {
            continue;
        }
        for (there, not) in &pairs {
            for body in ["{}", r#"{"role":"viewer"}"#, r#"{"password":"another one"}"#, r#"{"force":true}"#] {
                let path = |name: &str| {
                    let name = name.replace(':', "%3A");
                    let path = route.path.replace("{id}", &name).replace("{noun}", "vms");
                    path.replace("{position}", "1")
                };
                let ask = async |name: &str| -> Answer {
                    world.olga.call(route.method, &path(name), "application/json", body).await
                };
                let (one, other) = (ask(there).await, ask(not).await);
                let what = format!("{} {}", route.method, path(there));
                assert_eq!(one.status, other.status, "{what}: {}{}", one.text, other.text);
                assert!(one.status.is_client_error(), "{what}: {} {}", one.status, one.text);
                assert_eq!(one.headers.get("etag"), None, "{what}");
                let alike = |text: &str, name: &str| {
                    still(text)
                        .replace("/api/v1", "/api")
                        .replace(name, "X")
                        .replace(&name.replace(':', "%3A"), "X")
                };
                assert_eq!(alike(&one.text, there), alike(&other.text, not), "{what}");
                asked += 1;
                if route.method == "GET" {
                    break;
                }
                let request = world.olga.request(route.method, &path(there), "application/json");
                let request = request.header("Elisandra-Plan", "1").body(body.into()).unwrap();
                let planned = world.olga.send(request).await;
                assert!(planned.status.is_client_error(), "{what}, planned: {}", planned.text);
            }
        }
    }
    assert!(asked > 1000, "{asked}");
    assert_eq!(world.hash(), before, "nothing is different");
}

#[tokio::test]
async fn what_a_tenant_sees_tells_of_nobody_else() {
    let world = world().await;
    let mut seen = 0;
    for route in routes() {
        let named = route.path.contains('{');
        if route.access == Access::Open || route.method != "GET" || route.path.ends_with("openapi.json") {
            continue;
        }
        let mut paths = vec![route.path.to_owned()];
        if named {
            let own = [
                world.vm("acme-web").to_string(),
                world.service("acme-hello").to_string(),
                "acme-db".to_owned(),
            ];
            paths = own.iter().map(|id| route.path.replace("{id}", id).replace("{noun}", "vms")).collect();
        }
        for path in paths {
            let answer = match path.as_str() {
                "/live" | "/api/v1/events" => continue,
                path => world.olga.get(path).await,
            };
            if !route.tenants {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {}", answer.text);
            }
            world.tells_nothing(&path, &answer.text);
            seen += usize::from(answer.status == StatusCode::OK);
        }
    }
    assert!(seen > 20, "{seen}");
    let names = |answer: Value| -> Vec<String> {
        answer.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let vms = names(world.olga.get("/api/v1/vms").await.json());
    assert_eq!(vms, ["acme-web", "acme-hello-1", "acme-db"]);
    assert_eq!(names(world.bert.get("/api/v1/services").await.json()), ["beta-hello"]);
    assert_eq!(names(world.olga.get("/api/v1/packages").await.json()), ["hello"]);
    let page = world.olga.get("/vms").await.text;
    assert!(page.contains("acme-web") && page.contains("value=\"acme-\""), "{page}");
    let me = world.olga.get("/api/v1/me").await.json();
    assert_eq!((&me["tenant"], &me["role"]), (&json!("acme"), &json!("operator")));
    // The site's people see whose is what.
    let all = world.admin.get("/api/v1/vms").await.json();
    assert_eq!(all.as_array().unwrap().len(), 6);
    let page = world.admin.get("/vms").await.text;
    assert!(page.contains(">Tenant<") && page.contains(">beta<"), "{page}");
    let users = world.admin.get("/users").await.text;
    assert!(users.contains("id=\"tenant-acme\"") && users.contains("VMs 3"), "{users}");
}

#[tokio::test]
async fn orders_that_come_as_data_are_looked_at_one_by_one() {
    let world = world().await;
    let before = world.hash();
    let (vm, service) = (world.vm("beta-web"), world.service("beta-hello"));
    let orders = |vm: &str, service: &str, machine: &str| {
        vec![
            json!({ "command": "remove_vm", "vm": vm }),
            json!({ "command": "remove_vm", "vm": vm, "force": true }),
            json!({ "command": "recover_vm", "vm": vm }),
            json!({ "command": "cancel", "subject": vm }),
            json!({ "command": "cancel", "subject": service }),
            json!({ "command": "cancel", "subject": machine }),
            json!({ "command": "remove_service", "service": service }),
            json!({ "command": "remove_machine", "machine": machine, "force": true }),
            json!({ "command": "drain", "machine": machine }),
            json!({ "command": "fence", "machine": machine, "why": "x" }),
            json!({ "command": "remove_package", "name": "hello", "force": true }),
            json!({ "command": "set_tenant", "name": "acme", "limits": {} }),
            json!({ "command": "remove_user", "name": "nobody" }),
        ]
    };
    let there = orders(&vm.to_string(), &service.to_string(), "m1");
    let not = orders("v91", "s92", "m93");
    let alike = |text: &str| {
        let names = [(vm.to_string(), "v91"), (service.to_string(), "s92"), ("m1".to_owned(), "m93")];
        names.iter().fold(text.to_owned(), |text, (name, other)| {
            text.replace(&format!("\"{name}\""), &format!("\"{other}\""))
                .replace(&format!(" {name}\""), &format!(" {other}\""))
        })
    };
    for (one, other) in there.iter().zip(&not) {
        for path in ["/api/v1/plan", "/api/v1/apply"] {
            let body = |command: &Value| json!({ "commands": [command], "digest": "0".repeat(64) });
            let body = |command: &Value| match path {
                "/api/v1/plan" => json!({ "commands": [command] }),
                _ => body(command),
            };
            let a = world.olga.post(path, body(one)).await;
            let b = world.olga.post(path, body(other)).await;
            assert_eq!((a.status, alike(&a.text)), (b.status, b.text.clone()), "{path} {one}");
            if path == "/api/v1/plan" {
                let step = &a.json()["steps"][0];
                assert!(step["refusal"].is_string() && step["effects"] == json!([]), "{}", a.text);
            } else {
                assert!(a.status.is_client_error(), "{}", a.text);
            }
        }
    }
    // For another tenant, for the site, and with a file that is no guest image.
    let image = json!({ "name": "guest.img", "sha256": "ab".repeat(32), "bytes": 300_000_000 });
    let spec = |name: &str, tenant: Option<&str>, image: &Value| {
        json!({ "command": "create_vm", "spec": {
            "name": name, "vcpus": 1, "memory_mib": 256, "disk_gib": 1, "image": image, "tenant": tenant } })
    };
    for (command, status) in [
        (spec("beta-x", Some("beta"), &image), StatusCode::FORBIDDEN),
        (spec("x", None, &image), StatusCode::FORBIDDEN),
        (spec("beta-x", Some("acme"), &image), StatusCode::UNPROCESSABLE_ENTITY),
        (
            spec("acme-x", Some("acme"), &json!({ "name": "initrd", "sha256": "a", "bytes": 1 })),
            StatusCode::NOT_FOUND,
        ),
    ] {
        let apply = json!({ "commands": [command], "digest": "0".repeat(64) });
        let answer = world.olga.post("/api/v1/apply", apply).await;
        assert_eq!(answer.status, status, "{command}: {}", answer.text);
    }
    for many in [
        json!({ "do": "remove", "ids": [vm, service, "m1"] }),
        json!({ "do": "cancel", "ids": [vm, service] }),
        json!({ "do": "cancel", "of": "/vms?q=beta" }),
        json!({ "do": "cancel", "of": "/vms?on=m1" }),
        json!({ "do": "drain", "of": "/hosts" }),
        json!({ "do": "remove", "of": "/machines" }),
    ] {
        let answer = world.olga.post("/api/v1/many", many.clone()).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{many}: {}", answer.text);
        world.tells_nothing("many", &answer.text);
    }
    for new in [new_vm("beta-x"), new_vm("x")] {
        world.olga.post("/api/v1/vms", new).await.of(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let mut for_beta = new_vm("beta-x");
    for_beta["tenant"] = json!("beta");
    world.olga.post("/api/v1/vms", for_beta).await.of(StatusCode::FORBIDDEN);
    let mine = world.olga.upload(bundle("hello", 300)).await;
    assert_eq!(mine.status, StatusCode::FORBIDDEN, "{}", mine.text);
    let for_beta = json!({ "package": "hello", "tenant": "beta" });
    world.olga.post("/api/v1/packages", for_beta).await.of(StatusCode::FORBIDDEN);
    assert_eq!(world.hash(), before, "nothing is different");
}

#[tokio::test]
async fn own_orders_are_planned_and_done_without_a_word_on_hosts() {
    let world = world().await;
    let planned = world.olga.plan("POST", "/api/v1/vms", new_vm("acme-new")).await;
    assert_eq!(planned.status, StatusCode::OK, "{}", planned.text);
    world.tells_nothing("a plan", &planned.text);
    let plan = planned.json();
    assert_eq!(plan["placements"][0]["vm"], "acme-new");
    let commands = plan["steps"].as_array().unwrap().iter().map(|step| step["command"].clone());
    let commands: Vec<Value> = commands.collect();
    let again = world.olga.post("/api/v1/plan", json!({ "commands": commands })).await;
    assert_eq!(again.json()["digest"], plan["digest"]);
    // The site's digest is of more than a tenant is told.
    let sites = world.admin.post("/api/v1/plan", json!({ "commands": commands })).await.json();
    assert_ne!(sites["digest"], plan["digest"]);
    let wrong = json!({ "commands": commands, "digest": sites["digest"] });
    world.olga.post("/api/v1/apply", wrong).await.of(StatusCode::CONFLICT);
    let done =
        world.olga.post("/api/v1/apply", json!({ "commands": commands, "digest": plan["digest"] })).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    world.tells_nothing("apply", &done.text);

    let huge = json!({ "name": "acme-huge", "memory_mib": 1_000_000, "vcpus": 1, "disk_gib": 4 });
    let refused = world.olga.post("/api/v1/vms", huge.clone()).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.error().ends_with("there is no room for it now"), "{}", refused.text);
    world.tells_nothing("a refusal", &refused.text);
    let planned = world.olga.plan("POST", "/api/v1/vms", huge).await;
    world.tells_nothing("a planned refusal", &planned.text);

    let id = world.vm("acme-new");
    let removed = world.olga.delete(&format!("/api/v1/vms/{id}")).await;
    assert_eq!(removed.status, StatusCode::OK, "{}", removed.text);
    let forced = world.olga.delete(&format!("/api/v1/vms/{id}?force=true")).await.of(StatusCode::FORBIDDEN);
    assert_eq!(forced["detail"], "acme is a tenant; by force the site removes");
    let kept = world.olga.post(&format!("/api/v1/vms/{id}/cancel"), json!({})).await;
    assert_eq!(kept.status, StatusCode::OK, "{}", kept.text);
    let lines = world.olga.get(&format!("/api/v1/timeline/{id}")).await;
    assert!(
        lines.text.contains("Created as acme-new: 1 vCPU") && lines.text.contains("olga"),
        "{}",
        lines.text
    );
    world.tells_nothing("a timeline", &lines.text);
}

#[tokio::test]
async fn streams_bring_what_a_tenant_has() {
    let world = world().await;
    let (vm, own) = (world.vm("beta-web"), world.vm("acme-web"));
    for path in [
        "/api/v1/events?after=0".to_owned(),
        format!("/api/v1/events?after=0&subjects={vm},{own},m1,site,tenant:beta,user:bert"),
        "/live?of=/".to_owned(),
        "/live?of=/vms".to_owned(),
        "/live?of=/services".to_owned(),
        "/live?of=/users".to_owned(),
        format!("/live?of=/vms/{own}"),
        format!("/live?of=/vms/{vm}"),
    ] {
        let text = stream(&world.olga, &path).await;
        assert!(text.contains("event: "), "{path}: {text}");
        world.tells_nothing(&path, &text);
        assert_eq!(
            text.contains("acme-web"),
            !path.contains("users") && !path.ends_with(&format!("/vms/{vm}")) && !path.ends_with("/services"),
            "{path}: {text}"
        );
    }
    for path in
        ["/machines", "/machines/m1", "/hosts", "/log", "/networks", "/settings", "/racks", "/systems"]
    {
        let answer = world.olga.get(&format!("/live?of={path}")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {}", answer.text);
    }
    // The same page of the site's people is another.
    let all = stream(&world.admin, "/live?of=/vms").await;
    assert!(all.contains("beta-web") && all.contains("sitevm"), "{all}");
}

#[tokio::test]
async fn what_was_answered_to_one_is_not_kept_for_another() {
    let world = world().await;
    let keyed = async |who: &Client, name: &str| {
        let request = who.request("POST", "/api/v1/vms", "application/json").header("Idempotency-Key", "k1");
        who.send(request.body(new_vm(name).to_string().into()).unwrap()).await
    };
    assert_eq!(keyed(&world.bert, "beta-kept").await.status, StatusCode::CREATED);
    let other = keyed(&world.olga, "beta-kept").await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", other.text);
    assert_eq!(keyed(&world.olga, "acme-kept").await.status, StatusCode::CREATED);

    // Another person of the same name, of another tenant.
    world.admin.delete("/api/v1/users/bert").await.of(StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let bert = user(&world.admin, "bert", "operator", Some("acme")).await;
    let refused = keyed(&bert, "beta-kept").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text);

    let tag = world.admin.get("/api/v1/vms").await.headers["etag"].clone();
    let request = world.olga.request("GET", "/api/v1/vms", "").header("If-None-Match", tag);
    let answer = world.olga.send(request.body("".into()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn tokens_and_sessions_of_a_tenant_are_of_the_tenant() {
    let world = world().await;
    let made = world.olga.post("/api/v1/tokens", json!({ "name": "ci", "role": "operator" })).await;
    let program = world.olga.by(made.of(StatusCode::OK)["token"].as_str().unwrap());
    let vms = program.get("/api/v1/vms").await;
    world.tells_nothing("a token", &vms.text);
    assert!(vms.text.contains("acme-web"));
    assert_eq!(program.get("/api/v1/machines").await.status, StatusCode::FORBIDDEN);
    let sessions = world.olga.get("/api/v1/sessions").await.json();
    assert!(sessions.as_array().unwrap().iter().all(|session| session["user"] == "olga"), "{sessions}");
    let rise = json!({ "role": "admin" });
    let path = "/api/v1/users/olga/role";
    let refused = world.admin.put(path, rise).await;
    assert_eq!(refused.error(), "a user of acme is a viewer or an operator; admins are the site's");
    let limits = json!({ "vms": 3 });
    let path = "/api/v1/tenants/acme";
    world.admin.put(path, limits).await.of(StatusCode::OK);
    let refused = world.olga.post("/api/v1/vms", new_vm("acme-more")).await;
    assert_eq!(refused.error(), "acme may have 3 VMs and has 3; acme-more wants 1 more");
    let refused = world.admin.delete(path).await;
    assert_eq!(refused.error(), "acme still has 3 VMs, 1 service, 1 user; remove these first");
}

/// What comes until nothing has come for a while.
async fn stream(client: &Client, path: &str) -> String {
    let request = client.request("GET", path, "").body(axum::body::Body::empty()).unwrap();
    let response = client.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    for _ in 0..1000 {
        let Ok(Some(Ok(bytes))) = tokio::time::timeout(Duration::from_millis(700), body.next()).await else {
            break;
        };
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    text
}
