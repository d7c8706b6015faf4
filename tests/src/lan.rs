//! The lab's LAN: an Ethernet switch in this process.
//!
//! Every machine's cable is a pair of unix datagram sockets (`-netdev dgram`),
//! one datagram per frame, with one thread per cable that reads a frame and
//! writes it to the port where its destination was last seen. Ports can be cut,
//! made to lose or delay frames, put on different sides of a partition, and
//! recorded to a pcap file.
//!
//! A [`Jack`] is a port without a machine: the laptop sits on one, and tests use
//! others to inject frames.

mod delay;
mod pcap;
mod port;

use std::collections::HashMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use self::delay::DelayLine;
use self::port::Outlet;
pub use self::port::{Counts, Port};

pub type Mac = [u8; 6];

/// The largest datagram QEMU sends on a cable (its NET_BUFSIZE).
const FRAME_MAX: usize = 4096 + 65536;

/// How often a cable's thread looks whether the lab has ended.
const LOOK_UP: Duration = Duration::from_millis(250);

/// A frame has a destination, a source and a type.
const HEADER: usize = 14;

/// The switch. Its threads end when it is dropped.
pub struct Lan {
    switch: Arc<Switch>,
    folder: PathBuf,
}

/// The two socket paths of one cable, as QEMU is told of them.
#[derive(Debug, Clone)]
pub struct Cable {
    pub machine_end: PathBuf,
    pub lan_end: PathBuf,
}

impl Lan {
    /// `folder` holds the sockets; its path must be short, because a unix
    /// socket's path has at most 107 bytes.
    pub fn new(folder: &Path) -> Lan {
        let switch = Arc::new_cyclic(|switch| Switch {
            ports: RwLock::default(),
            owners: RwLock::default(),
            delayed: DelayLine::start(switch.clone()),
            ended: AtomicBool::new(false),
        });
        Lan { switch, folder: folder.to_path_buf() }
    }

    /// Lays a cable for a machine, which may be switched off and on at will.
    pub fn cable(&self, name: &str) -> Result<Cable> {
        let cable = Cable {
            machine_end: self.folder.join(format!("{name}.nic")),
            lan_end: self.folder.join(format!("{name}.lan")),
        };
        let socket = UnixDatagram::bind(&cable.lan_end).with_context(|| {
            format!("binding the LAN's end of the cable to {name} at {}", cable.lan_end.display())
        })?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let port = self.switch.add(name, Outlet::socket(cable.machine_end.clone()));
        let switch = self.switch.clone();
        thread::Builder::new().name(format!("lan {name}")).spawn(move || carry(&switch, port, &socket))?;
        Ok(cable)
    }

    /// A port for this process itself.
    pub fn jack(&self, name: &str) -> Jack {
        // As deep as a NIC's receive ring; like a NIC's, it drops when full.
        let (sender, frames) = sync_channel(1024);
        let port = self.switch.add(name, Outlet::Jack(sender));
        Jack { switch: self.switch.clone(), port, frames }
    }

    /// The port with this name, to disturb or record it.
    pub fn port(&self, name: &str) -> Result<Arc<Port>> {
        let ports = self.switch.ports.read().unwrap_or_else(PoisonError::into_inner);
        ports
            .iter()
            .find(|port| port.name == name)
            .cloned()
            .with_context(|| format!("the LAN has no port named {name}"))
    }

    /// Splits the LAN: only ports on the same side reach each other. Ports that
    /// are named on no side form one more side together.
    pub fn partition(&self, sides: &[&[&str]]) {
        let ports = self.switch.ports.read().unwrap_or_else(PoisonError::into_inner);
        for port in ports.iter() {
            let side = sides.iter().position(|side| side.contains(&port.name.as_str()));
            port.put_on_side(side.map_or(0, |side| side + 1));
        }
    }

    /// Undoes [`Lan::partition`].
    pub fn join(&self) {
        self.partition(&[]);
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.switch.ended.store(true, Ordering::Relaxed);
        self.switch.delayed.end();
    }
}

