//! Plain HTTP for boot loaders, kernels and machines that do not know our certificate yet.
//!
//! ```text
//! /boot/MAC/script.ipxe     iPXE's script          /boot/files/NAME   artifacts and boot loaders
//! /boot/MAC/grub.cfg        GRUB's configuration   /boot/ca.pem       the CA's certificate
//! /grub/…/grub.cfg          where GRUB looks first when firmware loaded it over HTTP
//! ```
//! Everything else is sent on to HTTPS.

mod file;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Boot, Directory, MacAddr, Note, Step,
    folder::{self, NoFile},
    kickstart::Sha256,
    script::{self, NoScript, ScriptFacts},
    step::{Loader, Protocol, Sent},
    transfer::Transfer,
};

/// What the HTTP server gives away.
pub struct Files {
    /// The appliance, as machines reach it.
    pub address: Ipv4Addr,
    pub artifacts: PathBuf,
    pub loaders: PathBuf,
    pub ca_pem: String,
    pub ca_sha256: Sha256,
    pub directory: Arc<dyn Directory>,
}

/// Connections that are open at a time. Past it machines wait to be accepted.
const AT_ONCE: usize = 4096;

/// Answers on `listener` until `shutdown` is cancelled. That breaks transfers off: whoever waits for
/// them asks again.
pub async fn serve(listener: TcpListener, files: Files, shutdown: CancellationToken) -> io::Result<()> {
    let app = router(files);
    let mut http = hyper::server::conn::http1::Builder::new();
    http
        // GRUB knows `Content-Length: ` and not `content-length: `; without it, it waits for half a
        // minute for the connection to be closed.
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30));
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut connections = JoinSet::new();
    loop {
        let (stream, from, place) = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(ended) = connections.join_next() => {
                ended.map_err(io::Error::other)?;
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        let app = app.clone().layer(Extension(ConnectInfo(from)));
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
        connections.spawn(async move {
            // Machines break connections off all the time: when they reset, and when they have what they need.
            if let Err(error) = connection.await {
                tracing::trace!("HTTP connection of {from}: {error}");
            }
            drop(place);
        });
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always is a place in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => return (stream, from, place),
            // A client that is gone again, or no file descriptor left: neither ends the server.
            Err(error) => {
                tracing::debug!("Accepting an HTTP connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn router(files: Files) -> Router {
    Router::new()
        .route("/boot/{mac}/script.ipxe", get(ipxe_script))
        .route("/boot/{mac}/grub.cfg", get(grub_config))
        .route("/boot/files/{*name}", get(file))
        .route("/boot/ca.pem", get(ca))
        .route("/grub/{*name}", get(grub_search))
        .fallback(to_https)
        .with_state(Arc::new(files))
}

async fn ipxe_script(
    state: State<Arc<Files>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    method: Method,
    Path(mac): Path<String>,
) -> Response {
    state.script(Loader::Ipxe, from, &method, mac.parse().ok(), script::ipxe).await
}

async fn grub_config(
    state: State<Arc<Files>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    method: Method,
    Path(mac): Path<String>,
) -> Response {
    state.script(Loader::Grub, from, &method, mac.parse().ok(), script::grub).await
}

async fn grub_search(state: State<Arc<Files>>, Path(name): Path<String>) -> Response {
    // Modules and lists are built into the signed GRUB; it does without the files.
    if name.ends_with("grub.cfg") { text(script::grub_start(state.address)) } else { missing() }
}

async fn ca(state: State<Arc<Files>>) -> Response {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], state.ca_pem.clone()).into_response()
}

async fn file(
    State(state): State<Arc<Files>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let opened = tokio::task::spawn_blocking({
        let (state, name) = (Arc::clone(&state), name.clone());
        move || match folder::open(&state.artifacts, &name) {
            // Firmware that boots over HTTP takes shim from here, and shim takes GRUB.
            Err(NoFile::Missing) => folder::open(&state.loaders, folder::loader(&name)),
            found => found,
        }
    });
    let opened = opened.await.unwrap_or_else(|error| Err(NoFile::Io(io::Error::other(error))));
    let (file, metadata) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let sent = if matches!(error, NoFile::Missing) {
                Sent::Missing
            } else {
                Sent::Refused { reason: error.sentence() }
            };
            state.note(from, None, Step::File { protocol: Protocol::Http, name: format!("{name:?}"), sent });
            return match error {
                NoFile::Missing | NoFile::Outside => missing(),
                NoFile::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, "it cannot be read\n").into_response(),
            };
        }
    };
    let transfer = |bytes| Transfer {
        directory: Arc::clone(&state.directory),
        address: from.ip(),
        protocol: Protocol::Http,
        name: name.trim_start_matches('/').to_owned(),
        bytes,
        sent: 0,
        since: Instant::now(),
    };
    file::respond(file, &metadata, request.method(), &headers, transfer).await
}

