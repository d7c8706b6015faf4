//! Ports of switches, and what is plugged into them.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Event, change, find};
use crate::{Fleet, Mac, Refusal, machine, vm};

pub(super) const MAX_PORTS: usize = 1024;

/// IEEE 802.1AB gives a port id 255 octets.
const MAX_NAME: usize = 255;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub by_hand: Option<Plugged>,
    /// NICs that heard this port over LLDP.
    #[serde(default)]
    pub heard: BTreeSet<Mac>,
}

impl Port {
    /// Every NIC that LLDP or a person says is in it.
    pub fn nics(&self) -> BTreeSet<Mac> {
        let by_hand = match &self.by_hand {
            Some(Plugged::Nic { mac }) => Some(*mac),
            Some(Plugged::Port { .. } | Plugged::Note { .. }) | None => None,
        };
        self.heard.iter().copied().chain(by_hand).collect()
    }

    /// LLDP says that the NIC is in this port, and a person said that something else is.
    pub fn contradicts(&self, mac: Mac) -> bool {
        self.heard.contains(&mac)
            && match &self.by_hand {
                Some(Plugged::Nic { mac: said }) => !self.heard.contains(said),
                Some(Plugged::Port { .. }) => true,
                Some(Plugged::Note { .. }) | None => false,
            }
    }
}

/// What is plugged into a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Plugged {
    /// Of a machine.
    Nic {
        mac: Mac,
    },
    /// Of another switch.
    Port {
        switch: String,
        port: String,
    },
    Note {
        text: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Lldp,
    Hand,
}

/// A port of a switch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Socket {
    pub switch: String,
    pub port: String,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} of {}", self.port, self.switch)
    }
}

/// The port that a NIC is in.
pub fn socket_of(fleet: &Fleet, mac: Mac) -> Option<Socket> {
    fleet.index.socket_of(mac).cloned()
}

/// What a plugged thing is called.
pub fn name_of(fleet: &Fleet, what: &Plugged) -> String {
    match what {
        Plugged::Nic { mac } => match machine::by_mac(fleet, *mac) {
            Some(machine) => format!("{} ({mac})", machine.name),
            None => mac.to_string(),
        },
        Plugged::Port { switch, port } => Socket { switch: switch.clone(), port: port.clone() }.to_string(),
        Plugged::Note { text } => format!("\"{text}\""),
    }
}

/// The contradiction between LLDP and what a person said that a NIC is part of, as a sentence.
pub fn contradiction(fleet: &Fleet, mac: Mac) -> Option<String> {
    let socket = socket_of(fleet, mac)?;
    let port = fleet.switches.get(&socket.switch)?.ports.get(&socket.port)?;
    if !port.heard.iter().any(|heard| port.contradicts(*heard)) {
        return None;
    }
    let by_hand = short_name(fleet, port.by_hand.as_ref()?);
    let heard: Vec<String> =
        port.heard.iter().map(|mac| short_name(fleet, &Plugged::Nic { mac: *mac })).collect();
    Some(format!("by hand {by_hand} is in {socket}; LLDP says {}", heard.join(", ")))
}

fn short_name(fleet: &Fleet, what: &Plugged) -> String {
    match what {
        Plugged::Nic { mac } => {
            machine::by_mac(fleet, *mac).map_or_else(|| mac.to_string(), |machine| machine.name.to_string())
        }
        Plugged::Port { .. } | Plugged::Note { .. } => name_of(fleet, what),
    }
}

/// What a plugged thing that is taken out of a port was called; LLDP's and the person's word alike.
pub(super) fn names_in(fleet: &Fleet, port: &Port) -> Vec<String> {
    let heard = port.heard.iter().map(|mac| Plugged::Nic { mac: *mac });
    let others = heard.filter(|heard| port.by_hand.as_ref() != Some(heard));
    port.by_hand.iter().cloned().chain(others).map(|what| name_of(fleet, &what)).collect()
}

pub(super) fn find_port<'a>(fleet: &'a Fleet, at: &Socket) -> Result<&'a Port, Refusal> {
    let port = find(fleet, &at.switch)?.ports.get(&at.port);
    port.ok_or_else(|| Refusal::Missing { what: "port", name: format!("{} of {}", at.port, at.switch) })
}

pub(super) fn usable(ports: &[String]) -> Result<(), Refusal> {
    if ports.len() > MAX_PORTS {
        return Err(Refusal::Invalid(format!("a switch has at most {MAX_PORTS} ports")));
    }
    match ports.iter().find(|port| !is_port_name(port)) {
        Some(port) => Err(Refusal::Invalid(format!(
            "{port:?} is not usable as a port's name: text of 1 to {MAX_NAME} bytes"
        ))),
        None => Ok(()),
    }
}

pub(super) fn is_port_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.trim() == name && !name.chars().any(char::is_control)
}

pub(crate) fn add_ports(fleet: &Fleet, name: &str, ports: &[String]) -> Result<Vec<crate::Event>, Refusal> {
    let switch = find(fleet, name)?;
    usable(ports)?;
    let new: Vec<String> = ports.iter().filter(|port| !switch.ports.contains_key(*port)).cloned().collect();
    if new.is_empty() {
        return Ok(Vec::new());
    }
    if switch.ports.len() + new.len() > MAX_PORTS {
        return Err(Refusal::Invalid(format!("a switch has at most {MAX_PORTS} ports")));
    }
    Ok(vec![crate::Event::Switch(Event::PortsAdded { switch: name.to_owned(), ports: new })])
}

