//! Switches from the front, port by port: what is plugged in as machines hear it, and as a person said it; and how
//! switches hang together.

use std::collections::{BTreeMap, BTreeSet};

use fleet::rack::{self, Occupant, Place};
use fleet::switch::{self, Plugged, Switch};
use fleet::{Fleet, Mac, machine};

use super::list::{Frame, Scene};
use super::look::{FEW, Look, encoded};
use super::order::natural;
use super::show;

pub struct Wiring {
    pub switches: Vec<Panel>,
    pub frame: Frame,
    /// Ports of all switches in which LLDP and a person contradict each other.
    pub wrong: usize,
    pub tree: Vec<Branch>,
}

pub struct Panel {
    pub name: String,
    pub chassis: Option<String>,
    pub place: Option<Place>,
    pub ports: Vec<Port>,
}

pub struct Port {
    pub name: String,
    pub known: Known,
    pub plugs: Vec<Plug>,
    /// What contradicts what, as a sentence.
    pub wrong: Option<String>,
}

/// How it is known what is in a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Free,
    Seen,
    Said,
    Both,
    Wrong,
}

pub struct Plug {
    pub name: String,
    /// Where there is little room; as `name`, if it is not said.
    brief: Option<String>,
    pub href: Option<String>,
    pub nic: Option<String>,
    pub mac: Option<Mac>,
    pub speed: Option<String>,
    pub known: Known,
}

/// A switch, below the one that it was come to from.
pub struct Branch {
    pub depth: usize,
    pub name: String,
    pub href: String,
    /// `its port 1 is in port 3 of core-1`
    pub by: Option<String>,
    pub machines: usize,
}

/// Deeper ones are shown as deep as this.
const DEEPEST: usize = 6;

impl Known {
    pub fn word(self) -> &'static str {
        match self {
            Known::Free => "free",
            Known::Seen => "seen",
            Known::Said => "said, not seen",
            Known::Both => "seen and said",
            Known::Wrong => "wrong cable",
        }
    }

    pub fn class(self) -> &'static str {
        match self {
            Known::Free => "free",
            Known::Seen => "seen",
            Known::Said => "said",
            Known::Both => "both",
            Known::Wrong => "contrary",
        }
    }
}

pub fn wiring(scene: Scene<'_>, look: &Look) -> Wiring {
    let fleet = scene.fleet;
    let look = Look { size: FEW, ..look.clone() };
    let words: Vec<String> = look.q.split_whitespace().map(str::to_lowercase).collect();
    let mut found: Vec<&Switch> =
        fleet.switches.values().map(AsRef::as_ref).filter(|switch| has(fleet, switch, &words)).collect();
    found.sort_by(|a, b| natural(&a.name, &b.name));
    let frame = Frame::of(&look, "/switches", found.len());
    let shown = found.into_iter().skip(frame.skipped()).take(FEW);
    let ports = fleet.switches.values().flat_map(|switch| switch.ports.values());
    Wiring {
        switches: shown.map(|switch| panel(fleet, switch)).collect(),
        wrong: ports.filter(|port| port.heard.iter().any(|mac| port.contradicts(*mac))).count(),
        tree: if frame.is_asked() { Vec::new() } else { tree(fleet) },
        frame,
    }
}

fn has(fleet: &Fleet, switch: &Switch, words: &[String]) -> bool {
    let plugged = |word: &String| {
        let nics = switch.ports.values().flat_map(|port| port.nics());
        nics.into_iter().any(|mac| {
            mac.to_string().contains(word.as_str())
                || machine::by_mac(fleet, mac).is_some_and(|machine| machine.name.contains(word.as_str()))
        })
    };
    let chassis = switch.chassis.as_deref().unwrap_or_default().to_lowercase();
    words
        .iter()
        .all(|word| switch.name.contains(word.as_str()) || chassis.contains(word.as_str()) || plugged(word))
}

fn panel(fleet: &Fleet, switch: &Switch) -> Panel {
    let mut ports: Vec<Port> = switch.ports.iter().map(|(name, it)| port(fleet, name, it)).collect();
    ports.sort_by(|a, b| natural(&a.name, &b.name));
    Panel {
        name: switch.name.clone(),
        chassis: switch.chassis.clone(),
        place: rack::place_of(fleet, &Occupant::Switch(switch.name.clone())),
        ports,
    }
}

fn port(fleet: &Fleet, name: &str, port: &switch::Port) -> Port {
    let said = match &port.by_hand {
        Some(Plugged::Nic { mac }) => Some(*mac),
        Some(Plugged::Port { .. } | Plugged::Note { .. }) | None => None,
    };
    let mut plugs: Vec<Plug> = Vec::new();
    for mac in &port.heard {
        let known = if said == Some(*mac) { Known::Both } else { Known::Seen };
        plugs.push(nic(fleet, *mac, known));
    }
    match &port.by_hand {
        Some(Plugged::Nic { mac }) if !port.heard.contains(mac) => plugs.push(nic(fleet, *mac, Known::Said)),
        Some(what @ (Plugged::Port { .. } | Plugged::Note { .. })) => plugs.push(other(fleet, what)),
        Some(Plugged::Nic { .. }) | None => {}
    }
    let wrong = port.heard.first().and_then(|mac| switch::contradiction(fleet, *mac));
    let known = match (&wrong, said.is_some_and(|mac| port.heard.contains(&mac)), port.heard.is_empty()) {
        (Some(_), ..) => Known::Wrong,
        (None, true, _) => Known::Both,
        (None, false, false) => Known::Seen,
        (None, false, true) if plugs.is_empty() => Known::Free,
        (None, false, true) => Known::Said,
    };
    Port { name: name.to_owned(), known, plugs, wrong }
}

