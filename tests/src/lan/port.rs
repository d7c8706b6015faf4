//! One port of the LAN: where its frames go, what disturbs them, and what of
//! them is recorded.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};

use super::pcap::Pcap;

/// How long a sender waits for a machine whose socket is full (the kernel
/// queues 10 datagrams) before the frame is dropped.
const PATIENCE: Duration = Duration::from_millis(100);

pub struct Port {
    pub name: String,
    outlet: Outlet,
    cut: AtomicBool,
    /// Frames lost, in parts per million.
    loss: AtomicU32,
    delay_micros: AtomicU64,
    side: AtomicUsize,
    recording: AtomicBool,
    pcap: Mutex<Option<Pcap<File>>>,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
    dropped: AtomicU64,
}

/// What has passed through a port: `received` from its machine, `sent` to it,
/// `dropped` because the machine did not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    pub sent: u64,
    pub dropped: u64,
}

impl Port {
    pub(super) fn new(name: &str, outlet: Outlet) -> Port {
        Port {
            name: name.to_string(),
            outlet,
            cut: AtomicBool::new(false),
            loss: AtomicU32::new(0),
            delay_micros: AtomicU64::new(0),
            side: AtomicUsize::new(0),
            recording: AtomicBool::new(false),
            pcap: Mutex::new(None),
            frames_in: AtomicU64::new(0),
            frames_out: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Pulls the cable out.
    pub fn cut(&self) {
        self.cut.store(true, Relaxed);
    }

    /// Loses this share (0 to 1) of the frames in each direction.
    pub fn lose(&self, share: f64) {
        self.loss.store((share.clamp(0.0, 1.0) * 1e6) as u32, Relaxed);
    }

    /// Holds every frame, in each direction, for this long.
    pub fn slow_down(&self, delay: Duration) {
        self.delay_micros.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Ends cut, loss and delay.
    pub fn mend(&self) {
        self.cut.store(false, Relaxed);
        self.lose(0.0);
        self.slow_down(Duration::ZERO);
    }

    /// Writes every frame that passes this port to a pcap file.
    pub fn record(&self, path: &Path) -> Result<()> {
        let file =
            File::create(path).with_context(|| format!("creating the recording {}", path.display()))?;
        *self.pcap() = Some(Pcap::new(file)?);
        self.recording.store(true, Relaxed);
        Ok(())
    }

    pub fn stop_recording(&self) -> Result<()> {
        self.recording.store(false, Relaxed);
        if let Some(pcap) = self.pcap().take() {
            pcap.finish().context("finishing the recording")?;
        }
        Ok(())
    }

    pub fn counts(&self) -> Counts {
        Counts {
            received: self.frames_in.load(Relaxed),
            sent: self.frames_out.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }

    pub(super) fn put_on_side(&self, side: usize) {
        self.side.store(side, Relaxed);
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_micros.load(Relaxed))
    }

    /// Whether a frame from this port's machine enters the LAN.
    pub(super) fn lets_in(&self, frame: &[u8]) -> bool {
        self.frames_in.fetch_add(1, Relaxed);
        if self.cut.load(Relaxed) || self.loses_this_one() {
            return false;
        }
        self.note(frame);
        true
    }

    /// Whether a frame from `inlet` leaves the LAN here.
    pub(super) fn lets_out(&self, inlet: &Port, frame: &[u8]) -> bool {
        let apart = self.side.load(Relaxed) != inlet.side.load(Relaxed);
        if apart || self.cut.load(Relaxed) || self.loses_this_one() {
            return false;
        }
        self.note(frame);
        true
    }

    pub(super) fn send(&self, frame: &[u8]) {
        let count = if self.outlet.send(frame) { &self.frames_out } else { &self.dropped };
        count.fetch_add(1, Relaxed);
    }

    fn loses_this_one(&self) -> bool {
        let loss = self.loss.load(Relaxed);
        loss > 0 && rand::random_range(0..1_000_000) < loss
    }

    fn note(&self, frame: &[u8]) {
        if !self.recording.load(Relaxed) {
            return;
        }
        let mut pcap = self.pcap();
        // A full disk ends the recording, not the LAN.
        if let Some(Err(error)) = pcap.as_mut().map(|pcap| pcap.frame(frame)) {
            tracing::warn!(port = self.name, %error, "The recording stops here");
            *pcap = None;
            self.recording.store(false, Relaxed);
        }
    }

    fn pcap(&self) -> std::sync::MutexGuard<'_, Option<Pcap<File>>> {
        self.pcap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) enum Outlet {
    Socket { path: PathBuf, connected: RwLock<Option<Connected>>, stuck: AtomicBool },
    Jack(SyncSender<Vec<u8>>),
}

/// Two sockets to the same machine: one that never waits, one that waits for
/// [`PATIENCE`]. Frames go out through sockets that are apart from the one that
/// reads, because a connected datagram socket refuses frames from any other
/// peer, and after a power cycle the machine's end is another peer.
pub(super) struct Connected {
    now: UnixDatagram,
    patient: UnixDatagram,
}

impl Connected {
    fn to(path: &Path) -> io::Result<Connected> {
        let now = UnixDatagram::unbound()?;
        now.set_nonblocking(true)?;
        now.connect(path)?;
        let patient = UnixDatagram::unbound()?;
        patient.set_write_timeout(Some(PATIENCE))?;
        patient.connect(path)?;
        Ok(Connected { now, patient })
    }
}

impl Outlet {
    pub(super) fn socket(path: PathBuf) -> Outlet {
        Outlet::Socket { path, connected: RwLock::new(None), stuck: AtomicBool::new(false) }
    }

    /// False when the frame was dropped.
    fn send(&self, frame: &[u8]) -> bool {
        match self {
            Outlet::Jack(sender) => sender.try_send(frame.to_vec()).is_ok(),
            Outlet::Socket { path, connected, stuck } => {
                let result = match &*connected.read().unwrap_or_else(PoisonError::into_inner) {
                    Some(sockets) => send_on(sockets, stuck, frame),
                    None => Err(io::ErrorKind::NotConnected.into()),
                };
                let Err(error) = result else { return true };
                if error.kind() == io::ErrorKind::WouldBlock {
                    return false;
                }
                // The machine was off, or is another process since its power
                // cycle: try its socket afresh.
                let fresh = Connected::to(path).ok();
                stuck.store(false, Relaxed);
                let sent = fresh.as_ref().is_some_and(|sockets| send_on(sockets, stuck, frame).is_ok());
                *connected.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                sent
            }
        }
    }
}

/// A machine whose firmware has stopped reading its NIC must not slow down the
/// others: after one frame waited in vain, the next are dropped at once until
/// one goes through.
fn send_on(sockets: &Connected, stuck: &AtomicBool, frame: &[u8]) -> io::Result<()> {
    match sockets.now.send(frame) {
        Ok(_) => {
            stuck.store(false, Relaxed);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stuck.load(Relaxed) => {
            let waited = sockets.patient.send(frame);
            if waited.is_err() {
                stuck.store(true, Relaxed);
            }
            waited.map(drop)
        }
        Err(error) => Err(error),
    }
}
