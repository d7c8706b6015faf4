//! Consoles over real TLS on loopback: a browser's WebSocket at one end, a host at the other.

use crate::client;
use crate::desk;
use crate::example;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::desk::Desk;
use crate::example::{Site, hardware, join, mac, until};
use appliance::core::Actor;
use appliance::{node_api, tls};
use fleet::wire::{Desired, WantedConsole};
use fleet::{Command, MachineId, NodeId, VmId};
use futures::{SinkExt as _, StreamExt as _};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

const LIMIT: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

struct World {
    desk: Desk,
    nodes: SocketAddr,
    admin: Client,
    host: Host,
    vm: VmId,
}

/// A host with its certificate.
struct Host {
    id: MachineId,
    tls: Arc<ClientConfig>,
    nodes: SocketAddr,
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("it did not happen")
}

/// A site with a host that carries a VM, both of its servers, and an admin who asks without a network between.
async fn world() -> World {
    let mut admin = client::logged_in().await;
    let core = admin.site.app.core.clone();
    let app = admin.site.app.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nodes = listener.local_addr().unwrap();
    let config = tls::node_config(app.ca.server_certificate(&[nodes.ip()]).unwrap()).unwrap();
    let (router, ca) = (node_api::router(app.clone()), Some(Arc::clone(&app.ca)));
    admin.site.tasks.spawn(tls::serve(listener, config, router, ca, admin.site.shutdown.clone()));
    let host = host(&admin.site, nodes, 1).await;
    let vm = json!({ "name": "web", "memory_mib": 512, "vcpus": 1, "disk_gib": 4 });
    let made = admin.post("/api/v1/vms", vm).await.of(axum::http::StatusCode::CREATED);
    join(&core, host.id).await;
    until(&core, |fleet| fleet.vms.values().any(|vm| vm.phase == fleet::vm::Phase::Running)).await;
    let site = Site { app, tasks: JoinSet::new(), shutdown: admin.site.shutdown.clone() };
    let desk = desk::serving(site, tempfile::tempdir().unwrap()).await;
    World { desk, nodes, admin, host, vm: made["id"].as_str().unwrap().parse().unwrap() }
}

async fn host(site: &Site, nodes: SocketAddr, number: u8) -> Host {
    let core = &site.app.core;
    let key = rcgen::KeyPair::generate().unwrap();
    let known = hex::encode(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)));
    let report = Command::Report { key: known.clone(), hardware: hardware(mac(number), false) };
    example::sight(core, mac(number)).await;
    core.execute(&Actor::Wire(mac(number)), report).await.unwrap();
    let machine = fleet::machine::by_mac(&core.fleet(), mac(number)).unwrap().id;
    let node = Actor::Node(NodeId::Machine(machine));
    core.execute(&node, Command::ServeKickstart { machine, attempt: 1 }).await.unwrap();
    core.execute(&node, Command::PhoneHome { machine, attempt: 1 }).await.unwrap();
    join(core, machine).await;
    let request = rcgen::CertificateParams::new(vec![]).unwrap().serialize_request(&key).unwrap();
    let pem = site.app.ca.sign(&request.pem().unwrap(), NodeId::Machine(machine), &known).unwrap();
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls = trust(site).with_client_auth_cert(vec![certificate], secret).unwrap();
    Host { id: machine, tls: Arc::new(tls), nodes }
}

fn trust(site: &Site) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(site.app.ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots)
}

async fn connect(to: SocketAddr, tls: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(to).await.unwrap();
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(tls).connect(name, stream).await.unwrap()
}

impl Host {
    /// Sends a request and reads the head of the answer; what comes after it is on the stream.
    async fn ask(&self, request: &str) -> (String, TlsStream<TcpStream>) {
        let mut stream = connect(self.nodes, Arc::clone(&self.tls)).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(stream.read_u8()).await.unwrap());
        }
        (String::from_utf8(head).unwrap(), stream)
    }

    async fn desired(&self, known: Option<u64>) -> Desired {
        let known = known.map(|known| format!("revision={known}&")).unwrap_or_default();
        let line = format!("GET /node/{}/desired?{known}wait=25 HTTP/1.1", self.id);
        let (head, mut stream) = self.ask(&format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut body = Vec::new();
        // The end of a connection without a close_notify is no matter here.
        let _ = stream.read_to_end(&mut body).await;
        serde_json::from_slice(&body).unwrap()
    }

    /// The console that is asked for, as soon as it is.
    async fn asked(&self) -> WantedConsole {
        let mut known = None;
        loop {
            let desired = within(self.desired(known)).await;
            known = Some(desired.revision);
            if let Some(wanted) = desired.consoles.first() {
                return wanted.clone();
            }
        }
    }

    async fn bring(&self, console: &WantedConsole) -> (String, TlsStream<TcpStream>) {
        let line = format!("GET /node/{}/console/{} HTTP/1.1", self.id, console.console);
        let upgrade = "Connection: upgrade\r\nUpgrade: elisandra-console";
        self.ask(&format!("{line}\r\nHost: a\r\n{upgrade}\r\n\r\n")).await
    }

    async fn brings(&self) -> TlsStream<TcpStream> {
        let console = self.asked().await;
        let (head, stream) = self.bring(&console).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        stream
    }
}

