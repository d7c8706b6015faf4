//! The pages as a browser gets them: paging, sorting, filters and search of lists, acting on many things, names that are
//! hostile, and what each page is brought live.

use crate::client::{Client, logged_in};
use crate::example::{bundle, guest, hardware, hears, host, join, mac, report, sight};
use crate::large;
use appliance::core::Actor;
use appliance::web;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use fleet::switch::Plugged;
use fleet::wire::{DiskContent, SoftwareState};
use fleet::{Command, Mac, MachineId, NodeId, vm};
use futures::StreamExt as _;
use serde_json::json;

/// Every page there is, with something on each.
const PAGES: [&str; 17] = [
    "/",
    "/machines",
    "/machines/m1",
    "/hosts",
    "/vms",
    "/vms/v1",
    "/volumes",
    "/images",
    "/services",
    "/services/s1",
    "/systems",
    "/networks",
    "/switches",
    "/racks",
    "/users",
    "/log",
    "/settings",
];

/// Somebody who is logged in at a site with 300 VMs on some hosts, and machines that make twenty with them.
async fn at_a_large_site() -> Client {
    let dir = tempfile::tempdir().unwrap();
    let site = large::site(dir.path(), 300, 20).await;
    let token = large::token(&site.app).await;
    let router = web::router(site.app.clone());
    Client { site, router, token, dir }
}

impl Client {
    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        answer.text
    }
}

/// The ids of the rows of a list, in their order.
fn rows(page: &str) -> Vec<String> {
    let bodies = page.split("<tbody id=\"").skip(1);
    bodies.map(|rest| rest.split('"').next().unwrap().trim_start_matches("host-").to_owned()).collect()
}

fn names(page: &str) -> Vec<String> {
    let heads = page.split("role=\"rowheader\"><a href=\"").skip(1);
    heads.map(|rest| rest.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned()).collect()
}

/// `first–last of all`
fn shown(page: &str) -> &str {
    let paging = page.split("aria-label=\"Pages of the list\"").nth(1).unwrap();
    paging.split("<p class=\"fine\">").nth(1).unwrap().split('<').next().unwrap()
}

fn link(page: &str, rel: &str) -> Option<String> {
    let link = page.split(&format!("rel=\"{rel}\" href=\"")).nth(1)?;
    Some(link.split('"').next()?.replace("&#38;", "&").replace("&amp;", "&"))
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_each_thing_stands_on_one_of_them() {
    let client = at_a_large_site().await;
    let mut at = Some("/vms?sort=memory".to_owned());
    let mut seen = Vec::new();
    let mut pages = 0;
    while let Some(path) = at.take().filter(|_| pages < 20) {
        let page = client.page(&path).await;
        assert!(rows(&page).len() <= 50);
        seen.extend(rows(&page));
        pages += 1;
        at = link(&page, "next");
        assert_eq!(link(&page, "prev").is_some(), pages > 1);
    }
    assert_eq!((pages, seen.len()), (6, 300));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 300, "each of them once");

    assert_eq!(shown(&client.page("/vms?page=2").await), "51–100 of 300");
    assert_eq!(shown(&client.page("/vms?page=6&n=200").await), "201–300 of 300", "the last there is");
    assert_eq!(shown(&client.page("/vms?page=18446744073709551615").await), "251–300 of 300");
    assert_eq!(rows(&client.page("/vms?n=200").await).len(), 200);
    assert_eq!(rows(&client.page("/vms?n=100000").await).len(), 50);
    assert!(client.page("/machines").await.contains("20"));
}

