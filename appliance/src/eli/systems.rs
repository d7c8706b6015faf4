//! `eli os` and `eli profile`: media to install from, and what machines are installed with.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use fleet::medium::Medium;
use fleet::profile::{Kind, Profile};
use reqwest::Body;

use super::client::Client;
use super::install::counted;
use super::nouns::{self, segment};
use super::table::Table;
use super::{Output, say};
use crate::api::Changed;
use crate::api::systems::Listed;
use crate::web::show;

#[derive(Subcommand)]
pub enum Os {
    /// Bring an installer: an ISO image, Debian's netboot.tar.gz, or the folder of one
    Import(Import),
    /// What was imported
    List,
    /// Remove a medium with its files
    Remove(nouns::Remove),
}

#[derive(Args)]
pub struct Import {
    file: PathBuf,
    /// What it is called here; by its own name and version, if it is not said
    #[arg(long)]
    name: Option<String>,
    /// What its checksum has to be; SHA256SUMS beside the file is looked at otherwise
    #[arg(long)]
    sha256: Option<String>,
}

#[derive(Subcommand)]
pub enum ProfileVerb {
    /// What machines can be installed with
    List,
    /// The template of a profile
    Show { name: String },
    /// Make a profile, or change one
    Set(Box<Set>),
    /// Remove profiles
    Remove(nouns::Remove),
}

#[derive(Args)]
pub struct Set {
    name: String,
    /// debian, ubuntu, kickstart, ipxe, grub
    #[arg(long)]
    kind: String,
    /// The newest of its kind, if it is not said
    #[arg(long)]
    medium: Option<String>,
    /// For the installer's kernel
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    arguments: String,
    /// File with the answers or the boot loader's text; that of the kind, if it is not said
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    #[arg(long)]
    language: Option<String>,
    #[arg(long)]
    keyboard: Option<String>,
    #[arg(long)]
    time_zone: Option<String>,
    /// File with the hash of root's password, as mkpasswd -m sha512crypt prints it
    #[arg(long, value_name = "FILE")]
    password_hash: Option<PathBuf>,
}

pub async fn os(client: &Client, verb: Os, output: Output) -> anyhow::Result<()> {
    match verb {
        Os::Import(import) => self::import(client, import).await,
        Os::List => media(&client.list("/media").await?, output),
        Os::Remove(remove) => nouns::remove(client, remove, "media").await,
    }
}

pub async fn profile(client: &Client, verb: ProfileVerb, output: Output) -> anyhow::Result<()> {
    match verb {
        ProfileVerb::List => profiles(&client.list("/profiles").await?, output),
        ProfileVerb::Show { name } => {
            let template: String = client.get(&format!("/profiles/{}/template", segment(&name))).await?;
            if !output.one(&template, &name)? {
                print!("{template}");
            }
            Ok(())
        }
        ProfileVerb::Set(set) => {
            say(&client.send("POST", "/profiles", &set.profile()?).await?);
            Ok(())
        }
        ProfileVerb::Remove(remove) => nouns::remove(client, remove, "profiles").await,
    }
}

impl Set {
    fn profile(self) -> anyhow::Result<Profile> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == self.kind);
        let kind = kind.with_context(|| {
            let words = Kind::ALL.map(Kind::word).join(", ");
            format!("{} is not a kind; there are {words}", self.kind)
        })?;
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        let usual = Profile::plain(&self.name, kind);
        let hash = self.password_hash.as_ref().map(read).transpose()?;
        Ok(Profile {
            medium: self.medium,
            arguments: self.arguments,
            template: self.template.as_ref().map(read).transpose()?,
            language: self.language.unwrap_or(usual.language),
            keyboard: self.keyboard.unwrap_or(usual.keyboard),
            time_zone: self.time_zone.unwrap_or(usual.time_zone),
            password_hash: hash.map(|hash| hash.trim().to_owned()),
            ..Profile::plain(&self.name, kind)
        })
    }
}

