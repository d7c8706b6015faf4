//! The daemon: opens the state, starts every server and task, and stops them together.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use fleet::Command;
use fleet::wire::Hardware;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ca::Ca;
use crate::config::{Config, Mode, Served};
use crate::core::{Actor, ExecuteError};
use crate::network::{Found, Wires};
use crate::store::Store;
use crate::tokens::Tokens;
use crate::vault::Vault;
use crate::{
    App, api, auth, bmc, console, core, dhcp, mirror, network, node_api, power, reconcile, systems, tls, web,
    webhooks,
};

/// Runs until a signal comes or a task fails; systemd starts it again.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    // The writer outlives the servers, so that what they were told to do still gets its answer.
    let mut writer = JoinSet::new();
    let writer_shutdown = CancellationToken::new();

    std::fs::create_dir_all(config.state.join("bundles")).context("making the folder of bundles")?;
    std::fs::create_dir_all(config.state.join("systems")).context("making the folder of media")?;
    let found = if config.rehearsal { Found::rehearsal() } else { found(&config)? };
    let store = match &config.database {
        Some(url) => Store::open(url).await?,
        None => Store::sqlite(&config.state.join("log.sqlite")).await?,
    };
    let ca = Ca::open(&config.state)?;
    store.bind(&ca.fingerprint()).await?;
    let core = core::start(store, &mut writer, writer_shutdown.clone()).await?;
    let app = App {
        files: config.files.clone(),
        bundles: config.state.join("bundles"),
        systems: config.state.join("systems"),
        ca: Arc::new(ca),
        tokens: Arc::new(Tokens::open(&config.state.join("secret"))?),
        auth: Arc::new(auth::Auth::open(core.store().clone()).await.context("looking for a password")?),
        vault: Arc::new(Vault::open(core.store().clone(), &config.state.join("seal-key")).await?),
        core: core.clone(),
        rehearsal: config.rehearsal,
        seen: Arc::new(dhcp::Seen::since(core::now())),
        bmcs: Arc::new(bmc::Bmcs::new(bmc::Settings::default())),
        powers: Arc::default(),
        consoles: Arc::default(),
        glances: Arc::default(),
        wires: Arc::new(Wires::of(&found)),
    };
    if let Some(served) = &found.serve
        && core.fleet().site.is_none()
    {
        let founded = Command::Found {
            site: uuid::Uuid::new_v4(),
            network: served.network,
            address: served.address,
            domain: config.domain.clone(),
        };
        core.execute(&Actor::Appliance, founded).await?;
    }
    if let Some(served) = &found.serve {
        observe_server(&core, served).await?;
    }

    start_servers(&config, &found, &app, &mut tasks, &shutdown).await?;
    if !config.rehearsal {
        tasks.spawn(webhooks::run(app.clone(), shutdown.clone()));
        tasks.spawn(reconcile::run(core.clone(), shutdown.clone()));
        tasks.spawn(power::run(app.clone(), shutdown.clone()));
        tasks.spawn(record_own_machine(app.clone(), config.clone(), shutdown.clone()));
    }
    tasks.spawn(api::packages::run(app.clone(), shutdown.clone()));
    tasks.spawn(console::write(app.clone(), config.clone(), found.clone(), shutdown.clone()));
    tasks.spawn(console::serve(app.clone(), config.clone(), found.clone(), shutdown.clone()));
    tracing::info!("Ready. {}", found.sentence);

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = first_failure(&mut tasks) => ended,
        ended = first_failure(&mut writer) => ended,
    };
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    writer_shutdown.cancel();
    while writer.join_next().await.is_some() {}
    ended
}

/// Tells the core who gives the addresses. What it refuses is no reason not to serve those who are known.
async fn observe_server(core: &core::Core, served: &Served) -> anyhow::Result<()> {
    let observed = Command::ObserveServer {
        foreign: served.mode == Mode::Proxy,
        network: served.network,
        address: served.address,
    };
    match core.execute(&Actor::Appliance, observed).await {
        Ok(_) => Ok(()),
        Err(ExecuteError::Refused(refusal)) => {
            tracing::error!("On {}: {refusal}", served.interface);
            Ok(())
        }
        // The database may be away; what is known is served all the same.
        Err(error) => {
            tracing::warn!("Who gives the addresses of {} could not be kept: {error}", served.network);
            Ok(())
        }
    }
}

/// The first task that ended with an error or a panic.
async fn first_failure(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task panicked")??;
    }
    std::future::pending().await
}

