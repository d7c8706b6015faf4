//! `elisandra netboot`: DHCP or ProxyDHCP, TFTP and HTTP boot from a folder of profiles, in one process, for whoever
//! wants just that.
//!
//! The boot servers are those of the appliance (crate `pxe`); only who they ask is another: [`directory`] instead of
//! the fleet, with leases in a text file ([`lease_file`]) instead of events in a database.

pub mod arguments;
pub mod directory;
pub mod folder;
pub mod lease_file;
pub mod leases;
pub mod loaders;
pub mod pool;
pub mod profile;
pub mod terminal;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use pxe::Network;
use pxe::dhcp::Mode;
use pxe::probe::{self, ForeignServer};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use arguments::Arguments;
use directory::FolderDirectory;
use folder::Folder;
use leases::Leases;
use terminal::Terminal;

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Serves until a signal comes.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let own = arguments::networks(&arguments.interface)?;
    let (net, range) = arguments.on(&own)?;
    let server = net.addr();
    let mut folder = Folder::new(&arguments.folder, arguments.files(), server, arguments.default.clone());
    let look = folder
        .look()
        .with_context(|| format!("reading the folder of profiles, {}", arguments.folder.display()))?;
    if !look.bad.is_empty() {
        bail!("{}", look.bad.join("\n"));
    }
    let profiles = look.profiles.unwrap_or_default();
    let loaders = loaders::find(arguments.loaders.as_deref()).context("finding the boot loaders")?;
    let terminal = Terminal::start(std::io::stdout()).context("starting to write to the terminal")?;

    let others = others(&arguments, &terminal).await?;
    let full = !arguments.proxy && (arguments.is_full() || others.is_empty());
    let leases = if full {
        let reserved: Vec<_> = own
            .iter()
            .map(|net| net.addr())
            .chain(arguments.router)
            .chain(arguments.dns.iter().copied())
            .collect();
        let (leases, remarks) = Leases::open(&arguments.leases, range, &reserved, arguments.lease_secs)?;
        remarks.into_iter().for_each(|remark| terminal.say(remark));
        Some(leases)
    } else {
        None
    };
    for sentence in decision(&arguments, &net.to_string(), &range.to_string(), full, &others) {
        terminal.say(sentence);
    }
    if let Some(leases) = &leases {
        terminal.say(format!("{} machines are known from {}.", leases.known(), arguments.leases.display()));
    }
    loaders.missing.iter().for_each(|sentence| terminal.say(sentence.clone()));
    if profiles.is_empty() {
        terminal.say(format!(
            "There is no profile (NAME.toml) in {} yet: every machine boots its own disk.",
            arguments.folder.display()
        ));
    }
    profiles.lines().into_iter().for_each(|line| terminal.say(line));

    let network = Network {
        subnet: net.trunc(),
        router: arguments.router,
        dns: arguments.dns.clone(),
        domain: arguments.domain.clone(),
        ntp: Vec::new(),
        routes: Vec::new(),
        mtu: None,
    };
    let directory = Arc::new(FolderDirectory::new(
        server,
        network,
        arguments.network6,
        leases,
        profiles,
        terminal.clone(),
    ));
    let boot_servers = pxe::Server {
        interface: arguments.interface.clone(),
        address: server,
        mode: if full { Mode::Full } else { Mode::Proxy },
        files: arguments.files().to_owned(),
        loaders: loaders.path.clone(),
        systems: arguments.files().join("os"),
        tls: None,
        // No node of ours is served here.
        ca_pem: String::new(),
        ca_sha256: "0".repeat(64).parse()?,
    };

    let shutdown = CancellationToken::new();
    let mut serving = tokio::spawn(boot_servers.run(directory.clone(), shutdown.clone()));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let broken = async {
        match &directory.leases {
            Some(leases) => leases.broken().await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut serving => return Ok(ended.context("a task panicked")??),
        // The leases that are on the disk are not known any more, so nobody can be told of one.
        reason = broken => Err(anyhow::anyhow!("{reason}; start again when the disk is well")),
        () = watch(folder, &directory) => Ok(()),
        () = hear(&arguments.interface, server, full, others, &terminal) => Ok(()),
    };
    shutdown.cancel();
    serving.await.context("a task panicked")??;
    ended
}

