//! Looks into the header of an image before a hypervisor opens it: an image that names another file as its backing
//! file would make the host read that file for the guest.
//!
//! Offsets follow QEMU's `docs/interop/qcow2.rst`; all numbers are big endian.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("reading the image {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the image {} is not a qcow2 image", .0.display())]
    NotQcow2(PathBuf),
    #[error("the image {} has a backing file; images must stand alone", .0.display())]
    BackingFile(PathBuf),
    #[error("the image {} keeps its data in another file; images must stand alone", .0.display())]
    DataFile(PathBuf),
    #[error("the image {} is encrypted", .0.display())]
    Encrypted(PathBuf),
}

/// Checks that an image stands alone and returns the bytes of the disk in it.
pub fn check_image(path: &Path) -> Result<u64, ImageError> {
    let mut header = [0; 104];
    let mut file = File::open(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })?;
    match file.read_exact(&mut header) {
        Ok(()) => check(&header, path),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(ImageError::NotQcow2(path.to_owned()))
        }
        Err(source) => Err(ImageError::Read { path: path.to_owned(), source }),
    }
}

fn check(header: &[u8; 104], path: &Path) -> Result<u64, ImageError> {
    let u32_at = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
    let version = u32_at(4);
    if header[..4] != *b"QFI\xfb" || !(2..=3).contains(&version) {
        return Err(ImageError::NotQcow2(path.to_owned()));
    }
    if u64_at(8) != 0 {
        return Err(ImageError::BackingFile(path.to_owned()));
    }
    if u32_at(32) != 0 {
        return Err(ImageError::Encrypted(path.to_owned()));
    }
    const EXTERNAL_DATA_FILE: u64 = 1 << 2;
    if version == 3 && u64_at(72) & EXTERNAL_DATA_FILE != 0 {
        return Err(ImageError::DataFile(path.to_owned()));
    }
    Ok(u64_at(24))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn qemu_img(dir: &Path, arguments: &[&str]) {
        let status = Command::new("qemu-img").current_dir(dir).args(arguments).output().unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }

    #[test]
    fn only_an_image_that_stands_alone_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "alone", "64M"]);
        assert_eq!(check_image(&at("alone")).unwrap(), 64 << 20);
        qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "-o", "compat=0.10", "old", "1G"]);
        assert_eq!(check_image(&at("old")).unwrap(), 1 << 30);

        qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "-b", "alone", "-F", "qcow2", "on-top"]);
        assert!(matches!(check_image(&at("on-top")), Err(ImageError::BackingFile(_))));
        qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "-o", "data_file=data", "apart", "64M"]);
        assert!(matches!(check_image(&at("apart")), Err(ImageError::DataFile(_))));
        qemu_img(dir.path(), &["create", "-q", "-f", "raw", "raw", "1M"]);
        assert!(matches!(check_image(&at("raw")), Err(ImageError::NotQcow2(_))));
        std::fs::write(at("short"), "QFI").unwrap();
        assert!(matches!(check_image(&at("short")), Err(ImageError::NotQcow2(_))));
        assert!(matches!(check_image(&at("none")), Err(ImageError::Read { .. })));
    }
}
