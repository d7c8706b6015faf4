//! The files that are kept, with what was used longest ago going first.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::sums::{self, Sum, Sums};

/// Beside a file that may change: what the mirror said of it.
pub const META: &str = ".elimeta";
const INCOMING: &str = ".incoming-";

/// So long a file that may change is not asked for again: an installer asks for each several times in a row.
const FRESH: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Meta {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    /// Milliseconds since 1970.
    pub asked_at: u64,
}

impl Meta {
    pub fn is_fresh(&self) -> bool {
        let now = crate::core::now().0;
        (self.asked_at..self.asked_at + FRESH.as_millis() as u64).contains(&now)
    }
}

pub struct Store {
    folder: PathBuf,
    limit: u64,
    reserve: u64,
    used: Mutex<Used>,
    sums: Mutex<Sums>,
}

/// Which files there are, by when they were used.
#[derive(Default)]
struct Used {
    bytes: u64,
    by_path: HashMap<String, (SystemTime, u64)>,
    by_time: BTreeSet<(SystemTime, String)>,
}

impl Used {
    fn put(&mut self, path: &str, at: SystemTime, bytes: u64) {
        self.take(path);
        self.bytes += bytes;
        self.by_path.insert(path.to_owned(), (at, bytes));
        self.by_time.insert((at, path.to_owned()));
    }

    fn take(&mut self, path: &str) {
        if let Some((at, bytes)) = self.by_path.remove(path) {
            self.bytes -= bytes;
            self.by_time.remove(&(at, path.to_owned()));
        }
    }
}

impl Store {
    pub fn open(folder: &Path, limit: u64, reserve: u64) -> io::Result<Store> {
        fs::create_dir_all(folder)?;
        let store = Store {
            folder: folder.to_owned(),
            limit,
            reserve,
            used: Mutex::default(),
            sums: Mutex::default(),
        };
        store.look_around(folder)?;
        Ok(store)
    }

    fn look_around(&self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type()?.is_dir() {
                self.look_around(&path)?;
            } else if name.starts_with(INCOMING) {
                fs::remove_file(&path)?;
            } else if !name.ends_with(META)
                && let Some(relative) = path.strip_prefix(&self.folder).ok().and_then(Path::to_str)
            {
                let metadata = entry.metadata()?;
                lock(&self.used).put(relative, metadata.accessed()?, metadata.len());
                self.learn(relative);
            }
        }
        Ok(())
    }

    pub fn file(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// `None` if it is not kept.
    pub async fn meta(&self, path: &str) -> Option<Meta> {
        if !lock(&self.used).by_path.contains_key(path) {
            return None;
        }
        let text = tokio::fs::read(self.meta_file(path)).await.unwrap_or_default();
        Some(serde_json::from_slice(&text).unwrap_or_default())
    }

    fn meta_file(&self, path: &str) -> PathBuf {
        self.folder.join(format!("{path}{META}"))
    }

    /// What an index says that it is.
    pub fn sum(&self, path: &str) -> (Option<u64>, Option<[u8; 32]>) {
        if let Some(sha256) = sums::by_hash(path) {
            return (None, Some(sha256));
        }
        match lock(&self.sums).get(path) {
            Some(Sum { bytes, sha256 }) => (Some(bytes), Some(sha256)),
            None => (None, None),
        }
    }

    pub fn used(&self, path: &str) {
        let now = SystemTime::now();
        let mut used = lock(&self.used);
        if let Some((_, bytes)) = used.by_path.get(path).copied() {
            used.put(path, now, bytes);
        }
        drop(used);
        // Only for the next start; what it costs to lose is one download.
        let times = fs::FileTimes::new().set_accessed(now);
        let _ = File::options().append(true).open(self.file(path)).and_then(|file| file.set_times(times));
    }

    /// The mirror says that it is what is kept.
    pub fn is_current(&self, path: &str, meta: &Meta) {
        if let Ok(text) = serde_json::to_vec(meta) {
            let _ = fs::write(self.meta_file(path), text);
        }
    }

    /// A place for a file of so many bytes, if there is room when others go.
    pub fn room(&self, bytes: u64) -> io::Result<NamedTempFile> {
        if bytes > self.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        loop {
            let used = lock(&self.used).bytes;
            let disk = nix::sys::statvfs::statvfs(&self.folder)?;
            let free = disk.blocks_available().saturating_mul(disk.fragment_size());
            if used + bytes <= self.limit && free >= bytes.saturating_add(self.reserve) {
                break;
            }
            let oldest = lock(&self.used).by_time.first().map(|(_, path)| path.clone());
            let Some(oldest) = oldest else { return Err(io::ErrorKind::StorageFull.into()) };
            self.forget(&oldest)?;
        }
        tempfile::Builder::new().prefix(INCOMING).tempfile_in(&self.folder)
    }

    fn forget(&self, path: &str) -> io::Result<()> {
        lock(&self.used).take(path);
        let _ = fs::remove_file(self.meta_file(path));
        match fs::remove_file(self.file(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub fn keep(&self, path: &str, file: NamedTempFile, bytes: u64, meta: &Meta) -> io::Result<()> {
        let place = self.file(path);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        file.persist(&place).map_err(|error| error.error)?;
        if !super::never_changes(path) {
            self.is_current(path, meta);
        }
        lock(&self.used).put(path, SystemTime::now(), bytes);
        self.learn(path);
        Ok(())
    }

    fn learn(&self, path: &str) {
        if !path.starts_with("dists/") {
            return;
        }
        let learned = File::open(self.file(path)).and_then(|file| match path.contains("/by-hash/") {
            // What kind it is shows in its first bytes.
            true => self.learn_by_hash(path, file),
            false => lock(&self.sums).learn(path, file),
        });
        if let Err(error) = learned {
            tracing::debug!("{path} says nothing of other files: {error}");
        }
    }

    fn learn_by_hash(&self, path: &str, file: File) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let mut first = [0; 6];
        let _ = file.read_at(&mut first, 0)?;
        let name = match first {
            [0xfd, b'7', b'z', b'X', b'Z', 0] => "Packages.xz",
            [0x1f, 0x8b, ..] => "Packages.gz",
            _ if &first == b"Packag" => "Packages",
            _ => return Ok(()),
        };
        // Other indices have no Filename and SHA256 in them.
        let folder = path.split_once("/by-hash/").map_or("", |(folder, _)| folder);
        if folder.contains("/binary-") {
            lock(&self.sums).learn(&format!("{folder}/{name}"), file)
        } else {
            Ok(())
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
