//! What a request would do: its commands are decided like any others, and then only told.

use std::sync::{Arc, Mutex, PoisonError};

use fleet::{Command, Ctx, Event, Fleet, Refusal, decide, evolve, tenant};

use super::now;

/// Takes the place of whoever gives commands. Clones are the same rehearsal.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal {
    /// Of whoever would give them.
    tenant: Option<String>,
    commands: Arc<Mutex<Vec<Command>>>,
}

impl Rehearsal {
    pub fn of(tenant: Option<&str>) -> Rehearsal {
        Rehearsal { tenant: tenant.map(str::to_owned), ..Rehearsal::default() }
    }

    pub(super) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// What was given so far.
    pub fn commands(&self) -> Vec<Command> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Decides `commands` as if those before had been carried out on `fleet`; a refused one is not kept.
    pub(super) fn give(&self, fleet: &Fleet, commands: Vec<Command>) -> Result<Vec<Event>, Refusal> {
        let ctx = Ctx { now: now() };
        let mut fleet = fleet.clone();
        let mut given = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        for command in &*given {
            self.decide(&fleet, command, ctx)?.iter().for_each(|event| evolve(&mut fleet, event));
        }
        let mut happened = Vec::new();
        for command in &commands {
            let events = self.decide(&fleet, command, ctx)?;
            events.iter().for_each(|event| evolve(&mut fleet, event));
            happened.extend(events);
        }
        given.extend(commands);
        Ok(happened)
    }

    fn decide(&self, fleet: &Fleet, command: &Command, ctx: Ctx) -> Result<Vec<Event>, Refusal> {
        match self.tenant() {
            Some(tenant) => tenant::decide(fleet, tenant, command, ctx),
            None => decide(fleet, command, ctx),
        }
    }
}

impl PartialEq for Rehearsal {
    fn eq(&self, other: &Rehearsal) -> bool {
        Arc::ptr_eq(&self.commands, &other.commands)
    }
}

impl Eq for Rehearsal {}
