//! The artifacts that machines boot, install and make volumes from, as their manifest describes them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

/// `manifest.json`, written by the image builder.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    pub version: String,
    files: BTreeMap<String, Artifact>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Artifact {
    pub sha256: String,
    pub bytes: u64,
}

/// Reads the manifest of the artifacts in `files`.
pub fn manifest(files: &Path) -> anyhow::Result<Manifest> {
    let path = files.join("manifest.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a manifest", path.display()))
}

impl Manifest {
    pub fn file(&self, name: &str) -> anyhow::Result<&Artifact> {
        self.files.get(name).with_context(|| format!("the manifest names no {name}"))
    }

    /// The image that guests are made from.
    pub fn guest_image(&self) -> anyhow::Result<fleet::vm::Image> {
        let name = "guest.img".to_owned();
        let artifact = self.file(&name)?;
        Ok(fleet::vm::Image { sha256: artifact.sha256.clone(), bytes: artifact.bytes, name })
    }
}