#[tokio::test]
async fn a_list_is_sorted_by_its_columns() {
    let client = at_a_large_site().await;
    let machines = names(&client.page("/machines").await);
    let wanted: Vec<String> = (1..=20).map(|number| format!("host-{number}")).collect();
    assert_eq!(machines, wanted, "2 before 10");
    let mut reversed = wanted;
    reversed.reverse();
    let page = client.page("/machines?sort=-name").await;
    assert_eq!(names(&page), reversed);
    assert_eq!(page.matches("aria-sort=\"descending\"").count(), 1);

    let fleet = client.site.app.core.fleet();
    let memory = |id: &String| fleet.vms[&id.parse::<fleet::VmId>().unwrap()].memory_mib;
    let page = client.page("/vms?sort=memory&n=200").await;
    assert!(rows(&page).is_sorted_by_key(memory), "{:?}", rows(&page));
    let page = client.page("/vms?sort=-memory&n=200").await;
    assert!(rows(&page).iter().rev().is_sorted_by_key(memory));
    let page = client.page("/vms?sort=host&n=200").await;
    let hosts: Vec<u64> =
        rows(&page).iter().map(|id| fleet.vms[&id.parse::<fleet::VmId>().unwrap()].host.0).collect();
    assert!(hosts.is_sorted());
    let free = |id: &String| {
        let host = &fleet.hosts[&id.parse::<MachineId>().unwrap()];
        fleet::host::free_memory_mib(&fleet, host)
    };
    let page = client.page("/hosts?sort=-memory").await;
    assert!(rows(&page).iter().rev().is_sorted_by_key(free));
    // A column that there is not is no column.
    assert_eq!(names(&client.page("/machines?sort=nothing").await), names(&client.page("/machines").await));
}

#[tokio::test]
async fn a_list_is_searched_and_filtered() {
    let client = at_a_large_site().await;
    let fleet = client.site.app.core.fleet();
    let vm = fleet.vms.values().nth(123).unwrap();
    let address = fleet.leases.address(vm.mac).unwrap().to_string();
    for question in [
        vm.name.to_string(),
        vm.name.to_uppercase(),
        address.clone(),
        vm.mac.to_string().replace(':', "%3A"),
        vm.id.to_string(),
        format!("{}+{address}", vm.name),
    ] {
        let found = rows(&client.page(&format!("/vms?q={question}&n=200")).await);
        assert!(found.contains(&vm.id.to_string()), "{question}: {found:?}");
        assert!(found.len() < 20, "{question}: {found:?}");
    }
    let page = client.page("/vms?q=no-such-thing").await;
    assert!(page.contains("None of them is like this") && rows(&page).is_empty());
    let machines = client.page("/machines?q=EPYC+s000000003").await;
    assert_eq!(names(&machines), ["host-3"], "by its serial number and its processor");
    let leases = client.page(&format!("/networks?q={}", vm.name)).await;
    assert!(leases.contains(&format!("<td class=\"mono\">{address}</td>")), "{leases}");

    let hosts = fleet.hosts.len();
    assert_eq!(names(&client.page("/machines?is=ready").await).len(), hosts);
    let found = client.page("/machines?is=needs").await;
    assert_eq!(names(&found).len(), 20 - hosts, "the policy says to ask");
    assert!(found.contains("waiting for you <small>"), "{found}");
    let on = fleet.hosts.keys().next().unwrap();
    let page = client.page(&format!("/vms?on={on}&n=200")).await;
    assert_eq!(rows(&page).len(), vm::on_host(&fleet, *on).count());
}

#[tokio::test]
async fn many_are_acted_on_at_once_as_it_was_planned() {
    let client = at_a_large_site().await;
    let core = &client.site.app.core;
    let draining = || core.fleet().hosts.values().filter(|host| host.draining_since.is_some()).count();
    let hosts = core.fleet().hosts.len();
    let all = json!({ "do": "drain", "of": "/hosts" });
    let planned = client.plan("POST", "/api/v1/many", all.clone()).await.of(StatusCode::OK);
    assert_eq!(planned["steps"].as_array().unwrap().len(), hosts);
    assert_eq!(draining(), 0, "only asked");
    let apply = json!({
        "commands": planned["steps"].as_array().unwrap().iter().map(|step| &step["command"]).collect::<Vec<_>>(),
        "digest": planned["digest"],
    });
    client.post("/api/v1/apply", apply).await.of(StatusCode::OK);
    assert_eq!(draining(), hosts);
    let answer = client.post("/api/v1/many", json!({ "do": "undrain", "ids": ["m1", "m20"] })).await;
    let answer = answer.of(StatusCode::OK);
    assert_eq!(
        answer["changed"][0],
        "Ordered for 1; 1 are left as they are, because it cannot be done with them"
    );
    assert_eq!(draining(), hosts - 1);

    let some = json!({ "do": "remove", "of": "/vms?q=web-&page=3" });
    let count = rows(&client.page("/vms?q=web-&n=200").await).len();
    assert!((10..200).contains(&count));
    client.post("/api/v1/many", some.clone()).await.of(StatusCode::OK);
    let removing = |vm: &&std::sync::Arc<vm::Vm>| vm.phase == vm::Phase::Removing;
    assert_eq!(core.fleet().vms.values().filter(removing).count(), count, "of every page");
    let again = client.post("/api/v1/many", some).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.error().contains("this can be done with none"), "{}", again.text);
    client
        .post("/api/v1/many", json!({ "do": "cancel", "of": "/vms?is=being+removed" }))
        .await
        .of(StatusCode::OK);
    assert_eq!(core.fleet().vms.values().filter(removing).count(), 0);

    let found = 20 - hosts;
    let adopted = client.post("/api/v1/many", json!({ "do": "adopt", "of": "/machines" })).await;
    let sentence = adopted.of(StatusCode::OK)["changed"][0].as_str().unwrap().to_owned();
    assert!(sentence.starts_with(&format!("Ordered for {found};")), "{sentence}");
    for (body, status) in [
        (json!({ "do": "adopt", "ids": [] }), StatusCode::CONFLICT),
        (json!({ "do": "adopt", "ids": ["m99999"] }), StatusCode::CONFLICT),
        (json!({ "do": "adopt", "ids": ["<b>"] }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "do": "remove", "of": "/users" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "do": "remove", "of": "nothing" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "do": "wipe", "ids": ["m1"] }), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(client.post("/api/v1/many", body.clone()).await.status, status, "{body}");
    }
}