impl World {
    async fn open_with(&self, headers: &[(&'static str, &str)]) -> Result<Socket, (u16, String)> {
        self.open_at(&format!("vms/{}/console", self.vm), headers).await
    }

    async fn open_at(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, (u16, String)> {
        let url = format!("wss://{}/api/v1/{path}", self.desk.address);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let tls = Arc::new(trust(&self.admin.site).with_no_client_auth());
        let stream = connect(self.desk.address, tls).await;
        match within(tokio_tungstenite::client_async(request, stream)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => {
                let body = answer.body().clone().unwrap_or_default();
                Err((answer.status().as_u16(), String::from_utf8(body).unwrap()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn open(&self, token: &str) -> Socket {
        self.open_with(&[("authorization", &format!("Bearer {token}"))]).await.unwrap()
    }

    /// A console that is open at both ends.
    async fn opened(&self, token: &str) -> (Socket, TlsStream<TcpStream>) {
        let mut socket = self.open(token).await;
        let line = self.host.brings().await;
        assert_eq!(next(&mut socket).await, Message::text("open"));
        (socket, line)
    }

    async fn timeline(&self) -> Vec<String> {
        // Notes are written every half second.
        tokio::time::sleep(Duration::from_millis(800)).await;
        let lines = self.admin.site.app.core.timeline(&[self.vm.to_string()], 100).await.unwrap();
        lines.into_iter().filter(|line| line.kind == "console").map(|line| line.text).collect()
    }

    async fn user(&self, name: &str, role: &str) -> String {
        self.admin.post("/api/v1/users", json!({ "name": name, "role": role })).await;
        let password = json!({ "password": format!("{name} has a horse") });
        let path = format!("/api/v1/users/{name}/password");
        self.admin.put(&path, password).await;
        let login = json!({ "user": name, "password": format!("{name} has a horse") });
        let answer = self.admin.post("/api/v1/login", login).await.json();
        answer["token"].as_str().unwrap().to_owned()
    }

    async fn token(&self, role: &str, scope: &str) -> String {
        let made = json!({ "name": "ci", "role": role, "scope": scope });
        let made = self.admin.post("/api/v1/tokens", made).await.json();
        made["token"].as_str().unwrap().to_owned()
    }
}

async fn next(socket: &mut Socket) -> Message {
    within(socket.next()).await.unwrap().unwrap()
}

/// Number and reason of the close that comes next.
async fn closed(socket: &mut Socket) -> (u16, String) {
    match next(socket).await {
        Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
        other => panic!("{other:?}"),
    }
}

async fn reads(line: &mut TlsStream<TcpStream>, wanted: &[u8]) {
    let mut read = vec![0; wanted.len()];
    within(line.read_exact(&mut read)).await.unwrap();
    assert_eq!(read, wanted);
}

async fn is_let_go(line: &mut TlsStream<TcpStream>) {
    assert!(matches!(within(line.read(&mut [0; 8])).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn what_is_typed_reaches_the_machine_and_what_it_says_is_shown() {
    let world = world().await;
    // It waits for what is new, as hosts do all the time.
    let known = world.host.desired(None).await.revision;
    let (news, mut socket) = tokio::join!(world.host.desired(Some(known)), world.open(&world.admin.token));
    let [console] = &news.consoles[..] else { panic!("{:?}", news.consoles) };
    assert_eq!(console.vm, world.vm);
    let (head, mut line) = world.host.bring(console).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(next(&mut socket).await, Message::text("open"));
    assert!(world.host.desired(None).await.consoles.is_empty(), "it is brought once");

    line.write_all(b"login: \xff\x1b[0m").await.unwrap();
    assert_eq!(next(&mut socket).await, Message::binary(&b"login: \xff\x1b[0m"[..]));
    socket.send(Message::text("root")).await.unwrap();
    socket.send(Message::binary(&b"\r\x03"[..])).await.unwrap();
    reads(&mut line, b"root\r\x03").await;

    socket.close(None).await.unwrap();
    is_let_go(&mut line).await;
    let said = world.timeline().await;
    assert_eq!(said[0], "admin@127.0.0.1 opened its serial console");
    assert!(said[1].starts_with("admin@127.0.0.1's serial console ended after"), "{said:?}");
    assert!(said[1].ends_with("the browser closed it"), "{said:?}");

    // The machine's end is the console's.
    let (mut socket, line) = world.opened(&world.admin.token).await;
    drop(line);
    assert_eq!(closed(&mut socket).await, (1000, "the machine or its host closed it".to_owned()));
}

#[tokio::test]
async fn it_is_for_operators_on_our_own_pages() {
    let world = world().await;
    let viewer = world.user("vera", "viewer").await;
    let operator = world.user("otto", "operator").await;
    let reads = world.token("operator", "vms:read").await;
    let others = world.token("operator", "machines create_vm").await;
    let whole = world.token("operator", "vms").await;
    let bearer = |token: &str| format!("Bearer {token}");
    let refused = async |headers: &[(&'static str, &str)]| world.open_with(headers).await.err().unwrap();

    assert_eq!(refused(&[]).await.0, 401);
    let (status, sentence) = refused(&[("authorization", &bearer(&viewer))]).await;
    assert!(status == 403 && sentence.contains("vera is a viewer; this takes an operator"), "{sentence}");
    for token in [&reads, &others] {
        let (status, sentence) = refused(&[("authorization", &bearer(token))]).await;
        assert!(status == 403 && sentence.contains("and not for vms"), "{status} {sentence}");
    }
    // A browser sends the cookie along wherever the page is from that it shows.
    let cookie = format!("__Host-elisandra={operator}");
    let ours = format!("https://{}", world.desk.address);
    for foreign in [&[("cookie", &*cookie), ("origin", "https://evil.example")][..], &[("cookie", &cookie)]] {
        let (status, sentence) = refused(foreign).await;
        assert!(status == 403 && sentence.contains("another site's page"), "{status} {sentence}");
    }
    assert!(world.open_with(&[("cookie", &cookie), ("origin", &ours)]).await.is_ok());
    assert!(world.open_with(&[("authorization", &bearer(&whole))]).await.is_ok());
    let plain = world.admin.get(&format!("/api/v1/vms/{}/console", world.vm)).await;
    assert!(plain.error().starts_with("a console is a WebSocket"), "{}", plain.text);
    assert_eq!(world.admin.get("/api/v1/vms/v99/console").await.status, axum::http::StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_the_host_that_carries_it_brings_it_and_once() {
    let world = world().await;
    let stranger = host(&world.admin.site, world.nodes, 2).await;
    let mut socket = world.open(&world.admin.token).await;
    let console = world.host.asked().await;
    assert!(stranger.desired(None).await.consoles.is_empty());
    let (head, _) = stranger.bring(&console).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    // Nor as the other.
    let pretends = Host { id: world.host.id, ..stranger };
    let (head, _) = pretends.bring(&console).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let plain =
        format!("GET /node/{}/console/{} HTTP/1.1\r\nHost: a\r\n\r\n", world.host.id, console.console);
    assert!(world.host.ask(&plain).await.0.starts_with("HTTP/1.1 426"));

    let (head, _line) = world.host.bring(&console).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (head, _) = world.host.bring(&console).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(next(&mut socket).await, Message::text("open"));

    // Why there is none is told to who waits.
    let mut socket = world.open(&world.admin.token).await;
    let console = world.host.asked().await;
    let body = json!({ "error": "web does not run" }).to_string();
    let line = format!("POST /node/{}/console/{} HTTP/1.1\r\nHost: a", world.host.id, console.console);
    let kind = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
    let (head, _) = world.host.ask(&format!("{line}\r\n{kind}\r\n\r\n{body}")).await;
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    assert_eq!(closed(&mut socket).await, (4000, "web does not run".to_owned()));
}

#[tokio::test]
async fn it_ends_with_the_right_to_it() {
    let world = world().await;
    let otto = world.user("otto", "operator").await;
    let ada = world.user("ada", "operator").await;
    let (mut of_otto, mut line) = world.opened(&otto).await;
    let (mut of_ada, _line) = world.opened(&ada).await;
    world.admin.site.app.auth.logout(&otto).await.unwrap();
    assert_eq!(closed(&mut of_otto).await, (4000, "the session is over".to_owned()));
    is_let_go(&mut line).await;
    world.admin.put("/api/v1/users/ada/role", json!({ "role": "viewer" })).await;
    assert_eq!(closed(&mut of_ada).await, (4000, "this takes an operator".to_owned()));

    let (mut socket, _line) = world.opened(&world.admin.token).await;
    let gone = world.admin.delete(&format!("/api/v1/vms/{}", world.vm)).await;
    assert!(gone.status.is_success(), "{}", gone.text);
    let refused = world.open_with(&[("authorization", &format!("Bearer {}", world.admin.token))]).await;
    assert_eq!(refused.err().unwrap().0, 409, "it is being removed");
    world.admin.delete(&format!("/api/v1/vms/{}?force=true", world.vm)).await;
    assert_eq!(closed(&mut socket).await, (4000, "the VM was removed".to_owned()));
}

#[tokio::test]
async fn what_a_machine_says_in_its_initrd_is_seen_by_viewers() {
    let world = world().await;
    let says = async |lines: &[&str]| {
        let body = json!({ "lines": lines }).to_string();
        let kind = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
        let head = format!("POST /node/said HTTP/1.1\r\nHost: a\r\n{kind}\r\n\r\n{body}");
        world.host.ask(&head).await.0
    };
    assert!(says(&["[    0.000000] Linux version 6.12"]).await.starts_with("HTTP/1.1 204"));
    let viewer = format!("Bearer {}", world.user("vera", "viewer").await);
    let path = format!("machines/{}/said", world.host.id);
    let mut socket = world.open_at(&path, &[("authorization", &viewer)]).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text("open"));
    assert_eq!(next(&mut socket).await, Message::binary(&b"[    0.000000] Linux version 6.12\r\n"[..]));
    // There is nothing to type into.
    socket.send(Message::text("rm -rf /\r")).await.unwrap();
    says(&[" * downloading the system: 40 %", "\u{1b}[2J"]).await;
    let wanted = Message::binary(&b" * downloading the system: 40 %\r\n [2J\r\n"[..]);
    assert_eq!(next(&mut socket).await, wanted);

    assert_eq!(world.open_at(&path, &[]).await.err().unwrap().0, 401);
    let narrow = format!("Bearer {}", world.token("operator", "vms").await);
    assert_eq!(world.open_at(&path, &[("authorization", &narrow)]).await.err().unwrap().0, 403);
    assert!(says(&[&"x".repeat(300 << 10)]).await.starts_with("HTTP/1.1 413"));
    assert!(world.timeline().await.is_empty());
    // A key that nobody knows is not listened to.
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls = trust(&world.admin.site).with_client_auth_cert(vec![own.der().clone()], secret).unwrap();
    let stranger = Host { id: world.host.id, tls: Arc::new(tls), nodes: world.nodes };
    let body = r#"{"lines":["hello"]}"#;
    let kind = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
    let head = format!("POST /node/said HTTP/1.1\r\nHost: a\r\n{kind}\r\n\r\n{body}");
    assert!(stranger.ask(&head).await.0.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn a_machine_without_a_bmc_has_no_serial_line() {
    let world = world().await;
    let viewer = format!("Bearer {}", world.user("vera", "viewer").await);
    let path = format!("machines/{}/console", world.host.id);
    assert_eq!(world.open_at(&path, &[("authorization", &viewer)]).await.err().unwrap().0, 403);
    let admin = format!("Bearer {}", world.admin.token);
    let mut socket = world.open_at(&path, &[("authorization", &admin)]).await.unwrap();
    let (number, why) = closed(&mut socket).await;
    assert!(number == 4000 && why.contains("has no BMC that could bring its serial line"), "{why}");
}

#[tokio::test]
async fn hostile_hands_are_held() {
    let world = world().await;
    // More than a message may have.
    let (mut socket, mut line) = world.opened(&world.admin.token).await;
    // The appliance may hang up before it has taken all of it.
    let _ = socket.send(Message::binary(vec![b'x'; 1 << 20])).await;
    let mut seen = Vec::new();
    let _ = within(line.read_to_end(&mut seen)).await;
    assert!(seen.is_empty(), "{}", seen.len());

    // More consoles than there may be.
    let mut open = Vec::new();
    for _ in 0..appliance::consoles::MOST_OF_ONE {
        open.push(world.opened(&world.admin.token).await);
    }
    let mut one_more = world.open(&world.admin.token).await;
    let (number, why) = closed(&mut one_more).await;
    assert!(number == 4000 && why.starts_with("this console is open 4 times"), "{why}");

    // One who does not read holds the machine's words back for himself, and is let go in the end.
    let (_deaf, mut line) = open.pop().unwrap();
    let piece = vec![b'.'; 64 << 10];
    let mut written = 0;
    let talks = async {
        while line.write_all(&piece).await.is_ok() {
            written += piece.len();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), talks).await.expect("it is never let go");
    assert!(written < 64 << 20, "{written}");
    // The others never noticed.
    let (socket, line) = &mut open[0];
    line.write_all(b"still here").await.unwrap();
    assert_eq!(next(socket).await, Message::binary(&b"still here"[..]));
}
