//! Files over HTTP whose SHA-256 is known: checked while they come, resumed where they were cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::client::{Backoff, Cause};

/// A line cut this often in a row without a byte between is not coming back by itself.
const TRIES_WITHOUT_PROGRESS: u32 = 8;

#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error("{url} does not come")]
    Http {
        url: String,
        #[source]
        source: Cause,
    },
    #[error("{url} is refused: {status}")]
    Refused { url: String, status: StatusCode },
    #[error("{url} was changed on the way: its SHA-256 is {found}, not {wanted}")]
    Changed { url: String, found: String, wanted: String },
    #[error("{url} is longer than the {bytes} bytes that it should have")]
    TooLong { url: String, bytes: u64 },
    #[error("writing {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A file as somebody trusted describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub url: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// When it is known: a longer answer is cut off there.
    pub bytes: Option<u64>,
}

/// Downloads to `path`, which may hold the beginning from an earlier try, and syncs it. When this returns, the file is
/// complete and has the SHA-256. `progress` hears the bytes so far.
pub async fn to_file(
    http: &Client,
    wanted: &Wanted,
    path: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(), DownloadError> {
    let io = |source| DownloadError::Write { path: path.to_owned(), source };
    let mut partial = Partial::open(path).map_err(io)?;
    let mut backoff = Backoff::default();
    let mut tries = 0;
    loop {
        let before = partial.bytes;
        match partial.receive(http, wanted, &mut progress).await {
            Ok(()) => break,
            Err(Cut::Fatal(error)) => return Err(error),
            Err(Cut::Again(error)) => {
                tries = if partial.bytes > before { 0 } else { tries + 1 };
                if tries >= TRIES_WITHOUT_PROGRESS {
                    return Err(error);
                }
                tracing::debug!("{error}; going on at byte {}", partial.bytes);
            }
        }
        if tries == 0 {
            backoff.reset();
        }
        backoff.wait().await;
    }
    partial.file.sync_all().map_err(io)?;
    let found = hex::encode(partial.hash.finalize());
    if found != wanted.sha256 {
        // What is there is no beginning of the right file.
        fs::remove_file(path).map_err(io)?;
        return Err(DownloadError::Changed { url: wanted.url.clone(), found, wanted: wanted.sha256.clone() });
    }
    Ok(())
}

/// The SHA-256 of a file in lower-case hexadecimal.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    read_into(&mut File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

fn read_into(file: &mut File, hash: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            n => {
                hash.update(&buffer[..n]);
                total += n as u64;
            }
        }
    }
}

/// The beginning of a file, and the hash of it.
struct Partial {
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

enum Cut {
    Again(DownloadError),
    Fatal(DownloadError),
}

impl Partial {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut hash = Sha256::new();
        let bytes = read_into(&mut file, &mut hash)?;
        Ok(Self { path: path.to_owned(), file, hash, bytes })
    }

    fn begin_again(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hash = Sha256::new();
        self.bytes = 0;
        Ok(())
    }

    async fn receive(
        &mut self,
        http: &Client,
        wanted: &Wanted,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Cut> {
        let url = || wanted.url.clone();
        let path = self.path.clone();
        let io = |source| Cut::Fatal(DownloadError::Write { path: path.clone(), source });
        let cut =
            |error: reqwest::Error| Cut::Again(DownloadError::Http { url: url(), source: error.into() });

        if wanted.bytes == Some(self.bytes) {
            return Ok(());
        }
        let mut request = http.get(&wanted.url);
        if self.bytes > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.bytes));
        }
        let mut response = request.send().await.map_err(cut)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response) == Some(self.bytes) => {}
            // The server has another idea of ranges, or the whole file is already here.
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
                if self.bytes > 0 =>
            {
                let whole = response.status() == StatusCode::OK;
                let complete = hex::encode(self.hash.clone().finalize()) == wanted.sha256;
                if complete {
                    return Ok(());
                }
                self.begin_again().map_err(io)?;
                if !whole {
                    response = http.get(&wanted.url).send().await.map_err(cut)?;
                }
                if response.status() != StatusCode::OK {
                    return Err(Cut::Again(DownloadError::Refused { url: url(), status: response.status() }));
                }
            }
            StatusCode::OK => {}
            status if status.is_server_error() => {
                return Err(Cut::Again(DownloadError::Refused { url: url(), status }));
            }
            status => return Err(Cut::Fatal(DownloadError::Refused { url: url(), status })),
        }
        while let Some(chunk) = response.chunk().await.map_err(cut)? {
            let bytes = self.bytes + chunk.len() as u64;
            if let Some(limit) = wanted.bytes.filter(|limit| bytes > *limit) {
                self.begin_again().map_err(io)?;
                return Err(Cut::Fatal(DownloadError::TooLong { url: url(), bytes: limit }));
            }
            self.file.write_all(&chunk).map_err(io)?;
            self.hash.update(&chunk);
            self.bytes = bytes;
            progress(bytes);
        }
        Ok(())
    }
}

/// The first byte that a 206 brings: `bytes 1000-1999/2000`.
fn begins_at(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests;
