//! ProxyDHCP, packet by packet.

use crate::packet::*;
use pxe::dhcp::{Answer, Choice, Chosen, Port, Request, proxy_answer};

fn ask(port: Port, request: &Request) -> Answer {
    proxy_answer(request, &proxy(), port, &[])
}

fn firmware(kind: u8, class: &[u8], arch: u8) -> Request {
    request(&[(53, &[kind]), (60, class), (93, &[0, arch])], |_| {})
}

#[test]
fn a_bios_is_told_to_take_the_file() {
    let reply = reply(ask(Port::Dhcp, &firmware(DISCOVER, b"PXEClient:Arch:00000", 0)));
    let read = Read::of(&reply);
    assert_eq!(reply.to.to_string(), "255.255.255.255:68");
    assert_eq!((read.yiaddr, read.siaddr, read.file.as_str()), ([0; 4].into(), APPLIANCE, "undionly.kpxe"));
    assert_eq!((read.option(43), read.option(60)), (Some(&[6, 1, 8, 255][..]), Some(&b"PXEClient"[..])));
    // Nothing that only who gives addresses may say.
    assert_eq!(read.order, [53, 54, 60, 43, 66, 67]);
    assert_eq!(reply.outcome.to_string(), "boot information, no address, boot file undionly.kpxe");
}

#[test]
fn uefi_is_made_to_ask_again_on_the_other_port() {
    let read = Read::of(&reply(ask(Port::Dhcp, &firmware(DISCOVER, b"PXEClient:Arch:00007", 7))));
    assert_eq!((read.option(43), read.siaddr), (None, APPLIANCE));

    let mut again = firmware(REQUEST, b"PXEClient:Arch:00007", 7);
    again.ciaddr = [192, 168, 1, 20].into();
    again.source = Some("192.168.1.20:68".parse().unwrap());
    let reply = reply(ask(Port::BootServer, &again));
    let read = Read::of(&reply);
    assert_eq!((reply.to.to_string(), reply.hardware), ("192.168.1.20:68".to_owned(), None));
    assert_eq!((read.option(53), read.file.as_str(), read.option(43)), (Some(&[5][..]), "shimx64.efi", None));
    assert_eq!(read.yiaddr, std::net::Ipv4Addr::UNSPECIFIED);
    // From no address there is nowhere to answer to; what the packet says of itself is not enough.
    again.source = Some("0.0.0.0:68".parse().unwrap());
    assert_eq!(silence(ask(Port::BootServer, &again)), "REQUEST to a boot server without an address");
}

#[test]
fn firmware_that_boots_over_http_and_ipxe_get_an_url() {
    let read = Read::of(&reply(ask(Port::Dhcp, &firmware(DISCOVER, b"HTTPClient:Arch:00016", 16))));
    assert_eq!(read.file, "http://10.77.0.1/boot/files/shimx64.efi");
    assert_eq!((read.option(60), read.option(43)), (Some(&b"HTTPClient"[..]), None));

    let ipxe = request(&[(53, &[DISCOVER]), (60, b"PXEClient:Arch:00000"), (77, b"iPXE")], |_| {});
    let read = Read::of(&reply(ask(Port::Dhcp, &ipxe)));
    assert_eq!(read.file, "http://10.77.0.1/boot/52-54-00-aa-bb-01/script.ipxe");
    assert_eq!((read.option(60), read.option(43)), (Some(&b"PXEClient"[..]), None));
}

