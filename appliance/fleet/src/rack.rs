//! Racks: which machine or switch stands in which unit. A unit holds one thing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Fleet, MachineId, Refusal, is_label, switch};

/// The tallest rack that is taken, in units of 1.75 inches (EIA-310).
pub const MAX_UNITS: u32 = 60;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rack {
    pub name: String,
    pub units: u32,
    /// By the lowest unit that each takes; units are counted from 1 at the bottom.
    #[serde(deserialize_with = "holds")]
    pub holds: BTreeMap<u32, Held>,
}

/// JSON has only text as keys, and inside a tagged enum serde does not read numbers from it.
fn holds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, Held>, D::Error> {
    let holds = BTreeMap::<String, Held>::deserialize(deserializer)?;
    let numbered = holds.into_iter().map(|(unit, held)| Ok((unit.parse()?, held)));
    numbered.collect::<Result<_, std::num::ParseIntError>>().map_err(serde::de::Error::custom)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub what: Occupant,
    pub height: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occupant {
    Machine(MachineId),
    Switch(String),
}

/// The lowest unit of something and how many it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub rack: String,
    pub unit: u32,
    #[serde(default = "one")]
    pub height: u32,
}

pub(crate) fn one() -> u32 {
    1
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.height {
            1 => write!(f, "unit {} of rack {}", self.unit, self.rack),
            height => write!(f, "units {} to {} of rack {}", self.unit, self.unit + height - 1, self.rack),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Added {
        rack: String,
        units: u32,
    },
    Removed {
        rack: String,
        /// What stood in it and stands nowhere now, as sentences.
        #[serde(default)]
        leftovers: Vec<String>,
    },
    /// `name`: of what was placed, as it was called then.
    Placed {
        what: Occupant,
        name: String,
        place: Place,
        from: Option<Place>,
    },
    Unplaced {
        what: Occupant,
        name: String,
        from: Place,
    },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        match self {
            Event::Added { rack, .. } | Event::Removed { rack, .. } => subject(rack),
            Event::Placed { what, .. } | Event::Unplaced { what, .. } => match what {
                Occupant::Machine(machine) => machine.to_string(),
                Occupant::Switch(switch) => switch::subject(switch),
            },
        }
    }

    /// What is left over by it.
    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Removed { leftovers, .. } => leftovers,
            Event::Added { .. } | Event::Placed { .. } | Event::Unplaced { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Added { rack, units } => write!(f, "Rack {rack} of {units} units was added"),
            Event::Removed { rack, .. } => write!(f, "Rack {rack} was removed"),
            Event::Placed { name, place, from: None, .. } => write!(f, "{name} stands in {place}"),
            Event::Placed { name, place, from: Some(from), .. } => {
                write!(f, "{name} was moved from {from} to {place}")
            }
            Event::Unplaced { name, from, .. } => write!(f, "{name} was taken out of {from}"),
        }
    }
}

/// What the lines of a rack's timeline are written under.
pub fn subject(name: &str) -> String {
    format!("rack:{name}")
}

/// Where something stands.
pub fn place_of(fleet: &Fleet, what: &Occupant) -> Option<Place> {
    let rack = fleet.racks.get(fleet.index.rack_of(what)?)?;
    let (unit, held) = rack.holds.iter().find(|(_, held)| held.what == *what)?;
    Some(Place { rack: rack.name.clone(), unit: *unit, height: held.height })
}

/// What an occupant is called.
pub fn name_of(fleet: &Fleet, what: &Occupant) -> String {
    match what {
        Occupant::Machine(id) => {
            fleet.machines.get(id).map_or_else(|| id.to_string(), |machine| machine.name.to_string())
        }
        Occupant::Switch(name) => name.clone(),
    }
}

fn find<'a>(fleet: &'a Fleet, name: &str) -> Result<&'a Rack, Refusal> {
    let rack = fleet.racks.get(name).map(AsRef::as_ref);
    rack.ok_or_else(|| Refusal::Missing { what: "rack", name: name.to_owned() })
}

pub(crate) fn add(fleet: &Fleet, name: &str, units: u32) -> Result<Vec<crate::Event>, Refusal> {
    if !is_label(name) {
        return Err(Refusal::Invalid(format!(
            "{name:?} is not usable as a rack's name: a-z, 0-9 and -, at most 63 characters"
        )));
    }
    if !(1..=MAX_UNITS).contains(&units) {
        return Err(Refusal::Invalid(format!("a rack has 1 to {MAX_UNITS} units, not {units}")));
    }
    if fleet.racks.contains_key(name) {
        return Err(Refusal::Conflict(format!("there is a rack {name} already")));
    }
    Ok(vec![crate::Event::Rack(Event::Added { rack: name.to_owned(), units })])
}

