//! How each NIC is served, and who else gives addresses there: what was found at the start, kept true by listening.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use fleet::{Mac, Timestamp};
use pxe::probe::ForeignServer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Found;
use crate::config::Mode;
use crate::core::{Core, now};

/// A server that has not been heard for so long is gone. [`pxe::probe::watch`] asks for servers every five minutes, and
/// an answer may be lost.
const GONE_AFTER: Duration = Duration::from_secs(11 * 60);

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// After the listening failed: an interface may be away for a while.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Servers of one NIC that are shown. With more on a wire something plays games.
const MOST: usize = 16;

#[derive(Debug, Default)]
pub struct Wires {
    wires: watch::Sender<Vec<Wire>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wire {
    pub interface: String,
    /// What is done there; absent where nothing is served.
    pub mode: Option<Mode>,
    /// The other DHCP servers that are heard, in the order of their addresses.
    pub foreign: Vec<Foreign>,
}

/// Somebody else's DHCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Foreign {
    pub address: Ipv4Addr,
    /// Of the frame that it sent: its own, or that of a relay.
    pub mac: Mac,
    /// When it was first heard.
    pub since: Timestamp,
}

impl Wires {
    pub fn of(found: &Found) -> Wires {
        let mut wires: Vec<Wire> = Vec::new();
        for upstream in &found.upstream {
            let foreign =
                upstream.mac.map(|mac| Foreign { address: upstream.server, mac, since: now() }).into_iter();
            match wires.iter_mut().find(|wire| wire.interface == upstream.interface) {
                Some(wire) => wire.foreign.extend(foreign),
                None => wires.push(Wire {
                    interface: upstream.interface.clone(),
                    mode: None,
                    foreign: foreign.collect(),
                }),
            }
        }
        if let Some(served) = &found.serve {
            match wires.iter_mut().find(|wire| wire.interface == served.interface) {
                Some(wire) => wire.mode = Some(served.mode),
                None => wires.insert(
                    0,
                    Wire {
                        interface: served.interface.clone(),
                        mode: Some(served.mode),
                        foreign: found.beside.clone(),
                    },
                ),
            }
        }
        Wires { wires: watch::Sender::new(wires) }
    }

    pub fn all(&self) -> Vec<Wire> {
        self.wires.borrow().clone()
    }

    /// The other DHCP servers of the links that are served.
    pub fn others(&self) -> Vec<(IpAddr, pxe::MacAddr)> {
        let wires = self.wires.borrow();
        let served = wires.iter().filter(|wire| wire.mode.is_some());
        served.flat_map(|wire| &wire.foreign).map(|it| (it.address.into(), pxe::MacAddr(it.mac.0))).collect()
    }

