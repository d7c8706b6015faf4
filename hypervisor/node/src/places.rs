//! Where things are in the running system and in the initrd, and the facts a node knows about its appliance.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fleet::id::Mac;
use serde::{Deserialize, Serialize};

/// Marker files and everything else that lasts until the next restart.
pub const RUN: &str = "/run/elisandra";
/// The only folder that outlives a restart.
pub const STATE: &str = "/var/lib/elisandra";

/// `node.json`: how a node reaches its appliance and knows that it is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    pub appliance: Ipv4Addr,
    /// Of the CA certificate's DER, in hexadecimal.
    pub ca_sha256: String,
    /// For a node that the appliance does not know by its key yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment: Option<String>,
}

impl NodeFacts {
    /// From /run (this start: written by the appliance itself, or by the initrd of a host without a disk),
    /// else from the state volume (written by the installation). `None` when neither is there yet.
    pub fn find() -> Result<Option<Self>, PlaceError> {
        for path in [Path::new(RUN).join("node.json"), Path::new(STATE).join("node.json")] {
            match fs::read(&path) {
                Ok(bytes) => {
                    return serde_json::from_slice(&bytes)
                        .map(Some)
                        .map_err(|source| PlaceError::Json { path, source });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(PlaceError::Read { path, source }),
            }
        }
        Ok(None)
    }
}

/// `node/machine.json` on the state volume: what the installation knew and the initrd needs at every start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    pub hostname: Option<String>,
    /// The NIC on the appliance's network: it goes into the bridge `lan0`.
    pub nic: Mac,
}

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not what it should be", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("writing {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Writes a file so that after a power loss either the old or the new content is there, never a part.
/// The mode is there from the beginning: a key is at no moment readable by others.
pub fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<(), PlaceError> {
    let fail = |source| PlaceError::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(fail)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);

    let written = (|| {
        // A file that a lost start left behind may have another mode.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(content.as_ref())?;
        // The umask may have taken bits away.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    })();
    written.map_err(fail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node/key.pem");
        write(&path, "one", 0o600).unwrap();
        fs::write(dir.path().join("node/key.pem.new"), "left behind").unwrap();
        write(&path, "two", 0o600).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!dir.path().join("node/key.pem.new").exists());
    }

    #[test]
    fn facts_are_read_as_kickstart_writes_them() {
        let facts: NodeFacts = serde_json::from_str(r#"{"appliance":"10.77.0.1","ca_sha256":"ab"}"#).unwrap();
        assert_eq!(
            facts,
            NodeFacts {
                appliance: Ipv4Addr::new(10, 77, 0, 1),
                ca_sha256: "ab".to_owned(),
                enrollment: None
            }
        );
    }
}
