//! Images on this host: fetched once, checked, kept under their SHA-256.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use fleet::wire::ImageSpec;
use node::client;
use node::download::{self, Wanted};

/// `/var/lib/elisandra/images`. Complete images are `SHA256.qcow2`; `SHA256.part` is on its way.
#[derive(Debug, Clone)]
pub struct Images {
    folder: PathBuf,
}

impl Images {
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{sha256}.qcow2"))
    }

    /// SHA-256 of the images that are here whole.
    pub fn list(&self) -> anyhow::Result<BTreeSet<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.folder.display())),
        };
        let mut images = BTreeSet::new();
        for entry in entries {
            let name = entry.with_context(|| format!("reading {}", self.folder.display()))?.file_name();
            images.extend(name.to_str().and_then(|name| name.strip_suffix(".qcow2")).map(str::to_owned));
        }
        Ok(images)
    }

    /// Fetches an image, going on where an earlier try was cut. `progress` hears percents.
    pub async fn fetch(&self, image: &ImageSpec, mut progress: impl FnMut(u64)) -> anyhow::Result<()> {
        if image.sha256.len() != 64 || !image.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!("{:?} is not a SHA-256 of an image", image.sha256);
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("making {}", self.folder.display()))?;
        // The appliance has its own images on its own disk.
        let part = self.folder.join(format!("{}.part", image.sha256));
        self.room_for(image, &part)?;
        let wanted =
            Wanted { url: image.url.clone(), sha256: image.sha256.clone(), bytes: Some(image.bytes) };
        let mut said = u64::MAX;
        download::to_file(&client::plain_http()?, &wanted, &part, |bytes| {
            let percent = bytes * 100 / image.bytes.max(1);
            if percent != said {
                said = percent;
                progress(percent);
            }
        })
        .await?;
        hypervisor::check_image(&part)?;
        fs::rename(&part, self.path(&image.sha256)).context("keeping the image")?;
        Ok(())
    }

    /// A disk that fills up halfway fails every virtual machine on it, so it is not begun.
    fn room_for(&self, image: &ImageSpec, part: &Path) -> anyhow::Result<()> {
        let there = fs::metadata(part).map(|part| part.len()).unwrap_or(0);
        let space =
            nix::sys::statvfs::statvfs(&self.folder).context("asking for the room on the state volume")?;
        let free = space.blocks_available() * space.fragment_size();
        let needed = image.bytes.saturating_sub(there);
        if needed > free {
            bail!("the image takes {} MiB, but only {} MiB are free on this host", needed >> 20, free >> 20);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_whole_images_are_listed_and_no_strange_name_is_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::at(dir.path().join("images"));
        assert!(images.list().unwrap().is_empty());
        fs::create_dir(dir.path().join("images")).unwrap();
        fs::write(images.path("aa"), "").unwrap();
        fs::write(dir.path().join("images/bb.part"), "").unwrap();
        assert_eq!(images.list().unwrap(), BTreeSet::from(["aa".to_owned()]));

        let strange = ImageSpec { url: String::new(), sha256: "../x".to_owned(), bytes: 1 };
        assert!(images.fetch(&strange, |_| {}).await.unwrap_err().to_string().contains("not a SHA-256"));
        let huge = ImageSpec { url: String::new(), sha256: "ab".repeat(32), bytes: 1 << 60 };
        let error = images.fetch(&huge, |_| {}).await.unwrap_err().to_string();
        assert!(error.starts_with("the image takes 1099511627776 MiB, but only"), "{error}");
    }
}
