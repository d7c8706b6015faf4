//! Erases one disk, and looks afterwards whether what was on it is gone.
//!
//! ```text
//! is it the one? ─▶ taken for us alone ─▶ read in places ─▶ format, discard or overwrite ─▶ read in the same places
//! ```
//!
//! ATA's SECURITY ERASE UNIT is not used: most firmware freezes the drives before we start, and a drive whose power
//! fails in the middle of it stays locked by a password.

mod nvme;
mod places;
mod tools;
mod zeroes;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use fleet::wire::{EraseDisk, Means, Method, Proof};
use nix::libc;

use crate::install::Progress;
use crate::inventory;
use places::Places;
use tools::Tools;

/// A disk that was not erased, or not wholly.
#[derive(Debug)]
pub struct EraseFailed {
    pub step: String,
    pub error: anyhow::Error,
}

/// Erases the disk of `job` if it is in this machine. It works for hours and blocks as long.
pub fn erase(job: &EraseDisk, progress: &mut dyn Progress) -> Result<Proof, EraseFailed> {
    let mut last = Last { step: "looking for it".to_owned(), progress };
    let found = inventory::this_machines_disks();
    let result = job.disk.among(&found).map_err(anyhow::Error::msg).and_then(|disk| {
        let target =
            Target { path: PathBuf::from(&disk.path), bytes: disk.bytes, rotational: disk.rotational };
        target.erase(job.method, &tools::Real, &mut last)
    });
    result.map_err(|error| EraseFailed { step: last.step, error })
}

/// A disk under its name of this start.
struct Target {
    path: PathBuf,
    bytes: u64,
    rotational: bool,
}

impl Target {
    fn erase(&self, method: Method, tools: &dyn Tools, hear: &mut Last<'_>) -> anyhow::Result<Proof> {
        let begin = Instant::now();
        hear.step("taking the disk", None);
        let disk = open(&self.path).with_context(|| format!("{} cannot be taken", self.path.display()))?;
        hear.step("reading what is there in places", None);
        let before = Places::chosen(self.bytes, &mut rand::rng()).read(&disk)?;
        let (means, after) = self.carry_out(method, tools, &disk, &before, hear)?;
        hear.step("writing what is still in the disk's cache", None);
        disk.sync_all().context("the disk did not write its cache")?;
        drop(disk);
        tools.forget_partitions(&self.path);
        Ok(Proof {
            means,
            seconds: begin.elapsed().as_secs(),
            places: before.count(),
            bytes_read: before.bytes(),
            zero: after.is_zero(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// Returns what was done, and what is in the places now. What is there still that was there before is an error.
    fn carry_out(
        &self,
        method: Method,
        tools: &dyn Tools,
        disk: &File,
        before: &places::Read,
        hear: &mut Last<'_>,
    ) -> anyhow::Result<(Vec<Means>, places::Read)> {
        if matches!(method, Method::Auto | Method::Format) {
            match self.format(tools, hear) {
                Ok(means) => return Ok((vec![means], self.proven(disk, before, hear)?)),
                Err(error) if method == Method::Format => return Err(error),
                Err(_) => {}
            }
        }
        if method == Method::Discard || (method == Method::Auto && !self.rotational) {
            hear.step("telling the disk to forget every block for good", None);
            if tools.discard(&self.path, true).is_ok()
                && let Ok(after) = self.proven(disk, before, hear)
            {
                return Ok((vec![Means::SecureDiscard], after));
            }
        }
        if method == Method::Discard {
            hear.step("telling the disk that nothing on it is needed", None);
            // A disk may take the word and keep what it has: then it is written over.
            if tools.discard(&self.path, false).is_ok()
                && let Ok(after) = self.proven(disk, before, hear)
                && after.is_zero()
            {
                return Ok((vec![Means::Discard], after));
            }
        }
        self.overwrite(disk, hear)?;
        let after = self.proven(disk, before, hear)?;
        if let Some(offset) = after.first_not_zero() {
            bail!("zeroes were written everywhere, and at byte {offset} the disk gives back something else");
        }
        let mut means = vec![Means::Overwrite];
        // Flash that knows that it is empty is faster for whoever gets it.
        if !self.rotational && method == Method::Auto && tools.discard(&self.path, false).is_ok() {
            means.push(Means::Discard);
            return Ok((means, self.proven(disk, before, hear)?));
        }
        Ok((means, after))
    }

    fn format(&self, tools: &dyn Tools, hear: &mut Last<'_>) -> anyhow::Result<Means> {
        hear.step("asking what the disk can do by itself", None);
        let abilities = tools.nvme(&self.path)?;
        let ways = abilities.ways(&self.path)?;
        let mut why = None;
        for (means, setting) in ways {
            hear.step("the disk makes itself new", None);
            match tools.format(&self.path, setting) {
                Ok(()) => return Ok(means),
                Err(error) => why = Some(error),
            }
        }
        Err(why.context("there is no way to format it")?)
    }

    fn overwrite(&self, disk: &File, hear: &mut Last<'_>) -> anyhow::Result<()> {
        let step = "writing zeroes over every block";
        hear.step(step, Some(0));
        zeroes::write(disk, self.bytes, &mut |percent| hear.progress.step(step, Some(percent)))
    }

    fn proven(
        &self,
        disk: &File,
        before: &places::Read,
        hear: &mut Last<'_>,
    ) -> anyhow::Result<places::Read> {
        hear.step("reading whether it is gone", None);
        let after = before.again(disk)?;
        match after.same_as(before) {
            Some(offset) => bail!("at byte {offset} there is still what was there before"),
            None => Ok(after),
        }
    }
}

/// For us alone: a disk of which a part is mounted, or held by LVM or RAID, refuses.
fn open(path: &Path) -> io::Result<File> {
    let with = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    // Past the cache of the kernel: what is read back is what the disk has.
    match with(libc::O_EXCL | libc::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => with(libc::O_EXCL),
        opened => opened,
    }
}

/// Remembers the step that is under way.
struct Last<'a> {
    step: String,
    progress: &'a mut dyn Progress,
}

impl Last<'_> {
    fn step(&mut self, step: &str, percent: Option<u8>) {
        step.clone_into(&mut self.step);
        self.progress.step(step, percent);
    }
}

#[cfg(test)]
mod tests;
