//! Reads all disks of this machine from end to end, and asks them what they say of themselves. Nothing is written.

mod health;
mod surface;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleet::wire::{Checked, Desired, DiskChecked, Progress};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::client::{Client, until_heard};
use crate::inventory;
use crate::member::Membership;

pub use surface::Pace;

/// Each line of the timeline says something new.
const PAUSE: Duration = Duration::from_secs(10);

/// Checks what a host is to check, for ever; ends when nothing is desired any more. Its VMs go first.
pub async fn attend(mut desired: watch::Receiver<Option<Desired>>, membership: Arc<Membership>) {
    let mut told = None;
    loop {
        let wanted = desired.borrow_and_update().as_ref().and_then(|desired| desired.check);
        let Some(number) = wanted.filter(|number| told != Some(*number)) else {
            match desired.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let client = membership.member().await.client;
        let still =
            |desired: &Option<Desired>| desired.as_ref().is_none_or(|desired| desired.check == Some(number));
        let mut news = desired.clone();
        tokio::select! {
            () = check(&client, number, Pace::Polite, &|error| warn!("{error:#}")) => told = Some(number),
            // Either it is wanted no more, or there is nobody left who could want it.
            _ = news.wait_for(|desired| !still(desired)) => {}
        }
    }
}

/// Reads, and says what came of it. Whoever lets go of it ends the reading.
pub async fn check(client: &Client, number: u32, pace: Pace, complain: &(dyn Fn(anyhow::Error) + Sync)) {
    let stop = Stop::default();
    let (lines, mut waiting) = mpsc::unbounded_channel();
    let stopped = Arc::clone(&stop.0);
    let reading = tokio::task::spawn_blocking(move || {
        read_all(pace, &stopped, &mut |percent| {
            let step = "reading its disks from end to end".to_owned();
            // Nobody listens any more only when it was let go.
            let _ = lines.send(Progress { step, percent: Some(percent) });
        })
    });
    while let Some(progress) = waiting.recv().await {
        if let Err(error) = client.progress(&progress).await {
            complain(error.into());
        }
    }
    let disks = match reading.await {
        Ok(disks) => disks,
        Err(panic) => return complain(anyhow::Error::from(panic).context("reading the disks")),
    };
    let checked = Checked { number, disks };
    if let Err(error) = until_heard(|| client.checked(&checked), |error| complain(error.into())).await {
        complain(anyhow::Error::from(error).context("what came of the check is not wanted"));
    }
}

/// Ends the reading when it is dropped.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All at once, each by a thread of its own: a disk does not slow another one down.
fn read_all(pace: Pace, stop: &AtomicBool, hear: &mut dyn FnMut(u8)) -> Vec<DiskChecked> {
    let disks: Vec<_> = inventory::this_machines_disks().into_iter().filter(|disk| !disk.removable).collect();
    let all: u64 = disks.iter().map(|disk| disk.bytes).sum();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let read = |disk| {
            let done = &done;
            scope.spawn(move || surface::read(disk, pace, stop, done, health::of))
        };
        let readers: Vec<_> = disks.iter().map(read).collect();
        let mut said: Option<(Instant, u8)> = None;
        while readers.iter().any(|reader| !reader.is_finished()) {
            std::thread::sleep(Duration::from_millis(200));
            let percent = done.load(Ordering::Relaxed).saturating_mul(100) / all.max(1);
            let percent = u8::try_from(percent).unwrap_or(100).min(100);
            if said.is_none_or(|(at, last)| at.elapsed() >= PAUSE && last != percent) {
                said = Some((Instant::now(), percent));
                hear(percent);
            }
        }
        readers.into_iter().filter_map(|reader| reader.join().ok()).collect()
    })
}
