//! Carries out the plan of one host, step by step, and keeps the word of what is going on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fleet::VmId;
use fleet::wire::{Capacity, ConsoleKind, Desired, Neighbour, Observed, ObservedVm, VmSpec, VmState};
use hypervisor::plan::{Here, Step, plan_node};
use hypervisor::{Ensured, Hypervisor, HypervisorError, seed_name};
use node::account;
use node::alone;
use node::check;
use node::consoles::{Consoles, Find, Place};
use node::inventory;
use node::lldp::{self, Neighbours};
use node::member::{HEARTBEAT, Membership, Word};
use node::system::{self, Files};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::images::Images;
use crate::{consoles, seed};

pub struct Agent {
    hypervisor: Arc<dyn Hypervisor>,
    images: Images,
    /// Logs of the machines' serial consoles.
    consoles: PathBuf,
    files: Files,
    word: Word<VmId, VmState>,
}

impl Agent {
    pub fn new(
        hypervisor: Arc<dyn Hypervisor>,
        images: Images,
        consoles: PathBuf,
        files: Files,
    ) -> (Self, mpsc::Receiver<()>) {
        let (word, changed) = Word::new();
        (Self { hypervisor, images, consoles, files, word }, changed)
    }

    /// Works for ever; returns only when one of its tasks died.
    pub async fn run(
        self,
        changed: mpsc::Receiver<()>,
        membership: Arc<Membership>,
        appliance: Ipv4Addr,
    ) -> anyhow::Result<()> {
        let capacity = watch::Sender::new(None);
        let (word, known) = (self.word.clone(), capacity.subscribe());
        let neighbours = Neighbours::default();
        let hear = hear(neighbours.clone(), self.word.clone());
        let observe = move || std::future::ready(observed(&word, known.borrow().clone(), neighbours.now()));
        let consoles = Consoles::new(self.finder());
        let (attending, making) = (Arc::clone(&membership), Arc::clone(&membership));
        let measure = measure(Arc::clone(&self.hypervisor), capacity, self.word.clone());
        let work = |desired: watch::Receiver<Option<Desired>>| async move {
            tokio::select! {
                () = alone::watch(desired.clone(), appliance) => {}
                () = consoles.attend(desired.clone(), Arc::clone(&attending)) => {}
                () = check::attend(desired.clone(), attending) => {}
                () = account::attend(desired.clone(), making) => {}
                () = self.work(desired) => {}
                () = measure => {}
                () = hear => {}
            }
        };
        membership.run(changed, observe, work).await
    }

    /// A machine's console is where the hypervisor says; what it said so far is in its log.
    fn finder(&self) -> Box<Find> {
        let (hypervisor, logs) = (Arc::clone(&self.hypervisor), self.consoles.clone());
        Box::new(move |id, kind| {
            let found = hypervisor.vms()?.into_iter().find(|vm| vm.id == id && vm.running);
            let vm = found.with_context(|| format!("{id} does not run"))?;
            let socket = hypervisor.console(&vm, kind)?;
            let log = (kind == ConsoleKind::Serial).then(|| logs.join(hypervisor::console_name(&vm.volume)));
            Ok(Place { socket, log })
        })
    }

    async fn work(self, mut desired: watch::Receiver<Option<Desired>>) {
        loop {
            let now = desired.borrow_and_update().clone();
            if let Some(now) = now {
                self.settle(&now, &mut desired).await;
            }
            if let Ok(Err(_)) = tokio::time::timeout(HEARTBEAT, desired.changed()).await {
                return;
            }
        }
    }

    /// One pass: looks at everything, does what is to be done, looks again. Ends early when something else is wanted
    /// while an image comes down; the download goes on where it was if it is still wanted then.
    async fn settle(&self, desired: &Desired, news: &mut watch::Receiver<Option<Desired>>) {
        self.introduce(desired);
        if let Some(number) = desired.restart
            && let Err(error) = self.files.restart_once(number)
        {
            warn!("This host is to restart and cannot: {:#}", anyhow::Error::from(error));
        }
        if let Err(error) = consoles::trim(&self.consoles) {
            warn!("{error:#}");
        }
        let here = match self.look().await {
            Ok(here) => here,
            Err(error) => {
                let reason = format!("{error:#}");
                warn!("This host's machines cannot be seen: {reason}");
                for vm in &desired.vms {
                    self.word.say(vm.id, VmState::Failing { reason: reason.clone() });
                }
                return;
            }
        };
        let mut failed = BTreeSet::new();
        for step in plan_node(&desired.vms, &here) {
            let concerned: Vec<VmId> =
                step.concerns(&desired.vms).into_iter().filter(|vm| !failed.contains(vm)).collect();
            if concerned.is_empty() {
                continue;
            }
            let done = tokio::select! {
                done = self.carry_out(&step, &concerned) => done,
                _ = news.changed(), if matches!(step, Step::FetchImage(_)) => {
                    news.mark_changed();
                    return;
                }
            };
            if let Err(error) = done {
                let reason = format!("{error:#}");
                warn!("{reason}");
                for vm in concerned {
                    self.word.say(vm, VmState::Failing { reason: reason.clone() });
                    failed.insert(vm);
                }
            }
        }
        match self.look().await {
            Ok(here) => self.word.settle(desired.revision, states(&desired.gone, &here), &failed),
            Err(error) => warn!("{error:#}"),
        }
    }

