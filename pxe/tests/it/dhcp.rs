//! DHCP without sockets: packets captured from real clients and made-up ones in, decoded replies out.

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path};

use dhcproto::{
    Decodable, Decoder,
    v4::{DhcpOption, Message, OptionCode},
};

use crate::directory;
use proptest::prelude::*;
use pxe::{
    Assignment,
    dhcp::{Answer, Mode, Need, Reply, Request, ServerFacts, answer, need, parse},
};

fn facts() -> ServerFacts {
    ServerFacts { address: [10, 77, 0, 1].into(), mode: Mode::Full, https: None }
}

fn assignment() -> Assignment {
    Assignment {
        address: [10, 77, 1, 0].into(),
        hostname: Some("m1".to_owned()),
        lease_secs: 3600,
        network: directory::network(),
    }
}

/// The bytes of tests/frames/NAME.hex.
fn frame(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames").join(name).with_extension("hex");
    let text = fs::read_to_string(&path).unwrap();
    let digits = text.trim().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn respond(request: &Request) -> Answer {
    let network = directory::network();
    match need(request, &facts(), Some(&network)) {
        Need::Offer | Need::Commit => answer(request, &facts(), &network, Some(&assignment())),
        Need::Nothing => answer(request, &facts(), &network, None),
        Need::Quarantine(address) => Answer::Silence(format!("declined {address}")),
        Need::Silence(reason) => Answer::Silence(reason),
    }
}

fn reply(request: &Request) -> Reply {
    match respond(request) {
        Answer::Reply(reply) => reply,
        Answer::Silence(reason) => panic!("no reply: {reason}"),
    }
}

fn silence(request: &Request) -> String {
    match respond(request) {
        Answer::Reply(reply) => panic!("a reply: {}", reply.outcome),
        Answer::Silence(reason) => reason,
    }
}

/// A reply as another implementation reads it.
fn decode(reply: &Reply) -> Message {
    Message::decode(&mut Decoder::new(&reply.packet)).unwrap()
}

/// Request and reply in words.
fn exchange(name: &str) -> String {
    let request = parse(&frame(name)).unwrap();
    let reply = reply(&request);
    let message = decode(&reply);
    let sight = &request.sight;
    let mut text = format!(
        "{name}: {:?} of {}\narch {:?}, uuid {}, vendor class {:?}, user class {:?}\nto {}{}: {}\n",
        request.kind,
        sight.mac,
        sight.arch,
        sight.uuid.is_some(),
        sight.vendor_class,
        sight.user_class,
        reply.to,
        reply.hardware.map(|mac| format!(" at {mac}")).unwrap_or_default(),
        reply.outcome,
    );
    text +=
        &format!("yiaddr {} siaddr {} file {:?}\n", message.yiaddr(), message.siaddr(), message.fname_str());
    for (code, option) in message.opts().iter() {
        text += &format!("{} {option:?}\n", u8::from(*code));
    }
    assert!((300..=548).contains(&reply.packet.len()), "{} bytes", reply.packet.len());
    text
}

#[test]
fn real_clients() {
    let names = [
        "seabios-ipxe-discover",
        "seabios-ipxe-request",
        "ovmf-pxe-discover",
        "ovmf-pxe-request",
        "ovmf-http-discover",
        "udhcpc-request",
        "networkd-discover",
    ];
    for name in names {
        insta::assert_snapshot!(name, exchange(name));
    }
}

#[test]
fn a_nic_has_one_address_whoever_asks() {
    // iPXE, OVMF and udhcpc send different client ids; only the MAC counts, and all that differs is echoed.
    for name in ["seabios-ipxe-discover", "ovmf-pxe-discover", "udhcpc-discover", "odd/client-id-of-255"] {
        let request = parse(&frame(name)).unwrap();
        let message = decode(&reply(&request));
        assert_eq!(message.yiaddr(), assignment().address);
        let echoed = match message.opts().get(OptionCode::ClientIdentifier) {
            Some(DhcpOption::ClientIdentifier(id)) => Some(id.clone()),
            _ => None,
        };
        assert_eq!(echoed, request.client_id, "{name}");
    }
}

/// Each file's verdict: what `parse` says, or what the answer is.
fn verdicts(folder: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames").join(folder);
    let mut verdicts = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        let verdict = match parse(&frame(&format!("{folder}/{name}"))) {
            Err(error) => error.to_string(),
            Ok(request) => match respond(&request) {
                Answer::Reply(reply) => {
                    decode(&reply);
                    format!("{} {}", reply.to, reply.outcome)
                }
                Answer::Silence(reason) => format!("silence: {reason}"),
            },
        };
        verdicts.insert(name, verdict);
    }
    verdicts.into_iter().map(|(name, verdict)| format!("{name}: {verdict}\n")).collect()
}

#[test]
fn bad_packets_get_no_answer() {
    insta::assert_snapshot!(verdicts("bad"));
}

#[test]
fn odd_packets_get_a_sane_one() {
    insta::assert_snapshot!(verdicts("odd"));
}

/// A REQUEST of udhcpc's, which says option 50 = 10.77.1.0 and option 54 = 10.77.0.1, with changes.
fn request(change: impl FnOnce(&mut Request)) -> Request {
    let mut request = parse(&frame("udhcpc-request")).unwrap();
    change(&mut request);
    request
}

fn ask_for(request: &mut Request, address: [u8; 4]) {
    request.requested = Some(address.into());
    request.sight.requested = request.requested;
}

#[test]
fn a_request_to_another_server_is_not_ours() {
    let request = request(|request| request.server = Some([192, 168, 1, 1].into()));
    assert_eq!(silence(&request), "REQUEST went to another DHCP server, 192.168.1.1");
}

