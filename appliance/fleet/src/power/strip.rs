//! Power strips: the outlets that a machine's supplies are plugged into, as a second way to have it off.
//!
//! A machine with two supplies is off only when both of its outlets are. So all are switched off, one after the other,
//! before any is asked for the proof or switched on again; and one that stays on leaves nothing proven.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::bmc::{self, Bmc, Kind};
use super::{Action, Event, Way};
use crate::machine::find;
use crate::{Ctx, Fleet, MachineId, Refusal, Timestamp};

/// The outlets of a machine on one power strip; the login for it is a secret and so is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strip {
    /// The fence agent that speaks to it: `fence_apc_snmp`.
    pub agent: String,
    /// Name or address, with `:port` if it is not the usual one.
    pub address: String,
    /// As the strip calls them: `3`.
    pub outlets: Vec<String>,
    /// What else the fence agent is told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl fmt::Display for Strip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outlets = if self.outlets.len() == 1 { "outlet" } else { "outlets" };
        write!(f, "{outlets} {} of {} at {}", self.outlets.join(", "), self.agent, self.address)
    }
}

impl Strip {
    fn each(&self) -> impl Iterator<Item = Outlet> + '_ {
        self.outlets.iter().map(|name| Outlet {
            agent: self.agent.clone(),
            address: self.address.clone(),
            name: name.clone(),
            options: self.options.clone(),
        })
    }
}

/// One outlet, and how its strip is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlet {
    pub agent: String,
    pub address: String,
    pub name: String,
    pub options: BTreeMap<String, String>,
}

impl fmt::Display for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outlet {} of the power strip at {}", self.name, self.address)
    }
}

pub fn outlets(strips: &[Strip]) -> Vec<Outlet> {
    strips.iter().flat_map(Strip::each).collect()
}

/// Before the first outlet is switched off: whatever becomes of that, some of them may be off from now on.
pub(crate) fn begin(
    fleet: &Fleet,
    id: MachineId,
    since: Timestamp,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let is_next = super::wanted(machine).is_some_and(|wanted| wanted.since == since)
        && super::tries(machine).iter().any(|it| it.way == Way::Strips && it.action != Action::On);
    if !is_next {
        return Err(Refusal::Conflict(format!(
            "{} is not to be switched off by its power strip any more",
            machine.name
        )));
    }
    if machine.power.cut.is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Power(Event::Outlets { machine: id, on: false, at: ctx.now })])
}

/// More than that is no computer.
const MOST_OUTLETS: usize = 16;

/// The appliance says which outlet is meant, by whichever name the agent has for it.
const OUTLET_OPTIONS: [&str; 3] = ["plug", "port", "plug_separator"];

pub(crate) fn set(fleet: &Fleet, id: MachineId, strip: &Strip) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    check(strip)?;
    if machine.power.strips.contains(strip) {
        return Ok(Vec::new());
    }
    if super::wanted(machine).is_some() {
        return Err(Refusal::Conflict(format!(
            "the power of {} is being switched; cancel that first",
            machine.name
        )));
    }
    for other in fleet.machines.values().filter(|other| other.id != id) {
        let bmc = other.power.bmc.as_ref().and_then(of_bmc);
        let taken = other.power.strips.iter().flat_map(Strip::each).chain(bmc);
        if let Some(outlet) = shared(&mut taken.into_iter(), strip) {
            return Err(Refusal::Conflict(format!(
                "{outlet} feeds {}; an outlet is one machine's, or cutting off one would cut off the other",
                other.name
            )));
        }
    }
    Ok(vec![crate::Event::Power(Event::StripSet { machine: id, strip: strip.clone() })])
}

fn check(strip: &Strip) -> Result<(), Refusal> {
    let invalid = |sentence: String| Err(Refusal::Invalid(sentence));
    if !bmc::is_agent(&strip.agent) {
        return invalid(format!(
            "{:?} speaks to no power strip; give the name of a fence agent such as fence_apc_snmp",
            strip.agent
        ));
    }
    if !bmc::is_address(&strip.address) {
        return invalid(format!(
            "{:?} is not usable as the address of a power strip: a name or an address, with :port if it is not the usual one",
            strip.address
        ));
    }
    bmc::check_options(&strip.options)?;
    if let Some(option) = OUTLET_OPTIONS.iter().find(|option| strip.options.contains_key(**option)) {
        return invalid(format!("{option} is not needed; name the outlets themselves"));
    }
    if !(1..=MOST_OUTLETS).contains(&strip.outlets.len()) {
        return invalid(format!("a machine has 1 to {MOST_OUTLETS} outlets of a power strip"));
    }
    for (place, outlet) in strip.outlets.iter().enumerate() {
        // Agents take a comma for several outlets, of which one that is on hides that another is off.
        let is_name = (1..=64).contains(&outlet.len())
            && outlet.trim() == outlet
            && !outlet.starts_with('-')
            && !outlet.chars().any(|c| c.is_control() || c == ',');
        if !is_name {
            return invalid(format!("{outlet:?} is not usable as the name of an outlet"));
        }
        if strip.outlets[..place].iter().any(|other| is_same_name(other, outlet)) {
            return invalid(format!("outlet {outlet} is named twice"));
        }
    }
    Ok(())
}

