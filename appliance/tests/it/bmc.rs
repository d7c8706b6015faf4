//! BMCs that hang, lie, flap, refuse and send nonsense: off is never believed without proof, and nothing is sent to
//! where it should not go.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fake_bmc::{Fake, PASSWORD, Reply, Request, USER, UUID, World, ok, status, system};
use appliance::bmc::{BmcError, Bmcs, Endpoint, Identity, Kind, Limits, Login, Power, Settings, SwitchedOn};
use appliance::vault::Secret;
use fleet::{Mac, Timestamp};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const MINUTE: u64 = 60_000;

fn bmcs() -> Bmcs {
    quick("/usr/sbin".as_ref(), 5)
}

fn quick(agents: &Path, answer: u64) -> Bmcs {
    let limits = Limits {
        answer: Duration::from_secs(answer),
        settle: Duration::from_millis(400),
        apart: Duration::from_millis(30),
    };
    Bmcs::new(Settings { agents: agents.into(), limits, ..Settings::default() })
}

fn redfish(fake: &Fake) -> Endpoint {
    Endpoint { kind: Kind::Redfish, address: fake.address.clone(), pin: None, system: None }
}

fn login() -> Login {
    Login { user: USER.to_owned(), password: Secret::new(PASSWORD) }
}

fn wrong(password: &str) -> Login {
    Login { user: USER.to_owned(), password: Secret::new(password) }
}

/// What the machine's BMC says of its power, one answer after the other; the last stays.
fn saying(answers: &'static [&'static str]) -> impl Fn(&Request, &mut World) -> Option<Reply> {
    let asked = AtomicU32::new(0);
    move |request, world| {
        if (request.method.as_str(), request.path.as_str()) != ("GET", "/redfish/v1/Systems/1") {
            return None;
        }
        let number = asked.fetch_add(1, Ordering::Relaxed) as usize;
        world.power = answers[number.min(answers.len() - 1)].to_owned();
        Some(ok(system(world)))
    }
}

#[tokio::test]
async fn a_good_bmc_is_asked_and_obeyed_and_its_sessions_are_ended() {
    let fake = Fake::start(|_, _| None).await;
    let (bmcs, endpoint, login) = (bmcs(), redfish(&fake), login());
    let bmc = bmcs.at(&endpoint, Some(&login), NOW);
    let known = Identity {
        vendor: Some("Fake Inc.".into()),
        model: Some("F1".into()),
        serial: Some("4711".into()),
        uuid: Some(UUID.into()),
        power: Some(Power::On),
        certificate: Some(fake.certificate.clone()),
    };
    assert_eq!(bmc.identify().await, Ok(known));
    bmc.switch_off().await.unwrap();
    assert_eq!(bmc.power().await, Ok(Power::Off));
    // The order is given again, which this BMC refuses; that it is off is what counts.
    bmc.switch_off().await.unwrap();
    assert_eq!(bmc.switch_on().await, Ok(SwitchedOn::Proven));
    assert_eq!(bmc.cycle().await, Ok(SwitchedOn::Proven));
    bmc.boot_from_network_once(true).await.unwrap();
    bmc.light(true).await.unwrap();
    let world = fake.world.lock().unwrap();
    assert_eq!(world.power, "On");
    assert_eq!(
        world.boot,
        json!({
            "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideTarget": "Pxe",
            "BootSourceOverrideEnabled": "Once",
        })
    );
    assert_eq!(world.light, "Blinking");
    assert_eq!(world.sessions, Vec::<String>::new());
    assert_eq!(world.logins, 8);
}

#[tokio::test]
async fn off_that_is_taken_back_is_not_off() {
    let login = login();
    // The first is asked before the order, the second to find where orders go.
    for lie in [&["On", "On", "Off", "On"][..], &["On"], &["Off", "Off", "On"], &["On", "On", "PoweringOff"]]
    {
        let fake = Fake::start(saying(lie)).await;
        let error = bmcs().at(&redfish(&fake), Some(&login), NOW).switch_off().await.unwrap_err();
        assert!(matches!(error, BmcError::Unproven { wanted: Power::Off, .. }), "{lie:?}: {error}");
        assert!(error.to_string().contains("Switch it off by another way"), "{error}");
        let cycled = bmcs().at(&redfish(&fake), Some(&login), NOW).cycle().await;
        assert!(cycled.is_err(), "what is not off is not switched on: {lie:?}");
    }
    let fake = Fake::start(saying(&["On", "On", "On", "Off", "On", "Off"])).await;
    bmcs().at(&redfish(&fake), Some(&login), NOW).switch_off().await.unwrap();
}

