//! One lab: a folder, a LAN, and how fast machines run here.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::accelerator::Accelerator;
use crate::lan::Lan;
use crate::machine::{Machine, Place, Spec};

/// The folders of sockets of this process's labs, for [`clean_up`].
static SOCKETS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what dropping a lab would, just before the process ends by other means.
pub fn clean_up() {
    for folder in SOCKETS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // Gone already when its lab was dropped.
        let _ = fs::remove_dir_all(folder);
    }
}

/// Drop the machines first: they only pull their plugs, but the LAN would go on
/// sending to them.
pub struct Lab {
    pub folder: PathBuf,
    pub lan: Lan,
    pub accelerator: Accelerator,
    sockets: TempDir,
    /// Held for as long as the lab is, so that a second one leaves it alone.
    _lock: File,
}

impl Lab {
    pub fn open(folder: &Path, accelerator: Accelerator) -> Result<Lab> {
        fs::create_dir_all(folder)
            .with_context(|| format!("making the lab's folder {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let lock = File::create(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another lab is running in {}", folder.display()),
            Err(TryLockError::Error(error)) => return Err(error).context("locking the lab's folder"),
        }
        // Not in the lab's folder: a unix socket's path has at most 107 bytes.
        let sockets = tempfile::Builder::new().prefix("elisandra-lab-").tempdir()?;
        SOCKETS.lock().unwrap_or_else(PoisonError::into_inner).push(sockets.path().to_path_buf());
        let lan = Lan::new(sockets.path());
        Ok(Lab { folder, lan, accelerator, sockets, _lock: lock })
    }

    /// A machine, switched off.
    pub fn build(&self, spec: Spec) -> Result<Machine> {
        let name = spec.name.clone();
        let place = Place {
            folder: &self.folder,
            sockets: self.sockets.path(),
            accelerator: self.accelerator.clone(),
        };
        Machine::build(spec, place, &self.lan).with_context(|| format!("building the machine {name}"))
    }
}
