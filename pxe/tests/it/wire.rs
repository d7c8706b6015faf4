//! The servers on a real wire: a veth pair in network namespaces, busybox's udhcpc as the machine.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::namespace;
use pxe::{MacAddr, NoteKind, probe};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::appliance::{Appliance, udhcpc};
use crate::namespace::{Machine, cable, inside};

const MAC: &str = "52:54:00:aa:bb:01";

#[test]
fn a_machine_gets_one_address_and_it_is_on_disk_first() {
    inside("wire::a_machine_gets_one_address_and_it_is_on_disk_first", async || {
        cable(MAC);
        let machine = Arc::new(Machine::take_eth0());
        let appliance = Appliance::start();
        let told = udhcpc(&machine, "-x hostname:mine").await.unwrap();
        // The directory writes a commit down before it answers, and the ACK comes after.
        assert_eq!(appliance.book.committed(), [MAC.parse::<MacAddr>().unwrap()]);
        let told = |name: &str| told.get(name).map(String::as_str);
        assert_eq!(
            (
                told("ip"),
                told("mask"),
                told("router"),
                told("dns"),
                told("hostname"),
                told("domain"),
                told("lease")
            ),
            (
                Some("10.77.1.0"),
                Some("16"),
                Some("10.77.0.1"),
                Some("10.77.0.1"),
                Some("m0"),
                Some("elisandra"),
                Some("3600")
            )
        );
        // As the next stage of the same machine: another client id, another class, no client id.
        for stage in ["-x 0x3d:00aabbccdd", "-V PXEClient:Arch:00000:UNDI:002001", "-C", "-r 10.77.9.9"] {
            let again = udhcpc(&machine, stage).await.unwrap();
            assert_eq!(again.get("ip").map(String::as_str), Some("10.77.1.0"), "{stage}");
        }
        let note = appliance
            .book
            .noted(NoteKind::Dhcp, "REQUEST of BIOS firmware: leased 10.77.1.0, boot file undionly.kpxe")
            .await;
        assert_eq!(note.mac, Some(MAC.parse().unwrap()));
        // What the directory refuses gets no answer, and a line.
        udhcpc(&machine, "-x hostname:unwanted").await.unwrap_err();
        appliance.book.noted(NoteKind::Refused, "DISCOVER of udhcp").await;
        appliance.end().await;
    });
}

#[test]
fn the_probe_finds_a_server_without_an_address_of_its_own() {
    inside("wire::the_probe_finds_a_server_without_an_address_of_its_own", async || {
        cable(MAC);
        let begun = Instant::now();
        let silent = probe::dhcp_servers("eth0", Duration::from_millis(1200)).await.unwrap();
        assert_eq!(silent, []);
        assert!(begun.elapsed() >= Duration::from_millis(1200));

        let appliance = Appliance::start();
        let found = probe::dhcp_servers("eth0", Duration::from_secs(10)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(8), "an answer ends the wait");
        let address: Ipv4Addr = [10, 77, 0, 1].into();
        assert_eq!(
            (found[0].address, found[0].offered, found[0].router),
            (address, [10, 77, 1, 0].into(), Some(address))
        );
        assert_eq!(found[0].mac.to_string(), namespace::mac("lan0"));
        assert_eq!(found.len(), 1);
        assert!(probe::dhcp_servers("nowhere0", Duration::from_secs(1)).await.is_err());
        appliance.end().await;
    });
}

#[test]
fn a_server_that_appears_later_is_heard() {
    inside("wire::a_server_that_appears_later_is_heard", async || {
        cable(MAC);
        let own = [10, 77, 0, 2].into();
        let (reports, mut heard) = tokio::sync::mpsc::channel(8);
        let watch = tokio::spawn(async move { probe::watch("eth0", own, reports).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(heard.try_recv().is_err(), "nobody serves yet");

        // It has asked already and asks again in minutes. A client that takes that server's offer is reason enough
        // to ask at once, even if the offer itself was not heard.
        let appliance = Appliance::start();
        let named = pxe::dhcp::bind("lan0", 6868).unwrap();
        let request = frame("udhcpc-request");
        named.send_to(&request, "10.77.255.255:67").await.unwrap();
        let server = tokio::time::timeout(Duration::from_secs(15), heard.recv()).await.unwrap().unwrap();
        assert_eq!(server.address, Ipv4Addr::new(10, 77, 0, 1));
        assert_eq!(server.mac.to_string(), namespace::mac("lan0"));
        // Who takes no more reports ends it.
        drop(heard);
        tokio::time::timeout(Duration::from_secs(5), watch).await.unwrap().unwrap().unwrap();
        appliance.end().await;
    });
}

/// The bytes of tests/frames/NAME.hex.
fn frame(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/frames/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let digits = text.trim().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn a_router_advertisement_answers_a_solicitation() {
    inside("wire::a_router_advertisement_answers_a_solicitation", async || {
        cable(MAC);
        let appliance = Appliance::start();
        let index = nix::net::if_::if_nametoindex("eth0").unwrap();
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
        socket.bind_device(Some(b"eth0")).unwrap();
        socket.set_multicast_hops_v6(255).unwrap();
        socket.set_multicast_if_v6(index).unwrap();
        socket.join_multicast_v6(&"ff02::1".parse().unwrap(), index).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(socket.into()).unwrap();

        let all_routers = SocketAddrV6::new("ff02::2".parse().unwrap(), 0, 0, index);
        let mut heard = 0;
        let begun = Instant::now();
        // The first one comes by itself. Then one for each solicitation, long before 30 s are over.
        while heard < 3 {
            assert!(begun.elapsed() < Duration::from_secs(20), "{heard} advertisements");
            if heard > 0 {
                // Fails as long as duplicate address detection runs.
                let _ = socket.send_to(&[133, 0, 0, 0, 0, 0, 0, 0], SocketAddr::V6(all_routers)).await;
            }
            let mut packet = [0; 1500];
            let received = tokio::time::timeout(Duration::from_secs(1), socket.recv_from(&mut packet)).await;
            let Ok(Ok((length, from))) = received else { continue };
            if packet[0] != 134 {
                continue;
            }
            // Hop limit, flags, lifetime, timers: all zero. Bytes 2 and 3 are the checksum.
            assert_eq!((length, &packet[4..16]), (16, &[0; 12][..]));
            assert!(from.to_string().starts_with("[fe80:"), "{from}");
            heard += 1;
        }
        appliance.end().await;
    });
}

#[test]
fn bad_packets_are_noted_and_the_next_good_one_is_answered() {
    inside("wire::bad_packets_are_noted_and_the_next_good_one_is_answered", async || {
        cable(MAC);
        let machine = Arc::new(Machine::take_eth0());
        let appliance = Appliance::start();
        let sender = pxe::dhcp::bind("lan0", 6767).unwrap();
        let frames = format!("{}/tests/frames/bad", env!("CARGO_MANIFEST_DIR"));
        let mut sent = 0;
        for entry in fs::read_dir(frames).unwrap() {
            let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
            let bytes = frame(&format!("bad/{name}"));
            sender.send_to(&bytes, "10.77.0.1:67").await.unwrap();
            sent += 1;
        }
        let told = udhcpc(&machine, "").await;
        assert_eq!(told.unwrap().get("ip").map(String::as_str), Some("10.77.1.0"));
        let refused =
            appliance.book.notes().iter().filter(|note| note.step.kind() == NoteKind::Refused).count();
        assert_eq!(refused, sent);
        appliance.end().await;
    });
}
