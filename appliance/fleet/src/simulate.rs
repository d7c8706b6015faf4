//! What commands would do: decided for real on a copy of the fleet, and told instead of made durable.
//!
//! A plan that is applied later must do exactly what was shown. It carries a [`Digest`] of the events that it
//! showed; it is applied only if deciding its commands again gives the same events, but for the time of day.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::plan::{Waiting, plan_subject};
use crate::{
    Command, Ctx, Digest, Event, Fleet, NodeId, Observed, Refusal, ServiceId, Subject, decide, digest,
    evolve, vm,
};

/// What a list of commands would do, were it given now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Forecast {
    pub steps: Vec<Step>,
    pub placements: Vec<Placement>,
    /// What would wait afterwards, and does not now.
    pub waiting: Vec<Wait>,
    /// None if a command would be refused: nothing of it can be applied then.
    pub digest: Option<Digest>,
}

/// One command of a [`Forecast`]. A step sees what the steps before it would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    pub command: Command,
    /// Empty if it is refused, or if all is already as it orders.
    pub effects: Vec<Effect>,
    pub refusal: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Effect {
    /// The subject of the event: an id, an address, a name.
    pub subject: String,
    /// What people call it.
    pub name: String,
    /// In the words that would stand on the timeline.
    pub sentence: String,
}

/// Where a VM would come to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Placement {
    pub vm: String,
    pub host: String,
    pub address: Option<Ipv4Addr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "WouldWait"))]
pub struct Wait {
    pub name: String,
    pub what: String,
    pub hint: Option<String>,
}

impl Forecast {
    /// The first refusal, with the place of its command.
    pub fn refusal(&self) -> Option<(usize, &str)> {
        let refusals = self.steps.iter().enumerate();
        refusals.filter_map(|(place, step)| Some((place, step.refusal.as_deref()?))).next()
    }

    pub fn changes_nothing(&self) -> bool {
        self.steps.iter().all(|step| step.effects.is_empty() && step.refusal.is_none())
    }
}

/// Decides `commands` one after another, as if they were given at `ctx.now`. Nothing is changed by asking.
pub fn simulate(fleet: &Fleet, observed: &Observed, commands: &[Command], ctx: Ctx) -> Forecast {
    let eyes = Eyes {
        decide: |fleet: &Fleet, command: &Command| decide(fleet, command, ctx),
        told: |event| event,
        waits: |waiting| waiting,
    };
    eyes.simulate(fleet, observed, commands, ctx)
}

/// Whose orders they are, and what of it he is told.
pub(crate) struct Eyes<D, T, W> {
    pub decide: D,
    pub told: T,
    pub waits: W,
}

impl<D, T, W> Eyes<D, T, W>
where
    D: Fn(&Fleet, &Command) -> Result<Vec<Event>, Refusal>,
    T: Fn(Event) -> Event,
    W: Fn(Waiting) -> Waiting,
{
    pub(crate) fn simulate(
        &self,
        fleet: &Fleet,
        observed: &Observed,
        commands: &[Command],
        ctx: Ctx,
    ) -> Forecast {
        let mut after = fleet.clone();
        let mut events = Vec::new();
        let mut steps = Vec::with_capacity(commands.len());
        for command in commands {
            let step = match (self.decide)(&after, command) {
                Ok(decided) => {
                    let before = after.clone();
                    decided.iter().for_each(|event| evolve(&mut after, event));
                    let told: Vec<Event> = decided.into_iter().map(&self.told).collect();
                    let effects = told.iter().map(|event| effect(&before, &after, event)).collect();
                    events.extend(told);
                    Step { command: command.clone(), effects, refusal: None }
                }
                Err(refusal) => {
                    let refusal = Some(refusal.to_string());
                    Step { command: command.clone(), effects: Vec::new(), refusal }
                }
            };
            steps.push(step);
        }
        let refused = steps.iter().any(|step| step.refusal.is_some());
        Forecast {
            placements: events.iter().filter_map(|event| placement(&after, event)).collect(),
            waiting: self.waiting(fleet, &after, observed, &events, ctx),
            digest: (!refused).then(|| digest(&events)),
            steps,
        }
    }

    /// Of the things that the events are about.
    fn waiting(
        &self,
        before: &Fleet,
        after: &Fleet,
        observed: &Observed,
        events: &[Event],
        ctx: Ctx,
    ) -> Vec<Wait> {
        let touched: BTreeSet<Subject> = events.iter().filter_map(Event::planned).collect();
        let mut waiting = Vec::new();
        for subject in touched {
            let waits_now = plan_subject(before, subject, observed, ctx.now).waiting;
            let waits_then = plan_subject(after, subject, observed, ctx.now).waiting;
            let new = waits_then.into_iter().filter(|then| waits_now.iter().all(|now| now.what != then.what));
            waiting.extend(new.map(|then| {
                let subject = subject.to_string();
                let Waiting { what, hint, .. } = (self.waits)(then);
                Wait {
                    name: name_of(after, &subject).unwrap_or(subject),
                    what: what.into_owned(),
                    hint: hint.map(Cow::into_owned),
                }
            }));
        }
        waiting
    }
}

fn effect(before: &Fleet, after: &Fleet, event: &Event) -> Effect {
    let subject = event.subject();
    // What is removed has its name in the fleet before.
    let name = name_of(after, &subject).or_else(|| name_of(before, &subject));
    Effect { name: name.unwrap_or_else(|| subject.clone()), sentence: event.sentence(), subject }
}

/// What people call the subject of an event; None for what has no other name than this, or is not there.
pub fn name_of(fleet: &Fleet, subject: &str) -> Option<String> {
    if let Ok(node) = subject.parse::<NodeId>() {
        return match node {
            NodeId::Machine(id) => fleet.machines.get(&id).map(|machine| machine.name.to_string()),
            NodeId::Vm(id) => fleet.vms.get(&id).map(|vm| vm.name.to_string()),
        };
    }
    // `rack:a1`, `switch:core`
    if let Some((_, name)) = subject.split_once(':').filter(|_| subject.parse::<crate::Mac>().is_err()) {
        return Some(name.to_owned());
    }
    let service: ServiceId = subject.parse().ok()?;
    fleet.services.get(&service).map(|service| service.name.clone())
}

fn placement(after: &Fleet, event: &Event) -> Option<Placement> {
    let Event::Vm(vm::Event::Created { vm, host_name }) = event else { return None };
    let address = after.leases.address(vm.mac);
    Some(Placement { vm: vm.name.to_string(), host: host_name.clone(), address })
}
