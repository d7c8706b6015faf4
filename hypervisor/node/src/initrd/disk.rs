//! From this machine's own disk: an installed host, or the appliance.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::mount::MsFlags;

use crate::console::{say, say_error};
use crate::inventory;
use crate::labels;
use crate::layout::IMAGE_LABEL;
use crate::mounts;
use crate::places::{self, MachineFacts, RUN};
use crate::state::{self, Found};

/// Tries for ever: a disk behind a slow controller comes, one that a person has to plug in again too.
pub async fn run(root: &Path) -> anyhow::Result<()> {
    say("Elisandra starts from this machine's disk.");
    let mut said = String::new();
    let mut since = Instant::now();
    let found = loop {
        match look() {
            Ok(found) => break found,
            Err(error) => {
                let sentence = format!("{error:#}");
                // The first second is only the disk on its way.
                if since.elapsed() > Duration::from_secs(3) && said != sentence {
                    say(&sentence);
                    said = sentence;
                }
            }
        }
        if since.elapsed() > Duration::from_secs(60) {
            since = Instant::now();
            said.clear();
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };

    let files = Path::new(RUN).join("image/a");
    mounts::root(&files.join("live.squashfs"), root)?;
    symlink(&files, Path::new(RUN).join("files")).context("pointing /run/elisandra/files at the disk")?;
    found.mount(root)?;
    match found.role()?.as_deref() {
        Some("appliance") => {
            super::mark("appliance")?;
            super::mark("host")?;
        }
        Some("host") => {
            super::mark("host")?;
            introduce(root).inspect_err(say_error)?;
        }
        Some(other) => {
            bail!("the disk says that this machine is {other:?}, which is neither appliance nor host")
        }
        None => bail!("the disk does not say whether this machine is an appliance or a host"),
    }
    Ok(())
}

/// Mounts the image partition and finds the state on the same disk.
fn look() -> anyhow::Result<Found> {
    let image = Path::new(RUN).join("image");
    let device = labels::find(IMAGE_LABEL).into_iter().next().with_context(|| {
        format!("no disk of this machine has a partition labelled {IMAGE_LABEL}. Still looking …")
    })?;
    if !image.join("a").exists() {
        mounts::device(&device, "ext4", &image, MsFlags::MS_RDONLY)?;
    }
    if !image.join("a/live.squashfs").exists() {
        bail!("the partition {IMAGE_LABEL} holds no system image");
    }
    let disk = inventory::disk_of(&device);
    state::find(disk.as_deref())?
        .context("the volume with this machine's state is not there. Still looking …")
}

/// Gives the running system the name that the installation gave the machine, before the agent is up.
fn introduce(root: &Path) -> anyhow::Result<()> {
    let path = state::place(root).join("node/machine.json");
    let Ok(bytes) = fs::read(&path) else { return Ok(()) };
    let facts: MachineFacts =
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?;
    if let Some(hostname) = facts.hostname {
        places::write(&Path::new(RUN).join("hostname"), format!("{hostname}\n"), 0o644)?;
    }
    Ok(())
}
