//! The files that are sent, read a window at a time out of the kernel's cache.

use std::{
    collections::BTreeMap,
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

/// What one transfer sends. Clones share it.
#[derive(Debug, Clone)]
pub enum Content {
    File(Arc<File>),
    /// Made at the request.
    Text(Arc<[u8]>),
}

/// The loaders' folder, with the files of it that are being sent.
pub struct Loaders {
    files: Files,
    /// By device, inode, time of change and size, so that a thousand transfers of a file have one descriptor, and a file
    /// that is replaced meanwhile is another one.
    open: BTreeMap<(u64, u64, i64, i64, u64), Weak<File>>,
}

impl Loaders {
    pub fn new(files: Files) -> Self {
        Self { files, open: BTreeMap::new() }
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
        let file = Arc::new(file);
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
            Self::File(file) => {
                let mut places: Vec<IoSliceMut> = buffer[..length]
                    .chunks_mut(4 + block)
                    .map(|packet| IoSliceMut::new(&mut packet[4..]))
                    .collect();
                let read = preadv(file, &mut places, start as i64)?;
                if read < bytes {
                    // Rare: the disk gave a part, or the file became shorter, and then there is no more.
                    let mut at = start;
                    for packet in buffer[..length].chunks_mut(4 + block) {
                        file.read_exact_at(&mut packet[4..], at)?;
                        at += packet.len() as u64 - 4;
                    }
                }
            }
        }
        Ok(length)
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
        let contents = [Content::File(Arc::new(file)), Content::Text(bytes.clone().into())];
        for content in contents {
            let mut buffer = vec![0xee; 64 * (4 + 1468)];
            // 10,000 bytes in blocks of 1000 are ten and an empty one.
            let length = content.packets(&mut buffer, 10_000, 1000, 9, 3).unwrap();
            assert_eq!(length, 2000 + 3 * 4);
            assert_eq!(buffer[..4], [0, 3, 0, 9]);
            assert_eq!(buffer[4..1004], bytes[8000..9000]);
            assert_eq!(buffer[1004..1008], [0, 3, 0, 10]);
            assert_eq!(buffer[1008..2008], bytes[9000..]);
            assert_eq!(buffer[2008..2013], [0, 3, 0, 11, 0xee]);
            assert_eq!(content.packets(&mut buffer, 10_000, 1468, 7, 1).unwrap(), 10_000 - 6 * 1468 + 4);
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1000).unwrap();
        let content = Content::File(Arc::new(file));
        let mut buffer = vec![0; 4 * 516];
        assert!(content.packets(&mut buffer, 1000, 512, 1, 2).is_ok());
        assert!(content.packets(&mut buffer, 2000, 512, 1, 4).is_err());
    }
}
