//! hello.eli: the example package, from the folder `iso/hello/`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use walkdir::WalkDir;

use crate::{progress, source, tool};

const DEB: &str = "debs/hello-web_1.0.0_all.deb";

pub fn build(out: &Path) -> Result<()> {
    progress::step("hello.eli", || {
        let sources = source("hello");
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let deb = folder.path().join("hello-web.deb");
        debian_package(&sources.join("hello-web"), folder.path(), &deb)?;
        let deb = fs::read(&deb).context("reading the Debian package")?;
        let read = |name: &str| fs::read(sources.join(name)).with_context(|| format!("reading hello/{name}"));
        let manifest = manifest(&String::from_utf8(read("manifest.toml")?)?, &deb)?;
        let bundle = bundle(&[
            // The manifest comes first: a reader knows what to expect before anything else arrives.
            ("manifest.toml", manifest.as_bytes()),
            (DEB, &deb),
            ("templates/site.conf", &read("templates/site.conf")?),
        ])?;
        fs::write(out.join("hello.eli"), bundle).context("writing hello.eli")
    })
}

/// Puts the checksum into the manifest and checks that the result is what a reader expects.
fn manifest(template: &str, deb: &[u8]) -> Result<String> {
    let text = template.replace("{{ sha256 }}", &hex::encode(Sha256::digest(deb)));
    let parsed: toml::Table = toml::from_str(&text).context("hello/manifest.toml is not TOML")?;
    let named = parsed.get("deb").and_then(|debs| debs.get(0)).and_then(|deb| deb.get("file"));
    if named.and_then(|file| file.as_str()) != Some(DEB) {
        bail!("hello/manifest.toml does not name {DEB}");
    }
    Ok(text)
}

/// A .deb with the same bytes on every machine: modes, owners and times do not come from the checkout.
fn debian_package(tree: &Path, scratch: &Path, target: &Path) -> Result<()> {
    let copy: PathBuf = scratch.join("tree");
    for entry in WalkDir::new(tree) {
        let entry = entry?;
        let to = copy.join(entry.path().strip_prefix(tree)?);
        let executable = entry.file_type().is_dir() || entry.metadata()?.permissions().mode() & 0o100 != 0;
        if entry.file_type().is_dir() { fs::create_dir(&to) } else { fs::copy(entry.path(), &to).map(drop) }
            .and_then(|()| {
                fs::set_permissions(&to, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
            })
            .with_context(|| format!("copying {}", entry.path().display()))?;
    }
    let mut command = Command::new("dpkg-deb");
    command
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(&copy)
        .arg(target)
        .env("SOURCE_DATE_EPOCH", "0");
    tool::run(&mut command)
}

/// An uncompressed tar of plain files in the given order, owned by root and from 1970.
fn bundle(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, *content).with_context(|| format!("adding {path}"))?;
    }
    Ok(builder.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_twice_and_the_manifest_first() {
        let first = tempfile::tempdir().unwrap();
        let second = tempfile::tempdir().unwrap();
        build(first.path()).unwrap();
        build(second.path()).unwrap();
        let bytes = fs::read(first.path().join("hello.eli")).unwrap();
        assert!(bytes == fs::read(second.path().join("hello.eli")).unwrap());

        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(paths, [Path::new("manifest.toml"), Path::new(DEB), Path::new("templates/site.conf")]);
    }

    #[test]
    fn a_manifest_that_names_another_package_is_refused() {
        let error = manifest("[[deb]]\nfile = \"debs/other.deb\"\n", b"").unwrap_err();
        assert_eq!(error.to_string(), format!("hello/manifest.toml does not name {DEB}"));
    }
}