#[tokio::test]
async fn silence_and_nonsense_are_errors_and_never_off() {
    type Behave = fn(&Request, &mut World) -> Option<Reply>;
    let nonsense: [(&str, Behave, &str); 9] = [
        ("hangs at once", |_, _| Some(Reply::Hang), "did not answer within 1 s"),
        (
            "hangs on the machine",
            |request, _| (request.path == "/redfish/v1/Systems/1").then_some(Reply::Hang),
            "did not answer within 1 s",
        ),
        (
            "hangs on the order",
            |request, _| request.path.contains("Reset").then_some(Reply::Hang),
            "is not known to be off",
        ),
        (
            "refuses the order",
            |request, _| request.path.contains("Reset").then(|| status(500)),
            "The fake says no.",
        ),
        (
            "closes in the middle",
            |request, _| (request.path == "/redfish/v1/Systems/1").then_some(Reply::Half),
            "cannot be reached",
        ),
        (
            "sends megabytes",
            |request, _| (request.path == "/redfish/v1/Systems/1").then_some(Reply::Megabytes),
            "sends more than",
        ),
        (
            "says nothing of its power",
            |request, _| (request.path == "/redfish/v1/Systems/1").then(|| ok(json!({ "Id": "1" }))),
            "is not known to be off",
        ),
        (
            "sends no JSON",
            |request, _| (request.path == "/redfish/v1/Systems/1").then(|| ok(Value::Null)),
            "is not known to be off",
        ),
        (
            "has no machine",
            |request, _| {
                (request.path == "/redfish/v1/Systems").then(|| ok(json!({ "Members": [7, null, "x"] })))
            },
            "no way to find a machine",
        ),
    ];
    let login = login();
    for (what, behave, sentence) in nonsense {
        let fake = Fake::start(behave).await;
        let bmcs = quick("/usr/sbin".as_ref(), if what.starts_with("hangs") { 1 } else { 60 });
        let error = bmcs.at(&redfish(&fake), Some(&login), NOW).switch_off().await.unwrap_err().to_string();
        assert!(error.contains(sentence), "{what}: {error}");
    }
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let endpoint = Endpoint { kind: Kind::Redfish, address: nobody.to_string(), pin: None, system: None };
    let error = bmcs().at(&endpoint, Some(&login), NOW).power().await.unwrap_err();
    assert!(matches!(error, BmcError::Unreached { .. }), "{error}");
}

