//! The sockets around the engine, in a thread of their own.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    time::Instant,
};

use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        ControlMessage, MsgFlags, MultiHeaders, SockaddrLike, SockaddrStorage, recvmmsg, sendmmsg,
        setsockopt,
        sockopt::{RcvBufForce, SndBufForce},
    },
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    Files,
    engine::{Action, Engine, Link},
    parse::LONGEST_REQUEST,
    shelf::{Content, Loaders, Pieces},
    transfer::LARGEST_WINDOW,
};
use crate::Note;

/// Transfers go out from this many ports, in turn.
const SOCKETS: u8 = 2;

/// Thousands of acknowledgments may wait for their turn, and thousands of windows for the wire. A packet that waits
/// takes about a kilobyte of these however short it is.
const SOCKET_BUFFER: usize = 8 << 20;

/// Packets taken at a time.
const BATCH: usize = 32;

/// Of one more than any request, so that what is cut is seen to be too long.
const PACKET: usize = LONGEST_REQUEST + 1;

/// The kernel takes one message of at most this many bytes and segments (UDP_MAX_SEGMENTS) and cuts it into packets.
const LARGEST_MESSAGE: usize = 65_000;
const MOST_SEGMENTS: usize = 64;

pub struct Server {
    /// The server's port first, then those of the transfers.
    sockets: [UdpSocket; SOCKETS as usize + 1],
    /// Closed on the other side when the server has to end.
    alive: UnixStream,
    engine: Engine<Content>,
    shelf: Loaders,
}

impl Server {
    pub fn new(socket: UdpSocket, files: Files, alive: UnixStream) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let sockets = [socket, beside(address)?, beside(address)?];
        for socket in &sockets {
            socket.set_nonblocking(true)?;
            enlarge(socket);
        }
        Ok(Self { sockets, alive, engine: Engine::new(SOCKETS), shelf: Loaders::new(files) })
    }

    pub fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![[0; PACKET]; BATCH];
        let mut received: Vec<(SocketAddr, usize)> = Vec::with_capacity(BATCH);
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let mut sender = Sender::new();
        loop {
            let Some(readable) = self.wait()? else { return Ok(()) };
            for (place, socket) in self.sockets.iter().enumerate() {
                if !readable[place] {
                    continue;
                }
                receive(socket, &mut headers, &mut buffer, &mut received)?;
                let now = Instant::now();
                for ((client, length), packet) in received.iter().zip(&buffer) {
                    let packet = &packet[..*length];
                    match place.checked_sub(1) {
                        None => self.engine.request(*client, packet, &mut self.shelf, now),
                        Some(number) => {
                            let link = Link { socket: number as u8, client: *client };
                            self.engine.reply(link, packet, now);
                        }
                    }
                }
                perform(&mut self.engine, &self.sockets, &self.shelf, &mut sender);
            }
            self.engine.silence(Instant::now());
            perform(&mut self.engine, &self.sockets, &self.shelf, &mut sender);
            if self.engine.under_way() == 0 {
                sender.pieces.clear();
            }
        }
    }

    /// Waits for packets or for what is due. `None` when the server has to end.
    fn wait(&self) -> io::Result<Option<[bool; SOCKETS as usize + 1]>> {
        let waits = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let [port, sockets @ ..] = &self.sockets;
        let mut waited = [
            waits(self.alive.as_fd()),
            waits(port.as_fd()),
            waits(sockets[0].as_fd()),
            waits(sockets[1].as_fd()),
        ];
        let timeout = match self.engine.next_due() {
            // A millisecond more than less, so that it is due when this returns.
            Some(due) => {
                let wait = due.saturating_duration_since(Instant::now()).as_millis() + 1;
                PollTimeout::from(u16::try_from(wait).unwrap_or(u16::MAX))
            }
            None => PollTimeout::NONE,
        };
        match poll(&mut waited, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
        if ready(&waited[0]) {
            return Ok(None);
        }
        let mut readable = [false; SOCKETS as usize + 1];
        for (readable, fd) in readable.iter_mut().zip(&waited[1..]) {
            *readable = ready(fd);
        }
        Ok(Some(readable))
    }
}

/// Does what the engine wants to be done.
fn perform(engine: &mut Engine<Content>, sockets: &[UdpSocket], shelf: &Loaders, sender: &mut Sender) {
    // Files that cannot be read end transfers, which gives new actions.
    while !engine.actions.is_empty() {
        for action in std::mem::take(&mut engine.actions) {
            match action {
                Action::Packet { link, bytes } => {
                    sender.packet(&sockets[1 + usize::from(link.socket)], link, &bytes)
                }
                Action::Blocks { link, content, size, block, first, count } => {
                    match content.packets(&mut sender.pieces, &mut sender.buffer, size, block, first, count) {
                        Ok(length) => {
                            let segment = 4 + usize::from(block);
                            sender.window(&sockets[1 + usize::from(link.socket)], link, length, segment);
                        }
                        Err(error) => engine.unreadable(link, &error.to_string(), Instant::now()),
                    }
                }
                Action::Note { client, step } => {
                    shelf.files().directory.note(Note { mac: None, address: Some(client), step });
                }
            }
        }
    }
}

