//! Carries out a kickstart file: divides the disk, brings the image and the boot loaders, reads back what was
//! written.
//!
//! ```text
//! refuse or wipe ─▶ partitions, volumes ─▶ download, check ─▶ boot loaders ─▶ state ─▶ %post ─▶ read back
//! ```
//!
//! The first boot sector and the ESP are written after the image is complete: with the power lost anywhere before,
//! the disk is not bootable and the machine netboots into discovery again.

mod artifacts;
mod boot_loaders;
mod disk;
mod system;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use fleet::Mac;
use fleet::wire::{Disk, Hardware};
use nix::mount::MsFlags;
use pxe::kickstart::{Kickstart, PartitionKind, Script};

use crate::cmdline::Appliance;
use crate::identity::Identity;
use crate::layout::{self, FileSystem, IMAGE_LABEL, Layout, Placed, STATE_LABEL};
use crate::mounts;
use crate::places::{self, MachineFacts, NodeFacts, RUN, STATE};
use crate::tool;

pub use artifacts::{Source, holds, put};
pub use boot_loaders::{BootLoaders, grub_config};

/// What an installation needs to know besides the kickstart file.
pub struct Installation<'a> {
    pub kickstart: &'a Kickstart,
    /// What was reported before the file was written: a disk that is another one now is not touched.
    pub reported: &'a Hardware,
    pub appliance: &'a Appliance,
    pub identity: &'a Identity,
}

/// Hears each step in a few words, with a percentage while something takes its time.
pub trait Progress {
    fn step(&mut self, step: &str, percent: Option<u8>);
}

/// Where Anaconda mounts the new system, and `%post --nochroot` expects it.
const SYSIMAGE: &str = "/mnt/sysimage";

/// An installation that failed: in which step, and why.
#[derive(Debug)]
pub struct InstallFailed {
    pub step: String,
    pub error: anyhow::Error,
}

impl Installation<'_> {
    /// Returns when the disk is complete, synced and read back. Nothing is mounted then.
    pub async fn run(&self, progress: &mut dyn Progress) -> Result<(), InstallFailed> {
        let mut last = Last { step: "reading the kickstart file".to_owned(), progress };
        let result = self.steps(&mut last).await;
        let step = last.step;
        result.map_err(|error| InstallFailed { step, error })
    }

    async fn steps(&self, progress: &mut Last<'_>) -> anyhow::Result<()> {
        let kickstart = self.kickstart;
        let layout = Layout {
            partitions: kickstart.partitions.clone(),
            volume_groups: kickstart.volume_groups.clone(),
            logical_volumes: kickstart.logical_volumes.clone(),
        };
        if let Some(script) = kickstart.post.iter().find(|script| !script.nochroot) {
            bail!(
                "a %post without --nochroot is not carried out: {:?}",
                script.body.lines().next().unwrap_or_default()
            );
        }
        let device = disk::the_one_named(&kickstart.disk, self.reported)?;

        let placed = disk::lay_out(&layout, &device, |name| progress.step(name, None))?;
        let file_systems = layout::file_systems(&layout, &placed);
        let sysimage = Sysimage::mount(&file_systems)?;

        progress.step("downloading the system", Some(0));
        let image = sysimage.at(&find(&file_systems, IMAGE_LABEL)?.mount);
        let source = Source::Web {
            folder: artifacts::folder_of(&kickstart.image.url)?,
            image_sha256: kickstart.image.sha256.as_str().to_owned(),
        };
        artifacts::put(&source, &image, &crate::manifest::OF_A_HOST, &mut |percent| {
            progress.step("downloading the system", Some(percent));
        })
        .await?;

        progress.step("making the disk bootable", None);
        let loaders = system::boot_loaders(&image.join("a/live.squashfs"))?;
        places::write(&image.join("grub/grub.cfg"), grub_config(&kickstart.bootloader.append), 0o644)?;
        loaders.install(&sysimage.at("/boot/efi"), &device, bios_boot(&placed)?)?;

        progress.step("writing this machine's state", None);
        let state = sysimage.at(&find(&file_systems, STATE_LABEL)?.mount);
        self.write_state(&state)?;
        for script in &kickstart.post {
            progress.step("running the kickstart file's own script", None);
            post(script)?;
        }

        progress.step("reading back what was written", None);
        sysimage.unmount()?;
        let again = Sysimage::mount_read_only(&file_systems)?;
        artifacts::check(
            &again.at(&find(&file_systems, IMAGE_LABEL)?.mount).join("a"),
            &crate::manifest::OF_A_HOST,
        )?;
        again.unmount()
    }

    /// What makes the machine come up as a host of this appliance.
    fn write_state(&self, state: &Path) -> anyhow::Result<()> {
        let network = self.kickstart.networks.first();
        let nic = network.map_or(self.reported.boot_mac, |network| Mac(network.device.0));
        let machine = MachineFacts {
            hostname: network
                .and_then(|network| network.hostname.as_ref())
                .map(|name| name.as_str().to_owned()),
            nic,
        };
        let node = NodeFacts {
            appliance: self.appliance.address,
            ca_sha256: self.appliance.ca_sha256.clone(),
            enrollment: None,
        };
        places::write(&state.join("role"), "host\n", 0o644)?;
        places::write(&state.join("node.json"), serde_json::to_vec(&node)?, 0o600)?;
        places::write(&state.join("node/machine.json"), serde_json::to_vec(&machine)?, 0o644)?;
        self.identity.save_key(&state.join("node"))?;
        // Read by the unit that makes the bridge lan0.
        places::write(&state.join("lan-nic"), format!("{nic}\n"), 0o644)?;
        let keys = self.kickstart.ssh_keys.iter().filter(|key| key.user == "root");
        let keys: String = keys.map(|key| format!("{}\n", key.key)).collect();
        places::write(&state.join("ssh/authorized_keys"), keys, 0o600)?;
        Ok(())
    }
}

