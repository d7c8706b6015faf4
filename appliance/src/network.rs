//! Which NIC is served, and how: listens on every NIC for a DHCP server before anything is served, and writes the
//! configuration for systemd-networkd.
//!
//! | on the NIC | the setting | what is done |
//! |---|---|---|
//! | no DHCP server answers | `auto` | the first such NIC becomes part of the bridge `lan0`, which is served in full |
//! | one answers | `auto` | the appliance is its client and nothing more; on the only NIC, it serves as `proxy` |
//! | either | `full` | served in full; if a server answers, that is said |
//! | either | `proxy` | ProxyDHCP: the appliance is a client for its own address, and gives boot information only |
//! | either | `off` | never served |

mod wires;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ipnet::Ipv4Net;
use pxe::probe::ForeignServer;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Mode, Served, Setting};
pub use wires::{Foreign, Wire, Wires};

const BRIDGE: &str = "lan0";

/// In the folder `state`: the appliance's own IPv6 address with its prefix length.
const ADDRESS6: &str = "address6";

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
    /// NICs on which the appliance is a client.
    pub upstream: Vec<Upstream>,
    /// Other DHCP servers on the NIC that is served in full, because a person said so.
    #[serde(default)]
    pub beside: Vec<Foreign>,
    /// What a person should know about it.
    pub sentence: String,
}

