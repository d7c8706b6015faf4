//! A LAN port as smoltcp's network device.

use std::time::Duration;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::lan::Jack;

pub(super) struct JackDevice {
    jack: Jack,
    /// A frame that [`JackDevice::wait`] met.
    waiting: Option<Vec<u8>>,
}

impl JackDevice {
    pub(super) fn new(jack: Jack) -> JackDevice {
        JackDevice { jack, waiting: None }
    }

    /// Returns when there is a frame, or after `limit`.
    pub(super) fn wait(&mut self, limit: Duration) {
        if self.waiting.is_none() {
            self.waiting = self.jack.receive(limit);
        }
    }
}

impl Device for JackDevice {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Sender<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }

    fn receive(&mut self, _now: Instant) -> Option<(Frame, Sender<'_>)> {
        let frame = self.waiting.take().or_else(|| self.jack.receive(Duration::ZERO))?;
        Some((Frame(frame), Sender(&self.jack)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sender<'_>> {
        Some(Sender(&self.jack))
    }
}

pub(super) struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

pub(super) struct Sender<'a>(&'a Jack);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.send(&frame);
        result
    }
}
