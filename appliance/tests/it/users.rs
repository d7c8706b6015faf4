//! Who may do what: every route for every role, and what becomes of passwords, sessions and tokens.

use crate::client::{Client, logged_in};
use crate::desk;
use crate::example;
use appliance::api::router::{Access, routes};
use axum::http::StatusCode;
use fleet::user::Role;
use serde_json::{Value, json};

/// Every route and the least that may use it, and whether somebody of a tenant may. A new one has to be decided here.
const WHO: &str = "
    open     GET    /login
    open     GET    /welcome
    open     GET    /assets/{file}
    open     GET    /libraries/{*file}
    open     POST   /api/v1/password
    open     POST   /api/v1/login
    viewer   GET    /                                  tenant
    viewer   GET    /machines
    viewer   GET    /machines/{id}
    viewer   GET    /machines/{id}/console
    viewer   GET    /machines/{id}/erasures
    viewer   GET    /hosts
    viewer   GET    /vms                               tenant
    viewer   GET    /vms/{id}                          tenant
    viewer   GET    /vms/{id}/console                  tenant
    viewer   GET    /volumes
    viewer   GET    /images
    viewer   GET    /services                          tenant
    viewer   GET    /services/{id}                     tenant
    viewer   GET    /systems
    viewer   GET    /racks
    viewer   GET    /switches
    viewer   GET    /networks
    viewer   GET    /users                             tenant
    viewer   GET    /log
    viewer   GET    /settings
    viewer   GET    /live                              tenant
    viewer   GET    /timeline/{id}                     tenant
    viewer   GET    /api/v1/users
    admin    POST   /api/v1/users
    admin    PUT    /api/v1/users/{id}/role
    admin    PUT    /api/v1/users/{id}/password
    admin    DELETE /api/v1/users/{id}
    viewer   GET    /api/v1/tenants
    admin    POST   /api/v1/tenants
    admin    PUT    /api/v1/tenants/{id}
    admin    DELETE /api/v1/tenants/{id}
    viewer   GET    /api/v1/me                         tenant
    viewer   PUT    /api/v1/me/password                tenant
    viewer   GET    /api/v1/sessions                   tenant
    viewer   DELETE /api/v1/sessions/{id}              tenant
    viewer   POST   /api/v1/tokens                     tenant
    viewer   POST   /api/v1/logout                     tenant
    viewer   GET    /api/v1/openapi.json               tenant
    admin    GET    /api/v1/webhooks
    admin    POST   /api/v1/webhooks
    admin    DELETE /api/v1/webhooks/{id}
    admin    GET    /api/v1/support
    viewer   GET    /metrics
    viewer   GET    /api/v1/state                      tenant
    viewer   GET    /api/v1/events                     tenant
    viewer   GET    /api/v1/machines
    operator DELETE /api/v1/machines/{id}
    operator POST   /api/v1/machines/{id}/adopt
    viewer   GET    /api/v1/machines/{id}/timeline
    operator POST   /api/v1/machines/{id}/cancel
    operator POST   /api/v1/machines/{id}/boot
    viewer   GET    /api/v1/machines/{id}
    operator GET    /api/v1/machines/{id}/console
    viewer   GET    /api/v1/machines/{id}/said
    operator POST   /api/v1/machines/{id}/power
    operator POST   /api/v1/machines/{id}/identify
    operator PUT    /api/v1/machines/{id}/bmc
    operator DELETE /api/v1/machines/{id}/bmc
    operator POST   /api/v1/machines/{id}/bmc/find
    admin    GET    /api/v1/bmc/logins
    admin    POST   /api/v1/bmc/logins
    admin    DELETE /api/v1/bmc/logins/{number}
    operator PUT    /api/v1/machines/{id}/strip
    operator DELETE /api/v1/machines/{id}/strip
    operator POST   /api/v1/machines/{id}/fence
    operator POST   /api/v1/machines/{id}/unfence
    operator POST   /api/v1/machines/{id}/reimage
    operator POST   /api/v1/machines/{id}/erase
    operator POST   /api/v1/machines/{id}/check
    viewer   GET    /api/v1/machines/{id}/erasures
    operator POST   /api/v1/machines/{id}/retire
    operator POST   /api/v1/machines/{id}/unretire
    viewer   POST   /api/v1/hosts/{id}/fail
    operator POST   /api/v1/vms/{id}/recover
    operator PUT    /api/v1/machines/{id}/place
    operator DELETE /api/v1/machines/{id}/place
    viewer   GET    /api/v1/hosts
    operator POST   /api/v1/hosts/{id}/drain
    operator POST   /api/v1/hosts/{id}/undrain
    viewer   GET    /api/v1/vms                        tenant
    operator POST   /api/v1/vms                        tenant
    operator DELETE /api/v1/vms/{id}                   tenant
    operator POST   /api/v1/vms/{id}/cancel            tenant
    operator GET    /api/v1/vms/{id}/console           tenant
    viewer   GET    /api/v1/vms/{id}/timeline          tenant
    viewer   GET    /api/v1/volumes
    viewer   GET    /api/v1/images
    viewer   GET    /api/v1/services                   tenant
    operator DELETE /api/v1/services/{id}              tenant
    operator POST   /api/v1/services/{id}/cancel       tenant
    viewer   GET    /api/v1/services/{id}/timeline     tenant
    viewer   GET    /api/v1/packages                   tenant
    operator POST   /api/v1/packages                   tenant
    operator DELETE /api/v1/packages/{id}
    viewer   GET    /api/v1/racks
    operator POST   /api/v1/racks
    operator DELETE /api/v1/racks/{id}
    viewer   GET    /api/v1/switches
    operator POST   /api/v1/switches
    operator DELETE /api/v1/switches/{id}
    operator POST   /api/v1/switches/{id}/ports
    operator POST   /api/v1/switches/{id}/plug
    operator POST   /api/v1/switches/{id}/unplug
    operator PUT    /api/v1/switches/{id}/place
    operator DELETE /api/v1/switches/{id}/place
    viewer   GET    /api/v1/media
    operator POST   /api/v1/media
    operator DELETE /api/v1/media/{id}
    viewer   GET    /api/v1/profiles
    operator POST   /api/v1/profiles
    viewer   GET    /api/v1/profiles/{id}
    operator PATCH  /api/v1/profiles/{id}
    viewer   GET    /api/v1/profiles/{id}/template
    operator DELETE /api/v1/profiles/{id}
    viewer   GET    /api/v1/networks
    viewer   GET    /api/v1/subnets
    viewer   GET    /api/v1/subnets/{id}
    operator PUT    /api/v1/subnets/{id}
    operator PATCH  /api/v1/subnets/{id}
    operator DELETE /api/v1/subnets/{id}
    viewer   GET    /api/v1/reservations
    operator POST   /api/v1/reservations
    operator DELETE /api/v1/reservations/{id}
    viewer   GET    /api/v1/leases
    operator DELETE /api/v1/leases/{id}
    operator POST   /api/v1/many                       tenant
    viewer   GET    /api/v1/timeline/{id}              tenant
    viewer   GET    /api/v1/policy
    admin    PUT    /api/v1/policy
    admin    PATCH  /api/v1/policy
    viewer   GET    /api/v1/query
    viewer   GET    /api/v1/query/{noun}
    viewer   POST   /api/v1/plan                       tenant
    operator POST   /api/v1/apply                      tenant
    viewer   GET    /api/v1/document
    viewer   POST   /api/v1/document
    viewer   GET    /api/v1/history
    viewer   GET    /api/v1/history/{position}
    viewer   GET    /api/v1/log
    viewer   GET    /api/v1/log/compacted
    viewer   GET    /api/v1/hash
    admin    POST   /api/v1/replay
