//! What host and guest agent have in common: the certificate, pulling the desired state, posting the observed one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use fleet::NodeId;
use fleet::wire::{CertificateRequest, Desired, Observed};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::client::{Authority, Backoff, Client, ClientError};
use crate::identity::Identity;
use crate::places::NodeFacts;

/// How often what is observed is posted when nothing changes.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// So many answers in a row that never came, and the certificate itself is asked for anew: an expired one looks like
/// a broken line.
const SILENT_BEFORE_NEW_CERTIFICATE: u32 = 6;

/// The connection of a node that has its certificate.
#[derive(Debug, Clone)]
pub struct Member {
    pub node: NodeId,
    pub client: Client,
}

/// Becomes a member with the certificate kept in `folder`, or with a new one for the key there. Tries for ever: the
/// appliance may be away for days.
async fn join(facts: &NodeFacts, folder: &Path, certificate: Certificate) -> Member {
    let mut backoff = Backoff::default();
    let mut said = String::new();
    loop {
        match try_to_join(facts, folder, certificate).await {
            Ok(member) => {
                info!(node = %member.node, "Joined {} as {}", facts.appliance, member.node);
                return member;
            }
            Err(error) => {
                let line = format!("{:#}", anyhow::Error::from(error));
                if line != said {
                    warn!("No certificate yet: {line}");
                    said = line;
                }
            }
        }
        backoff.wait().await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certificate {
    /// Each one that is given out is a line in the site's log, so the kept one is used while it is good.
    Kept,
    New,
}

async fn try_to_join(
    facts: &NodeFacts,
    folder: &Path,
    certificate: Certificate,
) -> Result<Member, ClientError> {
    let authority = Authority::fetch(facts.appliance, &facts.ca_sha256).await?;
    let mut identity = Identity::load_or_make(folder)?;
    if certificate == Certificate::Kept
        && let Some(node) = identity.node()
    {
        return Ok(Member { node, client: Client::new(&authority, &identity)? });
    }
    identity.drop_certificate();
    let request =
        CertificateRequest { csr_pem: identity.signing_request()?, enrollment: facts.enrollment.clone() };
    let reply = Client::new(&authority, &identity)?.certificate(&request).await?;
    identity.keep_certificate(folder, reply.node, &reply.certificate_pem)?;
    Ok(Member { node: reply.node, client: Client::new(&authority, &identity)? })
}

/// Holds the member, and joins again when the appliance does not know it any more.
pub struct Membership {
    facts: NodeFacts,
    folder: std::path::PathBuf,
    current: watch::Sender<Option<Member>>,
}

impl Membership {
    pub fn new(facts: NodeFacts, folder: &Path) -> Arc<Self> {
        Arc::new(Self { facts, folder: folder.to_owned(), current: watch::Sender::new(None) })
    }

    /// Pulls, works and tells for ever, each on its own; returns only when one of them died.
    pub async fn run<O, W>(
        self: Arc<Self>,
        changed: mpsc::Receiver<()>,
        observe: impl Fn() -> O + Send + 'static,
        work: impl FnOnce(watch::Receiver<Option<Desired>>) -> W,
    ) -> anyhow::Result<()>
    where
        O: Future<Output = Observed> + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let desired = watch::Sender::new(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(work(desired.subscribe()));
        tasks.spawn(Arc::clone(&self).pull(desired));
        tasks.spawn(self.tell(changed, observe));
        match tasks.join_next().await {
            Some(Ok(())) => anyhow::bail!("a task of the agent ended"),
            Some(Err(error)) => Err(error).context("a task of the agent died"),
            None => Ok(()),
        }
    }

    /// The member, as soon as there is one.
    pub async fn member(&self) -> Member {
        let mut current = self.current.subscribe();
        loop {
            if let Some(member) = current.borrow_and_update().clone() {
                return member;
            }
            // We hold the sender ourselves, so it cannot be gone.
            let _ = current.changed().await;
        }
    }

    /// Pulls the desired state for ever and sends each new one to `desired`. Ends when nobody listens any more.
    async fn pull(self: Arc<Self>, desired: watch::Sender<Option<Desired>>) {
        let mut backoff = Backoff::default();
        let mut known = None;
        let mut silent = 0;
        let mut certificate = Certificate::Kept;
        let mut said = String::new();
        while !desired.is_closed() {
            let current = self.current.borrow().clone();
            let member = match current {
                Some(member) => member,
                None => {
                    let member = join(&self.facts, &self.folder, certificate).await;
                    self.current.send_replace(Some(member.clone()));
                    member
                }
            };
            match member.client.desired(member.node, known).await {
                Ok(new) => {
                    if !said.is_empty() {
                        info!("{} answers again", self.facts.appliance);
                    }
                    said.clear();
                    silent = 0;
                    backoff.reset();
                    if known != Some(new.revision) {
                        known = Some(new.revision);
                        desired.send_replace(Some(new));
                    }
                    continue;
                }
                Err(error) => {
                    silent += 1;
                    if error.is_unknown_node() || silent % SILENT_BEFORE_NEW_CERTIFICATE == 0 {
                        self.current.send_replace(None);
                        certificate = Certificate::New;
                        known = None;
                    }
                    let line = format!("{:#}", anyhow::Error::from(error));
                    if line != said {
                        warn!("{line}");
                        said = line;
                    }
                }
            }
            backoff.wait().await;
        }
    }

    /// Posts what `observe` says at every word on `changed`, and every ten seconds. Ends when `changed` does.
    async fn tell<O>(self: Arc<Self>, mut changed: mpsc::Receiver<()>, observe: impl Fn() -> O)
    where
        O: Future<Output = Observed>,
    {
        let mut said = String::new();
        loop {
            let member = self.member().await;
            let observed = observe().await;
            match member.client.observed(member.node, &observed).await {
                Ok(()) => said.clear(),
                // The next heartbeat tries again; the puller finds out what is wrong.
                Err(error) => {
                    let line = format!("{:#}", anyhow::Error::from(error));
                    if line != said {
                        warn!("What is observed here was not heard: {line}");
                        said = line;
                    }
                }
            }
            match tokio::time::timeout(HEARTBEAT, changed.recv()).await {
                Ok(Some(())) => {}
                Ok(None) => return,
                Err(_) => {}
            }
            // Several changes at once are one word.
            while changed.try_recv().is_ok() {}
        }
    }
}

/// What is said of each thing that a node has, between two looks at the things themselves.
#[derive(Debug)]
pub struct Word<K, S> {
    said: Arc<Mutex<Said<K, S>>>,
    changed: mpsc::Sender<()>,
}

#[derive(Debug)]
struct Said<K, S> {
    revision: u64,
    states: BTreeMap<K, S>,
}

impl<K: Ord + Clone, S: PartialEq + Clone> Word<K, S> {
    /// The receiver hears that there is something new to tell.
    pub fn new() -> (Self, mpsc::Receiver<()>) {
        let (changed, hear) = mpsc::channel(1);
        let said = Said { revision: 0, states: BTreeMap::new() };
        (Self { said: Arc::new(Mutex::new(said)), changed }, hear)
    }

    pub fn say(&self, key: K, state: S) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.states.get(&key) != Some(&state) {
            said.states.insert(key, state);
            self.tell();
        }
    }

    /// The end of a pass through everything that `revision` wants: what was seen counts, except where a step `failed`.
    pub fn settle(&self, revision: u64, mut seen: BTreeMap<K, S>, failed: &BTreeSet<K>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for key in failed {
            seen.extend(said.states.get(key).map(|state| (key.clone(), state.clone())));
        }
        if said.states != seen || said.revision != revision {
            *said = Said { revision, states: seen };
            self.tell();
        }
    }

    /// The revision that was carried out last, and the last word on each thing.
    pub fn read(&self) -> (u64, BTreeMap<K, S>) {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        (said.revision, said.states.clone())
    }

    /// There is something new to tell.
    pub fn tell(&self) {
        // A full channel already says that there is news.
        let _ = self.changed.try_send(());
    }
}

impl<K, S> Clone for Word<K, S> {
    fn clone(&self) -> Self {
        Self { said: Arc::clone(&self.said), changed: self.changed.clone() }
    }
}
