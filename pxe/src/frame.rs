//! Ethernet frames made by hand, for those who cannot be reached by the kernel's UDP: a machine that has no address
//! yet, and an interface that has none.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{LinkAddr, bind},
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

use crate::MacAddr;

pub(crate) const IPV4: u16 = 0x0800;

pub(crate) const EVERYBODY: MacAddr = MacAddr([0xff; 6]);

/// Ethernet and IPv4 without options, then UDP.
const HEADERS: usize = 14 + 20 + 8;

/// A packet socket on one interface that hears frames of one type that pass `filter` (classic BPF over the whole frame).
/// Needs CAP_NET_RAW.
///
/// It is tokio's UdpSocket for what is none: on a bound packet socket `recv` and `send` are the same calls.
pub(crate) fn packet_socket(
    interface: &str,
    ether_type: u16,
    filter: &[SockFilter],
) -> io::Result<(UdpSocket, MacAddr)> {
    let link = link_address(interface)?;
    let mac = MacAddr(link.addr().ok_or_else(|| io::Error::other("the interface has no hardware address"))?);
    // The protocol in the order of bytes on the wire: packet(7).
    let protocol = Protocol::from(i32::from(ether_type.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    if !filter.is_empty() {
        socket.attach_filter(filter)?;
    }
    socket.set_nonblocking(true)?;
    // The address' own protocol is 0, which leaves the socket's.
    bind(socket.as_raw_fd(), &link)?;
    Ok((UdpSocket::from_std(socket.into())?, mac))
}

fn link_address(interface: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {interface}")))
}

/// A UDP packet in an Ethernet frame.
pub(crate) fn udp(
    (from_mac, from): (MacAddr, SocketAddrV4),
    (to_mac, to): (MacAddr, SocketAddrV4),
    payload: &[u8],
) -> Vec<u8> {
    let udp_length = u16::try_from(payload.len() + 8).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(HEADERS + payload.len());
    frame.extend(to_mac.0);
    frame.extend(from_mac.0);
    frame.extend(IPV4.to_be_bytes());
    frame.extend([0x45, 0]);
    frame.extend(udp_length.saturating_add(20).to_be_bytes());
    // Identification and fragment offset 0, 64 hops, UDP, checksum to be filled in.
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(from.ip().octets());
    frame.extend(to.ip().octets());
    let header = !folded(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    frame.extend(from.port().to_be_bytes());
    frame.extend(to.port().to_be_bytes());
    frame.extend(udp_length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    // The pseudo header: both addresses, the protocol and the length.
    let whole = sum(&frame[26..34]) + 17 + u32::from(udp_length) + sum(&frame[34..]);
    // 0 would say that there is no checksum; there are ROMs that want one.
    let checksum = match !folded(whole) {
        0 => 0xffff,
        sum => sum,
    };
    frame[40..42].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// A UDP packet as it was found in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Udp<'a> {
    pub from_mac: MacAddr,
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub payload: &'a [u8],
}

/// Reads a frame; `None` for everything but a whole UDP packet over IPv4.
pub(crate) fn read_udp(frame: &[u8]) -> Option<Udp<'_>> {
    let (ethernet, ip) = frame.split_at_checked(14)?;
    if ethernet[12..14] != IPV4.to_be_bytes() || *ip.first()? >> 4 != 4 {
        return None;
    }
    let header = usize::from(*ip.first()? & 15) * 4;
    // UDP, and the first fragment of a packet (which for DHCP is all of it).
    if *ip.get(9)? != 17 || ip.get(6)? & 0x1f != 0 || *ip.get(7)? != 0 {
        return None;
    }
    let (udp, payload) = ip.get(header..)?.split_at_checked(8)?;
    let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    // What a switch added to a short frame is no part of the packet.
    let length = usize::from(port(4)).checked_sub(8)?.min(payload.len());
    Some(Udp {
        from_mac: MacAddr(<[u8; 6]>::try_from(&ethernet[6..12]).ok()?),
        from: SocketAddrV4::new(address(ip.get(12..16)?)?, port(0)),
        to: SocketAddrV4::new(address(ip.get(16..20)?)?, port(2)),
        payload: &payload[..length],
    })
}

pub(crate) fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

/// The sum of RFC 1071, not yet folded. At most 64 KB, so it does not overflow.
fn sum(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks_exact(2);
    let odd = pairs.remainder().first().map_or(0, |byte| u32::from(*byte) << 8);
    pairs.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>() + odd
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_frame_is_read_as_it_was_made() {
        let from = "10.77.0.1:67".parse().unwrap();
        let to = "10.77.1.0:68".parse().unwrap();
        for payload in [&b"odd"[..], b"even", b""] {
            let frame = udp((A, from), (B, to), payload);
            assert_eq!(read_udp(&frame), Some(Udp { from_mac: A, from, to, payload }));
            assert_eq!(folded(sum(&frame[14..34])), 0xffff, "the IP header's sum is right");
            let pseudo = sum(&frame[26..34]) + 17 + u32::from(frame[39]);
            assert_eq!(folded(pseudo + sum(&frame[34..])), 0xffff, "and UDP's");
            for cut in 0..frame.len() - payload.len() {
                assert_eq!(read_udp(&frame[..cut]), None);
            }
        }
    }
}
