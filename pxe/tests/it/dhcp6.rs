//! DHCPv6 without sockets: messages captured from real clients and made-up ones in, decoded replies out.

use std::{
    fs,
    net::{Ipv6Addr, SocketAddrV6},
    path::Path,
};

use crate::directory;
use dhcproto::{
    Decodable, Decoder,
    v6::{DhcpOption, Message, OptionCode, RelayMessage, Status},
};
use proptest::prelude::*;
use pxe::{
    Assignment, MacAddr,
    dhcp6::{
        Answer, BadPacket, Facts, Kind, Need, Reply, Request, Source, answer, declined, need, parse,
        server_duid,
    },
};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0xbb, 0x11]);
const OWN: &str = "fd12:3456:789a:1::a4d:100";
const OTHER: &str = "fd12:3456:789a:1::a4d:199";
const FOREIGN: &str = "2001:db8::7";
/// DUID-EN, as of systemd-networkd: no MAC address in it.
const CLIENT: [u8; 14] = [0, 2, 0, 0, 0xab, 0x11, 1, 2, 3, 4, 5, 6, 7, 8];

fn facts() -> Facts {
    Facts {
        duid: server_duid(MacAddr([2, 0, 0, 0, 0, 1])),
        network: directory::network6(),
        address: "fd12:3456:789a:1::a4d:1".parse().unwrap(),
        dns: vec!["fd12:3456:789a:1::a4d:1".parse().unwrap()],
        ntp: vec!["fd12:3456:789a:1::a4d:2".parse().unwrap()],
        domain: "elisandra".to_owned(),
        https: None,
    }
}

fn assignment() -> Assignment {
    Assignment {
        address: [10, 77, 1, 0].into(),
        hostname: Some("m1".to_owned()),
        lease_secs: 3600,
        network: directory::network(),
    }
}

fn source(multicast: bool) -> Source {
    let from = SocketAddrV6::new("fe80::5054:ff:feaa:bb11".parse().unwrap(), 546, 0, 7);
    Source { from, multicast, mac: Some(MAC) }
}

/// What the server's loop does, without its directory.
fn respond_with(request: &Request, assignment: Option<&Assignment>, multicast: bool) -> Answer {
    let assignment = match need(request, &facts(), multicast) {
        Need::Offer | Need::Commit => assignment,
        Need::Nothing => None,
        Need::Silence(reason) => return Answer::Silence(reason),
    };
    answer(request, &facts(), source(multicast), assignment)
}

fn reply(request: &Request) -> Reply {
    match respond_with(request, Some(&assignment()), true) {
        Answer::Reply(reply) => reply,
        Answer::Silence(reason) => panic!("no reply: {reason}"),
    }
}

fn silence(packet: &[u8], multicast: bool) -> String {
    match respond_with(&parse(packet).unwrap(), Some(&assignment()), multicast) {
        Answer::Reply(reply) => panic!("a reply: {}", reply.outcome),
        Answer::Silence(reason) => reason,
    }
}

