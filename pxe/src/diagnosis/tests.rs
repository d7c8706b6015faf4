//! Steps in, sentences out.

use std::{fmt::Write, fs, net::Ipv4Addr, time::Duration};

use super::*;
use crate::{
    Note, Step,
    dhcp::Kind,
    step::{Client, Loader, Outcome, Protocol, Sent},
};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0xbb, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

const BIOS: Client = Client::Firmware { arch: 0 };
const UEFI: Client = Client::Firmware { arch: 7 };
const HTTP: Client = Client::HttpFirmware { arch: 16 };
const IPXE: Client = Client::Ipxe;
const SYSTEM: Client = Client::System(None);

fn discover(client: Client) -> Step {
    let outcome = Outcome::Offered { address: ADDRESS, file: Some("a loader".to_owned()) };
    Step::Dhcp { packet: Kind::Discover, client, outcome }
}

fn request(client: Client) -> Step {
    let outcome = Outcome::Leased { address: ADDRESS, file: Some("a loader".to_owned()) };
    Step::Dhcp { packet: Kind::Request, client, outcome }
}

fn beside(client: Client) -> Step {
    let outcome = Outcome::BootOnly { file: Some("a loader".to_owned()) };
    Step::Dhcp { packet: Kind::Discover, client, outcome }
}

fn elsewhere(client: Client) -> Step {
    let outcome = Outcome::Elsewhere { server: OTHER, address: Some([192, 168, 1, 50].into()) };
    Step::Dhcp { packet: Kind::Request, client, outcome }
}

fn sent(protocol: Protocol, name: &str, sent: Sent) -> Step {
    Step::File { protocol, name: name.to_owned(), sent }
}

fn tftp(name: &str) -> Step {
    sent(Protocol::Tftp, name, Sent::Whole { bytes: 900_000, took: Duration::from_secs(1) })
}

fn http(name: &str) -> Step {
    sent(Protocol::Http, name, Sent::Whole { bytes: 60_000_000, took: Duration::from_secs(1) })
}

fn part(protocol: Protocol, name: &str, arrived: u64) -> Step {
    sent(protocol, name, Sent::Part { sent: arrived, bytes: 60_000_000, took: Duration::from_secs(9) })
}

fn script(loader: Loader, boots: &Boot) -> Step {
    Step::Script { loader, boots: boots.to_string() }
}

fn refusal() -> Step {
    Step::Handshake { reason: "it refused the certificate (UnknownCA)".to_owned() }
}

/// DHCP of UEFI firmware and what shim and GRUB do until the script, from second `at`.
fn uefi(at: u64) -> Vec<(u64, Step)> {
    let missing = |name: &str| sent(Protocol::Tftp, name, Sent::Missing);
    vec![
        (at, discover(UEFI)),
        (at + 4, request(UEFI)),
        (at + 4, sent(Protocol::Tftp, "shimx64.efi", Sent::SizeOnly)),
        (at + 5, tftp("shimx64.efi")),
        (at + 5, missing("\"revocations_sku.efi\"")),
        (at + 6, tftp("grubx64.efi")),
        (at + 6, missing("\"/grub/x86_64-efi/command.lst\"")),
        (at + 6, tftp("/grub/grub.cfg")),
        (at + 7, script(Loader::Grub, &Boot::Discover)),
    ]
}

/// iPXE as the ROM of a network card.
fn ipxe(at: u64, boots: &Boot) -> Vec<(u64, Step)> {
    vec![(at, discover(IPXE)), (at + 1, request(IPXE)), (at + 1, script(Loader::Ipxe, boots))]
}

/// GRUB hands over to iPXE, which comes back for its script.
fn by_ipxe(at: u64) -> Vec<(u64, Step)> {
    with(with(uefi(at), vec![(at + 8, tftp("/snponly.efi"))]), ipxe(at + 9, &Boot::Discover))
}

struct Case {
    name: &'static str,
    steps: Vec<(u64, Step)>,
    facts: Facts,
    /// In seconds, as all times here.
    now: u64,
}

fn case(name: &'static str, steps: Vec<(u64, Step)>, now: u64) -> Case {
    Case { name, steps, facts: Facts { reports: true, ..Facts::default() }, now }
}

/// What would be said: the steps go through the journal, as they do in the daemon.
fn judge(case: &Case) -> Option<Diagnosis> {
    let journal = Journal::default();
    for (at, step) in &case.steps {
        journal.note(&Note { mac: Some(MAC), address: None, step: step.clone() }, at * SECOND);
    }
    journal.diagnose(&[MAC], &case.facts, case.now * SECOND)
}

fn with(mut steps: Vec<(u64, Step)>, more: Vec<(u64, Step)>) -> Vec<(u64, Step)> {
    steps.extend(more);
    steps
}

fn in_vain(client: &Client) -> Vec<(u64, Step)> {
    [0, 4, 12, 28].into_iter().map(|at| (at, discover(client.clone()))).collect()
}

