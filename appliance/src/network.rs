//! Which NIC is served: listens on every NIC for a DHCP server before anything is served, and writes the
//! configuration for systemd-networkd.
//!
//! Where a DHCP server answers, the appliance is a client like any other. The first NIC with a cable on
//! which none answers becomes part of the bridge `lan0`, which the appliance serves.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Served};

const BRIDGE: &str = "lan0";

/// Tried in this order; the first that is not in use on another NIC is served.
const NETWORKS: [&str; 3] = ["10.77.0.0/16", "172.29.0.0/16", "192.168.176.0/20"];

/// How long a cable may take to come up, and how long a DHCP server may take to answer: switches with
/// spanning tree forward nothing for their first seconds.
const CARRIER_WAIT: Duration = Duration::from_secs(5);
const PROBE_WAIT: Duration = Duration::from_secs(4);

/// What was found and decided, for the daemon and the console.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Found {
    pub serve: Option<Served>,
    pub upstream: Vec<Upstream>,
    /// What a person should know about it.
    pub sentence: String,
}

impl Found {
    pub fn rehearsal() -> Found {
        Found { sentence: "No network is served: this is a rehearsal.".to_owned(), ..Found::default() }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Upstream {
    pub interface: String,
    /// The DHCP server that answered.
    pub server: Ipv4Addr,
    pub offered: Ipv4Addr,
}

struct Nic {
    name: String,
    mac: String,
    carrier: bool,
}

/// How long networkd may take to make the bridge and give it its address.
const BRIDGE_WAIT: Duration = Duration::from_secs(15);

/// Looks, decides, writes `RUN/network.json` and the files for networkd, and lets networkd carry them out.
pub async fn set_up(config: &Config) -> anyhow::Result<Found> {
    let nics = nics().await?;
    let probes = nics.iter().filter(|nic| nic.carrier).map(|nic| async move {
        let servers = pxe::probe::dhcp_servers(&nic.name, PROBE_WAIT)
            .await
            .with_context(|| format!("listening for DHCP servers on {}", nic.name))?;
        anyhow::Ok((nic, servers))
    });
    let mut found = Found::default();
    let mut silent = Vec::new();
    for probed in futures::future::join_all(probes).await {
        match probed {
            Ok((nic, servers)) => match servers.first() {
                Some(server) => found.upstream.push(Upstream {
                    interface: nic.name.clone(),
                    server: server.address,
                    offered: server.offered,
                }),
                None => silent.push(nic),
            },
            // Not knowing is no reason to serve: a second DHCP server breaks a network.
            Err(error) => tracing::warn!("{error:#}"),
        }
    }

    let networkd = Path::new("/run/systemd/network");
    std::fs::create_dir_all(networkd).context("making /run/systemd/network")?;
    for upstream in &found.upstream {
        let name = &upstream.interface;
        let text = format!("[Match]\nName={name}\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\n");
        write(&networkd.join(format!("20-upstream-{name}.network")), &text)?;
    }
    if let Some(nic) = silent.first() {
        let network = choose_network(config, &found.upstream)?;
        let address = network.hosts().next().context("the network has no addresses")?;
        serve(networkd, nic, address, network)?;
        found.serve = Some(Served { interface: BRIDGE.to_owned(), address, network });
    }
    found.sentence = sentence(&found, &nics);
    write(&config.run.join("network.json"), &serde_json::to_string_pretty(&found)?)?;
    run("systemctl", &["restart", "systemd-networkd.service"])?;
    if let Some(served) = &found.serve {
        wait_for(served).await?;
    }
    Ok(found)
}

/// Waits until the bridge has its address, so that the servers find what they are to serve.
async fn wait_for(served: &Served) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + BRIDGE_WAIT;
    while !crate::console::addresses().contains(&served.address.into()) {
        if tokio::time::Instant::now() > deadline {
            bail!("{} was not given {} by systemd-networkd", served.interface, served.address);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn nics() -> anyhow::Result<Vec<Nic>> {
    let mut nics = Vec::new();
    for entry in std::fs::read_dir("/sys/class/net").context("listing the NICs")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Only hardware has a device behind it: no bridges, no loopback, no taps of VMs.
        let physical = entry.path().join("device").exists() && !entry.path().join("wireless").exists();
        if !physical {
            continue;
        }
        let mac = std::fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        run("ip", &["link", "set", &name, "up"])?;
        nics.push(Nic { name, mac: mac.trim().to_owned(), carrier: false });
    }
    nics.sort_by(|a, b| a.name.cmp(&b.name));
    let deadline = tokio::time::Instant::now() + CARRIER_WAIT;
    loop {
        for nic in &mut nics {
            let carrier = std::fs::read_to_string(format!("/sys/class/net/{}/carrier", nic.name));
            nic.carrier = carrier.is_ok_and(|text| text.trim() == "1");
        }
        if nics.iter().all(|nic| nic.carrier) || tokio::time::Instant::now() > deadline {
            return Ok(nics);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The network served before, or the first that does not overlap with what another NIC was offered.
fn choose_network(config: &Config, upstream: &[Upstream]) -> anyhow::Result<Ipv4Net> {
    let kept = config.state.join("network");
    if let Ok(text) = std::fs::read_to_string(&kept) {
        return text.trim().parse().with_context(|| format!("{} is not a network", kept.display()));
    }
    let free = |network: &Ipv4Net| !upstream.iter().any(|seen| network.contains(&seen.offered));
    let networks = NETWORKS.iter().filter_map(|text| text.parse::<Ipv4Net>().ok());
    let network = networks.into_iter().find(free).context("every network that could be served is in use")?;
    write(&kept, &format!("{network}\n"))?;
    Ok(network)
}

fn serve(networkd: &Path, nic: &Nic, address: Ipv4Addr, network: Ipv4Net) -> anyhow::Result<()> {
    let Nic { name, mac, .. } = nic;
    // The bridge takes its NIC's MAC address: a switch that allows one address per port stays content.
    let bridge = format!(
        "[NetDev]\nName={BRIDGE}\nKind=bridge\nMACAddress={mac}\n\n[Bridge]\nSTP=no\nForwardDelaySec=0\n"
    );
    let port = format!("[Match]\nName={name}\n\n[Network]\nBridge={BRIDGE}\nLinkLocalAddressing=no\n");
    let prefix = network.prefix_len();
    let lan = format!(
        "[Match]\nName={BRIDGE}\n\n[Link]\nRequiredForOnline=no\n\n\
         [Network]\nAddress={address}/{prefix}\nConfigureWithoutCarrier=yes\nIPv6AcceptRA=no\n"
    );
    write(&networkd.join("10-lan0.netdev"), &bridge)?;
    write(&networkd.join("10-lan0-port.network"), &port)?;
    write(&networkd.join("10-lan0.network"), &lan)
}

fn sentence(found: &Found, nics: &[Nic]) -> String {
    let upstream: Vec<String> = found
        .upstream
        .iter()
        .map(|seen| {
            format!("On {} the DHCP server {} answers; nothing is served there.", seen.interface, seen.server)
        })
        .collect();
    let served = match &found.serve {
        Some(served) => format!("Serving {} on {}.", served.network, served.interface),
        None if nics.is_empty() => "This machine has no network card that Linux knows.".to_owned(),
        None if nics.iter().all(|nic| !nic.carrier) => {
            "No cable is plugged in. Plug one in and restart this machine.".to_owned()
        }
        None => {
            "Every network here has a DHCP server; plug a network without one into another network card, \
                 and restart this machine."
                .to_owned()
        }
    };
    [vec![served], upstream].concat().join(" ")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    // World-readable: networkd does not run as root.
    crate::ca::write(path, text, 0o644)?;
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