";

impl Client {
    async fn add(&self, name: &str, role: &str) -> Client {
        self.add_to(name, role, None).await
    }

    async fn add_to(&self, name: &str, role: &str, tenant: Option<&str>) -> Client {
        let user = json!({ "name": name, "role": role, "tenant": tenant });
        self.post("/api/v1/users", user).await.of(StatusCode::OK);
        let password = json!({ "password": format!("{name} has a horse") });
        self.put(&format!("/api/v1/users/{name}/password"), password).await.of(StatusCode::OK);
        self.enters(name).await.unwrap()
    }

    async fn enters(&self, name: &str) -> Option<Client> {
        self.enters_by(name, &format!("{name} has a horse")).await
    }

    async fn enters_by(&self, name: &str, password: &str) -> Option<Client> {
        let answer = self.post("/api/v1/login", json!({ "user": name, "password": password })).await;
        (answer.status == StatusCode::OK).then(|| self.by(answer.json()["token"].as_str().unwrap()))
    }

    /// Whether a session still opens anything.
    async fn is_in(&self) -> bool {
        let answer = self.get("/api/v1/me").await;
        assert!([StatusCode::OK, StatusCode::UNAUTHORIZED].contains(&answer.status), "{}", answer.text);
        answer.status == StatusCode::OK
    }
}

