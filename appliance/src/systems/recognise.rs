//! Which installer a medium is, by what it says of itself, and which of its files are needed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use fleet::medium::Family;
use sha2::{Digest as _, Sha256};

use super::SystemsError;
use super::iso::{Entry, Iso, IsoError};

/// What was found out about a medium, with its files written into a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub family: Family,
    pub title: String,
    pub version: String,
    pub arch: String,
    pub kernel: String,
    pub initrd: String,
    /// The installer wants the image as it is, too.
    pub whole: bool,
}

fn unusable<T>(sentence: impl Into<String>) -> Result<T, SystemsError> {
    Err(SystemsError::Unusable(sentence.into()))
}

impl From<IsoError> for SystemsError {
    fn from(error: IsoError) -> SystemsError {
        match error {
            IsoError::Io(source) => SystemsError::File { step: "read", source },
            IsoError::NotOne | IsoError::Truncated { .. } | IsoError::Damaged(_) => {
                SystemsError::Unusable(format!("this medium cannot be used: {error}"))
            }
        }
    }
}

/// Writes what is needed of the medium in `file` into `folder`, which is empty. `room` is asked before bytes are
/// written.
pub(super) fn unpack(
    file: &Path,
    folder: &Path,
    room: &dyn Fn(u64) -> Result<(), SystemsError>,
) -> Result<Found, SystemsError> {
    let mut opened = File::open(file).map_err(SystemsError::file("read"))?;
    let mut magic = [0; 2];
    let _ = opened.read(&mut magic).map_err(SystemsError::file("read"))?;
    if magic == [0x1f, 0x8b] {
        return netboot(file, folder, room);
    }
    let iso = match Iso::open(opened) {
        Err(IsoError::NotOne) => {
            return unusable(
                "this is neither an ISO image nor Debian's netboot.tar.gz; media are imported as they are downloaded",
            );
        }
        opened => opened?,
    };
    let files = iso.files()?;
    let find = |path: &str| files.iter().find(|entry| entry.path == path);
    let info = find(".disk/info").map(|entry| iso.text(entry)).transpose()?.unwrap_or_default();
    if let Some(treeinfo) = find(".treeinfo") {
        return red_hat(&iso, &files, &iso.text(treeinfo)?, folder, room);
    }
    if let (Some(kernel), Some(initrd)) = (find("casper/vmlinuz"), find("casper/initrd")) {
        return ubuntu(&iso, [kernel, initrd], &info, folder, room);
    }
    if info.starts_with("Debian") {
        return match (find("linux"), find("initrd.gz")) {
            (Some(kernel), Some(initrd)) => debian(&iso, [kernel, initrd], &info, folder, room),
            _ => unusable(format!(
                "this is {}, whose installer starts from a disc drive only; import the netboot.tar.gz of the same \
                 release, which takes its packages from the mirror",
                first_line(&info)
            )),
        };
    }
    unusable(format!(
        "this image ({:?}) is no medium that is known here: Debian, Ubuntu Server, Fedora, Red Hat, Rocky and Alma are",
        iso.label
    ))
}

/// As `Debian GNU/Linux 12.11.0 "Bookworm" - Official amd64 NETINST with firmware 20250517-09:51`.
fn debian(
    iso: &Iso,
    boot: [&Entry; 2],
    info: &str,
    folder: &Path,
    room: &dyn Fn(u64) -> Result<(), SystemsError>,
) -> Result<Found, SystemsError> {
    write_all(iso, boot.into_iter(), folder, room)?;
    Ok(Found {
        family: Family::Debian,
        title: first_line(info),
        version: version(info),
        arch: arch(info),
        kernel: "linux".to_owned(),
        initrd: "initrd.gz".to_owned(),
        whole: false,
    })
}

/// As `Ubuntu-Server 24.04.2 LTS "Noble Numbat" - Release amd64 (20250217.1)`. Its initrd fetches the image whole.
fn ubuntu(
    iso: &Iso,
    boot: [&Entry; 2],
    info: &str,
    folder: &Path,
    room: &dyn Fn(u64) -> Result<(), SystemsError>,
) -> Result<Found, SystemsError> {
    if !info.starts_with("Ubuntu-Server") {
        return unusable(format!("this is {}; of Ubuntu, Server installs by itself", first_line(info)));
    }
    write_all(iso, boot.into_iter(), folder, room)?;
    Ok(Found {
        family: Family::Ubuntu,
        title: first_line(info),
        version: version(info),
        arch: arch(info),
        kernel: "casper/vmlinuz".to_owned(),
        initrd: "casper/initrd".to_owned(),
        whole: true,
    })
}

