//! Consoles as a person sees them: a browser at one end, the host's own part at the other, and behind it a machine's
//! serial line or QEMU's screen.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::example::{hardware, join, mac, sight};
use crate::world::{World, says};
use appliance::consoles::Consoles;
use appliance::core::Actor;
use appliance::{node_api, tls};
use browser::Browser;
use fleet::wire::{CertificateRequest, ConsoleKind, Instruction, Report};
use fleet::{Command, NodeId, vm};
use node::client::{Authority, Client};
use node::consoles::Place;
use node::identity::Identity;
use node::member::Member;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// tests/needs puts it there.
fn cached(name: &str) -> PathBuf {
    let cache = std::env::var_os("ELISANDRA_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/elisandra");
    let path = cache.unwrap_or_else(home).join(name);
    assert!(path.exists(), "{} is not there; run tests/needs", path.display());
    path
}

/// A site with the libraries, and a host that carries a VM and brings its consoles.
fn world() -> World {
    let libraries = cached("libraries/node_modules");
    let world = World::with(|app| app.consoles = Arc::new(Consoles::with(libraries)));
    world.happen(carry(&world));
    world
}

async fn carry(world: &World) {
    let (app, core, dir) = (&world.site.app, world.core(), world.dir.path().to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    let config = tls::node_config(app.ca.server_certificate(&[Ipv4Addr::LOCALHOST.into()]).unwrap()).unwrap();
    let (router, ca) = (node_api::router(app.clone()), Some(Arc::clone(&app.ca)));
    tokio::spawn(tls::serve(listener, config, router, ca, world.site.shutdown.clone()));

    let authority =
        Authority::checked(Ipv4Addr::LOCALHOST, app.ca.pem().as_bytes(), &app.ca.sha256()).unwrap();
    let mut identity = Identity::load_or_make(&dir.join("host")).unwrap();
    let client = Client::at(base.clone(), &authority, &identity).unwrap();
    sight(core, mac(1)).await;
    let report = Report { hardware: hardware(mac(1), false), neighbours: vec![] };
    let reply = client.report(&report).await.unwrap();
    assert!(matches!(reply.instruction, Instruction::Install { .. }), "{:?}", reply.instruction);
    let machine = reply.machine;
    let actor = Actor::Node(NodeId::Machine(machine));
    core.execute(&actor, Command::ServeKickstart { machine, attempt: 1 }).await.unwrap();
    core.execute(&actor, Command::PhoneHome { machine, attempt: 1 }).await.unwrap();
    let request = CertificateRequest { csr_pem: identity.signing_request().unwrap(), enrollment: None };
    let reply = client.certificate(&request).await.unwrap();
    identity.keep_certificate(&dir.join("host"), reply.node, &reply.certificate_pem).unwrap();
    let client = Client::at(base, &authority, &identity).unwrap();
    join(core, machine).await;

    let image = vm::Image { name: "guest.img".into(), sha256: "ab".repeat(32), bytes: 300_000_000 };
    let spec = vm::NewVm {
        name: "web".into(),
        vcpus: 1,
        memory_mib: 512,
        disk_gib: 4,
        image,
        recover: vm::Recover::default(),
        tenant: None,
    };
    core.execute(&Actor::admin("admin"), Command::CreateVm { spec }).await.unwrap();
    join(core, machine).await;

    let member = Member { node: NodeId::Machine(machine), client };
    let places = node::consoles::Consoles::new(Box::new(move |vm, kind| {
        anyhow::ensure!(vm.to_string() == "v1", "there is no {vm}");
        Ok(Place {
            socket: dir.join(kind.word()),
            log: (kind == ConsoleKind::Serial).then(|| dir.join("web-v1.log")),
        })
    }));
    tokio::spawn(async move {
        let mut known = None;
        while let Ok(desired) = member.client.desired(member.node, known).await {
            known = Some(desired.revision);
            places.bring(&desired.consoles, &member);
        }
    });
}

/// A machine that greets whoever is named at its serial line, in a colour of its own.
fn greeter(world: &World) {
    std::fs::write(world.dir.path().join("web-v1.log"), "Debian GNU/Linux 13 web ttyS0\r\n\r\nweb login: ")
        .unwrap();
    let socket = world.dir.path().join("serial");
    world.happen(async move {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                greet(stream).await;
            }
        });
    });
}

