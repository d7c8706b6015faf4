//! The few facts about itself that every node takes from the appliance: its name and who may log in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::manifest::Manifest;
use crate::places::{self, PlaceError, RUN};

#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    #[error("{0:?} is not a host name")]
    NotAName(String),
    #[error("setting the host name")]
    HostName(#[source] nix::Error),
    #[error(transparent)]
    Write(#[from] PlaceError),
    #[error("restarting")]
    Restart(#[source] std::io::Error),
}

/// Where a node keeps these facts.
#[derive(Debug, Clone)]
pub struct Files {
    pub hostname: PathBuf,
    pub authorized_keys: PathBuf,
    /// The number of the last restart that it was told to make.
    pub restarted: PathBuf,
}

impl Files {
    /// A host's root is in memory: /etc/hostname is a link to /run, and sshd reads the keys from the state volume, where
    /// they are there before the appliance answers.
    pub fn of_a_host() -> Self {
        Self {
            hostname: Path::new(RUN).join("hostname"),
            authorized_keys: Path::new(places::STATE).join("ssh/authorized_keys"),
            restarted: Path::new(places::STATE).join("node/restarted"),
        }
    }

    /// A guest has an ordinary disk.
    pub fn of_a_guest() -> Self {
        Self {
            hostname: PathBuf::from("/etc/hostname"),
            authorized_keys: PathBuf::from("/root/.ssh/authorized_keys"),
            restarted: PathBuf::from("/var/lib/elisandra/restarted"),
        }
    }

    /// Gives the machine its name, now and for the next start. Says whether something changed.
    pub fn set_hostname(&self, name: &str) -> Result<bool, SystemError> {
        let good = (1..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !name.starts_with('-');
        if !good {
            return Err(SystemError::NotAName(name.to_owned()));
        }
        let written = write_if_other(&self.hostname, &format!("{name}\n"), 0o644)?;
        let current = nix::unistd::gethostname().unwrap_or_default();
        if current != name {
            nix::unistd::sethostname(name).map_err(SystemError::HostName)?;
        }
        Ok(written)
    }

    /// Lets exactly these keys in. Says whether something changed.
    pub fn set_keys(&self, keys: &[String]) -> Result<bool, SystemError> {
        // A key is a line; one that holds a line's end would be two.
        let lines: String = keys
            .iter()
            .filter(|key| !key.chars().any(char::is_control))
            .map(|key| format!("{key}\n"))
            .collect();
        Ok(write_if_other(&self.authorized_keys, &lines, 0o600)?)
    }

    /// Restarts the machine, once for each number: one that comes up with its old system again is not restarted over
    /// and over.
    pub fn restart_once(&self, number: u64) -> Result<(), SystemError> {
        if !self.is_first_time(number)? {
            return Ok(());
        }
        tracing::info!("The appliance says to restart");
        let done =
            std::process::Command::new("systemctl").arg("reboot").status().map_err(SystemError::Restart)?;
        if done.success() {
            Ok(())
        } else {
            Err(SystemError::Restart(std::io::Error::other(done.to_string())))
        }
    }

    /// Kept before the machine goes down.
    fn is_first_time(&self, number: u64) -> Result<bool, SystemError> {
        Ok(write_if_other(&self.restarted, &format!("{number}\n"), 0o600)?)
    }
}

fn write_if_other(path: &Path, content: &str, mode: u32) -> Result<bool, PlaceError> {
    if fs::read_to_string(path).is_ok_and(|there| there == content) {
        return Ok(false);
    }
    places::write(path, content, mode)?;
    Ok(true)
}

/// The version of the system image that this machine runs, else of this program.
pub fn version() -> String {
    let manifest = fs::read(Path::new(RUN).join("files/manifest.json")).ok();
    manifest
        .and_then(|json| Manifest::read(&json).ok())
        .map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), |manifest| manifest.version)
}

/// Seconds since the machine was started.
pub fn uptime_secs() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(['.', ' ']).next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_once_and_only_as_lines() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files {
            hostname: dir.path().join("hostname"),
            authorized_keys: dir.path().join(".ssh/authorized_keys"),
            restarted: dir.path().join("restarted"),
        };
        let keys = ["ssh-ed25519 AAAA me".to_owned(), "ssh-ed25519 BBBB\ncommand=\"x\" you".to_owned()];
        assert!(files.set_keys(&keys).unwrap());
        assert!(!files.set_keys(&keys).unwrap());
        assert_eq!(fs::read_to_string(&files.authorized_keys).unwrap(), "ssh-ed25519 AAAA me\n");
        assert!(files.set_keys(&[]).unwrap());
        assert!(matches!(files.set_hostname("a b"), Err(SystemError::NotAName(_))));
        assert!(matches!(files.set_hostname(""), Err(SystemError::NotAName(_))));
    }

    #[test]
    fn a_restart_is_made_once_for_each_number() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { restarted: dir.path().join("node/restarted"), ..Files::of_a_guest() };
        let times = [7, 7, 8, 8].map(|number| files.is_first_time(number).unwrap());
        assert_eq!(times, [true, false, true, false]);
    }

    #[test]
    fn the_machine_has_been_up() {
        assert!(uptime_secs() > 0);
        assert!(!version().is_empty());
    }
}