/// A reply as another implementation reads it.
fn decode(reply: &Reply) -> Message {
    Message::decode(&mut Decoder::new(&reply.packet)).unwrap()
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

fn ia(id: u8, addresses: &[&str]) -> Vec<u8> {
    let mut value = vec![0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0, 0];
    for address in addresses {
        let address: Ipv6Addr = address.parse().unwrap();
        value.extend(option(5, &[&address.octets(), &[0; 8][..]].concat()));
    }
    option(3, &value)
}

/// A message of a system with its identifier, to our server where its type wants one.
fn message(kind: u8, options: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = vec![kind, 1, 2, 3];
    packet.extend(option(1, &CLIENT));
    if [3, 5, 8, 9].contains(&kind) {
        packet.extend(option(2, &facts().duid));
    }
    packet.extend(options.concat());
    packet
}

fn relayed(link: &str, peer: &str, options: &[Vec<u8>], inner: &[u8]) -> Vec<u8> {
    let (link, peer): (Ipv6Addr, Ipv6Addr) = (link.parse().unwrap(), peer.parse().unwrap());
    [&[12, 0][..], &link.octets(), &peer.octets(), &options.concat(), &option(9, inner)].concat()
}

/// One IA_NA: addresses with their valid lifetimes, and a status.
type Given = (Vec<(Ipv6Addr, u32)>, Option<Status>);

/// The addresses with their valid lifetime, and the status, of each IA_NA of a reply.
fn associations(message: &Message) -> Vec<Given> {
    let all = message.opts().iter().filter_map(|option| match option {
        DhcpOption::IANA(ia) => Some(ia),
        _ => None,
    });
    all.map(|ia| {
        let addresses = ia.opts.iter().filter_map(|option| match option {
            DhcpOption::IAAddr(address) => Some((address.addr, address.valid_life)),
            _ => None,
        });
        let status = ia.opts.iter().find_map(|option| match option {
            DhcpOption::StatusCode(status) => Some(status.status),
            _ => None,
        });
        (addresses.collect(), status)
    })
    .collect()
}

fn status(message: &Message) -> Option<Status> {
    match message.opts().get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(status)) => Some(status.status),
        _ => None,
    }
}

fn own() -> Vec<Given> {
    vec![(vec![(OWN.parse().unwrap(), 3600)], None)]
}

/// The bytes of tests/frames/dhcp6/NAME.hex.
fn frame(name: &str) -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames/dhcp6").join(name).with_extension("hex");
    let text = fs::read_to_string(&path).unwrap();
    let digits = text.trim().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn real_clients() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames/dhcp6")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let request = parse(&frame(&name)).unwrap();
        let reply = reply(&request);
        let uuid = request.uuid.map(|uuid| uuid.map(|byte| format!("{byte:02x}")).concat());
        let mut text = format!(
            "{} of {}, architecture {:?}, uuid {uuid:?}\nto {}: {}\n",
            request.kind,
            request.client(),
            request.arch,
            reply.to,
            reply.outcome,
        );
        let message = decode(&reply);
        text += &format!("{:?}\n", message.msg_type());
        for option in message.opts().iter() {
            text += &format!("{option:?}\n");
        }
        insta::assert_snapshot!(format!("dhcp6_{name}"), text);
    }
}

#[test]
fn a_machine_has_one_uuid_whoever_asks() {
    // EDK2 sends what SMBIOS has, iPXE network order; of others it is not known.
    let [edk2, ipxe, system] =
        ["edk2-pxe-solicit", "ipxe-solicit", "edk2-ip-solicit"].map(|name| parse(&frame(name)).unwrap().uuid);
    assert_eq!(edk2.unwrap()[..8], [4, 3, 2, 1, 6, 5, 8, 7]);
    assert_eq!((edk2, system), (ipxe, None));
}

#[test]
fn the_four_messages() {
    let solicit = parse(&message(1, &[ia(1, &[])])).unwrap();
    assert_eq!(need(&solicit, &facts(), true), Need::Offer);
    let advertise = decode(&reply(&solicit));
    assert_eq!(advertise.msg_type(), dhcproto::v6::MessageType::Advertise);
    assert_eq!(advertise.xid(), [1, 2, 3]);
    assert_eq!(associations(&advertise), own());
    // It waits for no other server.
    assert_eq!(advertise.opts().get(OptionCode::Preference), Some(&DhcpOption::Preference(255)));

    // What it asks for is a wish.
    let wish = parse(&message(1, &[ia(1, &[FOREIGN])])).unwrap();
    assert_eq!(associations(&decode(&reply(&wish))), own());

    let request = parse(&message(3, &[ia(1, &[OWN])])).unwrap();
    assert_eq!(need(&request, &facts(), true), Need::Commit);
    let confirmed = decode(&reply(&request));
    assert_eq!(confirmed.msg_type(), dhcproto::v6::MessageType::Reply);
    assert_eq!((associations(&confirmed), status(&confirmed)), (own(), None));
    assert_eq!(reply(&request).to.port(), 546);
}

