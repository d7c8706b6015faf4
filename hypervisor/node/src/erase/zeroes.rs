//! Zeroes, from the first block to the last.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

const CHUNK: usize = 4 << 20;

/// What O_DIRECT wants of every disk there is.
const ALIGNMENT: usize = 4096;

/// Each line of the timeline says something new.
const PAUSE: Duration = Duration::from_secs(10);

/// Memory that a disk reads and writes without a copy.
pub(super) struct Buffer {
    memory: Vec<u8>,
    begin: usize,
    size: usize,
}

impl Buffer {
    pub fn of(size: usize) -> Buffer {
        let memory = vec![0; size + ALIGNMENT];
        let begin = memory.as_ptr().align_offset(ALIGNMENT);
        Buffer { memory, begin, size }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + self.size]
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned() {
        for size in [512, CHUNK] {
            let mut buffer = Buffer::of(size);
            assert_eq!((buffer.bytes().as_ptr() as usize % ALIGNMENT, buffer.bytes().len()), (0, size));
        }
    }
}
