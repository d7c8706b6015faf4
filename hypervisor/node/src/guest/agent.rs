//! Carries out the plan of one guest, and watches the health of what it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use fleet::wire::{Desired, Observed, ObservedSoftware, SoftwareSpec, SoftwareState};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::health;
use super::packages::Packages;
use super::plan::{Step, plan_software};
use crate::client;
use crate::member::{HEARTBEAT, Membership, Word};
use crate::system::{self, Files};

/// A service has this long to answer after it was started.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Agent {
    packages: Packages,
    files: Files,
    word: Word<Software, SoftwareState>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Software {
    name: String,
    version: String,
}

impl From<&SoftwareSpec> for Software {
    fn from(spec: &SoftwareSpec) -> Self {
        Self { name: spec.name.clone(), version: spec.version.clone() }
    }
}

impl Agent {
    pub fn new(packages: Packages, files: Files) -> (Self, mpsc::Receiver<()>) {
        let (word, changed) = Word::new();
        (Self { packages, files, word }, changed)
    }

    /// Works for ever; returns only when one of its tasks died.
    pub async fn run(self, changed: mpsc::Receiver<()>, membership: Arc<Membership>) -> anyhow::Result<()> {
        let word = self.word.clone();
        let observe = move || std::future::ready(observed(&word));
        let member = Arc::clone(&membership);
        membership.run(changed, observe, |desired| self.work(desired, member)).await
    }

    async fn work(self, mut desired: watch::Receiver<Option<Desired>>, membership: Arc<Membership>) {
        loop {
            let now = desired.borrow_and_update().clone();
            if let Some(now) = now {
                self.settle(&now, &membership).await;
            }
            if let Ok(Err(_)) = tokio::time::timeout(HEARTBEAT, desired.changed()).await {
                return;
            }
        }
    }

    /// One pass: what is to be done, then the health of everything.
    async fn settle(&self, desired: &Desired, membership: &Membership) {
        let named = self.files.set_hostname(&desired.hostname).map(|_| ());
        let keyed = self.files.set_keys(&desired.ssh_keys).map(|_| ());
        for error in [named, keyed].into_iter().filter_map(Result::err) {
            warn!("{:#}", anyhow::Error::from(error));
        }
        let here = match self.packages.records() {
            Ok(here) => here,
            Err(error) => {
                for spec in &desired.software {
                    self.word.say(spec.into(), SoftwareState::Failing { reason: format!("{error:#}") });
                }
                return;
            }
        };

        let mut failed = BTreeSet::new();
        let mut started = BTreeSet::new();
        for step in plan_software(&desired.software, &here) {
            let key = step.software();
            if failed.contains(&key) {
                continue;
            }
            if let Err(error) = self.carry_out(&step, membership).await {
                let reason = format!("{error:#}");
                warn!("{reason}");
                self.word.say(key.clone(), SoftwareState::Failing { reason });
                failed.insert(key);
            } else if matches!(step, Step::Start(_)) {
                started.insert(key);
            }
        }

        let mut seen = BTreeMap::new();
        for spec in &desired.software {
            let key = Software::from(spec);
            if !failed.contains(&key) {
                let patience = if started.contains(&key) { PATIENCE } else { Duration::ZERO };
                seen.insert(key, self.health(spec, patience).await);
            }
        }
        self.word.settle(desired.revision, seen, &failed);
    }

    async fn carry_out(&self, step: &Step, membership: &Membership) -> anyhow::Result<()> {
        let say =
            |what: &str| self.word.say(step.software(), SoftwareState::Installing { step: what.to_owned() });
        let packages = self.packages.clone();
        match step.clone() {
            Step::Remove(record) => {
                info!("Removing {} {}", record.name, record.version);
                blocking(move || packages.remove(&record)).await
            }
            Step::Install(spec) => {
                say("downloading");
                info!("Installing {} {}", spec.name, spec.version);
                let bundle = packages.fetch(&membership.member().await, &spec).await?;
                say("installing its packages");
                blocking(move || packages.install(&spec, &bundle)).await
            }
            Step::Start(spec) => {
                say("writing its configuration and starting it");
                blocking(move || packages.start(&spec)).await
            }
        }
    }

    /// Asks again for as long as `patience` lasts.
    async fn health(&self, spec: &SoftwareSpec, patience: Duration) -> SoftwareState {
        let http = match client::plain_http() {
            Ok(http) => http,
            Err(error) => return SoftwareState::Failing { reason: error.to_string() },
        };
        let end = Instant::now() + patience;
        loop {
            match health::check(&http, spec).await {
                Ok(()) => return SoftwareState::Healthy,
                Err(_) if Instant::now() < end => {
                    self.word.say(
                        spec.into(),
                        SoftwareState::Installing { step: "waiting for its first answer".to_owned() },
                    );
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(sentence) => {
                    let unit = spec.unit.clone();
                    let says = tokio::task::spawn_blocking(move || health::unit_says(&unit)).await;
                    return SoftwareState::Failing {
                        reason: format!("{sentence}; {}", says.unwrap_or_default()),
                    };
                }
            }
        }
    }
}

impl Step {
    fn software(&self) -> Software {
        match self {
            Step::Remove(record) => Software { name: record.name.clone(), version: record.version.clone() },
            Step::Install(spec) | Step::Start(spec) => spec.into(),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a step died")?
}

fn observed(word: &Word<Software, SoftwareState>) -> Observed {
    let (revision, software) = word.read();
    Observed {
        revision,
        version: system::version(),
        uptime_secs: system::uptime_secs(),
        capacity: None,
        vms: Vec::new(),
        software: software
            .into_iter()
            .map(|(Software { name, version }, state)| ObservedSoftware { name, version, state })
            .collect(),
        // A guest's cable is its host's business.
        neighbours: Vec::new(),
    }
}
