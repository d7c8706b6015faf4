//! Racks as one stands before them: a line for each unit, the highest first, and in it what stands there.

use std::collections::BTreeSet;

use fleet::rack::{self, Occupant, Rack};
use fleet::{MachineId, Subject};

use super::list::{Frame, Scene};
use super::look::{FEW, Look, encoded};
use super::order::natural;
use super::show::{self, Tone};
use crate::api::machines;

/// Of what stands in no rack, so many are named.
const NAMED: usize = 40;

pub struct Room {
    pub racks: Vec<Front>,
    pub frame: Frame,
    /// Machines and switches that stand in no rack; the first of them, and how many there are.
    pub nowhere: Vec<Thing>,
    pub nowhere_all: usize,
}

pub struct Front {
    pub name: String,
    pub units: u32,
    pub free: u32,
    /// From the top.
    pub lines: Vec<Line>,
}

pub struct Line {
    pub unit: u32,
    pub cell: Cell,
}

pub enum Cell {
    Free,
    /// What stands here begins above.
    Covered,
    /// The highest unit of what stands here.
    Holds(Thing),
}

pub struct Thing {
    pub href: String,
    pub name: String,
    pub word: String,
    pub tone: Tone,
    /// In units.
    pub height: u32,
}

pub fn room(scene: Scene<'_>, look: &Look) -> Room {
    let fleet = scene.fleet;
    let look = Look { size: FEW, ..look.clone() };
    let words: Vec<String> = look.q.split_whitespace().map(str::to_lowercase).collect();
    let mut found: Vec<&Rack> =
        fleet.racks.values().map(AsRef::as_ref).filter(|rack| has(scene, rack, &words)).collect();
    found.sort_by(|a, b| natural(&a.name, &b.name));
    let frame = Frame::of(&look, "/racks", found.len());
    let shown = found.into_iter().skip(frame.skipped()).take(FEW);
    let racks = shown.map(|rack| front(scene, rack)).collect();
    let (nowhere, nowhere_all) = nowhere(scene);
    Room { racks, frame, nowhere, nowhere_all }
}

fn has(scene: Scene<'_>, rack: &Rack, words: &[String]) -> bool {
    let holds = |word: &String| {
        rack.holds.values().any(|held| rack::name_of(scene.fleet, &held.what).contains(word.as_str()))
    };
    words.iter().all(|word| rack.name.contains(word.as_str()) || holds(word))
}

fn front(scene: Scene<'_>, rack: &Rack) -> Front {
    let lines = (1..=rack.units).rev().map(|unit| {
        let below = rack.holds.range(..=unit).next_back();
        let cell = match below {
            Some((lowest, held)) if lowest + held.height - 1 == unit => {
                Cell::Holds(thing(scene, &held.what, held.height))
            }
            Some((lowest, held)) if lowest + held.height > unit => Cell::Covered,
            Some(_) | None => Cell::Free,
        };
        Line { unit, cell }
    });
    let used: u32 = rack.holds.values().map(|held| held.height).sum();
    Front {
        name: rack.name.clone(),
        units: rack.units,
        free: rack.units.saturating_sub(used),
        lines: lines.collect(),
    }
}

fn thing(scene: Scene<'_>, what: &Occupant, height: u32) -> Thing {
    match what {
        Occupant::Machine(id) => machine(scene, *id, height),
        Occupant::Switch(name) => switch(scene, name, height),
    }
}

fn machine(scene: Scene<'_>, id: MachineId, height: u32) -> Thing {
    let href = format!("/machines/{id}");
    let Some(machine) = scene.fleet.machines.get(&id) else {
        return Thing { href, name: id.to_string(), word: "not known".to_owned(), tone: Tone::Idle, height };
    };
    let asks = scene.plan.waiting_of(Subject::Machine(id)).iter().any(|waiting| waiting.hint.is_some());
    let (word, tone) = match &machine.power.fence {
        Some(fence) if fence.off.is_some() => ("fenced", Tone::Asks),
        Some(_) => ("being fenced", Tone::Busy),
        None => {
            let word = machine.phase.word();
            (word, show::tone_of_machine(word, asks, machines::is_adoptable(machine)))
        }
    };
    Thing { href, name: machine.name.to_string(), word: word.to_owned(), tone, height }
}

fn switch(scene: Scene<'_>, name: &str, height: u32) -> Thing {
    let ports = scene.fleet.switches.get(name).map(|switch| &switch.ports);
    let ports = || ports.into_iter().flat_map(|ports| ports.values());
    let used = ports().filter(|port| port.by_hand.is_some() || !port.heard.is_empty()).count();
    let wrong = ports().filter(|port| port.heard.iter().any(|mac| port.contradicts(*mac))).count();
    let (word, tone) = match wrong {
        0 => (format!("{used} of {} ports", ports().count()), Tone::Idle),
        1 => ("1 wrong cable".to_owned(), Tone::Asks),
        wrong => (format!("{wrong} wrong cables"), Tone::Asks),
    };
    let href = format!("/switches?q={0}#switch-{0}", encoded(name));
    Thing { href, name: name.to_owned(), word, tone, height }
}

/// In the order in which they came.
fn nowhere(scene: Scene<'_>) -> (Vec<Thing>, usize) {
    let fleet = scene.fleet;
    let placed: BTreeSet<&Occupant> =
        fleet.racks.values().flat_map(|rack| rack.holds.values().map(|held| &held.what)).collect();
    let is_here = |id: &MachineId| {
        fleet.machines.get(id).is_some_and(|machine| machine.phase != fleet::machine::Phase::Retired)
    };
    let machines = fleet.machines.keys().filter(|id| is_here(id)).map(|id| Occupant::Machine(*id));
    let switches = fleet.switches.keys().map(|name| Occupant::Switch(name.clone()));
    let mut nowhere = switches.chain(machines).filter(|what| !placed.contains(what));
    let named: Vec<Thing> = nowhere.by_ref().take(NAMED).map(|what| thing(scene, &what, 1)).collect();
    let all = named.len() + nowhere.count();
    (named, all)
}
