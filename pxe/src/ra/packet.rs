//! Router advertisements as bytes (RFC 4861 section 4.2, RFC 8106); the kernel fills in the checksum.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::{MacAddr, dhcp6};

pub const ROUTER_SOLICITATION: u8 = 133;
pub const ROUTER_ADVERTISEMENT: u8 = 134;

/// How long a prefix is good for after the last advertisement, in seconds: a day with the appliance away is no reason
/// for machines to lose their addresses.
const VALID_SECS: u32 = 86400;
const PREFERRED_SECS: u32 = 4 * 3600;
const ROUTER_SECS: u16 = 1800;
const NAMES_SECS: u32 = 1800;

/// What an advertisement says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advertisement {
    /// The network, if addresses come from here.
    pub prefix: Option<Prefix>,
    /// Whether its sender is a default router.
    pub routes: bool,
    pub mac: Option<MacAddr>,
    pub mtu: Option<u16>,
    pub dns: Vec<Ipv6Addr>,
    pub domain: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    pub network: Ipv6Net,
    /// False takes it back: hosts open no new connections from their addresses in it.
    pub good: bool,
}

impl Advertisement {
    pub fn bytes(&self) -> Vec<u8> {
        let serves = self.prefix.is_some_and(|prefix| prefix.good);
        // M and O: addresses, boot files and names by DHCPv6.
        let flags = if serves { 0xc0 } else { 0 };
        let lifetime = if serves && self.routes { ROUTER_SECS } else { 0 };
        // Current hop limit unspecified; so are the reachable time and the retransmission timer.
        let mut packet = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 0, flags];
        packet.extend(lifetime.to_be_bytes());
        packet.extend([0; 8]);
        if let Some(prefix) = self.prefix {
            let (valid, preferred) = if prefix.good { (VALID_SECS, PREFERRED_SECS) } else { (0, 0) };
            // On-link, and autonomous: SLAAC.
            packet.extend([3, 4, prefix.network.prefix_len(), 0xc0]);
            packet.extend(valid.to_be_bytes());
            packet.extend(preferred.to_be_bytes());
            packet.extend([0; 4]);
            packet.extend(prefix.network.network().octets());
        }
        if !serves {
            return packet;
        }
        if let Some(mac) = self.mac {
            packet.extend([1, 1]);
            packet.extend(mac.0);
        }
        // IPv6 needs 1280 (RFC 8200 section 5).
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu >= 1280) {
            packet.extend([5, 1, 0, 0]);
            packet.extend(u32::from(mtu).to_be_bytes());
        }
        // An option's length counts eights of bytes in one byte: 127 servers at most.
        if let Ok(count @ 1..) = u8::try_from(self.dns.len().min(16)) {
            packet.extend([25, 1 + 2 * count, 0, 0]);
            packet.extend(NAMES_SECS.to_be_bytes());
            packet.extend(self.dns.iter().take(usize::from(count)).flat_map(Ipv6Addr::octets));
        }
        if let Some(mut name) = dhcp6::domain_name(&self.domain) {
            name.resize(name.len().next_multiple_of(8), 0);
            // A name has at most 255 bytes.
            packet.extend([31, 1 + (name.len() / 8) as u8, 0, 0]);
            packet.extend(NAMES_SECS.to_be_bytes());
            packet.extend(name);
        }
        packet
    }
}

/// What somebody else's advertisement says of what matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// How long it is a default router, in seconds.
    pub lifetime: u16,
    /// M or O: there is a DHCPv6 server.
    pub dhcp: bool,
    /// Prefixes with a lifetime.
    pub prefixes: Vec<Ipv6Net>,
}

impl Heard {
    /// Reads an ICMPv6 message; `None` if it is none or is cut short.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let (header, mut options) = packet.split_at_checked(16)?;
        if header[0] != ROUTER_ADVERTISEMENT {
            return None;
        }
        let mut heard = Self {
            lifetime: u16::from_be_bytes([header[6], header[7]]),
            dhcp: header[5] & 0xc0 != 0,
            prefixes: Vec::new(),
        };
        while let [kind, length, ..] = *options {
            // A length of 0 would never end (RFC 4861 section 4.6).
            let (option, rest) = options.split_at_checked(usize::from(length) * 8).filter(|_| length > 0)?;
            if let (3, [_, _, bits, _, a, b, c, d, _, _, _, _, _, _, _, _, prefix @ ..]) = (kind, option)
                && [*a, *b, *c, *d] != [0; 4]
                && let Some(address) = prefix.first_chunk::<16>()
                && let Ok(network) = Ipv6Net::new(Ipv6Addr::from(*address), *bits)
            {
                heard.prefixes.push(network.trunc());
            }
            options = rest;
        }
        Some(heard)
    }

    /// Whether its sender takes care of IPv6 on this link; who only repeats what we say does not.
    pub fn is_rival(&self, ours: Option<Ipv6Net>) -> bool {
        let foreign = |prefix: &Ipv6Net| Some(*prefix) != ours;
        self.lifetime > 0 || self.prefixes.iter().any(foreign) || (self.dhcp && self.prefixes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ours() -> Ipv6Net {
        "fd12:3456:789a:1::/64".parse().unwrap()
    }

    #[test]
    fn without_a_network_it_is_the_shortest_advertisement() {
        let nothing = Advertisement { domain: "elisandra".to_owned(), mtu: Some(9000), ..Default::default() };
        assert_eq!(nothing.bytes(), [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(!Heard::read(&nothing.bytes()).unwrap().is_rival(None));
    }

    #[test]
    fn with_a_network_everything_is_in_it() {
        let all = Advertisement {
            prefix: Some(Prefix { network: ours(), good: true }),
            routes: false,
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            mtu: Some(1500),
            dns: vec!["fd12:3456:789a:1::a4d:1".parse().unwrap()],
            domain: "elisandra".to_owned(),
        };
        let bytes = all.bytes();
        // M and O, no default route; prefix, MAC address, MTU, RDNSS, DNSSL.
        assert_eq!(bytes[5..8], [0xc0, 0, 0]);
        assert_eq!(bytes.len(), 16 + 32 + 8 + 8 + 24 + 24);
        let heard = Heard::read(&bytes).unwrap();
        assert_eq!(heard, Heard { lifetime: 0, dhcp: true, prefixes: vec![ours()] });
        // Another appliance of the same site is no rival, one of another site is.
        assert!(!heard.is_rival(Some(ours())));
        assert!(heard.is_rival(Some("fd00::/64".parse().unwrap())));
        assert!(heard.is_rival(None));
        let router = Advertisement { routes: true, ..all.clone() };
        assert!(Heard::read(&router.bytes()).unwrap().is_rival(Some(ours())));
        let gone = Advertisement { prefix: Some(Prefix { network: ours(), good: false }), ..all };
        assert_eq!(Heard::read(&gone.bytes()).unwrap(), Heard { lifetime: 0, dhcp: false, prefixes: vec![] });
    }

    #[test]
    fn an_option_without_length_ends_it() {
        assert_eq!(Heard::read(&[134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 1]), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(mut packet in prop::collection::vec(any::<u8>(), 0..200), valid in any::<bool>()) {
            if valid && !packet.is_empty() {
                packet[0] = 134;
            }
            Heard::read(&packet);
        }
    }
}