pub(crate) fn remove(fleet: &Fleet, name: &str, force: bool) -> Result<Vec<crate::Event>, Refusal> {
    let rack = find(fleet, name)?;
    let held: Vec<String> = rack.holds.values().map(|held| name_of(fleet, &held.what)).collect();
    if !held.is_empty() && !force {
        return Err(Refusal::Conflict(format!(
            "rack {name} holds {}; take that out first, or remove it by force",
            held.join(", ")
        )));
    }
    let leftovers = held.into_iter().map(|name| format!("{name} stands in no rack now")).collect();
    Ok(vec![crate::Event::Rack(Event::Removed { rack: name.to_owned(), leftovers })])
}

pub(crate) fn place(fleet: &Fleet, what: &Occupant, place: &Place) -> Result<Vec<crate::Event>, Refusal> {
    exists(fleet, what)?;
    let rack = find(fleet, &place.rack)?;
    if place.height < 1 || place.unit < 1 || place.unit.saturating_add(place.height - 1) > rack.units {
        return Err(Refusal::Invalid(format!(
            "rack {} has the units 1 to {}; {} units from {} up do not fit",
            rack.name, rack.units, place.height, place.unit
        )));
    }
    let top = place.unit + place.height - 1;
    let in_the_way = rack
        .holds
        .iter()
        .find(|(unit, held)| held.what != *what && **unit <= top && **unit + held.height > place.unit);
    if let Some((unit, held)) = in_the_way {
        let taken = Place { rack: rack.name.clone(), unit: *unit, height: held.height };
        return Err(Refusal::Conflict(format!("{} stands in {taken}", name_of(fleet, &held.what))));
    }
    let from = place_of(fleet, what);
    if from.as_ref() == Some(place) {
        return Ok(Vec::new());
    }
    let name = name_of(fleet, what);
    Ok(vec![crate::Event::Rack(Event::Placed { what: what.clone(), name, place: place.clone(), from })])
}

pub(crate) fn unplace(fleet: &Fleet, what: &Occupant) -> Result<Vec<crate::Event>, Refusal> {
    exists(fleet, what)?;
    let Some(from) = place_of(fleet, what) else { return Ok(Vec::new()) };
    Ok(vec![crate::Event::Rack(Event::Unplaced { what: what.clone(), name: name_of(fleet, what), from })])
}

fn exists(fleet: &Fleet, what: &Occupant) -> Result<(), Refusal> {
    let (there, noun, name) = match what {
        Occupant::Machine(id) => (fleet.machines.contains_key(id), "machine", id.to_string()),
        Occupant::Switch(name) => (fleet.switches.contains_key(name), "switch", name.clone()),
    };
    if there { Ok(()) } else { Err(Refusal::Missing { what: noun, name }) }
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Added { rack, units } => {
            let added = Rack { name: rack.clone(), units: *units, holds: BTreeMap::new() };
            fleet.put_rack(added);
        }
        Event::Removed { rack, .. } => fleet.remove_rack(rack),
        Event::Placed { what, place, .. } => {
            take_out(fleet, what);
            let held = Held { what: what.clone(), height: place.height };
            fleet.change_rack(&place.rack, |rack| drop(rack.holds.insert(place.unit, held)));
        }
        Event::Unplaced { what, .. } => take_out(fleet, what),
    }
}

/// It stands nowhere any more.
pub(crate) fn take_out(fleet: &mut Fleet, what: &Occupant) {
    let Some(place) = place_of(fleet, what) else { return };
    fleet.change_rack(&place.rack, |rack| drop(rack.holds.remove(&place.unit)));
}

/// One machine turned out to be another: it stands where that one stood, if it stands nowhere itself.
pub(crate) fn fold(fleet: &mut Fleet, from: MachineId, into: MachineId) {
    let Some(place) = place_of(fleet, &Occupant::Machine(from)) else { return };
    let stands = place_of(fleet, &Occupant::Machine(into)).is_some();
    fleet.change_rack(&place.rack, |rack| {
        if stands {
            rack.holds.remove(&place.unit);
        } else if let Some(held) = rack.holds.get_mut(&place.unit) {
            held.what = Occupant::Machine(into);
        }
    });
}
