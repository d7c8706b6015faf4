//! What `eli login` has learned, in `~/.config/elisandra/eli.toml`, readable by its owner only.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `https://10.77.0.1`
    pub server: String,
    /// SHA-256 of its authority's certificate.
    pub fingerprint: String,
    pub token: String,
}

impl Settings {
    /// None if nobody has logged in yet.
    pub fn read(path: &Path) -> anyhow::Result<Option<Settings>> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let settings =
                    toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
                Ok(Some(settings))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let writing = || format!("writing {}", path.display());
        if let Some(dir) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(writing)?;
        }
        let beside = path.with_extension("new");
        // What is left of a run that was broken off may have another mode.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(writing);
            }
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .with_context(writing)?;
        file.write_all(toml::to_string(self)?.as_bytes()).with_context(writing)?;
        std::fs::rename(&beside, path).with_context(writing)
    }
}

pub fn forget(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn they_come_back_as_they_were_and_are_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("elisandra/eli.toml");
        assert_eq!(Settings::read(&path).unwrap(), None);
        let settings =
            Settings { server: "https://10.77.0.1".into(), fingerprint: "AA".into(), token: "secret".into() };
        settings.write(&path).unwrap();
        settings.write(&path).unwrap();
        assert_eq!(Settings::read(&path).unwrap(), Some(settings));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        forget(&path).unwrap();
        forget(&path).unwrap();
        std::fs::write(&path, "servr = 1").unwrap();
        assert!(Settings::read(&path).is_err());
    }
}
