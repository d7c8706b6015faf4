//! Switches and their ports. A port knows what is plugged in: from LLDP, which a machine hears on its own NIC, and
//! by hand. Neither overwrites the other; where they contradict each other, both are shown.
//!
//! A NIC is in at most one port: when it shows up in another one, it moves. Several NICs may be in one port, as LLDP
//! says: behind it is a switch that lets LLDP through. What was heard last stays, so that a machine that is switched
//! off is still where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rack::{self, Occupant, Place};
use crate::{Fleet, Mac, MachineId, Refusal, is_label, machine, vm};

const MAX_PORTS: usize = 1024;

/// IEEE 802.1AB gives a port id 255 octets.
const MAX_NAME: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub name: String,
    /// As LLDP says it; absent until a machine has heard it.
    pub chassis: Option<String>,
    pub ports: BTreeMap<String, Port>,
}

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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Added {
        switch: String,
        ports: Vec<String>,
    },
    /// A machine heard it over LLDP.
    Found {
        switch: String,
        chassis: String,
    },
    /// One that was added by hand was heard over LLDP.
    ChassisLearned {
        switch: String,
        chassis: String,
    },
    PortsAdded {
        switch: String,
        ports: Vec<String>,
    },
    PortsRemoved {
        switch: String,
        ports: Vec<String>,
    },
    Plugged {
        at: Socket,
        what: Plugged,
        /// What it is called: `host-2 (52:54:00:00:00:02)`.
        name: String,
        by: By,
        from: Option<Socket>,
        /// What a person had said is in the port.
        #[serde(default)]
        instead: Option<String>,
    },
    Unplugged {
        at: Socket,
        /// What was in the port.
        names: Vec<String>,
    },
    Removed {
        switch: String,
        /// What was plugged in, as sentences.
        #[serde(default)]
        leftovers: Vec<String>,
    },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        match self {
            // On the timeline of the machine; the switch's shows it too while it is plugged in there.
            Event::Plugged { what: Plugged::Nic { mac }, .. } => mac.to_string(),
            Event::Plugged { at, .. } | Event::Unplugged { at, .. } => subject(&at.switch),
            Event::Added { switch, .. }
            | Event::Found { switch, .. }
            | Event::ChassisLearned { switch, .. }
            | Event::PortsAdded { switch, .. }
            | Event::PortsRemoved { switch, .. }
            | Event::Removed { switch, .. } => subject(switch),
        }
    }

    /// What is left over by it.
    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Removed { leftovers, .. } => leftovers,
            Event::Added { .. }
            | Event::Found { .. }
            | Event::ChassisLearned { .. }
            | Event::PortsAdded { .. }
            | Event::PortsRemoved { .. }
            | Event::Plugged { .. }
            | Event::Unplugged { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |by: &By| match by {
            By::Lldp => "as LLDP says",
            By::Hand => "as a person says",
        };
        match self {
            Event::Added { switch, ports } => {
                write!(f, "Switch {switch} with {} ports was added", ports.len())
            }
            Event::Found { switch, chassis } => {
                write!(f, "Switch {switch} was heard over LLDP; its chassis is {chassis}")
            }
            Event::ChassisLearned { switch, chassis } => {
                write!(f, "Switch {switch} was heard over LLDP for the first time; its chassis is {chassis}")
            }
            Event::PortsAdded { switch, ports } => write!(f, "{switch} got the ports {}", ports.join(", ")),
            Event::PortsRemoved { switch, ports } => {
                write!(f, "{switch} has the ports {} no more", ports.join(", "))
            }
            Event::Plugged { at, name, by, from, instead, .. } => {
                match from {
                    None => write!(f, "{name} is in {at}")?,
                    Some(from) => write!(f, "{name} moved from {from} to {at}")?,
                }
                if let Some(instead) = instead {
                    write!(f, " instead of {instead}")?;
                }
                write!(f, ", {}", word(by))
            }
            Event::Unplugged { at, names } => write!(f, "{} was taken out of {at}", names.join(", ")),
            Event::Removed { switch, .. } => write!(f, "Switch {switch} was removed"),
        }
    }
}

/// What the lines of a switch's timeline are written under.
pub fn subject(name: &str) -> String {
    format!("switch:{name}")
}

/// The port that a NIC is in.
pub fn socket_of(fleet: &Fleet, mac: Mac) -> Option<Socket> {
    fleet.index.socket_of(mac).cloned()
}

