//! The laptop against a small server on the same LAN, which gives it an address
//! and sends back what it gets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, IpCidr, IpEndpoint, Ipv4Cidr};

use super::Laptop;
use super::jack_device::JackDevice;
use crate::lan::{Jack, Lan};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const GIVEN: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 0);
const LIMIT: Duration = Duration::from_secs(10);

fn serve(jack: Jack, ended: &AtomicBool) {
    let mut device = JackDevice::new(jack);
    let mut interface =
        Interface::new(Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into()), &mut device, Instant::now());
    interface.update_ip_addrs(|addresses| addresses.extend([IpCidr::Ipv4(Ipv4Cidr::new(SERVER, 16))]));
    let mut sockets = SocketSet::new(Vec::new());
    let packets = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 8192]);
    let mut dhcp = udp::Socket::new(packets(), packets());
    dhcp.bind(67).unwrap();
    let dhcp = sockets.add(dhcp);
    let bytes = || tcp::SocketBuffer::new(vec![0; 65536]);
    let echo = sockets.add(tcp::Socket::new(bytes(), bytes()));
    while !ended.load(Ordering::Relaxed) {
        interface.poll(Instant::now(), &mut device, &mut sockets);
        answer_dhcp(sockets.get_mut(dhcp));
        let socket = sockets.get_mut::<tcp::Socket>(echo);
        if !socket.is_open() {
            socket.listen(8080).unwrap();
        }
        while socket.can_recv() && socket.can_send() {
            let room = socket.send_capacity() - socket.send_queue();
            let data =
                socket.recv(|data| (data.len().min(room), data[..data.len().min(room)].to_vec())).unwrap();
            assert_eq!(socket.send_slice(&data).unwrap(), data.len());
        }
        if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
            socket.close();
        }
        device.wait(Duration::from_millis(1));
    }
}

fn answer_dhcp(socket: &mut udp::Socket<'_>) {
    let Ok((bytes, _)) = socket.recv() else { return };
    let packet = DhcpPacket::new_checked(bytes).unwrap();
    let question = DhcpRepr::parse(&packet).unwrap();
    let message_type = match question.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        _ => DhcpMessageType::Ack,
    };
    let answer = DhcpRepr {
        message_type,
        your_ip: GIVEN,
        server_identifier: Some(SERVER),
        subnet_mask: Some(Ipv4Addr::new(255, 255, 0, 0)),
        router: Some(SERVER),
        lease_duration: Some(600),
        ..question
    };
    let mut reply = vec![0; answer.buffer_len()];
    answer.emit(&mut DhcpPacket::new_unchecked(&mut reply)).unwrap();
    socket.send_slice(&reply, IpEndpoint::new(Ipv4Addr::BROADCAST.into(), 68)).unwrap();
}

#[test]
fn it_gets_an_address_and_carries_connections_to_the_lan() {
    let folder = tempfile::tempdir().unwrap();
    let lan = Lan::new(folder.path());
    let ended = Arc::new(AtomicBool::new(false));
    let server = thread::spawn({
        let (jack, ended) = (lan.jack("server"), ended.clone());
        move || serve(jack, &ended)
    });
    let laptop = Laptop::plug_in(lan.jack("laptop"), [2, 0, 0, 0, 0, 2]);
    assert_eq!(laptop.address(LIMIT).unwrap(), GIVEN);

    let local = laptop.forward("127.0.0.1:0".parse().unwrap(), SocketAddrV4::new(SERVER, 8080)).unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[number as usize % 3]).collect();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(local).unwrap();
        connection.set_read_timeout(Some(LIMIT)).unwrap();
        let writer = thread::spawn({
            let (mut connection, sent) = (connection.try_clone().unwrap(), sent.clone());
            move || {
                connection.write_all(&sent).unwrap();
                connection.shutdown(Shutdown::Write).unwrap();
            }
        });
        let mut received = Vec::new();
        connection.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
    }

    ended.store(true, Ordering::Relaxed);
    server.join().unwrap();
}

#[test]
fn a_laptop_on_an_empty_lan_says_that_nobody_gave_it_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let lan = Lan::new(folder.path());
    let laptop = Laptop::plug_in(lan.jack("laptop"), [2, 0, 0, 0, 0, 2]);
    let error = laptop.address(Duration::from_millis(200)).unwrap_err();
    assert!(error.to_string().starts_with("no DHCP server"), "{error}");
}
