//! What the boot servers of crate `pxe` ask, answered from the fleet in memory.

mod seen;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use async_trait::async_trait;
use fleet::{Command, Ctx, Fleet, Mac, Timestamp, lease, machine, subnet, vm};
use ipnet::Ipv6Net;
use pxe::step::{Client, Outcome};
use pxe::{Assignment, Boot, Directory, Network, Note, NoteKind, Refused, Sight, Step};
use sha2::{Digest as _, Sha256};

use crate::core::{Actor, Core, ExecuteError, now};
use crate::systems::{self, answers};
use crate::tokens::Tokens;
pub use seen::Seen;

/// Who takes notes that belong to no machine.
const SITE: &str = "site";

pub struct FleetDirectory {
    pub core: Core,
    pub tokens: Arc<Tokens>,
    /// When each address was last asked for.
    pub seen: Arc<Seen>,
    /// The appliance has its own address in the site's IPv6 network.
    pub six: bool,
}

#[async_trait]
impl Directory for FleetDirectory {
    async fn offer(&self, sight: &Sight) -> Result<Assignment, Refused> {
        offered(&self.core.fleet(), &self.seen, sight, now())
    }

    async fn commit(&self, sight: &Sight) -> Result<Assignment, Refused> {
        let mac = Mac(sight.mac.0);
        // A client that is known needs nothing written, and no answer that waits for a disk or a database.
        let (fleet, at) = (self.core.fleet(), now());
        if fleet::decide(&fleet, &sighting(sight), Ctx { now: at }).is_ok_and(|events| events.is_empty()) {
            return self.given(sight);
        }
        let orders = orders(&fleet, &self.seen, sight, at);
        match self.core.execute_all(&Actor::Wire(mac), orders, None).await {
            Ok(_) => {}
            Err(ExecuteError::Refused(refusal)) => return Err(Refused(refusal.to_string())),
            // With the log's disk full or gone, who has an address keeps it.
            Err(
                error @ (ExecuteError::NotDurable(_)
                | ExecuteError::NotAllowed { .. }
                | ExecuteError::OutOfScope { .. }
                | ExecuteError::Changed
                | ExecuteError::Away(_)
                | ExecuteError::Unknown(_)
                | ExecuteError::Stopping),
            ) => {
                let fleet = self.core.fleet();
                let keeps = offer(&fleet, sight, now())
                    .is_ok_and(|it| fleet.leases.given.holder(it.address) == Some(mac));
                if !keeps {
                    return Err(Refused(error.to_string()));
                }
            }
        }
        self.given(sight)
    }

    fn knows(&self, mac: pxe::MacAddr) -> bool {
        self.core.fleet().leases.address(Mac(mac.0)).is_some()
    }

    async fn quarantine(&self, mac: pxe::MacAddr, address: Ipv4Addr) {
        let mac = Mac(mac.0);
        match self.core.execute(&Actor::Wire(mac), Command::Quarantine { mac, address }).await {
            Ok(_) => tracing::warn!("{mac} found that another machine answers to {address}"),
            // What it says of an address that is not its own decides nothing.
            Err(error) => self.core.note(&subject(&self.core.fleet(), mac), "refused", error.to_string()),
        }
    }

    fn network(&self, link: Option<Ipv4Addr>) -> Option<Arc<Network>> {
        network(&self.core.fleet(), link)
    }

    fn network6(&self) -> Option<Ipv6Net> {
        network6(&self.core.fleet()).filter(|_| self.six)
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
            IpAddr::V4(address) => fleet.leases.given.holder(address),
            IpAddr::V6(address) => {
                fleet.leases.given.holder(pxe::dhcp6::ipv4_of(network6(&fleet)?, address)?)
            }
        });
        // Addresses that have no lease yet, or are another server's, are known by the packets that gave them.
        note.mac = mac.map(|mac| pxe::MacAddr(mac.0));
        let mac = self.core.journal().note(&note, now().0).map(|mac| Mac(mac.0));
        if let Some(mac) = mac {
            self.sight_beside(&fleet, mac, &note.step);
            if let Step::Script { .. } = &note.step {
                self.booted(&fleet, mac);
            }
        }
        let subject = mac.map_or_else(|| SITE.to_owned(), |mac| subject(&fleet, mac));
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

    /// What a client is given that has just been given its address.
    fn given(&self, sight: &Sight) -> Result<Assignment, Refused> {
        let given = offer(&self.core.fleet(), sight, now())?;
        self.seen.saw(given.address, now());
        Ok(given)
    }

    /// Beside another DHCP server nobody asks here for an address; a machine that asks what to boot is seen all the same.
    fn sight_beside(&self, fleet: &Fleet, mac: Mac, step: &Step) {
        let Step::Dhcp { client, outcome: Outcome::BootOnly { .. }, .. } = step else { return };
        let arch = match client {
            Client::Firmware { arch } | Client::HttpFirmware { arch } => *arch,
            Client::Ipxe | Client::System(_) => return,
        };
        if machine::by_mac(fleet, mac).is_some() || vm::by_mac(fleet, mac).is_some() {
            return;
        }
        let core = self.core.clone();
        tokio::spawn(async move {
            let sight = Command::Sight { mac, arch: Some(arch), uuid: None, link: None };
            if let Err(error) = core.execute(&Actor::Wire(mac), sight).await {
                tracing::debug!(%error, "{mac} was not taken up");
            }
        });
    }
}

