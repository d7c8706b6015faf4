//! Speaking to baseboard management controllers: Redfish natively, IPMI by `ipmitool`, everything else by the fence
//! agents of ClusterLabs, and Wake-on-LAN where there is nothing.
//!
//! ```text
//! Bmcs ── at(endpoint, login) ──▶ Bmc ── switch_off() ──▶ asked for ──▶ Off, and Off again ──▶ Ok
//!   │ one at a time per BMC          │ power() …                            │ On between, silence, unclear words
//!   └ Budget: refused logins         └ light() …                            ▼
//!                                                                         error: not known to be off
//! ```
//!
//! Off is what VMs are started elsewhere upon. So it is believed only when the BMC was asked again after the order and
//! said so twice, some time apart: BMCs report what they were told before it is so, and flap while firmware restarts.

mod agent;
mod budget;
mod driver;
mod error;
mod find;
mod ipmi;
mod process;
mod proof;
mod redfish;
mod serial;
mod speaks;
mod wake;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet::{Mac, Timestamp};

pub use budget::Budget;
pub use error::BmcError;
pub use proof::{Proof, Verdict};
pub use serial::Serial;

use crate::vault::Secret;
use driver::Driver;

/// Where a machine's power is switched, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub kind: Kind,
    /// `HOST` or `HOST:PORT`, IPv6 in brackets. For Wake-on-LAN, the appliance's own address in the machine's network.
    pub address: String,
    /// SHA-256 of the certificate, hexadecimal. Without one any is accepted, and told by [`Bmc::identify`].
    pub pin: Option<String>,
    /// For Redfish, the machine's UUID (or the BMC's own id of it). Give it wherever it is known: it keeps the BMC of
    /// another machine from being taken for this one's, and chooses where one BMC has several machines.
    pub system: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Redfish,
    /// A fence agent's name, `fence_apc`, and further options as `fence_apc --help` names them.
    Agent(String, BTreeMap<String, String>),
    WakeOnLan(Mac),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    On,
    Off,
}

impl std::fmt::Display for Power {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Power::On => "on",
            Power::Off => "off",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

/// What a BMC says about its machine; much is missing on many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub serial: Option<String>,
    /// As the BMC says it, in lower case.
    pub uuid: Option<String>,
    /// None while it says neither on nor off.
    pub power: Option<Power>,
    /// SHA-256 of the certificate that was seen, hexadecimal: what to record as `pin`.
    pub certificate: Option<String>,
}

/// How an order to switch on was followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchedOn {
    /// The BMC was asked again and says that it is on.
    Proven,
    /// The order was sent, and nobody can be asked what came of it: Wake-on-LAN.
    Sent,
}

#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the fence agents.
    pub agents: PathBuf,
    pub ipmitool: PathBuf,
    pub limits: Limits,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long the answer to one question may take.
    pub answer: Duration,
    /// How long after an order the machine may take to be on or off.
    pub settle: Duration,
    /// Between the two answers that prove it.
    pub apart: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            agents: "/usr/sbin".into(),
            ipmitool: "/usr/bin/ipmitool".into(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            answer: Duration::from_secs(20),
            settle: Duration::from_secs(60),
            apart: Duration::from_secs(1),
        }
    }
}

/// All BMCs that this daemon speaks to. Nothing here waits for one BMC while another is asked.
pub struct Bmcs {
    settings: Settings,
    budget: Mutex<Budget>,
    busy: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Bmcs {
    pub fn new(settings: Settings) -> Bmcs {
        // Fails if it was done before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Bmcs { settings, budget: Mutex::default(), busy: Mutex::default() }
    }

    /// Nothing is sent before something is asked for. `now` is what the budget of refused logins is reckoned by.
    pub fn at<'a>(&'a self, endpoint: &'a Endpoint, login: Option<&'a Login>, now: Timestamp) -> Bmc<'a> {
        Bmc { bmcs: self, endpoint, login, now }
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Many BMCs have room for a few sessions only, and some mix up answers to two questions at once.
    async fn alone(&self, address: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(busy.entry(address.to_ascii_lowercase()).or_default())
        };
        turn.lock_owned().await
    }
}

