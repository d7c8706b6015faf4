//! The cache of the Debian mirror, with a mirror that counts, changes, breaks off, lies and goes away.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appliance::mirror::{Mirror, Settings, Tell, serve};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Kept {
    body: Bytes,
    kind: &'static str,
    /// Of the length that it says.
    sent: usize,
    slow: bool,
    etag: &'static str,
}

#[derive(Default)]
struct Upstream {
    files: Mutex<HashMap<String, Kept>>,
    asked: Mutex<Vec<String>>,
    away: Mutex<bool>,
}

impl Upstream {
    fn put(&self, path: &str, body: &[u8]) {
        self.put_as(path, body, |_| {});
    }

    fn put_as(&self, path: &str, body: &[u8], change: impl FnOnce(&mut Kept)) {
        let body = Bytes::copy_from_slice(body);
        let mut kept =
            Kept { sent: body.len(), body, kind: "application/octet-stream", slow: false, etag: "\"1\"" };
        change(&mut kept);
        self.files.lock().unwrap().insert(format!("/debian/{path}"), kept);
    }

    /// How often a file was sent.
    fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| **asked == format!("/debian/{path}")).count()
    }
}

async fn upstream(State(upstream): State<Arc<Upstream>>, request: Request) -> Response {
    if *upstream.away.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let path = request.uri().path().to_owned();
    let Some(kept) = upstream.files.lock().unwrap().get(&path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if request.headers().get(header::IF_NONE_MATCH).is_some_and(|etag| etag == kept.etag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    upstream.asked.lock().unwrap().push(path);
    let pieces: Vec<Bytes> = kept.body[..kept.sent].chunks(10_000).map(Bytes::copy_from_slice).collect();
    let (slow, length, cut) = (kept.slow, kept.body.len(), kept.sent < kept.body.len());
    let pieces = futures::stream::iter(pieces).then(move |piece| async move {
        if slow {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::io::Result::Ok(piece)
    });
    let end = futures::stream::iter(cut.then(|| Err(std::io::Error::other("cut"))));
    let mut response = Response::new(Body::from_stream(pieces.chain(end)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CONTENT_TYPE, kept.kind.parse().unwrap());
    headers.insert(header::ETAG, kept.etag.parse().unwrap());
    response
}

struct World {
    upstream: Arc<Upstream>,
    from: SocketAddr,
    cache: SocketAddr,
    folder: tempfile::TempDir,
    /// Packages that somebody wanted and the mirror has not.
    troubles: Arc<Mutex<Vec<String>>>,
    shutdown: CancellationToken,
}

impl World {
    async fn new(limit: u64) -> World {
        World::with(limit, 0).await
    }

    async fn with(limit: u64, reserve: u64) -> World {
        let files = Arc::new(Upstream::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let from = listener.local_addr().unwrap();
        let app = Router::new().fallback(upstream).with_state(Arc::clone(&files));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let troubles = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&troubles);
        let tell: Tell = Box::new(move |from, path, trouble| {
            assert!(from.is_loopback());
            told.lock().unwrap().push(format!("{path}: {trouble:?}"));
        });
        let cache = start(from, folder.path(), limit, reserve, tell, &shutdown).await;
        World { upstream: files, from, cache, folder, troubles, shutdown }
    }

    async fn again(&mut self, limit: u64) {
        self.shutdown.cancel();
        self.shutdown = CancellationToken::new();
        let tell: Tell = Box::new(|_, _, _| ());
        self.cache = start(self.from, self.folder.path(), limit, 0, tell, &self.shutdown).await;
    }

    async fn get(&self, path: &str) -> Result<(u16, Bytes), ()> {
        let response = reqwest::get(format!("http://{}/debian/{path}", self.cache)).await.map_err(|_| ())?;
        let status = response.status().as_u16();
        Ok((status, response.bytes().await.map_err(|_| ())?))
    }

    fn is_kept(&self, path: &str) -> bool {
        self.folder.path().join(path).exists()
    }
}

async fn start(
    from: SocketAddr,
    folder: &Path,
    limit: u64,
    reserve: u64,
    tell: Tell,
    shutdown: &CancellationToken,
) -> SocketAddr {
    let upstream = format!("http://{from}/debian");
    let settings = Settings { upstream, folder: folder.to_owned(), limit, reserve };
    let mirror = Mirror::open(&settings, tell).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, mirror, shutdown.clone()));
    address
}

fn deb(bytes: usize) -> Vec<u8> {
    let mut deb = b"!<arch>\n".to_vec();
    deb.resize(bytes, b'x');
    deb
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

const LARGE: u64 = 1 << 30;

#[tokio::test]
async fn a_package_is_downloaded_once_for_all_who_ask_while_it_comes() {
    let mut world = World::new(LARGE).await;
    let body = deb(300_000);
    world.upstream.put_as("pool/a.deb", &body, |kept| kept.slow = true);
    let wanted = (0..20).map(|_| world.get("pool/a.deb"));
    for got in futures::future::join_all(wanted).await {
        assert_eq!(got, Ok((200, Bytes::from(body.clone()))));
    }
    assert_eq!(world.get("pool/a.deb").await, Ok((200, Bytes::from(body.clone()))));
    assert_eq!(world.upstream.asked("pool/a.deb"), 1);
    world.again(LARGE).await;
    *world.upstream.away.lock().unwrap() = true;
    assert_eq!(world.get("pool/a.deb").await, Ok((200, Bytes::from(body))));
    assert_eq!(world.get("pool/b.deb").await.unwrap().0, 502);
}

#[tokio::test]
async fn a_file_is_one_however_its_name_is_written() {
    let world = World::new(LARGE).await;
    let path = "pool/main/g/gcc-14/libstdc++6_14.2.0-19_amd64.deb";
    let body = deb(100_000);
    let index =
        format!("Package: libstdc++6\nFilename: {path}\nSize: {}\nSHA256: {}\n", body.len(), sum(b"other"));
    world.upstream.put("dists/trixie/main/binary-amd64/Packages", index.as_bytes());
    world.upstream.put(path, &body);
    let escaped = path.replace('+', "%2b");
    assert_eq!(world.get(&escaped).await, Ok((200, Bytes::from(body.clone()))));
    assert_eq!(world.get(path).await, Ok((200, Bytes::from(body))));
    assert_eq!(world.upstream.asked(path), 1);

    let world = World::new(LARGE).await;
    world.upstream.put("dists/trixie/main/binary-amd64/Packages", index.as_bytes());
    world.upstream.put(path, &deb(100_000));
    world.get("dists/trixie/main/binary-amd64/Packages").await.unwrap();
    assert_eq!(world.get(&escaped).await, Err(()), "its sum is not that of the index");
}

#[tokio::test]
async fn it_is_told_once_what_the_mirror_does_not_give() {
    let world = World::new(LARGE).await;
    assert_eq!(world.get("dists/forky/Release").await.unwrap().0, 404);
    assert_eq!(world.get("pool/main/k/kernel-image_1%2b2.udeb").await.unwrap().0, 404);
    // A mirror in the middle of its own update: an installer asks again and again.
    let release = format!("SHA256:\n {} 9 main/binary-amd64/Release\n", sum(b"right one"));
    world.upstream.put("dists/trixie/Release", release.as_bytes());
    world.get("dists/trixie/Release").await.unwrap();
    world.upstream.put("dists/trixie/main/binary-amd64/Release", b"wrong one");
    for _ in 0..3 {
        assert!(world.get("dists/trixie/main/binary-amd64/Release").await.is_err());
    }
    assert_eq!(
        *world.troubles.lock().unwrap(),
        [
            "pool/main/k/kernel-image_1+2.udeb: Missing",
            "dists/trixie/main/binary-amd64/Release: Garbage(\"its SHA-256 is not what Debian's index says\")",
        ]
    );
}

#[tokio::test]
async fn who_asks_late_has_what_is_there_before_the_rest_comes() {
    let world = World::new(LARGE).await;
    world.upstream.put_as("pool/a.deb", &deb(1_000_000), |kept| kept.slow = true);
    let mut first = reqwest::get(format!("http://{}/debian/pool/a.deb", world.cache)).await.unwrap();
    let start = std::time::Instant::now();
    assert!(first.chunk().await.unwrap().is_some());
    assert!(start.elapsed() < Duration::from_secs(1), "the whole takes two seconds");
    let ranged = reqwest::Client::new().get(format!("http://{}/debian/pool/a.deb", world.cache));
    drop(first);
    assert_eq!(world.get("pool/a.deb").await.unwrap().1.len(), 1_000_000);
    let part = ranged.header("range", "bytes=999990-").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().len()), (206, 10));
    assert_eq!(world.upstream.asked("pool/a.deb"), 1, "a client that goes away does not end it");
}

#[tokio::test]
async fn indices_are_asked_for_again_and_served_stale_when_nobody_answers() {
    let mut world = World::new(LARGE).await;
    let path = "dists/trixie/InRelease";
    world.upstream.put(path, b"-----BEGIN PGP SIGNED MESSAGE-----\none");
    assert!(world.get(path).await.unwrap().1.ends_with(b"one"));
    world.again(LARGE).await;
    let old = |world: &World| {
        let meta = world.folder.path().join(format!("{path}.elimeta"));
        let text = std::fs::read_to_string(&meta).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["asked_at"] = 0.into();
        std::fs::write(meta, json.to_string()).unwrap();
    };
    old(&world);
    assert!(world.get(path).await.unwrap().1.ends_with(b"one"));
    assert_eq!(world.upstream.asked(path), 1, "304: not sent again");
    world.upstream.put_as(path, b"-----BEGIN PGP SIGNED MESSAGE-----\ntwo", |kept| kept.etag = "\"2\"");
    old(&world);
    assert!(world.get(path).await.unwrap().1.ends_with(b"two"));
    *world.upstream.away.lock().unwrap() = true;
    old(&world);
    let stale = reqwest::get(format!("http://{}/debian/{path}", world.cache)).await.unwrap();
    assert!(stale.headers()["warning"].to_str().unwrap().starts_with("110"));
    assert!(stale.bytes().await.unwrap().ends_with(b"two"));
}

#[tokio::test]
async fn garbage_is_neither_kept_nor_given_away_as_a_whole_file() {
    let world = World::new(LARGE).await;
    let up = &world.upstream;
    let (good, bad) = (deb(50_000), vec![b'!'; 50_000]);
    let release = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nSHA256:\n {} 9 main/binary-amd64/Packages\n",
        sum(b"right one")
    );
    let packages = format!("Filename: pool/known.deb\nSize: 50000\nSHA256: {}\n", sum(&good));
    up.put("dists/trixie/InRelease", release.as_bytes());
    up.put("dists/other/main/binary-amd64/Packages", packages.as_bytes());
    world.get("dists/trixie/InRelease").await.unwrap();
    world.get("dists/other/main/binary-amd64/Packages").await.unwrap();

    up.put_as("pool/page.deb", b"<html>log in to the wireless network</html>", |kept| {
        kept.kind = "text/html"
    });
    up.put("pool/page-too.deb", b"<html>log in to the wireless network</html>");
    up.put_as("pool/cut.deb", &good, |kept| kept.sent = 30_000);
    let mut altered = good.clone();
    altered[40_000] = b'y';
    up.put("pool/known.deb", &altered);
    up.put("dists/trixie/main/binary-amd64/Packages", b"wrong one");
    let by_hash = format!("dists/trixie/main/binary-amd64/by-hash/SHA256/{}", sum(&good));
    up.put(&by_hash, &bad);
    for path in [
        "pool/page.deb",
        "pool/page-too.deb",
        "pool/cut.deb",
        "pool/known.deb",
        "dists/trixie/main/binary-amd64/Packages",
        &by_hash,
    ] {
        let got = world.get(path).await;
        assert!(
            got.as_ref().is_err() || got.as_ref().is_ok_and(|(status, _)| *status == 502),
            "{path}: {got:?}"
        );
        assert!(!world.is_kept(path), "{path}");
    }
    up.put("pool/known.deb", &deb(49_999));
    assert_eq!(world.get("pool/known.deb").await.unwrap().0, 502, "of another size");
    up.put("pool/known.deb", &good);
    up.put(&by_hash, &good);
    assert_eq!(world.get("pool/known.deb").await.unwrap().1, good);
    assert_eq!(world.get(&by_hash).await.unwrap().1, good);
    assert_eq!(world.get("pool/missing.deb").await.unwrap().0, 404);
    assert_eq!(world.get("etc/passwd").await.unwrap().0, 404);
}

#[tokio::test]
async fn what_was_used_longest_ago_goes_and_what_has_no_room_is_passed_through() {
    let world = World::new(100_000).await;
    for name in ["a", "b", "c"] {
        world.upstream.put(&format!("pool/{name}.deb"), &deb(40_000));
    }
    world.get("pool/a.deb").await.unwrap();
    world.get("pool/b.deb").await.unwrap();
    world.get("pool/a.deb").await.unwrap();
    world.get("pool/c.deb").await.unwrap();
    let kept = ["a", "b", "c"].map(|name| world.is_kept(&format!("pool/{name}.deb")));
    assert_eq!(kept, [true, false, true]);
    world.upstream.put("pool/large.deb", &deb(200_000));
    assert_eq!(world.get("pool/large.deb").await.unwrap().1.len(), 200_000);
    assert!(!world.is_kept("pool/large.deb"));

    let full = World::with(LARGE, u64::MAX / 2).await;
    full.upstream.put("pool/a.deb", &deb(200_000));
    assert_eq!(full.get("pool/a.deb").await.unwrap().1.len(), 200_000);
    assert!(!full.is_kept("pool/a.deb"));
}
