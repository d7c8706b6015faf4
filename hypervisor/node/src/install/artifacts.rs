//! Brings one version of the system onto the image partition, whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::client;
use crate::download::{self, Wanted};
use crate::manifest::Manifest;
use crate::places;

/// Where the files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder on a web server. The image's checksum came over a trusted way; the manifest must agree with it, and
    /// says the checksums of the other files.
    Web { folder: String, image_sha256: String },
    /// The medium.
    Folder(PathBuf),
}

/// `http://A/boot/files/live.squashfs` → `http://A/boot/files`
pub fn folder_of(image_url: &str) -> anyhow::Result<String> {
    match image_url.strip_suffix("/live.squashfs") {
        Some(folder) => Ok(folder.to_owned()),
        None => bail!("the kickstart file's image {image_url} is not called live.squashfs"),
    }
}

/// Puts `names` and the manifest into the folder `a` of the partition mounted at `place`. The folder is exchanged in
/// one step when all of it is written and synced.
pub async fn put(
    source: &Source,
    place: &Path,
    names: &[&'static str],
    progress: &mut dyn FnMut(u8),
) -> anyhow::Result<()> {
    let (new, current) = (place.join("a.new"), place.join("a"));
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context("removing what a lost start left behind");
        }
        Ok(()) | Err(_) => {}
    }
    fs::create_dir(&new).context("making a folder for the new system")?;
    let json = manifest_json(source).await?;
    let manifest = Manifest::read(&json)?;
    if let Source::Web { image_sha256, .. } = source
        && manifest.file("live.squashfs")?.sha256 != *image_sha256
    {
        bail!("the appliance's manifest.json and the kickstart file speak of two versions of the system");
    }

    let mut total = 0;
    for name in names {
        total += manifest.file(name)?.bytes;
    }
    let mut before = 0;
    let mut said = 0;
    for name in names {
        let facts = manifest.file(name)?;
        let path = new.join(name);
        let mut hear = |bytes: u64| {
            let percent = u8::try_from((before + bytes) * 100 / total.max(1)).unwrap_or(100);
            if percent >= said + 10 {
                said = percent - percent % 10;
                progress(said);
            }
        };
        match source {
            Source::Web { folder, .. } => {
                let wanted = Wanted {
                    url: format!("{folder}/{name}"),
                    sha256: facts.sha256.clone(),
                    bytes: Some(facts.bytes),
                };
                download::to_file(&client::plain_http()?, &wanted, &path, &mut hear).await?;
            }
            Source::Folder(folder) => copy(&folder.join(name), &path, facts.bytes, &facts.sha256)?,
        }
        before += facts.bytes;
    }
    places::write(&new.join("manifest.json"), &json, 0o644)?;
    exchange(&new, &current)
}

async fn manifest_json(source: &Source) -> anyhow::Result<Vec<u8>> {
    match source {
        Source::Folder(folder) => fs::read(folder.join("manifest.json")).context("reading manifest.json"),
        Source::Web { folder, .. } => {
            let fetch = async {
                let response = client::plain_http()?.get(format!("{folder}/manifest.json")).send().await?;
                let bytes = response.error_for_status()?.bytes().await?;
                anyhow::Ok(bytes.to_vec())
            };
            fetch.await.context("fetching manifest.json")
        }
    }
}

/// Copies a file that may be damaged: a stick that was pulled out too early gives back something else.
fn copy(from: &Path, to: &Path, bytes: u64, sha256: &str) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    File::open(to).and_then(|file| file.sync_all()).with_context(|| format!("writing {}", to.display()))?;
    if fs::metadata(to)?.len() != bytes || download::sha256_of(to)? != sha256 {
        bail!("{} is damaged: its SHA-256 is not the one in manifest.json", from.display());
    }
    Ok(())
}

/// Puts `new` in the place of `current` in one step, and removes what was there.
fn exchange(new: &Path, current: &Path) -> anyhow::Result<()> {
    let folder = new.parent().context("a folder without a parent")?;
    let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
    sync(new).context("writing the new system")?;
    let flags = if current.exists() { RenameFlags::RENAME_EXCHANGE } else { RenameFlags::RENAME_NOREPLACE };
    renameat2(AT_FDCWD, new, AT_FDCWD, current, flags).context("putting the new system into its place")?;
    sync(folder).context("putting the new system into its place")?;
    if new.exists() {
        fs::remove_dir_all(new).context("removing the old system")?;
    }
    Ok(())
}

