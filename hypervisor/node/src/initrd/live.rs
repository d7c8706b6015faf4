//! A host that runs over the network: the system image is held in memory.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use fleet::Mac;
use fleet::wire::Report;

use crate::client::{self, Backoff, Client};
use crate::cmdline::Appliance;
use crate::console::{say, say_error};
use crate::download::{self, Wanted};
use crate::identity::Identity;
use crate::inventory;
use crate::mounts;
use crate::network::Network;
use crate::places::{self, NodeFacts, RUN};
use crate::state;

/// Downloads the system, introduces this machine to the appliance, and mounts the root.
pub async fn run(
    root: &Path,
    appliance: &Appliance,
    boot_mac: Option<Mac>,
    url: &str,
    sha256: &str,
) -> anyhow::Result<()> {
    let (network, uplink) = Network::up(boot_mac, appliance.address).await?;
    let authority = super::authority(appliance).await;

    fetch(root, url, sha256).await?;
    match state::find(None)? {
        Some(found) if found.role()?.as_deref() == Some("host") => found.mount(root)?,
        Some(_) | None => {
            let sentence = "this host runs over the network and has no state volume on a disk";
            places::write(&Path::new(RUN).join("memory-only"), format!("{sentence}\n"), 0o644)?;
            mounts::memory(&state::place(root), "50%")?;
        }
    }
    // The appliance knows a machine by its key once it has reported with it.
    let identity = Identity::load_or_make(&state::place(root).join("node"))?;
    let client = Client::new(&authority, &identity)?;
    let hardware = inventory::this_machine(uplink.mac);
    let mut backoff = Backoff::default();
    while let Err(error) = client.report(&Report { hardware: hardware.clone(), neighbours: Vec::new() }).await
    {
        say_error(&error.into());
        backoff.wait().await;
    }
    let facts =
        NodeFacts { appliance: appliance.address, ca_sha256: appliance.ca_sha256.clone(), enrollment: None };
    places::write(&Path::new(RUN).join("node.json"), serde_json::to_vec(&facts)?, 0o600)?;
    places::write(&state::place(root).join("lan-nic"), format!("{}\n", uplink.mac), 0o644)?;
    drop(network);
    super::mark("host")
}

/// Downloads the system into memory, for as long as it takes, and mounts it as the root.
pub(super) async fn fetch(root: &Path, url: &str, sha256: &str) -> anyhow::Result<()> {
    let folder = Path::new(RUN).join("download");
    mounts::memory(&folder, "60%")?;
    let image = folder.join("live.squashfs");
    let wanted = Wanted { url: url.to_owned(), sha256: sha256.to_owned(), bytes: None };
    let mut backoff = Backoff::default();
    loop {
        say("Downloading the system …");
        match download::to_file(&client::plain_http()?, &wanted, &image, |_| {}).await {
            Ok(()) => break,
            Err(error) => say_error(&error.into()),
        }
        backoff.wait().await;
    }
    mounts::root(&image, root)?;
    symlink(&folder, Path::new(RUN).join("files")).context("pointing /run/elisandra/files at memory")?;
    Ok(())
}
