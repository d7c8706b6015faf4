//! Debian packages out of a bundle, their configuration, their unit.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use fleet::wire::{ConfigFile, SoftwareSpec};
use sha2::{Digest, Sha256};

use super::plan::{Record, written};
use crate::member::Member;
use crate::places;
use crate::tool::{self, SHORT};

/// dpkg on a slow disk, with maintainer scripts that start things.
const INSTALL: Duration = Duration::from_secs(900);

/// `/var/lib/elisandra/software`: a record for each piece, and a folder for the bundle that is being installed.
#[derive(Debug, Clone)]
pub struct Packages {
    folder: PathBuf,
}

impl Packages {
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The records of everything that is here, whole or not.
    pub fn records(&self) -> anyhow::Result<BTreeMap<String, Record>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.folder.display())),
        };
        let mut records = BTreeMap::new();
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", self.folder.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let read = || -> anyhow::Result<Record> { Ok(serde_json::from_slice(&fs::read(&path)?)?) };
                let record = read().with_context(|| format!("reading {}", path.display()))?;
                records.insert(record.name.clone(), record);
            }
        }
        Ok(records)
    }

    fn keep(&self, record: &Record) -> anyhow::Result<()> {
        let path = self.folder.join(format!("{}.json", name(&record.name)?));
        Ok(places::write(&path, serde_json::to_vec_pretty(record)?, 0o600)?)
    }

    /// Downloads the bundle of `spec` and returns its file, whole and with the right SHA-256.
    pub async fn fetch(&self, member: &Member, spec: &SoftwareSpec) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(format!("{}.eli", name(&spec.bundle_sha256)?));
        fs::create_dir_all(&self.folder).with_context(|| format!("making {}", self.folder.display()))?;
        let mut response = member.client.bundle(member.node, &spec.bundle_sha256).await?;
        let mut file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
        let mut hash = Sha256::new();
        while let Some(chunk) = response.chunk().await.context("the bundle broke off")? {
            hash.update(&chunk);
            file.write_all(&chunk).with_context(|| format!("writing {}", path.display()))?;
        }
        let found = hex::encode(hash.finalize());
        if found != spec.bundle_sha256 {
            bail!(
                "the bundle of {} was changed on the way: its SHA-256 is {found}, not {}",
                spec.name,
                spec.bundle_sha256
            );
        }
        Ok(path)
    }

    /// Installs the Debian packages of a fetched bundle. Blocks for as long as dpkg takes.
    pub fn install(&self, spec: &SoftwareSpec, bundle: &Path) -> anyhow::Result<()> {
        let folder = self.folder.join(format!("{}.debs", name(&spec.name)?));
        let debs = unpack(bundle, &spec.debs, &folder)?;
        let mut packages = Vec::new();
        for deb in &debs {
            let mut ask = Command::new("dpkg-deb");
            ask.arg("--field").arg(deb).arg("Package");
            packages.push(tool::run("asking for the name of a package", SHORT, &mut ask)?.trim().to_owned());
        }
        let before = self.records()?.remove(&spec.name);
        let mut record = Record {
            name: spec.name.clone(),
            version: spec.version.clone(),
            bundle_sha256: spec.bundle_sha256.clone(),
            packages,
            unit: spec.unit.clone(),
            files: before.map(|before| before.files).unwrap_or_default(),
            installed: false,
            started_with: None,
        };
        self.keep(&record)?;

        // After a power loss in the middle of it, dpkg wants to finish that first.
        tool::run("finishing what dpkg had begun", INSTALL, dpkg().args(["--configure", "--pending"]))?;
        // All at once, so that dpkg orders them by their dependencies; our configuration files stay as we wrote them.
        tool::run(
            &format!("installing {} {}", spec.name, spec.version),
            INSTALL,
            dpkg().args(["--force-confold", "--force-confdef", "--install"]).args(&debs),
        )?;
        record.installed = true;
        self.keep(&record)?;
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        fs::remove_file(bundle).with_context(|| format!("removing {}", bundle.display()))
    }

    /// Writes the configuration, enables the unit and restarts it.
    pub fn start(&self, spec: &SoftwareSpec) -> anyhow::Result<()> {
        let unit = unit(&spec.unit)?;
        let Some(mut record) = self.records()?.remove(&spec.name) else {
            bail!("{} is not installed", spec.name);
        };
        for file in &spec.files {
            let path = config_path(file)?;
            if !record.files.contains(&file.path) {
                // Before the file is there, so that it is found again whatever happens.
                record.files.push(file.path.clone());
                self.keep(&record)?;
            }
            places::write(path, &file.content, file.mode & 0o777)?;
        }
        systemctl("reading the units again", &["daemon-reload"])?;
        systemctl("enabling the service", &["enable", unit])?;
        systemctl("starting the service", &["restart", unit])?;
        record.started_with = Some(written(&spec.files));
        record.unit.clone_from(&spec.unit);
        self.keep(&record)
    }

    /// Stops the unit and removes packages, configuration and record.
    pub fn remove(&self, record: &Record) -> anyhow::Result<()> {
        if let Ok(unit) = unit(&record.unit) {
            // The unit goes with its package; one that an interrupted installation never brought cannot be stopped.
            if let Err(error) = systemctl("stopping the service", &["disable", "--now", unit]) {
                tracing::info!("{error:#}");
            }
        }
        tool::run("finishing what dpkg had begun", INSTALL, dpkg().args(["--configure", "--pending"]))?;
        let there: Vec<&String> = record.packages.iter().filter(|package| is_known(package)).collect();
        if !there.is_empty() {
            tool::run(&format!("removing {}", record.name), INSTALL, dpkg().arg("--purge").args(there))?;
        }
        for path in &record.files {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {path}"));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let path = self.folder.join(format!("{}.json", name(&record.name)?));
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }
}

