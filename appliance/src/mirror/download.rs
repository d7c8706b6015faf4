//! One download of a file, for all who want it while it comes.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use futures::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::watch;

use super::store::{Meta, Store};

/// What comes of asking for a file.
pub enum Outcome {
    /// It is on the disk.
    Kept,
    Coming(Arc<Download>),
    /// There is no room for it.
    PassThrough(reqwest::Response),
    Missing,
    Garbage(String),
    /// The mirror is not there, or not well.
    Away(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// So many bytes may be read.
    Coming(u64),
    /// All of them may.
    Whole,
    Broken(&'static str),
    /// What is missing has to come from the mirror, for each who wants it.
    DiskFull(u64),
}

pub struct Download {
    pub bytes: Option<u64>,
    pub headers: HeaderMap,
    file: std::fs::File,
    progress: watch::Receiver<Progress>,
}

/// What comes, once it is known.
type Turn = tokio::sync::Mutex<Option<Arc<Download>>>;

pub struct Downloads {
    store: Arc<Store>,
    http: reqwest::Client,
    /// By path: whoever begins holds the lock until it is known what comes.
    running: Mutex<HashMap<String, Arc<Turn>>>,
}

impl Downloads {
    pub fn new(store: Arc<Store>, http: reqwest::Client) -> Downloads {
        Downloads { store, http, running: Mutex::default() }
    }

    pub async fn get(&self, path: &str, url: &str, kept: Option<Meta>) -> Outcome {
        let turn = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|other, turn| other == path || Arc::strong_count(turn) > 1 || !is_over(turn));
            Arc::clone(running.entry(path.to_owned()).or_default())
        };
        let mut turn = turn.lock().await;
        if let Some(download) = turn.as_ref() {
            let progress = download.progress.borrow().clone();
            match progress {
                Progress::Coming(_) => return Outcome::Coming(Arc::clone(download)),
                Progress::Whole | Progress::Broken(_) | Progress::DiskFull(_) => *turn = None,
            }
        }
        // Somebody else may have brought it while this one waited for its turn.
        match self.store.meta(path).await {
            Some(meta) if super::never_changes(path) || meta.is_fresh() => return Outcome::Kept,
            _ => {}
        }
        let outcome = self.begin(path, url, kept).await;
        if let Outcome::Coming(download) = &outcome {
            *turn = Some(Arc::clone(download));
        }
        outcome
    }

    async fn begin(&self, path: &str, url: &str, kept: Option<Meta>) -> Outcome {
        let mut request = self.http.get(url);
        if let Some(meta) = &kept {
            for (name, value) in
                [(header::IF_NONE_MATCH, &meta.etag), (header::IF_MODIFIED_SINCE, &meta.last_modified)]
            {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Away(error.without_url().to_string()),
        };
        let text = |name| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let meta = Meta {
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
            asked_at: crate::core::now().0,
        };
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if kept.is_some() => {
                let kept = kept.unwrap_or_default();
                let meta = Meta { asked_at: meta.asked_at, ..kept };
                self.store.is_current(path, &meta);
                return Outcome::Kept;
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => return Outcome::Missing,
            status => return Outcome::Away(format!("it answers {status}")),
        }
        let bytes = response.content_length();
        let (size, sha256) = self.store.sum(path);
        if let (Some(bytes), Some(size)) = (bytes, size)
            && bytes != size
        {
            return Outcome::Garbage(format!("it has {bytes} bytes and not {size}, as Debian's index says"));
        }
        if text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html")) {
            return Outcome::Garbage("it is a page for people".to_owned());
        }
        // Without a length, whether it is whole shows only by its sum.
        if bytes.is_none() && sha256.is_none() {
            return Outcome::PassThrough(response);
        }
        let file = match self.store.room(bytes.or(size).unwrap_or(0)) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!("{path} is passed through: {error}");
                return Outcome::PassThrough(response);
            }
        };
        let reader = match file.reopen() {
            Ok(reader) => reader,
            Err(_) => return Outcome::PassThrough(response),
        };
        let (progress, watched) = watch::channel(Progress::Coming(0));
        let headers = response.headers().clone();
        let work =
            Work { store: Arc::clone(&self.store), path: path.to_owned(), bytes, sha256, meta, progress };
        tokio::spawn(work.carry_out(response, file));
        Outcome::Coming(Arc::new(Download { bytes, headers, file: reader, progress: watched }))
    }
}

fn is_over(turn: &Turn) -> bool {
    let Ok(turn) = turn.try_lock() else { return false };
    turn.as_ref().is_none_or(|download| !matches!(*download.progress.borrow(), Progress::Coming(_)))
}

struct Work {
    store: Arc<Store>,
    path: String,
    bytes: Option<u64>,
    sha256: Option<[u8; 32]>,
    meta: Meta,
    progress: watch::Sender<Progress>,
}

