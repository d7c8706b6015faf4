//! The lease file: text, a line for each lease that was given or renewed, the last one of an address holds.
//!
//! ```text
//! elisandra leases 1
//! 10.0.0.5 52:54:00:12:34:56 1795255200 9f86d081      address, NIC, end in seconds since 1970, checksum
//! 10.0.0.9 quarantine 1795255200 60303ae2             another machine answers to it
//! ```
//! The checksum is the first four bytes of the SHA-256 of what stands before it.
//!
//! One thread writes. Everybody who waits when it comes back from the disk shares its next fdatasync, so a thousand
//! machines at once cost some tens of them and not a thousand.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pxe::MacAddr;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

const HEADER: &str = "elisandra leases 1";

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Lease { address: Ipv4Addr, mac: MacAddr, end: u64 },
    Quarantine { address: Ipv4Addr, end: u64 },
}

/// Why there are no leases to work with.
#[derive(Debug, thiserror::Error)]
pub enum LeaseFileError {
    #[error("{what} {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0} is in use by another elisandra; each needs a lease file of its own (--leases FILE)")]
    InUse(PathBuf),
    #[error(
        "{0} is not a lease file: its first line is not \"{HEADER}\"; move it away, or name another (--leases FILE)"
    )]
    Foreign(PathBuf),
}

/// What was read at the start.
#[derive(Debug, Default)]
pub struct Read {
    pub entries: Vec<Entry>,
    /// Sentences about lines that could not be read.
    pub remarks: Vec<String>,
    /// Some lines in the middle were wrong: the file was put aside as it was.
    pub aside: Option<PathBuf>,
}

/// Why a line is not on the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    #[error("the disk of the lease file is full")]
    Full,
    /// What the disk has is not known: the process has to end and read the file again.
    #[error("the lease file cannot be written any more: {0}")]
    Broken(String),
}

/// The open file; clones share it.
#[derive(Clone)]
pub struct LeaseFile {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    broken: tokio::sync::watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// The number of the last line that was queued, and of the last that is on the disk or was given up.
    queued: u64,
    durable: u64,
    /// Lines that were given up because the disk is full, until whoever queued them has undone what they say.
    lost: BTreeSet<u64>,
    waiting: Vec<(u64, oneshot::Sender<Result<(), NotWritten>>)>,
    broken: Option<NotWritten>,
    closed: bool,
}

/// What the writer's thread has.
struct Writer {
    file: File,
    /// The lock on the file as it was before it was made compact: an elisandra that opened that one has to see it.
    _before: File,
    length: u64,
    path: PathBuf,
    full: bool,
}

impl LeaseFile {
    /// Reads the file if there is one, and begins a compact one in its place. `keep` says what goes into it.
    pub fn open(path: &Path, keep: impl FnOnce(&Read) -> Vec<Entry>) -> Result<(Self, Read), LeaseFileError> {
        let io = |what| move |source| LeaseFileError::Io { what, path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(io("making the folder of"))?;
        }
        let before = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("opening the lease file"))?;
        lock(&before, path)?;
        let mut read = read(&before, path)?;
        if read.aside.is_some() {
            let aside = path.with_added_extension("damaged");
            std::fs::copy(path, &aside).map_err(io("putting aside the damaged lease file"))?;
            read.aside = Some(aside);
        }
        let entries = keep(&read);

