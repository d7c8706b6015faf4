//! The cases, one line of thought each.

use std::sync::Arc;
use std::time::Duration;

use pxe::diagnosis::Cause;
use pxe::{Boot, Start, System};

use super::payload::{DISK_SAYS, Products};
use super::{Case, Side};
use crate::machine::{Bus, Contents, Disk, Firmware, Model, Rom, Setting, Spec};

/// A kernel says it first.
const KERNEL: &str = "Linux version";
/// Where OVMF takes the CAs for HTTPS from.
const CA_CERTS: &str = "etc/edk2/https/cacerts";
const LIMIT: Duration = Duration::from_secs(240);

/// All of them; the long ones first, so that the last machine is not alone for long.
pub fn all(products: &Products) -> Vec<Case> {
    let mut cases = six();
    cases.extend(uefi(products));
    cases.push(https(products));
    cases.push(rescue());
    cases.extend(beside());
    cases.extend(bios(products));
    cases
}

/// The system image with its shell; what the machine shows last is the shell's prompt.
fn rescue() -> Case {
    let mut spec = machine("rescue", Firmware::Bios);
    spec.memory_mib = 2048;
    let path = ["iPXE script: rescue", "HTTP vmlinuz: ", "HTTP initrd: ", "HTTP live.squashfs: "];
    let mut case = case("BIOS, rescue, to its prompt", spec, vec![Boot::Rescue], &path, "root@");
    case.lan = Side::Whole;
    // 160 MB are fetched and hashed before there is a prompt.
    case.limit = Duration::from_secs(420);
    case
}

/// Another server gives the addresses; ours adds what to boot.
fn beside() -> Vec<Case> {
    let mut http = machine("beside-http", Firmware::Uefi);
    http.settings.push(text("opt/org.tianocore/IPv4PXESupport", "n"));
    let mut rom = machine("beside-ipxe-uefi", Firmware::Uefi);
    rom.nics[0].rom = Rom::Ipxe;
    let mut cases = vec![
        case(
            "beside dnsmasq: UEFI, PXE",
            machine("beside-uefi", Firmware::Uefi),
            vec![Boot::Discover],
            &["DISCOVER of UEFI firmware: boot information", "TFTP shimx64.efi", "GRUB script: discover"],
            KERNEL,
        ),
        case(
            "beside dnsmasq: UEFI, HTTP boot",
            http,
            vec![Boot::Discover],
            &[
                "DISCOVER of UEFI firmware (HTTP): boot information",
                "HTTP shimx64.efi",
                "GRUB script: discover",
            ],
            KERNEL,
        ),
        case(
            "beside dnsmasq: UEFI, iPXE in the card",
            rom,
            vec![Boot::Discover],
            &["DISCOVER of iPXE: boot information", "iPXE script: discover"],
            KERNEL,
        ),
        case(
            "beside dnsmasq: BIOS, iPXE in the card",
            machine("beside-bios", Firmware::Bios),
            vec![Boot::Discover],
            &["DISCOVER of iPXE: boot information", "iPXE script: discover"],
            KERNEL,
        ),
    ];
    for case in &mut cases {
        case.lan = Side::Beside;
        case.never = vec!["offered", "leased"];
    }
    cases
}

/// HTTPS to firmware that has the site's CA. OVMF of Debian 12 and 13 is built without elliptic curves, and TLS without
/// them is not spoken here: it fetches nothing, and a person is told why.
fn https(products: &Products) -> Case {
    let mut spec = machine("uefi-https", Firmware::Uefi);
    spec.settings.push(text("opt/org.tianocore/IPv4PXESupport", "n"));
    spec.settings.push((CA_CERTS.to_owned(), Setting::File(products.ca.clone())));
    let mut case = case(
        "UEFI, HTTPS boot, without elliptic curves",
        spec,
        vec![Boot::Discover],
        &["boot file https://", "HTTPS: it knows no TLS 1.2 or 1.3 with elliptic curves"],
        "Could not retrieve NBP file size from HTTP server",
    );
    case.lan = Side::Https;
    case.never = vec!["HTTP shimx64.efi"];
    case.diagnosis = Some(Cause::HandshakeFailed);
    case
}

/// Everything up to the kernel over IPv6.
fn six() -> Vec<Case> {
    let mut pxe = machine("six-pxe", Firmware::Uefi);
    pxe.settings = vec![text("opt/org.tianocore/IPv4PXESupport", "n")];
    let mut http = machine("six-http", Firmware::Uefi);
    http.settings.push(text("opt/org.tianocore/IPv4PXESupport", "n"));
    let mut cases = vec![
        case(
            "IPv6 only: UEFI, HTTP boot",
            http,
            vec![Boot::Discover],
            &[
                "REQUEST (IPv6) of UEFI firmware (HTTP): leased",
                "HTTP shimx64.efi",
                "HTTP grubx64.efi",
                "GRUB script: discover",
                "HTTP vmlinuz: ",
                "HTTP initrd: ",
            ],
            KERNEL,
        ),
        case(
            "IPv6 only: UEFI, PXE",
            pxe,
            vec![Boot::Discover],
            &[
                "REQUEST (IPv6) of UEFI firmware: leased",
                "TFTP shimx64.efi",
                "TFTP /grubx64.efi",
                "GRUB script: discover",
                "HTTP vmlinuz: ",
                "HTTP initrd: ",
            ],
            KERNEL,
        ),
    ];
    for case in &mut cases {
        case.lan = Side::Six;
        // For a minute it looks for HTTP boot over IPv4 first.
        case.limit = 2 * LIMIT;
    }
    cases
}

