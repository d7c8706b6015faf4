//! What a person can do to a site from the page, by clicks: what is asked, what is shown before, what comes of it.

use crate::example::{bundle, guest, hears, host, join, mac, report, sight};
use crate::world::{World, says};
use appliance::core::Actor;
use browser::Browser;
use fleet::machine::{Once, Phase};
use fleet::switch::Plugged;
use fleet::user::Role;
use fleet::wire::SoftwareState;
use fleet::{Command, MachineId, NodeId, rack, vm};
use serde_json::json;

const OPEN: &str = "document.querySelector('#ask').open";
const CLOSED: &str = "!document.querySelector('#ask').open";
/// A forecast that came, and is seen.
const FORECAST: &str = "#ask[open] .forecast.lead:not([hidden])";

fn person() -> Actor {
    Actor::admin("admin")
}

/// Opens a question by a click and reads its title.
fn asks(browser: &mut Browser, button: &str, title: &str) {
    browser.click(button).unwrap();
    browser.wait_for(&format!("{OPEN} && {}", says("#ask-title", title))).unwrap();
}

/// Presses "What if?" in a question and waits for the answer; nothing has changed by it.
fn what_if(world: &World, browser: &mut Browser, sentence: &str) {
    let before = world.core().head();
    browser.click("#ask-what-if").unwrap();
    browser.wait_for(&says(FORECAST, "Nothing is changed yet")).unwrap();
    browser.wait_for(&says(FORECAST, sentence)).unwrap();
    let after = world.core().head();
    assert_eq!((after.position, after.fleet == before.fleet), (before.position, true), "only asked");
}

/// Reads what is left over, of which nothing can be chosen, and puts it away.
fn left_over(browser: &mut Browser, sentence: &str) {
    browser.wait_for(&format!("{OPEN} && {}", says("#ask-title", "Left over"))).unwrap();
    browser.wait_for(&says("#ask .forecast:not([hidden])", sentence)).unwrap();
    let buttons =
        "[...document.querySelectorAll('#ask button')].filter(b => b.offsetParent).map(b => b.innerText)";
    assert_eq!(browser.eval(buttons).unwrap(), json!(["All right"]));
    browser.click("#ask-yes").unwrap();
    browser.wait_for(CLOSED).unwrap();
}

fn new_vm(browser: &mut Browser, name: &str) {
    browser.click("[data-dialog=new-vm]").unwrap();
    browser.fill("#new-vm [name=name]", name).unwrap();
}

fn vm(world: &World, name: &str) -> Option<vm::Vm> {
    let fleet = world.core().fleet();
    fleet.vms.values().find(|vm| &*vm.name == name).map(|vm| vm::Vm::clone(vm))
}

/// A host that carries a running VM.
fn host_with_vm(world: &World, browser: &mut Browser) -> MachineId {
    let machine = world.happen(host(world.core(), mac(2)));
    world.go(browser, "/vms");
    new_vm(browser, "build-1");
    browser.press("Enter").unwrap();
    browser.wait_for(&says("#v1", "starting")).unwrap();
    world.happen(join(world.core(), machine));
    browser.wait_for(&says("#v1", "running")).unwrap();
    machine
}

