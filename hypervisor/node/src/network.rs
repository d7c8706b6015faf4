//! The network in the initrd: every NIC up, DHCP by busybox, and which NIC leads to the appliance.
//!
//! busybox's udhcpc speaks the protocol and calls back for each event; the callback is this program under the
//! name `udhcpc-event` (see [`event`]), which sets the address and leaves a file for [`Network`].

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fleet::Mac;
use serde::{Deserialize, Serialize};

use crate::console::say;
use crate::places::{self, PlaceError, RUN};
use crate::tool::{self, SHORT, ToolError};

/// The name under which udhcpc calls this program.
pub const EVENT_NAME: &str = "udhcpc-event";
/// The NIC that the firmware booted from has the word first.
const BOOT_NIC_ALONE: Duration = Duration::from_secs(8);
const SAY_AGAIN: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{what}")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("udhcpc says {0:?} and gives no usable address")]
    NoAddress(String),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// What one NIC got by DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub interface: String,
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub router: Option<Ipv4Addr>,
}

impl Lease {
    fn reaches(&self, target: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        self.address.to_bits() & mask == target.to_bits() & mask
    }
}

/// The NICs that lead somewhere. The DHCP clients end with it; the addresses stay.
pub struct Network {
    clients: BTreeMap<String, Child>,
}

/// The NIC over which the appliance is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    pub mac: Mac,
    pub lease: Lease,
}

