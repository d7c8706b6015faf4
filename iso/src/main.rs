//! Builds what machines boot: the system image (kernel, initrd, squashfs), the guest image, the ISO and the
//! example package. Nothing is mounted, and nothing but the package mirror is needed from outside.
//!
//! ```text
//! packages ──mmdebstrap──▶ root.tar ──finish──▶ system.tar, vmlinuz, initrd, boot loaders      (cached, minutes)
//!    + our binaries and overlay/ ──▶ live.squashfs, initrd + elisandra-node                    (cached, seconds)
//!    + guest.img ──▶ manifest.json, elisandra.iso
//! ```

mod bundle;
mod cache;
mod cpio;
mod debian;
mod guest;
mod libraries;
mod manifest;
mod medium;
mod progress;
mod system;
mod tarball;
mod tool;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{cache::Cache, debian::Mirror};

#[derive(Parser)]
#[command(about = "Builds the system image, the guest image, the ISO and the example package")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything: vmlinuz, initrd, live.squashfs, guest.img, manifest.json, elisandra.iso, hello.eli
    All(Build),
    /// The system image and the guest image, without the ISO
    Image(Build),
    /// Only vmlinuz, initrd and live.squashfs
    System(Build),
    /// Only guest.img
    Guest(Build),
    /// Only hello.eli, the example package
    Hello {
        #[arg(long, default_value = "out")]
        out: PathBuf,
    },
    /// Prints the sizes of what was built
    Sizes {
        #[arg(long, default_value = "out")]
        out: PathBuf,
    },
}

#[derive(Args)]
struct Build {
    /// Folder for what is built
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Folder with elisandra, eli, elisandra-node and elisandra-host
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// Folder that keeps the slow steps' results between builds [default: ~/.cache/elisandra]
    #[arg(long, env = "ELISANDRA_CACHE")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    mirror: Mirror,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::All(build) => {
            let cache = build.prepare()?;
            let system = build.system(&cache)?;
            build.guest(&cache)?;
            manifest::write(&build.out)?;
            medium::build(&system, &build.out)?;
            bundle::build(&build.out)?;
            manifest::print_sizes(&build.out)
        }
        Command::Image(build) => {
            let cache = build.prepare()?;
            build.system(&cache)?;
            build.guest(&cache)?;
            manifest::write(&build.out)?;
            manifest::print_sizes(&build.out)
        }
        Command::System(build) => build.system(&build.prepare()?).map(drop),
        Command::Guest(build) => build.guest(&build.prepare()?),
        Command::Hello { out } => {
            create(&out)?;
            bundle::build(&out)
        }
        Command::Sizes { out } => manifest::print_sizes(&out),
    }
}

impl Build {
    fn prepare(&self) -> Result<Cache> {
        create(&self.out)?;
        let root = match &self.cache {
            Some(path) => path.clone(),
            None => std::env::home_dir()
                .context("there is no home directory; set ELISANDRA_CACHE")?
                .join(".cache/elisandra"),
        };
        Cache::open(root)
    }

    fn system(&self, cache: &Cache) -> Result<system::System> {
        system::build(cache, &self.mirror, &self.binaries, &self.out)
    }

    fn guest(&self, cache: &Cache) -> Result<()> {
        guest::build(cache, &self.mirror, &self.binaries, &self.out)
    }
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))
}

/// A file or folder of this crate's sources: package lists, scripts, overlays.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
