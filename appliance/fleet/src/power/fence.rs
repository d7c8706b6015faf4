//! Fencing: a host that is silent, or that a person does not trust, is cut off before what ran on it runs elsewhere.
//!
//! Never a majority at once: when most hosts are silent it is the network or the appliance that is ill. Never faster
//! than the policy says. Where nothing proves that it is off, a person is asked.

use serde::{Deserialize, Serialize};

use super::order::{self, Outcome, no_way};
use super::{Event, Way, tries};
use crate::host::Host;
use crate::machine::{By, Machine, Phase, find};
use crate::{Ctx, Fleet, MachineId, Refusal, Timestamp, host, vm};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    pub by: By,
    pub why: String,
    pub since: Timestamp,
    /// Since when it is proven to be off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<Timestamp>,
    /// What proved it; none if a person said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<Way>,
    /// Its BMC said that it was off and it was not: that one is not asked again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubted: bool,
    /// Why the last attempt by its BMC did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Why the last attempt by its power strips did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip_trouble: Option<String>,
}

impl Fence {
    pub(super) fn new(by: By, why: String, since: Timestamp) -> Fence {
        Fence { by, why, since, off: None, proven: None, doubted: false, trouble: None, strip_trouble: None }
    }
}

/// Since when it is proven that nothing runs on it.
pub fn off_since(fleet: &Fleet, id: MachineId) -> Option<Timestamp> {
    fleet.machines.get(&id)?.power.fence.as_ref()?.off
}

/// By a person.
pub(crate) fn fence(fleet: &Fleet, id: MachineId, why: &str, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.power.fence.is_some() {
        return Ok(Vec::new());
    }
    may_be_fenced(machine)?;
    Ok(vec![asked(id, By::Person, why.to_owned(), ctx)])
}

/// Because it is silent.
pub(crate) fn by_policy(fleet: &Fleet, id: MachineId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.power.fence.is_some() {
        return Ok(Vec::new());
    }
    let Some(since) = fleet.hosts.get(&id).and_then(|host| host.suspected_since) else {
        return Err(Refusal::Conflict(format!("{} is not suspected of anything", machine.name)));
    };
    if let Some(obstacle) = obstacle(fleet, machine, ctx.now) {
        return Err(Refusal::Conflict(obstacle.why));
    }
    let why = format!("its host agent has been silent for {} s", ctx.now.secs_since(since));
    Ok(vec![asked(id, By::Policy, why, ctx)])
}

/// A person says that it is off: where it has no BMC, or that does not answer.
pub(crate) fn attest(
    fleet: &Fleet,
    id: MachineId,
    why: &str,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let mut events = Vec::new();
    match &machine.power.fence {
        Some(fence) if fence.off.is_some() => return Ok(events),
        Some(_) => {}
        None => {
            runs_nothing_twice(machine)?;
            if fleet.hosts.get(&id).is_some_and(|host| host.suspected_since.is_none()) {
                return Err(Refusal::Conflict(format!(
                    "{} is not silent, so it is not off; is it another one?",
                    machine.name
                )));
            }
            events.push(asked(id, By::Person, "a person says that it is off".to_owned(), ctx));
        }
    }
    let proof = format!("a person says so: {why}");
    events.push(crate::Event::Power(Event::Fenced { machine: id, proof, way: None, at: ctx.now }));
    Ok(events)
}

/// Its BMC said that it is off, and it goes on speaking: what else there is has to cut it off.
pub(crate) fn doubt(fleet: &Fleet, id: MachineId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if !is_to_be_doubted(machine) {
        return Err(Refusal::Conflict(format!("nothing else than what did can switch {} off", machine.name)));
    }
    Ok(vec![crate::Event::Power(Event::Doubted { machine: id, at: ctx.now })])
}

pub(crate) fn is_to_be_doubted(machine: &Machine) -> bool {
    let Some(fence) = &machine.power.fence else { return false };
    fence.off.is_some() && fence.proven == Some(Way::Bmc) && !machine.power.strips.is_empty()
}

fn asked(machine: MachineId, by: By, why: String, ctx: Ctx) -> crate::Event {
    crate::Event::Power(Event::FenceAsked { machine, by, why, at: ctx.now })
}

fn may_be_fenced(machine: &Machine) -> Result<(), Refusal> {
    runs_nothing_twice(machine)?;
    if !machine.power.is_switchable() {
        return Err(Refusal::Conflict(no_way(machine)));
    }
    Ok(())
}

fn runs_nothing_twice(machine: &Machine) -> Result<(), Refusal> {
    let name = &machine.name;
    if machine.appliance {
        return Err(Refusal::Conflict(format!(
            "the appliance itself runs on {name}; it would switch off what is to prove that it is off"
        )));
    }
    match &machine.phase {
        Phase::Installed | Phase::Ready => {}
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Failed { .. }
        | Phase::Erasing(_)
        | Phase::Retired => {
            return Err(Refusal::Conflict(format!(
                "{name} is {} and carries nothing that could run twice; switch it off, or cancel what goes on with it",
                machine.phase.word()
            )));
        }
    }
    Ok(())
}

