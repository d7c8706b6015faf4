//! Lets Debian's own installer install a machine from the appliance, and counts.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tests::accelerator::Accelerator;
use tests::installer::{self, Medium, Products, Scene};
use tests::interrupt;
use tests::lab::{self, Lab};
use tests::matrix::network;
use tests::uplink::Mirror;

#[derive(Parser)]
#[command(about = "Installs a blank machine with Debian's installer; ends with 'N passed, N failed'")]
struct Arguments {
    /// Folder with what machines boot
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Folder with the programs elisandra and eli
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// Folder for machines and serial logs
    #[arg(long, env = "ELISANDRA_LAB", default_value = "out/lab")]
    lab: PathBuf,
    /// Folder of an installer; otherwise the newest that can load its modules from the mirror
    #[arg(long)]
    medium: Option<PathBuf>,
    /// Only until it loads its modules; on a mirror that lacks some it cannot come further
    #[arg(long)]
    begin: bool,
    /// Folder of downloads, which are kept
    #[arg(long, env = "ELISANDRA_CACHE")]
    cache: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let arguments = Arguments::parse();
    let mirror = Mirror::of_apt()?;
    let cache = match arguments.cache {
        Some(cache) => cache,
        None => std::env::home_dir().context("there is no home folder")?.join(".cache/elisandra"),
    };
    let medium = match (&arguments.medium, network::is_inside()) {
        (Some(folder), _) => Medium::at(folder)?,
        (None, false) => Medium::that_fits(&mirror, &cache.join("debian-installer"))?,
        (None, true) => bail!("the medium is chosen outside of the namespace"),
    };
    if !network::is_inside() {
        mirror.gives(&format!("dists/{}/InRelease", medium.codename))?;
        let chosen: [&OsStr; 2] = ["--medium".as_ref(), medium.folder.as_os_str()];
        return mirror.carry_out(if arguments.medium.is_some() { &[] } else { &chosen });
    }
    network::enter_namespace()?;
    interrupt::on_interrupt(|| {
        lab::clean_up();
        std::process::exit(130);
    })?;
    let accelerator = Accelerator::probe(&arguments.out.join("vmlinuz"))?;
    let lab = Lab::open(&arguments.lab.join("installer"), accelerator)?;
    let products = Products { out: arguments.out, binaries: arguments.binaries, medium, mirror };
    let scene = Scene::open(lab, products, &cache.join("debian-mirror"))?;
    let count = installer::tell(scene, if arguments.begin { &installer::BEGINNING } else { &installer::ALL });
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
