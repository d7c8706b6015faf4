//! What the firmware's tables say of controllers: SMBIOS type 38 (IPMI Device Information) and type 42 (Management
//! Controller Host Interface) with "Redfish over IP" (DMTF DSP0134, DSP0270).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Controllers {
    pub ipmi: bool,
    /// There, and under which address the host reaches it, if the table says so.
    pub redfish: Option<Option<IpAddr>>,
}

/// Reads the structure table; what is broken or cut off is as if it was not there.
pub fn read(tables: &[u8]) -> Controllers {
    let mut found = Controllers::default();
    for structure in Structures(tables) {
        match structure[0] {
            38 => found.ipmi = true,
            42 => found.redfish = found.redfish.or_else(|| redfish(structure)),
            _ => {}
        }
    }
    found
}

/// The formatted part of each structure.
struct Structures<'a>(&'a [u8]);

impl<'a> Iterator for Structures<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        const END_OF_TABLE: u8 = 127;
        let (kind, length) = (*self.0.first()?, usize::from(*self.0.get(1)?));
        if length < 4 || kind == END_OF_TABLE {
            return None;
        }
        let formatted = self.0.get(..length)?;
        // Its texts follow, and end with an empty one.
        let texts = &self.0[length..];
        let end = texts.windows(2).position(|pair| pair == [0, 0]).map_or(texts.len(), |place| place + 2);
        self.0 = &texts[end..];
        Some(formatted)
    }
}

fn redfish(structure: &[u8]) -> Option<Option<IpAddr>> {
    const NETWORK_HOST_INTERFACE: u8 = 0x40;
    const REDFISH_OVER_IP: u8 = 4;
    if *structure.get(4)? != NETWORK_HOST_INTERFACE {
        return None;
    }
    let device = usize::from(*structure.get(5)?);
    let count = *structure.get(6 + device)?;
    let mut records = structure.get(7 + device..)?;
    for _ in 0..count {
        let (kind, length) = (*records.first()?, usize::from(*records.get(1)?));
        let data = records.get(2..2 + length)?;
        if kind == REDFISH_OVER_IP {
            return Some(service_address(data));
        }
        records = &records[2 + length..];
    }
    None
}

/// The Redfish service's own address in the protocol's data (DSP0270, table 3).
fn service_address(data: &[u8]) -> Option<IpAddr> {
    const FORMAT: usize = 51;
    const ADDRESS: usize = 52;
    let octets: [u8; 16] = data.get(ADDRESS..ADDRESS + 16)?.try_into().ok()?;
    match data[FORMAT] {
        1 => Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()),
        2 => Some(Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As dmidecode shows it of a server: a USB network device, host 169.254.95.120, service 169.254.95.118.
    fn host_interface(format: u8, address: &[u8]) -> Vec<u8> {
        let mut data = vec![0xab; 16];
        data.extend([1, 1]);
        data.extend([169, 254, 95, 120].iter().chain(&[0; 12]));
        data.extend([255, 255, 0, 0].iter().chain(&[0; 12]));
        data.extend([1, format]);
        data.extend(address.iter().copied().chain(std::iter::repeat(0)).take(16));
        data.extend([255, 255, 0, 0].iter().chain(&[0; 12]));
        data.extend([0xbb, 0x01, 0, 0, 0, 0, 1, b'b']);
        let device = [2, 0x0b, 0x04, 0x91, 0x72, 0, 0];
        let mut structure = vec![42, 0, 0x2a, 0, 0x40, u8::try_from(device.len()).unwrap()];
        structure.extend(device);
        // A protocol that is not Redfish stands before it.
        structure.extend([2, 2, 2, 9, 9, 4, u8::try_from(data.len()).unwrap()]);
        structure.extend(data);
        structure[1] = u8::try_from(structure.len()).unwrap();
        structure
    }

    fn table(structures: &[&[u8]]) -> Vec<u8> {
        let bios = [0, 6, 0, 0, 1, 0, b'S', b'e', b'a', 0, 0];
        let end = [127, 4, 0xff, 0xfe, 0, 0];
        let middle = structures.iter().flat_map(|structure| [structure, &[0, 0][..]]).flatten();
        bios.iter().chain(middle).chain(&end).copied().collect()
    }

    #[test]
    fn controllers_are_found_between_other_structures() {
        let ipmi = [38, 18, 0x26, 0, 1, 0x20, 0x20, 0xff, 0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(read(&table(&[])), Controllers::default());
        assert_eq!(read(&table(&[&ipmi])), Controllers { ipmi: true, redfish: None });
        let four = host_interface(1, &[169, 254, 95, 118]);
        let address = Some("169.254.95.118".parse().unwrap());
        assert_eq!(read(&table(&[&four, &ipmi])), Controllers { ipmi: true, redfish: Some(address) });
        let six: Ipv6Addr = "fd00::5".parse().unwrap();
        let redfish = read(&table(&[&host_interface(2, &six.octets())])).redfish;
        assert_eq!(redfish, Some(Some(six.into())));
        assert_eq!(read(&table(&[&host_interface(0, &[])])).redfish, Some(None));
    }

    #[test]
    fn tables_that_are_cut_off_or_broken_end_the_reading() {
        let whole = table(&[&host_interface(1, &[169, 254, 95, 118])]);
        for length in 0..whole.len() {
            read(&whole[..length]);
            let mut broken = whole.clone();
            broken[length] = 0xff;
            read(&broken);
            broken[length] = 0;
            read(&broken);
        }
        // Behind the end there is nothing, whatever stands there.
        let behind = [&table(&[])[..], &[38, 18][..], &[0; 20][..]].concat();
        assert_eq!(read(&behind), Controllers::default());
    }
}