/// A BMC that is in truth an outlet.
fn of_bmc(bmc: &Bmc) -> Option<Outlet> {
    let Kind::Agent(agent) = &bmc.kind else { return None };
    let name = bmc.options.get("plug").or_else(|| bmc.options.get("port"))?;
    let options = bmc.options.clone();
    Some(Outlet { agent: agent.clone(), address: bmc.address.clone(), name: name.clone(), options })
}

fn shared(taken: &mut impl Iterator<Item = Outlet>, strip: &Strip) -> Option<Outlet> {
    // One address may have several strips, which APC tells apart by `switch`.
    let is_same = |outlet: &Outlet| {
        outlet.address.eq_ignore_ascii_case(&strip.address)
            && outlet.options.get("switch") == strip.options.get("switch")
            && strip.outlets.iter().any(|name| is_same_name(name, &outlet.name))
    };
    taken.find(is_same)
}

/// The machine that has an outlet as one of its own which `bmc` would switch, too.
pub(super) fn feeds<'a>(
    fleet: &'a Fleet,
    id: MachineId,
    bmc: &Bmc,
) -> Option<(Outlet, &'a crate::machine::Machine)> {
    let outlet = of_bmc(bmc)?;
    let mut others = fleet.machines.values().filter(|other| other.id != id);
    let owner = others.find(|other| {
        other.power.strips.iter().any(|strip| shared(&mut std::iter::once(outlet.clone()), strip).is_some())
    })?;
    Some((outlet, owner))
}