/// What a client that only asks is offered: also an address that is taken back from a passer-by if it takes it.
pub fn offered(fleet: &Fleet, seen: &Seen, sight: &Sight, now: Timestamp) -> Result<Assignment, Refused> {
    match offer(fleet, sight, now) {
        Err(refused) => match spare(fleet, seen, sight, now) {
            Some((_, address)) => assignment(fleet, sight, address),
            None => Err(refused),
        },
        offered => offered,
    }
}

/// The commands that make the address which `sight` is offered its own.
pub fn orders(fleet: &Fleet, seen: &Seen, sight: &Sight, now: Timestamp) -> Vec<Command> {
    let spare = spare(fleet, seen, sight, now);
    let taken = spare.map(|(mac, address)| Command::TakeBack { mac, address });
    taken.into_iter().chain([sighting(sight)]).collect()
}

/// An address of a passer-by that can be taken back for this client, of a pool that is exhausted.
fn spare(fleet: &Fleet, seen: &Seen, sight: &Sight, now: Timestamp) -> Option<(Mac, Ipv4Addr)> {
    let subnet = subnet::of_link(fleet, sight.link).filter(|subnet| !is_foreign(fleet, subnet))?;
    let mac = Mac(sight.mac.0);
    if lease::address_for(fleet, mac, &subnet, now).is_some() {
        return None;
    }
    seen.spare(fleet, &subnet, mac, sight.requested, now)
}

/// The address that a client has or would be given.
pub fn offer(fleet: &Fleet, sight: &Sight, now: Timestamp) -> Result<Assignment, Refused> {
    let subnet = subnet_of(fleet, sight.link)?;
    if is_foreign(fleet, &subnet) {
        return Err(Refused(format!("the addresses of {} are given by another DHCP server", subnet.network)));
    }
    let address = lease::address_for(fleet, Mac(sight.mac.0), &subnet, now)
        .ok_or_else(|| Refused(format!("every address of {} is in use", subnet.network)))?;
    assignment(fleet, sight, address)
}

fn assignment(fleet: &Fleet, sight: &Sight, address: Ipv4Addr) -> Result<Assignment, Refused> {
    let subnet = subnet_of(fleet, sight.link)?;
    let mac = Mac(sight.mac.0);
    let lease_secs = lease::lease_secs(fleet, mac, &subnet);
    Ok(Assignment { address, hostname: hostname(fleet, mac), lease_secs, network: told(fleet, subnet) })
}

fn subnet_of(fleet: &Fleet, link: Option<Ipv4Addr>) -> Result<subnet::Subnet, Refused> {
    subnet::of_link(fleet, link).ok_or_else(|| {
        Refused(match link {
            Some(link) => format!("no subnet is known that {link} is in"),
            None => "the site is not founded yet".to_owned(),
        })
    })
}

fn is_foreign(fleet: &Fleet, subnet: &subnet::Subnet) -> bool {
    subnet.name == subnet::OWN && fleet.site.as_ref().is_some_and(|site| site.foreign)
}

/// The network of a client, by an address in it: the site's own, or a subnet that was described.
pub fn network(fleet: &Fleet, link: Option<Ipv4Addr>) -> Option<Arc<Network>> {
    Some(told(fleet, subnet::of_link(fleet, link)?))
}

fn told(fleet: &Fleet, subnet: subnet::Subnet) -> Arc<Network> {
    let site = fleet.site.as_ref().map(|site| site.domain.clone());
    Arc::new(Network {
        subnet: subnet.network,
        router: subnet.router,
        dns: subnet.dns,
        domain: subnet.domain.or(site).unwrap_or_default(),
        ntp: subnet.ntp,
        routes: subnet.routes.iter().map(|route| (route.to, route.via)).collect(),
        mtu: subnet.mtu,
    })
}

/// The IPv6 network of the site: 40 bits of a sum over its id in fd00::/8 (RFC 4193, 3.2), and the first /64 of that.
pub fn network6(fleet: &Fleet) -> Option<Ipv6Net> {
    let sum = Sha256::digest(fleet.site.as_ref()?.id.as_bytes());
    let mut address = [0; 16];
    address[0] = 0xfd;
    address[1..6].copy_from_slice(&sum[..5]);
    Ipv6Net::new(Ipv6Addr::from(address), 64).ok()
}

fn sighting(sight: &Sight) -> Command {
    Command::Sight {
        mac: Mac(sight.mac.0),
        arch: sight.arch,
        uuid: sight.uuid.map(smbios_uuid),
        link: sight.link,
    }
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

fn subject(fleet: &Fleet, mac: Mac) -> String {
    let machine = machine::by_mac(fleet, mac).map(|machine| machine.id.to_string());
    let vm = || vm::by_mac(fleet, mac).map(|vm| vm.id.to_string());
    machine.or_else(vm).unwrap_or_else(|| mac.to_string())
}

fn hostname(fleet: &Fleet, mac: Mac) -> Option<String> {
    let machine = machine::by_mac(fleet, mac).map(|machine| &machine.name);
    machine.or_else(|| vm::by_mac(fleet, mac).map(|vm| &vm.name)).map(ToString::to_string)
}

/// The directory as the boot servers take it.
pub fn directory(core: Core, tokens: Arc<Tokens>, seen: Arc<Seen>, six: bool) -> Arc<dyn Directory> {
    Arc::new(FleetDirectory { core, tokens, seen, six })
}
