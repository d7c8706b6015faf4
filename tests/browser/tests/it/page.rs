//! The page as a person uses it: a real browser, the real core, TLS on loopback.

use crate::example::{bundle, guest, host, join, mac, report, sight};
use crate::world::{PASSWORD, World, says};
use browser::Browser;
use fleet::Fleet;
use fleet::machine::Phase;
use fleet::wire::SoftwareState;

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
        .wait_for(&says("#needs", "No machines yet. Plug one in and let it start from the network."))
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
    world.go(&mut browser, "/machines");
    browser.eval("window.loaded = 'once'").unwrap();

    world.happen(sight(world.core(), mac(3)));
    browser.wait_for(&says("#m1", "sighted")).unwrap();
    world.happen(report(world.core(), mac(3), true));
    browser.wait_for(&says("#m1", "found")).unwrap();
    browser.wait_for(&says("#m1", "/dev/nvme0n1 holds ext4 'data'; wipe it?")).unwrap();
    assert_eq!(browser.eval("window.loaded").unwrap(), "once", "all of it without loading the page again");

    browser.click("#m1 th a").unwrap();
    browser.wait_for("location.pathname === '/machines/m1'").unwrap();
    browser.wait_for(&says("#link", "live")).unwrap();
    browser.wait_for(&says("#past", "fetched initrd")).unwrap();
    browser.wait_for(&says("#past", "Reported: Intel Xeon")).unwrap();
    browser.eval("window.loaded = 'once'").unwrap();
    browser.click("#m1 [data-do=adopt]").unwrap();
    browser.wait_for(&says("#ask", "This disk holds ext4 'data'; wipe it?")).unwrap();
    browser.press("Escape").unwrap();
    browser.wait_for("!document.querySelector('#ask').open").unwrap();
    let phase = |fleet: &Fleet| fleet.machines.values().next().map(|machine| machine.phase.clone());
    assert_eq!(phase(&world.core().fleet()), Some(Phase::Reported), "leaving it leaves it");

    browser.click("#m1 [data-do=adopt]").unwrap();
    browser.click("#ask-yes").unwrap();
    world.until(|fleet| matches!(phase(fleet), Some(Phase::Adopted { wipe: true, .. })));
    browser.wait_for(&says("#thing", "adopted")).unwrap();
    browser.wait_for(&says("#said", "Adopted by a person")).unwrap();
    browser.wait_for(&says("#past", "Adopted by a person")).unwrap();
    browser.wait_for(&says("#steps", "adopted")).unwrap();
    assert_eq!(browser.eval("window.loaded").unwrap(), "once", "all of it without loading the page again");

    browser.click("#m1 [data-do=remove]").unwrap();
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#thing", "There is no machine m1 here")).unwrap();
    assert!(world.core().fleet().machines.is_empty());
}