        let new = path.with_added_extension("new");
        let file = File::create(&new).map_err(io("making a new lease file beside"))?;
        lock(&file, path)?;
        let mut writer = BufWriter::new(&file);
        let written = writeln!(writer, "{HEADER}")
            .and_then(|()| entries.iter().try_for_each(|entry| writer.write_all(line(entry).as_bytes())))
            .and_then(|()| writer.flush());
        drop(writer);
        let length = written.and_then(|()| {
            file.sync_all()?;
            std::fs::rename(&new, path)?;
            // The name is as durable as what it stands for.
            File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
                .sync_all()?;
            (&file).stream_position()
        });
        let (file, length) = match length {
            Ok(length) => (file, length),
            // Nothing can be written: who is known is served from the file as it is.
            Err(error) if is_full(&error) && end_of_last_line(&before).is_ok_and(|end| end > 0) => {
                let _ = std::fs::remove_file(&new);
                read.remarks
                    .push(format!("The disk of {} is full: no new machine gets an address.", path.display()));
                let length = end_of_last_line(&before).map_err(io("reading"))?;
                (before.try_clone().map_err(io("opening the lease file"))?, length)
            }
            Err(source) => return Err(io("writing a new lease file beside")(source)),
        };

        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            broken: tokio::sync::watch::Sender::new(None),
        });
        let writer = Writer { file, _before: before, length, path: path.to_owned(), full: false };
        let of_writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("leases".to_owned())
            .spawn(move || of_writer.write(writer))
            .map_err(io("starting the thread that writes"))?;
        Ok((Self { shared }, read))
    }

    /// Queues a line and returns its number.
    pub fn append(&self, entry: &Entry) -> u64 {
        let line = line(entry);
        let mut queue = self.shared.lock();
        queue.lines.extend_from_slice(line.as_bytes());
        queue.queued += 1;
        self.shared.wake.notify_one();
        queue.queued
    }

    /// Returns when the line of this number is on the disk.
    pub async fn durable(&self, number: u64) -> Result<(), NotWritten> {
        let receiver = {
            let mut queue = self.shared.lock();
            if let Some(broken) = &queue.broken {
                return Err(broken.clone());
            }
            if queue.lost.contains(&number) {
                return Err(NotWritten::Full);
            }
            if number <= queue.durable {
                return Ok(());
            }
            let (sender, receiver) = oneshot::channel();
            queue.waiting.push((number, sender));
            self.shared.wake.notify_one();
            receiver
        };
        receiver.await.unwrap_or_else(|_| Err(NotWritten::Broken("its thread has ended".to_owned())))
    }

    /// Says that what a line said, which was given up, is undone.
    pub fn forget(&self, number: u64) {
        self.shared.lock().lost.remove(&number);
    }

    /// Returns when the file cannot be written any more, with the reason.
    pub async fn broken(&self) -> String {
        let mut broken = self.shared.broken.subscribe();
        match broken.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends the writer when everything that is queued is on the disk.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, mut writer: Writer) {
        let mut lines = Vec::new();
        loop {
            let (waiting, last) = {
                let mut queue = self.lock();
                while queue.lines.is_empty() && queue.waiting.is_empty() && !queue.closed {
                    queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                if queue.lines.is_empty() && queue.waiting.is_empty() {
                    return;
                }
                lines.clear();
                std::mem::swap(&mut lines, &mut queue.lines);
                (std::mem::take(&mut queue.waiting), queue.queued)
            };
            let written = if lines.is_empty() { Ok(()) } else { writer.append(&lines) };
            {
                let mut queue = self.lock();
                match &written {
                    Ok(()) => {}
                    Err(NotWritten::Full) => {
                        let given_up = queue.durable + 1..=last;
                        queue.lost.extend(given_up);
                    }
                    Err(error) => queue.broken = Some(error.clone()),
                }
                queue.durable = last;
                for (number, waiting) in waiting {
                    let answer = match &queue.broken {
                        Some(broken) => Err(broken.clone()),
                        None if queue.lost.contains(&number) => Err(NotWritten::Full),
                        None => Ok(()),
                    };
                    // Whoever waited may be gone, as when the server ends.
                    let _ = waiting.send(answer);
                }
            }
            if let Err(error @ NotWritten::Broken(_)) = written {
                self.broken.send_replace(Some(error.to_string()));
                return;
            }
        }
    }
}

