//! What machines hear of switches over LLDP.

use super::port::{MAX_PORTS, is_port_name};
use super::{By, Event, Plugged, Socket, by_chassis, name_of, socket_of};
use crate::wire::Neighbour;
use crate::{Fleet, Mac, MachineId, Refusal, is_label};

/// What a machine heard over LLDP on one of its NICs.
pub(crate) fn observe_neighbour(
    fleet: &Fleet,
    id: MachineId,
    neighbour: &Neighbour,
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

fn plugged_by_lldp(fleet: &Fleet, at: &Socket, mac: Mac, from: Option<Socket>) -> crate::Event {
    let what = Plugged::Nic { mac };
    let name = name_of(fleet, &what);
    crate::Event::Switch(Event::Plugged { at: at.clone(), what, name, by: By::Lldp, from, instead: None })
}

/// Whether the fleet says already what this neighbour says.
pub fn is_known(fleet: &Fleet, neighbour: &Neighbour) -> bool {
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