/// By productmd's `.treeinfo`, which names the files that start over the network and sums of them.
fn red_hat(
    iso: &Iso,
    files: &[Entry],
    treeinfo: &str,
    folder: &Path,
    room: &dyn Fn(u64) -> Result<(), SystemsError>,
) -> Result<Found, SystemsError> {
    let sections = ini(treeinfo);
    let get = |section: &str, key: &str| sections.get(section).and_then(|section| section.get(key)).cloned();
    let Some(arch) = get("general", "arch") else {
        return unusable("its .treeinfo does not say for which machines");
    };
    let family = get("general", "family").unwrap_or_default();
    let version = get("general", "version").unwrap_or_default();
    let images = format!("images-{arch}");
    let (Some(kernel), Some(initrd)) = (get(&images, "kernel"), get(&images, "initrd")) else {
        return unusable("its .treeinfo names no kernel and initrd that start over the network");
    };
    for path in [&kernel, &initrd] {
        if !files.iter().any(|entry| entry.path == **path) {
            return unusable(format!("its .treeinfo names {path:?}, which is not on it"));
        }
    }
    write_all(iso, files.iter(), folder, room)?;
    for (path, sum) in sections.get("checksums").into_iter().flatten() {
        // Names in the file are not trusted either: only what was written is looked at.
        let Some(entry) = files.iter().find(|entry| entry.path == *path) else { continue };
        let Some(wanted) = sum.strip_prefix("sha256:") else { continue };
        let mut file = File::open(folder.join(&entry.path)).map_err(SystemsError::file("read"))?;
        let mut sha256 = Sha256::new();
        io::copy(&mut file, &mut sha256).map_err(SystemsError::file("read"))?;
        if hex::encode(sha256.finalize()) != wanted {
            return unusable(format!("{path} on it is not what its .treeinfo says; the medium is damaged"));
        }
    }
    Ok(Found {
        family: Family::RedHat,
        title: format!("{family} {version}"),
        version,
        arch: debian_arch(&arch),
        kernel,
        initrd,
        whole: false,
    })
}

/// Debian's netboot.tar.gz, or the folder of the package debian-installer-…-netboot as one. Nothing of it is written
/// but two files, under names of ours.
fn netboot(
    file: &Path,
    folder: &Path,
    room: &dyn Fn(u64) -> Result<(), SystemsError>,
) -> Result<Found, SystemsError> {
    let opened = File::open(file).map_err(SystemsError::file("read"))?;
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(opened)));
    let damaged = |error: io::Error| SystemsError::Unusable(format!("the archive cannot be read: {error}"));
    let mut info = String::new();
    let mut arch = None;
    let mut written = [false; 2];
    for entry in archive.entries().map_err(damaged)?.take(10_000) {
        let mut entry = entry.map_err(damaged)?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            continue;
        }
        let path = entry.path().map_err(damaged)?.into_owned();
        let parts: Vec<&str> =
            path.iter().filter_map(|part| part.to_str()).filter(|part| *part != ".").collect();
        match parts.as_slice() {
            [.., "version.info"] => {
                (&mut entry).take(4096).read_to_string(&mut info).map_err(damaged)?;
            }
            [.., "debian-installer", of, name @ ("linux" | "initrd.gz")] => {
                let number = usize::from(*name == "initrd.gz");
                arch = Some((*of).to_owned());
                room(entry.size())?;
                write(&mut entry, &folder.join(["linux", "initrd.gz"][number]))?;
                written[number] = true;
            }
            _ => {}
        }
    }
    let Some(arch) = arch.filter(|_| written == [true, true]) else {
        return unusable(
            "this archive has no debian-installer/ARCHITECTURE/linux and initrd.gz, as netboot.tar.gz has",
        );
    };
    let version = version(&info);
    Ok(Found {
        family: Family::Debian,
        title: format!("Debian {version} netboot installer").replace("  ", " "),
        version,
        arch,
        kernel: "linux".to_owned(),
        initrd: "initrd.gz".to_owned(),
        whole: false,
    })
}

fn write_all<'a>(
    iso: &Iso,
    entries: impl Iterator<Item = &'a Entry> + Clone,
    folder: &Path,
    room: &dyn Fn(u64) -> Result<(), SystemsError>,
) -> Result<(), SystemsError> {
    // Asked for as a whole: what will not fit is better not begun.
    room(entries.clone().map(|entry| entry.bytes).sum())?;
    for entry in entries {
        // Its parts are plain names, and there is no link in the folder: the path stays inside.
        let path = folder.join(&entry.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(SystemsError::file("unpacked"))?;
        }
        write(&mut iso.read(entry), &path)?;
    }
    Ok(())
}

fn write(from: &mut impl Read, path: &Path) -> Result<(), SystemsError> {
    // Never through something that is there already.
    let mut file = File::create_new(path).map_err(SystemsError::file("unpacked"))?;
    io::copy(from, &mut file).map_err(SystemsError::file("unpacked"))?;
    file.flush().map_err(SystemsError::file("unpacked"))
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(120).collect::<String>().trim().to_owned()
}

/// The first word that is a version.
fn version(text: &str) -> String {
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.len() <= 20
            && word.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    };
    text.split_whitespace().find(is_version).unwrap_or_default().to_owned()
}

fn arch(text: &str) -> String {
    let known = text.split_whitespace().find(|word| ["amd64", "arm64"].contains(word));
    known.unwrap_or("amd64").to_owned()
}

fn debian_arch(arch: &str) -> String {
    match arch {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.chars().filter(char::is_ascii_alphanumeric).take(20).collect(),
    }
}

fn ini(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            current = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) {
            let section = sections.entry(current.clone()).or_default();
            section.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    sections
}
