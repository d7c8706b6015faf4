//! Carries out what is wanted of machines' power, through their BMCs and power strips, and asks them now and then whether they are on.
//!
//! It takes no hints: it looks at the fleet after each change. What a BMC did not prove is reported as a failure and
//! tried again until it is so, or is not wanted any more.

pub mod logins;
pub mod strips;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet::machine::Machine;
use fleet::power::{self, Action, Kind, Outcome, Strip, Try, Wanted, Way};
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

/// How often a power strip is.
const ASK_STRIP: Duration = Duration::from_secs(300);

/// How often the list of logins is read.
const LIST: Duration = Duration::from_secs(10);

/// Between two attempts at a BMC whose login is not known; the core spaces the logins themselves further.
const SEARCH: Duration = Duration::from_secs(60);

/// BMCs that are asked at once.
const AT_ONCE: usize = 16;

/// What BMCs and power strips said last: nothing of it is in the log.
#[derive(Debug, Default)]
pub struct Powers {
    seen: Mutex<BTreeMap<(MachineId, Way), Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub at: Timestamp,
    pub is: Result<bmc::Power, String>,
}

impl Powers {
    pub fn of(&self, machine: MachineId, way: Way) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&(machine, way)).cloned()
    }

    /// Whether pages show something else by it.
    fn saw(&self, machine: MachineId, way: Way, is: Result<bmc::Power, String>) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert((machine, way), Seen { at: now(), is: is.clone() });
        before.is_none_or(|before| before.is != is)
    }

    fn forget(&self, machine: MachineId, way: Way) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&(machine, way));
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
    keep(vault, &secret(machine), login).await
}

async fn keep(vault: &Vault, name: &str, login: &Login) -> Result<(), VaultError> {
    let kept = Kept { user: login.user.clone(), password: login.password.reveal().to_owned() };
    let text = serde_json::to_string(&kept).map_err(|_| VaultError::Seal)?;
    vault.put(name, &Secret::new(text), now()).await
}

pub async fn forget_login(vault: &Vault, machine: MachineId) -> Result<(), VaultError> {
    vault.remove(&secret(machine)).await
}

async fn login(vault: &Vault, machine: MachineId) -> Result<Option<Login>, VaultError> {
    Kept::get(vault, &secret(machine)).await
}

impl Kept {
    async fn get(vault: &Vault, name: &str) -> Result<Option<Login>, VaultError> {
        let Some(secret) = vault.get(name).await? else { return Ok(None) };
        let altered = |_| VaultError::Altered { name: name.to_owned() };
        let kept: Kept = serde_json::from_str(secret.reveal()).map_err(altered)?;
        Ok(Some(Login { user: kept.user, password: Secret::new(kept.password) }))
    }
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
    asked: BTreeMap<(MachineId, Way), tokio::time::Instant>,
    /// Numbers of the operator's list of logins, and when it is read again.
    list: (Vec<u32>, Option<tokio::time::Instant>),
    /// Machines whose BMC was looked for, not again until this; and what was in the way, said once.
    searched: BTreeMap<MachineId, (tokio::time::Instant, Option<String>)>,
    /// Strips that are being asked, by address: a fence must not stand behind forty questions to the same one.
    asking: BTreeSet<String>,
}

