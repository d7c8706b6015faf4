//! What host and guest agent have in common: the certificate, pulling the desired state, posting the observed one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet::NodeId;
use fleet::wire::{CertificateRequest, Desired, Observed};
use tokio::sync::{mpsc, watch};
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

/// Gets this node's certificate for the key in `folder`. Tries for ever: the appliance may be away for days.
pub async fn join(facts: &NodeFacts, folder: &Path) -> Member {
    let mut backoff = Backoff::default();
    let mut said = String::new();
    loop {
        match try_to_join(facts, folder).await {
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

async fn try_to_join(facts: &NodeFacts, folder: &Path) -> Result<Member, ClientError> {
    let authority = Authority::fetch(facts.appliance, &facts.ca_sha256).await?;
    // The key is what lasts; a certificate is cheap, and a fresh one is never about to expire.
    let mut identity = Identity::load_or_make(folder)?;
    identity.drop_certificate();
    let request =
        CertificateRequest { csr_pem: identity.signing_request()?, enrollment: facts.enrollment.clone() };
    let reply = Client::new(&authority, &identity)?.certificate(&request).await?;
    identity.keep_certificate(folder, &reply.certificate_pem)?;
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

    /// The member, as soon as there is one.
    async fn member(&self) -> Member {
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
    pub async fn pull(self: Arc<Self>, desired: watch::Sender<Option<Desired>>) {
        let mut backoff = Backoff::default();
        let mut known = None;
        let mut silent = 0;
        let mut said = String::new();
        while !desired.is_closed() {
            let current = self.current.borrow().clone();
            let member = match current {
                Some(member) => member,
                None => {
                    let member = join(&self.facts, &self.folder).await;
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
    pub async fn tell<F>(self: Arc<Self>, mut changed: mpsc::Receiver<()>, mut observe: impl FnMut() -> F)
    where
        F: Future<Output = Observed>,
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
