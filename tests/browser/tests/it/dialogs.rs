//! Dialogs in which a person fills in more than a yes: what they ask for is what happens.

use crate::example::{host, mac, report, sight};
use crate::world::{PASSWORD, World, says};
use appliance::core::{Actor, now};
use browser::Browser;
use fleet::Command;
use fleet::machine::{Phase, wanted_check};
use fleet::tenant::Limits;
use fleet::user::Role;
use serde_json::json;

const ASKED: &str = "document.querySelector('#ask').open";

/// The dialog's own button, which does it.
fn submit(browser: &mut Browser, dialog: &str) {
    browser.click(&format!("#{dialog} button:not([type=button])")).unwrap();
    browser.wait_for(&format!("!document.querySelector('#{dialog}').open")).unwrap();
}

fn what_if(browser: &mut Browser, dialog: &str, sentence: &str) {
    browser.click(&format!("#{dialog} [data-do=whatif]")).unwrap();
    browser.wait_for(&says(&format!("#{dialog}[open] .forecast:not([hidden])"), sentence)).unwrap();
}

#[test]
fn logins_for_bmcs_are_added_and_removed_by_admins_and_seen_by_nobody_else() {
    let world = World::start();
    let mut browser = world.logged_in();
    world.go(&mut browser, "/settings");
    browser.wait_for(&says("#logins", "Without a list nothing is tried")).unwrap();
    for user in ["root", "<b>ADMIN</b>"] {
        browser.click("#logins [data-dialog=new-login]").unwrap();
        browser.fill("#new-login [name=user]", user).unwrap();
        browser.fill("#new-login [name=password]", "a sealed word").unwrap();
        submit(&mut browser, "new-login");
    }
    browser.wait_for(&says("#login-1", "root")).unwrap();
    browser.wait_for(&says("#login-2", "<b>ADMIN</b>")).unwrap();
    let page = browser.eval("document.documentElement.outerHTML").unwrap();
    assert!(!page.to_string().contains("a sealed word"), "a password is on the page");

    browser.click("#login-1 [data-do=remove]").unwrap();
    browser.wait_for(&format!("{ASKED} && {}", says("#ask-title", "Remove login 1?"))).unwrap();
    browser.click("#ask-yes").unwrap();
    browser.wait_for("!document.querySelector('#login-1') && !!document.querySelector('#login-2')").unwrap();

    world.happen(async {
        let add = Command::AddUser { name: "ada".into(), role: Role::Operator, tenant: None };
        world.core().execute(&Actor::admin("admin"), add).await.unwrap();
        let ada = world.core().fleet().users["ada"].clone();
        world.site.app.auth.set_password(&ada, PASSWORD, None, now()).await.unwrap();
    });
    let mut hers = Browser::start().unwrap();
    hers.open(&world.url("/login")).unwrap();
    hers.fill("input[name=user]", "ada").unwrap();
    hers.fill("input[name=password]", PASSWORD).unwrap();
    hers.press("Enter").unwrap();
    hers.wait_for("location.pathname === '/'").unwrap();
    world.go(&mut hers, "/settings");
    hers.wait_for(&says("#policy", "Policy")).unwrap();
    assert_eq!(hers.eval("!!document.querySelector('#logins')").unwrap(), false);
}

