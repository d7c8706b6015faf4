//! `/api/v1/machines/{id}/strip`: the outlets that a machine is plugged into.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use fleet::power::{Strip, Way};
use fleet::{Command, machine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::{Changed, Json, machines, power};
use crate::bmc::Login;
use crate::power::strips;
use crate::vault::Secret;
use crate::{App, web};

/// Outlets of one power strip, as pages show them; the login for it is shown nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StripShown {
    /// The fence agent that speaks to it.
    pub agent: String,
    pub address: String,
    pub outlets: Vec<String>,
}

/// All outlets of a machine, and what their strips said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutletsShown {
    pub strips: Vec<StripShown>,
    /// on if one is, off if all are; null if they were not asked yet, or do not answer.
    pub is: Option<String>,
    /// Why one of them does not answer.
    pub trouble: Option<String>,
    /// They were switched off, and some may be off now.
    pub cut: bool,
}

pub fn of(app: &App, machine: &machine::Machine) -> Option<OutletsShown> {
    let power = &machine.power;
    if power.strips.is_empty() {
        return None;
    }
    let shown = |strip: &Strip| StripShown {
        agent: strip.agent.clone(),
        address: strip.address.clone(),
        outlets: strip.outlets.clone(),
    };
    let (is, trouble) = match app.powers.of(machine.id, Way::Strips).map(|seen| seen.is) {
        Some(Ok(is)) => (Some(is.to_string()), None),
        Some(Err(trouble)) => (None, Some(trouble)),
        None => (None, None),
    };
    let strips = power.strips.iter().map(shown).collect();
    Some(OutletsShown { strips, is, trouble, cut: power.cut.is_some() })
}

/// The outlets of a machine on one power strip, with the login for it, which is kept sealed and shown to nobody.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStrip {
    /// The name of a fence agent: `fence_apc_snmp`.
    pub agent: String,
    pub address: String,
    /// As the strip calls them; all that the machine is plugged into.
    pub outlets: Vec<String>,
    #[serde(default)]
    pub user: Option<String>,
    /// Without a user it is the community of SNMP.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    /// What else the fence agent is told.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Set it although it does not answer as it should.
    #[serde(default)]
    pub force: bool,
}

/// Every outlet is asked first: a wrong address, login or outlet is seen now, and not when a host hangs.
pub async fn set(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(new): Json<NewStrip>,
) -> Result<axum::Json<Changed>, web::Error> {
    let fleet = app.core.fleet();
    let machine = machines::find(&fleet, &id)?;
    let NewStrip { agent, address, outlets, user, password, options, force } = new;
    let strip = Strip { agent, address, outlets, options };
    let command = Command::SetStrip { machine: machine.id, strip: strip.clone() };
    if person.rehearsal.is_some() {
        return person.gives(&app, command).await;
    }
    // Before the login is kept.
    person.may_give(&fleet, &command)?;
    let login = (user.is_some() || password.is_some()).then(|| Login {
        user: user.unwrap_or_default(),
        password: password.unwrap_or_else(|| Secret::new(String::new())),
    });
    if !force {
        let tried = strips::try_out(&app.bmcs, machine, &strip, login.as_ref()).await;
        tried.map_err(|why| {
            web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, format!("{why}; nothing was set"))
        })?;
    }
    if let Some(login) = &login {
        let kept = strips::keep_login(&app.vault, machine.id, &strip.address, login).await;
        kept.map_err(power::not_kept)?;
    }
    person.gives(&app, command).await
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Of the power strip at this address; all, if it is not said.
    #[serde(default)]
    pub address: Option<String>,
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Query(Which { address }): Query<Which>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::RemoveStrip { machine, address }).await
}