pub fn by_chassis<'a>(fleet: &'a Fleet, chassis: &str) -> Option<&'a Switch> {
    fleet.switches.get(fleet.index.switch_by_chassis(chassis)?).map(AsRef::as_ref)
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
fn names_in(fleet: &Fleet, port: &Port) -> Vec<String> {
    let heard = port.heard.iter().map(|mac| Plugged::Nic { mac: *mac });
    let others = heard.filter(|heard| port.by_hand.as_ref() != Some(heard));
    port.by_hand.iter().cloned().chain(others).map(|what| name_of(fleet, &what)).collect()
}

fn find<'a>(fleet: &'a Fleet, name: &str) -> Result<&'a Switch, Refusal> {
    let switch = fleet.switches.get(name).map(AsRef::as_ref);
    switch.ok_or_else(|| Refusal::Missing { what: "switch", name: name.to_owned() })
}

fn find_port<'a>(fleet: &'a Fleet, at: &Socket) -> Result<&'a Port, Refusal> {
    let port = find(fleet, &at.switch)?.ports.get(&at.port);
    port.ok_or_else(|| Refusal::Missing { what: "port", name: format!("{} of {}", at.port, at.switch) })
}

pub(crate) fn add(
    fleet: &Fleet,
    name: &str,
    ports: &[String],
    place: Option<&Place>,
) -> Result<Vec<crate::Event>, Refusal> {
    if !is_label(name) {
        return Err(Refusal::Invalid(format!(
            "{name:?} is not usable as a switch's name: a-z, 0-9 and -, at most 63 characters"
        )));
    }
    if fleet.switches.contains_key(name) {
        return Err(Refusal::Conflict(format!("there is a switch {name} already")));
    }
    usable(ports)?;
    let mut events =
        vec![crate::Event::Switch(Event::Added { switch: name.to_owned(), ports: ports.to_vec() })];
    if let Some(place) = place {
        let mut after = fleet.clone();
        crate::evolve(&mut after, &events[0]);
        events.extend(rack::place(&after, &Occupant::Switch(name.to_owned()), place)?);
    }
    Ok(events)
}