impl Network {
    /// Asks on every NIC that has a link until one of them leads to `appliance`. Never gives up.
    pub async fn up(boot_mac: Option<Mac>, appliance: Ipv4Addr) -> Result<(Self, Uplink), NetworkError> {
        fs::create_dir_all(leases())
            .map_err(|source| NetworkError::Io { what: "making the folder for leases", source })?;
        let program = env::current_exe()
            .map_err(|source| NetworkError::Io { what: "finding this program's own file", source })?;
        let callback = Path::new(RUN).join(EVENT_NAME);
        match symlink(program, &callback) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(NetworkError::Io { what: "making the callback of udhcpc", source });
            }
            Ok(()) | Err(_) => {}
        }

        let mut network = Self { clients: BTreeMap::new() };
        let begin = Instant::now();
        let mut said = begin;
        loop {
            let nics = nics();
            for (name, mac) in &nics {
                raise(name)?;
                let first = boot_mac.is_none_or(|boot| boot == *mac)
                    || begin.elapsed() > BOOT_NIC_ALONE
                    || !nics.iter().any(|(_, mac)| Some(*mac) == boot_mac);
                if first && carrier(name) && !network.clients.contains_key(name) {
                    say(format_args!("Asking for an address on {name} ({mac}) …"));
                    network.clients.insert(name.clone(), udhcpc(name, &callback)?);
                }
            }
            if let Some(uplink) = uplink(&nics, appliance) {
                let Lease { interface, address, .. } = &uplink.lease;
                say(format_args!("{interface} has the address {address}"));
                return Ok((network, uplink));
            }
            if said.elapsed() > SAY_AGAIN {
                said = Instant::now();
                say(waiting(&nics, network.clients.len()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for client in self.clients.values_mut() {
            // SIGKILL: on SIGTERM udhcpc would stay silent too, but nothing may take the address away again.
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

fn waiting(nics: &[(String, Mac)], asked: usize) -> &'static str {
    match (nics.is_empty(), asked) {
        (true, _) => "This machine has no network card that Linux knows. Still looking …",
        (false, 0) => "No network cable is plugged in, or the switch does not answer. Still looking …",
        (false, _) => "Nobody gives this machine an address yet. Still asking …",
    }
}

/// A NIC that has an address in the network of the appliance, else (the appliance is behind a router) one that
/// has a router.
fn uplink(nics: &[(String, Mac)], appliance: Ipv4Addr) -> Option<Uplink> {
    let leases: Vec<Uplink> = nics
        .iter()
        .filter_map(|(name, mac)| {
            let lease = serde_json::from_slice(&fs::read(lease_file(name)).ok()?).ok()?;
            Some(Uplink { mac: *mac, lease })
        })
        .collect();
    let direct = leases.iter().find(|uplink| uplink.lease.reaches(appliance));
    direct.or_else(|| leases.iter().find(|uplink| uplink.lease.router.is_some())).cloned()
}

/// Ethernet cards, not what Linux makes itself.
fn nics() -> Vec<(String, Mac)> {
    let mut nics: Vec<(String, Mac)> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("device").exists() && !entry.path().join("wireless").exists())
        .filter_map(|entry| {
            let mac = fs::read_to_string(entry.path().join("address")).ok()?.trim().parse().ok()?;
            Some((entry.file_name().into_string().ok()?, mac))
        })
        .collect();
    nics.sort();
    nics
}

fn raise(name: &str) -> Result<(), ToolError> {
    let flags = fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
    const IFF_UP: u32 = 1;
    if flags & IFF_UP == 0 {
        tool::run(
            "switching a network card on",
            SHORT,
            Command::new("ip").args(["link", "set", "dev", name, "up"]),
        )?;
    }
    Ok(())
}

fn carrier(name: &str) -> bool {
    fs::read_to_string(format!("/sys/class/net/{name}/carrier")).is_ok_and(|text| text.trim() == "1")
}

fn udhcpc(name: &str, callback: &Path) -> Result<Child, NetworkError> {
    // -f: our child for as long as we wait, so that it also renews. Discover four times a second apart, pause
    // two seconds, and again for ever.
    Command::new("udhcpc")
        .args(["-f", "-t", "4", "-T", "1", "-A", "2", "-V", "elisandra", "-i", name, "-s"])
        .arg(callback)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| NetworkError::Io { what: "starting udhcpc", source })
}

fn leases() -> PathBuf {
    Path::new(RUN).join("leases")
}

fn lease_file(interface: &str) -> PathBuf {
    leases().join(format!("{interface}.json"))
}

/// Carries out one event of udhcpc: `bound` and `renew` set the address, `deconfig` takes it away. The facts are
/// in the environment, as busybox documents it in examples/udhcp/simple.script.
pub fn event(what: &str, facts: &BTreeMap<String, String>) -> Result<(), NetworkError> {
    let interface = facts.get("interface").map(String::as_str).unwrap_or_default();
    match what {
        "bound" | "renew" => {
            let lease = lease(facts).ok_or_else(|| NetworkError::NoAddress(what.to_owned()))?;
            let known = fs::read(lease_file(interface)).ok();
            if known.and_then(|bytes| serde_json::from_slice::<Lease>(&bytes).ok()).as_ref() == Some(&lease) {
                return Ok(());
            }
            ip(&["-4", "addr", "flush", "dev", interface])?;
            let address = format!("{}/{}", lease.address, lease.prefix);
            ip(&["-4", "addr", "add", &address, "broadcast", "+", "dev", interface])?;
            if let Some(router) = lease.router {
                ip(&["-4", "route", "replace", "default", "via", &router.to_string(), "dev", interface])?;
            }
            let json = serde_json::to_vec(&lease)
                .map_err(|error| NetworkError::Io { what: "writing a lease", source: error.into() })?;
            places::write(&lease_file(interface), json, 0o644)?;
        }
        "deconfig" => {
            // Also the first event of every client, when there is nothing to take away.
            let _ = fs::remove_file(lease_file(interface));
            ip(&["-4", "addr", "flush", "dev", interface])?;
        }
        // leasefail, nak: udhcpc goes on by itself.
        _ => {}
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<(), ToolError> {
    tool::run("setting the address", SHORT, Command::new("ip").args(arguments)).map(|_| ())
}

fn lease(facts: &BTreeMap<String, String>) -> Option<Lease> {
    let text = |key: &str| facts.get(key).map(String::as_str);
    let prefix = match text("mask").and_then(|mask| mask.parse::<u8>().ok()) {
        Some(prefix) => prefix,
        None => {
            let mask: Ipv4Addr = text("subnet")?.parse().ok()?;
            u8::try_from(mask.to_bits().leading_ones()).ok()?
        }
    };
    Some(Lease {
        interface: text("interface")?.to_owned(),
        address: text("ip")?.parse().ok()?,
        prefix: Some(prefix).filter(|prefix| *prefix <= 32)?,
        // Several routers are separated by blanks; the first is the preferred one (RFC 2132, 3.5).
        router: text("router").and_then(|list| list.split_whitespace().next()?.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_lease_is_read_from_what_udhcpc_says() {
        let said = facts(&[
            ("interface", "eth0"),
            ("ip", "10.77.1.4"),
            ("subnet", "255.255.0.0"),
            ("mask", "16"),
            ("router", "10.77.0.1 10.77.0.2"),
        ]);
        let read = lease(&said).unwrap();
        assert_eq!(
            read,
            Lease {
                interface: "eth0".to_owned(),
                address: Ipv4Addr::new(10, 77, 1, 4),
                prefix: 16,
                router: Some(Ipv4Addr::new(10, 77, 0, 1)),
            }
        );
        assert!(read.reaches(Ipv4Addr::new(10, 77, 0, 1)));
        assert!(!read.reaches(Ipv4Addr::new(10, 78, 0, 1)));

        let no_mask = facts(&[("interface", "eth0"), ("ip", "10.0.2.15"), ("subnet", "255.255.255.0")]);
        assert_eq!(lease(&no_mask).map(|lease| (lease.prefix, lease.router)), Some((24, None)));
        for bad in [
            &[("interface", "eth0")][..],
            &[("interface", "eth0"), ("ip", "x"), ("mask", "16")],
            &[("interface", "eth0"), ("ip", "10.77.1.4"), ("mask", "99")],
        ] {
            assert_eq!(lease(&facts(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn every_prefix_is_compared() {
        let lease = |prefix| Lease {
            interface: String::new(),
            address: Ipv4Addr::new(10, 77, 1, 4),
            prefix,
            router: None,
        };
        assert!(lease(0).reaches(Ipv4Addr::new(192, 0, 2, 1)));
        assert!(!lease(32).reaches(Ipv4Addr::new(10, 77, 1, 5)));
        assert!(lease(32).reaches(Ipv4Addr::new(10, 77, 1, 4)));
    }

    #[test]
    fn a_person_reads_what_is_missing() {
        let nic = vec![("eth0".to_owned(), Mac([2, 0, 0, 0, 0, 1]))];
        assert!(waiting(&[], 0).starts_with("This machine has no network card"));
        assert!(waiting(&nic, 0).starts_with("No network cable"));
        assert!(waiting(&nic, 1).starts_with("Nobody gives this machine an address"));
    }
}