#[test]
fn what_if_shows_what_would_happen_and_then_exactly_that_is_done() {
    let world = World::start();
    let mut browser = world.logged_in();
    world.happen(host(world.core(), mac(2)));
    world.go(&mut browser, "/vms");
    let seen = "#new-vm[open] .forecast:not([hidden])";

    new_vm(&mut browser, "build-1");
    let before = world.core().head().position;
    browser.click("#new-vm [data-do=whatif]").unwrap();
    browser.wait_for(&says(seen, "Nothing is changed yet")).unwrap();
    browser.wait_for(&says(seen, "build-1 would be on host-1, at 10.77.")).unwrap();
    assert_eq!(world.core().head().position, before);
    assert!(vm(&world, "build-1").is_none());

    browser.fill("#new-vm [name=memory_mib]", "999936").unwrap();
    browser.wait_for(&format!("!document.querySelector('{seen}')")).unwrap();
    browser.click("#new-vm [data-do=whatif]").unwrap();
    browser.wait_for(&says(seen, "It would be refused: build-1 wants 999936 MiB")).unwrap();

    browser.fill("#new-vm [name=memory_mib]", "1024").unwrap();
    browser.click("#new-vm [data-do=whatif]").unwrap();
    browser.wait_for(&says(seen, "build-1 would be on host-1")).unwrap();
    let shown = browser.eval(&format!("document.querySelector('{seen}').innerText")).unwrap();
    browser.click("#new-vm button:not([type=button])").unwrap();
    browser.wait_for(&says("#v1", "starting")).unwrap();
    let made = vm(&world, "build-1").unwrap();
    let address = world.core().fleet().leases.address(made.mac).unwrap().to_string();
    assert!(shown.as_str().unwrap().contains(&address), "{shown} promised something else than {address}");

    // What was shown does not hold any more when it is ordered.
    new_vm(&mut browser, "build-2");
    browser.click("#new-vm [data-do=whatif]").unwrap();
    browser.wait_for(&says(seen, "build-2 would be on host-1")).unwrap();
    world.happen(host(world.core(), mac(3)));
    let spec = vm::NewVm {
        name: "other".into(),
        vcpus: 1,
        memory_mib: 4096,
        disk_gib: 4,
        image: vm::Image::clone(&made.image),
        recover: vm::Recover::Wait,
        tenant: None,
    };
    world.happen(world.core().execute(&person(), Command::CreateVm { spec })).unwrap();
    browser.click("#new-vm button:not([type=button])").unwrap();
    browser.wait_for(&says("#new-vm .wrong:not([hidden])", "The plan said")).unwrap();
    assert!(vm(&world, "build-2").is_none());
    browser.click("#new-vm button:not([type=button])").unwrap();
    world.until(|fleet| fleet.vms.len() == 3);
}

#[test]
fn a_package_is_tried_out_before_it_is_installed_and_its_installation_is_cancelled() {
    let world = World::start();
    let mut browser = world.logged_in();
    let machine = world.happen(host(world.core(), mac(2)));
    let file = world.dir.path().join("hello.eli");
    std::fs::write(&file, bundle("hello", 384)).unwrap();
    world.go(&mut browser, "/services");

    browser.click("[data-dialog=new-package]").unwrap();
    browser.choose("#new-package [name=file]", &file).unwrap();
    browser.click("#new-package [data-do=whatif]").unwrap();
    browser
        .wait_for(&says("#new-package[open] .forecast:not([hidden])", "hello-1 would be on host-1"))
        .unwrap();
    assert_eq!(browser.eval("document.querySelector('#new-package .progress').hidden").unwrap(), true);
    assert!(world.core().fleet().services.is_empty());
    browser.click("#new-package button:not([type=button])").unwrap();
    browser.wait_for(&says("#s1", "installing")).unwrap();
    world.happen(join(world.core(), machine));

    asks(&mut browser, "#s1 [data-do=cancel]", "Cancel hello?");
    what_if(&world, &mut browser, "hello-1");
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#s1", "being removed")).unwrap();
    world.until(|fleet| fleet.vms.values().all(|vm| vm.phase == vm::Phase::Removing));

    asks(&mut browser, "#s1 [data-do=cancel]", "Keep hello?");
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#s1", "installing")).unwrap();
    let service = world.core().fleet().services.values().next().unwrap().clone();
    world.happen(join(world.core(), machine));
    guest(world.core(), service.nodes[0], "hello", "1.0.0", SoftwareState::Healthy);
    browser.wait_for(&says("#s1", "answering")).unwrap();

    asks(&mut browser, "#s1 [data-do=remove]", "Remove hello?");
    browser.click("#ask-yes").unwrap();
    asks(&mut browser, "#s1 [data-do=force]", "Remove hello by force?");
    browser.click("#ask-yes").unwrap();
    left_over(&mut browser, "its VM hello-1 is still being removed");
    browser.wait_for("!document.querySelector('#s1')").unwrap();
    assert!(world.core().fleet().services.is_empty());
}