impl Work {
    async fn carry_out(self, response: reqwest::Response, mut file: NamedTempFile) {
        let mut body = response.bytes_stream();
        let mut sha256 = Sha256::new();
        let mut written = 0;
        while let Some(chunk) = body.next().await {
            let Ok(chunk) = chunk else { return self.broken("the mirror broke off") };
            if written == 0 && !is_begun_well(&self.path, &chunk) {
                return self.broken("it is no such file");
            }
            if self.bytes.is_some_and(|bytes| written + chunk.len() as u64 > bytes) {
                return self.broken("it is longer than it said");
            }
            let wrote = tokio::task::spawn_blocking(move || {
                sha256.update(&chunk);
                let wrote = file.write_all(&chunk);
                (file, sha256, wrote, chunk.len() as u64)
            });
            let Ok((returned, digest, wrote, length)) = wrote.await else {
                return self.broken("it could not be kept");
            };
            (file, sha256) = (returned, digest);
            if let Err(error) = wrote {
                tracing::warn!("{} is passed through from here on: {error}", self.path);
                self.progress.send_replace(Progress::DiskFull(written));
                return;
            }
            written += length;
            // The last byte leaves when it is known that all are right: a client never has garbage as a whole file.
            self.progress.send_replace(Progress::Coming(written.saturating_sub(1)));
        }
        if self.bytes.is_some_and(|bytes| bytes != written) {
            return self.broken("the mirror broke off");
        }
        if self.sha256.is_some_and(|wanted| wanted != <[u8; 32]>::from(sha256.finalize())) {
            return self.broken("its SHA-256 is not what Debian's index says");
        }
        let (store, path, meta) = (Arc::clone(&self.store), self.path.clone(), self.meta.clone());
        let kept = tokio::task::spawn_blocking(move || store.keep(&path, file, written, &meta)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!("{} could not be kept: {error}", self.path);
        }
        self.progress.send_replace(Progress::Whole);
    }

    fn broken(&self, why: &'static str) {
        tracing::warn!("{} is not kept: {why}", self.path);
        self.progress.send_replace(Progress::Broken(why));
    }
}

/// Whether a file begins as one of its name does. Captive portals and broken mirrors answer with pages.
fn is_begun_well(path: &str, chunk: &[u8]) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let begins = |with: &[u8]| chunk.iter().zip(with).all(|(a, b)| a == b);
    match name.rsplit('.').next() {
        Some("deb" | "udeb") => begins(b"!<arch>\n"),
        Some("xz") => begins(b"\xfd7zXZ\0"),
        Some("gz") => begins(b"\x1f\x8b"),
        _ if name == "InRelease" => begins(b"-----BEGIN PGP SIGNED MESSAGE-----"),
        _ => {
            let text = chunk.trim_ascii_start();
            !text.to_ascii_lowercase().starts_with(b"<!doctype")
                && !text.to_ascii_lowercase().starts_with(b"<html")
        }
    }
}

const PIECE: usize = 256 << 10;

impl Download {
    /// The file from its beginning, as far as it is there, and then as it comes.
    pub fn follow(
        self: Arc<Self>,
        http: reqwest::Client,
        url: String,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let watched = self.progress.clone();
        let begun = Reader { download: self, watched, at: 0, http, url, rest: None };
        stream::unfold(Some(begun), async |reader| {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

struct Reader {
    download: Arc<Download>,
    watched: watch::Receiver<Progress>,
    at: u64,
    http: reqwest::Client,
    url: String,
    /// From the mirror, since the disk was full.
    rest: Option<reqwest::Response>,
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(rest) = &mut self.rest {
            return rest.chunk().await.map_err(io::Error::other);
        }
        let at = self.at;
        let there = self.watched.wait_for(|progress| match progress {
            Progress::Coming(bytes) => *bytes > at,
            Progress::Whole | Progress::Broken(_) | Progress::DiskFull(_) => true,
        });
        let progress = there.await.map_err(io::Error::other)?.clone();
        match progress {
            Progress::Coming(bytes) => self.read(bytes).await,
            Progress::Whole => self.read(u64::MAX).await,
            Progress::Broken(why) => Err(io::Error::other(why)),
            Progress::DiskFull(bytes) if self.at < bytes => self.read(bytes).await,
            Progress::DiskFull(_) => {
                let range = format!("bytes={}-", self.at);
                let rest = self.http.get(&self.url).header(header::RANGE, range).send().await;
                let rest = rest.map_err(io::Error::other)?;
                let wanted = if self.at == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
                if rest.status() != StatusCode::PARTIAL_CONTENT && rest.status() != wanted {
                    return Err(io::Error::other("the mirror does not give the rest"));
                }
                let mut rest = rest;
                let chunk = rest.chunk().await.map_err(io::Error::other)?;
                self.rest = Some(rest);
                Ok(chunk)
            }
        }
    }

    async fn read(&mut self, end: u64) -> io::Result<Option<Bytes>> {
        let wanted = usize::try_from(end - self.at).unwrap_or(PIECE).min(PIECE);
        let (download, at) = (Arc::clone(&self.download), self.at);
        let read = tokio::task::spawn_blocking(move || {
            use std::os::unix::fs::FileExt as _;
            let mut piece = vec![0; wanted];
            let read = download.file.read_at(&mut piece, at)?;
            piece.truncate(read);
            io::Result::Ok(piece)
        });
        let piece = read.await.map_err(io::Error::other)??;
        self.at += piece.len() as u64;
        Ok((!piece.is_empty()).then(|| Bytes::from(piece)))
    }
}
