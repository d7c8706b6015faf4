//! Baseboard management controllers: where one is and how it is spoken to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

use super::{Event, strip};
use crate::machine::{Machine, find};
use crate::{Fleet, MachineId, Refusal};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bmc {
    pub kind: Kind,
    /// Name or address, with `:port` if it is not the usual one.
    pub address: String,
    /// SHA-256 of the certificate that it showed first, hex; another one is not spoken to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// What else a fence agent is told, as its manual page names it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// As text `redfish`, `ipmi`, or the name of a fence agent: `fence_apc_snmp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    Redfish,
    /// IPMI 2.0 over LAN.
    Ipmi,
    /// Everything else, by a fence agent of this name.
    Agent(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Redfish => "redfish",
            Kind::Ipmi => "ipmi",
            Kind::Agent(name) => name,
        })
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> String {
        kind.to_string()
    }
}

impl TryFrom<String> for Kind {
    type Error = Refusal;

    fn try_from(word: String) -> Result<Kind, Refusal> {
        word.parse()
    }
}

impl FromStr for Kind {
    type Err = Refusal;

    fn from_str(word: &str) -> Result<Kind, Refusal> {
        match word {
            "redfish" => Ok(Kind::Redfish),
            "ipmi" => Ok(Kind::Ipmi),
            agent if is_agent(agent) => Ok(Kind::Agent(agent.to_owned())),
            _ => Err(Refusal::Invalid(format!(
                "{word:?} is no kind of BMC: redfish, ipmi, or the name of a fence agent such as fence_apc_snmp"
            ))),
        }
    }
}

pub(super) fn is_agent(name: &str) -> bool {
    let rest = name.strip_prefix("fence_").filter(|rest| (1..=40).contains(&rest.len()));
    rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
}

impl fmt::Display for Bmc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Redfish => write!(f, "Redfish at {}", self.address),
            Kind::Ipmi => write!(f, "IPMI at {}", self.address),
            Kind::Agent(name) => write!(f, "{name} at {}", self.address),
        }
    }
}

/// What would put a login into the log.
const SECRET: [&str; 7] =
    ["passwd", "password", "passwd_script", "login", "username", "snmp_priv_passwd", "community"];

pub(crate) fn set(fleet: &Fleet, id: MachineId, bmc: &Bmc) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if !is_address(&bmc.address) {
        return Err(Refusal::Invalid(format!(
            "{:?} is not usable as the address of a BMC: a name or an address, with :port if it is not the usual one",
            bmc.address
        )));
    }
    let pin_is_good = |pin: &String| pin.len() == 64 && pin.bytes().all(|b| b.is_ascii_hexdigit());
    if bmc.pin.as_ref().is_some_and(|pin| !pin_is_good(pin)) {
        return Err(Refusal::Invalid("the pin of a BMC is a SHA-256 in 64 hexadecimal digits".to_owned()));
    }
    check_options(&bmc.options)?;
    if machine.power.bmc.as_ref() == Some(bmc) {
        return Ok(Vec::new());
    }
    let other = fleet
        .machines
        .values()
        .find(|other| other.id != id && other.power.bmc.as_ref().is_some_and(|known| is_same(known, bmc)));
    if let Some(other) = other {
        return Err(Refusal::Conflict(format!(
            "{bmc} switches {}; one BMC switches one machine",
            other.name
        )));
    }
    if let Some((outlet, other)) = strip::feeds(fleet, id, bmc) {
        return Err(Refusal::Conflict(format!("{outlet} feeds {}", other.name)));
    }
    Ok(vec![crate::Event::Power(Event::BmcSet { machine: id, bmc: bmc.clone() })])
}

pub(super) fn check_options(options: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in options {
        let is_word =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if !is_word || value.chars().any(char::is_control) || value.len() > 256 {
            return Err(Refusal::Invalid(format!("{name:?} is not usable as an option of a fence agent")));
        }
        if SECRET.contains(&name.as_str()) {
            return Err(Refusal::Invalid(format!(
                "{name} is part of the login; give it as user and password, which are kept sealed"
            )));
        }
    }
    Ok(())
}

/// A power strip has many outlets, which its options tell apart.
fn is_same(one: &Bmc, other: &Bmc) -> bool {
    (&one.kind, &one.address, &one.options) == (&other.kind, &other.address, &other.options)
}

pub(super) fn is_address(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]%".contains(&b))
        && !text.starts_with('-')
}

pub(crate) fn remove(fleet: &Fleet, id: MachineId) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.power.bmc.is_none() {
        return Ok(Vec::new());
    }
    if super::wanted(machine).is_some() {
        return Err(Refusal::Conflict(format!(
            "the power of {} is being switched by it; cancel that first",
            machine.name
        )));
    }
    Ok(vec![crate::Event::Power(Event::BmcRemoved { machine: id })])
}

/// Of the certificate that is seen first. Another one later is for a person to look at.
pub(crate) fn pin(fleet: &Fleet, id: MachineId, pin: &str) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    match &machine.power.bmc {
        Some(Bmc { pin: None, .. }) => {
            Ok(vec![crate::Event::Power(Event::Pinned { machine: id, pin: pin.to_owned() })])
        }
        Some(Bmc { pin: Some(known), .. }) if *known != *pin => {
            Err(Refusal::Conflict(format!("the BMC of {} is known by another certificate", machine.name)))
        }
        Some(_) | None => Ok(Vec::new()),
    }
}

/// Machines that had something that switches them and do not have it any more, or are gone; it costs what has changed.
pub fn less_since<'a>(before: &'a Fleet, after: &'a Fleet) -> impl Iterator<Item = Less> + 'a {
    let less = |id: MachineId, old: &Machine, new: Option<&Machine>| {
        let is_left =
            |strip: &str| new.is_some_and(|new| new.power.strips.iter().any(|other| other.address == *strip));
        let strips = old.power.strips.iter().map(|strip| strip.address.clone());
        Less {
            machine: id,
            bmc: old.power.bmc.is_some() && new.is_none_or(|new| new.power.bmc.is_none()),
            strips: strips.filter(|strip| !is_left(strip)).collect(),
        }
    };
    let less = before.machines.diff(&after.machines).filter_map(move |difference| match difference {
        DiffItem::Update { old: (id, old), new: (_, new) } => Some(less(*id, old, Some(new.as_ref()))),
        DiffItem::Remove(id, old) => Some(less(*id, old, None)),
        DiffItem::Add(..) => None,
    });
    less.filter(|less| less.bmc || !less.strips.is_empty())
}

/// What does not switch this machine any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Less {
    pub machine: MachineId,
    pub bmc: bool,
    /// Their addresses.
    pub strips: Vec<String>,
}