#[test]
fn an_installation_is_cancelled() {
    let world = World::start();
    let mut browser = world.logged_in();
    world.happen(sight(world.core(), mac(4)));
    let machine = world.happen(report(world.core(), mac(4), false));
    let serve = Command::ServeKickstart { machine, attempt: 1 };
    world.happen(world.core().execute(&Actor::Node(NodeId::Machine(machine)), serve)).unwrap();
    world.go(&mut browser, "/machines/m1");
    browser.wait_for(&says("#thing", "installing")).unwrap();

    asks(&mut browser, "#m1 [data-do=cancel]", "Cancel host-1?");
    what_if(&world, &mut browser, "what it wrote stays on /dev/nvme0n1");
    browser.press("Escape").unwrap();
    browser.wait_for(CLOSED).unwrap();
    assert!(matches!(world.core().fleet().machines[&machine].phase, Phase::Installing { .. }));
    let focus = "document.activeElement === document.querySelector('#m1 [data-do=cancel]')";
    browser.wait_for(focus).unwrap();

    asks(&mut browser, "#m1 [data-do=cancel]", "Cancel host-1?");
    browser.click("#ask-yes").unwrap();
    left_over(&mut browser, "what it wrote stays on /dev/nvme0n1");
    browser.wait_for(&says("#thing", "found")).unwrap();
    browser.wait_for(&says("#m1", "what went on with it was cancelled")).unwrap();
    assert_eq!(world.core().fleet().machines[&machine].phase, Phase::Reported);
    assert_eq!(browser.eval("!document.querySelector('#m1 [data-do=cancel]')").unwrap(), true);

    browser.click("#m1 [data-do=adopt]").unwrap();
    browser.wait_for(&says("#thing", "adopted")).unwrap();
}

#[test]
fn what_a_machine_boots_once_is_chosen_and_taken_back() {
    let world = World::start();
    let mut browser = world.logged_in();
    world.happen(sight(world.core(), mac(4)));
    let found = world.happen(report(world.core(), mac(4), true));
    let once = |world: &World, id: MachineId| world.core().fleet().machines[&id].once;
    const CHOICES: &str = "document.querySelector('#boot-once').open";
    const CHOSEN: &str = "!document.querySelector('dialog[open]')";

    let open = |browser: &mut Browser, machine: &str| {
        browser.click(&format!("#{machine} [data-do=boot]")).unwrap();
        browser.wait_for(CHOICES).unwrap();
    };

    // Nothing runs on it: it is not asked twice.
    world.go(&mut browser, "/machines/m1");
    browser.wait_for(&says("#m1", "wipe it?")).unwrap();
    for (word, shown, wanted) in [
        ("rescue", "next start: the rescue system", Once::Rescue),
        ("memtest", "next start: the memory test", Once::Memtest),
        ("network", "next start: over the network", Once::Network),
        ("disk", "next start: its own disk", Once::Disk),
    ] {
        open(&mut browser, "m1");
        browser
            .wait_for(&format!("{CHOICES} && {}", says("#boot-once-title", "What does host-1 boot once?")))
            .unwrap();
        browser.click(&format!("#boot-once [data-once={word}]")).unwrap();
        browser.wait_for(&format!("{CHOSEN} && {}", says("#m1", shown))).unwrap();
        assert_eq!(once(&world, found), Some(wanted));
    }
    open(&mut browser, "m1");
    browser.click("#boot-once [data-once='']").unwrap();
    browser.wait_for("!document.querySelector('#m1').innerText.includes('next start')").unwrap();
    assert_eq!(once(&world, found), None);
    open(&mut browser, "m1");
    assert_eq!(
        browser.eval("document.querySelector('#boot-usual').hidden").unwrap(),
        true,
        "nothing to take back"
    );
    browser.click("#boot-once [data-do=close]").unwrap();
    browser.wait_for(CHOSEN).unwrap();

    // On a host it is asked, and what would happen can be seen before.
    let host = world.happen(host(world.core(), mac(2)));
    world.go(&mut browser, "/machines/m2");
    browser.wait_for(&says("#thing", "ready")).unwrap();
    browser.wait_for(&says("#host-m2", "GiB")).unwrap();
    open(&mut browser, "m2");
    browser.click("#boot-once [data-once=memtest]").unwrap();
    browser.wait_for(&format!("{OPEN} && {}", says("#ask-title", "boot the memory test once?"))).unwrap();
    browser.wait_for(&says("#ask-text", "Its VMs and services do not run")).unwrap();
    browser.click("#ask-no").unwrap();
    browser.wait_for(CHOSEN).unwrap();
    assert_eq!(once(&world, host), None);
    open(&mut browser, "m2");
    browser.click("#boot-once [data-once=rescue]").unwrap();
    browser.wait_for(&format!("{OPEN} && {}", says("#ask-title", "boot the rescue system once?"))).unwrap();
    what_if(&world, &mut browser, "the rescue system");
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#m2", "next start: the rescue system")).unwrap();
    assert_eq!(once(&world, host), Some(Once::Rescue));
}

