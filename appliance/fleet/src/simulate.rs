//! What commands would do: decided for real on a copy of the fleet, and told instead of made durable.
//!
//! A plan that is applied later must do exactly what was shown. It carries a [`Digest`] of the events that it
//! showed; it is applied only if deciding its commands again gives the same events, but for the time of day.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{Command, Ctx, Event, Fleet, NodeId, Observed, ParseError, ServiceId, decide, evolve, plan, vm};

/// What a list of commands would do, were it given now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
pub struct Step {
    pub command: Command,
    /// Empty if it is refused, or if all is already as it orders.
    pub effects: Vec<Effect>,
    pub refusal: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
pub struct Placement {
    pub vm: String,
    pub host: String,
    pub address: Option<Ipv4Addr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    let mut after = fleet.clone();
    let mut events = Vec::new();
    let mut steps = Vec::with_capacity(commands.len());
    for command in commands {
        let step = match decide(&after, command, ctx) {
            Ok(decided) => {
                let before = after.clone();
                decided.iter().for_each(|event| evolve(&mut after, event));
                let effects = decided.iter().map(|event| effect(&before, &after, event)).collect();
                events.extend(decided);
                Step { command: command.clone(), effects, refusal: None }
            }
            Err(refusal) => {
                Step { command: command.clone(), effects: Vec::new(), refusal: Some(refusal.to_string()) }
            }
        };
        steps.push(step);
    }
    let refused = steps.iter().any(|step| step.refusal.is_some());
    Forecast {
        placements: events.iter().filter_map(|event| placement(&after, event)).collect(),
        waiting: waiting(fleet, &after, observed, &events, ctx),
        digest: (!refused).then(|| digest(&events)),
        steps,
    }
}

/// SHA-256 over what events say, without when: two lists with the same digest do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

pub fn digest(events: &[Event]) -> Digest {
    let mut sha256 = Sha256::new();
    for event in events {
        let body = serde_json::to_value(event).unwrap_or_default();
        let mut text = String::new();
        write_canonically(&body, &mut text);
        text.push('\n');
        sha256.update(text);
    }
    Digest(sha256.finalize().into())
}

/// Keys in their order, so that it does not matter how they are kept; the keys that hold a time are left out.
fn write_canonically(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(&String, &Value)> =
                object.iter().filter(|(key, _)| !is_time(key)).collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in entries {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonically(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write_canonically(value, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

fn is_time(key: &str) -> bool {
    key == "at" || key == "since" || key.ends_with("_since") || key.ends_with("_at")
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
    let address = after.leases.by_mac.get(&vm.mac).copied();
    Some(Placement { vm: vm.name.to_string(), host: host_name.clone(), address })
}

/// Of the things that the events are about, and of the services whose nodes they are.
fn waiting(before: &Fleet, after: &Fleet, observed: &Observed, events: &[Event], ctx: Ctx) -> Vec<Wait> {
    if events.is_empty() {
        return Vec::new();
    }
    let waits_now = plan(before, observed, ctx.now);
    let touched: std::collections::BTreeSet<String> = events.iter().map(Event::subject).collect();
    plan(after, observed, ctx.now)
        .waiting()
        .filter(|waiting| touched.contains(&waiting.subject.to_string()))
        .filter(|waiting| !waits_now.waiting_of(waiting.subject).iter().any(|now| now.what == waiting.what))
        .map(|waiting| {
            let subject = waiting.subject.to_string();
            Wait {
                name: name_of(after, &subject).unwrap_or(subject),
                what: waiting.what.to_string(),
                hint: waiting.hint.as_ref().map(ToString::to_string),
            }
        })
        .collect()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest)
            .map_err(|_| ParseError { text: text.to_owned(), what: "a digest: 64 hexadecimal digits" })?;
        Ok(Digest(digest))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mac, Timestamp, lease, machine};

    fn issued(key: &str) -> Event {
        Event::Machine(machine::Event::CertificateIssued { machine: crate::MachineId(1), key: key.into() })
    }

    #[test]
    fn a_digest_tells_events_apart_and_times_not() {
        let installed = |attempt, at| {
            Event::Machine(machine::Event::Installed {
                machine: crate::MachineId(1),
                attempt,
                at: Timestamp(at),
            })
        };
        assert_eq!(digest(&[installed(1, 5)]), digest(&[installed(1, 6)]));
        assert_ne!(digest(&[installed(1, 5)]), digest(&[installed(2, 5)]));
        assert_ne!(digest(&[issued("a"), issued("b")]), digest(&[issued("b"), issued("a")]));
        let address = |last| {
            Event::Lease(lease::Event::Assigned { mac: Mac([2; 6]), address: Ipv4Addr::new(10, 0, 0, last) })
        };
        assert_ne!(digest(&[address(1)]), digest(&[address(2)]));
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let written = digest(&[issued("a")]);
        assert_eq!(written.to_string().parse(), Ok(written));
        for wrong in ["", "7f3a", &"g".repeat(64)] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