/// A site with one of everything, in which every name that others can give is hostile.
async fn hostile() -> Client {
    const EVIL: &str = "<script>alert(1)</script>{{ 7*7 }}{% raw %}\"' onload=x\r\n\r\nevent: over";
    let client = logged_in().await;
    let core = &client.site.app.core;
    let machine = host(core, mac(2)).await;
    let policy = json!({ "adopt": "ask", "ssh_keys": [] });
    client.put("/api/v1/policy", policy).await.of(StatusCode::OK);
    client.upload(bundle("hello", 384)).await.of(StatusCode::CREATED);
    join(core, machine).await;
    let node = core.fleet().services.values().next().unwrap().nodes[0];
    guest(core, node, "hello", EVIL, SoftwareState::Failing { reason: EVIL.into() });

    let mut told = hardware(mac(3), false);
    told.manufacturer = Some(EVIL.into());
    told.product = Some(EVIL.into());
    told.serial = Some(EVIL.into());
    told.cpu.model = EVIL.into();
    told.disks[0].serial = Some(EVIL.into());
    told.disks[0].path = EVIL.into();
    told.disks[0].contents =
        vec![DiskContent { path: EVIL.into(), what: EVIL.into(), label: Some(EVIL.into()) }];
    told.nics[0].name = EVIL.into();
    core.execute(&Actor::Wire(mac(3)), Command::Report { key: "k".into(), hardware: told }).await.unwrap();
    sight(core, mac(4)).await;
    let installing = report(core, mac(4), false).await;
    client.post(&format!("/api/v1/machines/{installing}/adopt"), json!({})).await.of(StatusCode::OK);
    let fail =
        Command::FailInstall { machine: installing, attempt: 1, step: EVIL.into(), error: EVIL.into() };
    let started = Command::Report { key: key(mac(4)), hardware: hardware(mac(4), false) };
    core.execute(&Actor::Wire(mac(4)), started).await.unwrap();
    core.execute(&Actor::Node(NodeId::Machine(installing)), fail).await.unwrap();
    core.note(&machine.to_string(), "node", format!("{EVIL}, 40 %"));
    let neighbour = fleet::wire::Neighbour {
        mac: mac(2),
        chassis: EVIL.into(),
        port: EVIL.into(),
        system: Some(EVIL.into()),
    };
    // Whether it is taken or not.
    let _ = core
        .execute(&Actor::Node(NodeId::Machine(machine)), Command::ObserveNeighbour { machine, neighbour })
        .await;
    // Lines are written twice a second.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    client
}

fn key(mac: Mac) -> String {
    use sha2::{Digest as _, Sha256};
    hex::encode(Sha256::digest(mac.0))
}

