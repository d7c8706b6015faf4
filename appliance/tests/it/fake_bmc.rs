//! A BMC that speaks Redfish over TLS and does what a test wants of it, good or bad.

use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;

pub const USER: &str = "admin";
pub const PASSWORD: &str = "planted-4711";
pub const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// The head as it came, in lower case.
    pub head: String,
    pub body: Value,
}

pub enum Reply {
    Json(u16, Vec<(&'static str, String)>, Value),
    Hang,
    /// Half of an answer, and the connection is closed.
    Half,
    Megabytes,
    /// Once everybody is there.
    After(Arc<Barrier>, Box<Reply>),
}

/// What the machine is, and what came to its BMC.
#[derive(Debug, Default)]
pub struct World {
    pub power: String,
    pub boot: Value,
    pub light: String,
    pub sessions: Vec<String>,
    pub logins: u32,
    pub requests: Vec<Request>,
    pub at_once: u32,
    pub most_at_once: u32,
}

pub struct Fake {
    pub address: String,
    /// SHA-256 of its certificate, hexadecimal.
    pub certificate: String,
    pub world: Arc<Mutex<World>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// A good one of the machine with this number, which says whose it is.
    pub async fn of_machine(number: u128) -> Fake {
        Fake::start(move |request, world| {
            if (request.method.as_str(), request.path.as_str()) != ("GET", "/redfish/v1/Systems/1") {
                return None;
            }
            let mut system = system(world);
            system["UUID"] = uuid::Uuid::from_u128(number).to_string().into();
            Some(ok(system))
        })
        .await
    }

    /// `behave` answers what it wants to; the rest is answered as a good BMC does.
    pub async fn start(
        behave: impl Fn(&Request, &mut World) -> Option<Reply> + Send + Sync + 'static,
    ) -> Fake {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["bmc".to_owned()]).unwrap().self_signed(&key).unwrap();
        let certificate = certificate.der().clone();
        let sha256 = hex::encode(Sha256::digest(&certificate));
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let world = Arc::new(Mutex::new(World {
            power: "On".to_owned(),
            boot: json!({ "BootSourceOverrideMode": "UEFI", "BootSourceOverrideTarget": "None" }),
            light: "Off".to_owned(),
            ..World::default()
        }));
        let (behave, shared) = (Arc::new(behave), Arc::clone(&world));
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (acceptor, behave, world) = (acceptor.clone(), Arc::clone(&behave), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let Some(request) = read(&mut stream).await else { return };
                    let reply = {
                        let mut world = world.lock().unwrap();
                        world.requests.push(request.clone());
                        world.at_once += 1;
                        world.most_at_once = world.most_at_once.max(world.at_once);
                        let own = behave(&request, &mut world);
                        own.unwrap_or_else(|| well_behaved(&request, &mut world))
                    };
                    let bytes = bytes_of(reply).await;
                    world.lock().unwrap().at_once -= 1;
                    // Whoever has heard enough goes away.
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Fake { address, certificate: sha256, world, task }
    }

    pub fn requests(&self, method: &str) -> usize {
        self.world.lock().unwrap().requests.iter().filter(|request| request.method == method).count()
    }
}

async fn bytes_of(reply: Reply) -> Vec<u8> {
    let mut reply = reply;
    while let Reply::After(barrier, then) = reply {
        barrier.wait().await;
        reply = *then;
    }
    match reply {
        Reply::Json(status, headers, body) => {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let mut head =
                format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            format!("{head}\r\n{body}").into_bytes()
        }
        Reply::Hang => std::future::pending().await,
        Reply::Half => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"PowerState\": \"Off\"".to_vec(),
        Reply::Megabytes => {
            let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 16777216\r\n\r\n".to_vec();
            bytes.resize(bytes.len() + (16 << 20), b' ');
            bytes
        }
        Reply::After(..) => unreachable!("taken off above"),
    }
}

pub fn ok(body: Value) -> Reply {
    Reply::Json(200, Vec::new(), body)
}

pub fn status(status: u16) -> Reply {
    let error = json!({ "error": { "@Message.ExtendedInfo": [{ "Message": "The fake says no." }] } });
    Reply::Json(status, Vec::new(), error)
}

pub fn system(world: &World) -> Value {
    json!({
        "@odata.id": "/redfish/v1/Systems/1",
        "Id": "1",
        "UUID": UUID.to_ascii_uppercase(),
        "Manufacturer": "Fake Inc.",
        "Model": "F1",
        "SerialNumber": "4711",
        "PowerState": world.power,
        "Boot": world.boot,
        "IndicatorLED": world.light,
        "Actions": { "#ComputerSystem.Reset": {
            "target": "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
            "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "GracefulShutdown"],
        } },
    })
}

fn well_behaved(request: &Request, world: &mut World) -> Reply {
    if (request.method.as_str(), request.path.as_str()) == ("POST", "/redfish/v1/SessionService/Sessions") {
        world.logins += 1;
        if request.body != json!({ "UserName": USER, "Password": PASSWORD }) {
            return status(401);
        }
        let token = format!("token-{}", world.logins);
        world.sessions.push(token.clone());
        let place = format!("/redfish/v1/SessionService/Sessions/{}", world.logins);
        return Reply::Json(201, vec![("X-Auth-Token", token), ("Location", place)], json!({}));
    }
    if request.path == "/redfish/v1/" {
        return ok(json!({
            "Systems": { "@odata.id": "/redfish/v1/Systems" },
            "Links": { "Sessions": { "@odata.id": "/redfish/v1/SessionService/Sessions" } },
        }));
    }
    if !world.sessions.iter().any(|token| request.head.contains(&format!("x-auth-token: {token}\r\n"))) {
        return status(401);
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("DELETE", _) => {
            world.sessions.retain(|token| !request.head.contains(&format!("x-auth-token: {token}\r\n")));
            Reply::Json(204, Vec::new(), Value::Null)
        }
        ("GET", "/redfish/v1/Systems") => {
            ok(json!({ "Members": [{ "@odata.id": "/redfish/v1/Systems/1" }] }))
        }
        ("GET", "/redfish/v1/Systems/1") => ok(system(world)),
        ("PATCH", "/redfish/v1/Systems/1") => {
            if let Some(light) = request.body["IndicatorLED"].as_str() {
                light.clone_into(&mut world.light);
            }
            if let Some(boot) = request.body["Boot"].as_object() {
                for (key, value) in boot {
                    world.boot[key] = value.clone();
                }
            }
            Reply::Json(204, Vec::new(), Value::Null)
        }
        ("POST", "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset") => {
            world.power = match request.body["ResetType"].as_str() {
                Some("ForceOff") if world.power == "On" => "Off".to_owned(),
                Some("On" | "ForceOn") if world.power == "Off" => "On".to_owned(),
                _ => return status(409),
            };
            Reply::Json(204, Vec::new(), Value::Null)
        }
        _ => status(404),
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        if let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = bytes.split_off(end);
    let missing = length.unwrap_or(0usize).saturating_sub(body.len());
    let mut rest = vec![0; missing];
    stream.read_exact(&mut rest).await.ok()?;
    body.extend_from_slice(&rest);
    Some(Request { method, path, head, body: serde_json::from_slice(&body).unwrap_or_default() })
}