#[test]
fn a_host_is_drained_and_used_again() {
    let world = World::start();
    let mut browser = world.logged_in();
    let machine = host_with_vm(&world, &mut browser);
    let drained = |world: &World| world.core().fleet().hosts[&machine].draining_since.is_some();

    world.go(&mut browser, "/hosts");
    asks(&mut browser, "#host-m1 [data-do=drain]", "Drain host-1?");
    what_if(&world, &mut browser, "Being drained: no new VM is placed on it");
    assert!(!drained(&world));
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#host-m1 .tag", "being drained")).unwrap();
    assert!(drained(&world));

    world.go(&mut browser, "/machines/m1");
    browser.wait_for(&says("#m1", "is being drained; still on it: build-1")).unwrap();
    world.go(&mut browser, "/vms");
    new_vm(&mut browser, "build-2");
    browser.press("Enter").unwrap();
    browser.wait_for(&says("#new-vm .wrong:not([hidden])", "drained")).unwrap();
    browser.click("#new-vm [data-do=close]").unwrap();

    world.go(&mut browser, "/hosts");
    browser.click("#host-m1 [data-do=undrain]").unwrap();
    browser.wait_for("!document.querySelector('#host-m1 .tag')").unwrap();
    assert!(!drained(&world));
}

#[test]
fn a_vm_is_removed_kept_and_removed_by_force() {
    let world = World::start();
    let mut browser = world.logged_in();
    let host = host_with_vm(&world, &mut browser);
    world.go(&mut browser, "/vms/v1");

    asks(&mut browser, "#v1 [data-do=remove]", "Remove build-1?");
    what_if(&world, &mut browser, "To be removed");
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#thing", "being removed")).unwrap();

    asks(&mut browser, "#v1 [data-do=cancel]", "Keep build-1?");
    browser.click("#ask-yes").unwrap();
    // Its host may have begun to remove it: only its next word says that it runs.
    browser.wait_for(&says("#thing", "its host will make it")).unwrap();
    world.happen(join(world.core(), host));
    browser.wait_for("!document.querySelector('#v1 [data-do=cancel]')").unwrap();
    assert_ne!(vm(&world, "build-1").unwrap().phase, vm::Phase::Removing);

    asks(&mut browser, "#v1 [data-do=remove]", "Remove build-1?");
    browser.click("#ask-yes").unwrap();
    // Its host does not answer.
    asks(&mut browser, "#v1 [data-do=force]", "Remove build-1 by force?");
    what_if(&world, &mut browser, "volume build-1-v1 stays on host-1's disk");
    browser.click("#ask-yes").unwrap();
    left_over(
        &mut browser,
        "volume build-1-v1 stays on host-1's disk until host-1 speaks again and removes it",
    );
    browser.wait_for(&says("#thing", "There is no vm v1 here")).unwrap();
    assert!(world.core().fleet().vms.is_empty());
}

