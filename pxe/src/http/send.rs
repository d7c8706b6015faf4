//! A file on its way into a connection.

use std::{fs::File, io, num::NonZeroUsize, os::unix::fs::FileExt, sync::Arc, time::Duration};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::time::{Instant, sleep, timeout};

use super::{admission::Turn, response::Part, select::Version, stream::Stream};
use crate::transfer::Transfer;

/// Sent at most in one go.
const CHUNK: u64 = 2 << 20;
/// Sent at most before other connections on the same thread are looked at: some 60 ms over loopback, and never reached
/// by a client that is slower than we are. Each such look moves the transfer to another thread.
const AT_A_STRETCH: u64 = 128 << 20;
/// Every second, to who waits. EDK2 gives up after 5 seconds without a byte, GRUB after 16; libdnf, which installs
/// Fedora and its kin, at less than 1000 bytes a second for 30 seconds.
const TRICKLE: u64 = 4096;
const TRICKLE_EVERY: Duration = Duration::from_secs(1);
/// A client that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(300);
/// Who takes less than so much in such a time, or nothing for [`IDLE`], lets others go first.
const LEAST: u64 = 1 << 20;
const LEAST_IN: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(5);

/// Why a transfer ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the connection ended")]
    Client(#[source] io::Error),
    #[error("the client took nothing for {} minutes", PATIENCE.as_secs() / 60)]
    Stalled,
    #[error("the file became shorter")]
    Shorter,
    #[error("the file was changed meanwhile")]
    Changed,
    #[error("reading the file")]
    Read(#[source] io::Error),
}

/// Sends all of `part`, when it is its turn. `transfer` counts what is out. `waits` is told the place of one that waits,
/// at the beginning and whenever it has halved.
pub async fn send(
    stream: &mut Stream,
    part: Part,
    mut turn: Option<Turn>,
    transfer: &mut Transfer,
    mut waits: impl FnMut(usize),
) -> Result<(), Broken> {
    let Part { file, version, start, end, .. } = part;
    let file = Arc::new(file);
    let mut sending = Sending {
        stream,
        file,
        version,
        offset: start,
        end,
        warm: start,
        turn_ends: start + AT_A_STRETCH,
        since: Instant::now(),
    };
    sending.stream.begin();
    while sending.offset < end {
        if let Some(turn) = &turn {
            let mut told = usize::MAX;
            while let Some(place) = turn.place() {
                if place <= told / 2 {
                    waits(place);
                    told = place;
                }
                // The last bytes are not for the trickle: who has them all needs no turn.
                let most = TRICKLE.min(sending.end - sending.offset);
                transfer.count(sending.step(most, TRICKLE_EVERY).await?);
                tokio::select! {
                    () = turn.comes() => break,
                    () = sleep(TRICKLE_EVERY) => if sending.offset == end { break },
                }
            }
        }
        let (begun, from) = (Instant::now(), sending.offset);
        loop {
            let sent = sending.step(CHUNK, IDLE).await?;
            transfer.count(sent);
            if sending.offset == end {
                break;
            }
            let Some(turn) = &mut turn else { continue };
            let over = begun.elapsed() >= LEAST_IN;
            if sent == 0 || over && sending.offset - from < LEAST {
                turn.give_way();
            }
            if sent == 0 || over {
                break;
            }
        }
    }
    sending.stream.finish().await.map_err(Broken::Client)
}

struct Sending<'a> {
    stream: &'a mut Stream,
    file: Arc<File>,
    version: Version,
    offset: u64,
    end: u64,
    /// What is before it is in the page cache.
    warm: u64,
    /// Where others have their go.
    turn_ends: u64,
    /// When the client last took something.
    since: Instant,
}

impl Sending<'_> {
    /// Sends up to `most` bytes and returns how many; none if the client takes nothing for `limit`.
    async fn step(&mut self, most: u64, limit: Duration) -> Result<usize, Broken> {
        if self.offset >= self.warm {
            self.warm = (self.offset + CHUNK).min(self.end);
            warm(&self.file, self.offset, self.warm).await;
            // A client as fast as we are would keep this thread from everybody else.
            if self.warm >= self.turn_ends {
                self.turn_ends = self.warm + AT_A_STRETCH;
                tokio::task::yield_now().await;
            }
        }
        let most = most.min(self.warm - self.offset);
        // The end goes out only if it is still that of the same file. What was written over meanwhile is of no use.
        if self.offset + most == self.end {
            self.check()?;
        }
        let Some(most) = usize::try_from(most).ok().and_then(NonZeroUsize::new) else { return Ok(0) };
        match timeout(limit, self.stream.send(&self.file, self.offset, most)).await {
            Ok(Ok(0)) => Err(Broken::Shorter),
            Ok(Ok(sent)) => {
                self.offset += sent as u64;
                self.since = Instant::now();
                Ok(sent)
            }
            Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => Err(Broken::Read(error)),
            Ok(Err(error)) => Err(Broken::Client(error)),
            Err(_) if self.since.elapsed() >= PATIENCE => Err(Broken::Stalled),
            Err(_) => Ok(0),
        }
    }

    fn check(&self) -> Result<(), Broken> {
        let now = self.file.metadata().map_err(Broken::Read)?;
        if now.len() < self.end {
            Err(Broken::Shorter)
        } else if Version::of(&now) != self.version {
            Err(Broken::Changed)
        } else {
            Ok(())
        }
    }
}

/// Returns when the bytes from `start` to before `end` are in the page cache, as far as that can be told, so that sending
/// them keeps no thread of the runtime waiting for a disk.
async fn warm(file: &Arc<File>, start: u64, end: u64) {
    let cached = |at: u64| {
        let byte = &mut [0];
        let mut buffers = [io::IoSliceMut::new(byte)];
        // A file system that cannot tell (EOPNOTSUPP) is taken as it comes.
        rustix::io::preadv2(file, &mut buffers, at, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN)
    };
    if start >= end || cached(start) && cached(end - 1) {
        return;
    }
    let file = Arc::clone(file);
    let read = move || {
        // The disk goes on with what comes next while this is sent.
        let ahead = i64::try_from(4 * CHUNK).unwrap_or(0);
        if let Ok(start) = i64::try_from(start) {
            // Only advice.
            let _ = posix_fadvise(&file, start, ahead, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
        }
        let (mut at, mut buffer) = (start, vec![0; 128 << 10]);
        while at < end {
            match file.read_at(&mut buffer, at) {
                // An error is found again, and told, by who sends it.
                Ok(0) | Err(_) => break,
                Ok(read) => at += read as u64,
            }
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(read).await {
        tracing::debug!("Reading a boot file ahead: {error}");
    }
}