/// Who else serves DHCP here. Switches with spanning tree forward nothing for their first seconds.
async fn others(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<Vec<ForeignServer>> {
    let Arguments { interface, listen_secs, .. } = arguments;
    if *listen_secs == 0 {
        return Ok(Vec::new());
    }
    terminal.say(format!("Listening on {interface} for another DHCP server, {listen_secs} s."));
    probe::dhcp_servers(interface, Duration::from_secs(*listen_secs))
        .await
        .with_context(|| format!("listening on {interface} (it needs root, or CAP_NET_RAW)"))
}

/// What is served and why, in sentences.
fn decision(
    arguments: &Arguments,
    net: &str,
    range: &str,
    full: bool,
    others: &[ForeignServer],
) -> Vec<String> {
    let interface = &arguments.interface;
    let seen = |server: &ForeignServer| format!("{} ({})", server.address, server.mac);
    let seen = others.iter().map(seen).collect::<Vec<_>>().join(" and ");
    let mut sentences = Vec::new();
    if full {
        let why = if arguments.is_full() { "" } else { ", as nobody else does" };
        sentences.push(format!("Serving DHCP on {interface}, {net}{why}: addresses {range}."));
        if !others.is_empty() {
            sentences.push(format!(
                "Another DHCP server answers here as well, {seen}: machines take the offer that comes first. Switch it \
                 off, or leave --range and --network out."
            ));
        }
    } else if others.is_empty() {
        sentences.push(format!(
            "Serving boot information on {interface}, {net} (ProxyDHCP). No DHCP server answers there yet: machines \
             get an address from nobody."
        ));
    } else {
        sentences.push(format!(
            "Serving boot information on {interface}, {net} (ProxyDHCP), as the DHCP server {seen} gives the addresses."
        ));
    }
    sentences
}

/// Tells of DHCP servers that appear later.
async fn hear(
    interface: &str,
    own: Ipv4Addr,
    full: bool,
    mut known: Vec<ForeignServer>,
    terminal: &Terminal,
) {
    let (reports, mut heard) = mpsc::channel(16);
    let listen = async {
        if let Err(error) = probe::watch(interface, own, reports).await {
            terminal.say(format!("Other DHCP servers are not listened for any more: {error}"));
        }
    };
    let tell = async {
        while let Some(server) = heard.recv().await {
            if known.iter().any(|known| (known.address, known.mac) == (server.address, server.mac)) {
                continue;
            }
            let (address, mac) = (server.address, server.mac);
            terminal.say(if full {
                format!(
                    "Another DHCP server answers on {interface} now, {address} ({mac}): machines take the offer that \
                     comes first. Switch it off; or start this again without --range and --network, and it leaves \
                     the addresses to the other one."
                )
            } else {
                format!("The DHCP server {address} ({mac}) answers on {interface}.")
            });
            // On a wire where something plays games, this is enough to know it.
            if known.len() < 64 {
                known.push(server);
            }
        }
    };
    tokio::join!(listen, tell);
    std::future::pending().await
}

/// Reads profiles again when they change.
async fn watch(mut folder: Folder, directory: &FolderDirectory) {
    let mut unreadable = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = tokio::task::spawn_blocking(move || {
            let look = folder.look();
            (folder, look)
        });
        let Ok((back, look)) = looked.await else { return };
        folder = back;
        match look {
            Ok(look) => {
                unreadable = false;
                for bad in look.bad {
                    directory.terminal.say(format!("{bad} (what was good before stays)"));
                }
                if let Some(profiles) = look.profiles {
                    directory.terminal.say("The profiles have changed:");
                    profiles.lines().into_iter().for_each(|line| directory.terminal.say(line));
                    directory.replace(profiles);
                }
            }
            Err(error) if !unreadable => {
                unreadable = true;
                directory
                    .terminal
                    .say(format!("The folder of profiles cannot be read: {error}. What was read stays."));
            }
            Err(_) => {}
        }
    }
}
