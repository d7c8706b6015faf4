//! LLDP (IEEE 802.1AB): which switch port a NIC's cable leads to, as the switch says it every half minute.
//!
//! Nothing is ever sent. A frame comes from anybody on the wire, so it is read strictly, and one that breaks the
//! standard's own rules is dropped whole.

mod listen;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use listen::{Neighbours, listen};

/// What a port of a switch says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    pub chassis: String,
    pub port: String,
    pub system: Option<String>,
    /// For how long it holds; 0 when the port is going down.
    pub ttl_secs: u16,
}

const END: u8 = 0;
const CHASSIS_ID: u8 = 1;
const PORT_ID: u8 = 2;
const TIME_TO_LIVE: u8 = 3;
const PORT_DESCRIPTION: u8 = 4;
const SYSTEM_NAME: u8 = 5;

/// Subtypes of a chassis id and of a port id, where they are more than text.
const CHASSIS_MAC: u8 = 4;
const CHASSIS_NETWORK_ADDRESS: u8 = 5;
const PORT_MAC: u8 = 3;
const PORT_NETWORK_ADDRESS: u8 = 4;

/// Reads an LLDPDU, the payload of a frame of ethertype 0x88cc. `None` for one that is not as it must be: the first
/// three TLVs are chassis id, port id and time to live (IEEE 802.1AB-2016, 8.2), and none of them comes again.
pub fn parse(lldpdu: &[u8]) -> Option<Announcement> {
    let mut tlvs = Tlvs(lldpdu);
    let mut mandatory = |kind| tlvs.next()?.filter(|tlv| tlv.kind == kind).map(|tlv| tlv.value);
    let chassis = mandatory(CHASSIS_ID)?;
    let port = mandatory(PORT_ID)?;
    let &[high, low, ..] = mandatory(TIME_TO_LIVE)? else { return None };

    let (chassis_kind, chassis) = id(chassis)?;
    let (port_kind, port) = id(port)?;
    let (mut description, mut system) = (None, None);
    loop {
        match tlvs.next()? {
            None => break,
            Some(Tlv { kind: CHASSIS_ID | PORT_ID | TIME_TO_LIVE, .. }) => return None,
            Some(Tlv { kind: PORT_DESCRIPTION, value }) if description.is_none() => description = text(value),
            Some(Tlv { kind: SYSTEM_NAME, value }) if system.is_none() => system = text(value),
            Some(_) => {}
        }
    }

    let chassis = match chassis_kind {
        CHASSIS_MAC => mac(chassis)?,
        CHASSIS_NETWORK_ADDRESS => address(chassis)?,
        _ => text(chassis).unwrap_or_else(|| hex(chassis)),
    };
    // A MAC address says nothing to the person in front of the switch; what the port is called does.
    let port = match port_kind {
        PORT_MAC => description.or_else(|| mac(port))?,
        PORT_NETWORK_ADDRESS => address(port)?,
        _ => text(port).unwrap_or_else(|| hex(port)),
    };
    Some(Announcement { chassis, port, system, ttl_secs: u16::from_be_bytes([high, low]) })
}

struct Tlv<'a> {
    kind: u8,
    value: &'a [u8],
}

struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// `None`: cut short. `Some(None)`: the end.
    fn next(&mut self) -> Option<Option<Tlv<'a>>> {
        // Without an end TLV the frame's own end counts: some senders leave it out.
        if self.0.is_empty() {
            return Some(None);
        }
        // Seven bits of type, nine bits of length.
        let (&[first, second], rest) = self.0.split_first_chunk::<2>()?;
        let (kind, length) = (first >> 1, usize::from(first & 1) << 8 | usize::from(second));
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        // What follows the end is the padding of a short frame.
        Some((kind != END).then_some(Tlv { kind, value }))
    }
}

/// Subtype and value of an id: 1 to 255 octets after the subtype.
fn id(value: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, id) = value.split_first()?;
    (1..=255).contains(&id.len()).then_some((*kind, id))
}

fn mac(value: &[u8]) -> Option<String> {
    Some(fleet::Mac(value.try_into().ok()?).to_string())
}

/// IANA address family numbers: 1 is IPv4, 2 is IPv6.
fn address(value: &[u8]) -> Option<String> {
    match value.split_first()? {
        (1, address) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).to_string()),
        (2, address) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_string()),
        _ => Some(hex(value)),
    }
}

/// Text that can be shown; some senders end it with a zero octet as in C.
fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0').trim();
    (1..=255).contains(&text.len()).then_some(())?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// Two digits an octet; as many as the appliance takes for a name.
