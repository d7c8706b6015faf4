//! The files that are sent, read a window at a time out of the kernel's cache.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::File,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::unix::fs::{FileExt, MetadataExt},
    sync::{Arc, Weak},
};

use nix::sys::{
    socket::{getsockopt, sockopt::IpMtu},
    uio::preadv,
};

use super::{Files, engine::Shelf};
use crate::{
    folder::{self, NoFile},
    script::grub_start,
};

/// A block with its headers in one Ethernet frame. More is not agreed to on any network: the fragments are what boot
/// ROMs lose, and a jumbo frame is lost without a word at the first switch or card that is set up otherwise. Windows
/// gain more than large blocks do.
const LARGEST_BLOCK: u16 = 1500 - 20 - HEADERS;
const LARGEST_BLOCK_6: u16 = 1500 - 40 - HEADERS;
/// Of UDP and of TFTP.
const HEADERS: u16 = 8 + 4;

/// Files are read in pieces of this size for transfers that send less at a time.
const PIECE: usize = 32 << 10;
/// So many pieces are kept: all of the usual loaders, and little beside what else a daemon has.
const PIECES: usize = 512;

/// What one transfer sends. Clones share it.
#[derive(Debug, Clone)]
pub enum Content {
    File(Arc<Open>),
    /// Made at the request.
    Text(Arc<[u8]>),
}

/// A file that is being sent.
#[derive(Debug)]
pub struct Open {
    file: File,
    /// Never of two files.
    number: u64,
}

/// Pieces of files, of all transfers together.
#[derive(Debug, Default)]
pub struct Pieces {
    /// By the file's number and the piece's.
    held: HashMap<(u64, u64), Box<[u8]>>,
    in_order: VecDeque<(u64, u64)>,
}

/// The loaders' folder, with the files of it that are being sent.
pub struct Loaders {
    files: Files,
    opened: u64,
    /// By device, inode, time of change and size, so that a thousand transfers of a file have one descriptor, and a file
    /// that is replaced meanwhile is another one.
    open: BTreeMap<(u64, u64, i64, i64, u64), Weak<Open>>,
}

impl Loaders {
    pub fn new(files: Files) -> Self {
        Self { files, opened: 0, open: BTreeMap::new() }
    }

    pub fn files(&self) -> &Files {
        &self.files
    }
}

impl Shelf for Loaders {
    type Content = Content;

    fn open(&mut self, name: &str) -> Result<(Content, u64), NoFile> {
        let name = folder::loader(name);
        // GRUB's image has $prefix /grub built in, and looks for several names below it.
        if name.ends_with("/grub.cfg") {
            let text: Arc<[u8]> = grub_start(self.files.address).into_bytes().into();
            let size = text.len() as u64;
            return Ok((Content::Text(text), size));
        }
        let (file, metadata) = folder::open(&self.files.loaders, name)?;
        let size = metadata.len();
        let key = (metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), size);
        if let Some(file) = self.open.get(&key).and_then(Weak::upgrade) {
            return Ok((Content::File(file), size));
        }
        self.open.retain(|_, file| file.strong_count() > 0);
        self.opened += 1;
        let file = Arc::new(Open { file, number: self.opened });
        self.open.insert(key, Arc::downgrade(&file));
        Ok((Content::File(file), size))
    }

    fn largest_block(&self, client: IpAddr) -> u16 {
        if client.is_ipv6() {
            return LARGEST_BLOCK_6;
        }
        // Tunnels have less than Ethernet. Where it cannot be found out, it is Ethernet.
        let mtu = path_mtu(client).unwrap_or(1500);
        mtu.saturating_sub(20 + HEADERS).clamp(512, LARGEST_BLOCK)
    }
}

/// What the kernel knows of the way to `client`. Nothing is sent for it.
fn path_mtu(client: IpAddr) -> Option<u16> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(SocketAddr::new(client, 9)).ok()?;
    let mtu = getsockopt(&socket, IpMtu).ok()?;
    Some(u16::try_from(mtu).unwrap_or(u16::MAX))
}

impl Content {
    /// Puts blocks one after the other into `buffer`, each with its header, as they go onto the wire: the packets are its
    /// pieces of `4 + block` bytes. Returns their length in all.
    pub fn packets(
        &self,
        pieces: &mut Pieces,
        buffer: &mut [u8],
        size: u64,
        block: u16,
        first: u64,
        count: u16,
    ) -> io::Result<usize> {
        let block = usize::from(block);
        let start = (first - 1) * block as u64;
        let bytes = usize::try_from(size - start).unwrap_or(usize::MAX).min(block * usize::from(count));
        let length = bytes + 4 * usize::from(count);
        for (number, packet) in (first..).zip(buffer[..length].chunks_mut(4 + block)) {
            packet[..2].copy_from_slice(&[0, 3]);
            packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
        }
        match self {
            Self::Text(text) => {
                let mut rest = &text[start as usize..];
                for packet in buffer[..length].chunks_mut(4 + block) {
                    let (here, after) = rest.split_at(packet.len() - 4);
                    packet[4..].copy_from_slice(here);
                    rest = after;
                }
            }
            Self::File(open) if bytes <= PIECE => {
                let mut at = start;
                for packet in buffer[..length].chunks_mut(4 + block) {
                    let data = &mut packet[4..];
                    pieces.read(open, size, at, data)?;
                    at += data.len() as u64;
                }
            }
            Self::File(open) => {
                let mut places: Vec<IoSliceMut> = buffer[..length]
                    .chunks_mut(4 + block)
                    .map(|packet| IoSliceMut::new(&mut packet[4..]))
                    .collect();
                let read = preadv(&open.file, &mut places, start as i64)?;
                if read < bytes {
                    // Rare: the disk gave a part, or the file became shorter, and then there is no more.
                    let mut at = start;
                    for packet in buffer[..length].chunks_mut(4 + block) {
                        open.file.read_exact_at(&mut packet[4..], at)?;
                        at += packet.len() as u64 - 4;
                    }
                }
            }
        }
        Ok(length)
    }
}