#[test]
fn another_address_than_its_own_is_refused() {
    let request = request(|request| ask_for(request, [10, 77, 1, 9]));
    let reply = reply(&request);
    let message = decode(&reply);
    assert_eq!(message.opts().msg_type(), Some(dhcproto::v4::MessageType::Nak));
    assert_eq!((message.yiaddr(), message.flags().broadcast()), (Ipv4Addr::UNSPECIFIED, true));
    assert_eq!(reply.to.to_string(), "255.255.255.255:68");
    assert_eq!(reply.outcome.to_string(), "refused: 10.77.1.9 is not its own");
}

#[test]
fn after_a_restart_a_client_keeps_its_address_or_is_told_not_to() {
    // INIT-REBOOT: no server id.
    let restart = |address| {
        request(|request| {
            request.server = None;
            ask_for(request, address);
        })
    };
    assert_eq!(reply(&restart([10, 77, 1, 0])).outcome.to_string(), "leased 10.77.1.0");
    assert_eq!(reply(&restart([10, 77, 200, 1])).outcome.to_string(), "refused: 10.77.200.1 is not its own");
    // Another server's client on the same wire is left in peace.
    assert_eq!(
        silence(&restart([192, 168, 1, 20])),
        "wants to keep 192.168.1.20, which is not of 10.77.0.0/16"
    );
}

#[test]
fn a_renewal_is_answered_to_the_address_itself() {
    let renewal = request(|request| {
        request.server = None;
        request.requested = None;
        request.ciaddr = [10, 77, 1, 0].into();
        request.sight.requested = Some(request.ciaddr);
    });
    let reply = reply(&renewal);
    assert_eq!(reply.to.to_string(), "10.77.1.0:68");
    assert_eq!(decode(&reply).ciaddr(), renewal.ciaddr);
}

#[test]
fn a_relay_gets_the_answer_and_its_information_back() {
    let request = parse(&frame("odd/relayed")).unwrap();
    assert_eq!(request.sight.relay, Some([10, 77, 9, 1].into()));
    let reply = reply(&request);
    assert_eq!(reply.to.to_string(), "10.77.9.1:67");
    // Option 82 is the last one, before the end mark.
    let information = [82, 6, 1, 4, b'e', b't', b'h', b'1', 255];
    let end = reply.packet.iter().rposition(|byte| *byte == 255).unwrap();
    assert_eq!(reply.packet[end - 8..=end], information);
    assert_eq!(decode(&reply).giaddr(), Ipv4Addr::new(10, 77, 9, 1));
}

#[test]
fn a_reply_is_as_long_as_the_client_takes() {
    let mut request = parse(&frame("seabios-ipxe-discover")).unwrap();
    request.client_id = Some(vec![7; 200]);
    assert!(reply(&request).packet.len() > 548);
    request.max_size = None;
    let short = reply(&request);
    let message = decode(&short);
    assert!(short.packet.len() <= 548);
    assert!(message.opts().get(OptionCode::BootfileName).is_none());
    assert_eq!(message.siaddr(), facts().address);
    assert!(
        message
            .fname_str()
            .unwrap()
            .unwrap()
            .starts_with("http://10.77.0.1/boot/52-54-00-12-34-56/script.ipxe")
    );
}

#[test]
fn inform_gets_options_and_no_lease() {
    let inform = request(|request| {
        request.kind = pxe::dhcp::Kind::Inform;
        request.ciaddr = [10, 77, 3, 3].into();
        request.server = None;
    });
    let reply = reply(&inform);
    let message = decode(&reply);
    assert_eq!(reply.to.to_string(), "10.77.3.3:68");
    assert_eq!(message.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert!(message.opts().get(OptionCode::AddressLeaseTime).is_none());
    assert!(message.opts().get(OptionCode::SubnetMask).is_some());
}

#[test]
fn release_and_decline_are_heard_and_not_answered() {
    let release = request(|request| {
        request.kind = pxe::dhcp::Kind::Release;
        request.ciaddr = [10, 77, 1, 0].into();
    });
    assert_eq!(silence(&release), "released 10.77.1.0");
    let decline = request(|request| request.kind = pxe::dhcp::Kind::Decline);
    assert_eq!(silence(&decline), "declined 10.77.1.0");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(packet in prop::collection::vec(any::<u8>(), 0..700)) {
        if let Ok(request) = parse(&packet) {
            respond(&request);
        }
    }

    /// A header that is right, and options that may be anything: most of these are answered.
    #[test]
    fn random_options_never_panic(
        kind in prop::sample::select(vec![1_u8, 3, 4, 7, 8]),
        options in prop::collection::vec((
            prop::sample::select(vec![0_u8, 12, 43, 50, 52, 53, 54, 55, 57, 60, 61, 77, 82, 93, 94, 97, 175, 255]),
            prop::collection::vec(any::<u8>(), 0..256),
        ), 0..8),
        addresses in any::<[u8; 16]>(),
        cut in 0_usize..2048,
    ) {
        let mut packet = frame("networkd-discover");
        packet.truncate(240);
        packet[12..28].copy_from_slice(&addresses);
        packet.extend([53, 1, kind]);
        for (code, value) in options {
            packet.extend([code, u8::try_from(value.len()).unwrap()]);
            packet.extend(value);
        }
        packet.truncate(packet.len().min(240 + cut));
        if let Ok(request) = parse(&packet)
            && let Answer::Reply(reply) = respond(&request)
        {
            prop_assert!(reply.packet.len() >= 300);
            // And it is one packet on an Ethernet.
            prop_assert!(reply.packet.len() <= 1472);
        }
    }
}
