//! What DHCPv6 does with bytes: it does not panic, and whatever it answers is a message whose options can be read.

use std::net::SocketAddrV6;

use pxe::{
    Assignment, MacAddr, Network,
    dhcp6::{Answer, Facts, Need, Request, Source, answer, declined, need, parse, server_duid},
};

/// A whole packet.
pub fn packet(data: &[u8]) {
    let Ok(request) = parse(data) else { return };
    for multicast in [true, false] {
        answered(&request, multicast, data.len());
    }
    // What is said of it on a timeline is one line.
    assert!(!request.client().to_string().contains(['\n', '\r', '\0']));
}

fn answered(request: &Request, multicast: bool, asked: usize) {
    let network = Network {
        subnet: "10.77.0.0/16".parse().unwrap(),
        router: None,
        dns: vec![],
        domain: "elisandra".to_owned(),
        ntp: vec![],
        routes: vec![],
        mtu: None,
    };
    let assignment = Assignment {
        address: [10, 77, 1, 0].into(),
        hostname: Some("m1".to_owned()),
        lease_secs: 3600,
        network: network.into(),
    };
    let facts = Facts {
        duid: server_duid(MacAddr([2, 0, 0, 0, 0, 1])),
        network: "fd12:3456:789a:1::/64".parse().unwrap(),
        address: "fd12:3456:789a:1::a4d:1".parse().unwrap(),
        dns: vec!["fd12:3456:789a:1::a4d:1".parse().unwrap()],
        ntp: vec!["fd12:3456:789a:1::a4d:1".parse().unwrap()],
        domain: "elisandra".to_owned(),
        https: None,
    };
    let from = SocketAddrV6::new("fe80::5054:ff:feaa:bb11".parse().unwrap(), 546, 0, 1);
    let source = Source { from, multicast, mac: request.mac(*from.ip(), None) };
    let assignments = match need(request, &facts, multicast) {
        Need::Silence(_) => return,
        Need::Nothing => vec![None],
        Need::Offer | Need::Commit => vec![None, Some(&assignment)],
    };
    declined(request, &facts, &assignment);
    for assignment in assignments {
        let Answer::Reply(reply) = answer(request, &facts, source, assignment) else { continue };
        assert!(!reply.outcome.to_string().contains('\n'));
        // Little goes back to whom a packet only claims to be from: what it held itself, and what the network has.
        assert!(reply.packet.len() < asked * 5 + 900, "{} bytes for {asked}", reply.packet.len());
        readable(&reply.packet, request.relays.len());
    }
}

/// A message, in as many others as there were relays.
fn readable(packet: &[u8], relays: usize) {
    let header = if relays > 0 { 34 } else { 4 };
    assert!(if relays > 0 { packet[0] == 13 } else { [2, 7].contains(&packet[0]) });
    let mut options = &packet[header..];
    let mut inner = None;
    while !options.is_empty() {
        let code = u16::from_be_bytes([options[0], options[1]]);
        let length = usize::from(u16::from_be_bytes([options[2], options[3]]));
        if code == 9 {
            inner = Some(&options[4..4 + length]);
        }
        options = &options[4 + length..];
    }
    if relays > 0 {
        readable(inner.expect("a relay gets a message to forward"), relays - 1);
    }
}