#[test]
fn a_machine_with_vms_is_removed_by_force() {
    let world = World::start();
    let mut browser = world.logged_in();
    host_with_vm(&world, &mut browser);
    world.go(&mut browser, "/machines/m1");

    asks(&mut browser, "#m1 [data-do=remove]", "Remove host-1?");
    browser.click("#ask-what-if").unwrap();
    browser.wait_for(&says("#ask .forecast.refused", "It would be refused: host-1 carries build-1")).unwrap();
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#ask-title", "Remove host-1 by force?")).unwrap();
    browser.wait_for(&says("#ask-text", "host-1 carries build-1")).unwrap();
    assert_eq!(browser.eval("document.querySelector('#ask .forecast').hidden").unwrap(), true);
    browser.click("#ask-no").unwrap();
    browser.wait_for(CLOSED).unwrap();
    assert_eq!(world.core().fleet().machines.len(), 1);

    asks(&mut browser, "#m1 [data-do=remove]", "Remove host-1?");
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#ask-title", "Remove host-1 by force?")).unwrap();
    what_if(&world, &mut browser, "VM build-1 was forgotten");
    browser.click("#ask-yes").unwrap();
    left_over(&mut browser, "host-1's system stays on its disk");
    browser.wait_for(&says("#thing", "There is no machine m1 here")).unwrap();
    let fleet = world.core().fleet();
    assert!(fleet.machines.is_empty() && fleet.hosts.is_empty() && fleet.vms.is_empty());
}

fn fits(browser: &mut Browser) {
    for width in [360, 1600] {
        browser.look(width, 900, false).unwrap();
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.eval(overflow).unwrap(), 0, "at {width} pixels the page is wider than the window");
    }
}

#[test]
fn racks_switches_and_ports_are_shown_and_removed() {
    let world = World::start();
    let mut browser = world.logged_in();
    browser.click("a[href='/racks']").unwrap();
    browser.wait_for("location.pathname === '/racks'").unwrap();
    browser.wait_for(&says("#racks", "No racks yet")).unwrap();
    browser.wait_for(&says("#link", "live")).unwrap();

    let machine = world.happen(host(world.core(), mac(2)));
    let ports = (1..=4).map(|port| format!("eth{port}")).collect();
    let place = rack::Place { rack: "a1".into(), unit: 40, height: 1 };
    let plugged = Plugged::Note { text: "upstairs".into() };
    for order in [
        Command::AddRack { name: "a1".into(), units: 42 },
        Command::PlaceMachine { machine, rack: "a1".into(), unit: 3, height: 2 },
        Command::AddSwitch { name: "sw1".into(), ports, place: Some(place) },
        Command::Plug { switch: "sw1".into(), port: "eth4".into(), what: plugged },
    ] {
        world.happen(world.core().execute(&person(), order)).unwrap();
    }
    world.happen(hears(world.core(), machine, mac(2), "sw1", "eth1"));
    browser.wait_for(&says("#rack-a1", "42 units, 39 free")).unwrap();
    browser.wait_for(&says("#rack-a1", "4\thost-1 ready")).unwrap();
    browser.click("#rack-a1 [rowspan='2'] a").unwrap();
    browser.wait_for(&says("#thing", "units 3 to 4 of rack a1")).unwrap();
    world.go(&mut browser, "/racks");
    fits(&mut browser);
    browser.click("#rack-a1 a[href^='/switches']").unwrap();
    browser.wait_for("location.hash === '#switch-sw1'").unwrap();
    browser.wait_for(&says("#link", "live")).unwrap();
    browser.wait_for(&says("#switch-sw1", "eth1\thost-1\teno1 52:54:00:4a:10:02\t25 Gbit/s\tseen")).unwrap();
    browser.wait_for(&says("#switch-sw1", "\"upstairs\"")).unwrap();
    browser.wait_for(&says("#switch-sw1", "Nothing is known to be in ports eth2–eth3.")).unwrap();
    browser.click("#switch-sw1 summary").unwrap();
    browser.wait_for(&says("#switch-sw1 .timeline", "is in port eth1 of sw1, as LLDP says")).unwrap();
    fits(&mut browser);

    asks(&mut browser, "#switch-sw1 [data-do=remove]", "Remove switch sw1?");
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#ask-title", "Remove switch sw1 by force?")).unwrap();
    what_if(&world, &mut browser, "is in no port that is known now");
    browser.click("#ask-yes").unwrap();
    left_over(&mut browser, "host-1 (52:54:00:4a:10:02) in port eth1 is in no port that is known now");
    browser.wait_for("!document.querySelector('#switch-sw1')").unwrap();

    world.go(&mut browser, "/racks");
    asks(&mut browser, "#rack-a1 [data-do=remove]", "Remove rack a1?");
    browser.click("#ask-yes").unwrap();
    browser.wait_for(&says("#ask-title", "Remove rack a1 by force?")).unwrap();
    browser.click("#ask-yes").unwrap();
    left_over(&mut browser, "host-1");
    browser.wait_for(&says("#racks", "No racks yet")).unwrap();
    assert!(world.core().fleet().racks.is_empty());

    browser.click(".pages a[href='/']").unwrap();
    browser.wait_for("location.pathname === '/'").unwrap();
    browser.wait_for(&says("#capacity", "1 host")).unwrap();
}

