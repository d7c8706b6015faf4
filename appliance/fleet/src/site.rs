//! The site: which network it serves, and by which policy machines are adopted.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{Fleet, Refusal, is_label, lease, subnet};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    pub id: uuid::Uuid,
    pub network: Ipv4Net,
    /// The appliance's own address in it.
    pub address: Ipv4Addr,
    pub domain: String,
    /// Another DHCP server gives the addresses of its network; here they are only learnt.
    #[serde(default, skip_serializing_if = "is_false")]
    pub foreign: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub adopt: Adopt,
    /// Lines for root's authorized_keys on every host and guest.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Fencing::is_usual")]
    pub fencing: Fencing,
    /// Hosts make an account for the appliance at their own BMCs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bmc_accounts: bool,
}

/// When a silent host is fenced without asking. It takes a BMC that proves it, and VMs that are to run elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Fencing {
    pub automatic: bool,
    /// How long a host may be silent until it is suspected. Its agent speaks every ten seconds.
    pub silent_secs: u64,
    /// At most so many hosts are fenced within an hour.
    pub per_hour: u32,
}

impl Default for Fencing {
    fn default() -> Self {
        Fencing { automatic: true, silent_secs: 30, per_hour: 4 }
    }
}

impl Fencing {
    fn is_usual(&self) -> bool {
        *self == Fencing::default()
    }
}

/// Which machines are adopted without asking. A disk that holds data is never wiped without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Adopt {
    Blank,
    Ask,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { adopt: Adopt::Blank, ssh_keys: Vec::new(), fencing: Fencing::default(), bmc_accounts: false }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Founded(Site),
    PolicySet {
        policy: Policy,
    },
    /// Who gives the addresses of its network: another DHCP server, or the appliance.
    AddressesGiven {
        foreign: bool,
        network: Ipv4Net,
        address: Ipv4Addr,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Founded(site) => write!(f, "Founded; serves {} from {}", site.network, site.address),
            Event::PolicySet { policy } => {
                f.write_str(match policy.adopt {
                    Adopt::Blank => "Policy: blank machines are adopted by themselves",
                    Adopt::Ask => "Policy: machines are adopted only when a person says so",
                })?;
                if policy.bmc_accounts {
                    f.write_str("; hosts make an account for the appliance at their BMCs")?;
                }
                if policy.fencing.is_usual() {
                    return Ok(());
                }
                let Fencing { automatic, silent_secs, per_hour } = policy.fencing;
                match automatic {
                    true => {
                        write!(f, "; hosts silent for {silent_secs} s are fenced, at most {per_hour} an hour")
                    }
                    false => write!(
                        f,
                        "; hosts silent for {silent_secs} s are suspected, and fenced only by a person"
                    ),
                }
            }
            Event::AddressesGiven { foreign: true, network, address } => write!(
                f,
                "Another DHCP server gives the addresses of {network}; boot information is given from {address}"
            ),
            Event::AddressesGiven { foreign: false, network, address } => {
                write!(f, "The addresses of {network} are given from {address}")
            }
        }
    }
}

pub(crate) fn found(
    fleet: &Fleet,
    id: uuid::Uuid,
    network: Ipv4Net,
    address: Ipv4Addr,
    domain: &str,
) -> Result<Vec<crate::Event>, Refusal> {
    if let Some(site) = &fleet.site {
        return Err(Refusal::Conflict(format!("this site was founded already; it serves {}", site.network)));
    }
    usable(network, address)?;
    if !is_label(domain) {
        return Err(Refusal::Invalid(format!(
            "{domain:?} is not usable as a domain: one label of a-z, 0-9, -"
        )));
    }
    let site = Site { id, network: network.trunc(), address, domain: domain.to_owned(), foreign: false };
    Ok(vec![crate::Event::Site(Event::Founded(site))])
}

/// Beside another DHCP server the network is what that one says, and may be another one at the next start. Where the
/// addresses are given here, the network is the one that the site was founded with, for good.
pub(crate) fn addresses_given(
    fleet: &Fleet,
    foreign: bool,
    network: Ipv4Net,
    address: Ipv4Addr,
) -> Result<Vec<crate::Event>, Refusal> {
    let Some(site) = &fleet.site else {
        return Err(Refusal::Conflict("the site is not founded yet".to_owned()));
    };
    let network = network.trunc();
    if (site.foreign, site.network, site.address) == (foreign, network, address) {
        return Ok(Vec::new());
    }
    usable(network, address)?;
    if site.network != network || foreign {
        if !site.foreign && !foreign {
            return Err(Refusal::Conflict(format!(
                "this site gives the addresses of {}; {network} cannot take its place",
                site.network
            )));
        }
        if let Some(vm) = fleet.vms.values().next() {
            return Err(Refusal::Conflict(format!(
                "the VM {} has an address of {}; it is not served beside another DHCP server",
                vm.name, site.network
            )));
        }
        let others = fleet.subnets.values().filter(|subnet| subnet.name != subnet::OWN);
        let meets = |other: &Ipv4Net| other.contains(&network) || network.contains(other);
        if let Some(other) = others.map(|subnet| subnet.network).find(meets) {
            return Err(Refusal::Conflict(format!("{network} overlaps {other}, a subnet that is known")));
        }
    }
    Ok(vec![crate::Event::Site(Event::AddressesGiven { foreign, network, address })])
}

fn usable(network: Ipv4Net, address: Ipv4Addr) -> Result<(), Refusal> {
    if !network.contains(&address) || network.prefix_len() > 28 || network.prefix_len() < 8 {
        return Err(Refusal::Invalid(format!(
            "{address} in {network} is not usable: the network must be a /8 to /28 that contains the address"
        )));
    }
    Ok(())
}

pub(crate) fn set_policy(fleet: &Fleet, policy: &Policy) -> Result<Vec<crate::Event>, Refusal> {
    if fleet.policy == *policy {
        return Ok(Vec::new());
    }
    if let Some(line) = policy.ssh_keys.iter().find(|line| !is_ssh_key(line)) {
        return Err(Refusal::Invalid(format!("{line:?} is not a public key as ssh-keygen writes it")));
    }
    if !(20..=3600).contains(&policy.fencing.silent_secs) {
        return Err(Refusal::Invalid(format!(
            "a host is suspected after 20 to 3600 s of silence, not {}: its agent speaks every ten seconds",
            policy.fencing.silent_secs
        )));
    }
    Ok(vec![crate::Event::Site(Event::PolicySet { policy: policy.clone() })])
}

/// `type base64 [comment]` on one line, no options: an option could run a command at login.
fn is_ssh_key(line: &str) -> bool {
    let mut words = line.split(' ');
    let (Some(kind), Some(key)) = (words.next(), words.next()) else { return false };
    (kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-"))
        && key.len() > 40
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
        && !line.chars().any(char::is_control)
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Founded(site) => fleet.site = Some(site.clone()),
        Event::PolicySet { policy } => fleet.policy = policy.clone(),
        Event::AddressesGiven { foreign, network, address } => {
            let Some(site) = fleet.site.clone() else { return };
            if site.network != *network {
                lease::forget(fleet, site.network);
                fleet.subnets.remove(subnet::OWN);
            }
            fleet.site = Some(Site { foreign: *foreign, network: *network, address: *address, ..site });
        }
    }
}
