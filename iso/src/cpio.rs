//! Writes a cpio archive in the form that the kernel unpacks as part of an initrd ("newc",
//! Documentation/driver-api/early-userspace/buffer-format.rst). The kernel takes several archives one after
//! the other, so a file is added to a finished initrd by appending.

/// A folder or a file at a path without a leading slash; folders must come before what is in them.
pub enum Entry<'a> {
    Folder(&'a str),
    Program(&'a str, &'a [u8]),
}

/// An archive of `entries`, owned by root.
pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let inode = number as u32 + 1;
        match entry {
            Entry::Folder(path) => member(&mut out, inode, 0o040_755, path, &[]),
            Entry::Program(path, content) => member(&mut out, inode, 0o100_755, path, content),
        }
    }
    member(&mut out, 0, 0, "TRAILER!!!", &[]);
    out
}

fn member(out: &mut Vec<u8>, inode: u32, mode: u32, path: &str, content: &[u8]) {
    let links = 1;
    let size = content.len() as u32;
    let name_size = path.len() as u32 + 1;
    // inode mode uid gid links mtime size, device and node numbers of disk and of a special file, name, checksum
    let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_cpio_program_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = archive(&[Entry::Folder("usr"), Entry::Program("usr/node", b"hello")]);
        let file = folder.path().join("archive");
        std::fs::write(&file, bytes).unwrap();
        let status = Command::new("cpio")
            .args(["-i", "--quiet"])
            .current_dir(&folder)
            .stdin(Stdio::from(std::fs::File::open(file).unwrap()))
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read(folder.path().join("usr/node")).unwrap(), b"hello");
    }
}
