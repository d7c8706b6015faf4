//! What Debian's indices say of files: Release of the indices, Packages of the packages.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

use sha2::{Digest as _, Sha256};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// By digests of paths: an index names some 70,000 packages, whose paths would take most of the memory.
#[derive(Debug, Default)]
pub struct Sums {
    by_path: HashMap<[u8; 16], Sum>,
}

/// An index that unpacks to more is none.
const LARGEST: u64 = 1 << 30;

impl Sums {
    pub fn get(&self, path: &str) -> Option<Sum> {
        self.by_path.get(&key(path)).copied()
    }

    fn put(&mut self, path: &str, sum: Sum) {
        self.by_path.insert(key(path), sum);
    }

    /// Takes in an index that is kept, if `path` is one.
    pub fn learn(&mut self, path: &str, file: impl Read) -> io::Result<()> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        match name {
            "InRelease" | "Release" => self.release(folder, BufReader::new(file)),
            "Packages" => self.packages(BufReader::new(file)),
            "Packages.gz" => {
                let unpacked = flate2::read::MultiGzDecoder::new(BufReader::new(file)).take(LARGEST);
                self.packages(BufReader::new(unpacked))
            }
            "Packages.xz" => {
                let unpacked = lzma_rust2::XzReader::new(BufReader::new(file), true).take(LARGEST);
                self.packages(BufReader::new(unpacked))
            }
            _ => Ok(()),
        }
    }

    /// Lines of ` SHA256 BYTES PATH` below `SHA256:`.
    fn release(&mut self, folder: &str, text: impl BufRead) -> io::Result<()> {
        let mut in_sums = false;
        for line in text.lines() {
            let line = line?;
            let Some(entry) = line.strip_prefix(' ') else {
                in_sums = line.starts_with("SHA256:");
                continue;
            };
            let mut words = entry.split_whitespace();
            if let (true, Some(sum), Some(bytes), Some(path)) =
                (in_sums, words.next(), words.next(), words.next())
                && let (Some(sha256), Ok(bytes)) = (sha256(sum), bytes.parse())
            {
                let sum_of = Sum { bytes, sha256 };
                self.put(&format!("{folder}/{path}"), sum_of);
                // An index that is asked for by its hash is taken in under its own name.
                let (of, _) = path.rsplit_once('/').unwrap_or(("", path));
                self.put(&format!("{folder}/{of}/by-hash/SHA256/{sum}"), sum_of);
            }
        }
        Ok(())
    }

    fn packages(&mut self, text: impl BufRead) -> io::Result<()> {
        let (mut path, mut bytes, mut sum) = (None, None, None);
        for line in text.lines() {
            let line = line?;
            if let Some(value) = line.strip_prefix("Filename: ") {
                path = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("Size: ") {
                bytes = value.parse().ok();
            } else if let Some(value) = line.strip_prefix("SHA256: ") {
                sum = sha256(value);
            } else if line.is_empty()
                && let (Some(path), Some(bytes), Some(sha256)) = (path.take(), bytes.take(), sum.take())
            {
                self.put(&path, Sum { bytes, sha256 });
            }
        }
        if let (Some(path), Some(bytes), Some(sha256)) = (path, bytes, sum) {
            self.put(&path, Sum { bytes, sha256 });
        }
        Ok(())
    }
}

/// `…/by-hash/SHA256/SUM` says itself what it is.
pub fn by_hash(path: &str) -> Option<[u8; 32]> {
    let (_, sum) = path.split_once("/by-hash/SHA256/")?;
    sha256(sum)
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut sum = [0; 32];
    hex::decode_to_slice(text, &mut sum).ok()?;
    Some(sum)
}

fn key(path: &str) -> [u8; 16] {
    let digest = Sha256::digest(path);
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_read() {
        let mut sums = Sums::default();
        let sum = "ab".repeat(32);
        let release = format!(
            "Origin: Debian\nMD5Sum:\n 00 1 main/x\nSHA256:\n {sum} 12 main/binary-amd64/Packages.xz\n"
        );
        sums.learn("dists/trixie/Release", release.as_bytes()).unwrap();
        let wanted = Some(Sum { bytes: 12, sha256: [0xab; 32] });
        assert_eq!(sums.get("dists/trixie/main/binary-amd64/Packages.xz"), wanted);
        assert_eq!(sums.get("dists/trixie/main/x"), None);
        let packages = format!("Package: a\nFilename: pool/a.deb\nSize: 7\nSHA256: {sum}\n\nPackage: b\n");
        sums.learn("dists/trixie/main/binary-amd64/Packages", packages.as_bytes()).unwrap();
        assert_eq!(sums.get("pool/a.deb"), Some(Sum { bytes: 7, sha256: [0xab; 32] }));
        assert!(sums.learn("x/Packages.gz", &b"no gzip"[..]).is_err());
        assert!(sums.learn("x/Packages.xz", &b"no xz"[..]).is_err());
        assert_eq!(by_hash(&format!("dists/x/by-hash/SHA256/{sum}")), Some([0xab; 32]));
    }
}
