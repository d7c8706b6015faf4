//! Asks who serves DHCP on an interface, as a machine that has just been switched on would ask.
//!
//! Whole Ethernet frames, because the interface may have no address: the kernel's UDP drops the
//! answers then (rp_filter, which systemd switches on).

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::Ipv4Addr,
    os::fd::AsRawFd,
    time::Duration,
};

use dhcproto::{
    Encodable, Encoder,
    v4::{DhcpOption, Flags, Message, MessageType, OptionCode},
};
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, bind, socket},
};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use crate::MacAddr;

/// Somebody else's DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignServer {
    /// Option 54, or the packet's sender.
    pub address: Ipv4Addr,
    /// The address that it offered.
    pub offered: Ipv4Addr,
    /// The first of option 3.
    pub router: Option<Ipv4Addr>,
    /// The sender of the frame: the server, or the relay before it.
    pub mac: MacAddr,
}

/// A second server may answer a little after the first.
const AFTER_FIRST: Duration = Duration::from_millis(500);
/// A DISCOVER may be lost, and switches need a while before they pass packets.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Sends DISCOVERs for at most `wait` and lists who offers an address. The interface has to be up.
/// Needs CAP_NET_RAW.
pub async fn dhcp_servers(interface: &str, wait: Duration) -> io::Result<Vec<ForeignServer>> {
    let link = link_address(interface)?;
    let mac = MacAddr(link.addr().ok_or_else(|| io::Error::other("the interface has no hardware address"))?);
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthIp,
    )?;
    bind(socket.as_raw_fd(), &link)?;
    // tokio's UdpSocket for what is none: on a bound packet socket recv and send are the same calls.
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;

    // Only has to differ from the other clients' on the wire.
    let xid = RandomState::new().hash_one(mac) as u32;
    let discover = discover(mac, xid).map_err(io::Error::other)?;

    let mut frame = [0; 2048];
    let mut servers: Vec<ForeignServer> = Vec::new();
    let mut end = Instant::now() + wait;
    let mut ask = Instant::now();
    while Instant::now() < end {
        if ask <= Instant::now() {
            socket.send(&discover).await?;
            ask += ASK_EVERY;
        }
        let Ok(received) = timeout_at(ask.min(end), socket.recv(&mut frame)).await else { continue };
        let Some(server) = offer(&frame[..received?], xid) else { continue };
        end = end.min(Instant::now() + AFTER_FIRST);
        if !servers.iter().any(|known| known.address == server.address) {
            servers.push(server);
        }
    }
    Ok(servers)
}

/// The interface as an address to bind to. Its protocol is 0, which leaves the socket's own.
fn link_address(interface: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {interface}")))
}

/// A DISCOVER with the broadcast flag, from nobody to everybody.
fn discover(mac: MacAddr, xid: u32) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, none, none, none, none, &mac.0);
    message.set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(MessageType::Discover));
    let wanted = [OptionCode::SubnetMask, OptionCode::Router, OptionCode::DomainNameServer];
    options.insert(DhcpOption::ParameterRequestList(wanted.into()));
    let mut payload = Vec::new();
    message.encode(&mut Encoder::new(&mut payload))?;
    payload.resize(payload.len().max(300), 0);

    let udp_length = u16::try_from(payload.len() + 8).unwrap_or(u16::MAX);
    let mut ip = vec![0x45, 0];
    ip.extend((udp_length + 20).to_be_bytes());
    // Identification and fragment offset 0, 64 hops, UDP, checksum to be filled in.
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend([0; 4]);
    ip.extend([255; 4]);
    let sum = internet_checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut frame = vec![0xff; 6];
    frame.extend(mac.0);
    frame.extend([0x08, 0x00]);
    frame.extend(ip);
    frame.extend([0, 68, 0, 67]);
    frame.extend(udp_length.to_be_bytes());
    // No UDP checksum.
    frame.extend([0, 0]);
    frame.extend(payload);
    Ok(frame)
}

fn internet_checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Reads a frame; `None` for everything but an OFFER to us.
fn offer(frame: &[u8], xid: u32) -> Option<ForeignServer> {
    let (ethernet, ip) = frame.split_at_checked(14)?;
    if ethernet[12..14] != [0x08, 0x00] || *ip.first()? >> 4 != 4 {
        return None;
    }
    let header = usize::from(*ip.first()? & 15) * 4;
    // UDP, and the first fragment of a packet (which for DHCP is all of it).
    if *ip.get(9)? != 17 || ip.get(6)? & 0x1f != 0 || *ip.get(7)? != 0 {
        return None;
    }
    let sender = address(ip.get(12..16)?)?;
    let (udp, message) = ip.get(header..)?.split_at_checked(8)?;
    if udp[..4] != [0, 67, 0, 68] {
        return None;
    }
    if *message.first()? != 2
        || message.get(4..8)? != xid.to_be_bytes()
        || message.get(236..240)? != [99, 130, 83, 99]
    {
        return None;
    }
    let mut options = std::collections::BTreeMap::new();
    crate::dhcp::scan(&message[240..], &mut options).ok()?;
    if options.get(&53)? != &[2] {
        return None;
    }
    Some(ForeignServer {
        address: options.get(&54).and_then(|value| address(value)).unwrap_or(sender),
        offered: address(message.get(16..20)?)?,
        router: options.get(&3).and_then(|value| address(value.get(..4)?)),
        mac: MacAddr(<[u8; 6]>::try_from(&ethernet[6..12]).ok()?),
    })
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_discover_is_one_that_our_server_understands() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let frame = discover(mac, 7).unwrap();
        assert_eq!(internet_checksum(&frame[14..34]), 0);
        let request = crate::dhcp::parse(&frame[42..]).unwrap();
        assert_eq!((request.xid, request.sight.mac, request.broadcast), (7, mac, true));
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(mut frame in prop::collection::vec(any::<u8>(), 0..400), valid in any::<bool>()) {
            if valid && frame.len() > 300 {
                frame[12..15].copy_from_slice(&[8, 0, 0x45]);
                frame[20..24].copy_from_slice(&[0, 0, 64, 17]);
                frame[34..38].copy_from_slice(&[0, 67, 0, 68]);
                frame[42] = 2;
                frame[46..50].copy_from_slice(&[0, 0, 0, 7]);
                frame[278..282].copy_from_slice(&[99, 130, 83, 99]);
            }
            offer(&frame, 7);
        }
    }
}
