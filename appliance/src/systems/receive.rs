//! Takes a medium to the disk, checks and unpacks it. What is not as it should be leaves nothing behind.

use std::io::Write as _;
use std::path::Path;

use axum::body::Bytes;
use fleet::medium::Medium;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::SystemsError;
use super::recognise::{self, Found};
use crate::incoming::{self, blocking};

/// How many bytes go by between two looks at the free space.
const LOOK_EVERY: u64 = 64 << 20;

/// What is said about an upload.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// By the medium's own version, if it is not said.
    pub name: Option<String>,
    /// 64 hexadecimal digits.
    pub sha256: Option<String>,
}

/// Receives a medium and unpacks it to `systems/NAME`, where nothing may be yet.
pub async fn receive<E>(
    systems: &Path,
    wanted: Wanted,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Medium, SystemsError> {
    let folder = systems.to_owned();
    let file = blocking(move || incoming::file_in(&folder)).await;
    let mut file = file.map_err(SystemsError::file("received"))?;
    let mut sha256 = Sha256::new();
    let mut bytes = 0;
    let mut looked = 0;
    while let Some(chunk) = body.next().await {
        let Ok(chunk) = chunk else { return Err(SystemsError::BrokenOff { bytes }) };
        bytes += chunk.len() as u64;
        if bytes >= looked {
            looked = bytes + LOOK_EVERY;
            leave_room(systems, LOOK_EVERY)?;
        }
        let written = blocking(move || {
            sha256.update(&chunk);
            file.write_all(&chunk).map(|()| (file, sha256))
        });
        (file, sha256) = written.await.map_err(SystemsError::file("received"))?;
    }
    let sum = hex::encode(sha256.finalize());
    if let Some(expected) = wanted.sha256.filter(|expected| !expected.eq_ignore_ascii_case(&sum)) {
        return Err(SystemsError::Unusable(format!(
            "what came has the SHA-256 {sum} and not {expected}; it is damaged, or another file"
        )));
    }
    let folder = systems.to_owned();
    blocking(move || keep(&folder, wanted.name, file, bytes, sum)).await
}

fn keep(
    systems: &Path,
    name: Option<String>,
    file: NamedTempFile,
    bytes: u64,
    sha256: String,
) -> Result<Medium, SystemsError> {
    let incoming = incoming::folder_in(systems).map_err(SystemsError::file("unpacked"))?;
    let room = |bytes: u64| leave_room(systems, bytes);
    let Found { family, title, version, arch, kernel, initrd, whole } =
        recognise::unpack(file.path(), incoming.path(), &room)?;
    let name = name.unwrap_or_else(|| usual_name(&title, &version));
    if !fleet::is_label(&name) {
        return Err(SystemsError::Unusable(format!(
            "{name:?} is not usable as a name: a-z, 0-9 and - inside; give another by --name"
        )));
    }
    let image = whole.then(|| "image.iso".to_owned());
    if let Some(image) = &image {
        let kept = file.persist_noclobber(incoming.path().join(image));
        kept.map_err(|error| SystemsError::file("kept")(error.error))?;
    }
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(incoming.path(), readable).map_err(SystemsError::file("kept"))?;
    nix::unistd::sync();
    let place = systems.join(&name);
    if place.exists() {
        return Err(SystemsError::Unusable(format!(
            "there is a medium {name} already; remove it first, or import with another --name"
        )));
    }
    std::fs::rename(incoming.path(), &place).map_err(SystemsError::file("kept"))?;
    // It has another name now.
    let _ = incoming.keep();
    std::fs::File::open(systems).and_then(|folder| folder.sync_all()).map_err(SystemsError::file("kept"))?;
    Ok(Medium {
        name,
        family,
        title,
        version,
        arch,
        bytes,
        sha256,
        kernel: Some(kernel),
        initrd: Some(initrd),
        image,
    })
}

/// `Rocky Linux 9.5` is `rocky-linux-9-5`.
fn usual_name(title: &str, version: &str) -> String {
    let words = title.split_whitespace().take_while(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    let name = words.collect::<Vec<_>>().join("-") + "-" + version;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).take(63).collect();
    let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

/// Removes the files of a medium.
pub async fn remove(systems: &Path, name: &str) -> Result<(), SystemsError> {
    if !fleet::is_label(name) {
        return Ok(());
    }
    let folder = systems.join(name);
    blocking(move || match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SystemsError::file("removed")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    })
    .await
}

fn leave_room(systems: &Path, bytes: u64) -> Result<(), SystemsError> {
    incoming::leave_room(systems, bytes).map_err(SystemsError::file("received"))
}
