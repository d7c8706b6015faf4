//! Keeps results of slow steps, named by the hash of everything that goes into them.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::progress;

/// How many results of one kind stay: the one in use and those of a branch that one may go back to.
const KEPT: usize = 2;

pub struct Cache {
    root: PathBuf,
}

impl Cache {
    pub fn open(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("making the cache folder {}", root.display()))?;
        Ok(Self { root })
    }

    /// What `tests/needs` has put into the cache under this name.
    pub fn needed(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder that `build` filled when it was last called for this `kind` and `key`; calls it if never.
    ///
    /// A folder appears under its name only when it is complete, so a build that was interrupted is repeated.
    pub fn entry(
        &self,
        kind: &str,
        title: &str,
        key: Key,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let hash = key.finish();
        let entry = self.root.join(format!("{kind}-{hash}"));
        // Two builds at once (the lab and a test) would fill the same folder.
        let lock_path = self.root.join(format!("{kind}.lock"));
        let lock = File::create(&lock_path).with_context(|| format!("opening {}", lock_path.display()))?;
        lock.lock().with_context(|| format!("locking {}", lock_path.display()))?;

        if entry.is_dir() {
            progress::unchanged(title);
            // The time of last use decides what `prune` takes.
            File::open(&entry)
                .and_then(|folder| folder.set_modified(std::time::SystemTime::now()))
                .with_context(|| format!("marking {} as used", entry.display()))?;
            return Ok(entry);
        }
        let partial = self.root.join(format!("{kind}-partial"));
        remove(&partial)?;
        fs::create_dir(&partial).with_context(|| format!("making {}", partial.display()))?;
        progress::step(title, || build(&partial))?;
        fs::rename(&partial, &entry).with_context(|| format!("naming {}", entry.display()))?;
        self.prune(kind)?;
        Ok(entry)
    }

    fn prune(&self, kind: &str) -> Result<()> {
        let mut entries = Vec::new();
        for found in fs::read_dir(&self.root).with_context(|| format!("listing {}", self.root.display()))? {
            let found = found?;
            let name = found.file_name().to_string_lossy().into_owned();
            let Some(hash) = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-')) else {
                continue;
            };
            if hash.len() == HASH_DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
                entries.push((found.metadata()?.modified()?, found.path()));
            }
        }
        entries.sort();
        let surplus = entries.len().saturating_sub(KEPT);
        entries.iter().take(surplus).try_for_each(|(_, path)| remove(path))
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

const HASH_DIGITS: usize = 20;

/// The hash of everything that goes into a step, built up piece by piece.
pub struct Key(Sha256);

impl Key {
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Adds a value that is not in a file.
    pub fn text(mut self, text: &str) -> Self {
        self.piece(text.as_bytes());
        self
    }

    /// Adds a program with its arguments and settings.
    pub fn command(self, command: &Command) -> Self {
        self.text(&format!("{command:?}"))
    }

    /// Adds a file's content and whether it is executable.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
        let mode = file.metadata()?.permissions().mode() & 0o111;
        let mut content = Sha256::new();
        std::io::copy(&mut file, &mut content).with_context(|| format!("reading {}", path.display()))?;
        self.piece(&content.finalize());
        self.piece(&[u8::from(mode != 0)]);
        Ok(self)
    }

    /// Adds every file and link under a folder, with its path in it.
    pub fn tree(mut self, folder: &Path) -> Result<Self> {
        for entry in WalkDir::new(folder).sort_by_file_name() {
            let entry = entry?;
            self.piece(entry.path().strip_prefix(folder)?.as_os_str().as_encoded_bytes());
            if entry.path_is_symlink() {
                self.piece(fs::read_link(entry.path())?.as_os_str().as_encoded_bytes());
            } else if entry.file_type().is_file() {
                self = self.file(entry.path())?;
            }
        }
        Ok(self)
    }

    fn piece(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        let mut digits = hex::encode(self.0.finalize());
        digits.truncate(HASH_DIGITS);
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_once_for_a_key_and_again_after_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().into()).unwrap();
        let key = || Key::new().text("a");

        assert!(cache.entry("kind", "t", key(), |_| anyhow::bail!("no")).is_err());
        let built = cache.entry("kind", "t", key(), |p| Ok(fs::write(p.join("x"), "1")?)).unwrap();
        let again = cache.entry("kind", "t", key(), |_| anyhow::bail!("built twice")).unwrap();
        assert_eq!(built, again);
        assert_eq!(fs::read_to_string(again.join("x")).unwrap(), "1");
    }

    #[test]
    fn only_the_last_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().into()).unwrap();
        let entry = |text: &str| cache.entry("kind", "t", Key::new().text(text), |_| Ok(())).unwrap();
        let first = entry("0");
        let others: Vec<_> = ["1", "2"].into_iter().map(entry).collect();
        assert!(!first.exists());
        assert!(others.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_key_knows_where_one_piece_ends() {
        assert_ne!(Key::new().text("ab").text("c").finish(), Key::new().text("a").text("bc").finish());
    }
}
