//! `eli` as a program, against the REST API over real TLS on loopback.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use crate::desk::{desk, logged_in};
use crate::example;
use crate::example::{bundle, guest, host, join, mac, report, sight};
use fleet::wire::SoftwareState;
use tokio::process::Command;

#[tokio::test]
async fn logging_in_is_remembered_for_its_owner_alone() {
    let desk = logged_in().await;
    let mode = std::fs::metadata(desk.settings()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let settings = std::fs::read_to_string(desk.settings()).unwrap().parse::<toml::Table>().unwrap();
    assert!(settings["token"].as_str().unwrap().starts_with("eli_"), "a token is no option");
    let machines = desk.eli(&["machines"]).await;
    assert_eq!(machines.code, 0, "{}", machines.err);
    assert_eq!(machines.out, "No machines yet. Plug one in and let it start from the network.\n");

    assert_eq!(desk.eli(&["logout"]).await.code, 0);
    assert!(!desk.settings().exists());
    let after = desk.eli(&["machines"]).await;
    assert_eq!((after.code, after.err.as_str()), (3, "eli: which appliance? eli login https://ADDRESS\n"));

    let server = desk.server();
    let unknown = desk.eli(&["login", &server]).await;
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains(&desk.site.app.ca.fingerprint()), "{}", unknown.err);

    let fingerprint = format!("SHA256:{}", desk.site.app.ca.fingerprint());
    let wrong = ["login", &server, "--fingerprint", &fingerprint];
    let wrong = desk.eli_with(&wrong, &[("ELI_PASSWORD", "incorrect horse")]).await;
    assert_eq!(wrong.code, 3);
    assert!(wrong.err.contains("the name or the password is wrong"), "{}", wrong.err);
    assert!(!wrong.err.contains("incorrect horse"));
    let dashed = ["login", &server, "--fingerprint", &fingerprint, "--password", "-correct horse"];
    let dashed = desk.eli(&dashed).await;
    assert!(dashed.err.contains("the name or the password is wrong"), "{}", dashed.err);
    assert_eq!(desk.eli(&["login", &server, "--fingerprint", &fingerprint]).await.code, 0);
}

#[tokio::test]
async fn another_server_gets_nothing_to_hear() {
    let real = logged_in().await;
    let other = desk().await;
    let fingerprint = real.site.app.ca.fingerprint();
    let said = real.eli(&["login", &other.server(), "--fingerprint", &fingerprint]).await;
    assert_eq!(said.code, 4);
    assert!(said.err.contains("is not the appliance that is known here"), "{}", said.err);
    assert!(said.err.contains(&other.site.app.ca.fingerprint()));
    // The request never came so far as to be refused.
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    let lines = other.core().timeline(&["site".to_owned()], 10).await.unwrap();
    assert!(lines.iter().all(|line| line.kind != "refused"), "{lines:?}");
}

#[tokio::test]
async fn scripts_need_no_file() {
    let desk = logged_in().await;
    let settings: toml::Table = std::fs::read_to_string(desk.settings()).unwrap().parse().unwrap();
    std::fs::remove_file(desk.settings()).unwrap();
    let server = desk.server();
    let environment = [
        ("ELI_SERVER", server.as_str()),
        ("ELI_TOKEN", settings["token"].as_str().unwrap()),
        ("ELI_FINGERPRINT", settings["fingerprint"].as_str().unwrap()),
    ];
    host(desk.core(), mac(2)).await;
    let machines = desk.eli_with(&["machines", "-o", "json"], &environment).await;
    let machines: serde_json::Value = serde_json::from_str(&machines.out).unwrap();
    assert_eq!(machines[0]["phase"], "ready");
    let hosts = desk.eli_with(&["hosts"], &environment).await.out;
    assert!(hosts.contains("host-1") && hosts.contains("61.7 GiB"), "{hosts}");

    let stale = [environment[0], ("ELI_TOKEN", "stale"), environment[2]];
    let stale = desk.eli_with(&["machines"], &stale).await;
    assert_eq!((stale.code, stale.err), (3, format!("eli: the session is over; eli login {server}\n")));
}