/// `3` is `03`.
fn is_same_name(one: &str, other: &str) -> bool {
    match (one.parse::<u32>(), other.parse::<u32>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

/// Of the strip at this address, or of all.
pub(crate) fn remove(
    fleet: &Fleet,
    id: MachineId,
    address: Option<&str>,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let meant = |strip: &&Strip| address.is_none_or(|address| strip.address.eq_ignore_ascii_case(address));
    let gone: Vec<&Strip> = machine.power.strips.iter().filter(meant).collect();
    if let (Some(address), []) = (address, gone.as_slice()) {
        return Err(Refusal::Missing { what: "power strip of it at", name: address.to_owned() });
    }
    if !gone.is_empty() && super::wanted(machine).is_some() {
        return Err(Refusal::Conflict(format!(
            "the power of {} is being switched; cancel that first",
            machine.name
        )));
    }
    let removed = gone.into_iter().map(|strip| {
        let off = machine.power.cut.map(|_| format!("{strip} stays off until somebody switches it on"));
        let (address, leftovers) = (strip.address.clone(), off.into_iter().collect());
        crate::Event::Power(Event::StripRemoved { machine: id, address, leftovers })
    });
    Ok(removed.collect())
}

/// What is to be done with the outlets of a machine, one thing after the other.
///
/// Whoever carries it out does what [`Outlets::next`] says and tells by [`Outlets::hear`] what came of it.
#[derive(Debug)]
pub struct Outlets {
    outlets: Vec<Outlet>,
    left: VecDeque<(usize, Move)>,
    off: Vec<usize>,
    ended: Option<Result<String, String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Until the strip itself says that it is so.
    Switch {
        on: bool,
    },
    Ask,
}

/// What came of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is as it was to be, or it was asked and is on (or off).
    Is { on: bool },
    /// Nothing is known of it.
    Trouble(String),
}

impl Outlets {
    /// A machine that is to be switched on while an outlet is off gets them all.
    pub fn to(action: Action, outlets: Vec<Outlet>) -> Outlets {
        let all = 0..outlets.len();
        let mut left = VecDeque::new();
        if action != Action::On {
            left.extend(all.clone().map(|outlet| (outlet, Move::Switch { on: false })));
            if outlets.len() > 1 {
                // While the others were switched, one that was off may have come back.
                left.extend(all.clone().map(|outlet| (outlet, Move::Ask)));
            }
        }
        if action != Action::Off {
            left.extend(all.map(|outlet| (outlet, Move::Switch { on: true })));
        }
        let ended = outlets.is_empty().then(|| Err("it has no outlet".to_owned()));
        Outlets { outlets, left, off: Vec::new(), ended }
    }

    /// What is to be done next; at the end what shows that it is so, or why nothing does.
    pub fn next(&self) -> Result<(&Outlet, Move), Result<String, String>> {
        match (&self.ended, self.left.front()) {
            (Some(ended), _) => Err(ended.clone()),
            (None, Some((outlet, next))) => Ok((&self.outlets[*outlet], *next)),
            (None, None) => Err(Ok(self.proof())),
        }
    }

    pub fn hear(&mut self, answer: Answer) {
        let Some((number, asked)) = self.left.pop_front() else { return };
        let wanted = match asked {
            Move::Switch { on } => on,
            Move::Ask => false,
        };
        match answer {
            Answer::Is { on } if on == wanted => {
                if !on && !self.off.contains(&number) {
                    self.off.push(number);
                }
                if on {
                    self.off.retain(|off| *off != number);
                }
            }
            Answer::Is { on } => {
                self.off.retain(|off| *off != number);
                self.fail(number, wanted, &format!("it says {}", word(on)));
            }
            Answer::Trouble(why) => self.fail(number, wanted, &why),
        }
    }

    fn fail(&mut self, number: usize, wanted: bool, why: &str) {
        let off: Vec<String> =
            self.off.iter().filter(|off| **off != number).map(|off| self.outlets[*off].to_string()).collect();
        let rest = if off.is_empty() { String::new() } else { format!("; {} is off", off.join(" and ")) };
        let outlet = &self.outlets[number];
        self.ended = Some(Err(format!("{outlet} is not known to be {}: {why}{rest}", word(wanted))));
    }

    fn proof(&self) -> String {
        let is = word(self.off.is_empty());
        match self.outlets.as_slice() {
            [one] => format!("{one} said twice that it is {is}"),
            several => {
                let all: Vec<String> = several.iter().map(Outlet::to_string).collect();
                format!("{} said twice that they are {is}", all.join(" and "))
            }
        }
    }
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Outlet> {
        let outlet = |name: &str| Outlet {
            agent: "fence_apc".into(),
            address: "pdu".into(),
            name: name.into(),
            options: BTreeMap::new(),
        };
        vec![outlet("1"), outlet("2")]
    }

    /// Plays outlets that answer in this order; what was done, and how it ended.
    fn play(action: Action, answers: Vec<Answer>) -> (Vec<String>, Option<Result<String, String>>) {
        let mut outlets = Outlets::to(action, two());
        let mut done = Vec::new();
        for answer in answers {
            let Ok((outlet, what)) = outlets.next() else { break };
            done.push(match what {
                Move::Switch { on } => format!("{} {}", outlet.name, word(on)),
                Move::Ask => format!("{}?", outlet.name),
            });
            outlets.hear(answer);
        }
        (done, outlets.next().err())
    }

    const OFF: Answer = Answer::Is { on: false };
    const ON: Answer = Answer::Is { on: true };

    #[test]
    fn all_outlets_are_off_before_the_first_goes_on_again() {
        let (done, ended) = play(Action::Cycle, vec![OFF, OFF, OFF, OFF, ON, ON]);
        assert_eq!(done, ["1 off", "2 off", "1?", "2?", "1 on", "2 on"]);
        let proof = "outlet 1 of the power strip at pdu and outlet 2 of the power strip at pdu said twice that they are on";
        assert_eq!(ended, Some(Ok(proof.to_owned())));
        let (done, ended) = play(Action::On, vec![ON, ON]);
        assert_eq!((done.len(), ended.is_some_and(|ended| ended.is_ok())), (2, true));
    }

    #[test]
    fn one_outlet_of_two_that_stays_on_leaves_nothing_proven_and_nothing_goes_on_again() {
        let silent = Answer::Trouble("it does not answer".to_owned());
        let (done, ended) = play(Action::Cycle, vec![OFF, silent, ON, ON]);
        assert_eq!(done, ["1 off", "2 off"]);
        let why = "outlet 2 of the power strip at pdu is not known to be off: it does not answer; \
                   outlet 1 of the power strip at pdu is off";
        assert_eq!(ended, Some(Err(why.to_owned())));
        let (_, ended) = play(Action::Off, vec![OFF, OFF, ON, OFF]);
        let why = "outlet 1 of the power strip at pdu is not known to be off: it says on; \
                   outlet 2 of the power strip at pdu is off";
        assert_eq!(ended, Some(Err(why.to_owned())), "it came back while the other was switched");
    }

    #[test]
    fn nothing_is_proven_before_the_last_answer() {
        for heard in 0..4 {
            assert_eq!(play(Action::Off, vec![OFF; heard]).1, None, "after {heard}");
        }
        assert!(play(Action::Off, vec![OFF; 4]).1.is_some_and(|ended| ended.is_ok()));
        assert!(
            Outlets::to(Action::Off, Vec::new()).next().unwrap_err().is_err(),
            "nothing is off that is nowhere"
        );
    }
}
