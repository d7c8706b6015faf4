//! Who gives commands.

use std::net::IpAddr;

use fleet::scope::{self, Scope};
use fleet::user::{self, Role};
use fleet::{Command, NodeId};

use super::{ExecuteError, Rehearsal};

/// Who gave a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    Person(Person),
    Node(NodeId),
    /// A machine that has no name yet, by its MAC address.
    Wire(fleet::Mac),
    /// The appliance itself, by its policy and its reconciler.
    Appliance,
    /// Nobody: nothing of it is carried out.
    Rehearsal(Rehearsal),
}

/// A person who gives commands, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub role: Role,
    /// Of a token that is for some things only.
    pub scope: Option<Scope>,
    /// Whose things he orders, and no others.
    pub tenant: Option<String>,
    pub from: Option<IpAddr>,
}

/// `ada`, `ada@10.77.1.5`
impl std::fmt::Display for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.from {
            Some(from) => write!(f, "{}@{from}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Actor {
    /// Somebody who may give every order and does not come from a network.
    pub fn admin(name: &str) -> Actor {
        Actor::Person(Person {
            name: name.to_owned(),
            role: Role::Admin,
            scope: None,
            tenant: None,
            from: None,
        })
    }

    pub(super) fn tenant(&self) -> Option<&str> {
        match self {
            Actor::Person(person) => person.tenant.as_deref(),
            Actor::Rehearsal(rehearsal) => rehearsal.tenant(),
            Actor::Node(_) | Actor::Wire(_) | Actor::Appliance => None,
        }
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Actor::Person(person) => person.fmt(f),
            Actor::Node(node) => node.fmt(f),
            Actor::Wire(mac) => mac.fmt(f),
            Actor::Appliance => f.write_str("appliance"),
            Actor::Rehearsal(_) => f.write_str("rehearsal"),
        }
    }
}

impl Person {
    /// Routes are kept by roles, too; this holds for commands that come as data.
    pub(super) fn may_order(&self, commands: &[Command]) -> Result<(), ExecuteError> {
        self.in_scope(commands)?;
        // What no person orders is refused where plans come in, with the word for it.
        self.must_be(commands.iter().filter_map(user::least_role).max().unwrap_or(Role::Viewer))
    }

    /// Refuses what a token is not for.
    pub fn in_scope(&self, commands: &[Command]) -> Result<(), ExecuteError> {
        let outside = |command: &&Command| self.scope.as_ref().is_some_and(|scope| !scope.may_order(command));
        if let (Some(scope), Some(command)) = (&self.scope, commands.iter().find(outside)) {
            return Err(ExecuteError::OutOfScope { scope: scope.clone(), what: scope::word(command) });
        }
        Ok(())
    }

    /// Refuses who may less than `needs`.
    pub fn must_be(&self, needs: Role) -> Result<(), ExecuteError> {
        if self.role >= needs {
            return Ok(());
        }
        Err(ExecuteError::NotAllowed { name: self.name.clone(), has: self.role, needs })
    }
}

/// The person of an actor as the log has it, and where he spoke from: what [`Person`] is written as, taken apart.
pub fn person_and_place(actor: &str) -> (&str, Option<&str>) {
    actor.split_once('@').map_or((actor, None), |(person, from)| (person, Some(from)))
}