fn unwell() -> Vec<Case> {
    let others = vec![(OTHER.into(), MacAddr([0x00, 0x1b, 0x21, 1, 2, 3]))];
    let with_other = Facts { reports: true, others: others.clone(), ..Facts::default() };
    let no_loader = Step::Dhcp {
        packet: Kind::Discover,
        client: Client::Firmware { arch: 6 },
        outcome: Outcome::Offered { address: ADDRESS, file: None },
    };
    let declined = Step::Dhcp {
        packet: Kind::Decline,
        client: SYSTEM,
        outcome: Outcome::Silence { reason: "declined 10.77.1.1: another machine answers to it".to_owned() },
    };
    let full = Step::Dhcp {
        packet: Kind::Discover,
        client: UEFI,
        outcome: Outcome::Failed { reason: "every address of the network is in use".to_owned() },
    };
    let asked = |client: &Client| vec![(0, discover(client.clone())), (4, request(client.clone()))];
    let fetched = || with(uefi(0), vec![(8, http("vmlinuz")), (10, http("initrd"))]);
    let wanted = Facts { reports: true, wanted_since: Some(100 * SECOND), ..Facts::default() };
    let again: Vec<_> = (0..5).flat_map(|time| uefi(time * 60)).collect();
    let to_disk: Vec<_> = (0..5).flat_map(|time| ipxe(time * 40, &Boot::Disk)).collect();
    let size = |at| (at, sent(Protocol::Tftp, "shimx64.efi", Sent::SizeOnly));
    vec![
        Case { facts: wanted.clone(), ..case("never came", vec![], 800) },
        Case {
            facts: wanted.clone(),
            ..case("its own disk started", vec![(0, discover(UEFI)), (900, request(SYSTEM))], 1300)
        },
        case("no REQUEST", in_vain(&UEFI), 40),
        Case { facts: with_other.clone(), ..case("no REQUEST, another server is there", in_vain(&UEFI), 40) },
        Case {
            facts: with_other.clone(),
            ..case("REQUEST to another server", vec![(0, discover(BIOS)), (4, elsewhere(BIOS))], 40)
        },
        case(
            "beside another server that is silent",
            vec![(0, beside(UEFI)), (4, beside(UEFI)), (12, beside(UEFI))],
            40,
        ),
        case("beside another server, then nothing", vec![(0, beside(UEFI)), (4, elsewhere(UEFI))], 40),
        Case {
            facts: with_other,
            ..case(
                "two servers",
                with(
                    asked(&UEFI),
                    vec![(4, elsewhere(UEFI)), (5, tftp("shimx64.efi")), (6, tftp("grubx64.efi"))],
                ),
                10,
            )
        },
        case("declined", vec![(0, discover(SYSTEM)), (1, declined)], 10),
        case("no address left", vec![(0, full)], 10),
        case("32-bit EFI", vec![(0, no_loader)], 10),
        case("address, then nothing", asked(&BIOS), 40),
        case("HTTP boot, then nothing", asked(&HTTP), 40),
        case("HTTPS boot without the CA", with(asked(&HTTP), vec![(6, refusal()), (6, refusal())]), 8),
        case(
            "a loader that is not here",
            with(asked(&UEFI), vec![(5, sent(Protocol::Tftp, "\"bootx64.efi\"", Sent::Missing))]),
            40,
        ),
        case(
            "the answer does not arrive",
            with(asked(&UEFI), [30, 60, 90].map(|at| (at, part(Protocol::Tftp, "shimx64.efi", 0))).to_vec()),
            125,
        ),
        case("size only", with(asked(&UEFI), vec![size(5), size(9), size(13), size(17)]), 20),
        case(
            "loader broken off",
            with(asked(&UEFI), vec![(30, part(Protocol::Tftp, "shimx64.efi", 400_000))]),
            70,
        ),
        case("shim, then nothing", with(asked(&UEFI), vec![size(4), (5, tftp("shimx64.efi"))]), 50),
        case("over HTTP: shim, then nothing", with(asked(&HTTP), vec![(5, http("shimx64.efi"))]), 50),
        case(
            "GRUB, then nothing",
            with(asked(&UEFI), vec![(5, tftp("shimx64.efi")), (6, tftp("grubx64.efi"))]),
            50,
        ),
        case("undionly, then nothing", with(asked(&BIOS), vec![(5, tftp("undionly.kpxe"))]), 50),
        case("another loader", with(asked(&BIOS), vec![(5, tftp("pxelinux.0"))]), 50),
        case(
            "iPXE without script",
            with(asked(&BIOS), vec![(5, tftp("undionly.kpxe")), (8, discover(IPXE)), (9, request(IPXE))]),
            50,
        ),
        case("GRUB without script", uefi(0)[..8].to_vec(), 50),
        case("script only", uefi(0), 50),
        case("GRUB started iPXE, then nothing", with(uefi(0), vec![(8, tftp("/snponly.efi"))]), 50),
        case("iPXE behind GRUB gets no script", with(by_ipxe(0)[..11].to_vec(), vec![]), 60),
        case("kernel broken off", with(uefi(0), vec![(20, part(Protocol::Http, "vmlinuz", 4_000_000))]), 60),
        case("kernel, then nothing", with(uefi(0), vec![(8, http("vmlinuz"))]), 50),
        case(
            "initrd broken off",
            with(uefi(0), vec![(8, http("vmlinuz")), (30, part(Protocol::Http, "initrd", 20_000_000))]),
            70,
        ),
        case("initrd, then nothing", fetched(), 110),
        case("no report", with(fetched(), vec![(20, discover(SYSTEM)), (21, request(SYSTEM))]), 200),
        case("over and over", again, 250),
        case("its disk does not start", to_disk, 170),
    ]
}

