//! What the boot servers ask, answered from a folder of profiles and a lease file.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use ipnet::Ipv6Net;
use pxe::step::{Client, Step};
use pxe::{Assignment, Boot, Directory, MacAddr, Network, Note, Refused, Sight};

use super::folder::{Known, Profiles};
use super::leases::Leases;
use super::profile::Arch;
use super::terminal::Terminal;

/// Machines whose architecture and UUID are remembered from their DHCP packets to their boot scripts.
const REMEMBERED: usize = 65_536;

pub struct FolderDirectory {
    /// The server's own address.
    pub server: Ipv4Addr,
    pub network: Arc<Network>,
    pub network6: Option<Ipv6Net>,
    /// None beside another DHCP server.
    pub leases: Option<Leases>,
    pub profiles: RwLock<Profiles>,
    pub terminal: Terminal,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    known: BTreeMap<MacAddr, Known>,
    order: VecDeque<MacAddr>,
}

impl FolderDirectory {
    pub fn new(
        server: Ipv4Addr,
        network: Network,
        network6: Option<Ipv6Net>,
        leases: Option<Leases>,
        profiles: Profiles,
        terminal: Terminal,
    ) -> Self {
        Self {
            server,
            network: Arc::new(network),
            network6,
            leases,
            profiles: RwLock::new(profiles),
            terminal,
            seen: Mutex::default(),
        }
    }

    pub fn replace(&self, profiles: Profiles) {
        *self.profiles.write().unwrap_or_else(PoisonError::into_inner) = profiles;
    }

    fn assignment(&self, (address, lease_secs): (Ipv4Addr, u32)) -> Assignment {
        Assignment { address, hostname: None, lease_secs, network: Arc::clone(&self.network) }
    }

    fn leases(&self) -> Result<&Leases, Refused> {
        self.leases.as_ref().ok_or_else(|| Refused("another DHCP server gives the addresses here".to_owned()))
    }

    fn saw(&self, mac: MacAddr, arch: Option<u16>, uuid: Option<[u8; 16]>) {
        // A system says neither, and is the same machine still.
        if arch.is_none() && uuid.is_none() {
            return;
        }
        let arch = arch.and_then(Arch::of);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.known.get_mut(&mac) {
            Some(known) => *known = Known { arch: arch.or(known.arch), uuid: uuid.or(known.uuid) },
            None => {
                seen.known.insert(mac, Known { arch, uuid });
                seen.order.push_back(mac);
                if seen.order.len() > REMEMBERED
                    && let Some(oldest) = seen.order.pop_front()
                {
                    seen.known.remove(&oldest);
                }
            }
        }
    }
}

#[async_trait]
impl Directory for FolderDirectory {
    async fn offer(&self, sight: &Sight) -> Result<Assignment, Refused> {
        self.saw(sight.mac, sight.arch, sight.uuid);
        Ok(self.assignment(self.leases()?.offer(sight.mac, sight.requested)?))
    }

    async fn commit(&self, sight: &Sight) -> Result<Assignment, Refused> {
        self.saw(sight.mac, sight.arch, sight.uuid);
        Ok(self.assignment(self.leases()?.commit(sight.mac, sight.requested).await?))
    }

    fn knows(&self, mac: MacAddr) -> bool {
        self.leases.as_ref().is_none_or(|leases| leases.knows(mac))
    }

    async fn quarantine(&self, mac: MacAddr, address: Ipv4Addr) {
        if let Ok(leases) = self.leases()
            && leases.quarantine(mac, address).await
        {
            self.terminal.say(format!(
                "Another machine answers to {address}, which {mac} was given: nobody gets it for an hour. \
                 Take it out of --range, or find who has it."
            ));
        }
    }

    fn network(&self, link: Option<Ipv4Addr>) -> Option<Arc<Network>> {
        link.is_none_or(|link| self.network.subnet.contains(&link)).then(|| Arc::clone(&self.network))
    }

    fn network6(&self) -> Option<Ipv6Net> {
        self.network6
    }

    fn boot(&self, mac: MacAddr) -> Boot {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.known.get(&mac).copied().unwrap_or_default();
        drop(seen);
        self.profiles.read().unwrap_or_else(PoisonError::into_inner).boot(mac, known, self.server)
    }

    async fn answers(&self, path: &str, _from: IpAddr) -> Result<String, Refused> {
        Err(Refused(format!(
            "answers are plain files here: put {path} into the folder of files, at /boot/files/"
        )))
    }

    fn note(&self, note: Note) {
        // Beside another DHCP server nothing is offered, and this is all that is heard of a machine's architecture.
        if let (
            Some(mac),
            Step::Dhcp { client: Client::Firmware { arch } | Client::HttpFirmware { arch }, .. },
        ) = (note.mac, &note.step)
        {
            self.saw(mac, Some(*arch), None);
        }
        self.terminal.note(&note, |address| {
            self.leases.as_ref().and_then(|leases| leases.holder(address)).or_else(|| neighbour(address))
        });
    }
}

/// The MAC address that the kernel knows for a neighbour's address.
fn neighbour(address: Ipv4Addr) -> Option<MacAddr> {
    let table = std::fs::read_to_string("/proc/net/arp").ok()?;
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(&address.to_string()))?;
    line.split_whitespace().nth(3)?.parse().ok().filter(|mac| *mac != MacAddr([0; 6]))
}
