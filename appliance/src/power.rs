//! Carries out what is wanted of machines' power, through their BMCs, and asks them now and then whether they are on.
//!
//! It takes no hints: it looks at the fleet after each change. What a BMC did not prove is reported as a failure and
//! tried again until it is so, or is not wanted any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet::machine::Machine;
use fleet::power::{self, Action, Kind, Outcome, Wanted};
use fleet::wire::Firmware;
use fleet::{Command, Fleet, MachineId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::bmc::{self, Bmcs, Endpoint, Login, SwitchedOn};
use crate::core::{Actor, ExecuteError, now};
use crate::vault::{Secret, Vault, VaultError};

/// Between an attempt that proved nothing and the next.
const AGAIN: Duration = Duration::from_secs(10);

/// How often a BMC is asked whether its machine is on, when nothing is wanted of it.
const ASK: Duration = Duration::from_secs(60);

/// BMCs that are asked at once.
const AT_ONCE: usize = 16;

/// What BMCs said last: nothing of it is in the log.
#[derive(Debug, Default)]
pub struct Powers {
    seen: Mutex<BTreeMap<MachineId, Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub at: Timestamp,
    pub is: Result<bmc::Power, String>,
}

impl Powers {
    pub fn of(&self, machine: MachineId) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&machine).cloned()
    }

    /// Whether pages show something else by it.
    fn saw(&self, machine: MachineId, is: Result<bmc::Power, String>) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(machine, Seen { at: now(), is: is.clone() });
        before.is_none_or(|before| before.is != is)
    }

    fn forget(&self, machine: MachineId) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&machine);
    }
}

/// Under which name the login for a machine's BMC is kept.
fn secret(machine: MachineId) -> String {
    format!("bmc {machine}")
}

#[derive(Serialize, Deserialize)]
struct Kept {
    user: String,
    password: String,
}

/// Keeps the login for a machine's BMC.
pub async fn keep_login(vault: &Vault, machine: MachineId, login: &Login) -> Result<(), VaultError> {
    let kept = Kept { user: login.user.clone(), password: login.password.reveal().to_owned() };
    let text = serde_json::to_string(&kept).map_err(|_| VaultError::Seal)?;
    vault.put(&secret(machine), &Secret::new(text), now()).await
}

pub async fn forget_login(vault: &Vault, machine: MachineId) -> Result<(), VaultError> {
    vault.remove(&secret(machine)).await
}

async fn login(vault: &Vault, machine: MachineId) -> Result<Option<Login>, VaultError> {
    let name = secret(machine);
    let Some(secret) = vault.get(&name).await? else { return Ok(None) };
    let kept: Kept =
        serde_json::from_str(secret.reveal()).map_err(|_| VaultError::Altered { name: name.clone() })?;
    Ok(Some(Login { user: kept.user, password: Secret::new(kept.password) }))
}

/// The serial line of a machine, by its BMC.
pub async fn serial(app: &App, machine: &Machine) -> Result<bmc::Serial, String> {
    let bmc = machine.power.bmc.as_ref();
    let bmc = bmc.ok_or_else(|| format!("{} has no BMC that could bring its serial line", machine.name))?;
    let login = login(&app.vault, machine.id).await.map_err(|error| error.to_string())?;
    let endpoint = endpoint(machine, bmc);
    app.bmcs.at(&endpoint, login.as_ref(), now()).serial().await.map_err(|error| error.to_string())
}

/// How a machine's BMC is reached.
fn endpoint(machine: &Machine, bmc: &power::Bmc) -> Endpoint {
    let kind = match &bmc.kind {
        Kind::Redfish => bmc::Kind::Redfish,
        Kind::Ipmi => {
            let mut options = bmc.options.clone();
            options.entry("lanplus".to_owned()).or_insert_with(|| "1".to_owned());
            bmc::Kind::Agent("fence_ipmilan".to_owned(), options)
        }
        Kind::Agent(name) => bmc::Kind::Agent(name.clone(), bmc.options.clone()),
    };
    let system = machine.uuid.map(|uuid| uuid.to_string());
    Endpoint { kind, address: bmc.address.clone(), pin: bmc.pin.clone(), system }
}

