//! What runs in the initrd and in guests: `elisandra-node initrd`, `inventory`, `keep-image`, `guest`.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fleet::Mac;
use node::{console, guest, initrd, inventory, keep_image, network};

#[derive(Parser)]
#[command(version, about = "Discovers, installs and runs a machine of an Elisandra network")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// In the initrd: follows the kernel command line and mounts the root
    Initrd {
        /// Where the root is to be mounted
        #[arg(long)]
        root: PathBuf,
    },
    /// Prints what this computer is made of, as JSON
    Inventory,
    /// On the appliance: copies the system from the medium to the machine's own disk
    KeepImage,
    /// In a virtual machine: installs and runs the software that the appliance wants there
    Guest,
}

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(network::EVENT_NAME.as_ref()) {
        let what = arguments.next().unwrap_or_default();
        let facts: BTreeMap<String, String> = env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        return ended(network::event(&what.to_string_lossy(), &facts).map_err(anyhow::Error::from));
    }
    let Arguments { what } = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(Err(anyhow::Error::from(error).context("starting"))),
    };
    ended(match what {
        What::Initrd { root } => runtime.block_on(initrd::run(&root)),
        What::Inventory => print_inventory(),
        What::KeepImage => runtime.block_on(keep_image::run()),
        What::Guest => {
            // journald writes the time.
            tracing_subscriber::fmt().without_time().with_ansi(false).init();
            runtime.block_on(guest::run())
        }
    })
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::say_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn print_inventory() -> anyhow::Result<()> {
    let boot_mac = inventory::lan_mac().unwrap_or(Mac([0; 6]));
    println!("{}", serde_json::to_string_pretty(&inventory::this_machine(boot_mac))?);
    Ok(())
}