fn machine(name: &str, firmware: Firmware) -> Spec {
    let settings = match firmware {
        Firmware::Bios => Vec::new(),
        // IPv6 comes before nothing: it would only be waited for.
        Firmware::Uefi | Firmware::UefiSecureBoot | Firmware::UefiArm64 => {
            vec![text("opt/org.tianocore/IPv6PXESupport", "n")]
        }
    };
    Spec { disks: Vec::new(), memory_mib: 1024, vcpus: 1, settings, ..Spec::blank(name, firmware) }
}

fn text(name: &str, value: &str) -> (String, Setting) {
    (name.to_owned(), Setting::Text(value.to_owned()))
}

fn case(name: &'static str, spec: Spec, boots: Vec<Boot>, timeline: &[&str], console: &'static str) -> Case {
    Case {
        name,
        lan: Side::Ours,
        spec,
        boots,
        timeline: timeline.iter().map(|part| (*part).to_owned()).collect(),
        never: Vec::new(),
        console,
        diagnosis: None,
        limit: LIMIT,
    }
}

fn only_for_ipxe(script: &str) -> Boot {
    let start = Start::Text { ipxe: Some(script.to_owned()), grub: None };
    Boot::System(Arc::new(System { title: "a script of its own".to_owned(), start }))
}

fn bios(products: &Products) -> Vec<Case> {
    let mut cases = Vec::new();
    let cards = [
        ("BIOS, iPXE in virtio", "virtio", Model::Virtio),
        ("BIOS, iPXE in e1000", "e1000", Model::E1000),
        ("BIOS, iPXE in e1000e", "e1000e", Model::E1000e),
        ("BIOS, iPXE in rtl8139", "rtl8139", Model::Rtl8139),
        ("BIOS, iPXE in vmxnet3", "vmxnet3", Model::Vmxnet3),
    ];
    let path = ["REQUEST of iPXE: leased", "iPXE script: discover", "HTTP vmlinuz: ", "HTTP initrd: "];
    for (name, short, model) in cards {
        let mut spec = machine(short, Firmware::Bios);
        spec.nics[0].model = model;
        cases.push(case(name, spec, vec![Boot::Discover], &path, KERNEL));
    }
    cases.push(case(
        "BIOS, undionly.kpxe over the card's own driver",
        machine("undionly", Firmware::Bios),
        vec![only_for_ipxe("chain tftp://${next-server}/undionly.kpxe"), Boot::Discover],
        &[
            "iPXE script: a script of its own",
            "TFTP undionly.kpxe",
            "REQUEST of iPXE: leased",
            "iPXE script: discover",
        ],
        KERNEL,
    ));
    cases.push(case(
        "BIOS, memory test",
        machine("bios-memory", Firmware::Bios),
        vec![Boot::MemoryTest],
        &["iPXE script: memory test", "HTTP memtest.bin: "],
        "Memtest86+",
    ));
    let mut disk = machine("bios-disk", Firmware::Bios);
    disk.disks = vec![holding(&products.bios_disk)];
    cases.push(case("BIOS, its own disk", disk, vec![Boot::Disk], &["iPXE script: its own disk"], DISK_SAYS));
    cases.push(case(
        "BIOS, a profile that GRUB alone could start",
        machine("bios-grub", Firmware::Bios),
        vec![Boot::System(Arc::new(System {
            title: "x".to_owned(),
            start: Start::Text { ipxe: None, grub: Some("halt".to_owned()) },
        }))],
        &["its profile has no text for iPXE"],
        "trying again in 30 seconds",
    ));
    cases
}