/// What `elisandra network` found, or what the configuration says.
fn found(config: &Config) -> anyhow::Result<Found> {
    if let Some(served) = &config.serve {
        let sentence = match served.mode {
            Mode::Full => format!("Serving {} on {}.", served.network, served.interface),
            Mode::Proxy => format!(
                "Giving boot information on {}, in {}; addresses come from another DHCP server.",
                served.interface, served.network
            ),
        };
        return Ok(Found { serve: Some(served.clone()), sentence, ..Found::default() });
    }
    let path = config.run.join("network.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Found { sentence: "No network is served: none was set up.".to_owned(), ..Found::default() })
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

async fn start_servers(
    config: &Config,
    found: &Found,
    app: &App,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1])];
    addresses.extend(console::addresses());
    if let Some(served) = &found.serve {
        addresses.push(served.address.into());
        let network = dhcp::network6(&app.core.fleet());
        addresses.extend(network.map(|it| IpAddr::V6(pxe::dhcp6::address_in(it, served.address))));
    }
    addresses.extend(found.upstream.iter().map(|upstream| IpAddr::V4(upstream.offered)));
    addresses.sort();
    addresses.dedup();

    let page =
        TcpListener::bind(config.page).await.with_context(|| format!("listening on {}", config.page))?;
    let nodes =
        TcpListener::bind(config.nodes).await.with_context(|| format!("listening on {}", config.nodes))?;
    let page_tls = tls::page_config(app.ca.server_certificate(&addresses)?)?;
    let node_tls = tls::node_config(app.ca.server_certificate(&addresses)?)?;
    let settings = axum::Extension(api::support::Settings(config.shown()));
    let pages = web::router(app.clone()).layer(settings);
    tasks.spawn(tls::serve(page, Arc::clone(&page_tls), pages, None, shutdown.clone()));
    let ca = Some(Arc::clone(&app.ca));
    tasks.spawn(tls::serve(nodes, node_tls, node_api::router(app.clone()), ca, shutdown.clone()));

    if let Some(served) = &found.serve {
        tasks.spawn(keep_mirror(config.clone(), served.clone(), app.core.clone(), shutdown.clone()));
        let server = pxe::Server {
            interface: served.interface.clone(),
            address: served.address,
            mode: served.mode.into(),
            files: config.files.clone(),
            loaders: config.loaders.clone(),
            systems: config.state.join("systems"),
            // The page has 443.
            tls: Some(pxe::Tls { port: 8443, config: Arc::clone(&page_tls), firmware: config.https_boot }),
            ca_pem: app.ca.pem().to_owned(),
            ca_sha256: app.ca.sha256().parse()?,
        };
        let six = network::address6(config, served, dhcp::network6(&app.core.fleet()));
        let (tokens, seen) = (Arc::clone(&app.tokens), Arc::clone(&app.seen));
        let directory = dhcp::directory(app.core.clone(), tokens, seen, six);
        let shutdown = shutdown.clone();
        let (interface, address, app) = (served.interface.clone(), served.address, app.clone());
        let stop = shutdown.clone();
        tasks.spawn(async move { app.wires.watch(&app.core, &interface, address, stop).await });
        tasks.spawn(async move { Ok(server.run(directory, shutdown).await?) });
    }
    Ok(())
}

/// What machines that are installed with Debian take their packages from. Without it all else goes on.
async fn keep_mirror(
    config: Config,
    served: Served,
    core: core::Core,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let settings = mirror::Settings {
        upstream: config.mirror.clone(),
        folder: config.state.join("mirror"),
        limit: config.mirror_gib << 30,
        reserve: 1 << 30,
    };
    let place = std::net::SocketAddrV4::new(served.address, systems::MIRROR_PORT);
    let listener = mirror::listen(place).context("listening for the cache of the mirror");
    // What is kept is looked at, which takes a while.
    let tell: mirror::Tell = Box::new(move |from, path, trouble| {
        systems::mirror_in_trouble(&core, &config.mirror, from, path, trouble);
    });
    let opened = tokio::task::spawn_blocking(move || mirror::Mirror::open(&settings, tell));
    let opened = opened.await.context("opening the cache of the mirror").flatten();
    match opened.and_then(|mirror| Ok((mirror, listener?))) {
        Ok((mirror, listener)) => Ok(mirror::serve(listener, mirror, shutdown).await?),
        Err(error) => {
            tracing::error!("There is no cache of the Debian mirror: {error:#}");
            Ok(())
        }
    }
}

/// Puts the machine that the appliance runs on among the machines, and lets its host agent enrol.
async fn record_own_machine(app: App, config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    // The fleet knows machines by addresses of a network; without one there is nothing to be a member of.
    let Some(address) = app.core.fleet().site.as_ref().map(|site| site.address) else { return Ok(()) };
    let output = tokio::process::Command::new("elisandra-node").arg("inventory").output();
    let output = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        output = output => output,
    };
    let hardware: Hardware = match output {
        Ok(output) if output.status.success() => {
            serde_json::from_slice(&output.stdout).context("reading this machine's inventory")?
        }
        Ok(output) => {
            tracing::error!(
                "This machine's hardware could not be read: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            return Ok(());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!("elisandra-node is not installed here; this machine is not part of the fleet");
            return Ok(());
        }
        Err(error) => return Err(error).context("running elisandra-node inventory"),
    };
    match app.core.execute(&Actor::Appliance, Command::RecordAppliance { hardware }).await {
        Ok(_) => {}
        Err(ExecuteError::Stopping) => return Ok(()),
        Err(error) => return Err(error).context("recording the appliance's own machine"),
    }
    let fleet = app.core.fleet();
    let Some(own) = fleet.machines.values().find(|machine| machine.appliance) else { return Ok(()) };
    let facts = serde_json::json!({
        "appliance": address,
        "ca_sha256": app.ca.sha256(),
        "enrollment": app.tokens.enrollment(fleet::NodeId::Machine(own.id)),
    });
    crate::ca::write(&config.run.join("node.json"), &facts.to_string(), 0o600)?;
    Ok(())
}
