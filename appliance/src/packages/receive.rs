//! Takes an upload to the disk, checks it, and keeps it.

use std::io::Write as _;
use std::path::Path;

use axum::body::Bytes;
use fleet::package::Bundle;
use futures::{Stream, StreamExt as _};
use tempfile::NamedTempFile;

use super::{PackageError, bundle, path};
use crate::incoming::{self, blocking};

/// The most that is taken unless the settings say otherwise.
pub const LIMIT: u64 = 4 << 30;

/// How many bytes go by between two looks at the free space.
const LOOK_EVERY: u64 = 16 << 20;

/// Receives a bundle and keeps it as `SHA256.eli` in `bundles`. When it is refused, nothing is left of it.
pub async fn receive<E>(
    bundles: &Path,
    limit: u64,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Bundle, PackageError> {
    let folder = bundles.to_owned();
    let file = blocking(move || incoming::file_in(&folder)).await;
    let mut file = file.map_err(PackageError::file("received"))?;

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
            incoming::leave_room(bundles, LOOK_EVERY).map_err(PackageError::file("received"))?;
        }
        let written = blocking(move || file.write_all(&chunk).map(|()| file));
        file = written.await.map_err(PackageError::file("received"))?;
    }

    let folder = bundles.to_owned();
    blocking(move || keep(&folder, file)).await
}

fn keep(bundles: &Path, file: NamedTempFile) -> Result<Bundle, PackageError> {
    let bundle = bundle::read(file.path())?;
    file.as_file().sync_all().map_err(PackageError::file("written"))?;
    file.persist(path(bundles, &bundle.sha256)).map_err(|error| PackageError::file("kept")(error.error))?;
    // The rename itself is on the disk only when its folder is.
    std::fs::File::open(bundles).and_then(|folder| folder.sync_all()).map_err(PackageError::file("kept"))?;
    Ok(bundle)
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
    }
}
