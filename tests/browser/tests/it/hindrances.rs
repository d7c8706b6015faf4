//! What is in the way of people who use a keyboard or a screen reader, on every main page: axe-core finds nothing serious.

use std::path::PathBuf;

use crate::example::{bundle, guest, hears, host, join, mac, report, sight};
use crate::world::{World, says};
use browser::Browser;
use fleet::Command;
use fleet::rack::Place;
use fleet::switch::Plugged;
use fleet::wire::SoftwareState;
use serde_json::{Value, json};

const PAGES: [&str; 17] = [
    "/",
    "/machines",
    "/machines/m1",
    "/machines/m2",
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
    "/log",
    "/settings",
];

/// tests/needs puts it there.
fn axe() -> String {
    let cache = std::env::var_os("ELISANDRA_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/elisandra");
    let path = cache.unwrap_or_else(home).join("axe/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run tests/needs", path.display()))
}

/// What axe-core finds serious or critical, as lines.
fn hindrances(browser: &mut Browser, axe: &str) -> Vec<String> {
    browser.eval(axe).unwrap();
    let found = browser
        .eval(
            "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.map(it => \
             ({ id: it.id, impact: it.impact, help: it.help, nodes: it.nodes.map(node => node.html) })))",
        )
        .unwrap();
    let serious = |it: &&Value| ["serious", "critical"].contains(&it["impact"].as_str().unwrap_or_default());
    let line = |it: &Value| format!("{}: {} ({})", it["id"], it["help"], it["nodes"]);
    found.as_array().unwrap().iter().filter(serious).map(line).collect()
}

fn full() -> World {
    let world = World::start();
    let core = world.core();
    world.happen(async {
        let machine = host(core, mac(2)).await;
        sight(core, mac(3)).await;
        report(core, mac(3), true).await;
        sight(core, mac(4)).await;
        let bundle = appliance::packages::receive(
            &world.site.app.bundles,
            appliance::packages::LIMIT,
            futures::stream::iter([Ok::<_, std::io::Error>(bundle("hello", 384).into())]),
        )
        .await
        .unwrap();
        let image = fleet::vm::Image { name: "guest.img".into(), sha256: "ab".repeat(32), bytes: 1 };
        let person = appliance::core::Actor::admin("admin");
        core.execute(&person, Command::InstallPackage { bundle, image, tenant: None }).await.unwrap();
        join(core, machine).await;
        let node = core.fleet().services.values().next().unwrap().nodes[0];
        guest(core, node, "hello", "1.0.0", SoftwareState::Healthy);
        core.execute(&person, Command::AddRack { name: "a1".into(), units: 42 }).await.unwrap();
        let place = Some(Place { rack: "a1".into(), unit: 40, height: 1 });
        let ports = vec!["1".into(), "2".into()];
        core.execute(&person, Command::AddSwitch { name: "sw1".into(), ports, place }).await.unwrap();
        core.execute(&person, Command::PlaceMachine { machine, rack: "a1".into(), unit: 3, height: 2 })
            .await
            .unwrap();
        hears(core, machine, mac(2), "sw2", "eth1").await;
        // A wrong cable.
        let what = Plugged::Port { switch: "sw1".into(), port: "2".into() };
        let plug = Command::Plug { switch: "sw2".into(), port: "eth1".into(), what };
        core.execute(&person, plug).await.unwrap();
        core.note("m1", "node", "downloading the system, 40 %".into());
    });
    world
}

#[test]
fn nothing_serious_is_in_the_way_on_any_page() {
    let axe = axe();
    let world = full();
    let mut browser = Browser::start().unwrap();
    browser.look(1280, 900, false).unwrap();
    let mut found = Vec::new();
    browser.open(&world.url("/")).unwrap();
    found.extend(hindrances(&mut browser, &axe).into_iter().map(|it| format!("/welcome: {it}")));
    drop(browser);
    let mut browser = world.logged_in();
    for page in PAGES.into_iter().chain(["/users", "/machines?q=nothing", "/log?q=hello"]) {
        world.go(&mut browser, page);
        for (width, dark) in [(1280, false), (1280, true), (390, false)] {
            browser.look(width, 900, dark).unwrap();
            let here = hindrances(&mut browser, &axe);
            found.extend(here.into_iter().map(|it| format!("{page} at {width}, dark {dark}: {it}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_serious_is_in_the_way_in_dialogs() {
    let axe = axe();
    let world = full();
    let mut browser = world.logged_in();
    for (page, button, open) in [
        ("/machines/m2", "#m2 [data-do=boot]", "#boot-once"),
        ("/machines/m2", "#m2 [data-do=adopt]", "#ask"),
        ("/vms", "[data-dialog=new-vm]", "#new-vm"),
        ("/services", "[data-dialog=new-package]", "#new-package"),
        ("/users", "[data-dialog=new-user]", "#new-user"),
    ] {
        world.go(&mut browser, page);
        browser.click(button).unwrap();
        browser.wait_for(&format!("document.querySelector('{open}').open")).unwrap();
        assert_eq!(hindrances(&mut browser, &axe), [""; 0], "{open}");
        browser.press("Escape").unwrap();
        browser.wait_for("!document.querySelector('dialog[open]')").unwrap();
    }
}

/// From the address bar to a machine's first button, by Tab and Enter alone.
#[test]
fn the_keyboard_reaches_what_a_mouse_does() {
    let world = full();
    let mut browser = world.logged_in();
    world.go(&mut browser, "/machines");
    browser.press("Tab").unwrap();
    assert_eq!(browser.eval("document.activeElement.className").unwrap(), json!("skip"));
    browser.press("Enter").unwrap();
    browser.wait_for("document.activeElement.id === 'main' || location.hash === '#main'").unwrap();
    let mut reached = false;
    for _ in 0..60 {
        browser.press("Tab").unwrap();
        let at = browser.eval("document.activeElement.getAttribute('href') || ''").unwrap();
        if at == json!("/machines/m2") {
            reached = true;
            break;
        }
    }
    assert!(reached, "no machine was reached");
    let seen = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.eval(seen).unwrap(), json!("solid"), "where the keyboard is can be seen");
    browser.press("Enter").unwrap();
    browser.wait_for("location.pathname === '/machines/m2'").unwrap();
    browser.wait_for(&says("#link", "live")).unwrap();
    browser.eval("document.querySelector('#m2 [data-do=adopt]').focus()").unwrap();
    browser.press("Enter").unwrap();
    browser.wait_for("document.querySelector('#ask').open").unwrap();
    browser.press("Escape").unwrap();
    browser.wait_for("document.activeElement === document.querySelector('#m2 [data-do=adopt]')").unwrap();
}
