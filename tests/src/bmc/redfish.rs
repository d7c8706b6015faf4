//! `sushy-emulator` of OpenStack's sushy-tools: Redfish over TLS with HTTP basic
//! authentication. Its own drivers make machines of their own or pretend; ours
//! ([redfish.py](redfish.py)) asks the panel.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::{PASSWORD, USER};
use crate::child;
use crate::machine::{Machine, mac_text};

const DRIVER: &str = include_str!("redfish.py");

pub(super) fn command(
    folder: &Path,
    address: SocketAddr,
    panel: SocketAddr,
    machine: &Machine,
) -> Result<Command> {
    let driver = folder.join("redfish.py");
    fs::write(&driver, DRIVER)?;
    write_certificate(folder)?;
    let settings = json!({
        "host": address.ip(),
        "port": address.port(),
        "panel": [panel.ip().to_string(), panel.port().to_string()],
        "uuid": machine.uuid,
        "name": machine.name,
        "mac": mac_text(machine.mac()),
        "user": USER,
        "password": PASSWORD,
        "folder": folder,
    });
    let python = python()?;
    let mut command = child::command(python.to_str().context("the cache's folder is not UTF-8")?);
    command.arg(driver).arg(settings.to_string());
    Ok(command)
}

pub(super) fn is_heard(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

/// A certificate that nobody signed, as BMCs have.
fn write_certificate(folder: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["bmc.lab".to_string()])?.self_signed(&key)?;
    fs::write(folder.join("certificate.pem"), certificate.pem())?;
    fs::write(folder.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

/// The one that sushy-tools are installed for.
fn python() -> Result<PathBuf> {
    let cache = match std::env::var_os("ELISANDRA_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache/elisandra"),
    };
    let tools = cache.join("python/bin");
    ensure!(
        tools.join("sushy-emulator").exists(),
        "sushy-emulator is not in {}; tests/needs installs it",
        tools.display()
    );
    Ok(tools.join("python"))
}
