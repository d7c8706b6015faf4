//! Takes an upload to the disk, checks it, and keeps it.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use fleet::package::Bundle;
use futures::{Stream, StreamExt as _};
use tempfile::NamedTempFile;

use super::{PackageError, bundle, path};

/// The most that is taken unless the settings say otherwise.
pub const LIMIT: u64 = 4 << 30;

/// Space on the disk that no upload may take: the event log needs it.
const RESERVE: u64 = 256 << 20;
/// How many bytes go by between two looks at the free space.
const LOOK_EVERY: u64 = 16 << 20;

/// Names of files that are being received begin with this.
const INCOMING: &str = ".incoming-";

/// Receives a bundle and keeps it as `SHA256.eli` in `bundles`. When it is refused, nothing is left of it.
pub async fn receive<E>(
    bundles: &Path,
    limit: u64,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Bundle, PackageError> {
    let folder = bundles.to_owned();
    let mut file = blocking(move || {
        std::fs::create_dir_all(&folder).map_err(PackageError::file("received"))?;
        tempfile::Builder::new().prefix(INCOMING).tempfile_in(&folder).map_err(PackageError::file("received"))
    })
    .await?;

    let mut bytes = 0;
    let mut looked = 0;
    while let Some(chunk) = body.next().await {
        let Ok(chunk) = chunk else { return Err(PackageError::BrokenOff { bytes }) };
        bytes += chunk.len() as u64;
        if bytes > limit {
            return Err(PackageError::TooLarge { limit });
        }
        if bytes >= looked {
            looked = bytes + LOOK_EVERY;
            leave_room(bundles, RESERVE + LOOK_EVERY)?;
        }
        file = write(file, chunk).await?;
    }

    let folder = bundles.to_owned();
    blocking(move || keep(&folder, file)).await
}

/// Nothing that is still being received stands still for so long.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Removes what a daemon was receiving when it was killed. Other daemons may be receiving into the same folder now.
pub fn sweep(bundles: &Path, now: SystemTime) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(bundles) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let is_incoming = entry.file_name().to_string_lossy().starts_with(INCOMING);
        if is_incoming && now.duration_since(entry.metadata()?.modified()?).is_ok_and(|age| age > ABANDONED) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

async fn write(mut file: NamedTempFile, chunk: Bytes) -> Result<NamedTempFile, PackageError> {
    blocking(move || {
        file.write_all(&chunk).map_err(PackageError::file("received"))?;
        Ok(file)
    })
    .await
}

fn keep(bundles: &Path, file: NamedTempFile) -> Result<Bundle, PackageError> {
    let bundle = bundle::read(file.path())?;
    file.as_file().sync_all().map_err(PackageError::file("written"))?;
    file.persist(path(bundles, &bundle.sha256)).map_err(|error| PackageError::file("kept")(error.error))?;
    // The rename itself is on the disk only when its folder is.
    std::fs::File::open(bundles).and_then(|folder| folder.sync_all()).map_err(PackageError::file("kept"))?;
    Ok(bundle)
}

fn leave_room(bundles: &Path, bytes: u64) -> Result<(), PackageError> {
    let free = nix::sys::statvfs::statvfs(bundles)
        .map_err(|errno| PackageError::file("received")(std::io::Error::from(errno)))?;
    if free.blocks_available() * free.fragment_size() < bytes { Err(PackageError::DiskFull) } else { Ok(()) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, PackageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| PackageError::file("received")(std::io::Error::other(error)))?
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::super::bundle::tests::{hello, names};
    use super::*;

    fn chunks(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Unpin + use<> {
        let chunks: Vec<_> = bytes.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        stream::iter(chunks)
    }

    #[tokio::test]
    async fn a_bundle_is_kept_under_its_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let bundles = dir.path().join("bundles");
        let bytes = hello();
        let bundle = receive(&bundles, LIMIT, chunks(&bytes)).await.unwrap();
        assert_eq!(names(&bundles), [format!("{}.eli", bundle.sha256)]);
        assert_eq!(std::fs::read(path(&bundles, &bundle.sha256)).unwrap(), bytes);
        assert_eq!(bundle.bytes, bytes.len() as u64);

        let again = receive(&bundles, LIMIT, chunks(&bytes)).await.unwrap();
        assert_eq!(again, bundle);
        assert_eq!(names(&bundles).len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_left_of_what_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = hello();

        let cut = receive(dir.path(), LIMIT, chunks(&bytes[..bytes.len() / 2])).await;
        assert!(matches!(cut, Err(PackageError::Unusable(_))), "{cut:?}");

        let large = receive(dir.path(), 2000, chunks(&bytes)).await;
        assert!(matches!(large, Err(PackageError::TooLarge { limit: 2000 })), "{large:?}");

        let gone =
            chunks(&bytes[..1000]).chain(stream::iter([Err(std::io::ErrorKind::ConnectionReset.into())]));
        let gone = receive(dir.path(), LIMIT, gone).await;
        assert!(matches!(gone, Err(PackageError::BrokenOff { bytes: 1000 })), "{gone:?}");

        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_full_disk_is_said_so() {
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = full.write_all(b"x").map_err(PackageError::file("received")).unwrap_err();
        assert_eq!(error.to_string(), "the appliance's disk is too full to keep this bundle");
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(leave_room(dir.path(), u64::MAX), Err(PackageError::DiskFull)));
        leave_room(dir.path(), 1).unwrap();
    }

    #[test]
    fn what_a_killed_daemon_was_receiving_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".incoming-a1b2"), "x").unwrap();
        std::fs::write(dir.path().join("0000.eli"), "x").unwrap();
        let now = SystemTime::now();
        sweep(dir.path(), now).unwrap();
        assert_eq!(names(dir.path()), [".incoming-a1b2", "0000.eli"], "another daemon may be at it");
        sweep(dir.path(), now + 2 * ABANDONED).unwrap();
        assert_eq!(names(dir.path()), ["0000.eli"]);
        sweep(&dir.path().join("nowhere"), now).unwrap();
    }
}
