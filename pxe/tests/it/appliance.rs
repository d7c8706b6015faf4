//! The boot servers with a simple directory, and a client to ask them.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, sync::Arc};

use pxe::{Boot, Server, dhcp::Mode};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{
    directory::Book,
    namespace::{Machine, run},
};

pub struct Appliance {
    pub book: Arc<Book>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<Result<(), pxe::ServerError>>,
    _files: TempDir,
}

impl Appliance {
    /// Serves lan0. The address comes a moment later, as from networkd.
    pub fn start() -> Self {
        Self::start_as(Mode::Full)
    }

    pub fn start_as(mode: Mode) -> Self {
        let files = tempfile::tempdir().unwrap();
        for loader in ["undionly.kpxe", "shimx64.efi"] {
            fs::write(files.path().join(loader), "loader").unwrap();
        }
        let server = Server {
            interface: "lan0".to_owned(),
            address: [10, 77, 0, 1].into(),
            mode,
            files: files.path().to_owned(),
            loaders: files.path().to_owned(),
            systems: files.path().join("systems"),
            tls: None,
            ca_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
            ca_sha256: "ab".repeat(32).parse().unwrap(),
        };
        let book = Book::new(Boot::Disk);
        let stop = CancellationToken::new();
        let server = tokio::spawn(server.run(book.clone(), stop.clone()));
        run("ip addr add 10.77.0.1/16 dev lan0");
        Self { book, stop, server, _files: files }
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
    }
}

/// Runs udhcpc to the end and returns what it was told.
pub async fn udhcpc(machine: &Arc<Machine>, arguments: &str) -> Result<BTreeMap<String, String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(
        &script,
        format!("#!/bin/sh\n[ \"$1\" = bound ] && env > {}/told\nexit 0\n", folder.path().display()),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let command = format!("busybox udhcpc -i eth0 -f -n -q -t 4 -T 1 -s {} {arguments}", script.display());
    let machine = Arc::clone(machine);
    let output = tokio::task::spawn_blocking(move || machine.output(&command)).await.unwrap();
    let told = fs::read_to_string(folder.path().join("told")).map_err(|_| {
        format!("{} (these tests need busybox with udhcpc)", String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(told
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}
