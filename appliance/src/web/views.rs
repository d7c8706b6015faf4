//! What open pages look at: rendered once for all that look at the same, and no more often than it takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet::{Fleet, Plan};
use tokio::sync::watch;
use tokio::time::Instant;

use super::kept::Kept;
use super::look::View;
use super::pages::{self, Seen};
use crate::{App, core};

/// Changes come in bursts: the first is shown at once, the rest together after this.
const CALM: Duration = Duration::from_millis(100);

/// Of the time, all pages together are rendered for this part of it at most.
const SHARE: u32 = 3;

/// However many there are.
const LONGEST_CALM: Duration = Duration::from_secs(2);

/// What a page is brought: how it looks now, and the revision that it shows. Nothing before it was looked at first.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    pub seen: Option<Arc<Seen>>,
    pub revision: u64,
}

/// A tenant, or the site; and the address.
type Key = (Option<String>, String);

#[derive(Debug, Default)]
pub struct Views {
    /// By whose eyes and by address.
    open: Mutex<BTreeMap<Key, watch::Sender<Sight>>>,
}

impl Views {
    /// Brings what a view looks like, again whenever that changes, for as long as anybody listens.
    pub fn watch(self: &Arc<Self>, app: &App, tenant: Option<String>, view: View) -> watch::Receiver<Sight> {
        let key = (tenant, view.address());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.get(&key) {
            return known.subscribe();
        }
        let (sender, receiver) = watch::channel(Sight::default());
        open.insert(key.clone(), sender.clone());
        drop(open);
        tokio::spawn(Arc::clone(self).follow(app.clone(), view, key, sender));
        receiver
    }

    async fn follow(self: Arc<Self>, app: App, view: View, key: Key, sender: watch::Sender<Sight>) {
        let (tenant, address) = (key.0.as_deref(), &key.1);
        let mut changes = app.core.changes();
        let mut last = None;
        let mut seen = None;
        let mut kept = Kept::default();
        loop {
            let revision = *changes.borrow_and_update();
            let begun = Instant::now();
            let decided = Decided::of(&app, tenant);
            if last.is_none() || !view.is_of_decisions() || last.as_ref() != Some(&decided) {
                match pages::look(&app, tenant, &view, &mut kept).await {
                    Ok(looked) => seen = Some(Arc::new(looked)),
                    // Most likely the database is away; the next change looks again.
                    Err(error) => tracing::warn!(?error, "A page could not be rendered: {address}"),
                }
                last = Some(decided);
            }
            // Also if it looks the same: each listener looks whether its session is still one.
            sender.send_replace(Sight { seen: seen.clone(), revision });
            let others = u32::try_from(self.open().len()).unwrap_or(u32::MAX);
            let share = begun.elapsed().saturating_mul(SHARE).saturating_mul(others);
            let calm = begun + share.clamp(CALM, LONGEST_CALM);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sender.closed() => if self.close(&key, &sender) { return },
            }
            tokio::time::sleep_until(calm).await;
        }
    }

    /// Unless somebody has come meanwhile.
    fn close(&self, key: &Key, sender: &watch::Sender<Sight>) -> bool {
        let mut open = self.open();
        let gone = sender.receiver_count() == 0;
        if gone {
            open.remove(key);
        }
        gone
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, watch::Sender<Sight>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was decided and planned, known again by where it stands in memory.
struct Decided {
    fleet: Arc<Fleet>,
    plan: Arc<Plan>,
    away: bool,
}

impl Decided {
    fn of(app: &App, tenant: Option<&str>) -> Decided {
        let core::Seen { fleet, plan, .. } = app.core.seen_by(tenant);
        Decided { fleet, plan, away: app.core.away().is_some() }
    }
}

impl PartialEq for Decided {
    fn eq(&self, other: &Decided) -> bool {
        Arc::ptr_eq(&self.fleet, &other.fleet)
            && Arc::ptr_eq(&self.plan, &other.plan)
            && self.away == other.away
    }
}