/// A port of the LAN held by this process: raw Ethernet frames in and out.
pub struct Jack {
    switch: Arc<Switch>,
    port: usize,
    frames: Receiver<Vec<u8>>,
}

impl Jack {
    pub fn send(&self, frame: &[u8]) {
        self.switch.forward(self.port, frame);
    }

    /// The next frame sent to this port, or `None` when `limit` has passed or
    /// the LAN has ended.
    pub fn receive(&self, limit: Duration) -> Option<Vec<u8>> {
        self.frames.recv_timeout(limit).ok()
    }
}

/// One cable's thread.
fn carry(switch: &Switch, port: usize, socket: &UnixDatagram) {
    let mut buffer = vec![0; FRAME_MAX];
    while !switch.ended.load(Ordering::Relaxed) {
        // An error is the read timeout: a datagram socket that is not connected
        // has no other.
        if let Ok(length) = socket.recv(&mut buffer) {
            switch.forward(port, &buffer[..length]);
        }
    }
}

struct Switch {
    ports: RwLock<Vec<Arc<Port>>>,
    /// Where each source address was last seen.
    owners: RwLock<HashMap<Mac, usize>>,
    delayed: DelayLine,
    ended: AtomicBool,
}

impl Switch {
    fn add(&self, name: &str, outlet: Outlet) -> usize {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        ports.push(Arc::new(Port::new(name, outlet)));
        ports.len() - 1
    }

    fn forward(&self, from: usize, frame: &[u8]) {
        let Some((header, _)) = frame.split_at_checked(HEADER) else { return };
        let mut destination: Mac = [0; 6];
        let mut source: Mac = [0; 6];
        destination.copy_from_slice(&header[..6]);
        source.copy_from_slice(&header[6..12]);

        let ports = self.ports.read().unwrap_or_else(PoisonError::into_inner);
        let Some(inlet) = ports.get(from) else { return };
        if !inlet.lets_in(frame) {
            return;
        }
        self.learn(source, from);
        match self.owner(destination) {
            Some(to) if to == from => {}
            Some(to) => self.deliver(inlet, &ports[to], to, frame),
            None => {
                for (to, outlet) in ports.iter().enumerate().filter(|(to, _)| *to != from) {
                    self.deliver(inlet, outlet, to, frame);
                }
            }
        }
    }

    fn deliver(&self, inlet: &Port, outlet: &Port, to: usize, frame: &[u8]) {
        if !outlet.lets_out(inlet, frame) {
            return;
        }
        let delay = inlet.delay() + outlet.delay();
        if delay.is_zero() {
            outlet.send(frame);
        } else {
            self.delayed.push(delay, to, frame);
        }
    }

    fn learn(&self, source: Mac, port: usize) {
        let known = self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&source) == Some(&port);
        if !known && !is_group(source) {
            self.owners.write().unwrap_or_else(PoisonError::into_inner).insert(source, port);
        }
    }

    fn owner(&self, destination: Mac) -> Option<usize> {
        self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&destination).copied()
    }
}

