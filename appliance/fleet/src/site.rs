//! The site: which network it serves, and by which policy machines are adopted.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{Fleet, Refusal, is_label};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    pub id: uuid::Uuid,
    pub network: Ipv4Net,
    /// The appliance's own address in it.
    pub address: Ipv4Addr,
    pub domain: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub adopt: Adopt,
    /// Lines for root's authorized_keys on every host and guest.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
}

/// Which machines are adopted without asking. A disk that holds data is never wiped without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adopt {
    Blank,
    Ask,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { adopt: Adopt::Blank, ssh_keys: Vec::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Founded(Site),
    PolicySet { policy: Policy },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Founded(site) => write!(f, "Founded; serves {} from {}", site.network, site.address),
            Event::PolicySet { policy } => match policy.adopt {
                Adopt::Blank => f.write_str("Policy: blank machines are adopted by themselves"),
                Adopt::Ask => f.write_str("Policy: machines are adopted only when a person says so"),
            },
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
    if !network.contains(&address) || network.prefix_len() > 24 || network.prefix_len() < 8 {
        return Err(Refusal::Invalid(format!(
            "{address} in {network} is not usable: the network must be a /8 to /24 that contains the address"
        )));
    }
    if !is_label(domain) {
        return Err(Refusal::Invalid(format!(
            "{domain:?} is not usable as a domain: one label of a-z, 0-9, -"
        )));
    }
    let site = Site { id, network: network.trunc(), address, domain: domain.to_owned() };
    Ok(vec![crate::Event::Site(Event::Founded(site))])
}

pub(crate) fn set_policy(fleet: &Fleet, policy: &Policy) -> Result<Vec<crate::Event>, Refusal> {
    if fleet.policy == *policy {
        return Ok(Vec::new());
    }
    if let Some(line) = policy.ssh_keys.iter().find(|line| !is_ssh_key(line)) {
        return Err(Refusal::Invalid(format!("{line:?} is not a public key as ssh-keygen writes it")));
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
    }
}