/// Divides the appliance's own disk, which is blank or was chosen to be wiped. The image comes later, by `keep-image`, when the appliance is up.
pub fn lay_out_for_appliance(disk: &Disk) -> anyhow::Result<()> {
    disk::unchanged(disk)?;
    let device = disk::Device { path: PathBuf::from(&disk.path), bytes: disk.bytes };
    let layout = Layout::of_the_appliance();
    let placed = disk::lay_out(&layout, &device, |_| {})?;
    let sysimage = Sysimage::mount(&layout::file_systems(&layout, &placed))?;
    places::write(&sysimage.at(STATE).join("role"), "appliance\n", 0o644)?;
    sysimage.unmount()?;
    disk::finish(&device, &placed)
}

/// Makes a disk that the appliance laid out itself start under both firmwares; `esp` is mounted.
pub fn install_boot_loaders(loaders: &BootLoaders, disk: &str, esp: &Path) -> anyhow::Result<()> {
    let device = disk::Device::named(disk)?;
    let placed = layout::place(&Layout::of_the_appliance(), &device.path, device.bytes)?;
    let bios_boot = bios_boot(&placed)?;
    loaders.install(esp, &device, bios_boot)
}

fn bios_boot(placed: &[Placed]) -> anyhow::Result<&Placed> {
    placed
        .iter()
        .find(|part| part.what == PartitionKind::BiosBoot)
        .context("the layout has no BIOS boot partition")
}

/// Remembers the step that is under way.
struct Last<'a> {
    step: String,
    progress: &'a mut dyn Progress,
}

impl Last<'_> {
    fn step(&mut self, step: &str, percent: Option<u8>) {
        step.clone_into(&mut self.step);
        self.progress.step(step, percent);
    }
}

fn find<'a>(file_systems: &'a [FileSystem], label: &str) -> anyhow::Result<&'a FileSystem> {
    file_systems
        .iter()
        .find(|there| there.label.as_deref() == Some(label))
        .with_context(|| format!("the layout has no file system labelled {label}"))
}

fn post(script: &Script) -> anyhow::Result<()> {
    let mut shell = std::process::Command::new("sh");
    shell.arg("-s");
    let limit = std::time::Duration::from_secs(600);
    match tool::run_with_input("the script of the kickstart file", limit, &mut shell, &script.body) {
        Err(error) if script.error_on_fail => Err(error.into()),
        Err(error) => {
            crate::console::say(error);
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// The new file systems below /mnt/sysimage. Unmounted when an installation ends early.
struct Sysimage {
    mounted: Vec<PathBuf>,
}

impl Sysimage {
    fn mount(file_systems: &[FileSystem]) -> anyhow::Result<Self> {
        Self::with(file_systems, MsFlags::empty())
    }

    fn mount_read_only(file_systems: &[FileSystem]) -> anyhow::Result<Self> {
        Self::with(file_systems, MsFlags::MS_RDONLY)
    }

    fn with(file_systems: &[FileSystem], flags: MsFlags) -> anyhow::Result<Self> {
        let mut sysimage = Self { mounted: Vec::new() };
        for there in file_systems {
            let place = sysimage.at(&there.mount);
            mounts::device(&there.device, there.kind, &place, flags)?;
            sysimage.mounted.push(place);
        }
        Ok(sysimage)
    }

    fn at(&self, mount: &str) -> PathBuf {
        Path::new(SYSIMAGE).join(mount.trim_start_matches('/'))
    }

    fn unmount(mut self) -> anyhow::Result<()> {
        nix::unistd::sync();
        while let Some(place) = self.mounted.pop() {
            mounts::unmount(&place)?;
        }
        Ok(())
    }
}

impl Drop for Sysimage {
    fn drop(&mut self) {
        for place in self.mounted.iter().rev() {
            if let Err(error) = mounts::unmount(place) {
                crate::console::say(error);
            }
        }
    }
}

/// A folder of our own for a moment's mount.
fn aside(name: &str) -> anyhow::Result<PathBuf> {
    let folder = Path::new(RUN).join(name);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}