#[test]
fn rapid_commit_is_durable_first() {
    let solicit = parse(&message(1, &[ia(1, &[]), option(14, &[])])).unwrap();
    assert_eq!(need(&solicit, &facts(), true), Need::Commit);
    let rapid = decode(&reply(&solicit));
    assert_eq!(rapid.msg_type(), dhcproto::v6::MessageType::Reply);
    assert!(rapid.opts().get(OptionCode::RapidCommit).is_some());
    assert_eq!(associations(&rapid), own());
    // Without an address it is an ADVERTISE that says so.
    let Answer::Reply(none) = respond_with(&solicit, None, true) else { panic!("no reply") };
    let none = decode(&none);
    assert_eq!(none.msg_type(), dhcproto::v6::MessageType::Advertise);
    assert_eq!(associations(&none), [(vec![], Some(Status::NoAddrsAvail))]);
    assert!(none.opts().get(OptionCode::RapidCommit).is_none());
}

#[test]
fn an_address_of_another_link_is_refused() {
    let request = parse(&message(3, &[ia(1, &[FOREIGN])])).unwrap();
    assert_eq!(associations(&decode(&reply(&request))), [(vec![], Some(Status::NotOnLink))]);
    // One of this link that is not its own: its own instead (RFC 8415 section 18.3.2 leaves that to the server).
    let request = parse(&message(3, &[ia(1, &[OTHER])])).unwrap();
    assert_eq!(associations(&decode(&reply(&request))), own());
}

#[test]
fn one_nic_has_one_address() {
    let request = parse(&message(3, &[ia(1, &[]), ia(2, &[])])).unwrap();
    let two = associations(&decode(&reply(&request)));
    assert_eq!(two, [own().remove(0), (vec![], Some(Status::NoAddrsAvail))]);
    // The one that has it keeps it.
    let renew = parse(&message(5, &[ia(1, &[]), ia(2, &[OWN])])).unwrap();
    let two = associations(&decode(&reply(&renew)));
    assert_eq!(two, [(vec![], Some(Status::NoBinding)), own().remove(0)]);
    // No prefixes, no temporary addresses.
    let solicit = parse(&message(1, &[option(25, &[0; 12]), option(4, &[0; 4])])).unwrap();
    let answered = format!("{:?}", decode(&reply(&solicit)));
    assert!(answered.contains("NoPrefixAvail") && answered.contains("NoAddrsAvail"), "{answered}");
}

#[test]
fn who_renews_or_rebinds_goes_on_with_its_own_address_only() {
    for kind in [5, 6] {
        let kept = parse(&message(kind, &[ia(1, &[OWN])])).unwrap();
        assert_eq!(need(&kept, &facts(), true), Need::Commit);
        assert_eq!(associations(&decode(&reply(&kept))), own());
        let both = parse(&message(kind, &[ia(1, &[OTHER, OWN, FOREIGN])])).unwrap();
        let addresses = [(OWN, 3600), (OTHER, 0), (FOREIGN, 0)].map(|(ip, life)| (ip.parse().unwrap(), life));
        assert_eq!(associations(&decode(&reply(&both))), [(addresses.to_vec(), None)]);
    }
}

#[test]
fn confirm_is_about_the_link() {
    let confirm =
        |addresses: &[&str]| status(&decode(&reply(&parse(&message(4, &[ia(1, addresses)])).unwrap())));
    assert_eq!(confirm(&[OWN]), Some(Status::Success));
    assert_eq!(confirm(&[OTHER]), Some(Status::Success));
    assert_eq!(confirm(&[OWN, FOREIGN]), Some(Status::NotOnLink));
    assert_eq!(silence(&message(4, &[ia(1, &[])]), true), "CONFIRM without an address");
}

