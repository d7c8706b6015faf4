//! Places of a disk that are read before and after: the first and the last, and others by chance all over it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::Context as _;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};

use crate::aligned::Buffer;

/// How much is read at a place.
const SIZE: u64 = 1 << 20;

const ZEROES: [u8; 4096] = [0; 4096];

/// Besides the first and the last; one in each part of the disk, so that none is left out.
const PARTS: u64 = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    offsets: Vec<u64>,
    size: u64,
}

/// What was in the places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    places: Places,
    /// `None` where all was zero.
    digests: Vec<Option<[u8; 32]>>,
}

impl Places {
    pub fn chosen(bytes: u64, chance: &mut impl rand::RngCore) -> Places {
        let size = SIZE.min(bytes);
        // Whole megabytes, which every disk can be read at past the cache.
        let last = bytes - size;
        let part = bytes / PARTS;
        let mut offsets: Vec<u64> = (0..PARTS)
            .map(|number| number * part + chance.random_range(0..part.max(1)))
            .map(|offset| (offset / SIZE * SIZE).min(last))
            .chain([0, last])
            .collect();
        offsets.sort_unstable();
        offsets.dedup();
        Places { offsets, size }
    }

    pub fn read(self, disk: &File) -> anyhow::Result<Read> {
        let mut buffer = Buffer::of(usize::try_from(self.size)?);
        let mut digests = Vec::new();
        for offset in &self.offsets {
            let bytes = buffer.bytes();
            disk.read_exact_at(bytes, *offset).with_context(|| format!("reading at byte {offset}"))?;
            let zero = bytes.chunks(ZEROES.len()).all(|chunk| chunk == &ZEROES[..chunk.len()]);
            digests.push((!zero).then(|| Sha256::digest(&*bytes).into()));
        }
        Ok(Read { places: self, digests })
    }
}

impl Read {
    pub fn again(&self, disk: &File) -> anyhow::Result<Read> {
        self.places.clone().read(disk)
    }

    pub fn count(&self) -> u32 {
        u32::try_from(self.digests.len()).unwrap_or(u32::MAX)
    }

    pub fn bytes(&self) -> u64 {
        self.places.size * u64::from(self.count())
    }

    pub fn is_zero(&self) -> bool {
        self.first_not_zero().is_none()
    }

    pub fn first_not_zero(&self) -> Option<u64> {
        let at = self.digests.iter().position(Option::is_some)?;
        self.places.offsets.get(at).copied()
    }

    /// The first place in which there is the same as before. Where all was zero there was nothing to be lost.
    pub fn same_as(&self, before: &Read) -> Option<u64> {
        let pairs = self.digests.iter().zip(&before.digests).zip(&self.places.offsets);
        let mut same = pairs.filter(|((now, then), _)| now.is_some() && now == then);
        same.next().map(|(_, offset)| *offset)
    }
}
