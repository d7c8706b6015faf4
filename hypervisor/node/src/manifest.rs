//! `manifest.json`: the files of one version of the system and their checksums.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: String,
    pub files: BTreeMap<String, FileFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    pub sha256: String,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest.json is not what it should be")]
    Json(#[source] serde_json::Error),
    #[error("manifest.json does not name {0}")]
    Missing(&'static str),
}

/// What a machine needs to start by itself. The guest image is fetched when the first VM needs it.
pub const OF_A_HOST: [&str; 3] = ["vmlinuz", "initrd", "live.squashfs"];
/// What the appliance hands out to others.
pub const OF_THE_APPLIANCE: [&str; 4] = ["vmlinuz", "initrd", "live.squashfs", "guest.img"];

impl Manifest {
    pub fn read(json: &[u8]) -> Result<Self, ManifestError> {
        serde_json::from_slice(json).map_err(ManifestError::Json)
    }

    pub fn file(&self, name: &'static str) -> Result<&FileFacts, ManifestError> {
        self.files.get(name).ok_or(ManifestError::Missing(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builders_manifest_is_read() {
        let manifest = Manifest::read(
            br#"{"version":"0.1.0","files":{"vmlinuz":{"sha256":"ab","bytes":12},"initrd":{"sha256":"cd","bytes":34}}}"#,
        )
        .unwrap();
        assert_eq!(manifest.file("initrd").unwrap().bytes, 34);
        assert_eq!(
            manifest.file("live.squashfs").unwrap_err().to_string(),
            "manifest.json does not name live.squashfs"
        );
        assert!(Manifest::read(b"<html>").is_err());
    }
}