#[test]
fn each_trouble_has_its_sentence() {
    let mut text = String::new();
    let mut causes = Vec::new();
    for case in unwell() {
        let diagnosis = judge(&case).unwrap_or_else(|| panic!("{}: nothing was found", case.name));
        let Diagnosis { cause, what, since } = &diagnosis;
        writeln!(text, "{}\n  {} since {} s: {what}", case.name, cause.word(), since / SECOND).unwrap();
        causes.push(*cause);
    }
    insta::assert_snapshot!(text);
    causes.sort();
    causes.dedup();
    assert_eq!(causes, Cause::ALL, "every cause has a case");
}

#[test]
fn what_goes_well_and_what_may_still_come_is_left_alone() {
    let fetched = || with(uefi(0), vec![(8, http("vmlinuz")), (10, http("initrd"))]);
    let memory_test = ipxe(0, &Boot::MemoryTest);
    let other_system = Facts::default();
    let wanted = Facts { reports: true, wanted_since: Some(5 * SECOND), ..Facts::default() };
    let waits = Step::Waiting { name: "live.squashfs".to_owned(), place: 3 };
    let cases = [
        case("nothing was seen", vec![], 1000),
        case("it has just begun", vec![(0, discover(UEFI))], 10),
        case("a REQUEST comes late", vec![(0, discover(UEFI)), (4, discover(UEFI)), (8, request(UEFI))], 20),
        case("shim is being checked", uefi(0)[..4].to_vec(), 20),
        case("the kernel starts", fetched(), 60),
        case("the kernel asks for an address", with(fetched(), vec![(30, discover(SYSTEM))]), 100),
        case("it waits for its turn", with(fetched(), vec![(11, waits)]), 3000),
        case("its own disk", ipxe(0, &Boot::Disk), 10_000),
        case("three starts by iPXE behind GRUB", [0, 100, 200].map(by_ipxe).concat(), 215),
        case("and the system of the disk", with(ipxe(0, &Boot::Disk), vec![(30, request(SYSTEM))]), 10_000),
        case("a memory test", with(memory_test, vec![(3, http("memtest86+x64.bin"))]), 10_000),
        case("a system renews its lease", vec![(0, request(SYSTEM)), (20_000, request(SYSTEM))], 90_000),
        Case {
            facts: Facts { reported: Some(60 * SECOND), reports: true, ..Facts::default() },
            ..case("it has reported", fetched(), 10_000)
        },
        Case {
            facts: other_system,
            ..case("an installer of another system", with(fetched(), vec![(30, request(SYSTEM))]), 10_000)
        },
        Case { facts: wanted.clone(), ..case("it was just restarted", vec![(0, discover(UEFI))], 100) },
        Case { facts: wanted, ..case("it starts as it should", with(vec![], uefi(10)), 20) },
        case(
            "a rescue shell",
            with(
                ipxe(0, &Boot::Rescue),
                vec![(2, http("vmlinuz")), (3, http("initrd")), (20, request(SYSTEM))],
            ),
            10_000,
        ),
        case("some starts on one day", [0, 7200, 14_400, 21_600].map(uefi_seen).concat(), 21_610),
    ];
    for case in cases {
        let diagnosis = judge(&case);
        assert_eq!(diagnosis, None, "{}", case.name);
    }
}

fn uefi_seen(at: u64) -> Vec<(u64, Step)> {
    uefi(at)
}

/// docs/booting.md has what the page says, word for word.
#[test]
fn the_documentation_has_the_same_sentences() {
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/booting.md");
    let docs = flat(&fs::read_to_string(docs).unwrap());
    let missing: Vec<&str> = Cause::ALL
        .into_iter()
        .flat_map(|cause| [cause.symptom(), cause.why(), cause.next_step()])
        .filter(|sentence| !docs.contains(&flat(sentence)))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/booting.md lacks:\n{}\n\nAll of it:\n{}",
        missing.join("\n"),
        chapter()
    );
}

/// The chapter as it should stand there, but for its line breaks.
fn chapter() -> String {
    let entry = |cause: Cause| {
        format!("### {}\n\n{}\n\n*Next:* {}\n", cause.symptom(), cause.why(), cause.next_step())
    };
    Cause::ALL.map(entry).join("\n")
}