#[tokio::test]
async fn every_route_is_for_the_roles_that_are_listed() {
    let admin = logged_in().await;
    let viewer = admin.add("vera", "viewer").await;
    let operator = admin.add("otto", "operator").await;
    admin.post("/api/v1/tenants", json!({ "name": "acme" })).await.of(StatusCode::OK);
    let tenants = admin.add_to("olga", "operator", Some("acme")).await;
    let gone = admin.add("greta", "admin").await;
    admin.delete("/api/v1/users/greta").await.of(StatusCode::OK);
    let token = admin.post("/api/v1/tokens", json!({ "name": "monitor" })).await.of(StatusCode::OK);
    let program = admin.by(token["token"].as_str().unwrap());
    let nobody = admin.by("");

    let listed: Vec<Vec<&str>> = WHO
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.split_whitespace().collect())
        .collect();
    let there: Vec<(&str, &str)> = routes().iter().map(|route| (route.method, route.path)).collect();
    for line in &listed {
        assert!(there.contains(&(line[1], line[2])), "no such route: {line:?}");
    }
    for route in routes() {
        let line = listed.iter().find(|line| (line[1], line[2]) == (route.method, route.path));
        let line = line.unwrap_or_else(|| panic!("{} {}: who may use it?", route.method, route.path));
        let path = route.path.replace("{id}", "m9").replace("{position}", "1").replace("{noun}", "vms");
        let Ok(needs) = line[0].parse::<Role>() else {
            assert_eq!((line[0], route.access), ("open", Access::Open));
            continue;
        };
        // What one does to one's own session is looked at below.
        if path.ends_with("/logout") {
            continue;
        }
        let request = tenants.request(route.method, &path, "application/json").body("{}".into()).unwrap();
        let (status, text) = tenants.send_head(request).await;
        let what = format!("of a tenant: {} {path}: {status} {text}", route.method);
        assert_eq!(line.get(3).is_some(), route.tenants, "{what}");
        if route.tenants {
            assert!(!text.contains("not for tenants") && !status.is_server_error(), "{what}");
        } else {
            let known = text.contains("not for tenants") || text.contains("; this takes ");
            assert!(status == StatusCode::FORBIDDEN && known, "{what}");
        }
        let all = [
            (&nobody, None),
            (&gone, None),
            (&program, Some(Role::Viewer)),
            (&viewer, Some(Role::Viewer)),
            (&operator, Some(Role::Operator)),
            (&admin, Some(Role::Admin)),
        ];
        for (who, has) in all {
            let request = who.request(route.method, &path, "application/json");
            let answer = who.send_head(request.body("{}".into()).unwrap()).await;
            let what = format!("{has:?}: {} {path}: {answer:?}", route.method);
            let in_the_way = answer.1.contains("; this takes ");
            match has {
                None if route.access == Access::Page => assert_eq!(answer.0, StatusCode::SEE_OTHER, "{what}"),
                None => assert_eq!(answer.0, StatusCode::UNAUTHORIZED, "{what}"),
                Some(has) if has < needs => {
                    assert_eq!((answer.0, in_the_way), (StatusCode::FORBIDDEN, true), "{what}");
                }
                Some(_) => {
                    assert!(answer.0 != StatusCode::UNAUTHORIZED && !in_the_way, "{what}");
                    assert!(!answer.0.is_server_error(), "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_role_holds_for_commands_that_come_as_data() {
    let admin = logged_in().await;
    let operator = admin.add("otto", "operator").await;
    let greedy = json!({ "command": "set_role", "name": "otto", "role": "admin" });
    let plan = operator.post("/api/v1/plan", json!({ "commands": [greedy] })).await.of(StatusCode::OK);
    let apply = json!({ "commands": [greedy], "digest": plan["digest"] });
    let refused = operator.post("/api/v1/apply", apply.clone()).await.of(StatusCode::FORBIDDEN);
    assert_eq!(refused["detail"], "otto is an operator; this takes an admin");
    assert_eq!(operator.get("/api/v1/me").await.json()["role"], "operator");
    admin.post("/api/v1/apply", apply).await.of(StatusCode::OK);
    assert_eq!(operator.get("/api/v1/me").await.json()["role"], "admin", "a role counts at once");
}

#[tokio::test]
async fn the_first_user_stays_and_others_are_refused_with_a_sentence() {
    let admin = logged_in().await;
    for (method, path, body, sentence) in [
        ("DELETE", "/api/v1/users/admin", json!({}), "admin is built in and cannot be removed"),
        (
            "PUT",
            "/api/v1/users/admin/role",
            json!({ "role": "viewer" }),
            "admin is built in and stays an admin",
        ),
        (
            "POST",
            "/api/v1/users",
            json!({ "name": "admin", "role": "viewer" }),
            "there is a user admin already",
        ),
        (
            "POST",
            "/api/v1/users",
            json!({ "name": "<b>", "role": "viewer" }),
            "is not usable as a user's name",
        ),
        ("POST", "/api/v1/users", json!({ "name": "eve", "role": "king" }), "unknown variant `king`"),
        ("PUT", "/api/v1/users/eve/password", json!({ "password": "long enough" }), "there is no user eve"),
        ("PUT", "/api/v1/users/admin/password", json!({ "password": "short" }), "a password has 8 to 1024"),
    ] {
        let answer = admin.call(method, path, "application/json", body.to_string()).await;
        assert!(answer.status.is_client_error(), "{method} {path}: {}", answer.text);
        assert!(answer.error().contains(sentence), "{method} {path}: {}", answer.text);
    }
}

#[tokio::test]
async fn who_is_removed_is_out_at_once_and_leaves_nothing_to_a_namesake() {
    let admin = logged_in().await;
    let first = admin.add("ada", "operator").await;
    assert!(first.is_in().await);
    admin.delete("/api/v1/users/ada").await.of(StatusCode::OK);
    assert!(!first.is_in().await);
    assert!(admin.enters("ada").await.is_none());

    // Another person of the same name has neither the password nor the sessions of the first.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    admin.post("/api/v1/users", json!({ "name": "ada", "role": "viewer" })).await.of(StatusCode::OK);
    assert!(!first.is_in().await);
    assert!(admin.enters("ada").await.is_none());
    let users = admin.get("/api/v1/users").await.json();
    let ada = users.as_array().unwrap().iter().find(|user| user["name"] == "ada").unwrap();
    assert_eq!(ada["password"], false);
}

#[tokio::test]
async fn a_new_password_ends_what_was_opened_with_the_old_one() {
    let admin = logged_in().await;
    let here = admin.add("ada", "viewer").await;
    let elsewhere = admin.enters("ada").await.unwrap();
    let wrong = json!({ "old": "no horse at all", "new": "a new horse" });
    let refused = here.put("/api/v1/me/password", wrong).await.of(StatusCode::UNAUTHORIZED);
    assert_eq!(refused["detail"], "the name or the password is wrong");
    let right = json!({ "old": "ada has a horse", "new": "a new horse" });
    here.put("/api/v1/me/password", right).await.of(StatusCode::OK);
    assert!(here.is_in().await, "the session that asked goes on");
    assert!(!elsewhere.is_in().await);
    assert!(admin.enters("ada").await.is_none());
    assert!(admin.enters_by("ada", "a new horse").await.is_some());

    let forgotten = json!({ "password": "chosen by admin" });
    admin.put("/api/v1/users/ada/password", forgotten).await.of(StatusCode::OK);
    assert!(!here.is_in().await);
    let lines = timeline(&admin).await;
    assert!(lines.contains("The password of ada was set, by admin from"), "{lines}");
    assert!(!lines.contains("horse") && !lines.contains("chosen"), "{lines}");
}

#[tokio::test]
async fn sessions_are_seen_and_ended_and_tokens_do_what_they_are_for() {
    let admin = logged_in().await;
    let ada = admin.add("ada", "operator").await;
    let tokens = |body: Value| ada.post("/api/v1/tokens", body);
    let made = tokens(json!({ "name": "backup", "role": "operator", "days": 1 })).await.of(StatusCode::OK);
    let program = ada.by(made["token"].as_str().unwrap());
    assert_eq!(program.get("/api/v1/me").await.json()["role"], "operator");
    for (body, sentence) in [
        (json!({ "name": "root", "role": "admin" }), "ada is an operator, so a token cannot be an admin"),
        (json!({ "name": "old", "days": 0 }), "a token is good for 1 to 3650 days"),
        (json!({ "name": "old", "days": u64::MAX }), "a token is good for 1 to 3650 days"),
        (json!({ "name": "a b" }), "is not usable as a name"),
    ] {
        let answer = tokens(body).await;
        assert!(answer.error().contains(sentence), "{}", answer.text);
    }
    let again = program.post("/api/v1/tokens", json!({ "name": "more" })).await.of(StatusCode::CONFLICT);
    assert_eq!(again["detail"], "a token cannot make another; log in for that");

    // With its user, a token may less.
    admin.put("/api/v1/users/ada/role", json!({ "role": "viewer" })).await.of(StatusCode::OK);
    assert_eq!(program.get("/api/v1/me").await.json()["role"], "viewer");

    let own = ada.get("/api/v1/sessions").await.json();
    let own = own.as_array().unwrap();
    assert_eq!(own.len(), 2, "{own:?}");
    assert!(own.iter().all(|session| session["user"] == "ada"));
    let backup = own.iter().find(|session| session["name"] == "backup").unwrap();
    assert_eq!((&backup["client"], &backup["role"]), (&json!("program"), &json!("operator")));
    let hers = own.iter().find(|session| session["name"].is_null()).unwrap();
    let hers = format!("/api/v1/sessions/{}", hers["id"].as_str().unwrap());
    program.delete(&hers).await.of(StatusCode::CONFLICT);
    let text = ada.get("/api/v1/sessions").await.text;
    assert!(!text.contains(&ada.token) && !text.contains(&program.token));

    let all = admin.get("/api/v1/sessions").await.json();
    let admins = all.as_array().unwrap().iter().find(|session| session["user"] == "admin").unwrap();
    let not_hers = format!("/api/v1/sessions/{}", admins["id"].as_str().unwrap());
    ada.delete(&not_hers).await.of(StatusCode::NOT_FOUND);
    assert!(admin.is_in().await);
    let path = format!("/api/v1/sessions/{}", backup["id"].as_str().unwrap());
    admin.delete(&path).await.of(StatusCode::OK);
    assert!(!program.is_in().await);
    assert!(ada.is_in().await);
    ada.post("/api/v1/logout", json!({})).await.of(StatusCode::OK);
    assert!(!ada.is_in().await);
}

#[tokio::test]
async fn eli_adds_a_user_who_logs_in_and_is_told_what_she_may() {
    let desk = desk::logged_in().await;
    let added = desk
        .eli_with(&["user", "add", "ada", "--role", "viewer"], &[("ELI_NEW_PASSWORD", "ada has a horse")])
        .await;
    assert_eq!(added.code, 0, "{}", added.err);
    assert_eq!(added.out, "User ada was added, a viewer\nThe password of ada was set\n");
    let who =
        desk.eli(&["query", "events", "subject == 'user:ada' && from == '127.0.0.1'", "-o", "json"]).await;
    assert!(who.out.contains("\"admin\""), "{}{}", who.out, who.err);
    let planned = desk.eli(&["plan", "--", "user", "remove", "ada"]).await;
    assert!(planned.out.contains("User ada was removed"), "{}{}", planned.out, planned.err);
    let document = desk.eli(&["export"]).await.out;
    assert!(document.contains("[[user]]\nname = \"ada\"\nrole = \"viewer\""), "{document}");

    let (server, fingerprint) = (desk.server(), desk.site.app.ca.fingerprint());
    let login = ["login", &server, "--fingerprint", &fingerprint, "--user", "ada"];
    let ada = desk.eli_with(&login, &[("ELI_PASSWORD", "ada has a horse")]).await;
    assert_eq!(ada.code, 0, "{}", ada.err);
    assert_eq!(desk.eli(&["me"]).await.out, format!("ada, a viewer, at {server}\n"));
    let refused = desk.eli(&["vm", "create", "web"]).await;
    assert_eq!(refused.code, 3);
    assert!(
        refused.err.starts_with("eli: ada is a viewer; this takes an operator\n  -> "),
        "{}",
        refused.err
    );
    let sessions = desk.eli(&["session", "list"]).await.out;
    assert!(sessions.contains("console (this one)") && sessions.contains("127.0.0.1"), "{sessions}");
    let token = desk.eli(&["token", "make", "monitor"]).await;
    let token = token.out.trim().to_owned();
    let seen = desk.eli(&["me", "--token", &token]).await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let passwords = [("ELI_PASSWORD", "ada has a horse"), ("ELI_NEW_PASSWORD", "another horse")];
    assert_eq!(desk.eli_with(&["passwd"], &passwords).await.code, 0);
    assert_eq!(desk.eli(&["me", "--token", &token]).await.code, 3, "a token ends with the password");
}

#[tokio::test]
async fn eli_shares_the_site_with_a_tenant() {
    let desk = desk::logged_in().await;
    example::host(&desk.site.app.core, example::mac(1)).await;
    let added = desk.eli(&["tenant", "add", "acme", "--vms", "2", "--memory", "2048"]).await;
    assert_eq!(added.out, "Tenant acme was added, at most 2 VMs, 2048 MiB memory\n", "{}", added.err);
    let user = ["user", "add", "olga", "--tenant", "acme"];
    let added = desk.eli_with(&user, &[("ELI_NEW_PASSWORD", "olga has a horse")]).await;
    assert!(
        added.out.starts_with("User olga was added, an operator of acme\n"),
        "{}{}",
        added.out,
        added.err
    );
    let made = desk.eli(&["vm", "create", "acme-db", "--tenant", "acme"]).await;
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!(desk.eli(&["vm", "create", "sitevm"]).await.code, 0);
    let refused = desk.eli(&["vm", "create", "acme-mine"]).await;
    assert!(
        refused.err.contains("names that begin with acme- are for what the tenant acme has"),
        "{}",
        refused.err
    );
    let listed = desk.eli(&["tenant", "list"]).await.out;
    assert!(listed.contains("acme") && listed.contains("1 of 2") && listed.contains("olga"), "{listed}");
    let asked = desk.eli(&["query", "vms", "tenant == 'acme'", "-o", "names"]).await;
    assert_eq!(asked.out, "acme-db\n", "{}", asked.err);
    let asked = desk.eli(&["query", "tenants", "vms > 0", "-o", "names"]).await;
    assert_eq!(asked.out, "acme\n", "{}", asked.err);
    let document = desk.eli(&["export"]).await.out;
    assert!(document.contains("[[tenant]]\nname = \"acme\""), "{document}");
    let stays = desk.eli(&["tenant", "remove", "--yes", "acme"]).await;
    assert!(stays.err.contains("acme still has 1 VM, 1 user; remove these first"), "{}", stays.err);

    let (server, fingerprint) = (desk.server(), desk.site.app.ca.fingerprint());
    let login = ["login", &server, "--fingerprint", &fingerprint, "--user", "olga"];
    assert_eq!(desk.eli_with(&login, &[("ELI_PASSWORD", "olga has a horse")]).await.code, 0);
    assert_eq!(desk.eli(&["me"]).await.out, format!("olga, an operator of acme, at {server}\n"));
    assert_eq!(desk.eli(&["vms", "-o", "names"]).await.out, "acme-db\n");
    let machines = desk.eli(&["machines"]).await;
    assert_eq!(machines.code, 3, "{}", machines.out);
    assert!(machines.err.starts_with("eli: this is of the site, and not for tenants\n"), "{}", machines.err);
    assert_eq!(desk.eli(&["vm", "create", "acme-web"]).await.code, 0);
    let more = desk.eli(&["vm", "create", "acme-more"]).await;
    assert!(more.err.contains("acme may have 2 VMs and has 2"), "{}", more.err);
    assert_eq!(desk.eli(&["vm", "remove", "--yes", "acme-web"]).await.code, 0);
}

async fn timeline(client: &Client) -> String {
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    client.get("/api/v1/timeline/site").await.text
}
