//! The leases: the pool in memory, and the file that has them before a machine hears of them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pxe::{MacAddr, Refused};

use super::lease_file::{Entry, LeaseFile, LeaseFileError, NotWritten, Read};
use super::pool::{Commit, Pool, QUARANTINE_SECS, Range};

/// What a machine is told whose renewal cannot be written down, as the disk is full.
const UNWRITTEN_SECS: u32 = 600;

pub struct Leases {
    pool: Mutex<Pool>,
    file: LeaseFile,
    range: Range,
    /// What machines are told.
    secs: u32,
}

impl Leases {
    /// Opens the file; the second value is what a person should know about it.
    pub fn open(
        path: &Path,
        range: Range,
        reserved: &[Ipv4Addr],
        secs: u32,
    ) -> Result<(Self, Vec<String>), LeaseFileError> {
        let mut pool = Pool::new(range, reserved.iter().copied());
        let (file, read) = LeaseFile::open(path, |read| {
            restore(&mut pool, read);
            let leases = pool.leases();
            let mut kept: Vec<Entry> = leases
                .map(|(mac, lease)| Entry::Lease { address: lease.address, mac: *mac, end: lease.end })
                .collect();
            let resting = pool.quarantined();
            kept.extend(resting.map(|(address, end)| Entry::Quarantine { address: *address, end: *end }));
            // Another run with another range finds its leases again.
            kept.extend(read.entries.iter().filter(|entry| !range.contains(entry.address())));
            kept
        })?;
        let mut remarks = read.remarks;
        if let Some(aside) = read.aside {
            remarks.push(format!("The file as it was is kept as {}.", aside.display()));
        }
        Ok((Self { pool: Mutex::new(pool), file, range, secs }, remarks))
    }

    pub fn known(&self) -> usize {
        self.lock().leases().count()
    }

    /// Whether this NIC has an address that is its own for now.
    pub fn knows(&self, mac: MacAddr) -> bool {
        self.lock().get(mac).is_some_and(|lease| lease.end > now())
    }

    pub fn holder(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.lock().holder(address)
    }

    /// The address for a client that asks, and how long it will be its own.
    pub fn offer(&self, mac: MacAddr, wish: Option<Ipv4Addr>) -> Result<(Ipv4Addr, u32), Refused> {
        let address = self.lock().offer(mac, wish, now()).ok_or_else(|| self.none_left())?;
        Ok((address, self.secs))
    }

    /// Returns when the file on the disk says that the address is the client's.
    pub async fn commit(&self, mac: MacAddr, wish: Option<Ipv4Addr>) -> Result<(Ipv4Addr, u32), Refused> {
        let (address, line, undo) = {
            let mut pool = self.lock();
            let now = now();
            let before = pool.get(mac);
            match pool.commit(mac, wish, now, u64::from(self.secs)).ok_or_else(|| self.none_left())? {
                Commit::Other(address) => return Ok((address, self.secs)),
                // Its line may be on its way to the disk, for an earlier packet.
                Commit::Kept(lease) => (lease.address, lease.line, None),
                Commit::New(address) | Commit::Renewed(address) => {
                    let end = now + 2 * u64::from(self.secs);
                    // Queued under the pool's lock: lines of one address stand in the file as they came about.
                    let line = self.file.append(&Entry::Lease { address, mac, end });
                    pool.lease(mac, address, end, line);
                    (address, line, Some(before))
                }
            }
        };
        match (self.file.durable(line).await, undo) {
            (Ok(()), _) => Ok((address, self.secs)),
            (Err(NotWritten::Full), Some(before)) => {
                self.lock().undo(mac, line, before);
                self.file.forget(line);
                match before {
                    Some(_) => Ok((address, UNWRITTEN_SECS.min(self.secs))),
                    None => Err(Refused(format!("no address for a new machine: {}", NotWritten::Full))),
                }
            }
            (Err(error), _) => Err(Refused(error.to_string())),
        }
    }

    /// Says whether the address was this client's.
    pub async fn quarantine(&self, mac: MacAddr, address: Ipv4Addr) -> bool {
        let end = now() + QUARANTINE_SECS;
        let line = {
            let mut pool = self.lock();
            if !pool.quarantine(mac, address, end) {
                return false;
            }
            self.file.append(&Entry::Quarantine { address, end })
        };
        // Nobody is told of it, so it only has to be written, and may be lost on a full disk.
        let _ = self.file.durable(line).await;
        self.file.forget(line);
        true
    }

    /// Returns when leases cannot be written any more: what is on the disk is not known then.
    pub async fn broken(&self) -> String {
        self.file.broken().await
    }

    fn none_left(&self) -> Refused {
        Refused(format!("every address of {} is in use", self.range))
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.file.close();
    }
}

impl Entry {
    fn address(&self) -> Ipv4Addr {
        match self {
            Entry::Lease { address, .. } | Entry::Quarantine { address, .. } => *address,
        }
    }
}

fn restore(pool: &mut Pool, read: &Read) {
    for entry in &read.entries {
        match *entry {
            Entry::Lease { address, mac, end } => pool.restore(mac, address, end),
            Entry::Quarantine { address, end } => pool.restore_quarantine(address, end),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range = Range { first: Ipv4Addr::new(10, 0, 0, 2), last: Ipv4Addr::new(10, 0, 0, 5) };

    fn mac(number: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, number])
    }

    fn open(path: &Path) -> Leases {
        for _ in 0..200 {
            match Leases::open(path, RANGE, &[], 3600) {
                Ok((leases, _)) => return leases,
                Err(LeaseFileError::InUse(_)) => std::thread::sleep(std::time::Duration::from_millis(10)),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the lock is not given up");
    }

    #[tokio::test]
    async fn addresses_stay_through_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        let leases = open(&path);
        let fourth = Ipv4Addr::new(10, 0, 0, 4);
        let wish = Some(fourth);
        assert_eq!(leases.offer(mac(1), wish).unwrap().0, fourth);
        assert_eq!(leases.commit(mac(1), wish).await, Ok((fourth, 3600)));
        let second = leases.commit(mac(2), None).await.unwrap().0;
        assert!(leases.quarantine(mac(2), second).await);
        let third = leases.commit(mac(2), None).await.unwrap().0;
        assert_ne!(second, third);
        drop(leases);

        let leases = open(&path);
        assert_eq!(leases.known(), 2);
        assert_eq!(leases.commit(mac(1), None).await, Ok((fourth, 3600)));
        assert_eq!(leases.commit(mac(2), None).await, Ok((third, 3600)));
        let last = leases.commit(mac(3), None).await.unwrap().0;
        assert_ne!(second, last, "it rests, also after a restart");
        let refused = leases.commit(mac(4), None).await.unwrap_err();
        assert_eq!(refused.to_string(), "every address of 10.0.0.2-10.0.0.5 is in use");
        drop(leases);

        // Another range for a while, and back.
        let other = Range { first: Ipv4Addr::new(10, 9, 0, 2), last: Ipv4Addr::new(10, 9, 0, 5) };
        std::thread::sleep(std::time::Duration::from_millis(50));
        let (leases, _) = Leases::open(&path, other, &[], 3600).unwrap();
        assert_eq!(leases.known(), 0);
        drop(leases);
        assert_eq!(open(&path).known(), 3);
    }
}
