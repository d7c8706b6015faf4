//! The operator's list of logins for BMCs, and trying it at the BMC that a machine says is its own.
//!
//! Nothing is tried before there is a list. When the next may be tried is decided by the core, from the log.

use std::collections::BTreeMap;

use fleet::power::{self, Bmc, Kind};
use fleet::{Command, Fleet, MachineId};
use serde::{Deserialize, Serialize};

use super::{Kept, endpoint, forget_login, give, keep, keep_login};
use crate::App;
use crate::bmc::{self, BmcError, Login};
use crate::core::{Actor, now};
use crate::vault::{Secret, Vault, VaultError};

const PREFIX: &str = "bmc login ";

/// One of the list, without its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Listed {
    /// They are tried in this order.
    pub number: u32,
    pub user: String,
}

fn name(number: u32) -> String {
    // So that the alphabet's order is theirs.
    format!("{PREFIX}{number:06}")
}

pub async fn numbers(vault: &Vault) -> Result<Vec<u32>, VaultError> {
    let names = vault.named(PREFIX).await?;
    Ok(names.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok()).collect())
}

pub async fn list(vault: &Vault) -> Result<Vec<Listed>, VaultError> {
    let mut list = Vec::new();
    for number in numbers(vault).await? {
        if let Some(login) = Kept::get(vault, &name(number)).await? {
            list.push(Listed { number, user: login.user });
        }
    }
    Ok(list)
}

/// At the end of the list. A number that was tried somewhere is not given again.
pub async fn add(vault: &Vault, fleet: &Fleet, login: &Login) -> Result<u32, VaultError> {
    let searches = fleet.machines.values().filter_map(|machine| machine.power.search.as_ref());
    let tried = searches.flat_map(|search| search.tried.iter().copied()).max();
    let number = numbers(vault).await?.last().copied().max(tried).map_or(1, |last| last + 1);
    keep(vault, &name(number), login).await?;
    Ok(number)
}

pub async fn remove(vault: &Vault, number: u32) -> Result<(), VaultError> {
    vault.remove(&name(number)).await
}

/// Tries the next login of the list at a machine's BMC, if one may be tried now. The error is what kept it from that.
pub(super) async fn try_next(app: &App, machine: MachineId) -> Result<(), String> {
    // What the caller knows of it may be some seconds old.
    let list = numbers(&app.vault).await.map_err(|error| error.to_string())?;
    let fleet = app.core.fleet();
    let Some(machine) = fleet.machines.get(&machine) else { return Ok(()) };
    let Some((address, number)) = power::next_login(machine, &list, now()) else { return Ok(()) };
    let Some(kind) = app.bmcs.speaks(&address).await else {
        return Err(format!(
            "Its BMC is said to be at {address}, where nothing answers; does the appliance reach that network?"
        ));
    };
    let login = match number {
        power::OWN => Some(made_by_host(app, machine.id)),
        _ => Kept::get(&app.vault, &name(number)).await.map_err(|error| error.to_string())?,
    };
    let Some(login) = login else { return Ok(()) };
    let mut found = Bmc { kind, address: address.clone(), pin: None, options: BTreeMap::new() };
    // In the log before it is sent: a daemon that dies in between has tried it all the same.
    let tried = Command::TryLogin { machine: machine.id, address, number };
    app.core.execute(&Actor::Appliance, tried).await.map_err(|error| error.to_string())?;
    let at = endpoint(machine, &found);
    match app.bmcs.at(&at, Some(&login), now()).identify().await {
        Ok(identity) => {
            found.pin = identity.certificate;
            // A person was faster, whose login is not to be written over.
            if has_bmc(app, machine.id) {
                return Ok(());
            }
            keep_login(&app.vault, machine.id, &login).await.map_err(|error| error.to_string())?;
            let take = Command::TakeLogin { machine: machine.id, number, bmc: found };
            if let Err(error) = app.core.execute(&Actor::Appliance, take).await {
                if !has_bmc(app, machine.id) {
                    forget_login(&app.vault, machine.id).await.map_err(|error| error.to_string())?;
                }
                return Err(error.to_string());
            }
        }
        Err(error) => end(app, machine.id, &list, &error).await,
    }
    Ok(())
}

/// The account that its host made there.
fn made_by_host(app: &App, machine: MachineId) -> Login {
    Login { user: power::ACCOUNT.to_owned(), password: Secret::new(app.tokens.bmc_password(machine)) }
}

fn has_bmc(app: &App, machine: MachineId) -> bool {
    app.core.fleet().machines.get(&machine).is_some_and(|machine| machine.power.bmc.is_some())
}

/// Says so when it was the last, or when no other login would do either.
async fn end(app: &App, machine: MachineId, list: &[u32], error: &BmcError) {
    let stop = matches!(
        error,
        BmcError::OtherMachine { .. }
            | BmcError::Several { .. }
            | BmcError::Elsewhere { .. }
            | BmcError::Unclear { .. }
            | BmcError::TooMuch { .. }
    );
    let fleet = app.core.fleet();
    let search = fleet.machines.get(&machine).and_then(|machine| machine.power.search.as_ref());
    let is_last = list.iter().all(|number| search.is_some_and(|search| search.tried.contains(number)));
    if stop || is_last {
        give(app, Command::EndSearch { machine, stop, why: error.to_string() }).await;
    }
}

impl bmc::Bmcs {
    /// What is spoken there, found out without a login.
    async fn speaks(&self, address: &str) -> Option<Kind> {
        if self.speaks_redfish(address).await {
            return Some(Kind::Redfish);
        }
        self.speaks_ipmi(address).await.then_some(Kind::Ipmi)
    }
}
