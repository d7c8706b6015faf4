//! The sockets of a DHCP server, which take and give packets in batches.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd},
};

use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt,
    },
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::{Mode, conflict::ARP};
use crate::{MacAddr, frame::packet_socket};

const SERVER_PORT: u16 = 67;
/// Where firmware asks a boot server (PXE 2.1 section 2.2.3).
const BOOT_SERVER_PORT: u16 = 4011;

/// Packets that are taken from or given to the kernel at a time.
pub(super) const BATCH: usize = 64;
/// The longest packet that an Ethernet brings. What is longer is cut, and then it is a bad packet.
const LONGEST: usize = 1536;
/// A thousand machines that are switched on at once find room: a packet takes about a kilobyte of it.
const BUFFER: usize = 4 << 20;

/// The sockets of a DHCP server on one interface.
pub struct Sockets {
    /// Port 67.
    pub(super) clients: UdpSocket,
    /// Port 4011, in ProxyDHCP.
    pub(super) boot_server: Option<UdpSocket>,
    /// For frames made by hand, with the interface's hardware address. It hears nothing.
    pub(super) frames: Option<(UdpSocket, MacAddr)>,
    /// Hears ARP, for a server that gives addresses.
    pub(super) arp: Option<UdpSocket>,
}

impl Sockets {
    /// Opens what `mode` needs. Needs root. Without packet sockets (CAP_NET_RAW) answers that should go to a machine
    /// without an address go to everybody, and addresses are not probed for.
    pub fn open(interface: &str, mode: Mode) -> io::Result<Self> {
        let clients = bind(interface, SERVER_PORT)?;
        let boot_server = match mode {
            Mode::Full => None,
            Mode::Proxy => Some(bind(interface, BOOT_SERVER_PORT)?),
        };
        let raw = |ether_type| match packet_socket(interface, ether_type, &[]) {
            Ok(opened) => Some(opened),
            Err(error) => {
                tracing::warn!("No packet socket on {interface}; DHCP answers are broadcast: {error}");
                None
            }
        };
        let frames = raw(0);
        let arp = if frames.is_some() && mode == Mode::Full { raw(ARP) } else { None };
        Ok(Self { clients, boot_server, frames, arp: arp.map(|(socket, _)| socket) })
    }
}

/// A socket for DHCP on one interface; the server's port is 67, the client's 68. Needs root.
pub fn bind(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Before bind: another interface may have its own DHCP server.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    // Past the system's limit for root, up to it for all others.
    if setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)))?;
    UdpSocket::from_std(socket.into())
}

/// Room for one batch of packets.
pub(super) struct Inbox {
    buffers: Vec<[u8; LONGEST]>,
    received: Vec<(usize, SocketAddrV4)>,
}

impl Inbox {
    pub fn new() -> Self {
        Self { buffers: vec![[0; LONGEST]; BATCH], received: Vec::with_capacity(BATCH) }
    }

    /// Takes what has come, up to a batch; nothing when nothing has.
    pub fn fill(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received.clear();
        let received = &mut self.received;
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let taken = socket.try_io(Interest::READABLE, || {
            let messages =
                recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
            for message in messages {
                let from = message.address.map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), Into::into);
                received.push((message.bytes, from));
            }
            Ok(())
        });
        match taken {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            // An earlier answer could not be delivered, which is told here. It says nothing of this socket.
            Err(error) if transient(&error) => Ok(0),
            Err(error) => Err(error),
            Ok(()) => Ok(self.received.len()),
        }
    }

    pub fn packets(&self) -> impl Iterator<Item = (&[u8], SocketAddrV4)> {
        self.received.iter().zip(&self.buffers).map(|((length, from), buffer)| (&buffer[..*length], *from))
    }
}

fn transient(error: &io::Error) -> bool {
    use nix::libc::{ECONNREFUSED, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ENOBUFS, EPERM};
    let known = [ECONNREFUSED, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ENOBUFS, EPERM];
    error.raw_os_error().is_some_and(|error| known.contains(&error))
}

/// Sends packets from `from`, each to its address; one result for each.
pub(super) async fn send_packets(
    socket: &UdpSocket,
    from: Ipv4Addr,
    packets: &[(&[u8], SocketAddrV4)],
) -> Vec<io::Result<()>> {
    // An interface may have several addresses, and clients check which one answers.
    let source = nix::libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: nix::libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
        ipi_addr: nix::libc::in_addr { s_addr: 0 },
    };
    send(socket, packets.len(), |first| {
        let batch = &packets[first..packets.len().min(first + BATCH)];
        let slices: Vec<[IoSlice<'_>; 1]> = batch.iter().map(|(packet, _)| [IoSlice::new(packet)]).collect();
        let to: Vec<Option<SockaddrIn>> = batch.iter().map(|(_, to)| Some(SockaddrIn::from(*to))).collect();
        let space = cmsg_space!(nix::libc::in_pktinfo);
        let mut headers = MultiHeaders::preallocate(batch.len(), Some(space));
        let source = [ControlMessage::Ipv4PacketInfo(&source)];
        let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, to, source, MsgFlags::MSG_DONTWAIT)?;
        Ok(sent.count())
    })
    .await
}

/// Sends whole frames; one result for each.
pub(super) async fn send_frames(socket: &UdpSocket, frames: &[Vec<u8>]) -> Vec<io::Result<()>> {
    send(socket, frames.len(), |first| {
        let batch = &frames[first..frames.len().min(first + BATCH)];
        let slices: Vec<[IoSlice<'_>; 1]> = batch.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let to: Vec<Option<SockaddrIn>> = vec![None; batch.len()];
        let mut headers = MultiHeaders::preallocate(batch.len(), None);
        let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, to, [], MsgFlags::MSG_DONTWAIT)?;
        Ok(sent.count())
    })
    .await
}

/// Calls `batch` with the first that is not sent yet, until none is left. It says how many it sent; an error is the first
/// one's.
async fn send(
    socket: &UdpSocket,
    count: usize,
    batch: impl Fn(usize) -> io::Result<usize>,
) -> Vec<io::Result<()>> {
    let mut results = Vec::with_capacity(count);
    while results.len() < count {
        match socket.try_io(Interest::WRITABLE, || batch(results.len())) {
            Ok(sent) => results.extend((0..sent.max(1)).map(|_| Ok(()))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Err(error) = socket.writable().await {
                    results.push(Err(error));
                }
            }
            Err(error) => results.push(Err(error)),
        }
    }
    results
}

/// The address and port that an error or a note names.
pub(super) fn ip(address: SocketAddrV4) -> std::net::IpAddr {
    SocketAddr::V4(address).ip()
}