#[tokio::test]
async fn a_question_that_is_given_up_leaves_no_session_behind() {
    let hang =
        |request: &Request, _: &mut World| (request.path == "/redfish/v1/Systems/1").then_some(Reply::Hang);
    let fake = Fake::start(hang).await;
    let (bmcs, endpoint, login) = (bmcs(), redfish(&fake), login());
    let given_up = async {
        while fake.requests("GET") < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let bmc = bmcs.at(&endpoint, Some(&login), NOW);
    tokio::select! {
        power = bmc.power() => panic!("{power:?}"),
        () = given_up => {}
    }
    for _ in 0..500 {
        if fake.requests("DELETE") == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fake.world.lock().unwrap().sessions, Vec::<String>::new());
}

#[tokio::test]
async fn refused_logins_are_counted_and_then_none_is_tried_for_a_while() {
    let fake = Fake::start(|_, _| None).await;
    let (bmcs, endpoint, bad, good) = (bmcs(), redfish(&fake), wrong("guess"), login());
    let at = |minutes: u64| Timestamp(NOW.0 + minutes * MINUTE);
    for _ in 0..3 {
        let error = bmcs.at(&endpoint, Some(&bad), NOW).power().await.unwrap_err();
        assert_eq!(error, BmcError::Refused { address: fake.address.clone(), user: USER.into() });
    }
    for login in [&bad, &good] {
        let error = bmcs.at(&endpoint, Some(login), at(14)).switch_off().await.unwrap_err();
        assert_eq!(error, BmcError::Paused { address: fake.address.clone(), until: at(15) });
    }
    assert_eq!(fake.world.lock().unwrap().logins, 3, "nothing was tried in the pause");
    assert_eq!(bmcs.at(&endpoint, Some(&good), at(15)).power().await, Ok(Power::On));
    // One that works ends the row.
    for minute in [16, 17] {
        bmcs.at(&endpoint, Some(&bad), at(minute)).power().await.unwrap_err();
    }
    bmcs.at(&endpoint, Some(&good), at(18)).power().await.unwrap();
    bmcs.at(&endpoint, Some(&bad), at(19)).power().await.unwrap_err();
    bmcs.at(&endpoint, Some(&good), at(19)).power().await.unwrap();
}

#[tokio::test]
async fn the_login_that_works_is_found_in_order_and_within_the_budget() {
    let fake = Fake::start(|_, _| None).await;
    let endpoint = redfish(&fake);
    let list = |good_at: usize, of: usize| -> Vec<(String, Login)> {
        let login_at = |place| if place == good_at { login() } else { wrong("guess") };
        (0..of).map(|place| (format!("login {place}"), login_at(place))).collect()
    };
    assert_eq!(bmcs().find(&endpoint, &list(1, 5), NOW).await, Ok("login 1".into()));
    assert_eq!(fake.world.lock().unwrap().logins, 2);
    let bmcs = bmcs();
    let error = bmcs.find(&endpoint, &list(4, 5), NOW).await.unwrap_err();
    assert!(matches!(error, BmcError::Paused { .. }), "{error}");
    assert_eq!(fake.world.lock().unwrap().logins, 5);
    let error = bmcs.find(&endpoint, &list(9, 2), Timestamp(NOW.0 + 15 * MINUTE)).await.unwrap_err();
    assert!(error.to_string().starts_with("none of the logins login 0, login 1 works"), "{error}");
}

#[tokio::test]
async fn nothing_is_sent_elsewhere_or_to_another_certificate() {
    let elsewhere = Fake::start(|_, _| None).await;
    let to = elsewhere.address.clone();
    let redirecting = Fake::start(move |request, _| {
        let to = format!("https://{to}{}", request.path);
        request.path.contains("Sessions").then(|| Reply::Json(307, vec![("Location", to)], Value::Null))
    })
    .await;
    let to = elsewhere.address.clone();
    let linking = Fake::start(move |request, _| {
        let member = json!({ "@odata.id": format!("https://{to}/redfish/v1/Systems/1") });
        (request.path == "/redfish/v1/Systems").then(|| ok(json!({ "Members": [member] })))
    })
    .await;
    let login = login();
    for fake in [&redirecting, &linking] {
        let error = bmcs().at(&redfish(fake), Some(&login), NOW).switch_off().await.unwrap_err();
        assert!(matches!(error, BmcError::Elsewhere { .. }), "{error}");
    }
    let circles = Fake::start(|request, _| {
        let to = request.path.clone();
        (request.path == "/redfish/v1/").then(|| Reply::Json(302, vec![("Location", to)], Value::Null))
    })
    .await;
    let error = bmcs().at(&redfish(&circles), Some(&login), NOW).power().await.unwrap_err();
    assert!(error.to_string().contains("in circles"), "{error}");

    let pinned = Endpoint { pin: Some(redirecting.certificate.clone()), ..redfish(&elsewhere) };
    let error = bmcs().at(&pinned, Some(&login), NOW).switch_off().await.unwrap_err();
    let (recorded, shown) = (redirecting.certificate.clone(), elsewhere.certificate.clone());
    let address = elsewhere.address.clone();
    assert_eq!(error, BmcError::OtherCertificate { address, pinned: recorded.clone(), seen: shown.clone() });
    assert!(error.to_string().contains(&recorded) && error.to_string().contains(&shown), "{error}");
    assert_eq!(elsewhere.world.lock().unwrap().requests.len(), 0);
    let with_colons: Vec<String> = shown
        .to_ascii_uppercase()
        .as_bytes()
        .chunks(2)
        .map(|it| String::from_utf8_lossy(it).into())
        .collect();
    let pinned = Endpoint { pin: Some(with_colons.join(":")), ..redfish(&elsewhere) };
    bmcs().at(&pinned, Some(&login), NOW).switch_off().await.unwrap();
}

#[tokio::test]
async fn another_machines_bmc_is_not_obeyed() {
    let fake = Fake::start(|_, _| None).await;
    let login = login();
    let named = |system: &str| Endpoint { system: Some(system.to_owned()), ..redfish(&fake) };
    for own in [UUID, "33221100-5544-7766-8899-aabbccddeeff", "1", "/redfish/v1/Systems/1"] {
        bmcs().at(&named(own), Some(&login), NOW).power().await.unwrap();
    }
    let other = named("10112233-4455-6677-8899-aabbccddeeff");
    let error = bmcs().at(&other, Some(&login), NOW).switch_off().await.unwrap_err();
    assert!(error.to_string().ends_with("is it the BMC of another machine?"), "{error}");
    assert_eq!(fake.world.lock().unwrap().power, "On");
    assert_eq!(fake.world.lock().unwrap().sessions, Vec::<String>::new());

    let two = Fake::start(|request, world| match request.path.as_str() {
        "/redfish/v1/Systems" => Some(ok(json!({ "Members": [
            { "@odata.id": "/redfish/v1/Systems/0" }, { "@odata.id": "/redfish/v1/Systems/1" },
        ] }))),
        "/redfish/v1/Systems/0" => Some(ok(json!({ "Id": "0", "PowerState": world.power }))),
        _ => None,
    })
    .await;
    let error = bmcs().at(&redfish(&two), Some(&login), NOW).switch_off().await.unwrap_err();
    assert!(error.to_string().contains("/redfish/v1/Systems/0, /redfish/v1/Systems/1"), "{error}");
    let named = Endpoint { system: Some(UUID.to_owned()), ..redfish(&two) };
    bmcs().at(&named, Some(&login), NOW).switch_off().await.unwrap();
}

/// Keys in another case, lists in a place of their own, a version that has to be named, no sessions.
#[tokio::test]
async fn other_vendors_keys_are_understood() {
    fn basic(request: &Request) -> bool {
        // admin:planted-4711
        request.head.contains("authorization: basic ywrtaw46cgxhbnrlzc00nzex")
    }
    let fake = Fake::start(|request, world| {
        let odd = |world: &World| {
            json!({
                "id": "Self",
                "powerstate": world.power,
                "boot": { "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "PXE"] },
                "LocationIndicatorActive": world.light == "Blinking",
                "Actions": { "#ComputerSystem.Reset": { "@Redfish.ActionInfo": "/info" } },
            })
        };
        Some(match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/redfish/v1/") => ok(json!({ "RedfishVersion": "1.0.0" })),
            _ if !basic(request) => status(401),
            ("GET", "/redfish/v1/Systems") => ok(json!({ "members": [{ "href": "/odd/" }] })),
            ("GET", "/odd/") => Reply::Json(200, vec![("ETag", "W/\"7\"".into())], odd(world)),
            ("GET", "/info") => ok(json!({ "Parameters": [
                { "Name": "Other", "AllowableValues": ["On"] },
                { "Name": "ResetType", "AllowableValues": ["PushPowerButton", "forceoff"] },
            ] })),
            ("POST", "/odd/Actions/ComputerSystem.Reset") => {
                match request.body["ResetType"].as_str() {
                    Some("forceoff") => "Off".clone_into(&mut world.power),
                    Some("PushPowerButton") if world.power == "Off" => "On".clone_into(&mut world.power),
                    _ => return Some(status(400)),
                }
                Reply::Json(200, Vec::new(), Value::Null)
            }
            ("PATCH", "/odd/") if !request.head.contains("if-match: \"7\"\r\n") => status(412),
            ("PATCH", "/odd/") => {
                if let Some(lit) = request.body["LocationIndicatorActive"].as_bool() {
                    world.light = if lit { "Blinking" } else { "Off" }.to_owned();
                }
                world.boot = request.body["Boot"].clone();
                Reply::Json(200, Vec::new(), Value::Null)
            }
            _ => status(404),
        })
    })
    .await;
    let (bmcs, endpoint, login) = (bmcs(), redfish(&fake), login());
    let bmc = bmcs.at(&endpoint, Some(&login), NOW);
    let known = Identity {
        power: Some(Power::On),
        certificate: Some(fake.certificate.clone()),
        ..Identity::default()
    };
    assert_eq!(bmc.identify().await, Ok(known));
    assert_eq!(bmc.cycle().await, Ok(SwitchedOn::Proven));
    bmc.light(true).await.unwrap();
    assert_eq!(fake.world.lock().unwrap().light, "Blinking");
    bmc.boot_from_network_once(true).await.unwrap();
    let set = json!({ "BootSourceOverrideTarget": "PXE", "BootSourceOverrideEnabled": "Once" });
    assert_eq!(fake.world.lock().unwrap().boot, set);
    let wrong = wrong("guess");
    let error = bmcs.at(&endpoint, Some(&wrong), NOW).power().await.unwrap_err();
    assert!(matches!(error, BmcError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn many_bmcs_are_asked_at_once_and_one_only_once() {
    let together = Arc::new(tokio::sync::Barrier::new(20));
    let mut fakes = Vec::new();
    for _ in 0..20 {
        let together = Arc::clone(&together);
        let wait = move |request: &Request, world: &mut World| {
            let machine = request.path == "/redfish/v1/Systems/1";
            machine.then(|| Reply::After(Arc::clone(&together), Box::new(ok(system(world)))))
        };
        fakes.push(Fake::start(wait).await);
    }
    let (bmcs, login) = (Arc::new(quick("/usr/sbin".as_ref(), 60)), login());
    let endpoints: Vec<Endpoint> = fakes.iter().map(redfish).collect();
    // None is answered before all are asked.
    let asked = endpoints.iter().map(|endpoint| bmcs.at(endpoint, Some(&login), NOW)).collect::<Vec<_>>();
    for power in futures::future::join_all(asked.iter().map(|bmc| bmc.power())).await {
        assert_eq!(power, Ok(Power::On));
    }
    let fake = Fake::start(|_, _| None).await;
    let endpoint = redfish(&fake);
    let bmc = bmcs.at(&endpoint, Some(&login), NOW);
    let (one, other, light) = tokio::join!(bmc.switch_off(), bmc.switch_off(), bmc.light(true));
    assert_eq!((one, other, light), (Ok(()), Ok(()), Ok(())));
    assert_eq!(fake.world.lock().unwrap().most_at_once, 1);
}

fn agent(folder: &Path, name: &str, script: &str) -> Endpoint {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/bash\n{script}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let kind = Kind::Agent(name.to_owned(), BTreeMap::from([("plug".to_owned(), "3".to_owned())]));
    Endpoint { kind, address: "10.77.1.5".to_owned(), pin: None, system: None }
}

#[tokio::test]
async fn agents_are_told_by_their_input_and_answer_by_their_status() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let script = format!(
        "input=$(cat); state={state}\n\
         echo \"$# [$(env | cut -d= -f1 | sort | xargs)] $input\" | tr '\\n' ' ' >>{state}.log; echo >>{state}.log\n\
         case \"$input\" in\n\
         *action=on*) echo on >$state ;;\n\
         *action=off*) echo off >$state ;;\n\
         *) [ $(cat $state) = on ] || exit 2 ;;\n\
         esac",
        state = state.display()
    );
    let endpoint = agent(folder.path(), "fence_fake", &script);
    std::fs::write(&state, "on").unwrap();
    let (bmcs, login) = (quick(folder.path(), 30), login());
    let bmc = bmcs.at(&endpoint, Some(&login), NOW);
    assert_eq!(bmc.power().await, Ok(Power::On));
    bmc.switch_off().await.unwrap();
    assert_eq!(bmc.power().await, Ok(Power::Off));
    assert_eq!(bmc.switch_on().await, Ok(SwitchedOn::Proven));
    assert!(bmc.light(true).await.unwrap_err().to_string().contains("no way to light a lamp"));
    let log = std::fs::read_to_string(state.with_extension("log")).unwrap();
    let first = log.lines().next().unwrap();
    let told = "action=status ip=10.77.1.5 username=admin password=planted-4711 plug=3";
    assert_eq!(first.trim(), format!("0 [LC_ALL PATH PWD SHLVL _] {told}"));
}

#[tokio::test]
async fn agents_that_hang_fail_or_say_too_much_are_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child");
    let hangs = format!("sleep 1000 & echo $! >{}; wait", child.display());
    let login = login();
    let failing = [
        ("fence_hangs", hangs.as_str(), 1, "did not answer within 1 s"),
        ("fence_fails", "echo >&2 Unable to connect; exit 1", 30, "Unable to connect"),
        ("fence_odd", "exit 7", 30, "it said nothing"),
        ("fence_killed", "kill -9 $$", 30, "it said nothing"),
        ("fence_loud", "yes | head -c 20000000; exit 1", 30, "could not speak"),
        ("fence_tells", "cat >&2; exit 1", 30, "plug=3"),
        (
            "fence_tells2",
            "echo >&2 \"bad password: $(grep ^password)\"; exit 1",
            30,
            "bad password: password=(secret)",
        ),
        ("fence_refuses", "echo >&2 Login failed; exit 1", 30, "refuses the login of \"admin\""),
    ];
    for (name, script, answer, sentence) in failing {
        let endpoint = agent(folder.path(), name, script);
        let bmcs = quick(folder.path(), answer);
        let error = bmcs.at(&endpoint, Some(&login), NOW).switch_off().await.unwrap_err();
        assert!(error.to_string().contains(sentence), "{name}: {error}");
        assert!(!error.to_string().contains(PASSWORD), "{name}: {error}");
    }
    let pid: i32 = std::fs::read_to_string(child).unwrap().trim().parse().unwrap();
    let mut lives = true;
    for _ in 0..200 {
        // What was killed is there until somebody has waited for it.
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        lives = status.is_ok_and(|it| !it.contains(") Z "));
        if !lives {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!lives, "what an agent started ends with it");
}

#[tokio::test]
async fn wake_on_lan_switches_on_and_can_be_asked_nothing() {
    let heard = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let port = heard.local_addr().unwrap().port();
    let mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
    let endpoint = Endpoint {
        kind: Kind::WakeOnLan(mac),
        address: format!("127.0.0.1:{port}"),
        pin: None,
        system: None,
    };
    let bmcs = bmcs();
    let bmc = bmcs.at(&endpoint, None, NOW);
    for error in [bmc.power().await.map(drop), bmc.switch_off().await, bmc.cycle().await.map(drop)] {
        assert_eq!(error, Err(BmcError::OnlyWakes));
    }
    assert_eq!(bmc.switch_on().await, Ok(SwitchedOn::Sent));
    let mut packet = [0; 200];
    let wait = tokio::time::timeout(Duration::from_secs(10), heard.recv(&mut packet));
    let length = wait.await.expect("the packet arrives").unwrap();
    assert_eq!(packet[..length], [vec![0xff; 6], mac.0.repeat(16)].concat());
    let foreign = Endpoint { address: "192.0.2.1".to_owned(), ..endpoint.clone() };
    let error = bmcs.at(&foreign, None, NOW).switch_on().await.unwrap_err();
    assert!(error.to_string().ends_with("is that an address of this appliance?"), "{error}");
}

/// Everything that a subscriber is told.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_password_is_logged_or_told() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let (sessions, basic) = (
        Fake::start(|request, _| request.path.contains("Reset").then(|| status(500))).await,
        Fake::start(|request, _| (request.path == "/redfish/v1/").then(|| ok(json!({})))).await,
    );
    let folder = tempfile::tempdir().unwrap();
    let endpoints =
        [redfish(&sessions), redfish(&basic), agent(folder.path(), "fence_tells", "cat >&2; exit 1")];
    let bmcs = quick(folder.path(), 30);
    let mut told = String::new();
    for endpoint in &endpoints {
        let logins = [("first".to_owned(), login()), ("second".to_owned(), wrong("planted-0815"))];
        told += &format!("{:?}", bmcs.find(endpoint, &logins, NOW).await);
        for (_, login) in &logins {
            let bmc = bmcs.at(endpoint, Some(login), NOW);
            told +=
                &format!("{:?} {:?} {login:?} {:?}", bmc.switch_off().await, bmc.light(true).await, endpoint);
        }
    }
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("refuses the login"), "the log is heard: {log}");
    assert!(told.contains("Refused") && told.contains("fence_tells"), "{told}");
    for part in [&log, &told] {
        assert!(!part.contains("planted-"), "{part}");
        // admin:planted-
        assert!(!part.contains("YWRtaW46cGxhbnRlZC0"), "{part}");
    }
}