fn nic(fleet: &Fleet, mac: Mac, known: Known) -> Plug {
    let machine = machine::by_mac(fleet, mac);
    let nics = machine.and_then(|machine| machine.hardware.as_ref()).map(|hardware| &hardware.nics);
    let nic = nics.into_iter().flatten().find(|nic| nic.mac == mac);
    Plug {
        brief: None,
        name: machine.map_or_else(|| "a machine that is not known".to_owned(), |it| it.name.to_string()),
        href: machine.map(|machine| format!("/machines/{}", machine.id)),
        nic: nic.map(|nic| nic.name.clone()),
        mac: Some(mac),
        speed: nic.map(show::link),
        known,
    }
}

/// Another switch, or a note.
fn other(fleet: &Fleet, what: &Plugged) -> Plug {
    let (href, brief) = match what {
        Plugged::Port { switch, port } => (Some(address(switch)), Some(format!("{switch} {port}"))),
        Plugged::Note { text } => (None, Some(text.clone())),
        Plugged::Nic { .. } => (None, None),
    };
    let name = switch::name_of(fleet, what);
    Plug { name, brief, href, nic: None, mac: None, speed: None, known: Known::Said }
}

fn address(switch: &str) -> String {
    format!("/switches?q={0}#switch-{0}", encoded(switch))
}

/// Switches that are plugged into each other, from the one with the most links down. Nothing, if none are.
fn tree(fleet: &Fleet) -> Vec<Branch> {
    let mut links: BTreeMap<&str, Vec<(&str, &str, &str)>> = BTreeMap::new();
    for switch in fleet.switches.values() {
        for (port, it) in &switch.ports {
            if let Some(Plugged::Port { switch: other, port: there }) = &it.by_hand {
                links.entry(&switch.name).or_default().push((port, other, there));
            }
        }
    }
    let mut roots: Vec<&str> = links.keys().copied().collect();
    roots.sort_by(|a, b| links[b].len().cmp(&links[a].len()).then_with(|| natural(a, b)));
    let (mut tree, mut seen) = (Vec::new(), BTreeSet::new());
    for root in roots {
        // What is still to be shown, the next last.
        let mut next: Vec<(usize, &str, Option<String>)> = vec![(0, root, None)];
        while let Some((depth, name, by)) = next.pop() {
            if !seen.insert(name) {
                continue;
            }
            tree.push(branch(fleet, depth, name, by));
            let mut below: Vec<&(&str, &str, &str)> = links.get(name).into_iter().flatten().collect();
            below.sort_by(|(a, ..), (b, ..)| natural(b, a));
            next.extend(below.into_iter().map(|(port, other, there)| {
                (depth + 1, *other, Some(format!("its port {there} is in port {port} of {name}")))
            }));
        }
    }
    tree
}

fn branch(fleet: &Fleet, depth: usize, name: &str, by: Option<String>) -> Branch {
    let ports = fleet.switches.get(name).map(|switch| &switch.ports);
    let nics = ports.into_iter().flat_map(|ports| ports.values()).flat_map(|port| port.nics());
    let machines: BTreeSet<_> = nics.filter_map(|mac| machine::by_mac(fleet, mac)).map(|it| it.id).collect();
    Branch {
        depth: depth.min(DEEPEST),
        name: name.to_owned(),
        href: address(name),
        by,
        machines: machines.len(),
    }
}

impl Plug {
    pub fn brief(&self) -> &str {
        self.brief.as_deref().unwrap_or(&self.name)
    }
}

impl Panel {
    pub fn used(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(|port| port.known != Known::Free)
    }

    /// `ports 3, 5–48`
    pub fn free(&self) -> Option<String> {
        let free = self.ports.iter().filter(|port| port.known == Known::Free);
        let free: Vec<&str> = free.map(|port| port.name.as_str()).collect();
        let word = if free.len() == 1 { "port" } else { "ports" };
        (!free.is_empty()).then(|| format!("{word} {}", runs(&free).join(", ")))
    }
}

/// Names in their order; those that follow one another by their number as first and last.
fn runs(names: &[&str]) -> Vec<String> {
    let mut runs: Vec<(&str, &str)> = Vec::new();
    for name in names {
        match runs.last_mut() {
            Some((_, last)) if follows(last, name) => *last = name,
            _ => runs.push((name, name)),
        }
    }
    let words = runs.into_iter().map(|(first, last)| match first == last {
        true => first.to_owned(),
        false => format!("{first}–{last}"),
    });
    words.collect()
}

fn follows(before: &str, name: &str) -> bool {
    let split = |name: &str| {
        let text = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        name[text..].parse::<u64>().ok().map(|number| (name[..text].to_owned(), number))
    };
    match (split(before), split(name)) {
        (Some((text, number)), Some((same, next))) => text == same && number.checked_add(1) == Some(next),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_follow_one_another_are_said_at_once() {
        assert_eq!(runs(&["1", "2", "3", "7", "9", "10"]), ["1–3", "7", "9–10"]);
        assert_eq!(
            runs(&["Gi1/0/47", "Gi1/0/48", "Te1/1/1", "mgmt"]),
            ["Gi1/0/47–Gi1/0/48", "Te1/1/1", "mgmt"]
        );
        assert_eq!(runs(&[]), [""; 0]);
    }
}