/// Reads the files of `folder` and compares them with its manifest.
pub fn check(folder: &Path, names: &[&'static str]) -> anyhow::Result<()> {
    let manifest =
        Manifest::read(&fs::read(folder.join("manifest.json")).context("reading manifest.json back")?)?;
    for name in names {
        let found =
            download::sha256_of(&folder.join(name)).with_context(|| format!("reading {name} back"))?;
        if found != manifest.file(name)?.sha256 {
            bail!("the disk gives {name} back with other bytes than were written to it");
        }
    }
    Ok(())
}

/// Whether `folder` holds all of `names` in the version of `manifest`.
pub fn holds(folder: &Path, manifest: &Manifest, names: &[&'static str]) -> bool {
    let there = fs::read(folder.join("manifest.json")).ok().and_then(|json| Manifest::read(&json).ok());
    there.as_ref() == Some(manifest)
        && names.iter().all(|name| {
            let bytes = manifest.file(name).map(|facts| facts.bytes).ok();
            fs::metadata(folder.join(name)).map(|there| there.len()).ok() == bytes
        })
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn medium(folder: &Path, version: &str, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        let mut named = serde_json::Map::new();
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
            let sha256 = hex::encode(Sha256::digest(content));
            named.insert((*name).to_owned(), serde_json::json!({"sha256": sha256, "bytes": content.len()}));
        }
        let json = serde_json::json!({"version": version, "files": named});
        fs::write(folder.join("manifest.json"), json.to_string()).unwrap();
    }

    const NAMES: [&str; 2] = ["vmlinuz", "initrd"];

    #[tokio::test]
    async fn a_version_takes_the_place_of_the_one_before_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (stick, disk) = (dir.path().join("stick"), dir.path().join("disk"));
        fs::create_dir(&disk).unwrap();
        medium(&stick, "1", &[("vmlinuz", "kernel 1"), ("initrd", "initrd 1")]);
        let source = Source::Folder(stick.clone());
        put(&source, &disk, &NAMES, &mut |_| {}).await.unwrap();
        check(&disk.join("a"), &NAMES).unwrap();

        let manifest = Manifest::read(&fs::read(stick.join("manifest.json")).unwrap()).unwrap();
        assert!(holds(&disk.join("a"), &manifest, &NAMES));

        medium(&stick, "2", &[("vmlinuz", "kernel 2"), ("initrd", "initrd 2")]);
        let manifest = Manifest::read(&fs::read(stick.join("manifest.json")).unwrap()).unwrap();
        assert!(!holds(&disk.join("a"), &manifest, &NAMES));
        // What a start left behind whose power was lost.
        fs::create_dir(disk.join("a.new")).unwrap();
        fs::write(disk.join("a.new/live.squashfs"), "half").unwrap();
        put(&source, &disk, &NAMES, &mut |_| {}).await.unwrap();
        assert_eq!(fs::read_to_string(disk.join("a/vmlinuz")).unwrap(), "kernel 2");
        assert!(!disk.join("a.new").exists());
        assert!(!disk.join("a/live.squashfs").exists());
    }

    #[tokio::test]
    async fn a_damaged_medium_leaves_the_old_version_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (stick, disk) = (dir.path().join("stick"), dir.path().join("disk"));
        fs::create_dir(&disk).unwrap();
        medium(&stick, "1", &[("vmlinuz", "kernel 1"), ("initrd", "initrd 1")]);
        put(&Source::Folder(stick.clone()), &disk, &NAMES, &mut |_| {}).await.unwrap();
        medium(&stick, "2", &[("vmlinuz", "kernel 2"), ("initrd", "initrd 2")]);
        fs::write(stick.join("initrd"), "initrd ?").unwrap();
        let error = put(&Source::Folder(stick), &disk, &NAMES, &mut |_| {}).await.unwrap_err();
        assert!(
            error.to_string().ends_with("initrd is damaged: its SHA-256 is not the one in manifest.json"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(disk.join("a/initrd")).unwrap(), "initrd 1");

        fs::write(disk.join("a/initrd"), "rotten !").unwrap();
        assert!(check(&disk.join("a"), &NAMES).is_err());
    }

    #[test]
    fn the_folder_is_the_images_own() {
        assert_eq!(
            folder_of("http://10.77.0.1/boot/files/live.squashfs").unwrap(),
            "http://10.77.0.1/boot/files"
        );
        assert!(folder_of("http://10.77.0.1/boot/files/other.img").is_err());
    }
}
