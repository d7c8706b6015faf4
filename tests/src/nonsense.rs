//! Packets that a broken or hostile device on the LAN sends: for tests that see
//! the running appliance shrug them off. What is answered to each is tested in
//! crate `pxe`, byte by byte.

use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr,
    UdpPacket, UdpRepr,
};

use crate::appliance::ADDRESS;
use crate::lan::Mac;

const DHCP: (u16, u16) = (68, 67);
const TFTP: (u16, u16) = (2070, 69);

/// A DHCPDISCOVER without options: BOOTP header and cookie.
fn discover(mac: Mac) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[28..34].copy_from_slice(&mac);
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    packet
}

pub fn frames(mac: Mac) -> Vec<Vec<u8>> {
    let with = |options: &[u8]| [discover(mac), options.to_vec()].concat();
    let mut wrong_cookie = with(&[53, 1, 1, 255]);
    wrong_cookie[236] = 0;
    let dhcp = [
        Vec::new(),
        discover(mac)[..100].to_vec(),
        wrong_cookie,
        with(&[53]),
        with(&[53, 1]),
        with(&[53, 1, 1, 61, 255, 1, 2, 3]),
        with(&[&[53, 1, 1, 61, 255][..], &[7; 255], &[255]].concat()),
        with(&[53, 1, 1, 93, 1, 0, 255]),
        with(&[53, 1, 1, 94, 2, 1, 2, 255]),
    ];
    let tftp = [
        b"\0\x01../../etc/shadow\0octet\0".to_vec(),
        b"\0\x01/etc/shadow\0octet\0".to_vec(),
        b"\0\x01undionly.kpxe\0octet\0blksize\09999999\0".to_vec(),
        b"\0\x01undionly.kpxe".to_vec(),
        b"\0\x63".to_vec(),
    ];
    let dhcp = dhcp.iter().map(|data| udp(mac, Ipv4Addr::BROADCAST, DHCP, data));
    let tftp = tftp.iter().map(|data| udp(mac, ADDRESS, TFTP, data));
    dhcp.chain(tftp).collect()
}

/// A frame to everybody, so that no address resolution comes before it.
fn udp(mac: Mac, to: Ipv4Addr, (from_port, to_port): (u16, u16), data: &[u8]) -> Vec<u8> {
    let from = if to.is_broadcast() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::new(10, 77, 255, 9) };
    let udp = UdpRepr { src_port: from_port, dst_port: to_port };
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + data.len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(mac),
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Ipv4,
    };
    let checksums = ChecksumCapabilities::default();
    let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len() + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    udp.emit(
        &mut datagram,
        &from.into(),
        &to.into(),
        data.len(),
        |payload| payload.copy_from_slice(data),
        &checksums,
    );
    bytes
}
