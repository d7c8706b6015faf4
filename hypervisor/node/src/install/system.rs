//! What is taken out of the system image during an installation.

use std::path::Path;

use super::{BootLoaders, aside};
use crate::mounts;

/// Reads the boot loaders out of a squashfs.
pub fn boot_loaders(image: &Path) -> anyhow::Result<BootLoaders> {
    let place = aside("system")?;
    mounts::squashfs(image, &place)?;
    let loaders = BootLoaders::read(&place.join("usr/lib/elisandra/boot"));
    mounts::unmount(&place)?;
    loaders
}
