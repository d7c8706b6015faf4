//! Reads a `.eli` file, which may come from anywhere, and says what is wrong with it.
//!
//! The file is read once from front to back: its checksum, the checksums of what is in it, and the marks of
//! the tar format are all seen on the way. Nothing is unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use fleet::package::{Bundle, Manifest};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use super::{PackageError, manifest, render};

const MANIFEST: &str = "manifest.toml";
/// Manifest and templates are read into memory.
const LARGEST_TEXT: u64 = 1 << 20;
const MOST_ENTRIES: usize = 10_000;
const BLOCK: u64 = 512;

/// What a `.deb` begins with: an ar archive (deb(5)).
const DEB: &[u8] = b"!<arch>\n";

/// The bundle at `path`, if all of it is as docs/eli.md says. Blocks.
pub fn read(path: &Path) -> Result<Bundle, PackageError> {
    let file = File::open(path).map_err(PackageError::file("opened"))?;
    let mut source =
        Source { inner: BufReader::with_capacity(1 << 17, file), bytes: 0, digest: Sha256::new() };
    let contents = walk(&mut source)?;
    finish(&mut source, contents.end)?;
    contents.check()?;
    Ok(Bundle {
        sha256: hex::encode(source.digest.finalize()),
        bytes: source.bytes,
        manifest: contents.manifest,
    })
}

/// The text of the template `name` of the bundle at `path`. Blocks.
pub(super) fn template(path: &Path, name: &str) -> Result<String, PackageError> {
    let file = File::open(path).map_err(PackageError::file("opened"))?;
    let mut archive = Archive::new(BufReader::new(file));
    for entry in archive.entries_with_seek().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if entry.path_bytes().as_ref() == name.as_bytes() {
            return text(&mut entry, name);
        }
    }
    Err(PackageError::Unusable(format!("{name}, which the manifest names, is not in the bundle")))
}

/// What was found on the way through the archive.
struct Contents {
    manifest: Manifest,
    /// Checksum and whether it looks like one, of each `.deb` that the manifest names.
    debs: BTreeMap<String, (String, bool)>,
    templates: BTreeMap<String, String>,
    /// Where the last entry ends.
    end: u64,
}

fn walk(source: &mut Source) -> Result<Contents, PackageError> {
    let mut archive = Archive::new(source);
    let mut entries = archive.entries().map_err(broken)?;

    let first = entries.next().and_then(Result::ok).ok_or_else(no_bundle)?;
    let mut contents = begin(first)?;
    let mut files = BTreeSet::from([MANIFEST.to_owned()]);
    let mut folders = BTreeSet::new();
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let (path, folder) = place(&entry)?;
        if files.contains(&path) || !(if folder { &mut folders } else { &mut files }).insert(path.clone()) {
            return unusable(format!("{path} is in it twice"));
        }
        if path.match_indices('/').any(|(at, _)| files.contains(&path[..at])) {
            return unusable(format!("{path} is inside of something that is a file"));
        }
        if files.len() + folders.len() > MOST_ENTRIES {
            return unusable(format!("it has more than {MOST_ENTRIES} files"));
        }
        contents.end = end(&entry);
        if contents.manifest.configs.iter().any(|config| config.template == path) {
            let text = text(&mut entry, &path)?;
            contents.templates.insert(path, text);
        } else {
            let (digest, start) = digest(&mut entry, &path)?;
            if contents.manifest.debs.iter().any(|deb| deb.file == path) {
                contents.debs.insert(path, (digest, start == DEB));
            }
        }
    }
    if let Some(both) = folders.intersection(&files).next() {
        return unusable(format!("{both} is in it twice"));
    }
    Ok(contents)
}

fn begin<R: Read>(mut first: Entry<'_, R>) -> Result<Contents, PackageError> {
    let (path, folder) = place(&first)?;
    if path != MANIFEST || folder {
        return unusable(format!("it begins with {path}; the first file of a bundle is {MANIFEST}"));
    }
    let end = end(&first);
    let manifest = manifest::parse(&text(&mut first, MANIFEST)?).map_err(PackageError::Unusable)?;
    Ok(Contents { manifest, debs: BTreeMap::new(), templates: BTreeMap::new(), end })
}

