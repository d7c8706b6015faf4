//! The rules of DHCPv4, one by one: states, relays, long answers, BOOTP.

use std::net::SocketAddrV4;

use crate::packet;
use crate::packet::*;
use pxe::{
    Assignment, MacAddr, Network, Step,
    dhcp::{BadPacket, Kind, Mode, Port, Request, ServerFacts, answer, lie, parse, proxy_answer},
    step::Outcome,
};

fn ask(options: &[(u8, &[u8])]) -> Read {
    Read::of(&reply(respond(&request(options, |_| {}), &network())))
}

#[test]
fn who_cannot_be_asked_for_its_hardware_address_is_sent_a_frame() {
    // RFC 2131 section 4.1.
    let mac = MacAddr([0x52, 0x54, 0, 0xaa, 0xbb, 1]);
    let to = |request: &Request| {
        let reply = reply(respond(request, &network()));
        (reply.to.to_string(), reply.hardware)
    };
    let plain = request(&[(53, &[DISCOVER])], |_| {});
    assert_eq!(to(&plain), ("10.77.1.0:68".to_owned(), Some(mac)));
    let broadcast = request(&[(53, &[DISCOVER])], |packet| packet[10] = 0x80);
    assert_eq!(to(&broadcast), ("255.255.255.255:68".to_owned(), None));
    let selecting = request(&[(53, &[REQUEST]), (54, &[10, 77, 0, 1]), (50, &[10, 77, 1, 0])], |_| {});
    assert_eq!(to(&selecting), ("10.77.1.0:68".to_owned(), Some(mac)));
    let renewing = request(&[(53, &[REQUEST])], |packet| packet[12..16].copy_from_slice(&[10, 77, 1, 0]));
    assert_eq!(to(&renewing), ("10.77.1.0:68".to_owned(), None));
    // A refusal goes to everybody, whatever address the client thinks it has.
    let wrong = request(&[(53, &[REQUEST])], |packet| packet[12..16].copy_from_slice(&[10, 77, 9, 9]));
    assert_eq!(to(&wrong), ("255.255.255.255:68".to_owned(), None));
    // Nobody has answers sent to a third party by claiming its address beside an own one.
    let victim = request(&[(53, &[REQUEST]), (50, &[10, 77, 1, 0])], |packet| {
        packet[12..16].copy_from_slice(&[10, 77, 200, 9]);
    });
    assert_eq!(to(&victim), ("255.255.255.255:68".to_owned(), None));
    let far = request(&[(53, &[INFORM])], |packet| packet[12..16].copy_from_slice(&[192, 0, 2, 1]));
    assert_eq!(silence(respond(&far, &network())), "INFORM of 192.0.2.1, which is not of 10.77.0.0/16");
}

#[test]
fn a_refusal_says_why_and_echoes() {
    let request = request(
        &[
            (53, &[REQUEST]),
            (54, &[10, 77, 0, 1]),
            (50, &[10, 77, 1, 9]),
            (61, b"\x01abcdef"),
            (60, b"PXEClient"),
        ],
        |_| {},
    );
    let read = Read::of(&reply(respond(&request, &network())));
    // Nothing but what RFC 2131 table 3 and RFC 6842 allow.
    assert_eq!(read.order, [53, 54, 56, 61]);
    assert_eq!(read.option(56), Some(&b"10.77.1.9 is not its own"[..]));
    assert_eq!(read.option(61), Some(&b"\x01abcdef"[..]));
}

#[test]
fn options_come_in_the_order_they_were_asked_for() {
    let read = ask(&[(53, &[DISCOVER]), (55, &[15, 6, 3, 1, 26, 42, 200])]);
    assert_eq!(read.order, [53, 54, 51, 1, 15, 6, 3, 26, 42, 58, 59, 12]);
    assert_eq!(read.option(26), Some(&[5, 0x78][..]));
    assert_eq!(read.option(42), Some(&[10, 77, 0, 123][..]));
    // Time servers and the MTU only to who asks.
    let read = ask(&[(53, &[DISCOVER])]);
    assert_eq!((read.option(26), read.option(42)), (None, None));
}

