//! What the boot servers of crate `pxe` ask, answered from the fleet in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use fleet::{Command, Ctx, Fleet, Mac, machine, vm};
use ipnet::Ipv6Net;
use pxe::{Assignment, Boot, Directory, Network, Note, NoteKind, Refused, Sight, Step};

use crate::core::{Actor, Core, ExecuteError, now};
use crate::systems::{self, answers};
use crate::tokens::Tokens;

/// Addresses stay with their MAC address for good, so leases are long. Clients renew at half of it.
const LEASE_SECS: u32 = 12 * 3600;

/// Who takes notes that belong to no machine.
const SITE: &str = "site";

pub struct FleetDirectory {
    pub core: Core,
    pub tokens: Arc<Tokens>,
}

#[async_trait]
impl Directory for FleetDirectory {
    async fn offer(&self, sight: &Sight) -> Result<Assignment, Refused> {
        offer(&self.core.fleet(), sight)
    }

    async fn commit(&self, sight: &Sight) -> Result<Assignment, Refused> {
        let mac = Mac(sight.mac.0);
        // A client that is known needs nothing written, and no answer that waits for a disk or a database.
        if fleet::decide(&self.core.fleet(), &sighting(sight), Ctx { now: now() })
            .is_ok_and(|events| events.is_empty())
        {
            return self.offer(sight).await;
        }
        match self.core.execute(&Actor::Wire(mac), sighting(sight)).await {
            Ok(_) => {}
            Err(ExecuteError::Refused(refusal)) => return Err(Refused(refusal.to_string())),
            // With the log's disk full or gone, who has an address keeps it.
            Err(
                error @ (ExecuteError::NotDurable(_)
                | ExecuteError::Changed
                | ExecuteError::Away(_)
                | ExecuteError::Unknown(_)
                | ExecuteError::Stopping),
            ) => {
                if !self.core.fleet().leases.by_mac.contains_key(&mac) {
                    return Err(Refused(error.to_string()));
                }
            }
        }
        self.offer(sight).await
    }

    fn knows(&self, mac: pxe::MacAddr) -> bool {
        self.core.fleet().leases.by_mac.contains_key(&Mac(mac.0))
    }

    async fn quarantine(&self, mac: pxe::MacAddr, address: Ipv4Addr) {
        tracing::warn!("{mac} declined {address}: another machine answers to it");
    }

    fn network(&self, link: Option<Ipv4Addr>) -> Option<Arc<Network>> {
        network(&self.core.fleet(), link)
    }

    fn network6(&self) -> Option<Ipv6Net> {
        None
    }

    fn boot(&self, mac: pxe::MacAddr) -> Boot {
        boot(&self.core.fleet(), &self.tokens, mac)
    }

    async fn answers(&self, path: &str, from: IpAddr) -> Result<String, Refused> {
        answers::answer(&self.core, &self.tokens, path, from).await.map_err(Refused)
    }

    fn note(&self, mut note: Note) {
        let fleet = self.core.fleet();
        let mac = note.mac.map(|mac| Mac(mac.0)).or_else(|| match note.address? {
            std::net::IpAddr::V4(address) => fleet.leases.by_address.get(&address).copied(),
            std::net::IpAddr::V6(_) => None,
        });
        // Addresses that have no lease yet, or are another server's, are known by the packets that gave them.
        note.mac = mac.map(|mac| pxe::MacAddr(mac.0));
        let mac = self.core.journal().note(&note, now().0).map(|mac| Mac(mac.0));
        let subject = mac.map_or_else(
            || SITE.to_owned(),
            |mac| {
                let machine = machine::by_mac(&fleet, mac).map(|machine| machine.id.to_string());
                let vm = || vm::by_mac(&fleet, mac).map(|vm| vm.id.to_string());
                machine.or_else(vm).unwrap_or_else(|| mac.to_string())
            },
        );
        if let (Step::Script { .. }, Some(mac)) = (&note.step, mac) {
            self.booted(&fleet, mac);
        }
        let kind = match note.step.kind() {
            NoteKind::Dhcp => "dhcp",
            NoteKind::Tftp => "tftp",
            NoteKind::Http => "http",
            NoteKind::Refused => "refused",
        };
        self.core.note(&subject, kind, note.step.to_string());
    }
}

impl FleetDirectory {
    /// What a machine boots once is used up with the script that says so.
    fn booted(&self, fleet: &Fleet, mac: Mac) {
        if machine::by_mac(fleet, mac).is_none_or(|machine| machine.once.is_none()) {
            return;
        }
        let core = self.core.clone();
        tokio::spawn(async move {
            // Not written down, the machine boots the same once more.
            if let Err(error) = core.execute(&Actor::Wire(mac), Command::BootedOnce { mac }).await {
                tracing::warn!("{mac} was given what it boots once, which could not be noted: {error}");
            }
        });
    }
}

/// The address that a client has or would be given.
pub fn offer(fleet: &Fleet, sight: &Sight) -> Result<Assignment, Refused> {
    let mac = Mac(sight.mac.0);
    let address = fleet::lease::address_for(fleet, mac)
        .ok_or_else(|| Refused("every address of the network is in use".to_owned()))?;
    let network =
        network(fleet, sight.link).ok_or_else(|| Refused("the site is not founded yet".to_owned()))?;
    Ok(Assignment { address, hostname: hostname(fleet, mac), lease_secs: LEASE_SECS, network })
}

/// The network of a client: the site's own, for those who are on it.
pub fn network(fleet: &Fleet, link: Option<Ipv4Addr>) -> Option<Arc<Network>> {
    let site = fleet.site.as_ref()?;
    if link.is_some_and(|link| !site.network.contains(&link)) {
        return None;
    }
    Some(Arc::new(Network {
        subnet: site.network,
        router: None,
        dns: Vec::new(),
        domain: site.domain.clone(),
        ntp: Vec::new(),
        routes: Vec::new(),
        mtu: None,
    }))
}

/// The command that makes the address which `sight` is offered its own.
pub fn sighting(sight: &Sight) -> Command {
    Command::Sight { mac: Mac(sight.mac.0), arch: sight.arch, uuid: sight.uuid.map(smbios_uuid) }
}

pub fn boot(fleet: &Fleet, tokens: &Tokens, mac: pxe::MacAddr) -> Boot {
    match machine::boot(fleet, Mac(mac.0)) {
        machine::Boot::Discover => Boot::Discover,
        machine::Boot::Disk => Boot::Disk,
        machine::Boot::Rescue => Boot::Rescue,
        machine::Boot::MemoryTest => Boot::MemoryTest,
        // What it was to start is gone: it reports, and is told why it waits.
        machine::Boot::System => {
            let system =
                machine::by_mac(fleet, Mac(mac.0)).map(|machine| systems::boot(fleet, tokens, machine));
            system.and_then(Result::ok).map_or(Boot::Discover, Boot::System)
        }
    }
}

/// Option 97 has the first three fields in little-endian order, as SMBIOS has them.
fn smbios_uuid(bytes: [u8; 16]) -> uuid::Uuid {
    uuid::Uuid::from_bytes_le(bytes)
}

fn hostname(fleet: &Fleet, mac: Mac) -> Option<String> {
    let machine = machine::by_mac(fleet, mac).map(|machine| &machine.name);
    machine.or_else(|| vm::by_mac(fleet, mac).map(|vm| &vm.name)).map(ToString::to_string)
}

/// The directory as the boot servers take it.
pub fn directory(core: Core, tokens: Arc<Tokens>) -> Arc<dyn Directory> {
    Arc::new(FleetDirectory { core, tokens })
}