    fn introduce(&self, desired: &Desired) {
        // Neither a name nor a key holds virtual machines up.
        let named = self.files.set_hostname(&desired.hostname).map(|_| ());
        let keyed = self.files.set_keys(&desired.ssh_keys).map(|_| ());
        for error in [named, keyed].into_iter().filter_map(Result::err) {
            warn!("{:#}", anyhow::Error::from(error));
        }
    }

    async fn look(&self) -> anyhow::Result<Here> {
        let images = self.images.list()?;
        self.blocking(move |hypervisor| {
            Ok(Here { vms: hypervisor.vms()?, volumes: hypervisor.volumes()?, images })
        })
        .await
    }

    async fn carry_out(&self, step: &Step, concerned: &[VmId]) -> anyhow::Result<()> {
        let say = |what: &str| {
            for vm in concerned {
                self.word.say(*vm, VmState::Creating { step: what.to_owned() });
            }
        };
        match step {
            Step::Remove(vm) => {
                info!(vm.id = %vm.id, "Removing {}", vm.name);
                let vm = vm.clone();
                self.blocking(move |hypervisor| hypervisor.remove_vm(&vm)).await?;
            }
            Step::FetchImage(image) => {
                info!("Fetching the image {}", image.url);
                self.images
                    .fetch(image, |percent| say(&format!("downloading the image, {percent} %")))
                    .await
                    .with_context(|| format!("downloading the image {}", image.url))?;
            }
            Step::MakeVolume(vm) => {
                say("copying the image");
                let (volume, image) = (vm.volume.clone(), self.images.path(&vm.volume.image.sha256));
                self.blocking(move |hypervisor| hypervisor.ensure_volume(&volume, &image)).await?;
            }
            Step::MakeSeed(vm) => {
                say("writing its first data");
                self.make_seed(vm).await?;
            }
            Step::Run(vm) => {
                say("starting");
                let spec = vm.clone();
                let ensured = self.blocking(move |hypervisor| hypervisor.ensure_vm(&spec)).await?;
                match ensured {
                    Ensured::Created => info!(vm.id = %vm.id, "Created {}", vm.name),
                    Ensured::Started => info!(vm.id = %vm.id, "Started {}", vm.name),
                    Ensured::Redefined => info!(vm.id = %vm.id, "{} changes at its next start", vm.name),
                    Ensured::AlreadyThere | Ensured::Removed => {}
                }
            }
        }
        Ok(())
    }

    async fn make_seed(&self, vm: &VmSpec) -> anyhow::Result<()> {
        let (name, seed) = (seed_name(vm), vm.seed.clone());
        let hypervisor = Arc::clone(&self.hypervisor);
        tokio::task::spawn_blocking(move || {
            // Readable by root only (and in memory on a host): the enrollment in it is nobody else's.
            let folder = tempfile::tempdir().context("making a folder for the seed")?;
            let content = seed::make(&seed, folder.path())?;
            hypervisor.ensure_seed(&name, &content)?;
            anyhow::Ok(())
        })
        .await
        .context("making the seed")?
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Hypervisor) -> Result<T, HypervisorError> + Send + 'static,
    ) -> anyhow::Result<T> {
        let hypervisor = Arc::clone(&self.hypervisor);
        let done = tokio::task::spawn_blocking(move || work(&*hypervisor)).await;
        Ok(done.context("speaking to the hypervisor")??)
    }
}

/// What the hypervisor shows; what is to be `gone` and is not shown, is.
fn states(gone: &[VmId], here: &Here) -> BTreeMap<VmId, VmState> {
    let gone = gone.iter().map(|vm| (*vm, VmState::Gone));
    let there =
        here.vms.iter().map(|vm| (vm.id, if vm.running { VmState::Running } else { VmState::Stopped }));
    gone.chain(there).collect()
}

/// Asks for the capacity, one question at a time: libvirt takes a minute to answer its first on a slow machine, and
/// what else there is to tell must not wait for it.
async fn measure(
    hypervisor: Arc<dyn Hypervisor>,
    capacity: watch::Sender<Option<Capacity>>,
    word: Word<VmId, VmState>,
) {
    let mut said = String::new();
    loop {
        let asked = Arc::clone(&hypervisor);
        let answer = tokio::task::spawn_blocking(move || asked.capacity()).await;
        let now = match answer.context("asking for the capacity").and_then(|answer| Ok(answer?)) {
            Ok(now) => {
                said.clear();
                Some(now)
            }
            Err(error) => {
                let line = format!("{error:#}");
                if line != said {
                    warn!("{line}");
                    said = line;
                }
                None
            }
        };
        if capacity.send_replace(now.clone()).is_some() != now.is_some() {
            word.tell();
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// Listens to switches for ever. A host that cannot is a host all the same.
async fn hear(neighbours: Neighbours, word: Word<VmId, VmState>) {
    loop {
        let heard = neighbours.clone();
        if let Err(error) = lldp::listen(heard, inventory::this_machines_nics, || word.tell()).await {
            warn!("Switches cannot be heard: {error}");
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
}

fn observed(word: &Word<VmId, VmState>, capacity: Option<Capacity>, neighbours: Vec<Neighbour>) -> Observed {
    let (revision, vms) = word.read();
    Observed {
        revision,
        version: system::version(),
        uptime_secs: system::uptime_secs(),
        capacity,
        vms: vms.into_iter().map(|(id, state)| ObservedVm { id, state }).collect(),
        software: Vec::new(),
        neighbours,
    }
}

#[cfg(test)]
mod tests;