fn hex(value: &[u8]) -> String {
    hex::encode(&value[..value.len().min(120)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap();
        let head = u16::from(kind) << 9 | length;
        [&head.to_be_bytes()[..], value].concat()
    }

    /// As a Cisco switch sends it: MAC, interface name, 120 s, description, name, capabilities, the VLAN of 802.1, end.
    fn cisco() -> Vec<Vec<u8>> {
        vec![
            tlv(1, &[4, 0x00, 0x1b, 0x54, 0xaa, 0xbb, 0x00]),
            tlv(2, b"\x05Gi1/0/7"),
            tlv(3, &[0, 120]),
            tlv(4, b"GigabitEthernet1/0/7"),
            tlv(5, b"core-sw1.example.org"),
            tlv(7, &[0, 0x14, 0, 0x04]),
            tlv(127, &[0x00, 0x80, 0xc2, 1, 0, 1]),
            tlv(0, &[]),
        ]
    }

    fn said(chassis: &str, port: &str, system: Option<&str>, ttl_secs: u16) -> Option<Announcement> {
        let (chassis, port) = (chassis.to_owned(), port.to_owned());
        Some(Announcement { chassis, port, system: system.map(str::to_owned), ttl_secs })
    }

    #[test]
    fn what_switches_send_is_read() {
        let expected = said("00:1b:54:aa:bb:00", "Gi1/0/7", Some("core-sw1.example.org"), 120);
        assert_eq!(parse(&cisco().concat()), expected);
        let padded = [cisco().concat(), vec![0; 46]].concat();
        assert_eq!(parse(&padded), expected, "short frames are padded");
        assert_eq!(parse(&cisco()[..7].concat()), expected, "some leave the end out");

        // lldpd on Linux: the port is a MAC address, and its description is its name.
        let linux = [
            tlv(1, &[4, 2, 0, 0, 0, 0, 1]),
            tlv(2, &[3, 2, 0, 0, 0, 0, 2]),
            tlv(3, &[0, 120]),
            tlv(5, b"leaf"),
            tlv(4, b"swp7"),
            tlv(0, &[]),
        ];
        assert_eq!(parse(&linux.concat()), said("02:00:00:00:00:01", "swp7", Some("leaf"), 120));
        // Juniper: a number of its own; and one whose chassis is an address.
        let juniper = [tlv(1, b"\x07x\0"), tlv(2, b"\x07517"), tlv(3, &[0, 120]), tlv(0, &[])];
        assert_eq!(parse(&juniper.concat()), said("x", "517", None, 120));
        let addressed = [tlv(1, &[5, 1, 10, 0, 0, 1]), tlv(2, &[7, 0xff, 0]), tlv(3, &[0, 0]), tlv(0, &[])];
        assert_eq!(parse(&addressed.concat()), said("10.0.0.1", "ff00", None, 0));
    }

    #[test]
    fn what_breaks_the_rules_is_dropped_whole() {
        let without = |number: usize| {
            let mut tlvs = cisco();
            tlvs.remove(number);
            tlvs.concat()
        };
        let with = |number: usize, changed: Vec<u8>| {
            let mut tlvs = cisco();
            tlvs[number] = changed;
            tlvs.concat()
        };
        for (why, frame) in [
            ("empty", vec![]),
            ("no chassis", without(0)),
            ("no port", without(1)),
            ("no time to live", without(2)),
            ("a second chassis", with(3, tlv(1, &[4, 0, 0, 0, 0, 0, 1]))),
            ("chassis without id", with(0, tlv(1, &[4]))),
            ("chassis without subtype", with(0, tlv(1, &[]))),
            ("a MAC address of five octets", with(0, tlv(1, &[4, 1, 2, 3, 4, 5]))),
            ("an id of 256 octets", with(1, tlv(2, &[b'a'; 257]))),
            ("an IPv4 address of three octets", with(0, tlv(1, &[5, 1, 10, 0, 0]))),
            ("a time to live of one octet", with(2, tlv(3, &[120]))),
            ("a length past the end", with(7, vec![0x09, 0xff, b'x'])),
            ("half a head", with(7, vec![0x08])),
        ] {
            assert_eq!(parse(&frame), None, "{why}");
        }
        let rude = with(4, tlv(5, b"a\x1b[2Jb"));
        assert_eq!(parse(&rude).unwrap().system, None, "what cannot be shown is not said");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn nor_do_frames_that_are_nearly_right(
            place in 0usize..90, byte in any::<u8>(), cut in 0usize..90,
        ) {
            let mut frame = cisco().concat();
            if let Some(there) = frame.get_mut(place) {
                *there = byte;
            }
            frame.truncate(cut.max(10));
            if let Some(said) = parse(&frame) {
                prop_assert!((1..=255).contains(&said.port.len()) && (1..=255).contains(&said.chassis.len()));
                prop_assert!(!said.port.chars().chain(said.chassis.chars()).any(char::is_control));
            }
        }
    }
}
