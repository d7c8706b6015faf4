//! What it costs to note a step, and to say why a machine does not boot: `cargo bench -p pxe --bench diagnosis`.

use std::{
    hint::black_box,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use pxe::{
    MacAddr, Note, Step,
    dhcp::Kind,
    diagnosis::{Facts, Journal},
    step::{Client, Loader, Outcome, Protocol, Sent},
};

const MACHINES: u32 = 5000;

fn main() {
    let whole = || Sent::Whole { bytes: 60_000_000, took: Duration::from_secs(1) };
    let dhcp = |packet, outcome| Step::Dhcp { packet, client: Client::Firmware { arch: 7 }, outcome };
    let file = |protocol, name: &str| Step::File { protocol, name: name.to_owned(), sent: whole() };
    let loader = || Some("shimx64.efi".to_owned());
    // A boot of UEFI firmware; files are known by their address.
    let boot = |address: Ipv4Addr| {
        vec![
            (true, dhcp(Kind::Discover, Outcome::Offered { address, file: loader() })),
            (true, dhcp(Kind::Request, Outcome::Leased { address, file: loader() })),
            (false, file(Protocol::Tftp, "shimx64.efi")),
            (false, file(Protocol::Tftp, "grubx64.efi")),
            (false, file(Protocol::Tftp, "/grub/grub.cfg")),
            (true, Step::Script { loader: Loader::Grub, boots: "discover".to_owned() }),
            (false, file(Protocol::Http, "vmlinuz")),
            (false, file(Protocol::Http, "initrd")),
        ]
    };
    let machine = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        (MacAddr([0x52, 0x54, a, b, c, d]), Ipv4Addr::from(0x0a4d_0000 + number))
    };
    let mut notes = Vec::new();
    for _ in 0..5 {
        for number in 0..MACHINES {
            let (mac, address) = machine(number);
            notes.extend(boot(address).into_iter().map(|(by_mac, step)| {
                let mac = by_mac.then_some(mac);
                Note { mac, address: mac.is_none().then_some(address.into()), step }
            }));
        }
    }
    let (mut noted, mut judged) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let journal = Journal::default();
        let start = Instant::now();
        for (at, note) in notes.iter().enumerate() {
            black_box(journal.note(note, at as u64 / 100));
        }
        noted = noted.min(start.elapsed());
        let facts = Facts { reports: true, ..Facts::default() };
        let start = Instant::now();
        let found = (0..MACHINES)
            .filter(|number| journal.diagnose(&[machine(*number).0], &facts, 1_000_000).is_some())
            .count();
        judged = judged.min(start.elapsed());
        assert_eq!(found, MACHINES as usize);
    }
    let steps = u32::try_from(notes.len()).unwrap();
    println!("a step noted:      {:6} ns ({steps} steps of {MACHINES} machines)", (noted / steps).as_nanos());
    println!("a machine judged:  {:6} ns (of 40 steps)", (judged / MACHINES).as_nanos());
}
