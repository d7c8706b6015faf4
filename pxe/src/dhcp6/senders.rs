//! Which NIC sent a DHCPv6 packet: the sender of its Ethernet frame.
//!
//! UDP does not tell, an address of RFC 7217 or a DUID-EN has no MAC address in it, and the kernel's table of
//! neighbours does not know who has only been listened to. So the frames to port 547 are looked at as well.

use std::{collections::HashMap, io, net::Ipv6Addr, os::fd::AsRawFd};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvmsg, socket,
    },
};
use socket2::{SockFilter, Socket};

use super::{SERVER_PORT, option};
use crate::MacAddr;

/// Senders that are kept in mind between the frame and its packet.
const MOST: usize = 1024;

/// Watches one interface. Needs CAP_NET_RAW.
pub struct Senders {
    socket: Socket,
    seen: HashMap<Ipv6Addr, MacAddr>,
}

impl Senders {
    pub fn bind(interface: &str) -> io::Result<Self> {
        // All protocols: such sockets are given a frame before the kernel's IPv6 has it, so that it is here when the
        // packet is. No Ethernet header: what is read begins with that of IPv6.
        let descriptor = socket(
            AddressFamily::Packet,
            SockType::Datagram,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )?;
        let socket = Socket::from(descriptor);
        socket.attach_filter(&filter())?;
        // From here on it only hears this interface; the few frames before that do no harm.
        bind(socket.as_raw_fd(), &link_address(interface)?)?;
        Ok(Self { socket, seen: HashMap::new() })
    }

    /// The sender of the frames that came from `from`, the latest.
    pub fn of(&mut self, from: Ipv6Addr) -> Option<MacAddr> {
        self.read();
        self.seen.get(&from).copied()
    }

    fn read(&mut self) {
        if self.seen.len() > MOST {
            self.seen.clear();
        }
        let mut header = [0; 40];
        loop {
            let mut parts = [io::IoSliceMut::new(&mut header)];
            let received =
                recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT);
            let sender = match received {
                Ok(message) => message.address.and_then(|sender| sender.addr()),
                Err(Errno::EINTR) => continue,
                // Nothing left; or the interface is down, and there will be no packets either.
                Err(_) => return,
            };
            if let (Some(mac), Some(from)) = (sender, option::address(&header[8..])) {
                self.seen.insert(from, MacAddr(mac));
            }
        }
    }
}

/// IPv6, UDP without headers before it, to port 547.
fn filter() -> [SockFilter; 9] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const AND: u16 = 0x54;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(AND, 0, 0, 0xf0),
        SockFilter::new(IF_EQUAL, 0, 5, 0x60),
        // The next header is UDP; its port of destination comes after the 40 bytes of IPv6.
        SockFilter::new(LOAD_BYTE, 0, 0, 6),
        SockFilter::new(IF_EQUAL, 0, 3, 17),
        SockFilter::new(LOAD_HALF, 0, 0, 42),
        SockFilter::new(IF_EQUAL, 0, 1, u32::from(SERVER_PORT)),
        SockFilter::new(RETURN, 0, 0, 40),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// The interface as an address to bind to. Its protocol is 0, which leaves the socket's own.
pub fn link_address(interface: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {interface}")))
}
