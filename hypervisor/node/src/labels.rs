//! Finds our own file systems by the label in their superblock, without udev and without waiting for it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Enough of the beginning for each of the three superblocks.
const BEGINNING: usize = 36 * 1024;

/// The label of the file system that begins with these bytes; `None` for another one or none.
pub fn label(beginning: &[u8]) -> Option<String> {
    iso9660(beginning).or_else(|| ext(beginning)).or_else(|| vfat(beginning))
}

/// ECMA-119: the primary volume descriptor is in sector 16 of 2048 bytes.
fn iso9660(bytes: &[u8]) -> Option<String> {
    let descriptor = bytes.get(16 * 2048..)?;
    if descriptor.get(..6)? != b"\x01CD001" {
        return None;
    }
    text(descriptor.get(40..72)?)
}

/// The superblock of ext2, 3 and 4 begins at 1024.
fn ext(bytes: &[u8]) -> Option<String> {
    let superblock = bytes.get(1024..)?;
    if superblock.get(0x38..0x3a)? != [0x53, 0xef] {
        return None;
    }
    text(superblock.get(0x78..0x88)?)
}

/// The label in the boot sector; mkfs.vfat writes the same into the root directory.
fn vfat(bytes: &[u8]) -> Option<String> {
    if bytes.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    if bytes.get(82..87)? == b"FAT32" {
        return text(bytes.get(71..82)?);
    }
    if bytes.get(54..57)? == b"FAT" {
        return text(bytes.get(43..54)?);
    }
    None
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let label = String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned();
    (!label.is_empty()).then_some(label)
}

/// The label on a block device or in an image file.
pub fn read(device: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(device)?;
    let mut beginning = Vec::with_capacity(BEGINNING);
    file.seek(SeekFrom::Start(0))?;
    file.take(BEGINNING as u64).read_to_end(&mut beginning)?;
    Ok(label(&beginning))
}

/// All block devices that carry `wanted`, in the order of their names. Devices that cannot be read (a drive
/// without a medium) are passed over: they carry no label.
pub fn find(wanted: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/sys/class/block")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .filter(|device| read(device).is_ok_and(|label| label.as_deref() == Some(wanted)))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_file_systems_are_told_apart() {
        let mut iso = vec![0u8; BEGINNING];
        iso[32768..32774].copy_from_slice(b"\x01CD001");
        iso[32768 + 40..32768 + 72].copy_from_slice(b"ELISANDRA                       ");
        // A hybrid medium also has an MBR.
        iso[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(label(&iso).as_deref(), Some("ELISANDRA"));

        let mut ext4 = vec![0u8; BEGINNING];
        ext4[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        ext4[1024 + 0x78..1024 + 0x81].copy_from_slice(b"ELI-STATE");
        assert_eq!(label(&ext4).as_deref(), Some("ELI-STATE"));

        let mut fat = vec![0u8; 512];
        fat[510..512].copy_from_slice(&[0x55, 0xaa]);
        fat[54..62].copy_from_slice(b"FAT16   ");
        fat[43..54].copy_from_slice(b"CIDATA     ");
        assert_eq!(label(&fat).as_deref(), Some("CIDATA"));
        assert_eq!(label(&[]), None);
        assert_eq!(label(&vec![0; BEGINNING]), None);
    }

    #[test]
    fn what_mkfs_writes_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for (program, arguments) in
            [("mkfs.vfat", &["-n", "CIDATA", "-C"][..]), ("mkfs.vfat", &["-F", "32", "-n", "CIDATA", "-C"])]
        {
            let image = dir.path().join(format!("image{}", arguments.len()));
            let mut command = std::process::Command::new(program);
            command.args(arguments).arg(&image).arg("65536");
            crate::tool::run("making a file system", crate::tool::SHORT, &mut command).unwrap();
            assert_eq!(read(&image).unwrap().as_deref(), Some("CIDATA"));
        }
        let image = dir.path().join("ext4");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let mut command = std::process::Command::new("mkfs.ext4");
        command.args(["-q", "-L", "ELI-STATE"]).arg(&image);
        crate::tool::run("making a file system", crate::tool::SHORT, &mut command).unwrap();
        assert_eq!(read(&image).unwrap().as_deref(), Some("ELI-STATE"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            label(&bytes);
        }
    }
}
