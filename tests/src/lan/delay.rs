//! Frames on a slow cable: held in order of when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::Switch;

/// What one slow LAN may hold before it drops, as a full queue does.
const HELD_MAX: usize = 20_000;

pub(super) struct DelayLine {
    held: Arc<(Mutex<Held>, Condvar)>,
}

#[derive(Default)]
struct Held {
    frames: BinaryHeap<Reverse<Late>>,
    count: u64,
    ended: bool,
}

/// Ordered by when it is due, then by when it came.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    number: u64,
    to: usize,
    frame: Vec<u8>,
}

impl DelayLine {
    pub(super) fn start(switch: Weak<Switch>) -> DelayLine {
        let held = Arc::new((Mutex::new(Held::default()), Condvar::new()));
        let line = DelayLine { held: held.clone() };
        thread::spawn(move || {
            while let Some(late) = next(&held.0, &held.1) {
                let Some(switch) = switch.upgrade() else { return };
                let ports = switch.ports.read().unwrap_or_else(PoisonError::into_inner);
                ports[late.to].send(&late.frame);
            }
        });
        line
    }

    pub(super) fn push(&self, delay: Duration, to: usize, frame: &[u8]) {
        let mut held = self.held.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.frames.len() >= HELD_MAX {
            return;
        }
        held.count += 1;
        let number = held.count;
        held.frames.push(Reverse(Late { due: Instant::now() + delay, number, to, frame: frame.to_vec() }));
        self.held.1.notify_one();
    }

    pub(super) fn end(&self) {
        self.held.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.held.1.notify_one();
    }
}

/// Waits for the next frame that is due; `None` when the LAN has ended.
fn next(held: &Mutex<Held>, changed: &Condvar) -> Option<Late> {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if held.ended {
            return None;
        }
        let wait = held.frames.peek().map(|Reverse(late)| late.due.saturating_duration_since(Instant::now()));
        held = match wait {
            Some(Duration::ZERO) => return held.frames.pop().map(|Reverse(late)| late),
            Some(wait) => changed.wait_timeout(held, wait).unwrap_or_else(PoisonError::into_inner).0,
            None => changed.wait(held).unwrap_or_else(PoisonError::into_inner),
        };
    }
}
