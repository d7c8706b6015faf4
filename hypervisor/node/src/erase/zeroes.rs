//! Zeroes, from the first block to the last.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::aligned::Buffer;

const CHUNK: usize = 4 << 20;

/// Each line of the timeline says something new.
const PAUSE: Duration = Duration::from_secs(10);

/// Hears how many percent are done.
pub(super) fn write(disk: &File, bytes: u64, hear: &mut dyn FnMut(u8)) -> anyhow::Result<()> {
    let mut buffer = Buffer::of(CHUNK);
    let (mut said, mut percent) = (Instant::now(), 0);
    let mut done = 0;
    while done < bytes {
        let size = (CHUNK as u64).min(bytes - done);
        let chunk = &buffer.bytes()[..usize::try_from(size)?];
        let written = disk.write_at(chunk, done).with_context(|| so_far(done, bytes))?;
        if written == 0 {
            bail!("{}: the disk takes no more", so_far(done, bytes));
        }
        done += written as u64;
        let now = u8::try_from(done.saturating_mul(100) / bytes.max(1)).unwrap_or(100);
        if now != percent && (said.elapsed() >= PAUSE || done == bytes) {
            (said, percent) = (Instant::now(), now);
            hear(now);
        }
    }
    disk.sync_all().with_context(|| so_far(done, bytes))
}

/// `after 3.1 of 21.5 GB`
fn so_far(done: u64, bytes: u64) -> String {
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    format!("after {:.1} of {:.1} GB", gigabytes(done), gigabytes(bytes))
}
