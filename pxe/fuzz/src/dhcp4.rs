//! What DHCPv4 does with bytes: it does not panic, and whatever it answers is a packet that others can read.

#![allow(dead_code, reason = "each target uses one of the functions")]

use std::net::Ipv4Addr;

use pxe::{
    Assignment, MacAddr, Network,
    dhcp::{
        Answer, Choice, Chosen, Mode, Need, Port, Reply, Request, ServerFacts, answer as decide, conflicting,
        lie, need, parse, proxy_answer,
    },
};

const APPLIANCE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A whole packet.
pub fn packet(data: &[u8]) {
    if let Ok(mut request) = parse(data) {
        request.source = Some("10.77.0.9:68".parse().unwrap());
        answered(&request);
    }
}

/// Options behind a header that is right: six bytes of it come first, and most of these packets are answered.
pub fn answer(data: &[u8]) {
    let Some((head, options)) = data.split_first_chunk::<6>() else { return };
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, head[0] & 1]);
    packet[10] = head[0] & 0x80;
    // Addresses of the network that is served and of others.
    packet[12..16].copy_from_slice(&[head[1] & 10, head[1] & 77, head[2], head[1]]);
    packet[24..28].copy_from_slice(&[head[3] & 10, head[3] & 78, head[4], head[3]]);
    packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0xaa, 0xbb, 1]);
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend([53, 1, [1, 3, 4, 7, 8][usize::from(head[5] % 5)]]);
    packet.extend(options);
    self::packet(&packet);
}

fn answered(request: &Request) {
    let network = Network {
        subnet: "10.77.0.0/16".parse().unwrap(),
        router: Some(APPLIANCE),
        dns: vec![APPLIANCE],
        domain: "elisandra".to_owned(),
        ntp: vec![APPLIANCE],
        routes: vec![("10.0.0.0/9".parse().unwrap(), APPLIANCE); 20],
        mtu: Some(1500),
    };
    let assignment = Assignment {
        address: [10, 77, 1, 0].into(),
        hostname: Some("m1".to_owned()),
        lease_secs: 3600,
        network: network.clone().into(),
    };
    let full = ServerFacts { address: APPLIANCE, mode: Mode::Full, https: None };
    lie(request, &full, Some(&network));
    need(request, &full, None);
    match need(request, &full, Some(&network)) {
        Need::Offer | Need::Commit => {
            readable(decide(request, &full, &network, Some(&assignment)));
            readable(conflicting(request, &full, assignment.address, MacAddr([2, 0, 0, 0, 0, 1])));
        }
        Need::Nothing => readable(decide(request, &full, &network, None)),
        Need::Quarantine(_) | Need::Silence(_) => {}
    }
    let menu: Vec<Choice> = [Chosen::Usual, Chosen::LocalDisk, Chosen::File("memtest".to_owned())]
        .map(|boots| Choice { title: "A line".to_owned(), boots })
        .into();
    let proxy = ServerFacts { address: APPLIANCE, mode: Mode::Proxy, https: None };
    for port in [Port::Dhcp, Port::BootServer] {
        for menu in [&[][..], &menu] {
            let answer = proxy_answer(request, &proxy, port, menu);
            if let Answer::Reply(reply) = &answer {
                assert_eq!(reply.packet[16..20], [0; 4], "no address is given");
            }
            readable(answer);
        }
    }
    // What is said of it on a timeline is one line.
    assert!(!request.client().to_string().contains(['\n', '\r', '\0']));
}

fn readable(answer: Answer) {
    let Answer::Reply(Reply { packet, outcome, .. }) = answer else { return };
    assert!(packet.len() >= 300);
    assert_eq!(packet[..3], [2, 1, 6]);
    assert_eq!(packet[236..240], [99, 130, 83, 99]);
    let overload = field(&packet[240..]);
    if overload & 1 != 0 {
        field(&packet[108..236]);
    }
    if overload & 2 != 0 {
        field(&packet[44..108]);
    }
    assert!(!outcome.to_string().contains('\n'));
}

/// Reads options up to the end mark, which has to be there, and returns option 52's value.
fn field(field: &[u8]) -> u8 {
    let mut place = 0;
    let mut overload = 0;
    while field[place] != 255 {
        let length = usize::from(field[place + 1]);
        if field[place] == 52 {
            overload = field[place + 2];
        }
        place += 2 + length;
    }
    assert!(field[place + 1..].iter().all(|byte| *byte == 0), "nothing but padding behind the end mark");
    overload
}
