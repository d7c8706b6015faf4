//! The running core: the fleet in memory, one writer that decides and appends, and the timeline.
//!
//! Orders that wait together are decided one after another and made durable by one commit. Readers (pages, DHCP,
//! nodes) take the fleet from memory and never wait for the writer. What other daemons append to the same log
//! comes in between two groups.

mod actor;
mod keep;
mod order;
mod rehearsal;
mod seen;
mod snapshots;
mod writer;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fleet::scope::Scope;
use fleet::user::Role;
use fleet::{Command, Digest, Event, Fleet, NodeId, Observed, ObservedNode, Plan, Refusal, Timestamp, wire};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use actor::{Actor, Person, person_and_place};
pub use order::{Line, What};
use order::{Order, Work};
pub use rehearsal::Rehearsal;
pub use seen::Seen;

use crate::metrics::Metrics;
use crate::store::{Away, Entry, Note, Pool, Record, Store, StoreError};

/// How long a node's question waits for what other daemons have appended.
const CATCH_UP: std::time::Duration = std::time::Duration::from_secs(5);

/// A handle on the core; clones are cheap and mean the same core.
#[derive(Clone)]
pub struct Core {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    orders: mpsc::Sender<Order>,
    head: watch::Sender<Head>,
    observed: watch::Sender<Arc<Observed>>,
    plan: watch::Sender<Arc<Plan>>,
    changes: watch::Sender<u64>,
    notes: mpsc::Sender<Note>,
    /// What the boot servers saw of each machine.
    journal: pxe::diagnosis::Journal,
    metrics: Metrics,
    views: seen::Views,
}

/// The fleet, and the position of the last event in it.
#[derive(Debug, Clone, Default)]
pub struct Head {
    pub fleet: Arc<Fleet>,
    pub position: i64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was changed.
    #[error("{name} is {}; this takes {}", has.with_article(), needs.with_article())]
    NotAllowed { name: String, has: Role, needs: Role },
    /// Nothing was changed.
    #[error("this token is for {scope}, and not for {what}")]
    OutOfScope { scope: Scope, what: String },
    /// Nothing was changed.
    #[error(
        "the site has changed since this was planned, and it would come to something else now; plan it again"
    )]
    Changed,
    /// Nothing was changed.
    #[error("the change could not be made durable, so it was not made")]
    NotDurable(#[source] Arc<StoreError>),
    /// Nothing was changed.
    #[error("the database is away ({0}), so nothing can be changed now; try again when it is back")]
    Away(String),
    #[error(
        "the database went away in the middle of this change ({0}); when it is back, the timeline says whether it was made"
    )]
    Unknown(String),
    #[error("the appliance is stopping")]
    Stopping,
}

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After the event at this position.
    Position(i64),
    /// After the last event at or before this time.
    Time(Timestamp),
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
    let loaded = store.load().await?;
    let observed = store.observed_since(Timestamp(0)).await?;
    match loaded.snapshot {
        Some(snapshot) => tracing::info!(
            log.position = loaded.position,
            "Read the snapshot of position {snapshot} and replayed {} events",
            loaded.position - snapshot
        ),
        None => tracing::info!(log.position = loaded.position, "Replayed {} events", loaded.position),
    }
    let (orders, taken) = mpsc::channel(4096);
    let (notes, kept) = mpsc::channel(8192);
    let head = Head { fleet: Arc::new(loaded.fleet), position: loaded.position };
    let core = Core {
        inner: Arc::new(Inner {
            store: store.clone(),
            orders,
            head: watch::Sender::new(head),
            observed: watch::Sender::new(Arc::new(observed)),
            plan: watch::Sender::new(Arc::default()),
            changes: watch::Sender::new(0),
            notes,
            journal: pxe::diagnosis::Journal::default(),
            metrics: Metrics::default(),
            views: seen::Views::default(),
        }),
    };
    tasks.spawn(writer::run(core.clone(), taken, shutdown.clone()));
    tasks.spawn(keep::run(core.clone(), kept, shutdown.clone()));
    if let Some(snapshot) = loaded.snapshot {
        tasks.spawn(snapshots::audit(core.clone(), snapshot, shutdown.clone()));
    }
    tasks.spawn(snapshots::take(core.clone(), loaded.snapshot.unwrap_or(0), shutdown.clone()));
    tasks.spawn(show_away(core.clone(), shutdown.clone()));
    tasks.spawn(async move {
        store.follow(shutdown).await;
        Ok(())
    });
    Ok(core)
}

/// Pages say so when the database goes away and when it is back.
async fn show_away(core: Core, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut away = core.store().watch_away();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = away.changed() => if changed.is_err() { return Ok(()) },
        }
        core.bump();
    }
}

impl Core {
    /// Decides `command` and makes its events durable; they are in [`Core::fleet`] when this returns.
    pub async fn execute(&self, actor: &Actor, command: Command) -> Result<Vec<Event>, ExecuteError> {
        self.execute_all(actor, vec![command], None).await
    }