impl Found {
    pub fn rehearsal() -> Found {
        Found { sentence: "No network is served: this is a rehearsal.".to_owned(), ..Found::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub interface: String,
    /// The DHCP server that answered.
    pub server: Ipv4Addr,
    pub offered: Ipv4Addr,
    #[serde(default)]
    pub mac: Option<fleet::Mac>,
}

struct Nic {
    name: String,
    mac: String,
    carrier: bool,
}

/// A NIC with a cable, and who gives addresses on it. `None`: it could not be listened to.
#[derive(Debug, Clone)]
struct Looked {
    name: String,
    servers: Option<Vec<ForeignServer>>,
}

/// How long networkd may take to make the bridge and give it its address, and how long another DHCP server may take
/// to give the appliance its own.
const ADDRESS_WAIT: Duration = Duration::from_secs(15);

/// Looks, decides, writes `RUN/network.json` and the files for networkd, and lets networkd carry them out.
pub async fn set_up(config: &Config) -> anyhow::Result<Found> {
    let nics = nics().await?;
    let looks = nics.iter().filter(|nic| nic.carrier).map(async |nic| {
        let servers = pxe::probe::dhcp_servers(&nic.name, PROBE_WAIT).await;
        let servers = servers.with_context(|| format!("listening for DHCP servers on {}", nic.name));
        // Not knowing is no reason to serve: a second DHCP server breaks a network.
        let servers = servers.inspect_err(|error| tracing::warn!("{error:#}")).ok();
        Looked { name: nic.name.clone(), servers }
    });
    let looked = futures::future::join_all(looks).await;
    let chosen = choose(&looked, &config.nic);

    let mut found = Found { upstream: upstream(&looked, chosen.as_ref()), ..Found::default() };
    let networkd = Path::new("/run/systemd/network");
    std::fs::create_dir_all(networkd).context("making /run/systemd/network")?;
    // Files of the last run would serve what is not to be served any more.
    for old in ["10-lan0.netdev", "10-lan0-port.network", "10-lan0.network"] {
        let _ = std::fs::remove_file(networkd.join(old));
    }
    let clients: Vec<&str> = found.upstream.iter().map(|upstream| upstream.interface.as_str()).collect();
    let proxied = chosen.iter().filter(|(_, mode)| *mode == Mode::Proxy).map(|(name, _)| name.as_str());
    for name in clients.into_iter().chain(proxied) {
        let text = format!("[Match]\nName={name}\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\n");
        write(&networkd.join(format!("20-upstream-{name}.network")), &text)?;
    }
    match &chosen {
        Some((name, Mode::Full)) => {
            let nic = nics.iter().find(|nic| nic.name == *name).context("the chosen NIC is there")?;
            let network = choose_network(config, &found.upstream)?;
            let address = network.hosts().next().context("the network has no addresses")?;
            serve(config, networkd, nic, address, network)?;
            found.beside = beside(&looked, name);
            let interface = BRIDGE.to_owned();
            found.serve = Some(Served { interface, address, network, mode: Mode::Full });
        }
        Some((_, Mode::Proxy)) | None => {}
    }
    run("systemctl", &["restart", "systemd-networkd.service"])?;
    match (&chosen, &found.serve) {
        (_, Some(served)) => wait_for(served).await?,
        (Some((name, Mode::Proxy)), None) => {
            let (address, network) = given(name).await?;
            found.serve = Some(Served { interface: name.clone(), address, network, mode: Mode::Proxy });
        }
        (Some((_, Mode::Full)) | None, None) => {}
    }
    found.sentence = sentence(&found, &nics);
    write(&config.run.join("network.json"), &serde_json::to_string_pretty(&found)?)?;
    Ok(found)
}

/// The NIC that is served and how. What a person has set comes first; then a NIC without another server; then, if it
/// is the only one, a NIC beside that server.
fn choose(
    looked: &[Looked],
    settings: &BTreeMap<String, crate::config::NicSettings>,
) -> Option<(String, Mode)> {
    let setting = |nic: &Looked| settings.get(&nic.name).map(|it| it.mode).unwrap_or_default();
    let of = |nic: &Looked, mode| Some((nic.name.clone(), mode));
    let set = |wanted| looked.iter().find(|nic| setting(nic) == wanted);
    if let Some(nic) = set(Setting::Full) {
        return of(nic, Mode::Full);
    }
    if let Some(nic) = set(Setting::Proxy) {
        return of(nic, Mode::Proxy);
    }
    let silent = |nic: &&Looked| nic.servers.as_ref().is_some_and(Vec::is_empty);
    let auto = || looked.iter().filter(|nic| setting(nic) == Setting::Auto);
    if let Some(nic) = auto().find(silent) {
        return of(nic, Mode::Full);
    }
    match (looked, auto().next()) {
        ([_], Some(nic)) if nic.servers.is_some() => of(nic, Mode::Proxy),
        _ => None,
    }
}

/// The NICs with another server, but for the one that is served in full.
fn upstream(looked: &[Looked], chosen: Option<&(String, Mode)>) -> Vec<Upstream> {
    let full = |nic: &&Looked| chosen.is_some_and(|(name, mode)| *name == nic.name && *mode == Mode::Full);
    let others = looked.iter().filter(|nic| !full(nic));
    let first = others.filter_map(|nic| {
        let server = nic.servers.as_ref()?.first()?;
        Some(Upstream {
            interface: nic.name.clone(),
            server: server.address,
            offered: server.offered,
            mac: Some(fleet::Mac(server.mac.0)),
        })
    });
    first.collect()
}

fn beside(looked: &[Looked], name: &str) -> Vec<Foreign> {
    let servers =
        looked.iter().filter(|nic| nic.name == name).filter_map(|nic| nic.servers.as_ref()).flatten();
    let since = crate::core::now();
    servers.map(|server| Foreign { address: server.address, mac: fleet::Mac(server.mac.0), since }).collect()
}

/// The address that another DHCP server gives the appliance, and its network.
async fn given(interface: &str) -> anyhow::Result<(Ipv4Addr, Ipv4Net)> {
    let deadline = tokio::time::Instant::now() + ADDRESS_WAIT;
    loop {
        if let Some(found) = address_of(interface) {
            return Ok(found);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("{interface} was given no address by the DHCP server beside which it is to serve");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn address_of(interface: &str) -> Option<(Ipv4Addr, Ipv4Net)> {
    let entries = nix::ifaddrs::getifaddrs().ok()?.filter(|entry| entry.interface_name == interface);
    let mut addresses = entries.filter_map(|entry| {
        let address = entry.address?.as_sockaddr_in()?.ip();
        let mask = entry.netmask?.as_sockaddr_in()?.ip();
        let network = Ipv4Net::with_netmask(address, mask).ok()?.trunc();
        // Before a server has answered there may be an address that the NIC has made up (RFC 3927).
        (!address.is_link_local()).then_some((address, network))
    });
    addresses.next()
}

/// Waits until the bridge has its address, so that the servers find what they are to serve.
async fn wait_for(served: &Served) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + ADDRESS_WAIT;
    while !crate::console::addresses().contains(&IpAddr::V4(served.address)) {
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

fn serve(
    config: &Config,
    networkd: &Path,
    nic: &Nic,
    address: Ipv4Addr,
    network: Ipv4Net,
) -> anyhow::Result<()> {
    let Nic { name, mac, .. } = nic;
    // The bridge takes its NIC's MAC address: a switch that allows one address per port stays content.
    let bridge = format!(
        "[NetDev]\nName={BRIDGE}\nKind=bridge\nMACAddress={mac}\n\n[Bridge]\nSTP=no\nForwardDelaySec=0\n"
    );
    let port = format!("[Match]\nName={name}\n\n[Network]\nBridge={BRIDGE}\nLinkLocalAddressing=no\n");
    let prefix = network.prefix_len();
    // Known from the second start on.
    let six = std::fs::read_to_string(config.state.join(ADDRESS6)).unwrap_or_default();
    let six: String = six.lines().map(|line| format!("Address={line}\n")).collect();
    let lan = format!(
        "[Match]\nName={BRIDGE}\n\n[Link]\nRequiredForOnline=no\n\n\
         [Network]\nAddress={address}/{prefix}\n{six}ConfigureWithoutCarrier=yes\nIPv6AcceptRA=no\n"
    );
    write(&networkd.join("10-lan0.netdev"), &bridge)?;
    write(&networkd.join("10-lan0-port.network"), &port)?;
    write(&networkd.join("10-lan0.network"), &lan)
}

/// Gives the appliance its address in the site's IPv6 network, `false` if that cannot be: then nothing is served over
/// IPv6. networkd is told at the next start.
pub fn address6(config: &Config, served: &Served, network: Option<ipnet::Ipv6Net>) -> bool {
    let Some(network) = network.filter(|_| served.mode == Mode::Full) else { return false };
    let address = format!("{}/{}", pxe::dhcp6::address_in(network, served.address), network.prefix_len());
    if let Err(error) = write(&config.state.join(ADDRESS6), &format!("{address}\n")) {
        tracing::warn!("{error:#}");
    }
    // No duplicate address detection: while that lasts nothing can be bound to the address.
    let words = ["-6", "address", "replace", &address, "dev", &served.interface, "nodad"];
    match run("ip", &words) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("Nothing is served over IPv6: {error:#}");
            false
        }
    }
}

fn sentence(found: &Found, nics: &[Nic]) -> String {
    let proxy = found.serve.as_ref().filter(|served| served.mode == Mode::Proxy);
    let mut sentences = Vec::new();
    match &found.serve {
        Some(Served { interface, network, mode: Mode::Full, .. }) => {
            sentences.push(format!("Serving {network} on {interface}."));
        }
        Some(Served { interface, network, mode: Mode::Proxy, .. }) => {
            let server = found.upstream.iter().find(|upstream| upstream.interface == *interface);
            let server = server.map_or_else(|| "another server".to_owned(), |it| it.server.to_string());
            sentences.push(format!(
                "Giving boot information on {interface}, in {network}; addresses come from the DHCP server {server}."
            ));
        }
        None if nics.is_empty() => {
            sentences.push("This machine has no network card that Linux knows.".to_owned());
        }
        None if nics.iter().all(|nic| !nic.carrier) => {
            sentences.push("No cable is plugged in. Plug one in and restart this machine.".to_owned());
        }
        None => sentences.push(
            "Every network here has a DHCP server, or is set to be left alone. Plug a network without one into another \
             network card and restart this machine, or say at its own screen, under Network, how one is to be served."
                .to_owned(),
        ),
    }
    let served = |name: &str| proxy.is_some_and(|served| served.interface == name);
    sentences.extend(found.upstream.iter().filter(|seen| !served(&seen.interface)).map(|seen| {
        format!("On {} the DHCP server {} answers; nothing is served there.", seen.interface, seen.server)
    }));
    sentences.extend(
        found.beside.iter().map(|foreign| {
            format!("The DHCP server {} ({}) answers there, too.", foreign.address, foreign.mac)
        }),
    );
    sentences.join(" ")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NicSettings;

    fn looked(name: &str, servers: Option<u8>) -> Looked {
        let server = |last| ForeignServer {
            address: Ipv4Addr::new(10, 0, 0, last),
            offered: Ipv4Addr::new(10, 0, 0, 99),
            router: None,
            mac: pxe::MacAddr([2, 0, 0, 0, 0, last]),
        };
        Looked { name: name.to_owned(), servers: servers.map(|count| (1..=count).map(server).collect()) }
    }

    /// `eth0=proxy`
    fn chosen(looked: &[Looked], settings: &str) -> Option<(String, Mode)> {
        let settings = settings.split_whitespace().map(|pair| {
            let (name, mode) = pair.split_once('=').unwrap();
            let mode = match mode {
                "full" => Setting::Full,
                "proxy" => Setting::Proxy,
                "off" => Setting::Off,
                _ => Setting::Auto,
            };
            (name.to_owned(), NicSettings { mode })
        });
        choose(looked, &settings.collect())
    }

    #[test]
    fn the_mode_of_a_nic_is_what_was_heard_and_what_was_set() {
        let (silent, served, unknown) =
            (looked("eth0", Some(0)), looked("eth1", Some(1)), looked("eth2", None));
        let all = [silent.clone(), served.clone(), unknown.clone()];
        let is = |name: &str, mode| Some((name.to_owned(), mode));
        assert_eq!(chosen(&all, ""), is("eth0", Mode::Full));
        assert_eq!(
            chosen(&[served.clone(), unknown.clone()], ""),
            None,
            "a client of the one, and of the other nothing"
        );
        assert_eq!(chosen(std::slice::from_ref(&served), ""), is("eth1", Mode::Proxy), "the only NIC");
        assert_eq!(chosen(std::slice::from_ref(&unknown), ""), None, "not knowing is no reason to serve");
        assert_eq!(chosen(&all, "eth0=off"), None);
        assert_eq!(chosen(std::slice::from_ref(&served), "eth1=off"), None);
        assert_eq!(chosen(&all, "eth1=proxy"), is("eth1", Mode::Proxy));
        assert_eq!(chosen(&all, "eth1=full"), is("eth1", Mode::Full));
        assert_eq!(chosen(&all, "eth7=full"), is("eth0", Mode::Full), "a NIC that is not there");
        assert_eq!(chosen(&[], ""), None);

        let full = is("eth1", Mode::Full);
        assert!(upstream(&all, full.as_ref()).is_empty());
        assert_eq!(beside(&all, "eth1").len(), 1);
        assert_eq!(upstream(&all, is("eth0", Mode::Full).as_ref())[0].interface, "eth1");
    }
}
