//! On the appliance: the system that was started from the medium is copied to the machine's own disk, so that the
//! medium can be pulled out before the next start.
//!
//! Started once after every boot. Does nothing when the disk holds this version already, or is not ours.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use nix::mount::MsFlags;

use crate::console::say;
use crate::install::{self, BootLoaders, Source};
use crate::inventory;
use crate::labels;
use crate::layout::{ESP_LABEL, IMAGE_LABEL, STATE_LABEL};
use crate::manifest::{Manifest, OF_THE_APPLIANCE};
use crate::mounts;
use crate::places::{self, RUN};

/// The same as on the medium.
const CONSOLES: &str = "console=tty0 console=ttyS0,115200 panic=30";

pub async fn run() -> anyhow::Result<()> {
    let run = Path::new(RUN);
    if !run.join("appliance").exists() || !run.join("medium").exists() {
        say("This machine was not started from a medium: nothing to keep.");
        return Ok(());
    }
    if run.join("memory-only").exists() {
        say("This appliance has no disk of its own: nothing to keep the system on.");
        return Ok(());
    }
    let files = run.join("files");
    let manifest = Manifest::read(&fs::read(files.join("manifest.json")).context("reading manifest.json")?)?;
    let Some(image) = labels::find(IMAGE_LABEL).into_iter().next() else {
        bail!("no disk has a partition labelled {IMAGE_LABEL}");
    };
    let disk = inventory::disk_of(&image).context("the image partition is on no disk")?;
    // Ours is the one beside the state that is mounted; another disk's image belongs to another machine's past.
    if labels::find(STATE_LABEL).is_empty() {
        bail!("the volume {STATE_LABEL} is not there");
    }
    let esp = labels::find(ESP_LABEL)
        .into_iter()
        .find(|device| inventory::disk_of(device).as_ref() == Some(&disk))
        .with_context(|| format!("the disk {disk} has no partition labelled {ESP_LABEL}"))?;

    let image_place = run.join("keep/image");
    let esp_place = run.join("keep/esp");
    mounts::device(&image, "ext4", &image_place, MsFlags::empty())?;
    let result = match mounts::device(&esp, "vfat", &esp_place, MsFlags::empty()) {
        Ok(()) => {
            let result = keep(&files, &manifest, &disk, &image_place, &esp_place).await;
            mounts::unmount(&esp_place)?;
            result
        }
        Err(error) => Err(error.into()),
    };
    mounts::unmount(&image_place)?;
    result
}

async fn keep(files: &Path, manifest: &Manifest, disk: &str, image: &Path, esp: &Path) -> anyhow::Result<()> {
    if install::holds(&image.join("a"), manifest, &OF_THE_APPLIANCE)
        && esp.join("EFI/BOOT/BOOTX64.EFI").exists()
    {
        say(format_args!("The disk holds version {} already.", manifest.version));
        return Ok(());
    }
    say(format_args!("Copying version {} to the disk {disk} …", manifest.version));
    install::put(&Source::Folder(files.to_owned()), image, &OF_THE_APPLIANCE, &mut |_| {}).await?;
    places::write(&image.join("grub/grub.cfg"), install::grub_config(CONSOLES), 0o644)?;
    let loaders = BootLoaders::read(Path::new("/usr/lib/elisandra/boot"))?;
    install::install_boot_loaders(&loaders, disk, esp)?;
    nix::unistd::sync();
    say("The disk starts this appliance by itself now.");
    Ok(())
}
