//! The plan kept up to date: after a change only what it may have touched is planned anew.
//!
//! Nobody tells the planner what has changed. It keeps the fleet and the observations of its last look and compares:
//! states share what is the same in them, so that costs what has changed and not what there is. What can follow from
//! a difference is named in `touched`; that the plan is always the one that [`crate::plan`] would make is tested with
//! random changes.

mod touched;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::plan::{Item, plan_subject};
use crate::{Command, Fleet, Observed, Plan, Subject, Timestamp};

#[derive(Debug, Default)]
pub struct Planner {
    fleet: Fleet,
    observed: Observed,
    now: Timestamp,
    plan: Plan,
    /// Subjects with actions.
    acting: BTreeSet<Subject>,
    due: BTreeSet<(Timestamp, Subject)>,
}

/// How long after its start an appliance hears from hosts before it thinks anything of those that are silent: while
/// it was away, none of them could speak to it.
const LISTEN_SECS: u64 = 60;

/// Whether an appliance that has been up for so long cannot know yet what this planned command says.
pub fn is_early(command: &Command, up_secs: u64) -> bool {
    matches!(command, Command::Suspect { .. } | Command::FenceSuspect { .. }) && up_secs < LISTEN_SECS
}

impl Planner {
    /// Brings the plan up to date and gives the commands for the subjects that were planned anew.
    pub fn look(&mut self, fleet: &Fleet, observed: &Observed, now: Timestamp) -> Vec<Command> {
        // A clock that was set back makes nothing due but may make what was late not late.
        if now < self.now {
            *self = Planner::default();
        }
        let mut subjects = touched::by_change(&self.fleet, fleet, &self.observed, observed);
        while let Some((due, subject)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, subject));
            subjects.insert(subject);
        }
        self.fleet = fleet.clone();
        self.observed = observed.clone();
        self.now = now;
        let mut commands = Vec::new();
        for subject in subjects {
            let item = plan_subject(fleet, subject, observed, now);
            commands.extend(item.actions.iter().cloned());
            self.replace(subject, item);
        }
        commands
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// All commands that are planned, also those that were given before.
    pub fn actions(&self) -> impl Iterator<Item = &Command> {
        let items = self.acting.iter().filter_map(|subject| self.plan.subjects.get(subject));
        items.flat_map(|item| &item.actions)
    }

    /// When the plan changes next by time alone.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    fn replace(&mut self, subject: Subject, item: Item) {
        let known = self.plan.subjects.get(&subject);
        if let Some(due) = known.and_then(|known| known.due) {
            self.due.remove(&(due, subject));
        }
        if let Some(due) = item.due {
            self.due.insert((due, subject));
        }
        match item.actions.is_empty() {
            true => self.acting.remove(&subject),
            false => self.acting.insert(subject),
        };
        let same = known.map_or(item == Item::default(), |known| **known == item);
        if same {
            return;
        }
        if item == Item::default() {
            self.plan.subjects.remove(&subject);
        } else {
            self.plan.subjects.insert(subject, Arc::new(item));
        }
    }
}