#[tokio::test]
async fn a_disk_with_data_is_wiped_only_with_wipe() {
    let desk = logged_in().await;
    report(desk.core(), mac(3), true).await;
    // The reconciler has its look after the change.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let machines = desk.eli(&["machines"]).await.out;
    assert!(machines.contains("found"), "{machines}");
    assert!(
        machines.contains("    waits: /dev/nvme0n1 holds ext4 'data'; wipe it? -> adopt it with wiping"),
        "{machines}"
    );

    let refused = desk.eli(&["adopt", "host-1"]).await;
    let sentence = "eli: eli adopt host-1 --wipe wipes it: /dev/nvme0n1 holds ext4 'data'; wipe it?\n";
    assert_eq!((refused.code, refused.err.as_str()), (1, sentence));
    let adopted = desk.eli(&["adopt", "m1", "--wipe", "--yes"]).await;
    assert_eq!(adopted.code, 0, "{}", adopted.err);
    assert!(
        adopted.out.starts_with("Adopted by a person; to be installed on /dev/nvme0n1"),
        "{}",
        adopted.out
    );

    let timeline = desk.eli(&["timeline", "host-1"]).await.out;
    assert!(timeline.contains("Adopted by a person"), "{timeline}");
    assert_eq!(desk.eli(&["delete", "--yes", "host-1"]).await.code, 0);
    let gone = desk.eli(&["delete", "--yes", "host-1"]).await;
    let sentence = "eli: there is no machine host-1\n  -> eli machines shows what there is\n";
    assert_eq!((gone.code, gone.err.as_str()), (5, sentence));
}

#[tokio::test]
async fn installing_ends_with_the_package_answering() {
    let desk = logged_in().await;
    let machine = host(desk.core(), mac(2)).await;
    let file = desk.file("hello.eli", &bundle("hello", 384));

    // The host and the guest do their part as soon as they are told to.
    let core = desk.core().clone();
    let world = tokio::spawn(async move {
        example::until(&core, |fleet| !fleet.services.is_empty()).await;
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        join(&core, machine).await;
        let service = core.fleet().services.values().next().unwrap().clone();
        let guest = |state| guest(&core, service.nodes[0], "hello", "1.0.0", state);
        guest(SoftwareState::Installing { step: "installing hello.deb".into() });
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        guest(SoftwareState::Healthy);
    });
    let installed = desk.eli(&["install", &file]).await;
    world.await.unwrap();
    assert_eq!(installed.code, 0, "{}{}", installed.out, installed.err);
    for line in [
        "hello 1.0.0 is being installed; it will answer at",
        "hello-1: starting on host-1",
        "installing hello.deb",
    ] {
        assert!(installed.out.contains(line), "{line}: {}", installed.out);
    }
    let last = installed.out.lines().last().unwrap();
    assert!(last.starts_with("hello answers at http://10.77.") && last.ends_with(" s)"), "{last}");
    assert!(last.contains(":8080/ ("), "{last}");

    let registry = desk.eli(&["registry"]).await.out;
    assert!(registry.contains("hello 1.0.0") && registry.contains("http://10.77."), "{registry}");
    assert!(desk.eli(&["services"]).await.out.contains("answering"));
    assert!(desk.eli(&["vms"]).await.out.contains("running"));
    assert!(desk.eli(&["packages"]).await.out.contains("Says hello over HTTP"));
    assert!(desk.eli(&["remove", "--yes", "hello"]).await.out.contains("To be removed"));
}