    /// Decides `commands` one after another and makes all their events durable, or refuses and changes nothing. With
    /// `expect`, also if they come to anything else than what a plan showed.
    pub async fn execute_all(
        &self,
        actor: &Actor,
        commands: Vec<Command>,
        expect: Option<Digest>,
    ) -> Result<Vec<Event>, ExecuteError> {
        match actor {
            Actor::Rehearsal(rehearsal) => return Ok(rehearsal.give(&self.fleet(), commands)?),
            Actor::Person(person) => person.may_order(&commands)?,
            Actor::Node(_) | Actor::Wire(_) | Actor::Appliance => {}
        }
        self.order(Work::Give { actor: actor.clone(), commands, expect }).await
    }

    /// Carries out the lines of another log as they were, with their times and actors; all or none.
    pub async fn replay(&self, lines: Vec<Line>) -> Result<Vec<Event>, ExecuteError> {
        self.order(Work::Replay(lines)).await
    }

    async fn order(&self, work: Work) -> Result<Vec<Event>, ExecuteError> {
        if let Some(away) = self.away() {
            return Err(ExecuteError::Away(away.why));
        }
        let (reply, answer) = oneshot::channel();
        self.inner.orders.send(Order { work, reply }).await.map_err(|_| ExecuteError::Stopping)?;
        answer.await.map_err(|_| ExecuteError::Stopping)?
    }

    pub fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.inner.head.borrow().fleet)
    }

    /// The fleet together with the position it stands for.
    pub fn head(&self) -> Head {
        self.inner.head.borrow().clone()
    }

    /// Of the last event that is in [`Core::fleet`].
    pub fn position(&self) -> i64 {
        self.inner.head.borrow().position
    }

    /// Wakes when the fleet has changed.
    pub fn watch_fleet(&self) -> watch::Receiver<Head> {
        self.inner.head.subscribe()
    }

    /// Returns when the fleet is no older than the log was at the call. Where several daemons share a log, a node that
    /// was told something by another one must not be told something older by this one. With the database away, memory
    /// is all there is.
    pub async fn catch_up(&self) {
        let Pool::Postgres(_) = self.store().pool() else { return };
        if self.away().is_some() {
            return;
        }
        let reach_end = async {
            let Ok(end) = self.store().end().await else { return };
            self.store().hear_of(end);
            // An error means that the daemon is stopping.
            let _ = self.watch_fleet().wait_for(|head| head.position >= end).await;
        };
        if tokio::time::timeout(CATCH_UP, reach_end).await.is_err() {
            tracing::warn!("The log could not be followed to its end within {} s", CATCH_UP.as_secs());
        }
    }

    /// The fleet as it was, and the position of its last event.
    pub async fn fleet_at(&self, moment: Moment) -> Result<Head, StoreError> {
        let position = match moment {
            Moment::Position(position) => position,
            Moment::Time(at) => self.inner.store.position_at(at).await?,
        };
        let head = self.head();
        if position >= head.position {
            return Ok(head);
        }
        let loaded = self.inner.store.load_until(position).await?;
        Ok(Head { fleet: Arc::new(loaded.fleet), position: loaded.position })
    }

    /// At most `limit` entries of the log after position `after`.
    pub async fn history(&self, after: i64, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.inner.store.read(after, limit).await
    }

    /// The events of one subject and noun, oldest first, whether the subject is still there or not.
    pub async fn history_of(&self, subject: &str, noun: &str) -> Result<Vec<Record>, StoreError> {
        self.inner.store.read_of(subject, noun).await
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

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Since when and why nothing can be changed.
    pub fn away(&self) -> Option<Away> {
        self.inner.store.away()
    }

    /// Takes what a node says it is now.
    pub fn observe(&self, node: NodeId, said: wire::Observed) {
        let last = Arc::new(ObservedNode { at: now(), said });
        self.inner.observed.send_modify(|observed| {
            Arc::make_mut(observed).insert(node, last);
        });
        self.bump();
    }

    /// What the boot servers saw of each machine lately, for a diagnosis of those that do not boot.
    pub fn journal(&self) -> &pxe::diagnosis::Journal {
        &self.inner.journal
    }

    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Orders that the writer has not taken up.
    pub fn orders_waiting(&self) -> u64 {
        (self.inner.orders.max_capacity() - self.inner.orders.capacity()) as u64
    }

    /// Who waits for [`Core::changes`].
    pub fn listeners(&self) -> u64 {
        self.inner.changes.receiver_count() as u64
    }

    /// Events about any of `subjects` as a tenant is told them, the last `limit`, oldest first.
    pub async fn timeline_for_tenant(
        &self,
        subjects: &[String],
        limit: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        self.inner.store.timeline_for_tenant(subjects, limit).await
    }

    /// Adds a line to the timeline of `subject`. Under a flood, lines are left out rather than anything slowed down.
    pub fn note(&self, subject: &str, kind: &'static str, text: String) {
        self.inner.metrics.noted(kind);
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

    /// Pages look again: something that is not in the log is different.
    pub(crate) fn bump(&self) {
        self.inner.changes.send_modify(|number| *number += 1);
    }
}