async fn greet(mut stream: UnixStream) {
    let mut name = String::new();
    while let Ok(byte) = stream.read_u8().await {
        let said = match byte {
            b'\r' => format!("\r\n\x1b[38;2;10;200;30mhello {}\x1b[0m\r\n", std::mem::take(&mut name)),
            byte => {
                name.push(char::from(byte));
                char::from(byte).to_string()
            }
        };
        if stream.write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Counts from now on what the page's policy has forbidden.
fn watch_the_policy(browser: &mut Browser) {
    browser
        .eval(
            "window.forbidden = []; document.addEventListener('securitypolicyviolation', \
             event => window.forbidden.push(`${event.violatedDirective} ${event.blockedURI}`)); 0",
        )
        .unwrap();
}

#[test]
fn a_person_types_at_the_serial_console_and_sees_the_answer() {
    let world = world();
    greeter(&world);
    let mut browser = world.logged_in();
    world.go(&mut browser, "/vms/v1");
    browser
        .wait_for("document.querySelector('a[href=\"/vms/v1/console\"]')?.innerText === 'Console'")
        .unwrap();

    browser.open(&world.url("/vms/v1/console")).unwrap();
    watch_the_policy(&mut browser);
    browser.wait_for("document.querySelector('#link b')?.textContent === 'live'").unwrap();
    // What it said before anybody looked.
    browser.wait_for(&says(".xterm-rows", "web login:")).unwrap();
    browser.type_keys("ada").unwrap();
    browser.press("Enter").unwrap();
    browser.wait_for(&says(".xterm-rows", "web login: ada")).unwrap();
    browser.wait_for(&says(".xterm-rows", "hello ada")).unwrap();
    let colour =
        "[...document.querySelectorAll('.xterm-rows span')].find(it => it.innerText.includes('hello'))";
    let colour = browser.eval(&format!("getComputedStyle({colour}).color")).unwrap();
    assert_eq!(colour, "rgb(10, 200, 30)");
    assert_eq!(browser.eval("window.forbidden.join()").unwrap(), "", "the page's policy is in the way");
    // xterm.js without its style sheets has rows without a height.
    let height = browser.eval("document.querySelector('.xterm-rows > div').offsetHeight").unwrap();
    assert!(height.as_u64().is_some_and(|height| height > 5), "{height}");
    if let Some(path) = std::env::var_os("ELISANDRA_SHOT") {
        browser.window(Path::new(&path)).unwrap();
    }
    let axe = std::fs::read_to_string(cached("axe/node_modules/axe-core/axe.min.js")).unwrap();
    browser.eval(&axe).unwrap();
    let found = browser
        .eval("axe.run().then(({ violations }) => violations.filter(it => ['serious', 'critical'].includes(it.impact)).map(it => it.id + ' ' + it.nodes.map(node => node.html)))")
        .unwrap();
    assert_eq!(found, Value::Array(vec![]));

    // The session is the console's.
    let token =
        world.happen(async { world.site.app.auth.sessions(None, appliance::core::now()).await }).unwrap();
    world.happen(async { world.site.app.auth.revoke(&token[0].id).await }).unwrap();
    browser.wait_for("document.querySelector('#link b').textContent === 'the session is over'").unwrap();
}

/// QEMU with a screen and no processor that runs: it says by itself that nothing is to be seen yet.
struct Machine(Child);

impl Machine {
    fn start(socket: &Path) -> Machine {
        let qemu = Program::new("qemu-system-x86_64")
            .args(["-S", "-display", "none", "-nodefaults", "-vga", "std", "-m", "32", "-accel", "tcg"])
            .arg("-vnc")
            .arg(format!("unix:{}", socket.display()))
            .stdin(Stdio::null())
            .spawn();
        let machine = Machine(qemu.expect("qemu-system-x86_64; run tests/needs"));
        for _ in 0..300 {
            if socket.exists() {
                return machine;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("QEMU does not show its screen");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_person_sees_the_screen_of_qemu() {
    let world = world();
    let machine = Machine::start(&world.dir.path().join("graphic"));
    let mut browser = world.logged_in();
    browser.open(&world.url("/vms/v1/console?kind=graphic")).unwrap();
    watch_the_policy(&mut browser);
    browser.wait_for("document.querySelector('#screen').dataset.shown === 'true'").unwrap();
    let seen = "(() => { const canvas = document.querySelector('#screen canvas'); \
                if (!canvas?.width) return false; \
                const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data; \
                return all.some((value, at) => at % 4 !== 3 && value > 128); })()";
    browser.wait_for(seen).unwrap();
    assert_eq!(browser.eval("window.forbidden.join()").unwrap(), "", "the page's policy is in the way");
    if let Some(path) = std::env::var_os("ELISANDRA_SHOT") {
        browser.window(Path::new(&path)).unwrap();
    }
    drop(machine);
    browser.wait_for("document.querySelector('#again').hidden === false").unwrap();
    assert_eq!(
        browser.eval("document.querySelector('#link b').textContent").unwrap(),
        "the machine or its host closed it"
    );
}

#[test]
fn what_is_missing_is_said() {
    let world = world();
    let mut browser = world.logged_in();
    // Nothing listens where its console should be.
    browser.open(&world.url("/vms/v1/console")).unwrap();
    browser
        .wait_for("document.querySelector('#link b').textContent.startsWith('opening the console at')")
        .unwrap();

    let world = World::with(|app| app.consoles = Arc::new(Consoles::with("/nonexistent")));
    world.happen(carry(&world));
    let mut browser = world.logged_in();
    browser.open(&world.url("/vms/v1/console")).unwrap();
    browser.wait_for(&says(".banner", "/nonexistent has no @xterm/xterm/lib/xterm.mjs")).unwrap();
}