impl Writer {
    fn append(&mut self, lines: &[u8]) -> Result<(), NotWritten> {
        let written = self.try_write(lines);
        match written {
            Ok(()) => self.length += lines.len() as u64,
            Err(error) if is_full(&error) => {
                if !std::mem::replace(&mut self.full, true) {
                    tracing::error!(
                        "The disk of {} is full: no new machine gets an address",
                        self.path.display()
                    );
                }
                // Half a line would spoil the next one.
                self.file.set_len(self.length).map_err(broken)?;
                return Err(NotWritten::Full);
            }
            Err(error) => return Err(broken(error)),
        }
        // A failed fdatasync may have thrown away what it could not write, and the next one would say nothing of it:
        // there is no second try.
        self.sync().map_err(broken)?;
        if std::mem::take(&mut self.full) {
            tracing::info!("{} can be written again", self.path.display());
        }
        Ok(())
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        // The place, and not the end: after a failure half of a line may stand there.
        self.file.seek(io::SeekFrom::Start(self.length))?;
        self.file.write_all(lines)
    }

    fn sync(&self) -> io::Result<()> {
        fail::fail_point!("leases-sync", |_| Err(io::Error::from(nix::errno::Errno::EIO)));
        self.file.sync_data()
    }
}

fn broken(error: io::Error) -> NotWritten {
    NotWritten::Broken(error.to_string())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn lock(file: &File, path: &Path) -> Result<(), LeaseFileError> {
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => LeaseFileError::InUse(path.to_owned()),
        std::fs::TryLockError::Error(source) => {
            LeaseFileError::Io { what: "locking", path: path.to_owned(), source }
        }
    })
}

fn line(entry: &Entry) -> String {
    let text = match entry {
        Entry::Lease { address, mac, end } => format!("{address} {mac} {end}"),
        Entry::Quarantine { address, end } => format!("{address} quarantine {end}"),
    };
    format!("{text} {}\n", checksum(&text))
}

fn checksum(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..4])
}

fn parse(line: &[u8]) -> Result<Entry, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not text")?;
    let (text, sum) = text.rsplit_once(' ').ok_or("it has no checksum")?;
    if checksum(text) != sum {
        return Err("its checksum is another");
    }
    let words: Vec<&str> = text.split(' ').collect();
    let [address, who, end] = words[..] else { return Err("it has other than four words") };
    let address = address.parse().map_err(|_| "its first word is not an address")?;
    let end = end.parse().map_err(|_| "its third word is not a number of seconds")?;
    if who == "quarantine" {
        return Ok(Entry::Quarantine { address, end });
    }
    let mac = who.parse().map_err(|_| "its second word is not a MAC address")?;
    Ok(Entry::Lease { address, mac, end })
}

/// Reads all lines. What stands after the last good one was being written when the power went, and nobody was told.
fn read(file: &File, path: &Path) -> Result<Read, LeaseFileError> {
    let mut read = Read::default();
    let mut wrong: Vec<(u64, &'static str)> = Vec::new();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(|source| LeaseFileError::Io {
            what: "reading",
            path: path.to_owned(),
            source,
        })?;
        if length == 0 {
            break;
        }
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        if number == 1 {
            // An empty file may have been made to be one; a piece of the header was never followed by a lease.
            let cut_short = !whole && HEADER.as_bytes().starts_with(&line);
            if line != HEADER.as_bytes() && !cut_short {
                return Err(LeaseFileError::Foreign(path.to_owned()));
            }
            continue;
        }
        match parse(&line).and_then(|entry| if whole { Ok(entry) } else { Err("it is cut short") }) {
            Ok(entry) => {
                if !wrong.is_empty() {
                    read.aside = Some(path.to_owned());
                }
                let named = wrong
                    .drain(..)
                    .map(|(number, why)| format!("Line {number} of {} is left out: {why}.", path.display()));
                read.remarks.extend(named);
                read.entries.push(entry);
            }
            Err(why) => wrong.push((number, why)),
        }
    }
    if let Some((number, why)) = wrong.first() {
        read.remarks.push(format!(
            "The end of {} was being written when the last run ended (line {number}: {why}); nobody was told of it.",
            path.display()
        ));
    }
    Ok(read)
}