fn uefi(products: &Products) -> Vec<Case> {
    let shim_and_grub = [
        "REQUEST of UEFI firmware: leased",
        "TFTP shimx64.efi",
        "TFTP grubx64.efi",
        "GRUB script: discover",
        "HTTP vmlinuz: ",
        "HTTP initrd: ",
    ];
    let mut cases = vec![case(
        "arm64, PXE: shim, GRUB, a script that says no",
        machine("arm", Firmware::UefiArm64),
        vec![Boot::Discover],
        &[
            "REQUEST of UEFI firmware (arm64): leased",
            "TFTP shimaa64.efi",
            "TFTP grubaa64.efi",
            "GRUB script: discover",
            "arm64/vmlinuz\": there is no such file",
        ],
        "no system for arm64 machines could be fetched",
    )];
    let mut forged = case(
        "UEFI, Secure Boot, a GRUB that is not signed",
        machine("forged", Firmware::UefiSecureBoot),
        vec![Boot::Discover],
        &["TFTP shimx64.efi", "TFTP grubx64.efi"],
        "Security Violation",
    );
    forged.lan = Side::Forged;
    forged.never = vec!["GRUB script"];
    forged.diagnosis = Some(Cause::GrubRefused);
    cases.push(forged);
    cases.push(case(
        "UEFI, PXE",
        machine("uefi", Firmware::Uefi),
        vec![Boot::Discover],
        &shim_and_grub,
        KERNEL,
    ));
    let mut secure = case(
        "UEFI, PXE, Secure Boot",
        machine("secure", Firmware::UefiSecureBoot),
        vec![Boot::Discover],
        &shim_and_grub,
        "secureboot: Secure boot enabled",
    );
    // GRUB measures its clock within a millisecond. Where its processor was not run just then, its HTTP gives up at once
    // or waits for minutes; then the machine starts again.
    secure.limit = 3 * LIMIT;
    cases.push(secure);
    let mut http = machine("uefi-http", Firmware::Uefi);
    http.settings.push(text("opt/org.tianocore/IPv4PXESupport", "n"));
    cases.push(case(
        "UEFI, HTTP boot",
        http,
        vec![Boot::Discover],
        &[
            "REQUEST of UEFI firmware (HTTP): leased",
            "HTTP shimx64.efi",
            "HTTP grubx64.efi",
            "GRUB script: discover",
        ],
        KERNEL,
    ));
    let mut rom = machine("uefi-ipxe", Firmware::Uefi);
    rom.nics[0].rom = Rom::Ipxe;
    cases.push(case(
        "UEFI, iPXE in the card",
        rom,
        vec![Boot::Discover],
        &["REQUEST of iPXE: leased", "iPXE script: discover", "HTTP vmlinuz: "],
        KERNEL,
    ));
    cases.push(case(
        "UEFI, iPXE on demand (snponly.efi)",
        machine("snponly", Firmware::Uefi),
        vec![only_for_ipxe("chain x"), only_for_ipxe("echo This is iPXE on ${platform}\nsleep 100")],
        &[
            "GRUB script: a script of its own",
            "TFTP /snponly.efi",
            "REQUEST of iPXE: leased",
            "iPXE script: a script",
        ],
        "This is iPXE on efi",
    ));
    cases.push(case(
        "UEFI, memory test",
        machine("uefi-memory", Firmware::Uefi),
        vec![Boot::MemoryTest],
        &["GRUB script: memory test", "TFTP /memtest.efi: "],
        "Memtest86+",
    ));
    cases.push(case(
        "UEFI, Secure Boot, memory test",
        machine("secure-memory", Firmware::UefiSecureBoot),
        vec![Boot::MemoryTest],
        &["GRUB script: memory test", "TFTP /memtest.efi"],
        "only programs that are signed for it start",
    ));
    let mut disk = machine("uefi-disk", Firmware::Uefi);
    disk.disks = vec![holding(&products.uefi_disk)];
    cases.push(case(
        "UEFI, its own disk, another system",
        disk,
        vec![Boot::Disk],
        &["GRUB script: its own disk"],
        "iPXE initialising devices",
    ));
    cases
}

/// The machines of the benchmark, each from ours and from dnsmasq: power-on to the first word of our kernel, behind
/// an initrd of the real size.
pub fn bench() -> Vec<(&'static str, [Case; 2])> {
    let pair = |name, spec: Spec, boots: Vec<Boot>| {
        let mut ours = case(name, spec.clone(), boots, &[], KERNEL);
        ours.lan = Side::Whole;
        let mut peer = case(name, spec, Vec::new(), &[], KERNEL);
        peer.lan = Side::Peer;
        (name, [ours, peer])
    };
    let mut http = machine("http", Firmware::Uefi);
    http.settings.push(text("opt/org.tianocore/IPv4PXESupport", "n"));
    let discover = || vec![Boot::Discover];
    vec![
        pair("BIOS, iPXE", machine("bios", Firmware::Bios), discover()),
        pair("UEFI, PXE", machine("pxe", Firmware::Uefi), discover()),
        pair("UEFI, HTTP boot", http, discover()),
        pair(
            "UEFI, PXE, iPXE behind GRUB (ours only)",
            machine("by-ipxe", Firmware::Uefi),
            vec![only_for_ipxe("shell"), Boot::Discover],
        ),
    ]
}

fn holding(image: &std::path::Path) -> Disk {
    Disk {
        size_gib: 1,
        serial: "disk-0".to_owned(),
        bus: Bus::Sata,
        contents: Contents::Image(image.to_owned()),
    }
}
