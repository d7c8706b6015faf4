//! A file on its way to a machine.

use std::{net::IpAddr, sync::Arc, time::Instant};

use crate::{Directory, Note, NoteKind};

/// The largest that [`crate::tftp`] sends.
pub(crate) const ONE_BLOCK: u16 = 1468;

/// Puts down on the timeline what became of a transfer, when it ends in whichever way.
pub struct Transfer {
    pub directory: Arc<dyn Directory>,
    pub address: IpAddr,
    pub kind: NoteKind,
    pub name: String,
    pub bytes: u64,
    pub sent: u64,
    pub since: Instant,
}

impl Transfer {
    pub fn count(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let Self { name, bytes, sent, .. } = self;
        let seconds = self.since.elapsed().as_secs_f64();
        let text = if sent == bytes {
            format!("{name}: {bytes} bytes in {seconds:.1} s")
        } else if self.kind == NoteKind::Tftp && *sent <= u64::from(ONE_BLOCK) {
            // EDK2 asks for the size, breaks off, and asks again for the file.
            format!("{name}: broken off at its first block, as firmware does that asks for the size")
        } else {
            format!("{name}: ended after {sent} of {bytes} bytes, {seconds:.1} s")
        };
        self.directory.note(Note { mac: None, address: Some(self.address), kind: self.kind, text });
    }
}
