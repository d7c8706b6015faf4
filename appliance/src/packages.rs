//! Packages: `.eli` bundles as they come in, are kept, and become configuration files on a node.
//!
//! ```text
//! upload ──receive──▶ temporary file ──bundle::read──▶ bundles/SHA256.eli ──render──▶ files of a node
//! ```
//!
//! docs/eli.md describes the format. A bundle comes from anywhere, so all of it is checked before anything
//! is kept, and a bundle that is not as it should be changes nothing.

mod bundle;
mod manifest;
pub mod planned;
mod receive;
mod render;

use std::io;
use std::path::{Path, PathBuf};

use fleet::package::Manifest;

pub use bundle::read;
pub use receive::{LIMIT, receive};
pub use render::render;

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The bundle is not as it should be.
    #[error("{0}")]
    Unusable(String),
    #[error("the bundle is larger than {} MiB, the most that is taken", limit >> 20)]
    TooLarge { limit: u64 },
    #[error("the upload broke off after {bytes} bytes")]
    BrokenOff { bytes: u64 },
    #[error("the appliance's disk is too full to keep this bundle")]
    DiskFull,
    #[error("the bundle could not be {step}")]
    File { step: &'static str, source: io::Error },
}

impl PackageError {
    fn file(step: &'static str) -> impl FnOnce(io::Error) -> PackageError {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PackageError::DiskFull,
            _ => PackageError::File { step, source },
        }
    }
}

/// Where the bundle with this checksum is kept.
pub fn path(bundles: &Path, sha256: &str) -> PathBuf {
    bundles.join(format!("{sha256}.eli"))
}

/// Names of the `.deb` files inside the bundle, in the order to install them.
pub fn debs(manifest: &Manifest) -> Vec<String> {
    manifest.debs.iter().map(|deb| deb.file.clone()).collect()
}