#[tokio::test]
async fn what_others_say_is_only_text_on_every_page() {
    let client = hostile().await;
    let machines = client.site.app.core.fleet().machines.len();
    let things = (1..=machines).map(|number| format!("/machines/m{number}"));
    let searches = ["/machines?q=%3Cscript%3Ealert(1)%3C/script%3E%22%20onload=x", "/log?q=%3Cscript%3E%22'"];
    let pages = PAGES.iter().copied().map(str::to_owned).chain(things);
    let mut seen = 0;
    for path in pages.chain(searches.map(str::to_owned)) {
        let page = client.page(&path).await;
        for raw in ["<script>alert", "\" onload=x", "' onload=x"] {
            assert!(!page.contains(raw), "{path} has {raw}");
        }
        // Nothing is evaluated a second time.
        seen += page.matches("{{ 7*7 }}").count();
        assert!(!page.contains("alert(1)&#60;/script&#62;49"), "{path}");
    }
    assert!(seen > 5, "{seen}");
    // As events: a line of a name is not a line of the stream.
    let request = Request::get("/live?of=/machines")
        .header(header::AUTHORIZATION, format!("Bearer {}", client.token))
        .body(Body::empty())
        .unwrap();
    let mut stream = client.router.clone().oneshot_body(request).await;
    let mut heard = String::new();
    while !heard.contains("event: tick") {
        heard.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    assert!(!heard.lines().any(|line| line == "event: over"), "{heard}");
}

trait OneBody {
    async fn oneshot_body(self, request: Request<Body>) -> axum::body::BodyDataStream;
}

impl OneBody for axum::Router {
    async fn oneshot_body(self, request: Request<Body>) -> axum::body::BodyDataStream {
        use tower::ServiceExt as _;
        self.oneshot(request).await.unwrap().into_body().into_data_stream()
    }
}

#[tokio::test]
async fn every_page_says_which_it_is_and_has_what_it_is_about() {
    let client = hostile().await;
    for (path, section) in PAGES.into_iter().zip([
        "needs", "machines", "thing", "hosts", "vms", "thing", "volumes", "images", "services", "thing",
        "systems", "networks", "switches", "racks", "users", "log", "policy",
    ]) {
        let page = client.page(path).await;
        assert!(page.contains(&format!("<section id=\"{section}\"")), "{path} without {section}");
        assert_eq!(page.matches(" aria-current=\"page\"").count(), 1, "{path}");
        assert_eq!(page.matches("<h1").count(), 1, "{path}");
        assert!(page.contains(&format!("data-live=\"{path}\"")), "{path}");
    }
    let thing = client.page("/machines/m1").await;
    for part in ["Is to be", "ready as a host", "What took how long", "Hardware", "data-do=\"boot\""] {
        assert!(thing.to_lowercase().contains(&part.to_lowercase()), "{part}");
    }
    assert_eq!(client.page("/machines/host-1").await.matches("<article id=\"m1\"").count(), 1, "by name");
    let gone = client.get("/vms/v77").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert!(gone.text.contains("There is no vm v77 here"), "{}", gone.text);
    let failed = client.page("/").await;
    assert!(failed.contains("Waiting for you") && failed.contains("<b>failed</b>"), "{failed}");
}

#[tokio::test]
async fn a_rack_is_seen_from_the_front_and_a_switch_port_by_port() {
    let client = logged_in().await;
    let core = &client.site.app.core;
    let person = Actor::admin("admin");
    let (first, second) = (host(core, mac(2)).await, host(core, mac(3)).await);
    let ports = ["3", "10", "1", "2"].map(str::to_owned).to_vec();
    let uplink = Plugged::Port { switch: "sw2".into(), port: "48".into() };
    for order in [
        Command::AddRack { name: "a1".into(), units: 6 },
        Command::AddSwitch { name: "sw1".into(), ports, place: None },
        Command::AddSwitch { name: "sw2".into(), ports: vec!["48".into()], place: None },
        Command::PlaceMachine { machine: first, rack: "a1".into(), unit: 2, height: 3 },
        Command::PlaceSwitch { switch: "sw1".into(), rack: "a1".into(), unit: 6, height: 1 },
        Command::Plug { switch: "sw1".into(), port: "1".into(), what: Plugged::Nic { mac: mac(2) } },
        Command::Plug { switch: "sw1".into(), port: "2".into(), what: Plugged::Nic { mac: mac(2) } },
        Command::Plug { switch: "sw1".into(), port: "10".into(), what: uplink },
    ] {
        core.execute(&person, order).await.unwrap();
    }
    hears(core, second, mac(3), "sw1", "2").await;

    let page = client.page("/racks").await;
    let lines: Vec<&str> = page.split("<tr><th scope=\"row\">").skip(1).collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[0].starts_with("6</th><td data-tone=\"asks\">") && lines[0].contains("1 wrong cable"));
    assert!(lines[1].starts_with("5</th><td></td>"), "free: {}", lines[1]);
    assert!(lines[2].starts_with("4</th><td rowspan=\"3\" data-tone=\"good\">"), "{}", lines[2]);
    assert!(lines[2].contains("<a href=\"/machines/m1\">host-1</a> <b>ready</b>"), "{}", lines[2]);
    assert!(lines[3].starts_with("3</th></tr>") && lines[4].starts_with("2</th></tr>"), "it begins above");
    assert!(lines[5].starts_with("1</th><td></td>"));
    assert!(page.contains("6 units, 2 free") && page.contains("In no rack <small>2</small>"), "{page}");
    assert!(client.page("/racks?q=host-1").await.contains("id=\"rack-a1\""));
    assert!(!client.page("/racks?q=host-2").await.contains("id=\"rack-a1\""));

    let page = client.page("/switches").await;
    let names = page.split("<tr><th scope=\"row\">").skip(1).map(|rest| rest.split('<').next().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["2", "2", "10", "48"], "in the order of their numbers");
    let sentence = "<b>Wrong cable:</b> by hand host-1 is in port 2 of sw1; LLDP says host-2";
    assert!(page.contains(sentence) && page.contains("25 Gbit/s") && page.contains("<em>wrong cable</em>"));
    assert!(page.contains("In one port is something else than was said."), "{page}");
    assert!(page.contains("its port 48 is in port 10 of sw1 · 0 machines"), "{page}");
    assert!(page.contains("Nothing is known to be in ports 1, 3."), "{page}");
    let found = client.page(&format!("/switches?q={}", mac(3).to_string().replace(':', "%3A"))).await;
    assert!(found.contains("id=\"switch-sw1\"") && !found.contains("id=\"switch-sw2\""), "{found}");
}