enum Done {
    Switched { machine: MachineId, wanted: Wanted, way: Way, outcome: Outcome },
    Lit { machine: MachineId, on: bool, done: bool },
    Asked { machine: MachineId, pin: Option<String> },
    Searched { machine: MachineId, trouble: Option<String> },
    AskedStrips { machine: MachineId, addresses: Vec<String> },
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
        begin_searches(&app, &fleet, &mut work).await;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = changed.changed() => {}
            Some(done) = work.attempts.join_next() => report(&app, done?, &mut work).await,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Logins for what does not switch a machine any more, and its last words.
async fn forget_gone(app: &App, before: &Fleet, after: &Fleet) {
    for less in power::less_since(before, after).collect::<Vec<_>>() {
        let machine = less.machine;
        if less.bmc {
            app.powers.forget(machine, Way::Bmc);
            if let Err(error) = forget_login(&app.vault, machine).await {
                tracing::warn!(machine.id = %machine, "The login for its BMC could not be removed: {error}");
            }
        }
        for address in less.strips {
            app.powers.forget(machine, Way::Strips);
            if let Err(error) = strips::forget_login(&app.vault, machine, &address).await {
                tracing::warn!(machine.id = %machine, "The login for {address} could not be removed: {error}");
            }
        }
    }
}

/// Begins whatever is wanted or due, and is not under way.
fn begin(app: &App, bmcs: &Arc<Bmcs>, fleet: &Fleet, work: &mut Work) {
    let moment = tokio::time::Instant::now();
    for machine in fleet.machines.values() {
        let id = machine.id;
        if !machine.power.is_switchable() || work.busy.contains(&id) {
            continue;
        }
        let bmc = machine.power.bmc.as_ref();
        let strips = &machine.power.strips;
        // Made only for what is begun: this looks at every machine after every change.
        let place = || Place {
            app: app.clone(),
            bmcs: Arc::clone(bmcs),
            bmc: bmc.map(|bmc| (endpoint(machine, bmc), bmc.to_string())),
            strips: strips.clone(),
            machine: id,
        };
        let uefi = machine.hardware.as_ref().is_some_and(|hardware| hardware.firmware != Firmware::Bios);
        let due = |after: Option<&tokio::time::Instant>| after.is_none_or(|after| *after <= moment);
        let may_try = due(work.not_before.get(&id));
        if let Some(wanted) = power::wanted(machine).filter(|_| may_try) {
            let (place, tries) = (place(), power::tries(machine));
            work.attempts.spawn(async move { place.switch(wanted, tries, uefi).await });
        } else if bmc.is_some()
            && machine.power.light != work.lit.get(&id).copied().unwrap_or(false)
            && may_try
        {
            let on = machine.power.light;
            let place = place();
            work.attempts.spawn(async move { place.light(on).await });
        } else if bmc.is_some() && due(work.asked.get(&(id, Way::Bmc))) && work.attempts.len() < AT_ONCE {
            work.asked.insert((id, Way::Bmc), moment + ASK);
            let place = place();
            work.attempts.spawn(async move { place.ask().await });
        } else if !strips.is_empty()
            && due(work.asked.get(&(id, Way::Strips)))
            && work.attempts.len() < AT_ONCE
            && !strips.iter().any(|strip| work.asking.contains(&strip.address))
        {
            work.asked.insert((id, Way::Strips), moment + ASK_STRIP);
            work.asking.extend(strips.iter().map(|strip| strip.address.clone()));
            let place = place();
            work.attempts.spawn(async move { place.ask_strips().await });
        } else {
            continue;
        }
        work.busy.insert(id);
    }
}

/// Looks for the BMCs of machines that have none, if the operator has given a list of logins or hosts make accounts.
async fn begin_searches(app: &App, fleet: &Fleet, work: &mut Work) {
    let moment = tokio::time::Instant::now();
    if work.list.1.is_none_or(|again| again <= moment) {
        let list = logins::numbers(&app.vault).await.unwrap_or_else(|error| {
            tracing::warn!("The list of logins for BMCs could not be read: {error}");
            Vec::new()
        });
        work.list = (list, Some(moment + LIST));
    }
    let list = &work.list.0;
    if list.is_empty() && !fleet.policy.bmc_accounts {
        return;
    }
    for machine in fleet.machines.values() {
        let id = machine.id;
        let rests = || work.searched.get(&id).is_some_and(|(until, _)| *until > moment);
        let is_due = power::next_login(machine, list, now()).is_some();
        if !is_due || work.busy.contains(&id) || rests() || work.attempts.len() >= AT_ONCE {
            continue;
        }
        work.busy.insert(id);
        work.searched.entry(id).or_insert((moment, None)).0 = moment + SEARCH;
        let app = app.clone();
        work.attempts.spawn(async move {
            let trouble = logins::try_next(&app, id).await.err();
            Done::Searched { machine: id, trouble }
        });
    }
}

/// What switches a machine.
struct Place {
    app: App,
    bmcs: Arc<Bmcs>,
    /// With the name that sentences call it by.
    bmc: Option<(Endpoint, String)>,
    strips: Vec<Strip>,
    machine: MachineId,
}

impl Place {
    /// By one way after the other, until one proves it. What those before did not prove is told meanwhile.
    async fn switch(self, wanted: Wanted, tries: Vec<Try>, uefi: bool) -> Done {
        let (machine, since) = (self.machine, wanted.since);
        let mut tried = (Way::Bmc, Outcome::Failed("nothing can switch it any more".to_owned()));
        for (number, next) in tries.iter().enumerate() {
            if number > 0 {
                let (way, outcome) = tried;
                give(&self.app, Command::ReportPower { machine, since, way, outcome }).await;
            }
            let outcome = match self.try_one(wanted, next, uefi).await {
                Ok(proof) => Outcome::Done(proof),
                Err(error) => Outcome::Failed(error),
            };
            tried = (next.way, outcome);
            if matches!(tried.1, Outcome::Done(_)) {
                break;
            }
        }
        let (way, outcome) = tried;
        Done::Switched { machine, wanted, way, outcome }
    }

