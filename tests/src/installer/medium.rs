//! Which installer of Debian is used. It loads modules for its own kernel from the mirror, and a mirror keeps those of
//! the last kernels only: one that it has none for any more stops in the middle. So does one on a mirror in the middle
//! of an update, whose files are not those that its Release names.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::uplink::Mirror;

/// The folder of a package debian-installer-N-netboot-amd64.
#[derive(Debug, Clone)]
pub struct Medium {
    pub folder: PathBuf,
    /// As in `bookworm`.
    pub codename: String,
}

struct Release {
    codename: &'static str,
    number: u8,
    /// For a mirror that lags behind in modules: earlier installers, each with its SHA-256.
    earlier: &'static [(&'static str, &'static str)],
}

/// Newest first.
const RELEASES: [Release; 2] = [
    Release {
        codename: "trixie",
        number: 13,
        earlier: &[(
            "pool/main/d/debian-installer-netboot-images/debian-installer-13-netboot-amd64_20250803+deb13u6_all.deb",
            "b14500fba1c068c7d818de1376e46151628d96d8b2f322dfcbe7a16b7b8c2fa4",
        )],
    },
    Release { codename: "bookworm", number: 12, earlier: &[] },
];

/// What an installer reads of `dists/CODENAME` before its modules, and the index of those.
const READS: &str = "main/binary-amd64/Release";
const MODULES: &str = "main/debian-installer/binary-amd64/Packages.xz";

impl Medium {
    pub fn at(folder: &Path) -> Result<Medium> {
        let folder = folder.canonicalize().with_context(|| format!("looking for {}", folder.display()))?;
        let info = fs::read_to_string(folder.join("version.info"))?;
        let codename = info.split(['(', ')']).nth(1).context("its version.info names no release")?.to_owned();
        Ok(Medium { folder, codename })
    }

    /// The newest one that can load its modules from this mirror; downloads stay in `cache`.
    pub fn that_fits(mirror: &Mirror, cache: &Path) -> Result<Medium> {
        let mut lacks = Vec::new();
        for release in &RELEASES {
            match Medium::of_release(release, mirror, cache) {
                Ok(medium) => return Ok(medium),
                Err(error) => {
                    println!("no installer of Debian {}: {error:#}", release.number);
                    lacks.push(format!("{error:#}"));
                }
            }
        }
        bail!("no installer of Debian can load its modules from this mirror ({})", lacks.join("; "))
    }

    fn of_release(release: &Release, mirror: &Mirror, cache: &Path) -> Result<Medium> {
        let Release { codename, number, earlier } = release;
        let sums = String::from_utf8(mirror.get(&format!("dists/{codename}/Release"))?)?;
        let named = |path: &str| -> Result<Vec<u8>> {
            let bytes = mirror.get(&format!("dists/{codename}/{path}"))?;
            let sum = hex::encode(Sha256::digest(&bytes));
            let named = sums.lines().any(|line| is_sum_of(line, &sum, path));
            ensure!(named, "{path} of the mirror is not what its dists/{codename}/Release names");
            Ok(bytes)
        };
        named(READS)?;
        let modules = unpacked(named(MODULES)?)?;
        let packages = unpacked(mirror.get(&format!("dists/{codename}/main/binary-amd64/Packages.xz"))?)?;
        let package = format!("debian-installer-{number}-netboot-amd64");
        let entry = entry(&packages, &package).with_context(|| format!("the mirror knows no {package}"))?;
        let newest = (field(entry, "Filename")?, field(entry, "SHA256")?);
        let mut kernels = Vec::new();
        for (path, sha256) in std::iter::once(&newest).chain(*earlier) {
            let folder = match downloaded(mirror, path, sha256, *number, cache) {
                Ok(folder) => folder,
                Err(error) => {
                    kernels.push(format!("{error:#}"));
                    continue;
                }
            };
            let medium = Medium::at(&folder)?;
            let kernel = medium.kernel()?;
            let module = self::entry(&modules, &format!("kernel-image-{kernel}-di"));
            match module.map(|module| mirror.gives(field(module, "Filename")?)) {
                Some(Ok(())) => return Ok(medium),
                Some(Err(error)) => kernels.push(format!("{kernel}: {error:#}")),
                None => kernels.push(format!("{kernel}: its index does not name it")),
            }
        }
        bail!("the mirror has the modules of none ({})", kernels.join("; "))
    }

    /// As its kernel says it, `6.12.94+deb13-amd64`.
    fn kernel(&self) -> Result<String> {
        let kernel = fs::read(self.folder.join("debian-installer/amd64/linux"))?;
        // Documentation/arch/x86/boot.rst: where the version stands, less 0x200.
        let at = kernel.get(0x20e..0x210).context("its kernel is cut short")?;
        let at = usize::from(u16::from_le_bytes([at[0], at[1]])) + 0x200;
        let version = kernel.get(at..).unwrap_or_default().split(|byte| *byte == b' ').next();
        Ok(String::from_utf8_lossy(version.unwrap_or_default()).into_owned())
    }
}

/// A line ` SHA256 BYTES PATH` of a Release.
fn is_sum_of(line: &str, sum: &str, path: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some(sum) && words.nth(1) == Some(path)
}

/// The package's files, unpacked once.
fn downloaded(mirror: &Mirror, path: &str, sha256: &str, number: u8, cache: &Path) -> Result<PathBuf> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let folder = cache.join(name.trim_end_matches(".deb"));
    if !folder.exists() {
        let bytes = mirror.get(path)?;
        ensure!(hex::encode(Sha256::digest(&bytes)) == sha256, "{name} is not what it should be");
        fs::create_dir_all(cache)?;
        let unpacked = tempfile::tempdir_in(cache)?;
        let archive = unpacked.path().join(name);
        fs::write(&archive, bytes)?;
        let tree = unpacked.path().join("tree");
        let done = Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&tree).status();
        ensure!(done.context("running dpkg-deb")?.success(), "{name} cannot be unpacked");
        // The graphical installer is as large again, twice.
        let text = unpacked.path().join("text");
        let inside = format!("usr/lib/debian-installer/images/{number}/amd64/text");
        fs::rename(tree.join(&inside), &text).with_context(|| format!("{name} has no {inside}"))?;
        fs::rename(&text, &folder)?;
    }
    Ok(folder)
}

fn entry<'a>(index: &'a str, package: &str) -> Option<&'a str> {
    let first = format!("Package: {package}\n");
    index.split("\n\n").find(|entry| entry.trim_start().starts_with(&first))
}

fn field<'a>(entry: &'a str, name: &str) -> Result<&'a str> {
    let value = entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.with_context(|| format!("the mirror's index has no {name} there"))
}

/// An index, which xz has packed.
fn unpacked(packed: Vec<u8>) -> Result<String> {
    let mut unpack = Command::new("xz").args(["-dc"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = unpack.stdin.take().context("xz takes nothing")?;
    let feed = std::thread::spawn(move || stdin.write_all(&packed));
    let output = unpack.wait_with_output()?;
    let fed = feed.join().is_ok_and(|fed| fed.is_ok());
    ensure!(fed && output.status.success(), "an index of the mirror cannot be unpacked");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