fn usable(ports: &[String]) -> Result<(), Refusal> {
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

fn is_port_name(name: &str) -> bool {
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

pub(crate) fn remove(fleet: &Fleet, name: &str, force: bool) -> Result<Vec<crate::Event>, Refusal> {
    let switch = find(fleet, name)?;
    let mut in_the_way: Vec<String> = switch
        .ports
        .iter()
        .filter(|(_, port)| port.by_hand.is_some() || !port.heard.is_empty())
        .map(|(name, port)| format!("{} in port {name}", names_in(fleet, port).join(", ")))
        .collect();
    if !in_the_way.is_empty() && !force {
        return Err(Refusal::Conflict(format!(
            "switch {name} has {}; unplug that first, or remove it by force",
            in_the_way.join("; ")
        )));
    }
    for line in &mut in_the_way {
        line.push_str(" is in no port that is known now");
    }
    Ok(vec![crate::Event::Switch(Event::Removed { switch: name.to_owned(), leftovers: in_the_way })])
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

fn plugged_by_lldp(fleet: &Fleet, at: &Socket, mac: Mac, from: Option<Socket>) -> crate::Event {
    let what = Plugged::Nic { mac };
    let name = name_of(fleet, &what);
    crate::Event::Switch(Event::Plugged { at: at.clone(), what, name, by: By::Lldp, from, instead: None })
}

/// Empties the port. What LLDP goes on saying comes back by itself.
pub(crate) fn unplug(fleet: &Fleet, at: &Socket) -> Result<Vec<crate::Event>, Refusal> {
    let names = names_in(fleet, find_port(fleet, at)?);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Switch(Event::Unplugged { at: at.clone(), names })])
}

/// What a machine heard over LLDP on one of its NICs.
pub(crate) fn observe_neighbour(
    fleet: &Fleet,
    id: MachineId,
    neighbour: &crate::wire::Neighbour,
) -> Result<Vec<crate::Event>, Refusal> {
    let mac = neighbour.mac;
    let Some(machine) = fleet.machines.get(&id) else {
        return Err(Refusal::Missing { what: "machine", name: id.to_string() });
    };
    if !machine.macs.contains(&mac) {
        return Err(Refusal::Invalid(format!("{mac} is not a NIC of {}", machine.name)));
    }
    if !is_port_name(&neighbour.chassis) || !is_port_name(&neighbour.port) {
        return Err(Refusal::Invalid("a neighbour needs a chassis and a port that can be named".to_owned()));
    }
    if is_known(fleet, neighbour) {
        return Ok(Vec::new());
    }
    let mut events = Vec::new();
    let switch = match by_chassis(fleet, &neighbour.chassis) {
        Some(switch) => switch.name.clone(),
        None => {
            let wanted = label(neighbour.system.as_deref().unwrap_or_default());
            let (switch, chassis) = (free_name(fleet, &wanted), neighbour.chassis.clone());
            events.push(crate::Event::Switch(if fleet.switches.contains_key(&switch) {
                Event::ChassisLearned { switch: switch.clone(), chassis }
            } else {
                Event::Found { switch: switch.clone(), chassis }
            }));
            switch
        }
    };
    let known = fleet.switches.get(&switch);
    if known.is_some_and(|known| !known.ports.contains_key(&neighbour.port) && known.ports.len() >= MAX_PORTS)
    {
        return Err(Refusal::Conflict(format!("{switch} has {MAX_PORTS} ports already")));
    }
    let at = Socket { switch, port: neighbour.port.clone() };
    let from = socket_of(fleet, mac).filter(|socket| *socket != at);
    events.push(plugged_by_lldp(fleet, &at, mac, from));
    Ok(events)
}

/// Whether the fleet says already what this neighbour says.
pub fn is_known(fleet: &Fleet, neighbour: &crate::wire::Neighbour) -> bool {
    by_chassis(fleet, &neighbour.chassis)
        .and_then(|switch| switch.ports.get(&neighbour.port))
        .is_some_and(|port| port.heard.contains(&neighbour.mac))
}

/// `Core-SW_1.example.org` as `core-sw-1`: a system name is a host name by custom and any text by the standard.
fn label(system: &str) -> String {
    let host = system.split('.').next().unwrap_or_default();
    let mut name = String::new();
    for c in host.chars().map(|c| c.to_ascii_lowercase()).take(63) {
        let c = if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        if c != '-' || !(name.is_empty() || name.ends_with('-')) {
            name.push(c);
        }
    }
    name.truncate(name.trim_end_matches('-').len());
    if is_label(&name) { name } else { "switch".to_owned() }
}

/// `wanted` itself if it is free or belongs to a switch that was added by hand and never heard; else with a number.
fn free_name(fleet: &Fleet, wanted: &str) -> String {
    let usable = |name: &str| fleet.switches.get(name).is_none_or(|switch| switch.chassis.is_none());
    if usable(wanted) {
        return wanted.to_owned();
    }
    let stem: String = wanted.chars().take(50).collect();
    (2u64..)
        .map(|number| format!("{stem}-{number}"))
        .find(|name| usable(name))
        .unwrap_or_else(|| wanted.to_owned())
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Added { switch, ports } => {
            let ports = ports.iter().map(|port| (port.clone(), Port::default())).collect();
            let added = Switch { name: switch.clone(), chassis: None, ports };
            fleet.put_switch(added);
        }
        Event::Found { switch, chassis } => {
            let found =
                Switch { name: switch.clone(), chassis: Some(chassis.clone()), ports: BTreeMap::new() };
            fleet.put_switch(found);
        }
        Event::ChassisLearned { switch, chassis } => {
            change(fleet, switch, |switch| switch.chassis = Some(chassis.clone()));
        }
        Event::PortsAdded { switch, ports } => change(fleet, switch, |switch| {
            for port in ports {
                switch.ports.entry(port.clone()).or_default();
            }
        }),
        Event::PortsRemoved { switch, ports } => change(fleet, switch, |switch| {
            for port in ports {
                switch.ports.remove(port);
            }
        }),
        Event::Plugged { at, what, by, .. } => plugged(fleet, at, what, *by),
        Event::Unplugged { at, .. } => empty(fleet, at),
        Event::Removed { switch, .. } => {
            let ports: Vec<String> =
                fleet.switches.get(switch).iter().flat_map(|switch| switch.ports.keys().cloned()).collect();
            for port in ports {
                empty(fleet, &Socket { switch: switch.clone(), port });
            }
            fleet.remove_switch(switch);
            rack::take_out(fleet, &Occupant::Switch(switch.clone()));
        }
    }
}

fn change(fleet: &mut Fleet, switch: &str, change: impl FnOnce(&mut Switch)) {
    fleet.change_switch(switch, change);
}

fn change_port(fleet: &mut Fleet, at: &Socket, with: impl FnOnce(&mut Port)) {
    change(fleet, &at.switch, |switch| with(switch.ports.entry(at.port.clone()).or_default()));
}

fn plugged(fleet: &mut Fleet, at: &Socket, what: &Plugged, by: By) {
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

fn empty(fleet: &mut Fleet, at: &Socket) {
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

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn system_names_become_labels() {
        for (system, name) in [
            ("Core-SW_1.example.org", "core-sw-1"),
            ("sw1", "sw1"),
            ("", "switch"),
            ("...", "switch"),
            ("--a--", "a"),
            ("Übersicht 7", "bersicht-7"),
        ] {
            assert_eq!(label(system), name, "{system}");
        }
        assert_eq!(label(&"x".repeat(300)).len(), 63);
    }
}
