//! manifest.json: what a system image consists of, with sizes and checksums.

use std::{collections::BTreeMap, fs::File, path::Path};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{progress, system::LOADERS};

/// The files of one version of the system; `live` and installed machines take all or none.
pub const FILES: [&str; 4] = ["vmlinuz", "initrd", "live.squashfs", "guest.img"];

#[derive(Serialize)]
struct Manifest {
    version: String,
    files: BTreeMap<&'static str, Checked>,
    /// In the folder `loaders`, and in the image at /usr/lib/elisandra/boot.
    loaders: BTreeMap<String, Checked>,
}

#[derive(Serialize)]
struct Checked {
    sha256: String,
    bytes: u64,
}

pub fn write(out: &Path) -> Result<()> {
    progress::step("manifest.json", || {
        let mut files = BTreeMap::new();
        let mut all = Sha256::new();
        for name in FILES {
            let checked = check(&out.join(name))?;
            all.update(&checked.sha256);
            files.insert(name, checked);
        }
        let loaders = loaders(&out.join(LOADERS))?;
        // Two builds of the same release differ in their files: the version says which one a machine runs.
        let build = &hex::encode(all.finalize())[..8];
        let version = format!("{}+{build}", env!("CARGO_PKG_VERSION"));
        let path = out.join("manifest.json");
        let mut text = serde_json::to_string_pretty(&Manifest { version, files, loaders })?;
        text.push('\n');
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    })
}

fn loaders(folder: &Path) -> Result<BTreeMap<String, Checked>> {
    let list = std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    list.map(|entry| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), check(&entry.path())?))
    })
    .collect()
}

fn check(path: &Path) -> Result<Checked> {
    let mut file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let mut hash = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut hash).with_context(|| format!("reading {}", path.display()))?;
    Ok(Checked { sha256: hex::encode(hash.finalize()), bytes })
}

/// Prints what is there, in MB of a million bytes.
pub fn print_sizes(out: &Path) -> Result<()> {
    let mut found = false;
    for name in FILES.iter().chain(&["elisandra.iso", "hello.eli"]) {
        let Ok(metadata) = out.join(name).metadata() else { continue };
        println!("{name:<16}{:>9.2} MB", metadata.len() as f64 / 1e6);
        found = true;
    }
    if !found {
        bail!("nothing is built in {} yet; `make iso` does it", out.display());
    }
    Ok(())
}