#[test]
fn a_tenant_is_added_its_limits_are_changed_and_it_is_removed() {
    let world = World::start();
    let mut browser = world.logged_in();
    let limits = || world.core().fleet().tenants.get("acme").map(|tenant| tenant.limits);
    world.go(&mut browser, "/users");
    browser.click("#tenants [data-dialog=new-tenant]").unwrap();
    browser.fill("#new-tenant [name=name]", "acme").unwrap();
    browser.fill("#new-tenant [name=vms]", "4").unwrap();
    browser.fill("#new-tenant [name=memory_mib]", "8192").unwrap();
    what_if(&mut browser, "new-tenant", "acme");
    assert_eq!(limits(), None, "only asked");
    submit(&mut browser, "new-tenant");
    browser.wait_for(&says("#tenant-acme", "VMs 0 of 4")).unwrap();
    let first = Limits { vms: Some(4), memory_mib: Some(8192), ..Limits::default() };
    assert_eq!(limits(), Some(first));

    // What is not touched stays as it is.
    browser.click("#tenant-acme [data-dialog=set-limits]").unwrap();
    let shown = "['vms', 'vcpus', 'memory_mib', 'disk_gib'].map(name => document.querySelector(`#set-limits [name=${name}]`).value)";
    assert_eq!(browser.eval(shown).unwrap(), json!(["4", "", "8192", ""]));
    browser.fill("#set-limits [name=vcpus]", "16").unwrap();
    submit(&mut browser, "set-limits");
    world.until(|fleet| fleet.tenants["acme"].limits.vcpus == Some(16));
    let then = Limits { vms: Some(4), vcpus: Some(16), memory_mib: Some(8192), ..Limits::default() };
    assert_eq!(limits(), Some(then));

    browser.click("#tenant-acme [data-do=remove]").unwrap();
    browser.wait_for(&format!("{ASKED} && {}", says("#ask-title", "Remove tenant acme?"))).unwrap();
    browser.click("#ask-yes").unwrap();
    browser.wait_for("!document.querySelector('#tenant-acme')").unwrap();
    assert_eq!(limits(), None);
}

#[test]
fn disks_are_chosen_and_erased_and_while_none_is_begun_it_is_cancelled() {
    let world = World::start();
    let mut browser = world.logged_in();
    world.happen(sight(world.core(), mac(3)));
    let machine = world.happen(report(world.core(), mac(3), true));
    let phase = || world.core().fleet().machines[&machine].phase.clone();
    let before = phase();
    world.go(&mut browser, &format!("/machines/{machine}"));
    browser.click("[data-do=erase]").unwrap();
    browser.wait_for(&says("#erase[open] #erase-title", "Erase ")).unwrap();
    // The disks that stay in it are chosen, until a person says otherwise.
    let boxes = "[...document.querySelectorAll('#erase [name=disks]')].map(it => it.checked)";
    let chosen = browser.eval(boxes).unwrap();
    assert!(chosen.as_array().is_some_and(|boxes| boxes.contains(&json!(true))), "{chosen}");
    browser
        .eval("document.querySelectorAll('#erase [name=disks]').forEach(it => { it.checked = false; })")
        .unwrap();
    browser.click("#erase button:not([type=button])").unwrap();
    browser.wait_for(&says("#erase[open] .wrong:not([hidden])", "choose at least one disk")).unwrap();
    browser.click("#erase [name=disks]").unwrap();
    what_if(&mut browser, "erase", "To be erased");
    assert_eq!(phase(), before, "only asked");
    submit(&mut browser, "erase");
    world.until(|fleet| matches!(fleet.machines[&machine].phase, Phase::Erasing(_)));

    browser.click("main [data-do=cancel]").unwrap();
    browser.wait_for(ASKED).unwrap();
    browser.click("#ask-yes").unwrap();
    world.until(|fleet| !matches!(fleet.machines[&machine].phase, Phase::Erasing(_)));
}

#[test]
fn disks_of_a_host_are_checked_and_the_check_is_ended() {
    let world = World::start();
    let mut browser = world.logged_in();
    let machine = world.happen(host(world.core(), mac(2)));
    world.go(&mut browser, &format!("/machines/{machine}"));
    let offered =
        |label: &str| format!("!!document.querySelector('[data-label=\"{label}\"]:not([disabled])')");
    for (label, then) in [("Check disks", true), ("End check", false)] {
        browser.wait_for(&offered(label)).unwrap();
        browser.click(&format!("[data-label=\"{label}\"]")).unwrap();
        browser.wait_for(&format!("{ASKED} && {}", says("#ask-title", label))).unwrap();
        browser.click("#ask-yes").unwrap();
        browser.wait_for(&format!("!{ASKED}")).unwrap();
        world.until(|fleet| wanted_check(&fleet.machines[&machine]).is_some() == then);
    }
    browser.wait_for(&offered("Check disks")).unwrap();
}
