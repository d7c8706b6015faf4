//! Keeps what may be lost without harm: lines of timelines and what nodes said last, written every half second;
//! and takes in what nodes said to other daemons.

use std::sync::Arc;
use std::time::Duration;

use fleet::{NodeId, ObservedNode, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Core, now};
use crate::store::{Note, Pool};

const EVERY: Duration = Duration::from_millis(500);

/// How far back another daemon's clock, and the time between what a node says and its being written, may lie.
const OVERLAP_MS: u64 = 10_000;

/// Lines that are held while the database is away.
const HELD: usize = 20_000;

pub(super) async fn run(
    core: Core,
    mut notes: mpsc::Receiver<Note>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut watch = core.watch_observed();
    let mut written = core.observed();
    let mut batch = Vec::new();
    let mut stopping = false;
    while !stopping {
        tokio::select! {
            () = shutdown.cancelled() => stopping = true,
            () = tokio::time::sleep(EVERY) => {}
        }
        while let Ok(note) = notes.try_recv() {
            batch.push(note);
        }
        if core.away().is_some() {
            let surplus = batch.len().saturating_sub(HELD);
            batch.drain(..surplus);
            continue;
        }
        let observed = watch.borrow_and_update().clone();
        let fresh: Vec<_> = fleet::heard_since(&written, &observed).collect();
        if batch.is_empty() && fresh.is_empty() {
            continue;
        }
        match core.store().keep(&batch, &fresh).await {
            Ok(()) => {
                written = observed;
                if !batch.is_empty() {
                    core.bump();
                }
                batch.clear();
            }
            Err(error) if error.is_away() => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "{} lines of timelines were lost",
                    batch.len()
                );
                batch.clear();
            }
        }
    }
    Ok(())
}

impl Core {
    /// Takes in what nodes said to other daemons since a moment ago.
    pub(super) fn hear_observed(&self) {
        if let Pool::Sqlite(_) = self.store().pool() {
            return;
        }
        let core = self.clone();
        tokio::spawn(async move {
            let since = Timestamp(now().0.saturating_sub(OVERLAP_MS));
            match core.store().observed_since(since).await {
                Ok(heard) => core.take_in_observed(heard),
                Err(error) => tracing::debug!(%error, "What nodes said to other daemons could not be read"),
            }
        });
    }

    fn take_in_observed(&self, heard: fleet::Observed) {
        let changed = self.inner.observed.send_if_modified(|observed| {
            let newer = |node: &NodeId, seen: &ObservedNode| {
                observed.get(node).is_none_or(|known| known.at < seen.at)
            };
            let fresh: Vec<_> = heard.iter().filter(|(node, seen)| newer(node, seen)).collect();
            if fresh.is_empty() {
                return false;
            }
            let observed = Arc::make_mut(observed);
            for (node, seen) in fresh {
                observed.insert(*node, seen.clone());
            }
            true
        });
        if changed {
            self.bump();
        }
    }
}
