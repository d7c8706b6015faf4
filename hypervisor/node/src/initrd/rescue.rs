//! A shell for a person: the system image in memory, no agent, and not one disk touched.

use std::path::Path;

use fleet::Mac;

use crate::cmdline::Appliance;
use crate::console::say;
use crate::mounts;
use crate::network::Network;
use crate::places;
use crate::state;

use super::live;

/// Downloads the system. Neither the appliance's authority nor its node API is asked: a rescue has to work when they
/// do not.
pub async fn run(
    root: &Path,
    appliance: &Appliance,
    boot_mac: Option<Mac>,
    url: &str,
    sha256: &str,
) -> anyhow::Result<()> {
    let (network, uplink) = Network::up(boot_mac, appliance.address).await?;
    live::fetch(root, url, sha256).await?;
    // What the system writes is forgotten. A host's own state is on its disk, for the person to mount.
    mounts::memory(&state::place(root), "50%")?;
    places::write(&state::place(root).join("lan-nic"), format!("{}\n", uplink.mac), 0o644)?;
    drop(network);
    say("The rescue system is in memory; a shell comes on the screen and on the serial port.");
    super::mark("rescue")
}
