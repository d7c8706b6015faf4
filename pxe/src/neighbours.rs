//! Which hardware address is behind an IP address on a link, as far as this machine knows.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use crate::MacAddr;

/// The kernel's ARP table. Who has just sent us something that we answered is in it.
pub fn table() -> Vec<(Ipv4Addr, MacAddr)> {
    parse(&fs::read_to_string("/proc/net/arp").unwrap_or_default())
}

/// Address, type, flags (2: complete), hardware address, mask, device; a line of headings first.
fn parse(table: &str) -> Vec<(Ipv4Addr, MacAddr)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        let flags = u32::from_str_radix(words.nth(1)?.strip_prefix("0x")?, 16).ok()?;
        let mac = words.next()?.parse().ok()?;
        (flags & 2 != 0).then_some((address, mac))
    };
    table.lines().filter_map(line).collect()
}

/// The MAC address in an IPv6 address that was made from one (RFC 4291, appendix A).
pub fn of_interface_id(address: IpAddr) -> Option<MacAddr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, 0xff, 0xfe, d, e, f] = address.octets()[8..] else { return None };
    Some(MacAddr([a ^ 2, b, c, d, e, f]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_entries_are_read() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.77.1.9        0x1         0x2         52:54:00:aa:bb:01     *        lan0\n\
                     10.77.1.10       0x1         0x0         00:00:00:00:00:00     *        lan0\n";
        let mac = "52:54:00:aa:bb:01".parse().unwrap();
        assert_eq!(parse(table), [([10, 77, 1, 9].into(), mac)]);
        assert_eq!(of_interface_id("fe80::5054:ff:feaa:bb01".parse().unwrap()), Some(mac));
        assert_eq!(of_interface_id("fe80::1".parse().unwrap()), None);
    }
}
