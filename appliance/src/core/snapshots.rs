//! When snapshots are made, and that the one a start was made from is what the log says.

use std::time::Duration;

use fleet::Fleet;
use tokio_util::sync::CancellationToken;

use super::{Core, now};
use crate::store::StoreError;

const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Events after a snapshot that are replayed within a moment.
const SHORT_TAIL: i64 = 10_000;

/// In a large fleet a snapshot costs more than the replay of so many events per object.
const OBJECTS_PER_EVENT: i64 = 4;

/// The first minutes belong to those who wait for the start.
const AUDIT_AFTER: Duration = Duration::from_secs(60);

/// Above so many objects a second fleet in memory is too much; then only the rows are looked at.
const AUDITED_OBJECTS: usize = 200_000;

/// Makes a snapshot when enough has happened since the last.
pub(super) async fn take(core: Core, mut last: i64, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let head = core.head();
        let objects = i64::try_from(objects(&head.fleet)).unwrap_or(i64::MAX);
        if head.position - last < SHORT_TAIL.max(objects / OBJECTS_PER_EVENT) || core.away().is_some() {
            continue;
        }
        match core.save_snapshot().await {
            Ok(position) => last = position,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "No snapshot could be made; the next start takes longer: {error}"
            ),
        }
    }
}

/// Compares the snapshot of `position`, which the fleet was made from, with the log itself. What they differ in
/// ends the process: the next start replays the log and says where it is wrong.
pub(super) async fn audit(core: Core, position: i64, shutdown: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = tokio::time::sleep(AUDIT_AFTER) => {}
    }
    let store = core.store();
    let state = objects(&core.fleet()) <= AUDITED_OBJECTS;
    let audited = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        audited = store.audit(position, state) => audited,
    };
    match audited {
        Ok(()) => tracing::info!("The log up to position {position} is whole"),
        Err(error) if error.is_damage() => {
            store.drop_snapshots().await?;
            return Err(anyhow::Error::new(error).context("the log is not what this daemon was started from"));
        }
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "The log could not be compared with the snapshot: {error}"
        ),
    }
    Ok(())
}

fn objects(fleet: &Fleet) -> usize {
    fleet.machines.len() + fleet.vms.len() + fleet.services.len() + fleet.leases.given.len()
}

impl Core {
    /// Makes a snapshot of the fleet as it is; returns its position.
    pub async fn save_snapshot(&self) -> Result<i64, StoreError> {
        let head = self.head();
        let hash = self.store().save_snapshot(&head.fleet, head.position, now()).await?;
        tracing::info!(log.position = head.position, "Made a snapshot; its state hash is {hash}");
        Ok(head.position)
    }
}
