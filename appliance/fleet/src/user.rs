//! Users: who may do what. Their passwords and sessions are secrets, and so are not in the log.
//!
//! The first one is built in: whoever stands before the appliance sets its password, and a site can never be without
//! somebody who may change everything.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Command, Ctx, Fleet, Refusal, Timestamp, is_label, tenant};

/// The user that is built in, an admin.
pub const FIRST: &str = "admin";

/// A person, or what a person gave a token to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct User {
    pub name: String,
    pub role: Role,
    /// Whose things he sees, and no others; without one, all of the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Passwords and sessions from before were another's of the same name.
    pub added: Timestamp,
}

/// Each may do what the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything and changes nothing.
    Viewer,
    /// Runs machines, VMs, packages and networks.
    Operator,
    /// Also decides who may do what, and who may log in to the machines.
    Admin,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// `an operator`
    pub fn with_article(self) -> String {
        let article = if self == Role::Viewer { "a" } else { "an" };
        format!("{article} {self}")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = Refusal;

    fn from_str(word: &str) -> Result<Role, Refusal> {
        let known = Role::ALL.into_iter().find(|role| role.word() == word);
        known.ok_or_else(|| Refusal::Invalid(format!("{word:?} is no role: viewer, operator or admin")))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Added {
        name: String,
        role: Role,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        at: Timestamp,
    },
    RoleSet {
        name: String,
        role: Role,
    },
    Removed {
        name: String,
    },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        match self {
            Event::Added { name, .. } | Event::RoleSet { name, .. } | Event::Removed { name } => {
                subject(name)
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Added { name, role, tenant, .. } => {
                write!(f, "User {name} was added, {}", role.with_article())?;
                tenant.as_ref().map_or(Ok(()), |tenant| write!(f, " of {tenant}"))
            }
            Event::RoleSet { name, role } => write!(f, "User {name} is {} now", role.with_article()),
            Event::Removed { name } => write!(f, "User {name} was removed"),
        }
    }
}

/// What the timeline of a user is found by.
pub fn subject(name: &str) -> String {
    format!("user:{name}")
}

/// All of them, the built-in one first.
pub fn all(fleet: &Fleet) -> impl Iterator<Item = User> {
    std::iter::once(first()).chain(fleet.users.values().map(|user| User::clone(user)))
}

pub fn find(fleet: &Fleet, name: &str) -> Option<User> {
    if name == FIRST { Some(first()) } else { fleet.users.get(name).map(|user| User::clone(user)) }
}

fn first() -> User {
    User { name: FIRST.to_owned(), role: Role::Admin, tenant: None, added: Timestamp(0) }
}

/// The least role of those who may order it; none for what only machines and the appliance itself say.
pub fn least_role(command: &Command) -> Option<Role> {
    match command {
        Command::SetPolicy { .. }
        | Command::AddUser { .. }
        | Command::SetRole { .. }
        | Command::RemoveUser { .. }
        | Command::AddTenant { .. }
        | Command::SetTenant { .. }
        | Command::RemoveTenant { .. } => Some(Role::Admin),
        Command::Adopt { .. }
        | Command::BootOnce { .. }
        | Command::Cancel { .. }
        | Command::Drain { .. }
        | Command::Undrain { .. }
        | Command::Reimage { .. }
        | Command::EraseMachine { .. }
        | Command::CheckDisks { .. }
        | Command::Retire { .. }
        | Command::Unretire { .. }
        | Command::SetBmc { .. }
        | Command::RemoveBmc { .. }
        | Command::FindBmc { .. }
        | Command::SetStrip { .. }
        | Command::RemoveStrip { .. }
        | Command::Power { .. }
        | Command::Light { .. }
        | Command::Fence { .. }
        | Command::AttestOff { .. }
        | Command::Unfence { .. }
        | Command::RecoverVm { .. }
        | Command::RemovePackage { .. }
        | Command::RemoveMachine { .. }
        | Command::CreateVm { .. }
        | Command::RemoveVm { .. }
        | Command::InstallPackage { .. }
        | Command::RemoveService { .. }
        | Command::AddRack { .. }
        | Command::RemoveRack { .. }
        | Command::PlaceMachine { .. }
        | Command::UnplaceMachine { .. }
        | Command::AddSwitch { .. }
        | Command::RemoveSwitch { .. }
        | Command::PlaceSwitch { .. }
        | Command::UnplaceSwitch { .. }
        | Command::AddPorts { .. }
        | Command::RemovePorts { .. }
        | Command::Plug { .. }
        | Command::Unplug { .. }
        | Command::SetProfile { .. }
        | Command::RemoveProfile { .. }
        | Command::AddMedium { .. }
        | Command::RemoveMedium { .. }
        | Command::SetSubnet { .. }
        | Command::RemoveSubnet { .. }
        | Command::Reserve { .. }
        | Command::Unreserve { .. }
        | Command::FreeAddress { .. } => Some(Role::Operator),
        Command::Found { .. }
        | Command::Sight { .. }
        | Command::Quarantine { .. }
        | Command::TakeBack { .. }
        | Command::Learn { .. }
        | Command::ObserveServer { .. }
        | Command::Report { .. }
        | Command::RecordAppliance { .. }
        | Command::BootedOnce { .. }
        | Command::ServeKickstart { .. }
        | Command::ServeAnswers { .. }
        | Command::PhoneHome { .. }
        | Command::FailInstall { .. }
        | Command::Enroll { .. }
        | Command::ObserveHost { .. }
        | Command::ObserveVmRunning { .. }
        | Command::ObserveVmGone { .. }
        | Command::ObserveAnswering { .. }
        | Command::ObserveNeighbour { .. }
        | Command::PinBmc { .. }
        | Command::BeginStrips { .. }
        | Command::TryLogin { .. }
        | Command::TakeLogin { .. }
        | Command::EndSearch { .. }
        | Command::DoubtOff { .. }
        | Command::ReportPower { .. }
        | Command::ReportErased { .. }
        | Command::ReportChecked { .. }
        | Command::ReportAccount { .. }
        | Command::FenceSuspect { .. }
        | Command::ImagineFailure { .. }
        | Command::Suspect { .. }
        | Command::ObserveHeard { .. }
        | Command::RecordLate { .. }
        | Command::Restore { .. } => None,
    }
}

pub(crate) fn add(
    fleet: &Fleet,
    name: &str,
    role: Role,
    tenant: Option<&str>,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    if !is_label(name) {
        return Err(Refusal::Invalid(format!(
            "{name:?} is not usable as a user's name: a-z, 0-9 and - inside, at most 63 characters"
        )));
    }
    if let Some(tenant) = tenant {
        tenant::find(fleet, tenant)?;
        less_than_admin(tenant, role)?;
    }
    match find(fleet, name) {
        Some(known) => {
            Err(Refusal::Conflict(format!("there is a user {name} already, {}", known.role.with_article())))
        }
        None => Ok(vec![crate::Event::User(Event::Added {
            name: name.to_owned(),
            role,
            tenant: tenant.map(str::to_owned),
            at: ctx.now,
        })]),
    }
}

pub(crate) fn set_role(fleet: &Fleet, name: &str, role: Role) -> Result<Vec<crate::Event>, Refusal> {
    let known = known(fleet, name)?;
    if known.role == role {
        return Ok(Vec::new());
    }
    built_in(name, "stays an admin")?;
    if let Some(tenant) = &known.tenant {
        less_than_admin(tenant, role)?;
    }
    Ok(vec![crate::Event::User(Event::RoleSet { name: name.to_owned(), role })])
}

pub(crate) fn remove(fleet: &Fleet, name: &str) -> Result<Vec<crate::Event>, Refusal> {
    known(fleet, name)?;
    built_in(name, "cannot be removed")?;
    Ok(vec![crate::Event::User(Event::Removed { name: name.to_owned() })])
}

fn less_than_admin(tenant: &str, role: Role) -> Result<(), Refusal> {
    if role < Role::Admin {
        return Ok(());
    }
    Err(Refusal::Conflict(format!("a user of {tenant} is a viewer or an operator; admins are the site's")))
}

fn known(fleet: &Fleet, name: &str) -> Result<User, Refusal> {
    find(fleet, name).ok_or_else(|| Refusal::Missing { what: "user", name: name.to_owned() })
}

fn built_in(name: &str, sentence: &str) -> Result<(), Refusal> {
    if name != FIRST {
        return Ok(());
    }
    Err(Refusal::Conflict(format!("{FIRST} is built in and {sentence}: without an admin a site is lost")))
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Added { name, role, tenant, at } => {
            let user = User { name: name.clone(), role: *role, tenant: tenant.clone(), added: *at };
            fleet.users.insert(name.clone(), Arc::new(user));
        }
        Event::RoleSet { name, role } => {
            if let Some(user) = fleet.users.get_mut(name) {
                Arc::make_mut(user).role = *role;
            }
        }
        Event::Removed { name } => {
            fleet.users.remove(name);
        }
    }
}