/// One BMC, with the login to use.
#[derive(Clone, Copy)]
pub struct Bmc<'a> {
    bmcs: &'a Bmcs,
    endpoint: &'a Endpoint,
    login: Option<&'a Login>,
    now: Timestamp,
}

impl Bmc<'_> {
    /// Who answers there, and what it says about its machine.
    pub async fn identify(&self) -> Result<Identity, BmcError> {
        let (driver, _turn) = self.open().await?;
        let identity = driver.identify().await;
        self.close(driver, identity).await
    }

    pub async fn power(&self) -> Result<Power, BmcError> {
        let (driver, _turn) = self.open().await?;
        let power = driver.power().await;
        self.close(driver, power).await
    }

    /// Cuts the power at once. Ok means that the machine is off: the BMC said so twice after the order.
    pub async fn switch_off(&self) -> Result<(), BmcError> {
        let (driver, _turn) = self.open().await?;
        let off = proof::switch(&driver, Power::Off, self.bmcs.settings.limits).await;
        self.close(driver, off).await
    }

    pub async fn switch_on(&self) -> Result<SwitchedOn, BmcError> {
        let (driver, _turn) = self.open().await?;
        let on = switch_on(&driver, self.bmcs.settings.limits).await;
        self.close(driver, on).await
    }

    /// Off, proven as by [`Bmc::switch_off`]; only then on.
    pub async fn cycle(&self) -> Result<SwitchedOn, BmcError> {
        let (driver, _turn) = self.open().await?;
        let limits = self.bmcs.settings.limits;
        let cycled = match proof::switch(&driver, Power::Off, limits).await {
            Ok(()) => switch_on(&driver, limits).await,
            Err(error) => Err(error),
        };
        self.close(driver, cycled).await
    }

    /// The next start, and only that one, is by PXE. Redfish keeps the firmware's mode; IPMI has to be told `uefi`.
    pub async fn boot_from_network_once(&self, uefi: bool) -> Result<(), BmcError> {
        let (driver, _turn) = self.open().await?;
        let set = driver.boot_from_network_once(uefi).await;
        self.close(driver, set).await
    }

    /// The light by which a person finds the machine.
    pub async fn light(&self, on: bool) -> Result<(), BmcError> {
        let (driver, _turn) = self.open().await?;
        let lit = driver.light(on).await;
        self.close(driver, lit).await
    }

    /// The machine's serial line. Others speak to the BMC meanwhile.
    pub async fn serial(&self) -> Result<Serial, BmcError> {
        let (driver, _turn) = self.open().await?;
        let serial = driver.serial().await;
        self.close(driver, serial).await
    }

    async fn open(&self) -> Result<(Driver, tokio::sync::OwnedMutexGuard<()>), BmcError> {
        let turn = self.bmcs.alone(&self.endpoint.address).await;
        if let Some(until) = self.bmcs.budget().paused_until(&self.endpoint.address, self.now) {
            return Err(BmcError::Paused { address: self.endpoint.address.clone(), until });
        }
        match Driver::open(self.endpoint, self.login, &self.bmcs.settings).await {
            Ok(driver) => {
                // The others have not asked yet.
                if matches!(driver, Driver::Redfish(_)) {
                    self.bmcs.budget().accepted(&self.endpoint.address);
                }
                Ok((driver, turn))
            }
            Err(error) => Err(self.noted(error)),
        }
    }

    async fn close<T>(&self, driver: Driver, result: Result<T, BmcError>) -> Result<T, BmcError> {
        driver.close().await;
        match result {
            Ok(done) => {
                self.bmcs.budget().accepted(&self.endpoint.address);
                Ok(done)
            }
            Err(error) => Err(self.noted(error)),
        }
    }

    fn noted(&self, error: BmcError) -> BmcError {
        if matches!(error, BmcError::Refused { .. }) {
            self.bmcs.budget().refused(&self.endpoint.address, self.now);
        }
        error
    }
}

async fn switch_on(driver: &Driver, limits: Limits) -> Result<SwitchedOn, BmcError> {
    if let Driver::Wake(wake) = driver {
        wake.send().await?;
        return Ok(SwitchedOn::Sent);
    }
    proof::switch(driver, Power::On, limits).await.map(|()| SwitchedOn::Proven)
}