/// Takes what has come, at most [`BATCH`] packets.
fn receive(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrStorage>,
    buffer: &mut [[u8; PACKET]],
    received: &mut Vec<(SocketAddr, usize)>,
) -> io::Result<()> {
    received.clear();
    let mut slices: Vec<[IoSliceMut; 1]> =
        buffer.iter_mut().map(|packet| [IoSliceMut::new(packet)]).collect();
    match recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
        Ok(messages) => {
            for message in messages {
                // Without an address there is nobody to answer; an empty packet is no packet of ours.
                let client = message.address.as_ref().and_then(from_storage);
                let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
                received.push((client.unwrap_or(nobody), if client.is_some() { message.bytes } else { 0 }));
            }
            Ok(())
        }
        // Nothing there, or the network says something about packets that we sent.
        Err(
            Errno::EAGAIN
            | Errno::EINTR
            | Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::ENETDOWN,
        ) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sends packets; what cannot be sent is lost, as anything may be on the way.
struct Sender {
    pieces: Pieces,
    /// A window of packets, one after the other.
    buffer: Vec<u8>,
    /// Whether the kernel cuts messages into packets (UDP_SEGMENT). Found out by trying.
    segments: bool,
    plain: MultiHeaders<SockaddrStorage>,
    cut: MultiHeaders<SockaddrStorage>,
}

impl Sender {
    fn new() -> Self {
        let window = usize::from(LARGEST_WINDOW);
        Self {
            pieces: Pieces::default(),
            buffer: vec![0; window * (4 + 1468)],
            segments: true,
            plain: MultiHeaders::preallocate(window, None),
            cut: MultiHeaders::preallocate(window, Some(cmsg_space!(u16))),
        }
    }

    fn packet(&mut self, socket: &UdpSocket, link: Link, bytes: &[u8]) {
        let sent = retry(socket, || socket.send_to(bytes, link.client).map(|_| ()));
        if let Err(error) = sent {
            tracing::trace!("TFTP to {}: {error}", link.client);
        }
    }

    /// Sends `length` bytes of the buffer in packets of `segment` bytes: a window by one system call, if the kernel can.
    fn window(&mut self, socket: &UdpSocket, link: Link, length: usize, segment: usize) {
        let client = SockaddrStorage::from(link.client);
        let mut at = 0;
        if self.segments && length > segment {
            let message = segment * (LARGEST_MESSAGE / segment).min(MOST_SEGMENTS);
            let size = segment as u16;
            let cut = [ControlMessage::UdpGsoSegments(&size)];
            match send(socket, &mut self.cut, &self.buffer[..length], message, client, &cut) {
                Ok(()) => return,
                Err((sent, error)) => {
                    at = sent;
                    match error {
                        // No such thing in this kernel, or this network card cannot do it.
                        Errno::EIO | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT => {
                            tracing::debug!("TFTP: packets are sent one by one: UDP_SEGMENT: {error}");
                            self.segments = false;
                        }
                        // The path is narrower than was thought: such packets go in fragments.
                        Errno::EINVAL | Errno::EMSGSIZE => {}
                        error => return tracing::trace!("TFTP to {}: {error}", link.client),
                    }
                }
            }
        }
        if let Err((_, error)) = send(socket, &mut self.plain, &self.buffer[at..length], segment, client, &[])
        {
            tracing::trace!("TFTP to {}: {error}", link.client);
        }
    }
}

/// Sends `bytes` in messages of `message` bytes. When it fails, says how many bytes went.
fn send(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrStorage>,
    bytes: &[u8],
    message: usize,
    client: SockaddrStorage,
    control: &[ControlMessage<'_>],
) -> Result<(), (usize, Errno)> {
    let mut at = 0;
    while at < bytes.len() {
        let slices: Vec<[IoSlice; 1]> =
            bytes[at..].chunks(message).map(|message| [IoSlice::new(message)]).collect();
        let addresses = vec![Some(client); slices.len()];
        let sent = retry(socket, || {
            let flags = MsgFlags::MSG_DONTWAIT;
            let sent = sendmmsg(socket.as_raw_fd(), headers, &slices, &addresses, control, flags)?;
            Ok(sent.count())
        });
        match sent {
            Ok(messages) => at += (messages * message).min(bytes.len() - at),
            Err(error) => {
                let error = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
                return Err((at, error));
            }
        }
    }
    Ok(())
}

/// Waits for a moment where the wire is behind: it sets the pace then. Not for long, as others wait too.
fn retry<T>(socket: &UdpSocket, mut send: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..3 {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                _ = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(20_u8));
            }
            result => return result,
        }
    }
    send()
}

/// A socket on the same address, and a port of its own.
fn beside(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The interface may get the address later.
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    let mut address = address;
    address.set_port(0);
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn enlarge(socket: &UdpSocket) {
    // Beyond the system's limit as root, up to it otherwise.
    if setsockopt(socket, RcvBufForce, &SOCKET_BUFFER).is_err() {
        let socket = socket2::SockRef::from(socket);
        _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    }
    if setsockopt(socket, SndBufForce, &SOCKET_BUFFER).is_err() {
        let socket = socket2::SockRef::from(socket);
        _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    }
}

fn from_storage(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match storage.family()? {
        nix::sys::socket::AddressFamily::Inet => {
            let address = storage.as_sockaddr_in()?;
            Some((address.ip(), address.port()).into())
        }
        nix::sys::socket::AddressFamily::Inet6 => {
            let address = storage.as_sockaddr_in6()?;
            let (ip, port) = (address.ip(), address.port());
            // The scope belongs to a link-local address: without it nothing goes there.
            Some(std::net::SocketAddrV6::new(ip, port, 0, address.scope_id()).into())
        }
        _ => None,
    }
}