#[tokio::test]
async fn what_cannot_be_installed_is_said_before_it_is_sent() {
    let desk = logged_in().await;
    let good = bundle("hello", 384);
    let cut = desk.file("cut.eli", &good[..2000]);
    let said = desk.eli(&["install", &cut]).await;
    assert_eq!(said.code, 1);
    assert!(said.err.ends_with("cut.eli: the bundle is cut short: its end is missing\n"), "{}", said.err);
    assert_eq!(desk.eli(&["install", "/nowhere/x.eli"]).await.code, 1);

    let whole = desk.file("hello.eli", &good);
    let said = desk.eli(&["install", &whole]).await;
    assert_eq!(said.code, 1);
    let sentence = "eli: hello-1 wants 384 MiB memory, 1 vCPU and 2 GiB disk, and there is no host yet\n";
    assert_eq!(said.err, sentence);
}

#[tokio::test]
async fn showing_a_bundle_asks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hello.eli");
    std::fs::write(&file, bundle("hello", 384)).unwrap();
    let shown =
        Command::new(env!("CARGO_BIN_EXE_eli")).arg("show").arg(&file).env_clear().output().await.unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    for line in [
        "hello 1.0.0 - Says hello over HTTP\n",
        "Needs       1 node at least, each with 384 MiB memory, 1 vCPU and 2 GiB disk\n",
        "Writes      /etc/hello/site.conf (mode 0644) from templates/site.conf\n",
        "Healthy     when GET /health answers 200\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn vms_and_the_policy_are_for_the_console_too() {
    let desk = logged_in().await;
    let machine = host(desk.core(), mac(2)).await;
    let core = desk.core().clone();
    let world = tokio::spawn(async move {
        example::until(&core, |fleet| !fleet.vms.is_empty()).await;
        join(&core, machine).await;
    });
    let made = desk
        .eli(&["vm", "create", "build-1", "--memory", "1024", "--cpus", "2", "--disk", "8", "--wait"])
        .await;
    world.await.unwrap();
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.contains("v1 runs at 10.77."), "{}", made.out);
    assert_eq!(desk.eli(&["vm", "delete", "--yes", "build-1"]).await.code, 0);

    let key = format!("ssh-ed25519 {} me@laptop\n", "A".repeat(68));
    let file = desk.file("key.pub", key.as_bytes());
    let policy = desk.eli(&["policy", "--ask", "--ssh-key", &file]).await;
    assert_eq!(policy.code, 0, "{}", policy.err);
    assert!(
        policy.out.contains("only when a person says so") && policy.out.contains("me@laptop"),
        "{}",
        policy.out
    );
    assert_eq!(desk.core().fleet().policy.ssh_keys.len(), 1);
    assert!(desk.eli(&["policy"]).await.out.contains("let in on every host and VM: 1"));
}

#[tokio::test]
async fn wrong_calls_end_with_2() {
    let desk = desk().await;
    assert_eq!(desk.eli(&["adopt"]).await.code, 2);
    assert_eq!(desk.eli(&["fly"]).await.code, 2);
    assert_eq!(desk.eli(&["policy", "--ask", "--blank"]).await.code, 2);
    assert_eq!(desk.eli(&["--version"]).await.code, 0);
    let unreached = desk.eli(&["login", "https://127.0.0.1:1", "--fingerprint", &"ab".repeat(32)]).await;
    assert_eq!(unreached.code, 4);
    assert!(unreached.err.contains("https://127.0.0.1:1 does not answer"), "{}", unreached.err);
}

#[tokio::test]
async fn names_come_from_standard_input_and_force_says_what_is_left_over() {
    let desk = logged_in().await;
    host(desk.core(), mac(1)).await;
    host(desk.core(), mac(2)).await;
    let drained = desk.eli_reading(&["host", "drain", "-"], "host-1\n\n  m2  \n").await;
    assert_eq!((drained.code, drained.err.as_str()), (0, ""));
    assert_eq!(drained.out, "Being drained: no new VM is placed on it\n".repeat(2));
    let some = desk.eli(&["host", "undrain", "host-1", "nobody", "host-2"]).await;
    assert_eq!(some.code, 1);
    assert_eq!(some.err, "eli: nobody: there is no machine nobody\neli: 1 of 3 were refused\n");
    assert_eq!(some.out.lines().count(), 2, "the others were undrained: {}", some.out);

    assert_eq!(desk.eli(&["vm", "create", "web"]).await.code, 0);
    let refused = desk.eli(&["machine", "remove", "--yes", "host-1"]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("host-1 carries web; remove that first, or remove host-1 by force"),
        "{}",
        refused.err
    );
    let forced = desk.eli(&["machine", "remove", "--yes", "--force", "host-1"]).await;
    assert!(
        forced.out.contains("Left over: volume web-v1 of VM web stays on host-1's disk"),
        "{}",
        forced.out
    );
    let nothing = desk.eli(&["machine", "cancel", "host-2"]).await;
    assert_eq!(nothing.err, "eli: host-2 is ready; nothing goes on with it that could be cancelled\n");
}

