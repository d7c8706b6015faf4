//! A pull-through cache of a Debian mirror: what one machine has installed, the next one gets from here.
//!
//! ```text
//! /debian/dists/…   may change: asked for again each time (ETag, If-Modified-Since); what is kept, if nobody answers
//! /debian/pool/…    never changes; also dists/…/by-hash/…
//! ```
//!
//! Nothing is altered, so the signatures of Debian hold and are checked by the machines that install. A file that is
//! asked for by several machines at once is downloaded once, and goes to all of them while it comes. What a signed
//! index says of a file (size, SHA-256) is looked at before the file is kept, and before its last byte leaves.

mod download;
mod store;
mod sums;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use download::{Downloads, Outcome};
use futures::TryStreamExt as _;
use store::{Meta, Store};

/// What is asked of the mirror, and where its files are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `http://deb.debian.org/debian`
    pub upstream: String,
    pub folder: std::path::PathBuf,
    /// Most that is kept; past it what was used longest ago goes.
    pub limit: u64,
    /// Space of the disk that is left alone.
    pub reserve: u64,
}

/// What a machine that asks the mirror for a file has instead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble<'a> {
    Missing,
    /// It is not the one of Debian's index, or broke off.
    Garbage(&'a str),
}

/// Is told who asked for a file that the mirror does not give, its path, and why.
pub type Tell = Box<dyn Fn(IpAddr, &str, Trouble<'_>) + Send + Sync>;

/// An installer asks again every few seconds; so often a person is told.
const TOLD: Duration = Duration::from_secs(3600);
/// Of so many files; more than that is a flood.
const MOST_TOLD: usize = 1000;

pub struct Mirror {
    store: Arc<Store>,
    downloads: Downloads,
    http: reqwest::Client,
    upstream: String,
    tell: Tell,
    told: Mutex<HashMap<(IpAddr, String), Instant>>,
}

impl Mirror {
    pub fn open(settings: &Settings, tell: Tell) -> anyhow::Result<Arc<Mirror>> {
        // Fails if it was done before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60))
            .user_agent(concat!("elisandra/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let store = Arc::new(Store::open(&settings.folder, settings.limit, settings.reserve)?);
        let downloads = Downloads::new(Arc::clone(&store), http.clone());
        let upstream = settings.upstream.trim_end_matches('/').to_owned();
        Ok(Arc::new(Mirror { store, downloads, http, upstream, tell, told: Mutex::default() }))
    }

    fn tell(&self, from: IpAddr, path: &str, trouble: Trouble<'_>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| at.elapsed() < TOLD);
        if told.len() < MOST_TOLD && told.insert((from, path.to_owned()), Instant::now()).is_none() {
            (self.tell)(from, path, trouble);
        }
    }
}

/// Listens on an address that the interface need not have yet.
pub fn listen(place: std::net::SocketAddrV4) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_freebind_v4(true)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&place.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Answers until `shutdown` is cancelled.
pub async fn serve(
    listener: TcpListener,
    mirror: Arc<Mirror>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let app = Router::new().fallback(answer).with_state(mirror);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).with_graceful_shutdown(async move { shutdown.cancelled().await }).await
}

async fn answer(
    State(mirror): State<Arc<Mirror>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = request.uri().path().strip_prefix("/debian/").and_then(plain);
    let Some(path) = path.filter(|path| is_of_a_mirror(path)) else {
        return missing();
    };
    let kept = mirror.store.meta(&path).await;
    let response = match kept {
        Some(meta) if never_changes(&path) || meta.is_fresh() => mirror.kept(&path, request, false).await,
        kept => mirror.fetched(&path, kept, request, from.ip()).await,
    };
    // Which releases there are is tried out by installers; a package is what an index has named.
    if response.status() == StatusCode::NOT_FOUND && path.starts_with("pool/") {
        mirror.tell(from.ip(), &path, Trouble::Missing);
    }
    response
}

impl Mirror {
    /// From the disk.
    async fn kept(&self, path: &str, request: Request, stale: bool) -> Response {
        self.store.used(path);
        // It knows ranges and If-Modified-Since.
        let served = ServeFile::new(self.store.file(path)).oneshot(request).await;
        let Ok(mut response) = served.map(|response| response.map(Body::new));
        if stale {
            // RFC 7234, 5.5.1: a person who looks sees why it is old.
            let warning = HeaderValue::from_static("110 - \"the mirror does not answer\"");
            response.headers_mut().insert(header::WARNING, warning);
        }
        response
    }

    /// From the mirror, through the disk.
    async fn fetched(
        self: &Arc<Self>,
        path: &str,
        kept: Option<Meta>,
        request: Request,
        from: IpAddr,
    ) -> Response {
        let url = format!("{}/{path}", self.upstream);
        let is_kept = kept.is_some();
        match self.downloads.get(path, &url, kept).await {
            Outcome::Kept => self.kept(path, request, false).await,
            Outcome::Away(why) if is_kept => {
                tracing::warn!("{url} cannot be reached, what is kept is served: {why}");
                self.kept(path, request, true).await
            }
            Outcome::Away(why) => {
                tracing::warn!("{url} cannot be reached: {why}");
                (StatusCode::BAD_GATEWAY, "the mirror does not answer\n").into_response()
            }
            Outcome::Missing => missing(),
            Outcome::Garbage(why) => {
                tracing::warn!("{url} is not kept: {why}");
                self.tell(from, path, Trouble::Garbage(&why));
                (StatusCode::BAD_GATEWAY, format!("the mirror gave something else: {why}\n")).into_response()
            }
            Outcome::Coming(download) => {
                let mut response = Response::new(if *request.method() == Method::HEAD {
                    Body::empty()
                } else {
                    let (mirror, path) = (Arc::clone(self), path.to_owned());
                    let came = download.clone().follow(self.http.clone(), url);
                    Body::from_stream(came.inspect_err(move |why| {
                        mirror.tell(from, &path, Trouble::Garbage(&why.to_string()));
                    }))
                });
                if let Some(bytes) = download.bytes {
                    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
                }
                pass(&download.headers, response.headers_mut());
                response
            }
            Outcome::PassThrough(upstream) => {
                let headers = upstream.headers().clone();
                let mut response = Response::new(Body::from_stream(upstream.bytes_stream()));
                if let Some(length) = headers.get(header::CONTENT_LENGTH) {
                    response.headers_mut().insert(header::CONTENT_LENGTH, length.clone());
                }
                pass(&headers, response.headers_mut());
                response
            }
        }
    }
}

fn pass(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [header::CONTENT_TYPE, header::LAST_MODIFIED] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

fn missing() -> Response {
    (StatusCode::NOT_FOUND, "there is no such file\n").into_response()
}

/// With `+` for `%2b`: apt writes it so and debootstrap does not, and it is one file, as the index names it.
fn plain(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut plain = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16)?.try_into().ok();
                let (high, low): (u8, u8) = (digit(bytes.next())?, digit(bytes.next())?);
                high << 4 | low
            }
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

/// A plain path below `dists` or `pool`: it is one of a file below our folder, too.
fn is_of_a_mirror(path: &str) -> bool {
    let plain = |part: &str| {
        (1..=200).contains(&part.len())
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-~:=".contains(&b))
            && !part.ends_with(store::META)
    };
    path.len() <= 1000
        && (path.starts_with("dists/") || path.starts_with("pool/"))
        && path.split('/').all(plain)
}

fn never_changes(path: &str) -> bool {
    path.starts_with("pool/") || path.contains("/by-hash/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_a_mirror_are_asked_for() {
        for good in [
            "pool/main/h/hello/hello_2.10-3_amd64.deb",
            "dists/trixie/InRelease",
            "dists/trixie/main/binary-amd64/by-hash/SHA256/ab12",
            "pool/main/libs/libstdc++6_2~rc1_amd64.deb",
        ] {
            assert!(is_of_a_mirror(good), "{good}");
        }
        for bad in [
            "",
            "pool",
            "etc/passwd",
            "pool/../../etc/passwd",
            "pool//x",
            "pool/./x",
            "pool/.incoming",
            "pool/a b",
            "pool/a%2fb",
            "pool/a?b",
            "pool/a\nb",
            "dists/trixie/Release.elimeta",
            &format!("pool/{}", "x/".repeat(1000)),
        ] {
            assert!(!is_of_a_mirror(bad), "{bad}");
        }
        assert_eq!(plain("pool/libstdc%2b%2B6_1%7erc1.deb").unwrap(), "pool/libstdc++6_1~rc1.deb");
        for bad in ["pool/%", "pool/%2", "pool/%+2", "pool/%ff"] {
            assert_eq!(plain(bad), None, "{bad}");
        }
        assert!(!is_of_a_mirror(&plain("pool/%2e%2e/x").unwrap()));
        assert!(!is_of_a_mirror(&plain("pool/%252e/x").unwrap()));
        assert!(never_changes("dists/trixie/main/by-hash/SHA256/ab"));
        assert!(!never_changes("dists/trixie/Release"));
    }
}