    async fn try_one(&self, wanted: Wanted, next: &Try, uefi: bool) -> Result<String, String> {
        let done = next.action.done();
        let attempt = async {
            match next.way {
                Way::Bmc => {
                    let (endpoint, name) = self.bmc.as_ref().ok_or("it has no BMC any more")?;
                    tracing::info!(machine.id = %self.machine, "{} is to be {done} by {name}", self.machine);
                    self.switch_by_bmc(endpoint, name, next.action, uefi).await
                }
                Way::Strips => {
                    tracing::info!(machine.id = %self.machine, "{} is to be {done} by its power strip", self.machine);
                    self.switch_by_strips(wanted, next.action).await
                }
            }
        };
        let Some(secs) = next.secs else { return attempt.await };
        let limited = tokio::time::timeout(Duration::from_secs(secs), attempt).await;
        limited
            .unwrap_or_else(|_| Err(format!("{} did not prove within {secs} s that it is off", self.name())))
    }

    fn name(&self) -> &str {
        self.bmc.as_ref().map_or("its BMC", |(_, name)| name)
    }

    /// The sentence that says what shows it, or why nothing does.
    async fn switch_by_bmc(
        &self,
        endpoint: &Endpoint,
        name: &str,
        action: Action,
        uefi: bool,
    ) -> Result<String, String> {
        let login = self.login().await?;
        let bmc = self.bmcs.at(endpoint, login.as_ref(), now());
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
        self.saw(Way::Bmc, Ok(after(action)));
        Ok(proof)
    }

    async fn switch_by_strips(&self, wanted: Wanted, action: Action) -> Result<String, String> {
        if action != Action::On {
            // Not an outlet is switched off that the log does not know of.
            let begin = Command::BeginStrips { machine: self.machine, since: wanted.since };
            let begun = self.app.core.execute(&Actor::Appliance, begin).await;
            begun.map_err(|error| error.to_string())?;
        }
        let proof = strips::switch(&self.bmcs, &self.app.vault, self.machine, &self.strips, action).await?;
        self.saw(Way::Strips, Ok(after(action)));
        Ok(proof)
    }

    async fn light(self, on: bool) -> Done {
        let lit = async {
            let (endpoint, _) = self.bmc.as_ref().ok_or("it has no BMC any more")?;
            let login = self.login().await?;
            let bmc = self.bmcs.at(endpoint, login.as_ref(), now());
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
            let (endpoint, _) = self.bmc.as_ref().ok_or("it has no BMC any more")?;
            let login = self.login().await?;
            let bmc = self.bmcs.at(endpoint, login.as_ref(), now());
            bmc.identify().await.map_err(|error| error.to_string())
        };
        let (is, pin) = match asked.await {
            Ok(identity) => {
                let unclear = || format!("{} says neither on nor off", self.name());
                (identity.power.ok_or_else(unclear), identity.certificate)
            }
            Err(error) => (Err(error), None),
        };
        self.saw(Way::Bmc, is);
        let is_pinned = self.bmc.as_ref().is_some_and(|(endpoint, _)| endpoint.pin.is_some());
        Done::Asked { machine: self.machine, pin: pin.filter(|_| !is_pinned) }
    }

    async fn ask_strips(self) -> Done {
        let is = strips::ask(&self.bmcs, &self.app.vault, self.machine, &self.strips).await;
        self.saw(Way::Strips, is);
        let addresses = self.strips.iter().map(|strip| strip.address.clone()).collect();
        Done::AskedStrips { machine: self.machine, addresses }
    }

    async fn login(&self) -> Result<Option<Login>, String> {
        login(&self.app.vault, self.machine).await.map_err(|error| error.to_string())
    }

    fn saw(&self, way: Way, is: Result<bmc::Power, String>) {
        if self.app.powers.saw(self.machine, way, is) {
            self.app.core.bump();
        }
    }
}

fn after(action: Action) -> bmc::Power {
    if action == Action::Off { bmc::Power::Off } else { bmc::Power::On }
}

async fn report(app: &App, done: Done, work: &mut Work) {
    match done {
        Done::Switched { machine, wanted, way, outcome } => {
            work.busy.remove(&machine);
            if let Outcome::Failed(_) = outcome {
                work.not_before.insert(machine, tokio::time::Instant::now() + AGAIN);
            } else {
                work.not_before.remove(&machine);
            }
            give(app, Command::ReportPower { machine, since: wanted.since, way, outcome }).await;
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
        Done::Searched { machine, trouble } => {
            work.busy.remove(&machine);
            if let Some((_, said)) = work.searched.get_mut(&machine)
                && *said != trouble
            {
                if let Some(trouble) = &trouble {
                    app.core.note(&machine.to_string(), "bmc", trouble.clone());
                }
                *said = trouble;
            }
        }
        Done::AskedStrips { machine, addresses } => {
            work.busy.remove(&machine);
            work.asking.retain(|address| !addresses.contains(address));
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