/// Path inside the bundle, and whether it is a folder.
fn place<R: Read>(entry: &Entry<'_, R>) -> Result<(String, bool), PackageError> {
    let bytes = entry.path_bytes();
    let Ok(path) = std::str::from_utf8(&bytes) else {
        return unusable(format!("the name {:?} is not UTF-8", String::from_utf8_lossy(&bytes)));
    };
    let kind = entry.header().entry_type();
    let folder = kind == EntryType::Directory;
    let path = if folder { path.strip_suffix('/').unwrap_or(path) } else { path };
    if let Err(wrong) = manifest::is_inside(path) {
        return unusable(format!("the path {path:?} {wrong}"));
    }
    let what = match kind {
        EntryType::Regular | EntryType::Directory => return Ok((path.to_owned(), folder)),
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of a kind that tar reserves for others",
    };
    unusable(format!("{path} is {what}; a bundle has plain files only"))
}

/// Where the entry ends in the file. Entries are padded to whole blocks.
fn end<R: Read>(entry: &Entry<'_, R>) -> u64 {
    entry.raw_file_position().saturating_add(entry.size().div_ceil(BLOCK).saturating_mul(BLOCK))
}

fn text<R: Read>(entry: &mut Entry<'_, R>, path: &str) -> Result<String, PackageError> {
    if entry.size() > LARGEST_TEXT {
        return unusable(format!("{path} is larger than {} KiB", LARGEST_TEXT >> 10));
    }
    let size = entry.size();
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 != size {
        return Err(truncated());
    }
    String::from_utf8(bytes).or_else(|_| unusable(format!("{path} is not UTF-8 text")))
}

/// SHA-256 of the entry, and its first bytes.
fn digest<R: Read>(entry: &mut Entry<'_, R>, path: &str) -> Result<(String, Vec<u8>), PackageError> {
    let size = entry.size();
    let mut start = Vec::new();
    entry.take(DEB.len() as u64).read_to_end(&mut start).map_err(broken)?;
    let mut digest = Sha256::new();
    digest.update(&start);
    let rest = io::copy(entry, &mut digest).map_err(broken)?;
    if start.len() as u64 + rest != size {
        return Err(PackageError::Unusable(format!("the bundle is cut short in the middle of {path}")));
    }
    Ok((hex::encode(digest.finalize()), start))
}

/// Reads what follows the last entry. Two blocks of zeros end a tar: without them nobody could tell a
/// bundle that was cut off between two files.
fn finish(source: &mut Source, end: u64) -> Result<(), PackageError> {
    let mut buffer = [0; 8192];
    loop {
        let taken = source.read(&mut buffer).map_err(broken)?;
        if taken == 0 {
            break;
        }
        if buffer[..taken].iter().any(|byte| *byte != 0) {
            return unusable("there is something after the end of the archive".to_owned());
        }
    }
    if source.bytes < end + 2 * BLOCK { Err(truncated()) } else { Ok(()) }
}

impl Contents {
    fn check(&self) -> Result<(), PackageError> {
        for deb in &self.manifest.debs {
            let Some((sha256, is_deb)) = self.debs.get(&deb.file) else { return missing(&deb.file) };
            if *sha256 != deb.sha256 {
                return unusable(format!(
                    "{} is not the file that the manifest means: its SHA-256 is {sha256}, not {}",
                    deb.file, deb.sha256
                ));
            }
            if !is_deb {
                return unusable(format!("{} is not a Debian package", deb.file));
            }
        }
        for config in &self.manifest.configs {
            let Some(text) = self.templates.get(&config.template) else { return missing(&config.template) };
            render::try_out(&config.template, text)?;
        }
        Ok(())
    }
}

fn missing<T>(path: &str) -> Result<T, PackageError> {
    unusable(format!("{path}, which the manifest names, is not in the bundle"))
}

fn unusable<T>(sentence: String) -> Result<T, PackageError> {
    Err(PackageError::Unusable(sentence))
}

fn truncated() -> PackageError {
    PackageError::Unusable("the bundle is cut short: its end is missing".to_owned())
}

fn no_bundle() -> PackageError {
    PackageError::Unusable(format!(
        "this is not a .eli bundle: it should be an uncompressed tar archive that begins with {MANIFEST}"
    ))
}

/// `tar` reports a damaged archive as an I/O error without a number of the operating system.
fn broken(error: io::Error) -> PackageError {
    if error.raw_os_error().is_some() {
        return PackageError::file("read")(error);
    }
    let text = error.to_string();
    if error.kind() == io::ErrorKind::UnexpectedEof || text.contains("EOF") || text.contains("entire block") {
        return truncated();
    }
    PackageError::Unusable(format!("the bundle is damaged: {text}"))
}

/// The file as it is read, with its length and checksum so far.
struct Source {
    inner: BufReader<File>,
    bytes: u64,
    digest: Sha256,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        self.digest.update(&buffer[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
pub mod tests;
