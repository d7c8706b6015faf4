//! The appliance's daemon and its helpers at start.

use std::path::PathBuf;

use anyhow::Context as _;
use appliance::config::{Config, Log};
use appliance::{console, daemon, netboot, network};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// The Elisandra appliance.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings; without it /etc/elisandra/elisandra.toml or /var/lib/elisandra/elisandra.toml.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve machines, nodes and people until stopped.
    Serve,
    /// Listen for DHCP servers on every NIC and set up which one is served.
    Network,
    /// This machine's own screen: address, fingerprint and code, what needs somebody, logs, network, password, power.
    Console {
        /// Only write the state as text to this terminal, whenever it changes; may be given again
        #[arg(long, value_name = "TERMINAL")]
        plain: Vec<PathBuf>,
    },
    /// Only boot machines, from a folder of profiles.
    Netboot(Box<netboot::Arguments>),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let runtime = || tokio::runtime::Runtime::new().context("starting the runtime");
    if let Command::Netboot(arguments) = arguments.command {
        log.init();
        return runtime()?.block_on(netboot::run(*arguments));
    }
    let config = Config::read(arguments.config.as_deref())?;
    match config.log {
        Log::Text => log.init(),
        Log::Json => log.json().flatten_event(true).init(),
    }
    if let Command::Console { plain } = arguments.command {
        return console::run(&config, arguments.config.as_deref(), &plain);
    }
    runtime()?.block_on(async {
        match arguments.command {
            Command::Serve => daemon::run(config).await,
            Command::Network => {
                let found = network::set_up(&config).await?;
                tracing::info!("{}", found.sentence);
                Ok(())
            }
            Command::Console { .. } | Command::Netboot(_) => Ok(()),
        }
    })
}
