//! Switches and their ports. A port knows what is plugged in: from LLDP, which a machine hears on its own NIC, and
//! by hand. Neither overwrites the other; where they contradict each other, both are shown.
//!
//! A NIC is in at most one port: when it shows up in another one, it moves. Several NICs may be in one port, as LLDP
//! says: behind it is a switch that lets LLDP through. What was heard last stays, so that a machine that is switched
//! off is still where it was.

mod neighbour;
mod port;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use neighbour::is_known;
pub(crate) use neighbour::observe_neighbour;
pub use port::{By, Plugged, Port, Socket, contradiction, name_of, socket_of};
pub(crate) use port::{add_ports, plug, remove_ports, take_out, unplug};

use crate::rack::{self, Occupant, Place};
use crate::{Fleet, Refusal, is_label};
use port::{empty, names_in, plugged, usable};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub name: String,
    /// As LLDP says it; absent until a machine has heard it.
    pub chassis: Option<String>,
    pub ports: BTreeMap<String, Port>,
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

pub fn by_chassis<'a>(fleet: &'a Fleet, chassis: &str) -> Option<&'a Switch> {
    fleet.switches.get(fleet.index.switch_by_chassis(chassis)?).map(AsRef::as_ref)
}

fn find<'a>(fleet: &'a Fleet, name: &str) -> Result<&'a Switch, Refusal> {
    let switch = fleet.switches.get(name).map(AsRef::as_ref);
    switch.ok_or_else(|| Refusal::Missing { what: "switch", name: name.to_owned() })
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
