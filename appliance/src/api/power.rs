//! `/api/v1/machines/{id}/power`, `…/bmc`, `…/fence`, `…/reimage`: what is done to a machine as a whole.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use fleet::machine::{self, Erase, Reimage};
use fleet::power::{Action, Bmc, Fence, Kind, Way};
use fleet::{Command, Ctx, Fleet, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::{Changed, Json, machines};
use crate::bmc::{self, Login};
use crate::core::now;
use crate::vault::Secret;
use crate::{App, web};

/// How a machine's power is switched, as pages show it; its login is shown nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BmcShown {
    /// redfish, ipmi, or the name of a fence agent.
    pub kind: String,
    pub address: String,
    /// SHA-256 of its certificate.
    pub pin: Option<String>,
    /// Why it does not answer; null if it does, or was not asked yet.
    pub trouble: Option<String>,
}

/// What its BMC said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PowerShown {
    /// on, off
    pub is: String,
    pub at: Timestamp,
}

/// What is wanted of its power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderShown {
    /// `switched off and on`
    pub what: String,
    pub since: Timestamp,
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FenceShown {
    pub since: Timestamp,
    /// cutting, off
    pub phase: String,
    pub why: String,
    pub trouble: Option<String>,
}

/// Something that a person can do with a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionShown {
    /// power-on, power-off, power-cycle, fence, unfence, reimage, erase, check, check-off, retire, unretire, identify, identify-off
    #[serde(rename = "do")]
    pub action: String,
    /// Why it cannot be done now.
    pub refusal: Option<String>,
}

pub fn bmc(app: &App, machine: &machine::Machine) -> Option<BmcShown> {
    let bmc = machine.power.bmc.as_ref()?;
    Some(BmcShown {
        kind: bmc.kind.to_string(),
        address: bmc.address.clone(),
        pin: bmc.pin.clone(),
        trouble: app.powers.of(machine.id, Way::Bmc).and_then(|seen| seen.is.err()),
    })
}

pub fn power(app: &App, machine: &machine::Machine) -> Option<PowerShown> {
    let way = if machine.power.bmc.is_some() { Way::Bmc } else { Way::Strips };
    let seen = app.powers.of(machine.id, way)?;
    Some(PowerShown { is: seen.is.ok()?.to_string(), at: seen.at })
}

pub fn order(machine: &machine::Machine) -> Option<OrderShown> {
    let order = machine.power.order.as_ref()?;
    let what = order.action.done().to_owned();
    Some(OrderShown { what, since: order.since, trouble: order.trouble.clone() })
}

pub fn fence_of(machine: &machine::Machine) -> Option<FenceShown> {
    let Fence { why, since, off, trouble, strip_trouble, .. } = machine.power.fence.as_ref()?;
    let troubles: Vec<&str> = [trouble, strip_trouble].into_iter().flatten().map(String::as_str).collect();
    Some(FenceShown {
        since: off.unwrap_or(*since),
        phase: if off.is_some() { "off" } else { "cutting" }.to_owned(),
        why: why.clone(),
        trouble: (!troubles.is_empty()).then(|| troubles.join("; ")),
    })
}

/// What can be done with it, and what cannot and why.
pub fn actions(fleet: &Fleet, machine: &machine::Machine) -> Vec<ActionShown> {
    let id = machine.id;
    let switch = |action| Command::Power { machine: id, action, force: false };
    let all = [
        ("power-on", switch(Action::On)),
        ("power-off", switch(Action::Off)),
        ("power-cycle", switch(Action::Cycle)),
        ("fence", Command::Fence { machine: id, why: String::new() }),
        ("unfence", Command::Unfence { machine: id, on: true }),
        ("reimage", Command::Reimage { machine: id, how: Reimage::default() }),
        ("erase", Command::EraseMachine { machine: id, how: Erase::default() }),
        ("check", Command::CheckDisks { machine: id, on: true }),
        ("check-off", Command::CheckDisks { machine: id, on: false }),
        ("retire", Command::Retire { machine: id }),
        ("unretire", Command::Unretire { machine: id }),
        ("identify", Command::Light { machine: id, on: true }),
        ("identify-off", Command::Light { machine: id, on: false }),
    ];
    let shown = all.into_iter().map(|(action, command)| {
        let decided = fleet::decide(fleet, &command, Ctx { now: now() });
        let refusal = match decided {
            Ok(events) if events.is_empty() => Some("it is so already".to_owned()),
            Ok(_) => None,
            Err(refusal) => Some(refusal.to_string()),
        };
        ActionShown { action: action.to_owned(), refusal }
    });
    shown.collect()
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// on, off, cycle
    pub action: Wish,
    /// Whatever runs on it.
    #[serde(default)]
    pub force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    On,
    Off,
    Cycle,
}

pub async fn switch(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(Switch { action, force }): Json<Switch>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    let action = match action {
        Wish::On => Action::On,
        Wish::Off => Action::Off,
        Wish::Cycle => Action::Cycle,
    };
    person.gives(&app, Command::Power { machine, action, force }).await
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// For the log.
    #[serde(default)]
    pub why: Option<String>,
    /// A person has seen that it is off: nothing is switched.
    #[serde(default)]
    pub off: bool,
}

