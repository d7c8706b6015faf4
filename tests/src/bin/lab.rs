//! `make lab`: the whole path in virtual machines on this computer, left running
//! to be looked at.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Parser;
use tests::accelerator::Accelerator;
use tests::api::USER;
use tests::appliance::PASSWORD;
use tests::interrupt;
use tests::lab::{self, Lab};
use tests::machine::mac_of;
use tests::progress::Progress;
use tests::story::path;
use tests::world::{Products, World};

#[derive(Parser)]
#[command(
    about = "Starts an appliance and two machines that become its hosts, a VM and a service; Ctrl-C ends it all"
)]
struct Arguments {
    /// Folder with elisandra.iso and what else was built
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Folder with the program eli
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// Folder for machines, disks and serial logs
    #[arg(long, env = "ELISANDRA_LAB", default_value = "out/lab")]
    lab: PathBuf,
    /// Port of this computer for the page
    #[arg(long, default_value_t = 8443)]
    page_port: u16,
    /// Port of this computer for the example service
    #[arg(long, default_value_t = 8080)]
    service_port: u16,
}

fn main() -> Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let arguments = Arguments::parse();
    let progress = Progress::start();
    let ready = Arc::new(AtomicBool::new(false));
    interrupt::on_interrupt({
        let ready = ready.clone();
        move || {
            lab::clean_up();
            println!("\nThe lab has ended; nothing of it is running.");
            // Ended by hand once everything was up is how a lab ends.
            std::process::exit(if ready.load(Ordering::Relaxed) { 0 } else { 130 });
        }
    })?;
    let accelerator = progress.during("Looking how fast machines run here", || {
        Accelerator::probe(&arguments.out.join("vmlinuz"))
    })?;
    progress.say(format_args!("Machines run under {accelerator}"));
    let folder = arguments.lab.clone();
    let lab = Lab::open(&folder, accelerator)?;
    let products = Products { out: arguments.out.clone(), binaries: arguments.binaries.clone() };
    let mut world = World::new(lab, products, progress, false);
    if let Err(error) = tell(&mut world, &arguments) {
        eprintln!("{}", world.evidence());
        eprintln!("Serial logs: {}", logs(&world.lab.folder).display());
        return Err(error);
    }
    ready.store(true, Ordering::Relaxed);
    loop {
        std::thread::park();
    }
}

fn tell(world: &mut World, arguments: &Arguments) -> Result<()> {
    path::start(world, arguments.page_port).context("starting the appliance")?;
    announce_page(world)?;
    path::laptop(world)?;
    path::hosts(world).context("turning two blank machines into hosts")?;
    for name in [path::BIOS, path::UEFI] {
        let api = world.api()?;
        let machine =
            api.state()?.machine(mac_of(name, 0)).context("the appliance forgot a machine")?.id.clone();
        api.set_bmc(&machine, world.bmc(name)?).context("giving the appliance the logins of their BMCs")?;
    }
    path::vm(world).context("making a VM")?;
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.service_port));
    let local = path::install_hello(world, local).context("installing hello.eli")?;
    announce_page(world)?;
    println!("  The service hello    http://{local}/   (as a laptop on the LAN reaches it)");
    println!("  Serial logs          {}", logs(&world.lab.folder).display());
    println!("  To stop              Ctrl-C; nothing is left running\n");
    Ok(())
}

fn announce_page(world: &mut World) -> Result<()> {
    let appliance = world.appliance()?;
    let fingerprint = appliance.introduction()?.ca_sha256;
    println!("\n  The page             https://{}/", appliance.page);
    println!("  Log in as            {USER}, password {PASSWORD}");
    println!("  Its authority        SHA256 {fingerprint}");
    Ok(())
}

fn logs(folder: &Path) -> PathBuf {
    folder.join("*/serial.log")
}
