//! The folder of the mirror's cache, which outlives a run, and what a run used of it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

pub struct Cache {
    pub folder: PathBuf,
    appliance: Ipv4Addr,
    begun: SystemTime,
    /// One appliance at a time has it.
    _lock: File,
}

impl Cache {
    /// Waits for another run that has it.
    pub fn open(folder: &Path, appliance: Ipv4Addr) -> Result<Cache> {
        fs::create_dir_all(folder.join("pool")).with_context(|| format!("making {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let lock = File::create(folder.with_extension("lock"))?;
        lock.lock().context("locking the cache of the mirror")?;
        Ok(Cache { folder, appliance, begun: SystemTime::now(), _lock: lock })
    }

    /// What is used from now on counts.
    pub fn begin(&mut self) {
        self.begun = SystemTime::now();
    }

    /// Packages and installer's modules that were asked for, as paths on the mirror.
    pub fn used(&self) -> Result<Vec<String>> {
        let mut used = Vec::new();
        self.look(&self.folder.join("pool"), &mut |path, metadata| {
            if metadata.accessed()?.max(metadata.modified()?) >= self.begun {
                used.push(path);
            }
            Ok(())
        })?;
        Ok(used)
    }

    /// How many of them were downloaded.
    pub fn fetched(&self, used: &[String]) -> Result<usize> {
        let mut count = 0;
        for path in used {
            count += usize::from(fs::metadata(self.folder.join(path))?.modified()? >= self.begun);
        }
        Ok(count)
    }

    fn look(
        &self,
        folder: &Path,
        found: &mut impl FnMut(String, fs::Metadata) -> io::Result<()>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.look(&path, found)?;
            } else if let Some(path) = path.strip_prefix(&self.folder).ok().and_then(Path::to_str) {
                found(path.to_owned(), entry.metadata()?)?;
            }
        }
        Ok(())
    }

    /// Asks the appliance for each, as a machine would; gives their bytes.
    pub fn ask_for(&self, paths: &[String]) -> Result<u64> {
        let client = reqwest::blocking::Client::builder().no_proxy().build()?;
        let base = format!("http://{}/debian", super::place(self.appliance));
        let mut bytes = 0;
        for path in paths {
            let mut answer = client.get(format!("{base}/{path}")).send()?;
            ensure!(answer.status().is_success(), "the cache answers {} for {path}", answer.status());
            let (mut piece, mut length) = (vec![0; 64 << 10], 0);
            while let read @ 1.. = answer.read(&mut piece)? {
                length += read as u64;
            }
            let kept = fs::metadata(self.folder.join(path))?.len();
            ensure!(length == kept, "the cache gives {length} bytes of {path}, which has {kept}");
            bytes += length;
        }
        Ok(bytes)
    }
}