fn dpkg() -> Command {
    let mut dpkg = Command::new("dpkg");
    dpkg.env("DEBIAN_FRONTEND", "noninteractive");
    dpkg
}

/// dpkg fails on a name that it never heard of, which is what a bundle that broke off early leaves.
fn is_known(package: &str) -> bool {
    let mut ask = Command::new("dpkg-query");
    ask.args(["--show", "--showformat=${db:Status-Status}", package]);
    tool::run("asking for a package", SHORT, &mut ask).is_ok_and(|status| status != "not-installed")
}

fn systemctl(step: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let limit = Duration::from_secs(180);
    tool::run(step, limit, Command::new("systemctl").args(arguments))?;
    Ok(())
}

/// Takes the files named `wanted` out of the bundle into `folder`, in the order of `wanted`.
fn unpack(bundle: &Path, wanted: &[String], folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", folder.display()));
        }
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let file = File::open(bundle).with_context(|| format!("reading {}", bundle.display()))?;
    let mut archive = tar::Archive::new(io::BufReader::new(file));
    let mut found: BTreeMap<&String, PathBuf> = BTreeMap::new();
    for entry in archive.entries().context("reading the bundle")? {
        let mut entry = entry.context("reading the bundle")?;
        let path = entry.path().context("reading the bundle")?.into_owned();
        let Some((number, name)) = wanted
            .iter()
            .enumerate()
            .find(|(_, name)| Path::new(name.as_str()) == path.strip_prefix("./").unwrap_or(&path))
        else {
            continue;
        };
        if !entry.header().entry_type().is_file() {
            bail!("{name} in the bundle is not a file");
        }
        // A name of our own: no name in a bundle becomes a path on this disk.
        let place = folder.join(format!("{number:03}.deb"));
        let mut out = File::create(&place).with_context(|| format!("writing {}", place.display()))?;
        io::copy(&mut entry, &mut out).with_context(|| format!("taking {name} out of the bundle"))?;
        found.insert(name, place);
    }
    wanted.iter().map(|name| found.remove(name).with_context(|| format!("the bundle lacks {name}"))).collect()
}

/// A name that becomes the name of a file.
fn name(text: &str) -> anyhow::Result<&str> {
    let good = (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
        && !text.starts_with(['.', '-']);
    if good { Ok(text) } else { bail!("{text:?} is not a name for software") }
}

fn unit(text: &str) -> anyhow::Result<&str> {
    let good = text.ends_with(".service")
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@:".contains(&b));
    if good { Ok(text) } else { bail!("{text:?} is not a service unit") }
}

fn config_path(file: &ConfigFile) -> anyhow::Result<&Path> {
    let path = Path::new(&file.path);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain && path.file_name().is_some() {
        return Ok(path);
    }
    bail!("{:?} is not the path of a configuration file", file.path)
}

#[cfg(test)]
mod tests;