impl Pieces {
    /// Fills `data` from `at` of a file of `size` bytes.
    fn read(&mut self, open: &Open, size: u64, mut at: u64, mut data: &mut [u8]) -> io::Result<()> {
        while !data.is_empty() {
            let (number, within) = (at / PIECE as u64, (at % PIECE as u64) as usize);
            let piece = self.piece(open, size, number)?;
            let count = data.len().min(piece.len().saturating_sub(within));
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (here, after) = data.split_at_mut(count);
            here.copy_from_slice(&piece[within..within + count]);
            data = after;
            at += count as u64;
        }
        Ok(())
    }

    fn piece(&mut self, open: &Open, size: u64, number: u64) -> io::Result<&[u8]> {
        let key = (open.number, number);
        if !self.held.contains_key(&key) {
            let start = number * PIECE as u64;
            let length = usize::try_from(size - start).unwrap_or(PIECE).min(PIECE);
            let mut bytes = vec![0; length].into_boxed_slice();
            open.file.read_exact_at(&mut bytes, start)?;
            if self.in_order.len() == PIECES
                && let Some(oldest) = self.in_order.pop_front()
            {
                self.held.remove(&oldest);
            }
            self.in_order.push_back(key);
            self.held.insert(key, bytes);
        }
        Ok(&self.held[&key])
    }

    /// When nothing is being sent, nothing is kept.
    pub fn clear(&mut self) {
        if !self.held.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn packets_are_the_file_in_pieces() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| (n / 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(Open { file, number: 1 });
        let contents = [Content::File(file), Content::Text(bytes.clone().into())];
        let mut pieces = Pieces::default();
        for content in contents {
            let mut buffer = vec![0xee; 64 * (4 + 1468)];
            // 10,000 bytes in blocks of 1000 are ten and an empty one.
            let length = content.packets(&mut pieces, &mut buffer, 10_000, 1000, 9, 3).unwrap();
            assert_eq!(length, 2000 + 3 * 4);
            assert_eq!(buffer[..4], [0, 3, 0, 9]);
            assert_eq!(buffer[4..1004], bytes[8000..9000]);
            assert_eq!(buffer[1004..1008], [0, 3, 0, 10]);
            assert_eq!(buffer[1008..2008], bytes[9000..]);
            assert_eq!(buffer[2008..2013], [0, 3, 0, 11, 0xee]);
            assert_eq!(
                content.packets(&mut pieces, &mut buffer, 10_000, 1468, 7, 1).unwrap(),
                10_000 - 6 * 1468 + 4
            );
        }
    }

    #[test]
    fn windows_of_any_size_are_the_file_and_pieces_are_bounded() {
        let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n / 509) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let content = Content::File(Arc::new(Open { file, number: 1 }));
        let (mut pieces, mut buffer) = (Pieces::default(), vec![0; 64 * (4 + 1468)]);
        for window in [1_u16, 7, 22, 23, 64] {
            let mut first = 1;
            while (first - 1) * 1468 < 20_000_000 {
                let left = 20_000_000 / 1468 + 1 - (first - 1);
                let count = window.min(u16::try_from(left).unwrap_or(window));
                let length =
                    content.packets(&mut pieces, &mut buffer, 20_000_000, 1468, first, count).unwrap();
                let start = (first - 1) as usize * 1468;
                let got = buffer[..length].chunks(1472).flat_map(|packet| &packet[4..]);
                assert!(got.eq(bytes[start..].iter().take(usize::from(count) * 1468)), "{window} {first}");
                // Not all of them, for the sake of the time.
                first += u64::from(count) * 37;
            }
            assert!(pieces.held.len() <= PIECES);
        }
        pieces.clear();
        assert_eq!(pieces.held.len(), 0);
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1000).unwrap();
        let content = Content::File(Arc::new(Open { file, number: 1 }));
        let mut pieces = Pieces::default();
        let mut buffer = vec![0; 4 * 516];
        assert!(content.packets(&mut pieces, &mut buffer, 1000, 512, 1, 2).is_ok());
        assert!(content.packets(&mut pieces, &mut buffer, 2000, 512, 1, 4).is_err());
    }
}