async fn import(client: &Client, import: Import) -> anyhow::Result<()> {
    let Import { file, name, sha256 } = import;
    let packed;
    let (path, sha256) = if file.is_dir() {
        packed = pack(&file).with_context(|| format!("packing {}", file.display()))?;
        (packed.path().to_owned(), sha256)
    } else {
        let beside = || beside(&file).transpose();
        let sha256 = sha256.map(Ok).or_else(beside).transpose()?;
        (file, sha256)
    };
    let opened = tokio::fs::File::open(&path).await.with_context(|| format!("opening {}", path.display()))?;
    let bytes = opened.metadata().await?.len();
    let mut query = Vec::new();
    query.extend(name.map(|name| format!("name={}", segment(&name))));
    query.extend(sha256.map(|sha256| format!("sha256={}", segment(&sha256))));
    let body = Body::wrap_stream(counted(opened, bytes));
    let changed: Changed = client.upload(&format!("/media?{}", query.join("&")), bytes, body).await?;
    say(&changed);
    Ok(())
}

/// The checksum of `file` that a file SHA256SUMS beside it has, as sha256sum writes it.
fn beside(file: &Path) -> anyhow::Result<Option<String>> {
    let sums = file.with_file_name("SHA256SUMS");
    if !sums.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&sums).with_context(|| format!("reading {}", sums.display()))?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let of_file = |line: &str| {
        let (sum, path) = line.split_once([' ', '\t'])?;
        let path = path.trim_start_matches([' ', '*']);
        (path.rsplit('/').next() == Some(name)).then(|| sum.to_owned())
    };
    match text.lines().find_map(of_file) {
        Some(sum) => Ok(Some(sum)),
        None => bail!("{} does not name {name}; give the checksum by --sha256", sums.display()),
    }
}

/// The folder of the package debian-installer-…-netboot in the shape of netboot.tar.gz.
fn pack(folder: &Path) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    let gzip = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    let mut found = false;
    for arch in ["amd64", "arm64"] {
        for name in ["linux", "initrd.gz"] {
            let path = format!("debian-installer/{arch}/{name}");
            if let Ok(mut opened) = File::open(folder.join(&path)) {
                archive.append_file(&path, &mut opened)?;
                found = true;
            }
        }
    }
    if !found {
        bail!("there is no debian-installer/ARCHITECTURE/linux in it");
    }
    let mut info = Vec::new();
    if let Ok(opened) = File::open(folder.join("version.info")) {
        opened.take(4096).read_to_end(&mut info)?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(info.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "version.info", info.as_slice())?;
    archive.into_inner()?.finish()?.flush()?;
    Ok(file)
}

fn media(media: &[Medium], output: Output) -> anyhow::Result<()> {
    if output.list(media, |medium| medium.name.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "WHAT", "FOR", "SIZE", "SHA-256"]);
    for medium in media {
        let sum = medium.sha256.get(..16).unwrap_or_default().to_owned();
        let cells = vec![
            medium.name.clone(),
            medium.title.clone(),
            medium.arch.clone(),
            show::bytes(medium.bytes),
            sum,
        ];
        table.row(cells, Vec::new());
    }
    table.print("No media yet. eli os import FILE brings an installer.");
    Ok(())
}

fn profiles(profiles: &[Listed], output: Output) -> anyhow::Result<()> {
    if output.list(profiles, |listed| listed.profile.name.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "KIND", "MEDIUM", "LANGUAGE", "TIME ZONE", ""]);
    for Listed { profile, built_in } in profiles {
        let medium = match (profile.kind.family(), &profile.medium) {
            (None, _) => String::new(),
            (Some(_), Some(medium)) => medium.clone(),
            (Some(_), None) => "the newest".to_owned(),
        };
        let cells = vec![
            profile.name.clone(),
            profile.kind.to_string(),
            medium,
            profile.language.clone(),
            profile.time_zone.clone(),
            if *built_in { "built in".to_owned() } else { String::new() },
        ];
        table.row(cells, Vec::new());
    }
    table.print("No profiles.");
    Ok(())
}
