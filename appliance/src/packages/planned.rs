//! Bundles that were planned to be installed. Beside each stands an empty file, `SHA256.planned`, as old as the plan.
//!
//! Only bundles with such a file are ever swept: a daemon that is started on another log does not know what the others
//! are for.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A plan that is applied later must be made again.
const KEPT: Duration = Duration::from_secs(24 * 3600);

const MARK: &str = "planned";

fn mark(bundles: &Path, sha256: &str) -> PathBuf {
    bundles.join(format!("{sha256}.{MARK}"))
}

/// Keeps the bundle for a day from now.
pub fn keep(bundles: &Path, sha256: &str) -> io::Result<()> {
    File::create(mark(bundles, sha256))?.set_modified(SystemTime::now())
}

/// Keeps it for another day, if it was planned.
pub fn keep_on(bundles: &Path, sha256: &str) -> io::Result<()> {
    match File::options().write(true).open(mark(bundles, sha256)) {
        Ok(mark) => mark.set_modified(SystemTime::now()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Checksums of the bundles whose day is over at `now`.
pub fn over(bundles: &Path, now: SystemTime) -> io::Result<Vec<String>> {
    let mut over = Vec::new();
    for entry in std::fs::read_dir(bundles)? {
        let path = entry?.path();
        let Some(sha256) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        if path.extension().is_some_and(|extension| extension == MARK)
            && now.duration_since(path.metadata()?.modified()?).is_ok_and(|age| age > KEPT)
        {
            over.push(sha256.to_owned());
        }
    }
    Ok(over)
}

/// The plan is of no concern any more.
pub fn forget(bundles: &Path, sha256: &str) -> io::Result<()> {
    std::fs::remove_file(mark(bundles, sha256))
}