pub(crate) fn remove_ports(
    fleet: &Fleet,
    name: &str,
    ports: &[String],
) -> Result<Vec<crate::Event>, Refusal> {
    find(fleet, name)?;
    for port in ports {
        let at = Socket { switch: name.to_owned(), port: port.clone() };
        let names = names_in(fleet, find_port(fleet, &at)?);
        if !names.is_empty() {
            return Err(Refusal::Conflict(format!("{} is in {at}; unplug it first", names.join(", "))));
        }
    }
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Switch(Event::PortsRemoved { switch: name.to_owned(), ports: ports.to_vec() })])
}

pub(crate) fn plug(fleet: &Fleet, at: &Socket, what: &Plugged) -> Result<Vec<crate::Event>, Refusal> {
    let port = find_port(fleet, at)?;
    if port.by_hand.as_ref() == Some(what) {
        return Ok(Vec::new());
    }
    let mut from = None;
    match what {
        Plugged::Nic { mac } => {
            if let Some(vm) = vm::by_mac(fleet, *mac) {
                return Err(Refusal::Invalid(format!(
                    "{mac} is the NIC of the VM {}; a VM is in no port, its host is",
                    vm.name
                )));
            }
            if machine::by_mac(fleet, *mac).is_none() {
                return Err(Refusal::Missing { what: "machine with the MAC address", name: mac.to_string() });
            }
            from = socket_of(fleet, *mac).filter(|socket| socket != at);
        }
        Plugged::Port { switch, port } => {
            let other = Socket { switch: switch.clone(), port: port.clone() };
            let back = Plugged::Port { switch: at.switch.clone(), port: at.port.clone() };
            let there = find_port(fleet, &other)?;
            if other.switch == at.switch {
                return Err(Refusal::Invalid(format!("{other} and {at} are of the same switch")));
            }
            if let Some(held) = there.by_hand.as_ref().filter(|held| **held != back) {
                return Err(Refusal::Conflict(format!(
                    "{} is in {other}; unplug it first",
                    name_of(fleet, held)
                )));
            }
        }
        Plugged::Note { text } => {
            if !is_port_name(text) {
                return Err(Refusal::Invalid(format!("a note is one line of 1 to {MAX_NAME} bytes")));
            }
        }
    }
    Ok(vec![crate::Event::Switch(Event::Plugged {
        at: at.clone(),
        what: what.clone(),
        name: name_of(fleet, what),
        by: By::Hand,
        from,
        instead: port.by_hand.as_ref().map(|held| name_of(fleet, held)),
    })])
}

/// Empties the port. What LLDP goes on saying comes back by itself.
pub(crate) fn unplug(fleet: &Fleet, at: &Socket) -> Result<Vec<crate::Event>, Refusal> {
    let names = names_in(fleet, find_port(fleet, at)?);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Switch(Event::Unplugged { at: at.clone(), names })])
}

pub(super) fn change_port(fleet: &mut Fleet, at: &Socket, with: impl FnOnce(&mut Port)) {
    change(fleet, &at.switch, |switch| with(switch.ports.entry(at.port.clone()).or_default()));
}

pub(super) fn plugged(fleet: &mut Fleet, at: &Socket, what: &Plugged, by: By) {
    if by == By::Hand {
        forget_word(fleet, at);
    }
    match what {
        Plugged::Nic { mac } => {
            if socket_of(fleet, *mac).is_some_and(|from| from != *at) {
                take_out(fleet, *mac);
            }
            change_port(fleet, at, |port| match by {
                By::Lldp => {
                    port.heard.insert(*mac);
                }
                By::Hand => port.by_hand = Some(what.clone()),
            });
        }
        Plugged::Port { switch, port } => {
            let other = Socket { switch: switch.clone(), port: port.clone() };
            let back = Plugged::Port { switch: at.switch.clone(), port: at.port.clone() };
            change_port(fleet, at, |port| port.by_hand = Some(what.clone()));
            change_port(fleet, &other, |port| port.by_hand = Some(back));
        }
        Plugged::Note { .. } => change_port(fleet, at, |port| port.by_hand = Some(what.clone())),
    }
}

/// What a person said about the port is forgotten and, if a switch was in it, what was said about the other end.
fn forget_word(fleet: &mut Fleet, at: &Socket) {
    let Some(port) = fleet.switches.get(&at.switch).and_then(|switch| switch.ports.get(&at.port)) else {
        return;
    };
    let other = match port.by_hand.clone() {
        Some(Plugged::Port { switch, port }) => Some(Socket { switch, port }),
        Some(Plugged::Nic { .. } | Plugged::Note { .. }) | None => None,
    };
    change_port(fleet, at, |port| port.by_hand = None);
    if let Some(other) = other {
        change_port(fleet, &other, |port| port.by_hand = None);
    }
}

pub(super) fn empty(fleet: &mut Fleet, at: &Socket) {
    forget_word(fleet, at);
    change(fleet, &at.switch, |switch| {
        if let Some(port) = switch.ports.get_mut(&at.port) {
            port.heard.clear();
        }
    });
}

/// The NIC is in no port any more.
pub(crate) fn take_out(fleet: &mut Fleet, mac: Mac) {
    let Some(at) = socket_of(fleet, mac) else { return };
    change_port(fleet, &at, |port| {
        port.heard.remove(&mac);
        if port.by_hand == Some(Plugged::Nic { mac }) {
            port.by_hand = None;
        }
    });
}