#[tokio::test]
async fn racks_and_switches_are_kept_from_the_console() {
    let desk = logged_in().await;
    host(desk.core(), mac(1)).await;
    let done = async |arguments: &[&str]| {
        let said = desk.eli(arguments).await;
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
        said.out
    };
    assert_eq!(done(&["rack", "add", "r1"]).await, "Rack r1 of 42 units was added\n");
    done(&["switch", "add", "sw1", "--ports", "2", "--port", "uplink"]).await;
    assert_eq!(
        done(&["rack", "place", "host-1", "r1", "3", "--height", "2"]).await,
        "host-1 stands in units 3 to 4 of rack r1\n"
    );
    done(&["rack", "place", "sw1", "r1", "42"]).await;
    done(&["switch", "plug", "sw1", "1", "--machine", "host-1"]).await;
    done(&["switch", "plug", "sw1", "uplink", "--note", "to the office"]).await;
    let racks = done(&["rack", "list"]).await;
    assert!(racks.contains("3-4") && racks.contains("host-1") && racks.contains("sw1"), "{racks}");
    let switches = done(&["switch", "list"]).await;
    assert!(switches.contains("\"to the office\"") && switches.contains("host-1 ("), "{switches}");
    let refused = desk.eli(&["switch", "remove", "--yes", "sw1"]).await;
    assert!(refused.err.contains("unplug that first, or remove it by force"), "{}", refused.err);
    done(&["switch", "unplug", "sw1", "uplink"]).await;
    done(&["rack", "unplace", "host-1", "sw1"]).await;
    done(&["switch", "remove", "sw1", "--force", "--yes"]).await;
    done(&["rack", "remove", "-y", "r1"]).await;
    let wrong = desk.eli(&["switch", "plug", "sw1", "1"]).await;
    assert_eq!(wrong.code, 2, "{}", wrong.err);
}

#[tokio::test]
async fn a_machine_that_takes_no_offer_is_told_of_the_other_server_that_is_heard() {
    use appliance::config::{Mode, Served};
    use appliance::network::{Foreign, Found, Wires};
    use pxe::step::{Client, Outcome};
    use pxe::{Note, Step, dhcp::Kind};

    let dir = tempfile::tempdir().unwrap();
    let mut site = example::site(dir.path()).await;
    let served = Served {
        interface: "lan0".into(),
        address: [10, 77, 0, 1].into(),
        network: "10.77.0.0/16".parse().unwrap(),
        mode: Mode::Full,
    };
    let rival = Foreign { address: [10, 77, 0, 9].into(), mac: mac(99), since: appliance::core::now() };
    site.app.wires =
        Arc::new(Wires::of(&Found { serve: Some(served), beside: vec![rival], ..Found::default() }));
    let core = &site.app.core;
    sight(core, mac(2)).await;
    let offered =
        Outcome::Offered { address: "10.77.1.1".parse().unwrap(), file: Some("shimx64.efi".to_owned()) };
    let step = Step::Dhcp { packet: Kind::Discover, client: Client::Firmware { arch: 7 }, outcome: offered };
    let before = appliance::core::now().0 - 60_000;
    for at in [before, before + 4_000, before + 12_000] {
        let note = Note { mac: Some(pxe::MacAddr(mac(2).0)), address: None, step: step.clone() };
        core.journal().note(&note, at);
    }
    let said = |app: &appliance::App| {
        let machines =
            appliance::api::machines::all(app, &app.core.fleet(), &app.core.observed(), &app.core.plan());
        machines[0].trouble.clone().unwrap()
    };
    let trouble = said(&site.app);
    assert_eq!(trouble.cause, "offer-lost");
    let rival = format!("Another DHCP server is on this network: 10.77.0.9 ({}).", mac(99));
    assert!(trouble.what.ends_with(&rival), "{}", trouble.what);
    site.app.wires = Arc::default();
    assert!(!said(&site.app).what.contains("Another DHCP server"));
}