/// What is under way.
#[derive(Default)]
struct Work {
    attempts: JoinSet<Done>,
    /// One thing at a time for each machine.
    busy: BTreeSet<MachineId>,
    /// What did not succeed is not tried again before this.
    not_before: BTreeMap<MachineId, tokio::time::Instant>,
    /// As far as this daemon has told the BMCs.
    lit: BTreeMap<MachineId, bool>,
    asked: BTreeMap<MachineId, tokio::time::Instant>,
}

enum Done {
    Switched { machine: MachineId, wanted: Wanted, outcome: Outcome },
    Lit { machine: MachineId, on: bool, done: bool },
    Asked { machine: MachineId, pin: Option<String> },
}

pub async fn run(app: App, shutdown: CancellationToken) -> anyhow::Result<()> {
    let bmcs = Arc::clone(&app.bmcs);
    let mut changed = app.core.watch_fleet();
    let mut work = Work::default();
    let mut before = Arc::<Fleet>::default();
    loop {
        changed.mark_unchanged();
        let fleet = app.core.fleet();
        forget_gone(&app, &before, &fleet).await;
        before = Arc::clone(&fleet);
        begin(&app, &bmcs, &fleet, &mut work);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = changed.changed() => {}
            Some(done) = work.attempts.join_next() => report(&app, done?, &mut work).await,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Logins and last words of machines that have no BMC any more.
async fn forget_gone(app: &App, before: &Fleet, after: &Fleet) {
    for machine in power::without_bmc_since(before, after).collect::<Vec<_>>() {
        app.powers.forget(machine);
        if let Err(error) = forget_login(&app.vault, machine).await {
            tracing::warn!(machine.id = %machine, "The login for its BMC could not be removed: {error}");
        }
    }
}

/// Begins whatever is wanted or due, and is not under way.
fn begin(app: &App, bmcs: &Arc<Bmcs>, fleet: &Fleet, work: &mut Work) {
    let moment = tokio::time::Instant::now();
    for machine in fleet.machines.values() {
        let Some(bmc) = &machine.power.bmc else { continue };
        let id = machine.id;
        if work.busy.contains(&id) {
            continue;
        }
        // Made only for what is begun: this looks at every machine after every change.
        let place = || Place {
            app: app.clone(),
            bmcs: Arc::clone(bmcs),
            endpoint: endpoint(machine, bmc),
            name: bmc.to_string(),
            machine: id,
        };
        let uefi = machine.hardware.as_ref().is_some_and(|hardware| hardware.firmware != Firmware::Bios);
        let due = |after: Option<&tokio::time::Instant>| after.is_none_or(|after| *after <= moment);
        let may_try = due(work.not_before.get(&id));
        if let Some(wanted) = power::wanted(machine).filter(|_| may_try) {
            let place = place();
            work.attempts.spawn(async move { place.switch(wanted, uefi).await });
        } else if machine.power.light != work.lit.get(&id).copied().unwrap_or(false) && may_try {
            let on = machine.power.light;
            let place = place();
            work.attempts.spawn(async move { place.light(on).await });
        } else if due(work.asked.get(&id)) && work.attempts.len() < AT_ONCE {
            work.asked.insert(id, moment + ASK);
            let place = place();
            work.attempts.spawn(async move { place.ask().await });
        } else {
            continue;
        }
        work.busy.insert(id);
    }
}

/// A BMC, and whose it is.
struct Place {
    app: App,
    bmcs: Arc<Bmcs>,
    endpoint: Endpoint,
    name: String,
    machine: MachineId,
}

impl Place {
    async fn switch(self, wanted: Wanted, uefi: bool) -> Done {
        let Wanted { action, .. } = wanted;
        tracing::info!(machine.id = %self.machine, "{} is to be {} by {}", self.machine, action.done(), self.name);
        let outcome = match self.try_to_switch(action, uefi).await {
            Ok(proof) => Outcome::Done(proof),
            Err(error) => Outcome::Failed(error),
        };
        Done::Switched { machine: self.machine, wanted, outcome }
    }

    /// The sentence that says what shows it, or why nothing does.
    async fn try_to_switch(&self, action: Action, uefi: bool) -> Result<String, String> {
        let login = self.login().await?;
        let bmc = self.bmcs.at(&self.endpoint, login.as_ref(), now());
        let name = &self.name;
        let sentence = |error: bmc::BmcError| error.to_string();
        let on = |switched: SwitchedOn| match switched {
            SwitchedOn::Proven => format!("{name} said twice that it is on"),
            SwitchedOn::Sent => format!("{name} was told"),
        };
        let proof = match action {
            Action::Off => {
                bmc.switch_off().await.map_err(sentence)?;
                format!("{name} said twice that it is off")
            }
            Action::On => on(bmc.switch_on().await.map_err(sentence)?),
            Action::Cycle => on(bmc.cycle().await.map_err(sentence)?),
            Action::Netboot => {
                // Most machines here start from the network anyway.
                if let Err(error) = bmc.boot_from_network_once(uefi).await {
                    let line = format!("It was not told to start from the network: {error}");
                    self.app.core.note(&self.machine.to_string(), "bmc", line);
                }
                on(bmc.cycle().await.map_err(sentence)?)
            }
        };
        let is = if action == Action::Off { bmc::Power::Off } else { bmc::Power::On };
        self.saw(Ok(is));
        Ok(proof)
    }

    async fn light(self, on: bool) -> Done {
        let lit = async {
            let login = self.login().await?;
            let bmc = self.bmcs.at(&self.endpoint, login.as_ref(), now());
            bmc.light(on).await.map_err(|error| error.to_string())
        };
        let done = lit.await;
        if let Err(error) = &done {
            let line = format!("Its identify LED could not be switched: {error}");
            self.app.core.note(&self.machine.to_string(), "bmc", line);
        }
        Done::Lit { machine: self.machine, on, done: done.is_ok() }
    }

    async fn ask(self) -> Done {
        let asked = async {
            let login = self.login().await?;
            let bmc = self.bmcs.at(&self.endpoint, login.as_ref(), now());
            bmc.identify().await.map_err(|error| error.to_string())
        };
        let (is, pin) = match asked.await {
            Ok(identity) => {
                let unclear = || format!("{} says neither on nor off", self.name);
                (identity.power.ok_or_else(unclear), identity.certificate)
            }
            Err(error) => (Err(error), None),
        };
        self.saw(is);
        let pin = pin.filter(|_| self.endpoint.pin.is_none());
        Done::Asked { machine: self.machine, pin }
    }

    async fn login(&self) -> Result<Option<Login>, String> {
        login(&self.app.vault, self.machine).await.map_err(|error| error.to_string())
    }

    fn saw(&self, is: Result<bmc::Power, String>) {
        if self.app.powers.saw(self.machine, is) {
            self.app.core.bump();
        }
    }
}

async fn report(app: &App, done: Done, work: &mut Work) {
    match done {
        Done::Switched { machine, wanted, outcome } => {
            work.busy.remove(&machine);
            if let Outcome::Failed(_) = outcome {
                work.not_before.insert(machine, tokio::time::Instant::now() + AGAIN);
            } else {
                work.not_before.remove(&machine);
            }
            give(app, Command::ReportPower { machine, since: wanted.since, outcome }).await;
        }
        Done::Lit { machine, on, done } => {
            work.busy.remove(&machine);
            if done {
                work.lit.insert(machine, on);
            } else {
                work.not_before.insert(machine, tokio::time::Instant::now() + AGAIN);
            }
        }
        Done::Asked { machine, pin } => {
            work.busy.remove(&machine);
            if let Some(pin) = pin {
                give(app, Command::PinBmc { machine, pin }).await;
            }
        }
    }
}

/// What is refused is not wanted any more; what could not be written is reported again after the next attempt.
async fn give(app: &App, command: Command) {
    match app.core.execute(&Actor::Appliance, command.clone()).await {
        Ok(_) => {}
        Err(error @ ExecuteError::Refused(_)) => tracing::debug!(?command, "{error}"),
        Err(error) => tracing::warn!("What a BMC did could not be kept: {error}"),
    }
}

/// Asks a BMC who it is, before it is set.
pub async fn try_out(
    bmcs: &Bmcs,
    machine: &Machine,
    bmc: &power::Bmc,
    login: Option<&Login>,
) -> Result<bmc::Identity, bmc::BmcError> {
    bmcs.at(&endpoint(machine, bmc), login, now()).identify().await
}
