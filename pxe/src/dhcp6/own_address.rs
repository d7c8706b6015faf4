//! The appliance's own address in the network that it serves.

use std::{io, net::Ipv6Addr, os::fd::AsRawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::senders::link_address;
use crate::MacAddr;

/// The hardware address of an interface.
pub fn mac_of(interface: &str) -> io::Result<MacAddr> {
    let link = link_address(interface)?;
    link.addr().map(MacAddr).ok_or_else(|| io::Error::other(format!("{interface} has no hardware address")))
}

/// Gives the interface this address with a prefix of 64 bits, if it has not got it. Needs CAP_NET_ADMIN.
pub fn ensure(interface: &str, address: Ipv6Addr) -> io::Result<()> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let request = new_address(index, address);
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut reply = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    // A header of 16 bytes, then the error: 0 or a negative number.
    match reply[..length].get(16..20).and_then(<[u8]>::first_chunk) {
        Some(code) => match i32::from_ne_bytes(*code) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code)),
        },
        None => Err(io::Error::other("an odd answer of netlink")),
    }
}

/// RTM_NEWADDR as in rtnetlink(7).
fn new_address(index: u32, address: Ipv6Addr) -> Vec<u8> {
    const RTM_NEWADDR: u16 = 20;
    // Request, acknowledge, replace, create.
    const FLAGS: u16 = 1 | 4 | 0x100 | 0x400;
    const FAMILY: u8 = 10;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_FLAGS: u16 = 8;
    // No duplicate address detection: the address is ours by the way the network gives addresses away, and clients
    // speak to it at once.
    const IFA_F_NODAD: u32 = 2;

    let mut body = vec![FAMILY, 64, 0, 0];
    body.extend(index.to_ne_bytes());
    let attributes = [
        (IFA_LOCAL, &address.octets()[..]),
        (IFA_ADDRESS, &address.octets()[..]),
        (IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes()[..]),
    ];
    for (kind, value) in attributes {
        body.extend((4 + value.len() as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
    }
    let mut message = Vec::new();
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(RTM_NEWADDR.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Sequence number and port.
    message.extend([0; 8]);
    message.extend(body);
    message
}
