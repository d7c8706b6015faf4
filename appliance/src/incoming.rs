//! What is being received to the disk: under a name of its own until it is whole, and swept away when nobody goes on
//! with it. Several daemons may receive into one folder.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::{NamedTempFile, TempDir};

/// Names of files and folders that are being received begin with this.
const PREFIX: &str = ".incoming-";

/// Space on the disk that nothing received may take: the event log needs it.
const RESERVE: u64 = 256 << 20;

/// Nothing that is still being received stands still for so long.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A file that vanishes unless it is given another name.
pub fn file_in(folder: &Path) -> io::Result<NamedTempFile> {
    std::fs::create_dir_all(folder)?;
    tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder)
}

/// A folder that vanishes with all that is in it unless it is given another name.
pub fn folder_in(folder: &Path) -> io::Result<TempDir> {
    std::fs::create_dir_all(folder)?;
    tempfile::Builder::new().prefix(PREFIX).tempdir_in(folder)
}

/// Fails as a full disk does when `bytes` more would take what the event log needs.
pub fn leave_room(folder: &Path, bytes: u64) -> io::Result<()> {
    let disk = nix::sys::statvfs::statvfs(folder)?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    if free < bytes.saturating_add(RESERVE) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// What `work` says, on a thread that may wait for the disk.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Removes what a daemon was receiving when it was killed, and not what another receives now.
pub fn sweep(folder: &Path, now: SystemTime) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let removed = match entry.metadata().and_then(|about| Ok((about.is_dir(), about.modified()?))) {
            Ok((_, at)) if !now.duration_since(at).is_ok_and(|age| age > ABANDONED) => Ok(()),
            Ok((true, _)) => std::fs::remove_dir_all(entry.path()),
            Ok((false, _)) => std::fs::remove_file(entry.path()),
            Err(error) => Err(error),
        };
        match removed {
            // It has become whole meanwhile, or another daemon swept it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_daemon_was_receiving_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<String> = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        std::fs::write(dir.path().join(".incoming-a1b2"), "x").unwrap();
        std::fs::create_dir(dir.path().join(".incoming-c3d4")).unwrap();
        std::fs::write(dir.path().join(".incoming-c3d4/vmlinuz"), "x").unwrap();
        std::fs::write(dir.path().join("0000.eli"), "x").unwrap();
        std::fs::create_dir(dir.path().join("debian-12")).unwrap();
        let now = SystemTime::now();
        sweep(dir.path(), now).unwrap();
        assert_eq!(names().len(), 4, "another daemon may be at it");
        sweep(dir.path(), now + 2 * ABANDONED).unwrap();
        assert_eq!(names(), ["0000.eli", "debian-12"]);
        sweep(&dir.path().join("nowhere"), now).unwrap();
    }

    #[test]
    fn the_event_log_keeps_its_room() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(leave_room(dir.path(), u64::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
        leave_room(dir.path(), 1).unwrap();
    }
}
