//! What identifiers and addresses of clients tell about their hardware (RFC 8415 section 11, RFC 6355, RFC 4291).

use std::net::Ipv6Addr;

use crate::MacAddr;

const ETHERNET: [u8; 2] = [0, 1];

/// This server's identifier: DUID-LL of the interface that it serves.
pub fn server_duid(mac: MacAddr) -> Vec<u8> {
    [&[0, 3], &ETHERNET[..], &mac.0].concat()
}

/// The MAC address in a DUID-LLT or DUID-LL. A machine has one DUID for all its NICs, and images are copied with
/// theirs: what stands in it need not be the NIC that sends.
pub fn mac_of_duid(duid: &[u8]) -> Option<MacAddr> {
    let mac = match duid {
        [0, 1, 0, 1, _, _, _, _, mac @ ..] | [0, 3, 0, 1, mac @ ..] => mac,
        _ => return None,
    };
    unicast(mac)
}

/// The MAC address of which a link-local address was made.
pub fn mac_of_link_local(address: Ipv6Addr) -> Option<MacAddr> {
    if address.octets()[..8] == [0xfe, 0x80, 0, 0, 0, 0, 0, 0] { mac_of_interface_id(address) } else { None }
}

/// The MAC address of which the last 64 bits of an address were made (modified EUI-64, RFC 4291 appendix A).
pub fn mac_of_interface_id(address: Ipv6Addr) -> Option<MacAddr> {
    match address.octets() {
        [.., a, b, c, 0xff, 0xfe, d, e, f] => unicast(&[a ^ 2, b, c, d, e, f]),
        _ => None,
    }
}

/// Option 79 (RFC 6939): the type of the hardware, and its address.
pub fn mac_of_link_layer(value: &[u8]) -> Option<MacAddr> {
    unicast(value.strip_prefix(&ETHERNET)?)
}

/// The machine's UUID of a DUID-UUID, in the order of SMBIOS as DHCPv4's option 97 has it. RFC 6355 wants network
/// order, which iPXE sends; EDK2 copies what SMBIOS has.
pub fn uuid_of_duid(duid: &[u8], smbios_order: bool) -> Option<[u8; 16]> {
    let mut uuid = <[u8; 16]>::try_from(duid.strip_prefix(&[0, 4])?).ok()?;
    if uuid == [0; 16] || uuid == [0xff; 16] {
        return None;
    }
    if !smbios_order {
        uuid[..4].reverse();
        uuid[4..6].reverse();
        uuid[6..8].reverse();
    }
    Some(uuid)
}

fn unicast(mac: &[u8]) -> Option<MacAddr> {
    let mac = <[u8; 6]>::try_from(mac).ok()?;
    (mac[0] & 1 == 0 && mac != [0; 6]).then_some(MacAddr(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);

    #[test]
    fn a_mac_is_found_where_there_is_one() {
        assert_eq!(mac_of_duid(&server_duid(MAC)), Some(MAC));
        let llt = [&[0, 1, 0, 1, 9, 9, 9, 9], &MAC.0[..]].concat();
        assert_eq!(mac_of_duid(&llt), Some(MAC));
        assert_eq!(mac_of_link_layer(&[&[0, 1], &MAC.0[..]].concat()), Some(MAC));
        assert_eq!(mac_of_link_local("fe80::5054:ff:feab:cdef".parse().unwrap()), Some(MAC));
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        for duid in [
            &[][..],
            &[0, 3],
            &[0, 3, 0, 1, 1, 2, 3],
            &[0, 3, 0, 6, 2, 0, 0, 0, 0, 1],
            &[0, 2, 0, 0, 171, 17],
        ] {
            assert_eq!(mac_of_duid(duid), None, "{duid:?}");
        }
        // Multicast, and nothing.
        assert_eq!(mac_of_duid(&[0, 3, 0, 1, 1, 0, 0, 0, 0, 1]), None);
        assert_eq!(mac_of_duid(&[0, 3, 0, 1, 0, 0, 0, 0, 0, 0]), None);
        for address in ["fe80::1", "fd00::5054:ff:feab:cdef", "fe80::1:5054:ff:feab:cdef", "::"] {
            assert_eq!(mac_of_link_local(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn a_uuid_is_in_the_order_of_smbios() {
        let sent = [&[0, 4], &(1..=16).collect::<Vec<u8>>()[..]].concat();
        let swapped = [4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16];
        assert_eq!(uuid_of_duid(&sent, false), Some(swapped));
        assert_eq!(uuid_of_duid(&sent, true).unwrap()[..], sent[2..]);
        assert_eq!(uuid_of_duid(&[&[0, 4], &[0; 16][..]].concat(), true), None);
    }
}
