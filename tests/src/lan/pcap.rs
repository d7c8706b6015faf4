//! Recordings that Wireshark and tcpdump read: the classic pcap format
//! (draft-ietf-opsawg-pcap), little endian, microseconds, Ethernet.

use std::io::{BufWriter, Result, Write};
use std::time::SystemTime;

const MAGIC: u32 = 0xa1b2_c3d4;
const SNAP_LENGTH: u32 = 262_144;
const LINKTYPE_ETHERNET: u32 = 1;

pub(super) struct Pcap<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> Pcap<W> {
    pub(super) fn new(out: W) -> Result<Pcap<W>> {
        let mut out = BufWriter::new(out);
        out.write_all(&MAGIC.to_le_bytes())?;
        out.write_all(&2_u16.to_le_bytes())?;
        out.write_all(&4_u16.to_le_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&SNAP_LENGTH.to_le_bytes())?;
        out.write_all(&LINKTYPE_ETHERNET.to_le_bytes())?;
        Ok(Pcap { out })
    }

    pub(super) fn frame(&mut self, frame: &[u8]) -> Result<()> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let length = (frame.len() as u32).to_le_bytes();
        self.out.write_all(&(since_1970.as_secs() as u32).to_le_bytes())?;
        self.out.write_all(&since_1970.subsec_micros().to_le_bytes())?;
        self.out.write_all(&length)?;
        self.out.write_all(&length)?;
        self.out.write_all(frame)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.out.flush()
    }
}
