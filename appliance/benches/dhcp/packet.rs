//! What a machine sends to get an address, and what it reads of the answers.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The address that was offered, and the server that did.
pub type Offered = ([u8; 4], [u8; 4]);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Transaction id of the question.
    pub number: u32,
    /// 2 is an OFFER, 5 an ACK, 6 a NAK.
    pub kind: u8,
    pub address: [u8; 4],
    pub server: [u8; 4],
    /// Boot file.
    pub file: String,
}

/// Broadcasts, and hears the answers of all machines behind `eth0`.
pub fn socket() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.bind_device(Some(b"eth0")).unwrap();
    socket.set_broadcast(true).unwrap();
    // Root may have more than everybody; a thousand answers come at the same moment.
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(32 << 20));
    socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68))).unwrap();
    socket.set_nonblocking(true).unwrap();
    UdpSocket::from(socket)
}

/// The hardware address of a machine.
pub fn mac(machine: u32) -> [u8; 6] {
    let [a, b, c, d] = machine.to_be_bytes();
    [2, 0x10, a, b, c, d]
}

/// A DISCOVER, or the REQUEST of what was offered, with the options `more` behind the usual ones.
pub fn question(number: u32, mac: [u8; 6], offered: Option<Offered>, more: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&number.to_be_bytes());
    // It takes its answers by broadcast.
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&mac);
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend([53, 1, if offered.is_some() { 3 } else { 1 }]);
    packet.extend([55, 3, 1, 3, 6]);
    if let Some((address, server)) = offered {
        packet.extend([50, 4]);
        packet.extend(address);
        packet.extend([54, 4]);
        packet.extend(server);
    }
    packet.extend(more);
    packet.push(255);
    packet.resize(packet.len().max(300), 0);
    packet
}

pub fn send(socket: &UdpSocket, packet: &[u8]) {
    // What the cable does not take is lost, as on any cable.
    let _ = socket.send_to(packet, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
}

/// How long a packet's answer is waited for: about 1 s, 2 s, 4 s, not the same for all machines (RFC 2131, 4.1).
pub fn patience(machine: u32, tries: u32) -> Duration {
    let spread = u64::from(machine) * 7919 % 1000;
    Duration::from_millis((1000 << tries.min(2)) - 500 + spread)
}

pub fn answer(packet: &[u8]) -> Option<Answer> {
    if packet.len() < 240 || packet[0] != 2 {
        return None;
    }
    let number = u32::from_be_bytes(packet[4..8].try_into().ok()?);
    let address = packet[16..20].try_into().ok()?;
    let (mut kind, mut server, mut file) = (0, [0; 4], text(&packet[108..236]));
    let mut options = &packet[240..];
    while let [code, length, rest @ ..] = options {
        if *code == 255 || rest.len() < usize::from(*length) {
            break;
        }
        let (value, rest) = rest.split_at(usize::from(*length));
        match code {
            53 => kind = *value.first()?,
            54 => server = value.try_into().ok()?,
            67 => file = text(value),
            _ => {}
        }
        options = rest;
    }
    Some(Answer { number, kind, address, server, file })
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}
