//! Reads ISO 9660 images (ECMA-119) with Rock Ridge names (IEEE P1282), without mounting them: kernels that carry
//! the appliance need not know the file system, and what reads an image from anywhere is better no kernel.
//!
//! Only files and folders come out of it. Links, devices and names that lead elsewhere are left out, and every place
//! that the image names is looked at before it is read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

const SECTOR: u64 = 2048;
/// The first sixteen sectors are for boot code.
const FIRST_DESCRIPTOR: u64 = 16;
/// The largest folder that is read whole.
const LARGEST_FOLDER: u64 = 16 << 20;
const DEEPEST: usize = 12;
const MOST_FILES: usize = 200_000;

#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    #[error("it is not an ISO 9660 image")]
    NotOne,
    #[error("it is cut short: {has} bytes of {wants}")]
    Truncated { has: u64, wants: u64 },
    #[error("the image is damaged: {0}")]
    Damaged(&'static str),
    #[error("reading the image")]
    Io(#[from] io::Error),
}

pub struct Iso {
    file: File,
    /// Of the volume, as it says itself.
    bytes: u64,
    pub label: String,
    root: Extent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    at: u64,
    bytes: u64,
}

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Without a leading slash; its parts are plain names.
    pub path: String,
    pub bytes: u64,
    extents: Vec<Extent>,
}

impl Iso {
    pub fn open(file: File) -> Result<Iso, IsoError> {
        let has = file.metadata()?.len();
        let mut descriptor = [0; SECTOR as usize];
        for sector in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + 16 {
            let read = file.read_exact_at(&mut descriptor, sector * SECTOR);
            if read.is_err() || descriptor[1..6] != *b"CD001" || descriptor[0] == 255 {
                return Err(IsoError::NotOne);
            }
            if descriptor[0] == 1 {
                let bytes = u64::from(le32(&descriptor, 80)) * SECTOR;
                if bytes > has {
                    return Err(IsoError::Truncated { has, wants: bytes });
                }
                let root = Extent {
                    at: u64::from(le32(&descriptor, 158)) * SECTOR,
                    bytes: u64::from(le32(&descriptor, 166)),
                };
                let label = String::from_utf8_lossy(&descriptor[40..72]).trim().to_owned();
                return Ok(Iso { file, bytes, label, root });
            }
        }
        Err(IsoError::NotOne)
    }

