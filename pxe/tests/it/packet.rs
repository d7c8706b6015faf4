//! DHCP packets of made-up clients, and replies read by other code than that which made them.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::{collections::BTreeMap, net::Ipv4Addr};

use pxe::{
    Assignment, Network,
    dhcp::{Answer, Mode, Need, Reply, Request, ServerFacts, answer, need, parse},
};

pub const APPLIANCE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 0);

pub const DISCOVER: u8 = 1;
pub const REQUEST: u8 = 3;
pub const INFORM: u8 = 8;

pub fn facts() -> ServerFacts {
    ServerFacts { address: APPLIANCE, mode: Mode::Full, https: None }
}

pub fn proxy() -> ServerFacts {
    ServerFacts { address: APPLIANCE, mode: Mode::Proxy, https: None }
}

pub fn network() -> Network {
    Network {
        subnet: "10.77.0.0/16".parse().unwrap(),
        router: Some([10, 77, 0, 254].into()),
        dns: vec![APPLIANCE],
        domain: "elisandra".to_owned(),
        ntp: vec![[10, 77, 0, 123].into()],
        routes: Vec::new(),
        mtu: Some(1400),
    }
}

/// A client's packet of 52:54:00:aa:bb:01 with these options.
pub fn packet(options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&[1, 2, 3, 4]);
    packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0xaa, 0xbb, 1]);
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    for (code, value) in options {
        for part in value.chunks(255) {
            packet.extend([*code, u8::try_from(part.len()).unwrap()]);
            packet.extend(part);
        }
    }
    packet.push(255);
    packet.resize(packet.len().max(300), 0);
    packet
}

pub fn request(options: &[(u8, &[u8])], change: impl FnOnce(&mut Vec<u8>)) -> Request {
    let mut packet = packet(options);
    change(&mut packet);
    parse(&packet).unwrap()
}

/// Through `need` and `answer`, by a directory that has ADDRESS for everybody.
pub fn respond(request: &Request, network: &Network) -> Answer {
    let assignment = Assignment {
        address: ADDRESS,
        hostname: Some("m1".to_owned()),
        lease_secs: 3600,
        network: network.clone().into(),
    };
    match need(request, &facts(), Some(network)) {
        Need::Offer | Need::Commit => answer(request, &facts(), network, Some(&assignment)),
        Need::Nothing => answer(request, &facts(), network, None),
        Need::Quarantine(address) => Answer::Silence(format!("declined {address}")),
        Need::Silence(reason) => Answer::Silence(reason),
    }
}

pub fn reply(answer: Answer) -> Reply {
    match answer {
        Answer::Reply(reply) => reply,
        Answer::Silence(reason) => panic!("no reply: {reason}"),
    }
}

pub fn silence(answer: Answer) -> String {
    match answer {
        Answer::Reply(reply) => panic!("a reply: {}", reply.outcome),
        Answer::Silence(reason) => reason,
    }
}

/// A reply as it is read by the RFCs: header, and options with those in the header's fields.
pub struct Read {
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub ciaddr: Ipv4Addr,
    pub file: String,
    /// In the order of the options field, then of file and sname.
    pub order: Vec<u8>,
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Read {
    pub fn of(reply: &Reply) -> Self {
        let packet = &reply.packet;
        assert_eq!((packet[0], packet[1], packet[2]), (2, 1, 6));
        assert_eq!(packet[236..240], [99, 130, 83, 99]);
        let at = |place: usize| {
            Ipv4Addr::new(packet[place], packet[place + 1], packet[place + 2], packet[place + 3])
        };
        let mut read = Self {
            yiaddr: at(16),
            siaddr: at(20),
            ciaddr: at(12),
            file: String::new(),
            order: Vec::new(),
            options: BTreeMap::new(),
        };
        read.take(&packet[240..]);
        let overload = read.options.get(&52).map_or(0, |value| value[0]);
        if overload & 1 != 0 {
            read.take(&packet[108..236]);
        } else {
            let end = packet[108..236].iter().position(|byte| *byte == 0).unwrap();
            read.file = String::from_utf8(packet[108..108 + end].to_vec()).unwrap();
        }
        if overload & 2 != 0 {
            read.take(&packet[44..108]);
        }
        read
    }

    fn take(&mut self, field: &[u8]) {
        let mut place = 0;
        while field[place] != 255 {
            let (code, length) = (field[place], usize::from(field[place + 1]));
            if self.order.last() != Some(&code) {
                self.order.push(code);
            }
            let value = &field[place + 2..place + 2 + length];
            self.options.entry(code).or_default().extend(value);
            place += 2 + length;
        }
        assert!(field[place + 1..].iter().all(|byte| *byte == 0), "nothing but padding behind the end mark");
    }

    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }
}