#[test]
fn a_user_is_added_given_another_role_and_sees_what_a_role_may() {
    let world = World::start();
    let mut browser = world.logged_in();
    let role = || world.core().fleet().users.get("ada").map(|user| user.role);
    browser.open(&world.url("/users")).unwrap();
    browser.wait_for(&says("#link", "live")).unwrap();
    browser.click("[data-dialog=new-user]").unwrap();
    browser.fill("#new-user [name=name]", "ada").unwrap();
    browser.fill("#new-user [name=password]", "ada has a horse").unwrap();
    browser.press("Enter").unwrap();
    browser.wait_for(&says("#user-ada", "operator")).unwrap();
    browser.wait_for(&says("#said", "ada can log in now")).unwrap();

    browser.click("#user-ada [data-dialog=set-role]").unwrap();
    browser.eval("document.querySelector('#set-role [name=role]').value = 'viewer'").unwrap();
    browser.click("#set-role [data-do=whatif]").unwrap();
    browser.wait_for(&says("#set-role .forecast", "User ada is a viewer now")).unwrap();
    assert_eq!(role(), Some(Role::Operator), "only asked");
    browser.click("#set-role button:not([type=button])").unwrap();
    browser.wait_for(&says("#user-ada", "viewer")).unwrap();
    assert_eq!(role(), Some(Role::Viewer));

    // What she may not do is not offered to her, and what she is logged in with ends when an admin says so.
    let mut hers = Browser::start().unwrap();
    hers.open(&world.url("/login")).unwrap();
    hers.fill("input[name=user]", "ada").unwrap();
    hers.fill("input[name=password]", "ada has a horse").unwrap();
    hers.press("Enter").unwrap();
    hers.wait_for("location.pathname === '/'").unwrap();
    hers.wait_for(&says("#link", "live")).unwrap();
    let offered = "[...document.querySelectorAll('main button')].filter(b => b.offsetParent).length";
    assert_eq!(hers.eval(offered).unwrap(), json!(0));
    world.happen(host(world.core(), mac(2)));
    for (page, what) in
        [("/machines", "#m1"), ("/machines/m1", "#m1"), ("/hosts", "#host-m1"), ("/users", "#user-ada")]
    {
        world.go(&mut hers, page);
        hers.wait_for(&format!("!!document.querySelector('{what}')")).unwrap();
        let orders = "[...document.querySelectorAll('main [data-do]:not(.own *), main [data-pick]')]\
            .filter(it => it.offsetParent && it.matches('button, select, input')).length";
        assert_eq!(hers.eval(orders).unwrap(), json!(0), "{page}");
    }

    browser.open(&world.url("/users")).unwrap();
    browser.wait_for(&says("#sessions", "ada")).unwrap();
    let ada = "[...document.querySelectorAll('#sessions article')].find(it => it.innerText.includes('ada'))";
    browser.eval(&format!("{ada}.querySelector('[data-do=end]').click()")).unwrap();
    browser.wait_for(&says("#said", "A session of ada was ended")).unwrap();
    hers.wait_for("location.pathname === '/login'").unwrap();
}