    /// What a person has to know now, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.wires.borrow().iter().flat_map(Wire::warnings).collect()
    }

    /// Listens on a NIC that is served for as long as the daemon runs.
    pub async fn watch(
        &self,
        core: &Core,
        interface: &str,
        own: Ipv4Addr,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (reports, mut heard) = mpsc::channel(64);
        let listening = async {
            loop {
                if let Err(error) = pxe::probe::watch(interface, own, reports.clone()).await {
                    tracing::warn!("Listening for DHCP servers on {interface}: {error}");
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        };
        let following = async {
            let known = self.wires.borrow().iter().find(|wire| wire.interface == interface).cloned();
            let known = known.into_iter().flat_map(|wire| wire.foreign);
            // Those that were found at the start have to be heard again.
            let mut last: Vec<(Foreign, Instant)> = known.map(|it| (it, Instant::now())).collect();
            let mut look = tokio::time::interval(LOOK_EVERY);
            loop {
                tokio::select! {
                    Some(server) = heard.recv() => hear(&mut last, &server, interface, Instant::now()),
                    _ = look.tick() => forget(&mut last, interface, Instant::now()),
                }
                let foreign: Vec<Foreign> = last.iter().map(|(foreign, _)| foreign.clone()).collect();
                if self.set(interface, foreign) {
                    core.bump();
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = listening => Ok(()),
            () = following => Ok(()),
        }
    }

    /// Whether anything is different now.
    fn set(&self, interface: &str, mut foreign: Vec<Foreign>) -> bool {
        foreign.sort_by_key(|foreign| (foreign.address, foreign.mac));
        self.wires.send_if_modified(|wires| {
            let Some(wire) = wires.iter_mut().find(|wire| wire.interface == interface) else { return false };
            let changed = wire.foreign != foreign;
            wire.foreign = foreign;
            changed
        })
    }
}

fn hear(last: &mut Vec<(Foreign, Instant)>, server: &ForeignServer, interface: &str, at: Instant) {
    let mac = Mac(server.mac.0);
    let is_it = |known: &Foreign| (known.address, known.mac) == (server.address, mac);
    if let Some((_, last)) = last.iter_mut().find(|(known, _)| is_it(known)) {
        *last = at;
        return;
    }
    if last.len() >= MOST {
        return;
    }
    tracing::warn!(
        "Another DHCP server answers on {interface}: {} with the MAC address {mac}; it offered {}",
        server.address,
        server.offered
    );
    last.push((Foreign { address: server.address, mac, since: now() }, at));
}

fn forget(last: &mut Vec<(Foreign, Instant)>, interface: &str, now: Instant) {
    last.retain(|(foreign, at)| {
        let there = now.duration_since(*at) < GONE_AFTER;
        if !there {
            tracing::info!(
                "The DHCP server {} ({}) on {interface} is not heard any more",
                foreign.address,
                foreign.mac
            );
        }
        there
    });
}

impl Wire {
    /// What is done there, as a sentence.
    pub fn told(&self) -> String {
        match self.mode {
            Some(Mode::Full) => "Addresses and boot information are given here.".to_owned(),
            Some(Mode::Proxy) => format!(
                "Only boot information is given here (ProxyDHCP); addresses come from {}.",
                match self.foreign.as_slice() {
                    [] => "another DHCP server".to_owned(),
                    foreign => foreign.iter().map(Foreign::told).collect::<Vec<_>>().join(" and "),
                }
            ),
            None => format!(
                "Nothing is served here; the DHCP server {} answers.",
                self.foreign.iter().map(Foreign::told).collect::<Vec<_>>().join(" and ")
            ),
        }
    }

    pub fn warnings(&self) -> Vec<String> {
        match self.mode {
            Some(Mode::Full) => {
                let warning = |foreign: &Foreign| {
                    format!(
                        "A second DHCP server answers on {}: {}. Machines may get an address or a boot file from \
                         either; switch it off, or set the mode of this NIC to proxy.",
                        self.interface,
                        foreign.told()
                    )
                };
                self.foreign.iter().map(warning).collect()
            }
            Some(Mode::Proxy) if self.foreign.is_empty() => vec![format!(
                "No DHCP server is heard on {} any more; machines there get no address. Set the mode of this NIC to \
                 full to give addresses here.",
                self.interface
            )],
            Some(Mode::Proxy) if self.foreign.len() > 1 => vec![format!(
                "{} DHCP servers answer on {}: {}. Machines may get an address from any of them.",
                self.foreign.len(),
                self.interface,
                self.foreign.iter().map(Foreign::told).collect::<Vec<_>>().join(" and ")
            )],
            Some(Mode::Proxy) | None => Vec::new(),
        }
    }
}

impl Foreign {
    fn told(&self) -> String {
        format!("{} ({})", self.address, self.mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(last: u8) -> ForeignServer {
        ForeignServer {
            address: Ipv4Addr::new(10, 0, 0, last),
            offered: Ipv4Addr::new(10, 0, 0, 99),
            router: None,
            mac: pxe::MacAddr([2, 0, 0, 0, 0, last]),
        }
    }

    #[test]
    fn a_second_server_is_shown_while_it_is_heard() {
        let wires = Wires::default();
        let wire = Wire { interface: "lan0".into(), mode: Some(Mode::Full), foreign: Vec::new() };
        wires.wires.send_replace(vec![wire]);
        let mut last = Vec::new();
        let mut time = Instant::now();
        let shown = |last: &[(Foreign, Instant)]| {
            wires.set("lan0", last.iter().map(|(foreign, _)| foreign.clone()).collect())
        };
        assert!(!shown(&last));
        hear(&mut last, &server(5), "lan0", time);
        assert!(shown(&last));
        assert!(wires.warnings()[0].contains("10.0.0.5 (02:00:00:00:00:05)"), "{:?}", wires.warnings());
        assert_eq!(wires.others(), [([10, 0, 0, 5].into(), pxe::MacAddr([2, 0, 0, 0, 0, 5]))]);
        time += Duration::from_secs(600);
        hear(&mut last, &server(5), "lan0", time);
        time += Duration::from_secs(600);
        forget(&mut last, "lan0", time);
        assert!(!shown(&last), "it was heard ten minutes ago");
        time += Duration::from_secs(120);
        forget(&mut last, "lan0", time);
        assert!(shown(&last));
        assert_eq!(wires.warnings(), [""; 0], "it is gone, and the warning with it");
        for number in 0..=255 {
            hear(&mut last, &server(number), "lan0", time);
        }
        assert_eq!(last.len(), MOST);
    }

    #[test]
    fn beside_another_server_its_absence_is_what_is_wrong() {
        let mut wire = Wire { interface: "eth0".into(), mode: Some(Mode::Proxy), foreign: Vec::new() };
        assert!(wire.warnings()[0].starts_with("No DHCP server is heard on eth0"));
        let foreign = |last| Foreign {
            address: Ipv4Addr::new(10, 0, 0, last),
            mac: Mac([2, 0, 0, 0, 0, last]),
            since: Timestamp(0),
        };
        wire.foreign.push(foreign(1));
        assert!(wire.warnings().is_empty());
        assert!(wire.told().contains("10.0.0.1"));
        wire.foreign.push(foreign(2));
        assert!(wire.warnings()[0].starts_with("2 DHCP servers answer on eth0"));
    }
}