#[test]
fn classless_routes_take_the_place_of_the_router() {
    let network = Network {
        routes: vec![
            ("10.0.0.0/8".parse().unwrap(), [10, 77, 0, 2].into()),
            ("192.168.128.0/17".parse().unwrap(), [10, 77, 0, 3].into()),
        ],
        ..network()
    };
    let read = |options: &[(u8, &[u8])]| Read::of(&reply(respond(&request(options, |_| {}), &network)));
    let routes: &[u8] = &[
        8, 10, 10, 77, 0, 2, // 10.0.0.0/8
        17, 192, 168, 128, 10, 77, 0, 3, // 192.168.128.0/17
        0, 10, 77, 0, 254, // the default route
    ];
    for code in [121, 249] {
        let answer = read(&[(53, &[DISCOVER]), (55, &[1, 3, code])]);
        assert_eq!((answer.option(code), answer.option(3)), (Some(routes), None), "{code}");
    }
    let answer = read(&[(53, &[DISCOVER]), (55, &[1, 3])]);
    assert_eq!((answer.option(121), answer.option(3)), (None, Some(&[10, 77, 0, 254][..])));
}

#[test]
fn a_long_answer_uses_the_header_and_parts() {
    // 60 routes are more than one option holds, and with what else there is more than 576 bytes.
    let network = |routes: u8| Network {
        routes: (0..routes)
            .map(|third| (format!("10.1.{third}.0/24").parse().unwrap(), [10, 77, 0, 2].into()))
            .collect(),
        domain: "a-domain-with-a-name-of-more-than-fifty-characters.elisandra".to_owned(),
        ..network()
    };
    let long = request(&[(53, &[DISCOVER]), (55, &[121]), (57, &1500_u16.to_be_bytes())], |_| {});
    let reply_long = reply(respond(&long, &network(60)));
    let read = Read::of(&reply_long);
    assert_eq!(read.option(121).unwrap().len(), 60 * 8 + 5);
    assert_eq!(read.option(52), None, "there is room without");

    let short = request(&[(53, &[DISCOVER]), (55, &[121])], |_| {});
    let reply_short = reply(respond(&short, &network(28)));
    let read = Read::of(&reply_short);
    assert!(reply_short.packet.len() <= 548, "{}", reply_short.packet.len());
    assert_eq!(read.option(121).unwrap().len(), 28 * 8 + 5);
    assert_eq!(read.option(52), Some(&[1][..]), "the file field, because there is no file");
    assert!(read.option(15).is_some());

    // Firmware keeps its file where it looks for it.
    let firmware =
        request(&[(53, &[DISCOVER]), (55, &[121]), (60, b"PXEClient:Arch:00007"), (93, &[0, 7])], |_| {});
    let read = Read::of(&reply(respond(&firmware, &network(28))));
    assert_eq!((read.file.as_str(), read.option(52)), ("shimx64.efi", Some(&[2][..])));
}

#[test]
fn no_reply_is_longer_than_the_network_carries() {
    let greedy = |size: u16| request(&[(53, &[DISCOVER]), (55, &[121]), (57, &size.to_be_bytes())], |_| {});
    let network = Network {
        routes: (0..40)
            .map(|third| (format!("10.1.{third}.0/24").parse().unwrap(), [10, 77, 0, 2].into()))
            .collect(),
        mtu: Some(700),
        ..network()
    };
    for size in [0, 100, 576, 700, 1500, 65535] {
        let reply = reply(respond(&greedy(size), &network));
        assert!(reply.packet.len() <= 672, "{size}: {}", reply.packet.len());
    }
}

#[test]
fn a_client_id_of_any_length_comes_back() {
    for length in [0, 1, 7, 255, 256, 400] {
        let id = vec![7; length];
        let mut packet = packet(&[(53, &[DISCOVER]), (57, &1500_u16.to_be_bytes())]);
        if length == 0 {
            let end = packet.iter().rposition(|byte| *byte == 255).unwrap();
            packet[end..end + 3].copy_from_slice(&[61, 0, 255]);
        } else {
            packet = packet::packet(&[(53, &[DISCOVER]), (57, &1500_u16.to_be_bytes()), (61, &id)]);
        }
        let read = Read::of(&reply(respond(&parse(&packet).unwrap(), &network())));
        assert_eq!(read.option(61), Some(id.as_slice()), "{length}");
    }
}

#[test]
fn an_arm_gets_its_own_loader_and_who_has_none_reads_why() {
    let ask = |class: &[u8], arch: u8| {
        let request = request(&[(53, &[DISCOVER]), (60, class), (93, &[0, arch])], |_| {});
        let reply = reply(respond(&request, &network()));
        let file = Read::of(&reply).file;
        let step = Step::Dhcp { packet: request.kind, client: request.client(), outcome: reply.outcome };
        (file, step.to_string())
    };
    assert_eq!(ask(b"PXEClient", 11).0, "shimaa64.efi");
    assert_eq!(ask(b"HTTPClient", 19).0, "http://10.77.0.1/boot/files/shimaa64.efi");
    assert_eq!(
        ask(b"PXEClient", 6),
        (
            String::new(),
            "DISCOVER of firmware of architecture 6: offered 10.77.1.0, no boot loader for architecture 6"
                .to_owned()
        )
    );
    assert_eq!(
        ask(b"HTTPClient", 15).1,
        "DISCOVER of firmware of architecture 15 (HTTP): offered 10.77.1.0, no boot loader for architecture 15"
    );
}