#[test]
fn nobody_is_given_an_address_and_systems_are_left_alone() {
    let system = request(&[(53, &[DISCOVER]), (60, b"MSFT 5.0")], |_| {});
    assert_eq!(silence(ask(Port::Dhcp, &system)), "only what boots is answered here");
    let bootp = request(&[], |_| {});
    assert_eq!(silence(ask(Port::Dhcp, &bootp)), "only what boots is answered here");
    let mut takes = firmware(REQUEST, b"PXEClient", 0);
    takes.server = Some([192, 168, 1, 1].into());
    assert_eq!(silence(ask(Port::Dhcp, &takes)), "takes the address of 192.168.1.1");
    assert_eq!(
        silence(ask(Port::Dhcp, &firmware(DISCOVER, b"PXEClient", 6))),
        "no boot loader for architecture 6"
    );
    assert_eq!(
        silence(ask(Port::BootServer, &firmware(DISCOVER, b"PXEClient", 0))),
        "DISCOVER is not for a ProxyDHCP server"
    );
    // Whatever is asked for, no address is in the answer.
    for kind in 1..=8 {
        for class in [&b"PXEClient"[..], b"HTTPClient", b"x"] {
            for port in [Port::Dhcp, Port::BootServer] {
                let options: &[(u8, &[u8])] =
                    &[(53, &[kind]), (60, class), (93, &[0, 7]), (50, &[10, 77, 1, 9])];
                let Ok(mut request) = pxe::dhcp::parse(&packet(options)) else { continue };
                request.source = Some("10.77.1.9:68".parse().unwrap());
                if let Answer::Reply(reply) = ask(port, &request) {
                    let read = Read::of(&reply);
                    assert!(read.yiaddr.is_unspecified());
                    assert_eq!((read.option(1), read.option(3), read.option(51)), (None, None, None));
                }
            }
        }
    }
}

#[test]
fn a_bios_shows_a_menu_when_there_is_a_choice() {
    let line = |title: &str, boots| Choice { title: title.to_owned(), boots };
    let menu = [
        line("Elisandra", Chosen::Usual),
        line("Own disk", Chosen::LocalDisk),
        line("Memory test", Chosen::File("memtest.bin".to_owned())),
    ];
    let bios = firmware(DISCOVER, b"PXEClient:Arch:00000", 0);
    let offer = reply(proxy_answer(&bios, &proxy(), Port::Dhcp, &menu));
    let read = Read::of(&offer);
    assert_eq!(
        (offer.outcome.to_string().as_str(), read.file.as_str()),
        ("boot information, no address", "")
    );
    let mut expected = vec![6, 1, 7, 8, 14];
    expected.extend([0x80, 0, 1, 10, 77, 0, 1, 0x80, 2, 1, 10, 77, 0, 1]);
    expected.extend([9, 37, 0x80, 0, 9]);
    expected.extend(b"Elisandra");
    expected.extend([0, 0, 8]);
    expected.extend(b"Own disk");
    expected.extend([0x80, 2, 11]);
    expected.extend(b"Memory test");
    expected.extend([10, 19, 10]);
    expected.extend(b"Press F8 to choose");
    expected.push(255);
    assert_eq!(read.option(43), Some(expected.as_slice()));

    let choose = |kind: [u8; 2]| {
        let item = [71, 4, kind[0], kind[1], 0, 0, 255];
        let mut request =
            request(&[(53, &[REQUEST]), (60, b"PXEClient"), (93, &[0, 0]), (43, &item)], |_| {});
        request.source = Some("192.168.1.20:4011".parse().unwrap());
        proxy_answer(&request, &proxy(), Port::BootServer, &menu)
    };
    let taken = Read::of(&reply(choose([0x80, 2])));
    assert_eq!(
        (taken.file.as_str(), taken.option(43)),
        ("memtest.bin", Some(&[71, 4, 0x80, 2, 0, 0, 255][..]))
    );
    assert_eq!(Read::of(&reply(choose([0x80, 0]))).file, "undionly.kpxe");
    assert_eq!(silence(choose([0, 0])), "chose its own disk in the menu");
    // What was never on the menu: what it would boot anyway.
    assert_eq!(Read::of(&reply(choose([0x80, 9]))).file, "undionly.kpxe");

    // One line is no choice, and a UEFI draws no menu.
    let single = reply(proxy_answer(&bios, &proxy(), Port::Dhcp, &menu[..1]));
    assert_eq!(Read::of(&single).file, "undionly.kpxe");
    let uefi = firmware(DISCOVER, b"PXEClient:Arch:00007", 7);
    assert_eq!(Read::of(&reply(proxy_answer(&uefi, &proxy(), Port::Dhcp, &menu))).option(43), None);
    // Titles that are too long for their suboption end the menu and break nothing.
    let long: Vec<Choice> = (0..9).map(|_| line(&"x".repeat(300), Chosen::Usual)).collect();
    Read::of(&reply(proxy_answer(&bios, &proxy(), Port::Dhcp, &long)));
}