#[tokio::test]
async fn a_machine_that_does_not_boot_says_why() {
    use pxe::step::{Client, Outcome, Protocol, Sent};
    use pxe::{Note, Step, dhcp::Kind};

    let desk = logged_in().await;
    sight(desk.core(), mac(2)).await;
    let app = &desk.site.app;
    let directory =
        appliance::dhcp::directory(app.core.clone(), Arc::clone(&app.tokens), Arc::clone(&app.seen), false);
    let machine = Some(pxe::MacAddr(mac(2).0));
    let client = || Client::Firmware { arch: 6 };
    let own = "10.9.9.9".parse().unwrap();
    let steps = [
        // It has an address of another server, by which its files are known.
        (Kind::Request, Outcome::Elsewhere { server: "10.9.9.1".parse().unwrap(), address: Some(own) }),
        (Kind::Discover, Outcome::Offered { address: "10.77.1.1".parse().unwrap(), file: None }),
    ];
    for (packet, outcome) in steps {
        let step = Step::Dhcp { packet, client: client(), outcome };
        directory.note(Note { mac: machine, address: None, step });
    }
    let name = "<b>bootia32.efi</b>";
    let step = Step::File { protocol: Protocol::Tftp, name: name.to_owned(), sent: Sent::Missing };
    directory.note(Note { mac: None, address: Some(own.into()), step });

    let machines = desk.eli(&["machines"]).await.out;
    let why = "does not boot: Its firmware is of architecture 6 (DHCP option 93), which there is no boot loader for. Some \
               tablets";
    assert!(machines.contains(why), "{machines}");
    let machines = desk.eli(&["machines", "-o", "json"]).await.out;
    let machines: serde_json::Value = serde_json::from_str(&machines).unwrap();
    assert_eq!(machines[0]["trouble"]["cause"], "no-loader");
    assert!(machines[0]["trouble"]["next_step"].as_str().unwrap().contains("CSM"));
    // Lines of timelines are written a moment later.
    let mut lines = String::new();
    for _ in 0..100 {
        lines = desk.eli(&["timeline", machines[0]["id"].as_str().unwrap()]).await.out;
        if lines.contains(name) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(lines.contains(&format!("TFTP {name}: there is no such file")), "{lines}");
    assert!(lines.contains("takes 10.9.9.9 of another DHCP server, 10.9.9.1"), "{lines}");

    let sentences = [
        "Does not boot: Its firmware is of architecture 6 (DHCP option 93), which there is no boot loader for.\n",
        "Likely:        Some tablets and old servers",
        "Next step:     Look in its setup for legacy or CSM boot",
    ];
    let shown = desk.eli(&["show", "machine", machines[0]["name"].as_str().unwrap()]).await.out;
    for sentence in sentences {
        assert!(lines.contains(sentence), "{lines}");
        assert!(shown.contains(sentence), "{shown}");
    }

    // When it has reported, all is well.
    report(desk.core(), mac(2), false).await;
    desk.core().journal().heard(&[pxe::MacAddr(mac(2).0)], u64::MAX);
    assert!(!desk.eli(&["machines"]).await.out.contains("does not boot"));
    for order in [["show", "machine", "m1"].as_slice(), &["timeline", "m1"]] {
        let told = desk.eli(order).await;
        assert_eq!((told.code, told.out.contains("Does not boot")), (0, false), "{}", told.out);
    }
}