#[tokio::test]
async fn twenty_racks_are_on_a_page_and_the_rest_on_others() {
    let client = logged_in().await;
    let core = &client.site.app.core;
    let racks = (1..=23).map(|number| Command::AddRack { name: format!("r{number}"), units: 42 });
    core.execute_all(&Actor::admin("admin"), racks.collect(), None).await.unwrap();
    let page = client.page("/racks").await;
    let shown = |page: &str| page.matches("<article class=\"front\"").count();
    assert_eq!((shown(&page), shown(&client.page("/racks?page=2").await)), (20, 3));
    assert!(
        page.contains("1–20 of 23") && page.contains("id=\"rack-r20\"") && !page.contains("id=\"rack-r21\"")
    );
    assert_eq!(shown(&client.page(&link(&page, "next").unwrap()).await), 3);
    assert_eq!(shown(&client.page("/racks?n=200").await), 20, "however many are asked for");
}

#[tokio::test]
async fn five_hundred_machines_in_twenty_racks_are_brought_in_300_kb() {
    let dir = tempfile::tempdir().unwrap();
    let site = large::site(dir.path(), 300, 500).await;
    large::furnish(&site.app.core).await;
    let token = large::token(&site.app).await;
    let router = web::router(site.app.clone());
    let client = Client { site, router, token, dir };
    for (path, shown) in [("/racks", "<article class=\"front\""), ("/switches", "<ol class=\"ports-front\"")]
    {
        let page = client.page(path).await;
        assert_eq!(page.matches(shown).count(), 20, "{path}");
        assert!(page.matches("href=\"/machines/m").count() >= 500, "{path}");
        assert!(page.len() < 300_000, "{path} has {} bytes", page.len());
    }
}

