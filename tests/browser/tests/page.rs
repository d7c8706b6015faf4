//! The page as a person uses it: a real browser, the real core, TLS on loopback.

#[path = "../../../appliance/tests/example/mod.rs"]
mod example;
mod world;

use browser::Browser;
use example::{bundle, guest, host, join, mac, report, sight};
use fleet::Fleet;
use fleet::machine::Phase;
use fleet::wire::SoftwareState;
use world::{PASSWORD, World, says};

#[test]
fn the_first_password_is_set_with_the_code_and_opens_the_page() {
    let world = World::start();
    let mut browser = Browser::start().unwrap();
    browser.look(1280, 900, false).unwrap();
    browser.open(&world.url("/")).unwrap();
    assert_eq!(browser.eval("location.pathname").unwrap(), "/welcome");

    browser.fill("input[name=code]", "AAAA-AAAA").unwrap();
    browser.fill("input[name=password]", PASSWORD).unwrap();
    browser.click("button").unwrap();
    browser.wait_for(&says(".wrong", "that is not the code on the appliance's screen")).unwrap();

    browser.fill("input[name=code]", &world.site.app.auth.code().unwrap().to_lowercase()).unwrap();
    browser.click("button").unwrap();
    browser.wait_for("location.pathname === '/'").unwrap();
    browser
        .wait_for(&says("#machines", "No machines yet. Plug one in and let it start from the network."))
        .unwrap();
    browser.wait_for(&says("#link", "live")).unwrap();
    assert_eq!(browser.eval("document.cookie").unwrap(), "", "scripts cannot read the session");

    browser.click("[data-do=logout]").unwrap();
    browser.wait_for("location.pathname === '/login'").unwrap();
    browser.open(&world.url("/")).unwrap();
    assert_eq!(browser.eval("location.pathname").unwrap(), "/login");
    browser.fill("input[name=password]", "incorrect horse").unwrap();
    browser.press("Enter").unwrap();
    browser.wait_for(&says(".wrong", "the name or the password is wrong")).unwrap();
    browser.fill("input[name=password]", PASSWORD).unwrap();
    browser.press("Enter").unwrap();
    browser.wait_for("location.pathname === '/'").unwrap();
}

#[test]
fn a_machine_appears_by_itself_and_is_adopted_by_a_click() {
    let world = World::start();
    let mut browser = world.logged_in();
    browser.eval("window.loaded = 'once'").unwrap();

    world.happen(sight(world.core(), mac(3)));
    browser.wait_for(&says("#m1", "sighted")).unwrap();
    browser.click("#m1 summary").unwrap();
    browser.wait_for(&says("#m1 .timeline", "fetched initrd")).unwrap();

    world.happen(report(world.core(), mac(3), true));
    browser.wait_for(&says("#m1", "found")).unwrap();
    browser.wait_for(&says("#m1", "/dev/nvme0n1 holds ext4 'data'; wipe it?")).unwrap();
    browser.wait_for(&says("#m1 .timeline", "Reported: Intel Xeon")).unwrap();
    assert_eq!(browser.eval("document.querySelector('#m1 details').open").unwrap(), true, "it stays open");

    browser.click("#m1 [data-do=adopt]").unwrap();
    browser.wait_for(&says("#ask", "This disk holds ext4 'data'; wipe it?")).unwrap();
    browser.press("Escape").unwrap();
    browser.wait_for("!document.querySelector('#ask').open").unwrap();
    let phase = |fleet: &Fleet| fleet.machines.values().next().map(|machine| machine.phase.clone());
    assert_eq!(phase(&world.core().fleet()), Some(Phase::Reported), "leaving it leaves it");

    browser.click("#m1 [data-do=adopt]").unwrap();
    browser.click("#ask-yes").unwrap();
    world.until(|fleet| matches!(phase(fleet), Some(Phase::Adopted { wipe: true, .. })));
    browser.wait_for(&says("#m1", "adopted")).unwrap();
    browser.wait_for(&says("#said", "Adopted by a person")).unwrap();
    browser.wait_for(&says("#m1 .timeline", "Adopted by a person")).unwrap();
    assert_eq!(browser.eval("window.loaded").unwrap(), "once", "all of it without loading the page again");

    browser.click("#m1 [data-do=remove]").unwrap();
    browser.click("#ask-yes").unwrap();
    browser.wait_for("!document.querySelector('#m1')").unwrap();
    assert!(world.core().fleet().machines.is_empty());
}

#[test]
fn a_vm_and_a_package_are_made_on_the_page() {
    let world = World::start();
    let mut browser = world.logged_in();
    let machine = world.happen(host(world.core(), mac(2)));
    browser.wait_for(&says("#hosts", "61.7 GiB of 62.5 GiB memory free")).unwrap();

    browser.click("[data-dialog=new-vm]").unwrap();
    browser.fill("#new-vm [name=name]", "build-1").unwrap();
    browser.fill("#new-vm [name=memory_mib]", "999936").unwrap();
    browser.press("Enter").unwrap();
    browser.wait_for(&says("#new-vm .wrong", "no host has room for it")).unwrap();
    browser.fill("#new-vm [name=memory_mib]", "1024").unwrap();
    browser.press("Enter").unwrap();
    browser.wait_for(&says("#v1", "starting")).unwrap();
    world.happen(join(world.core(), machine));
    browser.wait_for(&says("#v1", "running")).unwrap();

    let good = bundle("hello", 384);
    let cut = world.dir.path().join("cut.eli");
    std::fs::write(&cut, &good[..2000]).unwrap();
    let whole = world.dir.path().join("hello.eli");
    std::fs::write(&whole, &good).unwrap();
    browser.click("[data-dialog=new-package]").unwrap();
    browser.choose("#new-package [name=file]", &cut).unwrap();
    browser.click("#new-package button:not([type=button])").unwrap();
    browser.wait_for(&says("#new-package .wrong", "the bundle is cut short")).unwrap();
    browser.choose("#new-package [name=file]", &whole).unwrap();
    browser.click("#new-package button:not([type=button])").unwrap();
    browser.wait_for(&says("#s1", "installing")).unwrap();

    world.happen(join(world.core(), machine));
    let service = world.core().fleet().services.values().next().unwrap().clone();
    guest(world.core(), service.nodes[0], "hello", "1.0.0", SoftwareState::Healthy);
    browser.wait_for(&says("#s1", "answering")).unwrap();
    assert_eq!(browser.eval("document.querySelector('#s1 .address a').href").unwrap(), service.url());
}

#[test]
fn the_page_fits_every_width_and_comes_back_after_a_restart() {
    let mut world = World::start();
    world.happen(host(world.core(), mac(2)));
    world.happen(report(world.core(), mac(3), true));
    let mut browser = world.logged_in();
    for (width, dark) in [(360, false), (360, true), (768, false), (1600, true)] {
        browser.look(width, 900, dark).unwrap();
        let overflow = browser
            .eval("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            .unwrap();
        assert_eq!(overflow, 0, "at {width} pixels the page is wider than the window");
    }
    browser.eval("document.querySelector('[data-timeline=m2]').open = true").unwrap();
    world.restart_server();
    browser.wait_for(&says("#link", "live")).unwrap();
    world.happen(sight(world.core(), mac(4)));
    browser.wait_for(&says("#m3", "sighted")).unwrap();
    assert_eq!(browser.eval("document.querySelector('[data-timeline=m2]').open").unwrap(), true);
}
