//! The running core: the fleet in memory, one writer that decides and appends, and the timeline.
//!
//! Commands that wait together are decided one after another and made durable by one commit. Readers
//! (pages, DHCP, nodes) take the fleet from memory and never wait for the writer.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleet::{Command, Ctx, Event, Fleet, NodeId, Observed, ObservedNode, Plan, Refusal, Timestamp, wire};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::store::{Entry, Fact, Note, Store, StoreError};

/// Commands that are decided in one go, and so share a commit.
const GROUP: usize = 512;

/// How often notes and observations, which may be lost without harm, are written.
const KEEP_EVERY: Duration = Duration::from_millis(500);

/// A handle on the core; clones are cheap and mean the same core.
#[derive(Clone)]
pub struct Core {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    commands: mpsc::Sender<Order>,
    fleet: watch::Sender<Arc<Fleet>>,
    observed: watch::Sender<Arc<Observed>>,
    plan: watch::Sender<Arc<Plan>>,
    changes: watch::Sender<u64>,
    notes: mpsc::Sender<Note>,
}

struct Order {
    actor: Actor,
    command: Command,
    reply: oneshot::Sender<Result<Vec<Event>, ExecuteError>>,
}

/// Who gave a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    Person(String),
    Node(NodeId),
    /// A machine that has no name yet, by its MAC address.
    Wire(fleet::Mac),
    /// The appliance itself, by its policy and its reconciler.
    Appliance,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Actor::Person(name) => f.write_str(name),
            Actor::Node(node) => node.fmt(f),
            Actor::Wire(mac) => mac.fmt(f),
            Actor::Appliance => f.write_str("appliance"),
        }
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was changed.
    #[error("the change could not be made durable, so it was not made")]
    NotDurable(#[source] Arc<StoreError>),
    #[error("the appliance is stopping")]
    Stopping,
}

/// The time of day, for the core and the log.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Replays the log of `store` and starts the writer on `tasks`.
pub async fn start(
    store: Store,
    tasks: &mut tokio::task::JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
) -> Result<Core, StoreError> {
    let (fleet, last) = store.load().await?;
    let observed = store.load_observed().await?;
    tracing::info!(log.position = last, "Replayed {last} events");
    let (commands, orders) = mpsc::channel(4096);
    let (notes, kept) = mpsc::channel(8192);
    let core = Core {
        inner: Arc::new(Inner {
            store,
            commands,
            fleet: watch::Sender::new(Arc::new(fleet)),
            observed: watch::Sender::new(Arc::new(observed)),
            plan: watch::Sender::new(Arc::default()),
            changes: watch::Sender::new(0),
            notes,
        }),
    };
    tasks.spawn(write(core.clone(), orders, last, shutdown.clone()));
    tasks.spawn(keep(core.clone(), kept, shutdown));
    Ok(core)
}

impl Core {
    /// Decides `command` and makes its events durable; they are in [`Core::fleet`] when this returns.
    pub async fn execute(&self, actor: &Actor, command: Command) -> Result<Vec<Event>, ExecuteError> {
        let (reply, answer) = oneshot::channel();
        let order = Order { actor: actor.clone(), command, reply };
        self.inner.commands.send(order).await.map_err(|_| ExecuteError::Stopping)?;
        answer.await.map_err(|_| ExecuteError::Stopping)?
    }

    pub fn fleet(&self) -> Arc<Fleet> {
        self.inner.fleet.borrow().clone()
    }

    /// Wakes when the fleet has changed.
    pub fn watch_fleet(&self) -> watch::Receiver<Arc<Fleet>> {
        self.inner.fleet.subscribe()
    }

    pub fn observed(&self) -> Arc<Observed> {
        self.inner.observed.borrow().clone()
    }