/// Broadcast and multicast addresses have the lowest bit of their first byte set.
fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 0xa];
    const B: Mac = [2, 0, 0, 0, 0, 0xb];
    const EVERYBODY: Mac = [0xff; 6];
    const SOON: Duration = Duration::from_millis(20);

    fn frame(to: Mac, from: Mac, text: &str) -> Vec<u8> {
        [&to[..], &from[..], &[0x88, 0xb5], text.as_bytes()].concat()
    }

    fn three() -> (tempfile::TempDir, Lan, Jack, Jack, Jack) {
        let folder = tempfile::tempdir().unwrap();
        let lan = Lan::new(folder.path());
        let (a, b, c) = (lan.jack("a"), lan.jack("b"), lan.jack("c"));
        (folder, lan, a, b, c)
    }

    #[test]
    fn a_frame_to_a_known_address_reaches_that_port_alone() {
        let (_folder, _lan, a, b, c) = three();
        b.send(&frame(EVERYBODY, B, "hello"));
        assert!(a.receive(SOON).is_some() && c.receive(SOON).is_some());
        a.send(&frame(B, A, "for b"));
        assert_eq!(b.receive(SOON), Some(frame(B, A, "for b")));
        assert_eq!(c.receive(SOON), None);
    }

    #[test]
    fn a_cut_port_is_silent_both_ways_until_it_is_mended() {
        let (_folder, lan, a, b, _c) = three();
        lan.port("a").unwrap().cut();
        a.send(&frame(EVERYBODY, A, "lost"));
        b.send(&frame(EVERYBODY, B, "lost too"));
        assert_eq!((a.receive(SOON), b.receive(SOON)), (None, None));
        lan.port("a").unwrap().mend();
        a.send(&frame(EVERYBODY, A, "heard"));
        assert_eq!(b.receive(SOON), Some(frame(EVERYBODY, A, "heard")));
    }

    #[test]
    fn a_partition_keeps_its_sides_apart() {
        let (_folder, lan, a, b, c) = three();
        lan.partition(&[&["a", "b"], &["c"]]);
        a.send(&frame(EVERYBODY, A, "x"));
        assert!(b.receive(SOON).is_some());
        assert_eq!(c.receive(SOON), None);
        lan.join();
        a.send(&frame(EVERYBODY, A, "x"));
        assert!(c.receive(SOON).is_some());
    }

    #[test]
    fn loss_and_delay_do_what_they_say() {
        let (_folder, lan, a, b, _c) = three();
        let port = lan.port("a").unwrap();
        port.lose(1.0);
        a.send(&frame(EVERYBODY, A, "x"));
        assert_eq!(b.receive(SOON), None);
        port.mend();
        port.slow_down(Duration::from_millis(60));
        let start = std::time::Instant::now();
        a.send(&frame(EVERYBODY, A, "late"));
        assert_eq!(b.receive(Duration::from_secs(5)), Some(frame(EVERYBODY, A, "late")));
        assert!(start.elapsed() >= Duration::from_millis(60));
    }

    #[test]
    fn a_recording_is_a_pcap_file_of_the_frames_that_passed() {
        let (folder, lan, a, b, _c) = three();
        let path = folder.path().join("b.pcap");
        lan.port("b").unwrap().record(&path).unwrap();
        a.send(&frame(EVERYBODY, A, "in"));
        b.send(&frame(A, B, "out"));
        lan.port("b").unwrap().stop_recording().unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_le_bytes());
        assert_eq!(bytes.len(), 24 + 2 * 16 + (HEADER + 2) + (HEADER + 3));
    }

    #[test]
    fn a_cable_carries_frames_and_a_machine_that_does_not_read_stops_nobody() {
        let (_folder, lan, a, b, _c) = three();
        let cable = lan.cable("m").unwrap();
        let machine = UnixDatagram::bind(&cable.machine_end).unwrap();
        for _ in 0..100 {
            a.send(&frame(EVERYBODY, A, "flood"));
        }
        assert!(b.receive(SOON).is_some());
        machine.set_nonblocking(true).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(machine.recv(&mut buffer).unwrap(), HEADER + 5);
        while machine.recv(&mut buffer).is_ok() {}
        machine.send_to(&frame(A, B, "up"), &cable.lan_end).unwrap();
        assert_eq!(a.receive(Duration::from_secs(5)), Some(frame(A, B, "up")));
        a.send(&frame(B, A, "down"));
        machine.set_nonblocking(false).unwrap();
        assert_eq!(machine.recv(&mut buffer).unwrap(), HEADER + 4);
    }

    #[test]
    fn frames_shorter_than_a_header_are_dropped() {
        let (_folder, _lan, a, b, _c) = three();
        a.send(&[0xff; 13]);
        a.send(&[]);
        assert_eq!(b.receive(SOON), None);
    }
}