fn end_of_last_line(mut file: &File) -> io::Result<u64> {
    let mut bytes = Vec::new();
    file.seek(io::SeekFrom::Start(0))?;
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(last: u8, end: u64) -> Entry {
        Entry::Lease { address: Ipv4Addr::new(10, 0, 0, last), mac: MacAddr([2, 0, 0, 0, 0, last]), end }
    }

    /// Waits for the lock, which the thread of the one that was closed before gives up when it ends.
    fn open(path: &Path) -> (LeaseFile, Read) {
        for _ in 0..1000 {
            match LeaseFile::open(path, |read| read.entries.clone()) {
                Ok(opened) => return opened,
                Err(LeaseFileError::InUse(_)) => std::thread::sleep(std::time::Duration::from_millis(10)),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the lock is not given up");
    }

    fn reopened(file: LeaseFile, path: &Path) -> (LeaseFile, Read) {
        file.close();
        open(path)
    }

    #[tokio::test]
    async fn what_is_durable_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/leases");
        let (file, read) = open(&path);
        assert_eq!((read.entries.len(), read.remarks.len()), (0, 0));
        let entries =
            [lease(2, 10), Entry::Quarantine { address: [10, 0, 0, 9].into(), end: 77 }, lease(2, 30)];
        let mut last = 0;
        for entry in &entries {
            last = file.append(entry);
        }
        file.durable(last).await.unwrap();
        file.durable(1).await.unwrap();
        assert!(matches!(LeaseFile::open(&path, |_| Vec::new()), Err(LeaseFileError::InUse(_))));
        let (_file, read) = reopened(file, &path);
        assert_eq!((&read.entries[..], read.remarks), (&entries[..], Vec::new()));
    }

    #[tokio::test]
    async fn a_torn_end_is_tolerated_and_wrong_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        let good = |last| line(&lease(last, 5));
        for torn in ["10.0.0.3 02:00", "\0\0\0\0\0\0", good(3).trim_end(), "10.0.0.3 02:00\n\0\0\0"] {
            std::fs::write(&path, format!("{HEADER}\n{}{torn}", good(2))).unwrap();
            let (file, read) = open(&path);
            assert_eq!(read.entries, [lease(2, 5)], "{torn:?}");
            assert!(read.remarks[0].contains("nobody was told"), "{:?}", read.remarks);
            assert_eq!(read.aside, None);
            let number = file.append(&lease(4, 9));
            file.durable(number).await.unwrap();
            let (file, read) = reopened(file, &path);
            assert_eq!(read.entries, [lease(2, 5), lease(4, 9)]);
            file.close();
            reopened(file, &path).0.close();
        }
        let changed = good(3).replace("10.0.0.3", "10.0.0.4");
        let text = format!("{HEADER}\n{}{changed}hello\n{}", good(2), good(5));
        let path = folder.path().join("others");
        std::fs::write(&path, &text).unwrap();
        let (_file, read) = open(&path);
        assert_eq!(read.entries, [lease(2, 5), lease(5, 5)]);
        assert!(
            read.remarks[0].contains("Line 3 of ") && read.remarks[0].contains("checksum"),
            "{:?}",
            read.remarks
        );
        assert!(read.remarks[1].contains("Line 4 of "), "{:?}", read.remarks);
        assert_eq!(std::fs::read_to_string(read.aside.unwrap()).unwrap(), text);

        let foreign = folder.path().join("foreign");
        std::fs::write(&foreign, "duid 00:01\n").unwrap();
        assert!(matches!(LeaseFile::open(&foreign, |_| Vec::new()), Err(LeaseFileError::Foreign(_))));
        assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "duid 00:01\n");
    }

    #[tokio::test]
    async fn many_who_wait_share_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = open(&folder.path().join("leases"));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..2000u64 {
            let file = file.clone();
            waiting.spawn(async move {
                let number = file.append(&lease(2, number));
                file.durable(number).await
            });
        }
        assert!(waiting.join_all().await.into_iter().all(|written| written == Ok(())));
        let (_file, read) = reopened(file, &folder.path().join("leases"));
        assert_eq!(read.entries.len(), 2000);
    }
}