    pub fn watch_observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.inner.observed.subscribe()
    }

    /// What the reconciler found last.
    pub fn plan(&self) -> Arc<Plan> {
        self.inner.plan.borrow().clone()
    }

    /// A number that grows when anything a page shows has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    pub fn pool(&self) -> &sqlx::SqlitePool {
        self.inner.store.pool()
    }

    /// Takes what a node says it is now.
    pub fn observe(&self, node: NodeId, said: wire::Observed) {
        let last = ObservedNode { at: now(), said };
        self.inner.observed.send_modify(|observed| {
            Arc::make_mut(observed).insert(node, last);
        });
        self.bump();
    }

    /// Adds a line to the timeline of `subject`. Under a flood, lines are left out rather than anything slowed down.
    pub fn note(&self, subject: &str, kind: &'static str, text: String) {
        let note = Note { at: now(), subject: subject.to_owned(), kind, text };
        if self.inner.notes.try_send(note).is_err() {
            tracing::debug!(subject, "A line of a timeline was left out: too many at once");
        }
    }

    /// Events and notes about any of `subjects`, the last `limit`, oldest first.
    pub async fn timeline(&self, subjects: &[String], limit: u32) -> Result<Vec<Entry>, StoreError> {
        self.inner.store.timeline(subjects, limit).await
    }

    pub(crate) fn set_plan(&self, plan: Plan) {
        let changed = self.inner.plan.send_if_modified(|current| {
            let differs = **current != plan;
            if differs {
                *current = Arc::new(plan);
            }
            differs
        });
        if changed {
            self.bump();
        }
    }

    fn bump(&self) {
        self.inner.changes.send_modify(|number| *number += 1);
    }
}

async fn write(
    core: Core,
    mut orders: mpsc::Receiver<Order>,
    mut last: i64,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut group = Vec::with_capacity(GROUP);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            taken = orders.recv_many(&mut group, GROUP) => if taken == 0 { return Ok(()) },
        }
        let at = now();
        let mut fleet = Fleet::clone(&core.fleet());
        let mut facts = Vec::new();
        let mut replies = Vec::with_capacity(group.len());
        for order in group.drain(..) {
            let decided = fleet::decide(&fleet, &order.command, Ctx { now: at });
            if let Ok(events) = &decided {
                for event in events {
                    fleet::evolve(&mut fleet, event);
                    facts.push(Fact { at, actor: order.actor.to_string(), event: event.clone() });
                }
            }
            replies.push((order.reply, decided));
        }
        let written = if facts.is_empty() { Ok(()) } else { core.inner.store.append(last, &facts).await };
        let error = match written {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "Commands were refused: {error}");
                Some(Arc::new(error))
            }
        };
        if error.is_none() && !facts.is_empty() {
            last += i64::try_from(facts.len())?;
            for fact in &facts {
                tracing::info!(
                    subject = fact.event.subject(),
                    actor = fact.actor,
                    "{}",
                    fact.event.sentence()
                );
            }
            core.inner.fleet.send_replace(Arc::new(fleet));
            core.bump();
        }
        for (reply, decided) in replies {
            let answer = match (decided, &error) {
                (Err(refusal), _) => Err(ExecuteError::Refused(refusal)),
                (Ok(events), Some(error)) if !events.is_empty() => {
                    Err(ExecuteError::NotDurable(Arc::clone(error)))
                }
                (Ok(events), _) => Ok(events),
            };
            // Whoever asked may have gone away; what was decided stands.
            let _ = reply.send(answer);
        }
    }
}

async fn keep(
    core: Core,
    mut notes: mpsc::Receiver<Note>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut watch = core.watch_observed();
    let mut written = core.observed();
    let mut stopping = false;
    while !stopping {
        tokio::select! {
            () = shutdown.cancelled() => stopping = true,
            () = tokio::time::sleep(KEEP_EVERY) => {}
        }
        let mut batch = Vec::new();
        while let Ok(note) = notes.try_recv() {
            batch.push(note);
        }
        let observed = watch.borrow_and_update().clone();
        let fresh: Vec<_> = observed
            .iter()
            .filter(|(node, seen)| written.get(node) != Some(seen))
            .map(|(node, seen)| (*node, seen.clone()))
            .collect();
        if batch.is_empty() && fresh.is_empty() {
            continue;
        }
        match core.inner.store.keep(&batch, &fresh).await {
            Ok(()) => {
                written = observed;
                if !batch.is_empty() {
                    core.bump();
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "{} lines of timelines were lost",
                    batch.len()
                );
            }
        }
    }
    Ok(())
}
