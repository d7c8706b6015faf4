//! The computer's own management controller, asked from inside: where it is on the network, and whether it speaks
//! Redfish.

mod device;
mod smbios;

use std::net::{IpAddr, Ipv4Addr};

use fleet::Mac;
use fleet::wire::{BmcKind, BmcSeen};

use super::Sys;

/// Get LAN Configuration Parameters (IPMI 2.0, table 23-4).
const IP_ADDRESS: u8 = 3;
const MAC_ADDRESS: u8 = 5;
/// Which of the others is the LAN differs from board to board; the rest are serial lines and buses.
const CHANNELS: std::ops::RangeInclusive<u8> = 1..=11;

/// Puts one question (network function, command, data) to a controller; the answer is without its code, and None if there
/// is none or the code says no.
pub type Ask<'a> = &'a mut dyn FnMut(u8, u8, &[u8]) -> Option<Vec<u8>>;

/// None if there is none, or nothing can be known of it.
pub fn read(sys: &Sys) -> Option<BmcSeen> {
    let tables = std::fs::read(sys.path("sys/firmware/dmi/tables/DMI")).unwrap_or_default();
    let firmware = smbios::read(&tables);
    let ask = device::open(sys, firmware.ipmi);
    seen(&firmware, ask)
}

/// A way to ask this machine's own controller.
pub fn ask() -> Option<device::Ask> {
    device::open(&Sys::default(), true)
}

/// The first channel that has a MAC address.
pub fn lan_channel(ask: Ask<'_>) -> Option<u8> {
    CHANNELS
        .into_iter()
        .find(|channel| parameter(ask, *channel, MAC_ADDRESS).as_deref().and_then(mac).is_some())
}

/// `ask` puts one question (network function, command, data) to the controller; the answer is without its code.
fn seen(firmware: &smbios::Controllers, ask: Option<device::Ask>) -> Option<BmcSeen> {
    let kind = if firmware.redfish.is_some() { BmcKind::Redfish } else { BmcKind::Ipmi };
    let there = ask.is_some() || firmware.ipmi || firmware.redfish.is_some();
    let (address, mac) = ask.and_then(lan).unwrap_or_default();
    let address = address.map(IpAddr::V4).or_else(|| firmware.redfish.flatten().filter(|it| reachable(*it)));
    there.then_some(BmcSeen { address, mac, kind })
}

/// Address and MAC address of the first channel that has any: that with an address before one without.
fn lan(mut ask: impl FnMut(u8, u8, &[u8]) -> Option<Vec<u8>>) -> Option<(Option<Ipv4Addr>, Option<Mac>)> {
    let mut without_address = None;
    for channel in CHANNELS {
        let Some(mac) = parameter(&mut ask, channel, MAC_ADDRESS).as_deref().and_then(mac) else { continue };
        match parameter(&mut ask, channel, IP_ADDRESS).as_deref().and_then(address) {
            Some(address) => return Some((Some(address), Some(mac))),
            None => without_address = without_address.or(Some((None, Some(mac)))),
        }
    }
    without_address
}

/// Without the revision that it begins with.
fn parameter(ask: Ask<'_>, channel: u8, number: u8) -> Option<Vec<u8>> {
    const TRANSPORT: u8 = 0x0c;
    const GET_LAN_CONFIGURATION: u8 = 0x02;
    let answer = ask(TRANSPORT, GET_LAN_CONFIGURATION, &[channel, number, 0, 0])?;
    answer.get(1..).map(<[u8]>::to_vec)
}

fn address(octets: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = octets.get(..4)?.try_into().ok()?;
    let address = Ipv4Addr::from(octets);
    (!address.is_unspecified() && !address.is_broadcast()).then_some(address)
}

fn mac(octets: &[u8]) -> Option<Mac> {
    let octets: [u8; 6] = octets.get(..6)?.try_into().ok()?;
    (octets != [0; 6] && octets != [0xff; 6]).then_some(Mac(octets))
}

/// Most hosts reach their controller by a network of its own inside the box, which nobody else is in.
fn reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_unspecified() && !address.is_link_local() && !address.is_loopback()
        }
        IpAddr::V6(address) => {
            !address.is_unspecified() && !address.is_unicast_link_local() && !address.is_loopback()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smbios::Controllers;

    type Answers = Vec<((u8, u8), Vec<u8>)>;

    fn answering(answers: Answers) -> Option<device::Ask> {
        Some(Box::new(move |function: u8, command: u8, data: &[u8]| {
            assert_eq!((function, command, &data[2..]), (0x0c, 2, &[0, 0][..]));
            answers.iter().find(|(asked, _)| *asked == (data[0], data[1])).map(|(_, answer)| answer.clone())
        }))
    }

    const MAC: [u8; 7] = [0x11, 0x52, 0x54, 0, 1, 2, 3];

    #[test]
    fn the_lan_is_the_first_channel_that_has_an_address() {
        let answers = vec![
            ((1, 5), vec![0x11, 0x52, 0x54, 0, 9, 9, 9]),
            ((1, 3), vec![0x11, 0, 0, 0, 0]),
            ((8, 5), MAC.to_vec()),
            ((8, 3), vec![0x11, 10, 77, 1, 5]),
        ];
        let known = BmcSeen {
            address: Some("10.77.1.5".parse().unwrap()),
            mac: Some("52:54:00:01:02:03".parse().unwrap()),
            kind: BmcKind::Ipmi,
        };
        assert_eq!(seen(&Controllers { ipmi: true, redfish: None }, answering(answers)), Some(known));
        let bare = vec![((1, 5), MAC.to_vec()), ((1, 3), vec![0x11])];
        let bare = seen(&Controllers::default(), answering(bare)).unwrap();
        assert_eq!((bare.address, bare.mac.map(|mac| mac.0)), (None, Some([0x52, 0x54, 0, 1, 2, 3])));
    }

    #[test]
    fn a_controller_that_says_nothing_is_there_all_the_same() {
        assert_eq!(seen(&Controllers::default(), None::<device::Ask>), None);
        let bare = BmcSeen { address: None, mac: None, kind: BmcKind::Ipmi };
        assert_eq!(seen(&Controllers::default(), answering(Vec::new())), Some(bare.clone()));
        assert_eq!(seen(&Controllers { ipmi: true, redfish: None }, None::<device::Ask>), Some(bare));
        let nonsense =
            vec![((1, 5), vec![]), ((2, 5), vec![0x11, 0, 0, 0, 0, 0, 0]), ((3, 5), vec![0x11; 3])];
        assert!(seen(&Controllers::default(), answering(nonsense)).unwrap().mac.is_none());
    }

    #[test]
    fn an_address_inside_the_box_is_no_use_to_others() {
        let firmware = |address: &str| Controllers { ipmi: false, redfish: Some(address.parse().ok()) };
        for (address, known) in
            [("169.254.95.118", None), ("fe80::1", None), ("", None), ("10.77.1.5", Some("10.77.1.5"))]
        {
            let bmc = seen(&firmware(address), None::<device::Ask>).unwrap();
            assert_eq!((bmc.kind, bmc.address), (BmcKind::Redfish, known.map(|it| it.parse().unwrap())));
        }
        let lan = vec![((1, 5), MAC.to_vec()), ((1, 3), vec![0x11, 10, 77, 1, 5])];
        let bmc = seen(&firmware("169.254.95.118"), answering(lan)).unwrap();
        assert_eq!((bmc.kind, bmc.address), (BmcKind::Redfish, Some("10.77.1.5".parse().unwrap())));
    }
}
