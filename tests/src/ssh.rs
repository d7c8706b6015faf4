//! Root's shell on a machine of the lab, with a key that the site's policy
//! lets in: how a test reaches inside a machine as an operator would.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A key pair of the lab.
#[derive(Debug, Clone)]
pub struct Key {
    private: PathBuf,
    /// A line for authorized_keys.
    pub public: String,
}

impl Key {
    /// The key in this folder, made if there is none.
    pub fn in_folder(folder: &Path) -> Result<Key> {
        let private = folder.join("ssh-key");
        if !private.exists() {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"])
                .arg(&private)
                .output()
                .context("running ssh-keygen")?;
            if !made.status.success() {
                bail!("ssh-keygen: {}", String::from_utf8_lossy(&made.stderr).trim());
            }
        }
        let public = fs::read_to_string(private.with_extension("pub"))?.trim().to_string();
        Ok(Key { private, public })
    }

    /// Runs a command as root and gives what it printed.
    pub fn run(&self, at: SocketAddr, command: &str) -> Result<String> {
        let output = Command::new("ssh")
            .arg("-i")
            .arg(&self.private)
            // Machines of the lab are made afresh, and with them their keys.
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "LogLevel=ERROR"])
            .args(["-p", &at.port().to_string(), &format!("root@{}", at.ip()), command])
            .output()
            .context("running ssh")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{command:?} over ssh to {at} ended with {}: {}", output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
