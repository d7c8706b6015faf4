//! One disk, from its first byte to its last.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleet::wire::{Disk, DiskChecked, Health, KnownDisk};
use nix::libc;

use crate::aligned::Buffer;

/// Read at once; what cannot be read is told in parts of it.
const PART: u64 = 1 << 20;

/// Of those that cannot be read, so many are named.
const NAMED: usize = 100;

/// A disk that is so broken may take minutes for each further part.
const ENOUGH: u64 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the disk can.
    Full,
    /// Half of its time is for others.
    Polite,
}

pub(super) fn read(
    disk: &Disk,
    pace: Pace,
    stop: &AtomicBool,
    done: &AtomicU64,
    health: impl Fn(&Path) -> Option<Health>,
) -> DiskChecked {
    let begin = Instant::now();
    let mut checked = DiskChecked {
        disk: KnownDisk::of(disk),
        bytes_read: 0,
        seconds: 0,
        unreadable: Vec::new(),
        unreadable_parts: 0,
        error: None,
        health: None,
    };
    let path = Path::new(&disk.path);
    match open(path) {
        Ok(file) => go_over(&file, disk.bytes, pace, stop, done, &mut checked),
        Err(error) => checked.error = Some(format!("it cannot be opened: {error}")),
    }
    checked.seconds = begin.elapsed().as_secs();
    // Afterwards: what it met on the way is in it.
    checked.health = health(path);
    checked
}

fn go_over(
    file: &impl ReadAt,
    bytes: u64,
    pace: Pace,
    stop: &AtomicBool,
    done: &AtomicU64,
    checked: &mut DiskChecked,
) {
    let mut buffer = Buffer::of(usize::try_from(PART).unwrap_or_default());
    let mut offset = 0;
    while offset < bytes {
        if stop.load(Ordering::Relaxed) {
            checked.error = Some("it was stopped".to_owned());
            return;
        }
        let size = PART.min(bytes - offset);
        let part = &mut buffer.bytes()[..usize::try_from(size).unwrap_or_default()];
        let began = Instant::now();
        match file.read_whole(part, offset) {
            Ok(()) => checked.bytes_read += size,
            // Pulled out, or its controller gave it up: nothing further comes of it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) => {
                checked.error = Some(format!("at byte {offset} it is gone: {error}"));
                return;
            }
            Err(_) => {
                checked.unreadable_parts += 1;
                if checked.unreadable.len() < NAMED {
                    checked.unreadable.push(offset);
                }
                if checked.unreadable_parts >= ENOUGH {
                    checked.error =
                        Some(format!("{ENOUGH} MiB of it could not be read before byte {offset}"));
                    return;
                }
            }
        }
        if pace == Pace::Polite {
            std::thread::sleep(began.elapsed().min(Duration::from_secs(1)));
        }
        offset += size;
        done.fetch_add(size, Ordering::Relaxed);
    }
}

/// A disk may be in use: it is only read.
fn open(path: &Path) -> io::Result<File> {
    let with = |flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    // Past the kernel's cache, which says nothing of the disk and is needed for others.
    match with(libc::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => with(0),
        opened => opened,
    }
}

trait ReadAt {
    fn read_whole(&self, part: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_whole(&self, part: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(part, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cannot be read in these parts; is gone from this byte on.
    struct Broken(Vec<u64>, u64);

    impl ReadAt for Broken {
        fn read_whole(&self, _: &mut [u8], offset: u64) -> io::Result<()> {
            match () {
                () if offset >= self.1 => Err(io::Error::from_raw_os_error(libc::ENODEV)),
                () if self.0.contains(&(offset / PART)) => Err(io::Error::from_raw_os_error(libc::EIO)),
                () => Ok(()),
            }
        }
    }

    fn disk(path: &str, bytes: u64) -> Disk {
        Disk {
            path: path.to_owned(),
            by_id: None,
            serial: Some("S".to_owned()),
            model: None,
            bytes,
            rotational: false,
            removable: false,
            contents: Vec::new(),
        }
    }

    fn gone_over(file: &impl ReadAt, bytes: u64, stop: bool) -> DiskChecked {
        let mut checked =
            read(&disk("/nowhere", bytes), Pace::Full, &AtomicBool::new(false), &AtomicU64::new(0), |_| None);
        assert!(checked.error.take().unwrap().contains("cannot be opened"));
        go_over(file, bytes, Pace::Full, &AtomicBool::new(stop), &AtomicU64::new(0), &mut checked);
        checked
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_read() {
        let checked = gone_over(&Broken(vec![3, 7], u64::MAX), 10 * PART + 512, false);
        assert_eq!(checked.unreadable, [3 * PART, 7 * PART]);
        assert_eq!((checked.unreadable_parts, checked.bytes_read), (2, 8 * PART + 512));
        assert_eq!(checked.error, None);
    }

    #[test]
    fn a_disk_that_is_broken_all_over_or_gone_is_given_up() {
        let checked = gone_over(&Broken((0..2000).collect(), u64::MAX), 2000 * PART, false);
        assert_eq!((checked.unreadable_parts, checked.unreadable.len()), (ENOUGH, NAMED));
        assert!(checked.trouble().unwrap().contains("not read to its end"));
        let checked = gone_over(&Broken(Vec::new(), 5 * PART), 10 * PART, false);
        assert_eq!((checked.bytes_read, checked.unreadable_parts), (5 * PART, 0));
        assert!(checked.error.unwrap().contains("it is gone"));
        let checked = gone_over(&Broken(Vec::new(), u64::MAX), 10 * PART, true);
        assert_eq!((checked.bytes_read, checked.error.as_deref()), (0, Some("it was stopped")));
    }

    #[test]
    fn a_whole_file_is_read_past_the_cache() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 * PART + 4096).unwrap();
        let path = file.path().to_str().unwrap();
        let done = AtomicU64::new(0);
        let checked =
            read(&disk(path, 3 * PART + 4096), Pace::Polite, &AtomicBool::new(false), &done, |_| None);
        assert_eq!((checked.bytes_read, checked.error.as_deref()), (3 * PART + 4096, None));
        assert_eq!(done.into_inner(), 3 * PART + 4096);
        assert_eq!(checked.trouble(), None);
    }
}