#[test]
fn a_vm_and_a_package_are_made_on_the_page() {
    let world = World::start();
    let mut browser = world.logged_in();
    let machine = world.happen(host(world.core(), mac(2)));
    browser.wait_for(&says("#capacity", "61.7 GiB of 62.5 GiB free")).unwrap();
    world.go(&mut browser, "/vms");

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

    world.go(&mut browser, "/services");
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
fn the_pages_fit_every_width_and_come_back_after_a_restart() {
    let mut world = World::start();
    let machine = world.happen(host(world.core(), mac(2)));
    world.happen(report(world.core(), mac(3), true));
    let mut browser = world.logged_in();
    for page in [
        "/",
        "/machines",
        "/machines/m1",
        "/hosts",
        "/volumes",
        "/images",
        "/networks",
        "/switches",
        "/racks",
        "/log",
        "/settings",
    ] {
        world.go(&mut browser, page);
        for (width, dark) in [(360, false), (360, true), (768, false), (1024, false), (1600, true)] {
            browser.look(width, 900, dark).unwrap();
            let overflow = browser
                .eval("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                .unwrap();
            assert_eq!(overflow, 0, "at {width} pixels {page} is wider than the window");
        }
    }
    world.go(&mut browser, "/machines");
    world.restart_server();
    browser.wait_for(&says("#link", "live")).unwrap();
    world.happen(sight(world.core(), mac(4)));
    browser.wait_for(&says("#m3", "sighted")).unwrap();
    assert_eq!(machine.0, 1);
}

#[test]
fn a_list_follows_what_is_typed_and_can_be_kept_by_its_address() {
    let world = World::start();
    let mut browser = world.logged_in();
    for number in 2..8 {
        world.happen(sight(world.core(), mac(number)));
    }
    world.go(&mut browser, "/machines");
    browser.wait_for(&says("#m6", "host-6")).unwrap();
    browser.eval("window.loaded = 'once'").unwrap();
    browser.fill("#machines [type=search]", "host-3").unwrap();
    browser.wait_for("!document.querySelector('#m6') && !!document.querySelector('#m3')").unwrap();
    assert_eq!(browser.eval("location.search").unwrap(), "?q=host-3");
    assert_eq!(browser.eval("document.activeElement.value").unwrap(), "host-3", "the cursor stays");
    assert_eq!(browser.eval("window.loaded").unwrap(), "once");
    let address = browser.eval("location.pathname + location.search").unwrap();
    world.go(&mut browser, address.as_str().unwrap());
    assert_eq!(browser.eval("document.querySelectorAll('#machines tbody[id]').length").unwrap(), 1);
    browser.fill("#machines [type=search]", "nothing like it").unwrap();
    browser.wait_for(&says("#machines", "None of them is like this")).unwrap();
    browser.click("#machines .empty a").unwrap();
    browser.wait_for("location.search === '' && !!document.querySelector('#m6')").unwrap();

    // By the head of a column, and by the keyboard.
    browser.wait_for(&says("#link", "live")).unwrap();
    browser.eval("document.querySelector('#machines thead th a').focus()").unwrap();
    browser.press("Enter").unwrap();
    browser.wait_for("location.search === '?sort=-name'").unwrap();
    browser.wait_for("document.querySelector('#machines tbody[id]')?.id === 'm6'").unwrap();
}

#[test]
fn many_are_chosen_and_acted_on() {
    let world = World::start();
    let mut browser = world.logged_in();
    for number in 2..8 {
        world.happen(sight(world.core(), mac(number)));
    }
    world.go(&mut browser, "/machines");
    browser.wait_for(&says("#m6", "host-6")).unwrap();
    let bar = "getComputedStyle(document.querySelector('#machines .many')).display";
    assert_eq!(browser.eval(bar).unwrap(), "none");
    browser.click("#m1 [data-pick]").unwrap();
    browser.click("#m2 [data-pick]").unwrap();
    browser.wait_for(&says("#machines .many", "2 chosen")).unwrap();
    // What comes meanwhile does not change what is chosen.
    world.happen(sight(world.core(), mac(9)));
    browser.wait_for(&says("#m7", "host-7")).unwrap();
    browser.wait_for(&says("#machines .many", "2 chosen")).unwrap();
    browser.click("#machines .many [data-order=remove]").unwrap();
    browser.wait_for(&says("#ask-title", "Remove 2?")).unwrap();
    browser.click("#ask-what-if").unwrap();
    browser.wait_for(&says("#ask .forecast", "host-1: Removed")).unwrap();
    assert_eq!(world.core().fleet().machines.len(), 7, "only asked");
    browser.click("#ask-yes").unwrap();
    browser.wait_for("!document.querySelector('#m1') && !document.querySelector('#m2')").unwrap();
    assert_eq!(world.core().fleet().machines.len(), 5);
    browser.wait_for(&format!("{bar} === 'none'")).unwrap();

    browser.click("#m3 [data-pick]").unwrap();
    browser.click("#machines .many [data-do=all]").unwrap();
    browser.wait_for(&says("#machines .many", "5 chosen")).unwrap();
    browser.click("#machines .many [data-order=remove]").unwrap();
    browser.click("#ask-yes").unwrap();
    world.until(|fleet| fleet.machines.is_empty());
    browser.wait_for(&says("#machines", "No machines yet")).unwrap();
}