/// Where it is so set, whatever boots over HTTP is sent to HTTPS, and nothing else.
#[test]
fn firmware_that_boots_over_http_is_sent_to_https() {
    let ask = |class: &[u8], arch: u8, https| {
        let request = request(&[(53, &[DISCOVER]), (60, class), (93, &[0, arch])], |_| {});
        let assignment =
            Assignment { address: ADDRESS, hostname: None, lease_secs: 60, network: network().into() };
        let facts = ServerFacts { https, ..facts() };
        let full = Read::of(&reply(answer(&request, &facts, &network(), Some(&assignment)))).file;
        let beside = ServerFacts { mode: Mode::Proxy, ..facts };
        let beside = Read::of(&reply(proxy_answer(&request, &beside, Port::Dhcp, &[]))).file;
        assert_eq!(full, beside, "the same beside another server");
        full
    };
    assert_eq!(ask(b"HTTPClient", 16, Some(8443)), "https://10.77.0.1:8443/boot/files/shimx64.efi");
    assert_eq!(ask(b"HTTPClient", 19, Some(443)), "https://10.77.0.1/boot/files/shimaa64.efi");
    assert_eq!(ask(b"HTTPClient", 16, None), "http://10.77.0.1/boot/files/shimx64.efi");
    assert_eq!(ask(b"PXEClient", 7, Some(8443)), "shimx64.efi");
}

/// Relayed by `giaddr` with this option 82, from `source`.
fn relayed(giaddr: [u8; 4], information: &[u8], source: &str) -> Request {
    let options: &[(u8, &[u8])] = &[(53, &[DISCOVER]), (82, information)];
    let mut request = request(options, |packet| packet[24..28].copy_from_slice(&giaddr));
    request.source = Some(source.parse().unwrap());
    request
}

#[test]
fn a_relay_says_which_network_and_which_server() {
    let plain = relayed([10, 78, 0, 1], &[1, 1, 7], "10.77.0.5:67");
    assert_eq!(plain.sight.link, Some([10, 78, 0, 1].into()));

    // RFC 3527, 5107, 8357.
    let information = [5, 4, 10, 79, 0, 0, 11, 4, 10, 78, 0, 1, 19, 0];
    let all = relayed([10, 78, 0, 1], &information, "10.77.0.5:50123");
    assert_eq!(all.sight.link, Some([10, 79, 0, 0].into()));
    let reply = reply(respond(&all, &network()));
    assert_eq!(reply.to, SocketAddrV4::new([10, 78, 0, 1].into(), 50123));
    let read = Read::of(&reply);
    assert_eq!((read.option(82), read.order.last()), (Some(&information[..]), Some(&82)));
    assert_eq!(read.option(54), Some(&[10, 78, 0, 1][..]));
    // The client takes the relay for its server and says so; through that relay this is us.
    let mut taken = all.clone();
    taken.kind = Kind::Request;
    taken.server = Some([10, 78, 0, 1].into());
    taken.sight.requested = Some(ADDRESS);
    assert!(matches!(packet::reply(respond(&taken, &network())).outcome, Outcome::Leased { .. }));
    taken.agent.server = None;
    assert_eq!(silence(respond(&taken, &network())), "REQUEST went to another DHCP server, 10.78.0.1");
}

#[test]
fn what_a_client_makes_up_without_a_relay_is_echoed_and_not_believed() {
    let information = [5, 4, 10, 79, 0, 0, 11, 4, 192, 0, 2, 1];
    let request = request(&[(53, &[DISCOVER]), (82, &information)], |_| {});
    assert_eq!(request.sight.link, None);
    let read = Read::of(&reply(respond(&request, &network())));
    assert_eq!((read.option(82), read.option(54)), (Some(&information[..]), Some(&[10, 77, 0, 1][..])));
}