#[test]
fn release_and_decline() {
    for kind in [8, 9] {
        let request = parse(&message(kind, &[ia(1, &[OWN]), ia(2, &[OTHER])])).unwrap();
        // Looked up, never written.
        assert_eq!(need(&request, &facts(), true), Need::Offer);
        let done = decode(&reply(&request));
        assert_eq!(status(&done), Some(Status::Success));
        assert_eq!(associations(&done), [(vec![], Some(Status::NoBinding))]);
    }
    let is_declined = |packet: &[u8]| declined(&parse(packet).unwrap(), &facts(), &assignment());
    assert!(is_declined(&message(9, &[ia(1, &[OWN])])));
    // Somebody else's address cannot be taken from them.
    assert!(!is_declined(&message(9, &[ia(1, &[OTHER])])));
    assert!(!is_declined(&message(8, &[ia(1, &[OWN])])));
}

#[test]
fn information_without_an_address() {
    let wanted = [23u16, 24, 32, 56, 59, 82, 83].map(u16::to_be_bytes).concat();
    let packet = [&[11, 1, 2, 3][..], &option(6, &wanted)].concat();
    let request = parse(&packet).unwrap();
    assert_eq!(need(&request, &facts(), true), Need::Nothing);
    let text = format!("{:?}", decode(&reply(&request)));
    for part in ["DomainNameServers", "DomainSearchList"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // By their bytes: dhcproto does not read all of them.
    let bytes = reply(&request).packet;
    let ntp = option(56, &option(1, &facts().ntp[0].octets()));
    for part in [
        &ntp[..],
        &option(32, &3600u32.to_be_bytes()),
        &option(82, &600u32.to_be_bytes()),
        &option(83, &600u32.to_be_bytes()),
    ] {
        assert!(bytes.windows(part.len()).any(|window| window == part), "{part:?}");
    }
    // With an address it is no such request (RFC 8415 section 16.12).
    let odd = [&packet[..], &ia(1, &[])].concat();
    assert_eq!(parse(&odd), Err(BadPacket::Address(Kind::InformationRequest)));
}

#[test]
fn what_belongs_to_another_server_or_nobody_gets_no_answer() {
    let other = option(2, &server_duid(MacAddr([2, 0, 0, 0, 0, 9])));
    let packet = [&[3, 1, 2, 3][..], &option(1, &CLIENT), &other, &ia(1, &[])].concat();
    assert_eq!(silence(&packet, true), "REQUEST (IPv6) went to another DHCPv6 server");
    for kind in [1, 4, 6] {
        assert!(silence(&message(kind, &[ia(1, &[OWN])]), false).ends_with("was not sent to all servers"));
    }
    // RFC 8415 section 18.4.
    for kind in [3, 5, 8, 9] {
        let request = parse(&message(kind, &[ia(1, &[OWN])])).unwrap();
        assert_eq!(need(&request, &facts(), false), Need::Nothing);
        let Answer::Reply(reply) = respond_with(&request, None, false) else { panic!("no reply") };
        assert_eq!(status(&decode(&reply)), Some(Status::UseMulticast));
        assert_eq!(associations(&decode(&reply)), []);
    }
}

#[test]
fn what_a_message_must_have() {
    let bare = |kind: u8, options: &[Vec<u8>]| parse(&[&[kind, 1, 2, 3][..], &options.concat()].concat());
    let (client, server) = (option(1, &CLIENT), option(2, &facts().duid));
    assert_eq!(bare(1, &[]), Err(BadPacket::NoClient(Kind::Solicit)));
    assert_eq!(bare(1, &[client.clone(), server.clone()]), Err(BadPacket::Server(Kind::Solicit)));
    assert_eq!(bare(6, &[client.clone(), server.clone()]), Err(BadPacket::Server(Kind::Rebind)));
    assert_eq!(bare(3, &[client]), Err(BadPacket::NoServer(Kind::Request)));
    assert_eq!(bare(5, &[server]), Err(BadPacket::NoClient(Kind::Renew)));
    assert_eq!(bare(1, &[option(1, &[7; 131])]), Err(BadPacket::Identifier(131)));
    assert_eq!(bare(1, &[option(1, &[])]), Err(BadPacket::Identifier(0)));
    assert_eq!(bare(2, &[]), Err(BadPacket::Kind(2)));
    assert_eq!(bare(1, &[vec![0, 1, 0]]), Err(BadPacket::Remainder));
    assert_eq!(bare(1, &[vec![0, 1, 255, 255, 1]]), Err(BadPacket::Overrun(1)));
    assert_eq!(bare(1, &[option(3, &[0; 11])]), Err(BadPacket::Overrun(3)));
    assert_eq!(
        bare(1, &[option(3, &[[0; 12].to_vec(), option(5, &[0; 15])].concat())]),
        Err(BadPacket::Overrun(5))
    );
    assert_eq!(parse(&[1, 2]), Err(BadPacket::Short(2)));
    assert_eq!(parse(&[]), Err(BadPacket::Short(0)));
}

#[test]
fn a_relay_gets_back_what_it_sent() {
    let inner = message(1, &[ia(1, &[])]);
    let link_layer = option(79, &[&[0, 1], &MAC.0[..]].concat());
    let near = relayed(
        "fd12:3456:789a:1::99",
        "fe80::1",
        &[option(18, b"port 7"), link_layer, option(37, b"\0\0\0\x09id"), option(43, &[0, 37])],
        &inner,
    );
    let far = relayed("::", "fe80::2", &[option(18, b"uplink")], &near);
    let request = parse(&far).unwrap();
    assert_eq!(request.relays.len(), 2);
    // The nearest relay knows the client's hardware; who sent the frame does not matter.
    let from = "fe80::5054:ff:fe99:9999".parse().unwrap();
    assert_eq!(request.mac(from, Some(MacAddr([2, 9, 9, 9, 9, 9]))), Some(MAC));
    assert_eq!(request.link(), Some("fd12:3456:789a:1::99".parse().unwrap()));

    let reply = reply(&request);
    assert_eq!(reply.to.port(), 547);
    let outer = RelayMessage::decode(&mut Decoder::new(&reply.packet)).unwrap();
    assert_eq!(outer.peer_addr(), "fe80::2".parse::<Ipv6Addr>().unwrap());
    let middle = format!("{outer:?}");
    assert!(middle.contains("InterfaceId"), "{middle}");
    let answered = reply.packet;
    for echoed in [option(18, b"port 7"), option(18, b"uplink"), option(37, b"\0\0\0\x09id")] {
        assert!(answered.windows(echoed.len()).any(|window| window == echoed), "{echoed:?}");
    }
    // Without option 43 it does not get its remote id back; and nobody gets option 79.
    assert_eq!(answered.windows(4).filter(|window| *window == [0, 79, 0, 8]).count(), 0);
    // From its own port (RFC 8357): back to that.
    let odd = parse(&relayed("::", "fe80::2", &[option(135, &[0, 0])], &inner)).unwrap();
    assert_eq!(self::reply(&odd).to.port(), 546);
}

#[test]
fn a_relay_of_another_link_gets_no_answer() {
    let inner = message(1, &[ia(1, &[])]);
    let packet = relayed("2001:db8:5::1", "fe80::1", &[], &inner);
    assert_eq!(
        silence(&packet, false),
        "relayed from the network of 2001:db8:5::1, which is not described here"
    );
    // The nearest that names a link counts; the outer one cannot lie about it.
    let outer = relayed("fd12:3456:789a:1::99", "fe80::2", &[], &packet);
    assert!(silence(&outer, false).contains("2001:db8:5::1"));
}

#[test]
fn which_nic_it_is() {
    let mac = |packet: &[u8], from: &str, sender: Option<MacAddr>| {
        parse(packet).unwrap().mac(from.parse().unwrap(), sender)
    };
    let frame_of = MacAddr([0x52, 0x54, 0, 1, 2, 3]);
    let with_duid = |duid: &[u8]| [&[1, 1, 2, 3][..], &option(1, duid)].concat();
    let link_layer = with_duid(&server_duid(MacAddr([2, 1, 1, 1, 1, 1])));
    // The frame first: a machine has one DUID for all its NICs.
    assert_eq!(mac(&link_layer, "fe80::1", Some(frame_of)), Some(frame_of));
    assert_eq!(mac(&link_layer, "fe80::5054:ff:feaa:bb11", None), Some(MAC));
    assert_eq!(mac(&link_layer, "fe80::1", None), Some(MacAddr([2, 1, 1, 1, 1, 1])));
    assert_eq!(mac(&with_duid(&CLIENT), "fe80::1", None), None);
    // Behind a relay: what it says, then the client's own address.
    let relay = relayed("::", "fe80::5054:ff:feaa:bb11", &[], &with_duid(&CLIENT));
    assert_eq!(mac(&relay, "fe80::9", Some(frame_of)), Some(MAC));
    let relay = relayed("::", "fe80::1", &[option(79, &[0, 6, 1, 2, 3, 4, 5, 6])], &with_duid(&CLIENT));
    assert_eq!(mac(&relay, "fe80::9", Some(frame_of)), None);
}

#[test]
fn relays_in_a_circle() {
    let mut packet = message(1, &[ia(1, &[])]);
    for _ in 0..32 {
        packet = relayed("::", "fe80::1", &[option(18, b"x")], &packet);
    }
    let deep = parse(&packet).unwrap();
    assert_eq!(deep.relays.len(), 32);
    assert_eq!(reply(&deep).packet[0], 13);
    assert_eq!(parse(&relayed("::", "fe80::1", &[], &packet)), Err(BadPacket::Loop(32)));
    // One that carries nothing, or is cut short.
    let empty = [&[12, 0][..], &[0; 32]].concat();
    assert_eq!(parse(&empty), Err(BadPacket::NoMessage));
    assert_eq!(parse(&empty[..33]), Err(BadPacket::Short(33)));
}

#[test]
fn giant_options_do_no_harm() {
    let giant = vec![b'x'; 60_000];
    for code in [6, 15, 16, 18, 37, 39, 61, 200] {
        let request = parse(&message(1, &[ia(1, &[]), option(code, &giant)])).unwrap();
        let packet = reply(&request).packet;
        assert!(packet.len() < 1000, "{} bytes back for option {code}", packet.len());
    }
    // As many identity associations as fit: few of them are looked at.
    let many: Vec<Vec<u8>> = (0..2000).map(|n| ia((n % 250) as u8, &[])).collect();
    let request = parse(&message(3, &many)).unwrap();
    assert_eq!(request.addresses.len(), 16);
    assert!(reply(&request).packet.len() < 2000);
}

#[test]
fn what_comes_from_the_wire_is_shown_plainly() {
    let class = [&[0, 0, 1, 0x57, 0, 12][..], b"a\n#!ipxe ${}\0"].concat();
    let request = parse(&message(1, &[option(16, &class), option(15, b"\0\x04i\x1bPX")])).unwrap();
    assert_eq!(request.client().to_string(), "a#!ipxe ${}");
    assert_eq!(request.user_class.as_deref(), Some("iPX"));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        kind in 0u8..14,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        options in prop::collection::vec((0u16..140, prop::collection::vec(any::<u8>(), 0..60)), 0..12),
        multicast in any::<bool>(),
    ) {
        let options: Vec<Vec<u8>> = options.iter().map(|(code, value)| option(*code, value)).collect();
        for packet in [[&[kind][..], &bytes].concat(), message(kind, &options), relayed("::", "fe80::1", &options, &message(kind, &options))] {
            if let Ok(request) = parse(&packet) {
                for assignment in [None, Some(&assignment())] {
                    if let Answer::Reply(reply) = respond_with(&request, assignment, multicast) {
                        prop_assert!(reply.packet.len() < packet.len() + 800, "it makes little out of little");
                    }
                }
            }
        }
    }

    #[test]
    fn damaged_frames_do_no_harm(name in 0usize..3, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut packet = frame(["edk2-pxe-request", "ipxe-solicit", "edk2-pxe-solicit"][name]);
        let place = at.index(packet.len());
        packet[place] = byte;
        packet.truncate(cut.index(packet.len() + 1));
        if let Ok(request) = parse(&packet) {
            respond_with(&request, Some(&assignment()), true);
        }
    }
}
