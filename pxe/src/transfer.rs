//! A file on its way to a machine.

use std::{net::IpAddr, sync::Arc, time::Instant};

use crate::{
    Directory, Note, Step,
    step::{Protocol, Sent},
};

/// Puts down on the timeline what became of a transfer, when it ends in whichever way.
pub struct Transfer {
    pub directory: Arc<dyn Directory>,
    pub address: IpAddr,
    pub protocol: Protocol,
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
        let Self { protocol, bytes, sent, .. } = *self;
        let took = self.since.elapsed();
        let sent = if sent == bytes { Sent::Whole { bytes, took } } else { Sent::Part { sent, bytes, took } };
        let step = Step::File { protocol, name: std::mem::take(&mut self.name), sent };
        self.directory.note(Note { mac: None, address: Some(self.address), step });
    }
}