#[tokio::test]
async fn volumes_and_images_are_what_vms_are_made_of() {
    let client = at_a_large_site().await;
    let fleet = client.site.app.core.fleet();
    let vm = fleet.vms.values().nth(123).unwrap();
    let volumes = client.get("/api/v1/volumes").await.json();
    assert_eq!(volumes.as_array().unwrap().len(), 300);
    assert_eq!(volumes[123]["name"], vm.volume_name());
    assert_eq!(volumes[123]["phase"], "in use");
    assert_eq!(client.get("/api/v1/volumes?limit=10&after=v290").await.json().as_array().unwrap().len(), 10);
    let id = format!("volume-{}", vm.id);
    for question in [&*vm.name, &vm.volume_name(), &vm.id.to_string()] {
        let found = rows(&client.page(&format!("/volumes?q={question}&n=200")).await);
        assert!(found.contains(&id) && found.len() < 20, "{question}: {found:?}");
    }
    let size = |id: &String| {
        let id = id.trim_start_matches("volume-").parse::<fleet::VmId>().unwrap();
        fleet.vms[&id].disk_gib
    };
    assert!(rows(&client.page("/volumes?sort=-size&n=200").await).iter().rev().is_sorted_by_key(size));
    let on = rows(&client.page(&format!("/volumes?on={}&n=200", vm.host)).await);
    assert_eq!(on.len(), vm::on_host(&fleet, vm.host).count());
    assert_eq!(shown(&client.page("/volumes?is=in+use").await), "1–50 of 300");
    assert!(client.page("/volumes?is=being+made").await.contains("None of them is like this"));

    let images = client.get("/api/v1/images").await.json();
    let images = images.as_array().unwrap();
    let used = images.iter().find(|image| image["sha256"] == vm.image.sha256).unwrap();
    assert_eq!(
        (&used["vms"], &used["current"], &used["id"]),
        (&json!(300), &json!(false), &volumes[0]["image"])
    );
    let new = images.iter().find(|image| image["sha256"] == "ab".repeat(32)).unwrap();
    assert_eq!((&new["vms"], &new["current"], &new["version"]), (&json!(0), &json!(true), &json!("0.1.0")));
    let page = client.page("/images").await;
    assert_eq!(rows(&page).len(), images.len());
    let manifest = json!({ "version": "0.2.0", "files": { "live.squashfs": { "sha256": "cd".repeat(32), "bytes": 5 } } });
    std::fs::write(client.site.app.files.join("manifest.json"), manifest.to_string()).unwrap();
    let system = client.page("/images?is=system").await;
    let hosts = fleet.hosts.len();
    assert!(system.contains(&format!("{hosts} machines</a>, from this or an earlier version")), "{system}");
    let begin: String = vm.image.sha256.chars().take(12).collect();
    assert!(page.contains(&format!("<a href=\"/volumes?q={begin}\">300 VMs</a>")), "{page}");
    assert_eq!(shown(&client.page(&format!("/volumes?q={begin}")).await), "1–50 of 300");
}

#[tokio::test]
async fn the_log_is_read_backwards_and_searched() {
    let client = at_a_large_site().await;
    let end = client.site.app.core.position();
    let mut at = Some("/log".to_owned());
    let mut lines = 0;
    let mut pages = 0;
    while let Some(path) = at.take().filter(|_| pages < 100) {
        let page = client.page(&path).await;
        lines += page.matches("<li><time data-at").count();
        pages += 1;
        at = link(&page, "next");
    }
    assert_eq!(lines as i64, end, "every event once");
    let mut at = Some("/log?q=created+web-".to_owned());
    let mut found = 0;
    let mut pages = 0;
    while let Some(path) = at.take().filter(|_| pages < 100) {
        let page = client.page(&path).await;
        found += page.matches("<li><time data-at").count();
        pages += 1;
        at = link(&page, "next");
    }
    let web = client.site.app.core.fleet().vms.values().filter(|vm| vm.name.starts_with("web-")).count();
    assert_eq!(found, web);
    assert_eq!(client.page("/log?before=1").await.matches("<li><time data-at").count(), 0);
}

#[tokio::test]
async fn a_page_that_looks_as_it_did_is_brought_nothing() {
    let client = logged_in().await;
    sight(&client.site.app.core, mac(4)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    let page = client.page("/machines").await;
    let sums = page.split("data-sum=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let ids = page.split(" data-sum=\"").map(|before| {
        let id = before.rsplit("id=\"").next().unwrap();
        id.split('"').next().unwrap()
    });
    let have: Vec<String> = ids.zip(sums).map(|(id, sum)| format!("{id}:{sum}")).collect();
    assert_eq!(have.len(), 3, "{have:?}");
    let request = Request::get(format!("/live?of=/machines&have={}", have.join(",")))
        .header(header::AUTHORIZATION, format!("Bearer {}", client.token))
        .body(Body::empty())
        .unwrap();
    let mut stream = client.router.clone().oneshot_body(request).await;
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(std::str::from_utf8(&first).unwrap().lines().next(), Some("event: tick"), "{have:?}");
}
