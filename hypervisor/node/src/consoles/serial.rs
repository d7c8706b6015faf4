//! A serial console that several look at.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc};

/// So much of what was said before is shown.
const PAST: usize = 64 << 10;
const PIECE: usize = 4 << 10;
/// Pieces that one who looks may be behind; then some are left out. A machine never waits for who looks at it.
const BEHIND: usize = 256;
/// Pieces that were typed and that the machine has not taken yet.
const TYPED: usize = 16;

pub struct Serial {
    typed: mpsc::Sender<Vec<u8>>,
    said: Mutex<Said>,
}

struct Said {
    past: VecDeque<u8>,
    /// Gone when the machine has closed its side.
    shown: Option<broadcast::Sender<Arc<[u8]>>>,
}

impl Serial {
    /// A console with what `log` ends with as its past. It is closed when nobody holds it any more.
    pub fn open(socket: UnixStream, log: Option<&Path>) -> Arc<Self> {
        // A log that cannot be read is no reason not to show what comes.
        let past = log.and_then(|log| end_of(log).ok()).unwrap_or_default();
        let (typed, take) = mpsc::channel(TYPED);
        let said = Said { past: past.into(), shown: Some(broadcast::Sender::new(BEHIND)) };
        let serial = Arc::new(Self { typed, said: Mutex::new(said) });
        tokio::spawn(pump(socket, take, Arc::downgrade(&serial)));
        serial
    }

    pub fn is_open(&self) -> bool {
        self.said().shown.is_some()
    }

    /// Shows it on `line` and takes what is typed there, until one of both ends.
    pub async fn carry(&self, line: impl AsyncRead + AsyncWrite) {
        let (past, shown) = {
            let said = self.said();
            (Vec::from(said.past.clone()), said.shown.as_ref().map(broadcast::Sender::subscribe))
        };
        let Some(shown) = shown else { return };
        let (from, mut to) = tokio::io::split(line);
        tokio::select! {
            _ = show(&past, shown, &mut to) => {}
            _ = self.take(from) => {}
        }
        let _ = to.shutdown().await;
    }

    async fn take(&self, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let length = from.read(&mut piece).await?;
            if length == 0 || self.typed.send(piece[..length].to_owned()).await.is_err() {
                return Ok(());
            }
        }
    }

    fn say(&self, piece: &[u8]) {
        let mut said = self.said();
        said.past.extend(piece);
        let surplus = said.past.len().saturating_sub(PAST);
        said.past.drain(..surplus);
        if let Some(shown) = &said.shown {
            // Nobody may be looking just now.
            let _ = shown.send(piece.into());
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn show(
    past: &[u8],
    mut shown: broadcast::Receiver<Arc<[u8]>>,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    to.write_all(past).await?;
    loop {
        to.flush().await?;
        match shown.recv().await {
            Ok(piece) => to.write_all(&piece).await?,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                to.write_all(b"\r\n[it says more than can be shown; some was left out]\r\n").await?;
            }
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

/// Between the machine and all that look. Ends with the machine, or when nobody looks any more.
async fn pump(socket: UnixStream, mut typed: mpsc::Receiver<Vec<u8>>, serial: Weak<Serial>) {
    let (mut from, mut to) = socket.into_split();
    let write = async {
        while let Some(piece) = typed.recv().await {
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let Some(serial) = serial.upgrade() else { return };
            serial.say(&piece[..length]);
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
    if let Some(serial) = serial.upgrade() {
        serial.said().shown = None;
    }
}

fn end_of(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(PAST as u64)))?;
    let mut end = Vec::new();
    // It grows while it is read.
    file.take(PAST as u64).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::DuplexStream;
    use tokio::net::UnixListener;

    use super::*;

    /// A machine's side of its console, and who looks at it.
    async fn machine(log: Option<&str>) -> (tempfile::TempDir, UnixStream, Arc<Serial>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("v1.log");
        if let Some(log) = log {
            std::fs::write(&file, log).unwrap();
        }
        let listener = UnixListener::bind(dir.path().join("v1")).unwrap();
        let socket = UnixStream::connect(dir.path().join("v1")).await.unwrap();
        let (machine, _) = listener.accept().await.unwrap();
        (dir, machine, Serial::open(socket, Some(&file)))
    }

    fn look(serial: &Arc<Serial>) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        let serial = Arc::clone(serial);
        tokio::spawn(async move { serial.carry(theirs).await });
        ours
    }

    async fn reads(stream: &mut (impl AsyncRead + Unpin), wanted: &str) {
        let mut read = vec![0; wanted.len()];
        let in_time = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut read)).await;
        in_time.expect(wanted).unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), wanted);
    }

    #[tokio::test]
    async fn who_looks_sees_the_past_and_what_comes_and_all_type_into_one() {
        let (_dir, mut machine, serial) = machine(Some("Debian 13\r\nlogin: ")).await;
        let (mut one, mut other) = (look(&serial), look(&serial));
        reads(&mut one, "Debian 13\r\nlogin: ").await;
        reads(&mut other, "Debian 13\r\nlogin: ").await;
        one.write_all(b"root").await.unwrap();
        reads(&mut machine, "root").await;
        other.write_all(b"\r").await.unwrap();
        reads(&mut machine, "\r").await;
        machine.write_all(b"Password: ").await.unwrap();
        reads(&mut one, "Password: ").await;
        reads(&mut other, "Password: ").await;
        // Who comes later sees what was said meanwhile, too.
        reads(&mut look(&serial), "Debian 13\r\nlogin: Password: ").await;

        drop(machine);
        assert_eq!(one.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!serial.is_open());
    }

    #[tokio::test]
    async fn a_machine_does_not_wait_for_who_does_not_read() {
        let (_dir, mut machine, serial) = machine(None).await;
        let mut slow = look(&serial);
        let mut quick = look(&serial);
        let reading = tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut piece = [0; 4096];
            while !seen.ends_with(b"the end") {
                let length = quick.read(&mut piece).await.unwrap();
                assert_ne!(length, 0);
                seen.extend(&piece[..length]);
                seen.drain(..seen.len().saturating_sub(100));
            }
        });
        let line = vec![b'.'; 1 << 20];
        for _ in 0..8 {
            let written = tokio::time::timeout(Duration::from_secs(60), machine.write_all(&line)).await;
            written.expect("the machine waits").unwrap();
        }
        machine.write_all(b"the end").await.unwrap();
        reading.await.unwrap();
        assert!(serial.said().past.len() <= PAST);
        let mut seen = Vec::new();
        let mut piece = [0; 4096];
        while !seen.ends_with(b"the end") {
            let length = slow.read(&mut piece).await.unwrap();
            seen.extend(&piece[..length]);
        }
        let left_out = String::from_utf8_lossy(&seen).contains("some was left out");
        assert!(left_out && seen.len() < 4 << 20, "{}", seen.len());
    }

    #[tokio::test]
    async fn nobody_who_looks_means_that_the_machine_is_let_go() {
        let (_dir, mut machine, serial) = machine(None).await;
        let one = look(&serial);
        drop((one, serial));
        let closed = tokio::time::timeout(Duration::from_secs(10), machine.read(&mut [0; 8])).await;
        assert_eq!(closed.expect("it is still held").unwrap(), 0);
    }
}