    /// All files, in the order of their paths.
    pub fn files(&self) -> Result<Vec<Entry>, IsoError> {
        let mut files = Vec::new();
        let mut folders = vec![(String::new(), self.root, 0)];
        let mut seen = 0;
        while let Some((folder, extent, depth)) = folders.pop() {
            if depth > DEEPEST {
                return Err(IsoError::Damaged("its folders are too deep, or contain themselves"));
            }
            for record in self.folder(extent)? {
                seen += 1;
                if seen > MOST_FILES {
                    return Err(IsoError::Damaged("it has more files than any installer"));
                }
                if !is_plain(&record.name) {
                    continue;
                }
                let path = match folder.as_str() {
                    "" => record.name,
                    folder => format!("{folder}/{}", record.name),
                };
                match record.kind {
                    RecordKind::Folder => folders.push((path, record.extents[0], depth + 1)),
                    RecordKind::File => {
                        let bytes = record.extents.iter().map(|extent| extent.bytes).sum();
                        files.push(Entry { path, bytes, extents: record.extents });
                    }
                    RecordKind::Other => {}
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(files)
    }

    /// The bytes of a file.
    pub fn read<'a>(&'a self, entry: &'a Entry) -> impl io::Read + 'a {
        let parts = entry.extents.iter().map(|extent| Part { file: &self.file, extent: *extent });
        parts.fold(Box::new(io::empty()) as Box<dyn io::Read + 'a>, |all, part| Box::new(all.chain(part)))
    }

    /// A small file as text.
    pub fn text(&self, entry: &Entry) -> Result<String, IsoError> {
        let mut bytes = Vec::new();
        self.read(entry).take(1 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn folder(&self, extent: Extent) -> Result<Vec<Record>, IsoError> {
        if extent.bytes > LARGEST_FOLDER {
            return Err(IsoError::Damaged("a folder of it is larger than any"));
        }
        let bytes = self.bytes_at(extent)?;
        let mut records: Vec<Record> = Vec::new();
        let mut continued = false;
        let mut at = 0;
        while at < bytes.len() {
            let length = usize::from(bytes[at]);
            if length == 0 {
                // Records do not cross sectors.
                at = (at / SECTOR as usize + 1) * SECTOR as usize;
                continue;
            }
            let record = bytes.get(at..at + length).ok_or(IsoError::Damaged("a folder of it ends early"))?;
            at += length;
            let Some((record, more)) = self.record(record)? else { continue };
            match records.last_mut() {
                // A file of more than 4 GiB has several records.
                Some(last) if continued && last.name == record.name => last.extents.extend(record.extents),
                Some(_) | None => records.push(record),
            }
            continued = more;
        }
        Ok(records)
    }

    /// A directory record (ECMA-119, 9.1), and whether another one continues its file. `None` for a folder itself and
    /// the one above it.
    fn record(&self, record: &[u8]) -> Result<Option<(Record, bool)>, IsoError> {
        let name_length = usize::from(*record.get(32).ok_or(IsoError::Damaged("a record is too short"))?);
        let name = record.get(33..33 + name_length).ok_or(IsoError::Damaged("a name is cut short"))?;
        if matches!(name, [0] | [1]) {
            return Ok(None);
        }
        let extent = Extent { at: u64::from(le32(record, 2)) * SECTOR, bytes: u64::from(le32(record, 10)) };
        if extent.at.checked_add(extent.bytes).is_none_or(|end| end > self.bytes) {
            return Err(IsoError::Damaged("a file of it lies behind its end"));
        }
        let flags = record[25];
        let area = record.get(33 + name_length + usize::from(name_length % 2 == 0)..).unwrap_or_default();
        let mut rock_ridge = RockRidge::default();
        self.system_use(area, &mut rock_ridge, 0)?;
        let name = match rock_ridge.name {
            Some(name) => name,
            None => plain_name(name),
        };
        let kind = match (rock_ridge.other, flags & 0x02 != 0) {
            (true, _) => RecordKind::Other,
            (false, true) => RecordKind::Folder,
            (false, false) => RecordKind::File,
        };
        Ok(Some((Record { name, kind, extents: vec![extent] }, flags & 0x80 != 0)))
    }

    /// Entries of the System Use Sharing Protocol (IEEE P1281).
    fn system_use(&self, mut area: &[u8], found: &mut RockRidge, depth: usize) -> Result<(), IsoError> {
        while let [a, b, length, _version, ..] = *area {
            let length = usize::from(length);
            let Some(entry) = area.get(..length).filter(|entry| entry.len() >= 4) else { return Ok(()) };
            area = &area[length..];
            match &[a, b] {
                b"NM" if entry.len() > 5 && entry[4] & 0x06 == 0 => {
                    let part = String::from_utf8_lossy(&entry[5..]);
                    found.name.get_or_insert_default().push_str(&part);
                }
                // POSIX file mode: a regular file or a folder, and nothing else.
                b"PX" if entry.len() >= 8 => {
                    found.other |= !matches!(le32(entry, 4) & 0o170_000, 0o100_000 | 0o040_000);
                }
                b"SL" | b"PN" => found.other = true,
                b"CE" if entry.len() >= 28 && depth < 8 => {
                    let extent = Extent {
                        at: u64::from(le32(entry, 4)) * SECTOR + u64::from(le32(entry, 12)),
                        bytes: u64::from(le32(entry, 20)),
                    };
                    if extent.bytes > SECTOR {
                        return Err(IsoError::Damaged("a name of it goes on for too long"));
                    }
                    let more = self.bytes_at(extent)?;
                    self.system_use(&more, found, depth + 1)?;
                }
                b"ST" => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    fn bytes_at(&self, extent: Extent) -> Result<Vec<u8>, IsoError> {
        if extent.at.checked_add(extent.bytes).is_none_or(|end| end > self.bytes) {
            return Err(IsoError::Damaged("a folder of it lies behind its end"));
        }
        let mut bytes = vec![0; usize::try_from(extent.bytes).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, extent.at)?;
        Ok(bytes)
    }
}

#[derive(Debug)]
struct Record {
    name: String,
    kind: RecordKind,
    extents: Vec<Extent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordKind {
    File,
    Folder,
    Other,
}

#[derive(Debug, Default)]
struct RockRidge {
    name: Option<String>,
    /// A link, a device, or a folder that stands elsewhere.
    other: bool,
}

struct Part<'a> {
    file: &'a File,
    extent: Extent,
}

impl io::Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.extent.bytes).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..wanted], self.extent.at)?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.extent.at += read as u64;
        self.extent.bytes -= read as u64;
        Ok(read)
    }
}

/// `VMLINUZ.;1` is `vmlinuz`, as Linux shows images without Rock Ridge.
fn plain_name(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let name = name.split(';').next().unwrap_or_default();
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// One part of a path, that leads nowhere else.
fn is_plain(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.chars().any(|c| c.is_control() || c == '/' || c == '\u{fffd}')
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}