#[test]
fn broken_relay_information_is_as_if_it_were_not_there() {
    for information in [&[5][..], &[5, 4, 10], &[5, 3, 1, 2, 3], &[11, 0], &[19, 1, 0], &[255, 255], &[]] {
        let request = relayed([10, 78, 0, 1], information, "10.78.0.1:67");
        assert_eq!(request.sight.link, Some([10, 78, 0, 1].into()), "{information:?}");
        let reply = reply(respond(&request, &network()));
        assert_eq!(reply.to.to_string(), "10.78.0.1:67");
    }
}

#[test]
fn a_subnet_can_be_selected() {
    // RFC 3011; the relay's own word counts for more.
    let request = request(&[(53, &[DISCOVER]), (118, &[10, 79, 0, 0])], |_| {});
    assert_eq!(request.sight.link, Some([10, 79, 0, 0].into()));
    let read = Read::of(&reply(respond(&request, &network())));
    assert_eq!(read.option(118), Some(&[10, 79, 0, 0][..]));
}

#[test]
fn a_relay_that_lies_is_not_answered() {
    let served = network();
    let lie = |giaddr: [u8; 4], source: &str| lie(&relayed(giaddr, &[], source), &facts(), Some(&served));
    assert_eq!(lie([10, 77, 0, 9], "10.77.0.9:67"), None);
    assert_eq!(lie([10, 78, 0, 1], "10.77.0.9:67"), None, "a relay has an address on either side");
    let refused = |giaddr: [u8; 4], source: &str| lie(giaddr, source).unwrap();
    assert_eq!(
        refused([10, 77, 0, 8], "10.77.0.9:67"),
        "says that 10.77.0.8 relayed it, and came from 10.77.0.9"
    );
    assert_eq!(
        refused([10, 77, 0, 1], "10.77.0.9:67"),
        "says that 10.77.0.1 relayed it, which is the address here"
    );
    for nobody in [
        [255, 255, 255, 255],
        [10, 77, 255, 255],
        [10, 77, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [0, 1, 2, 3],
    ] {
        assert!(refused(nobody, "10.77.0.9:67").ends_with("which is no host's address"), "{nobody:?}");
    }
    let mut circling = relayed([10, 78, 0, 1], &[], "10.77.0.9:67");
    circling.hops = 17;
    assert_eq!(pxe::dhcp::lie(&circling, &facts(), Some(&served)), Some("relayed 17 times".to_owned()));
}

#[test]
fn bootp_is_answered_in_its_own_words() {
    let mut bootp = request(&[(12, b"printer")], |_| {});
    assert_eq!(bootp.kind, Kind::Bootp);
    let reply = reply(respond(&bootp, &network()));
    assert_eq!(reply.outcome.to_string(), "leased 10.77.1.0");
    let read = Read::of(&reply);
    assert_eq!((read.yiaddr, reply.packet.len()), (ADDRESS, 300));
    // No type, no server id, no times.
    assert_eq!(read.order, [1, 3, 6, 15, 12]);

    bootp.server_name = Some("elsewhere".to_owned());
    assert_eq!(silence(respond(&bootp, &network())), "wants to be answered by the BOOTP server elsewhere");
    let own = request(&[], |packet| packet[12..16].copy_from_slice(&[10, 77, 3, 3]));
    assert_eq!(
        silence(respond(&own, &network())),
        "BOOTP client says that it is 10.77.3.3, and is 10.77.1.0"
    );

    // From before there were options: no cookie at all.
    let mut oldest = packet(&[]);
    oldest[236..].fill(0);
    assert_eq!(parse(&oldest).unwrap().kind, Kind::Bootp);
    oldest.truncate(299);
    assert_eq!(parse(&oldest), Err(BadPacket::Short(299)));
}

#[test]
fn an_inform_without_an_address_is_answered_where_it_came_from() {
    let mut inform = request(&[(53, &[INFORM])], |_| {});
    assert_eq!(silence(respond(&inform, &network())), "INFORM without an address");
    inform.source = Some("10.77.4.4:68".parse().unwrap());
    let reply = reply(respond(&inform, &network()));
    assert_eq!(
        (reply.to.to_string(), reply.outcome.to_string()),
        ("10.77.4.4:68".to_owned(), "informed 10.77.4.4".to_owned())
    );
}

#[test]
fn for_ever_is_not_renewed() {
    let network = network();
    let request = request(&[(53, &[DISCOVER])], |_| {});
    let assignment = pxe::Assignment {
        address: ADDRESS,
        hostname: None,
        lease_secs: u32::MAX,
        network: network.clone().into(),
    };
    let read = Read::of(&reply(pxe::dhcp::answer(&request, &facts(), &network, Some(&assignment))));
    assert_eq!((read.option(51), read.option(58), read.option(59)), (Some(&[255; 4][..]), None, None));
}