/// Longer reasons are cut nowhere, but refused.
const LONGEST_REASON: usize = 400;

pub async fn fence(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(Why { why, off }): Json<Why>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    let why = why.map(|why| why.trim().to_owned()).filter(|why| !why.is_empty());
    let why = why.unwrap_or_else(|| "a person wants it".to_owned());
    if why.len() > LONGEST_REASON || why.chars().any(char::is_control) {
        let sentence = format!("a reason is one line of at most {LONGEST_REASON} characters");
        return Err(web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence));
    }
    let command = if off { Command::AttestOff { machine, why } } else { Command::Fence { machine, why } };
    person.gives(&app, command).await
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unfence {
    /// Whether it is switched on, too.
    #[serde(default = "yes")]
    pub on: bool,
}

fn yes() -> bool {
    true
}

pub async fn unfence(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(Unfence { on }): Json<Unfence>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::Unfence { machine, on }).await
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Again {
    /// Serial or path of the disk, if whatever is on it by now may be wiped.
    pub wipe: Vec<String>,
    /// What it is installed with; our own system, if it is not said.
    pub profile: Option<String>,
    /// Serial or path; the disk that its system is on, if it is not said.
    pub disk: Option<String>,
    /// The VMs that are still on it are forgotten.
    pub force: bool,
}

pub async fn reimage(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(Again { wipe, profile, disk, force }): Json<Again>,
) -> Result<axum::Json<Changed>, web::Error> {
    let fleet = app.core.fleet();
    let machine = machines::find(&fleet, &id)?;
    let target = machine.disk.as_ref();
    let is_target = |named: &String| match (&disk, target) {
        (Some(disk), _) => disk == named,
        (None, Some(target)) => target.serial.as_ref() == Some(named) || target.path == *named,
        (None, None) => true,
    };
    if let Some(other) = wipe.iter().find(|named| !is_target(named)) {
        let sentence =
            format!("{} is installed on another disk than {other}, which is left alone", machine.name);
        return Err(web::Error::refused(StatusCode::CONFLICT, sentence));
    }
    let how = Reimage { wipe: !wipe.is_empty(), profile, disk, force };
    person.gives(&app, Command::Reimage { machine: machine.id, how }).await
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Light {
    pub on: bool,
}

pub async fn light(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(Light { on }): Json<Light>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::Light { machine, on }).await
}

/// What switches a machine's power, with the login for it, which is kept sealed and shown to nobody.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBmc {
    /// redfish, ipmi, or the name of a fence agent: `fence_apc_snmp`.
    pub kind: Kind,
    pub address: String,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    #[serde(default)]
    pub pin: Option<String>,
    /// What else a fence agent is told.
    #[serde(default)]
    pub options: std::collections::BTreeMap<String, String>,
    /// Set it although it does not answer as it should.
    #[serde(default)]
    pub force: bool,
}

/// It is asked who it is first: a wrong address or login is seen now, and not when a host hangs.
pub async fn set_bmc(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(new): Json<NewBmc>,
) -> Result<axum::Json<Changed>, web::Error> {
    let fleet = app.core.fleet();
    let machine = machines::find(&fleet, &id)?;
    let mut bmc = Bmc { kind: new.kind, address: new.address, pin: new.pin, options: new.options };
    let command = Command::SetBmc { machine: machine.id, bmc: bmc.clone() };
    if person.rehearsal.is_some() {
        return person.gives(&app, command).await;
    }
    // Before the login is kept.
    person.may_give(&fleet, &command)?;
    let login = new
        .user
        .map(|user| Login { user, password: new.password.unwrap_or_else(|| Secret::new(String::new())) });
    if !new.force {
        let identity = crate::power::try_out(&app.bmcs, machine, &bmc, login.as_ref()).await;
        let identity = identity.map_err(refused)?;
        bmc.pin = bmc.pin.or(identity.certificate);
    }
    if let Some(login) = &login {
        crate::power::keep_login(&app.vault, machine.id, login).await.map_err(not_kept)?;
    }
    person.gives(&app, Command::SetBmc { machine: machine.id, bmc }).await
}

fn refused(error: bmc::BmcError) -> web::Error {
    web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, format!("{error}; nothing was set"))
}

pub fn not_kept(error: crate::vault::VaultError) -> web::Error {
    web::Error::refused(StatusCode::SERVICE_UNAVAILABLE, format!("the login could not be kept: {error}"))
}

pub async fn remove_bmc(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::RemoveBmc { machine }).await
}

/// What would come of it if this host hung now. It can only be planned: nothing hangs by asking.
pub async fn fail(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    if person.rehearsal.is_none() {
        let sentence = "a host is failed only in a plan: eli plan -- host fail NAME";
        return Err(web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence));
    }
    person.gives(&app, Command::ImagineFailure { machine }).await
}

pub async fn recover_vm(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let vm = super::vms::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::RecoverVm { vm }).await
}