/// Whoever comes here with a browser is meant for the page.
async fn to_https(state: State<Arc<Files>>, headers: HeaderMap, uri: Uri) -> Response {
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = asked.split(':').next().unwrap_or_default();
    let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let host = if good { name.to_owned() } else { state.address.to_string() };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, format!("https://{host}{path}"))]).into_response()
}

impl Files {
    async fn script(
        &self,
        loader: Loader,
        from: SocketAddr,
        method: &Method,
        mac: Option<MacAddr>,
        render: fn(&ScriptFacts, MacAddr, &Boot) -> Result<String, NoScript>,
    ) -> Response {
        let Some(mac) = mac else {
            self.note(from, None, Step::Refused { what: format!("{loader} script: whose is not known") });
            return missing();
        };
        let boot = self.directory.boot(mac);
        let image = if matches!(boot, Boot::Live | Boot::Rescue) { self.image().await } else { None };
        let facts = ScriptFacts { address: self.address, ca: self.ca_sha256.clone(), image };
        match render(&facts, mac, &boot) {
            Ok(script) => {
                // GRUB over EDK2's HTTP asks for the length first.
                if *method == Method::GET {
                    self.note(from, Some(mac), Step::Script { loader, boots: boot.to_string() });
                }
                text(script)
            }
            Err(error) => {
                self.note(from, Some(mac), Step::Refused { what: format!("{loader} script: {error}") });
                // An error would end in the firmware's next device, or at a prompt.
                text(match loader {
                    Loader::Ipxe => script::ipxe_trouble(&facts, mac, &error),
                    Loader::Grub => script::grub_trouble(&error),
                })
            }
        }
    }

    /// The checksum of live.squashfs. Read each time: the artifacts may be replaced while we run.
    async fn image(&self) -> Option<Sha256> {
        #[derive(Deserialize)]
        struct Manifest {
            files: std::collections::BTreeMap<String, Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            sha256: String,
        }
        let path = self.artifacts.join("manifest.json");
        let manifest = match tokio::fs::read(&path).await {
            Ok(manifest) => manifest,
            Err(error) => {
                tracing::warn!("Reading {}: {error}", path.display());
                return None;
            }
        };
        let manifest = serde_json::from_slice::<Manifest>(&manifest)
            .inspect_err(|error| tracing::warn!("Reading {}: {error}", path.display()))
            .ok()?;
        manifest.files.get("live.squashfs")?.sha256.parse().ok()
    }

    fn note(&self, from: SocketAddr, mac: Option<MacAddr>, step: Step) {
        self.directory.note(Note { mac, address: Some(from.ip()), step });
    }
}

/// EDK2's HTTP client waits for a body even where the length says that there is none: with an empty
/// one, shim spends half a minute on each of the files that it looks for and that need not be there.
fn missing() -> Response {
    (StatusCode::NOT_FOUND, "there is no such file\n").into_response()
}

fn text(body: String) -> Response {
    // A boot script is true now and not later.
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], body)
        .into_response()
}