/// What keeps the policy from fencing a silent host.
#[derive(Debug)]
pub(crate) struct Obstacle {
    pub why: String,
    /// When it passes by itself.
    pub until: Option<Timestamp>,
}

impl From<String> for Obstacle {
    fn from(why: String) -> Obstacle {
        Obstacle { why, until: None }
    }
}

/// Why the policy does not fence this silent host by itself.
pub(crate) fn obstacle(fleet: &Fleet, machine: &Machine, now: Timestamp) -> Option<Obstacle> {
    let policy = &fleet.policy.fencing;
    if !policy.automatic {
        return Some("the policy says to ask before fencing".to_owned().into());
    }
    if let Err(refusal) = may_be_fenced(machine) {
        return Some(refusal.to_string().into());
    }
    if !vm::on_host(fleet, machine.id).any(vm::may_move) {
        return Some("nothing on it would be started elsewhere, so it is not fenced".to_owned().into());
    }
    let patience = fleet.hosts.get(&machine.id).and_then(|host| host.patience_until);
    if let Some(until) = patience.filter(|until| *until > now) {
        let why = "others that were silent with it speak again, so it is waited for".to_owned();
        return Some(Obstacle { why, until: Some(until) });
    }
    let all = fleet.hosts.len();
    let lost = fleet.hosts.values().filter(|host| is_lost(fleet, host)).count();
    if lost * 2 > all {
        let why =
            format!("{lost} of {all} hosts are silent, which looks like the network and not like the hosts");
        return Some(why.into());
    }
    let alone = fleet.machines.values().filter_map(|machine| machine.power.fenced_alone);
    let lately: Vec<Timestamp> = alone.filter(|at| now.secs_since(*at) < WITHIN_SECS).collect();
    if lately.len() >= usize::try_from(policy.per_hour).unwrap_or(usize::MAX) {
        let why = format!("{} hosts were fenced within an hour, as many as the policy allows", lately.len());
        let until = lately.iter().min().map(|at| Timestamp(at.0 + WITHIN_SECS * 1000));
        return Some(Obstacle { why, until });
    }
    None
}

/// What the policy's rate is about.
const WITHIN_SECS: u64 = 3600;

fn is_lost(fleet: &Fleet, host: &Host) -> bool {
    host.suspected_since.is_some()
        || fleet.machines.get(&host.machine).is_some_and(|machine| machine.power.fence.is_some())
}

/// What would come of it if a host hung now: its silence, the fence that follows by policy, and where its VMs would be.
pub(crate) fn imagine_failure(fleet: &Fleet, id: MachineId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if !fleet.hosts.contains_key(&id) || machine.power.fence.is_some() {
        return Err(Refusal::Conflict(format!("{} is no host that runs", machine.name)));
    }
    let silent_ms = fleet.policy.fencing.silent_secs * 1000;
    let late = Ctx { now: Timestamp(ctx.now.0.saturating_add(silent_ms)) };
    let mut after = fleet.clone();
    let mut events = Vec::new();
    let mut happen = |after: &mut Fleet, happened: Vec<crate::Event>| {
        happened.iter().for_each(|event| crate::evolve(after, event));
        events.extend(happened);
    };
    happen(&mut after, host::suspect(fleet, id, ctx.now, late)?);
    // Where the policy does not fence it by itself, that is what it waits for.
    if let Ok(fenced) = by_policy(&after, id, late) {
        happen(&mut after, fenced);
        let way = tries(find(&after, id)?).first().map_or(Way::Bmc, |first| first.way);
        let outcome = Outcome::Done(match way {
            Way::Bmc => "its BMC would say twice that it is off".to_owned(),
            Way::Strips => "its outlets would say twice that they are off".to_owned(),
        });
        let off = order::report(&after, id, late.now, way, &outcome, late)?;
        happen(&mut after, off);
        for vm in vm::on_host(fleet, id).filter(|vm| vm::may_move(vm)) {
            if let Ok(moved) = vm::recover(&after, vm.id, late) {
                happen(&mut after, moved);
            }
        }
    }
    Ok(events)
}

pub(crate) fn unfence(
    fleet: &Fleet,
    id: MachineId,
    on: bool,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    match &machine.power.fence {
        None => Ok(Vec::new()),
        Some(Fence { off: None, .. }) => Err(Refusal::Conflict(format!(
            "{} is being fenced and not proven to be off yet; cancel that instead",
            machine.name
        ))),
        Some(Fence { off: Some(_), .. }) => {
            Ok(vec![crate::Event::Power(Event::Unfenced { machine: id, on, at: ctx.now })])
        }
    }
}
