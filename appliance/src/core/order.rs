//! Orders, and what a group of them comes to.

use fleet::{Command, Ctx, Digest, Event, Fleet, Refusal, Timestamp, digest, tenant};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Actor, ExecuteError, now};
use crate::store::Fact;

/// Commands that are carried out together or not at all.
pub(super) struct Order {
    pub work: Work,
    pub reply: oneshot::Sender<Result<Vec<Event>, ExecuteError>>,
}

pub(super) enum Work {
    /// With `expect`, only if exactly these events come of it.
    Give {
        actor: Actor,
        commands: Vec<Command>,
        expect: Option<Digest>,
    },
    Replay(Vec<Line>),
}

impl Work {
    /// What is refused at once has changed nothing.
    fn may_be_undone(&self) -> bool {
        match self {
            Work::Give { commands, expect, .. } => commands.len() > 1 || expect.is_some(),
            Work::Replay(_) => true,
        }
    }
}

/// A line of an exported log: what was done, when, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// In the log that it came from; a compacted log has no positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
    pub at: Timestamp,
    pub actor: String,
    #[serde(flatten)]
    pub what: What,
    /// Of the events that the command came to, so that a replay can tell whether it comes to the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl JsonSchema for Line {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Line".into()
    }

    fn json_schema(maker: &mut SchemaGenerator) -> Schema {
        let (at, digest) = (maker.subschema_for::<Timestamp>(), maker.subschema_for::<Option<Digest>>());
        let (command, event) = (maker.subschema_for::<Command>(), maker.subschema_for::<Event>());
        json_schema!({
            "type": "object",
            "description": "A line of an exported log: an order or an event, when, and by whom.",
            "required": ["at", "actor"],
            "properties": {
                "position": { "type": ["integer", "null"] },
                "at": at,
                "actor": { "type": "string" },
                "command": command,
                "event": event,
                "digest": digest,
            },
        })
    }
}

/// Every line has its command, but for what was written into the log without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Command(Command),
    Event(Event),
}

impl What {
    pub fn decide(&self, fleet: &Fleet, at: Timestamp) -> Result<Vec<Event>, Refusal> {
        match self {
            What::Command(command) => fleet::decide(fleet, command, Ctx { now: at }),
            What::Event(event) => Ok(vec![event.clone()]),
        }
    }
}

/// What a group of orders comes to, decided on one fleet.
pub(super) struct Decided {
    pub fleet: Fleet,
    pub facts: Vec<Fact>,
    pub answers: Vec<Result<Vec<Event>, ExecuteError>>,
}

/// Decides each order on the fleet that the orders before it leave behind. An order is all or nothing.
pub(super) fn decide(fleet: &Fleet, group: &[Order]) -> Decided {
    let mut decided =
        Decided { fleet: fleet.clone(), facts: Vec::new(), answers: Vec::with_capacity(group.len()) };
    for order in group {
        let before = order.work.may_be_undone().then(|| (decided.fleet.clone(), decided.facts.len()));
        let answer = decided.carry_out(&order.work);
        if answer.is_err()
            && let Some((fleet, facts)) = before
        {
            decided.fleet = fleet;
            decided.facts.truncate(facts);
        }
        decided.answers.push(answer);
    }
    decided
}

impl Decided {
    fn carry_out(&mut self, work: &Work) -> Result<Vec<Event>, ExecuteError> {
        let mut happened = Vec::new();
        match work {
            Work::Give { actor, commands, expect } => {
                let at = now();
                let (tenant, actor) = (actor.tenant(), actor.to_string());
                for command in commands {
                    let ctx = Ctx { now: at };
                    let events = match tenant {
                        Some(tenant) => tenant::decide(&self.fleet, tenant, command, ctx)?,
                        None => fleet::decide(&self.fleet, command, ctx)?,
                    };
                    happened.extend(self.happen(at, &actor, events, Some(command)));
                }
                let shown = || match tenant {
                    Some(_) => digest(&happened.iter().map(tenant::told).collect::<Vec<_>>()),
                    None => digest(&happened),
                };
                if expect.is_some_and(|expect| expect != shown()) {
                    return Err(ExecuteError::Changed);
                }
            }
            Work::Replay(lines) => {
                for line in lines {
                    let events = line.what.decide(&self.fleet, line.at)?;
                    let command = match &line.what {
                        What::Command(command) => Some(command),
                        What::Event(_) => None,
                    };
                    happened.extend(self.happen(line.at, &line.actor, events, command));
                }
            }
        }
        Ok(happened)
    }

    fn happen(
        &mut self,
        at: Timestamp,
        actor: &str,
        events: Vec<Event>,
        command: Option<&Command>,
    ) -> Vec<Event> {
        let mut command = command.cloned();
        for event in &events {
            fleet::evolve(&mut self.fleet, event);
            let (actor, event) = (actor.to_owned(), event.clone());
            self.facts.push(Fact { at, actor, event, command: command.take() });
        }
        events
    }
}
