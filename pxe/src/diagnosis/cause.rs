//! What may be the matter, each with what is known of it from the field and what to do next, for somebody who is no
//! expert. docs/booting.md has the same sentences; a test compares them.

/// Why a machine does not get on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    DiskInstead,
    OfferLost,
    OtherServerWins,
    NoAddressBeside,
    TwoServers,
    AddressTaken,
    NoAddressLeft,
    NoLoader,
    NoFileAsked,
    HandshakeFailed,
    LoaderMissing,
    AnswersLost,
    SizeOnly,
    LoaderBroken,
    ShimRefused,
    GrubRefused,
    RomSilent,
    LoaderSilent,
    IpxeLost,
    GrubLost,
    ScriptOnly,
    KernelBroken,
    InitrdNotAsked,
    InitrdBroken,
    KernelSilent,
    NoReport,
    DiskEmpty,
    Loop,
}

impl Cause {
    /// In the order of a boot.
    pub const ALL: [Self; 28] = [
        Self::DiskInstead,
        Self::OfferLost,
        Self::OtherServerWins,
        Self::NoAddressBeside,
        Self::TwoServers,
        Self::AddressTaken,
        Self::NoAddressLeft,
        Self::NoLoader,
        Self::NoFileAsked,
        Self::HandshakeFailed,
        Self::LoaderMissing,
        Self::AnswersLost,
        Self::SizeOnly,
        Self::LoaderBroken,
        Self::ShimRefused,
        Self::GrubRefused,
        Self::RomSilent,
        Self::LoaderSilent,
        Self::IpxeLost,
        Self::GrubLost,
        Self::ScriptOnly,
        Self::KernelBroken,
        Self::InitrdNotAsked,
        Self::InitrdBroken,
        Self::KernelSilent,
        Self::NoReport,
        Self::DiskEmpty,
        Self::Loop,
    ];

    /// The word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::DiskInstead => "disk-instead",
            Self::OfferLost => "offer-lost",
            Self::OtherServerWins => "other-server-wins",
            Self::NoAddressBeside => "no-address-beside",
            Self::TwoServers => "two-servers",
            Self::AddressTaken => "address-taken",
            Self::NoAddressLeft => "no-address-left",
            Self::NoLoader => "no-loader",
            Self::NoFileAsked => "no-file-asked",
            Self::HandshakeFailed => "https-failed",
            Self::LoaderMissing => "loader-missing",
            Self::AnswersLost => "answers-lost",
            Self::SizeOnly => "size-only",
            Self::LoaderBroken => "loader-broken",
            Self::ShimRefused => "shim-refused",
            Self::GrubRefused => "grub-refused",
            Self::RomSilent => "rom-silent",
            Self::LoaderSilent => "loader-silent",
            Self::IpxeLost => "ipxe-lost",
            Self::GrubLost => "grub-lost",
            Self::ScriptOnly => "script-only",
            Self::KernelBroken => "kernel-broken",
            Self::InitrdNotAsked => "initrd-not-asked",
            Self::InitrdBroken => "initrd-broken",
            Self::KernelSilent => "kernel-silent",
            Self::NoReport => "no-report",
            Self::DiskEmpty => "disk-empty",
            Self::Loop => "loop",
        }
    }

    /// What is seen, without the names and numbers of a machine.
    pub fn symptom(self) -> &'static str {
        match self {
            Self::DiskInstead => "It should start from the network, and does not ask for an address",
            Self::OfferLost => {
                "It asks for an address (DISCOVER) and does not take what is offered (no REQUEST)"
            }
            Self::OtherServerWins => {
                "It takes its address from another DHCP server and then asks for nothing here"
            }
            Self::NoAddressBeside => {
                "It gets boot information here, and no address from the other DHCP server"
            }
            Self::TwoServers => "Two DHCP servers give it addresses",
            Self::AddressTaken => "It declined its address",
            Self::NoAddressLeft => "No address could be given to it",
            Self::NoLoader => "Its firmware is of a kind that there is no boot loader for",
            Self::NoFileAsked => "It has an address and the name of its boot loader, and does not fetch it",
            Self::HandshakeFailed => "It asks for its boot loader over HTTPS, and no connection comes about",
            Self::LoaderMissing => "It asks for a boot loader that is not here",
            Self::AnswersLost => "It asks for its boot loader, and nothing of the answer arrives",
            Self::SizeOnly => {
                "It asks for the size of its boot loader again and again and never for the file"
            }
            Self::LoaderBroken => "The transfer of its boot loader breaks off",
            Self::ShimRefused => "It fetched the boot loader shim and then nothing more came",
            Self::GrubRefused => "It fetched GRUB and then nothing more came",
            Self::RomSilent => "It fetched iPXE and then nothing more came",
            Self::LoaderSilent => "It fetched a boot loader and then nothing more came",
            Self::IpxeLost => "iPXE runs and does not fetch its script",
            Self::GrubLost => "GRUB runs and does not reach the appliance over HTTP",
            Self::ScriptOnly => "It fetched its boot script and no kernel",
            Self::KernelBroken => "The transfer of the kernel breaks off",
            Self::InitrdNotAsked => "It fetched the kernel and no initrd",
            Self::InitrdBroken => "The transfer of the initrd breaks off",
            Self::KernelSilent => "It fetched kernel and initrd, and then silence",
            Self::NoReport => "Its kernel runs and has an address, and it never reported",
            Self::DiskEmpty => "It is told again and again to start its own disk",
            Self::Loop => "It starts over and over",
        }
    }

    /// What is likely, from the field.
    pub fn why(self) -> &'static str {
        match self {
            Self::DiskInstead => {
                "It is off, its network cable is in a port of another network, or its disk stands before the network \
                 in its boot order."
            }
            Self::OfferLost => {
                "Probably another DHCP server was faster, or the offer does not reach it: switches hold back packets \
                 for half a minute after a link comes up where spanning tree runs without PortFast."
            }
            Self::OtherServerWins => {
                "That server knows nothing of this appliance, so the machine was not told what to boot."
            }
            Self::NoAddressBeside => {
                "That server has no free address for this machine, or does not hear it: the appliance only adds to it."
            }
            Self::TwoServers => "Which one wins is chance, and differs from one start to the next.",
            Self::AddressTaken => {
                "Another device uses that address, usually one that somebody gave it by hand. It is left alone for a \
                 while and the machine gets another one."
            }
            Self::NoAddressLeft => "The network's range of addresses is used up.",
            Self::NoLoader => {
                "Some tablets and old servers have 32-bit EFI (architecture 6); others are ARM or RISC-V boards of a \
                 kind that is not supported."
            }
            Self::NoFileAsked => {
                "A firewall or a switch lets DHCP pass and not TFTP (UDP 69 and above 1024) or HTTP (TCP 80), the \
                 acknowledgment got lost, or a BIOS waits at a PXE menu."
            }
            Self::HandshakeFailed => {
                "Its firmware does not have the CA of this site, or its clock is years off; or its TLS has no elliptic \
                 curves, like that of EDK2 as Debian builds it."
            }
            Self::LoaderMissing => {
                "Another DHCP server told it that name, somebody wrote it into the firmware, or the appliance's folder \
                 of boot loaders is not complete."
            }
            Self::AnswersLost => {
                "TFTP answers from another port than the one that was asked, and a firewall between stops that; or the \
                 packets are larger than something on the way lets through."
            }
            Self::SizeOnly => {
                "UEFI firmware asks for the size first and for the file then. Where it stays at the size, packets of \
                 1500 bytes do not get through (a tunnel or VLAN with a smaller MTU), or it has too little memory."
            }
            Self::LoaderBroken => {
                "Packets get lost on the way: a bad cable or port, a duplex that was set by hand, or a device between \
                 with too small buffers."
            }
            Self::ShimRefused => {
                "Secure Boot may have refused it: many machines, Secured-core PCs for one, come with \"Microsoft 3rd \
                 party UEFI CA\" switched off, and that CA signs shim. Or its firmware is of another architecture than \
                 it says."
            }
            Self::GrubRefused => {
                "shim refused it: GRUB's signature is not the one that shim knows, or its generation was revoked \
                 (SBAT) by a newer system that ran on this machine."
            }
            Self::RomSilent => {
                "iPXE drives the network card by what its ROM offers (UNDI), and some ROMs do that badly, those on USB \
                 and on docking stations for one."
            }
            Self::LoaderSilent => {
                "The firmware could not start it: another architecture, Secure Boot, or a file that is not what its \
                 name says."
            }
            Self::IpxeLost => {
                "Its second DHCP found no answer, because the switch port was blocked again after the reset of the \
                 link, or HTTP (TCP 80) is stopped on the way."
            }
            Self::GrubLost => {
                "HTTP (TCP 80) to the appliance is stopped on the way, or GRUB is an old one without HTTP: Debian 12's \
                 signed one is."
            }
            Self::ScriptOnly => {
                "The kernel's name in the profile is wrong, HTTP broke off, or a person stopped it at the keyboard."
            }
            Self::KernelBroken => {
                "HTTP breaks off: a bad cable or port, or the machine was switched off or reset."
            }
            Self::InitrdNotAsked => {
                "The kernel was refused: under Secure Boot GRUB starts no kernel without a signature that shim knows; \
                 or there is too little memory for it."
            }
            Self::InitrdBroken => {
                "There is too little memory for it, the cable or port is bad, or the machine \
                 was switched off or reset."
            }
            Self::KernelSilent => {
                "The kernel has no driver or no firmware file for its network card, has too little memory, or it \
                 stopped; its own screen says which."
            }
            Self::NoReport => {
                "It refuses the appliance's certificate when its clock is years off (an empty CMOS battery), or TCP \
                 7443 is stopped on the way."
            }
            Self::DiskEmpty => {
                "There is nothing on the disk that starts: it was never installed, the disk is dead, or a RAID \
                 controller hides it."
            }
            Self::Loop => {
                "It is reset before it gets on: a kernel that panics, a watchdog of its BMC, or a person at the power \
                 button."
            }
        }
    }

    /// What to do, in words for somebody who has never done it.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::DiskInstead => {
                "Switch it on, or restart it, and choose network boot (often F12, F11 or F8 at its first picture); \
                 then put the network before the disk in its setup. Look whether its cable's lamp is lit."
            }
            Self::OfferLost => {
                "Look for a second DHCP server on this network and switch it off, or let the appliance only add boot \
                 information to it (ProxyDHCP). If there is none, switch PortFast on for the machine's switch port."
            }
            Self::OtherServerWins => {
                "Switch DHCP off on that server for this network, or let the appliance only add boot information to it \
                 (ProxyDHCP)."
            }
            Self::NoAddressBeside => {
                "Look on the other DHCP server whether it has addresses left and serves this machine."
            }
            Self::TwoServers => "Switch DHCP off on one of them for this network.",
            Self::AddressTaken => {
                "Find the device with that address (arping, or the switch's table of MAC addresses) and let it ask for \
                 one by DHCP."
            }
            Self::NoAddressLeft => "Make the network's range larger, or remove machines that are no more.",
            Self::NoLoader => {
                "Look in its setup for legacy or CSM boot, or for 64-bit UEFI; otherwise it can only be installed from \
                 a USB stick."
            }
            Self::NoFileAsked => {
                "Look at its screen for a menu or an error such as PXE-E32; then try it in another switch port without \
                 a firewall between."
            }
            Self::HandshakeFailed => {
                "Fetch http://APPLIANCE/boot/ca.pem and enrol it in its setup (TLS authentication configuration), and set \
                 its clock there; or take https_boot out of the appliance's settings."
            }
            Self::LoaderMissing => {
                "Take the file name out of the other DHCP server or the firmware's setup; if it is undionly.kpxe, \
                 shimx64.efi or grubnetx64.efi, install the appliance's boot loaders again."
            }
            Self::AnswersLost => {
                "Connect it to the appliance's own switch, without a firewall between, and try again; if it works \
                 there, allow UDP from the appliance to the machine on all ports."
            }
            Self::SizeOnly => {
                "Give the whole way an MTU of 1500 bytes, or tell the network's MTU to the appliance; try a HTTP boot \
                 entry of the firmware, which does not depend on it."
            }
            Self::LoaderBroken => {
                "Change the cable, then the switch port; set both ends to negotiate by themselves."
            }
            Self::ShimRefused => {
                "In its setup, under Secure Boot, allow the Microsoft 3rd party UEFI CA; to see whether this is it, \
                 switch Secure Boot off once."
            }
            Self::GrubRefused => {
                "Bring the appliance's boot loaders up to date; to see whether this is it, switch Secure Boot off once."
            }
            Self::RomSilent => {
                "With UEFI, switch it off and on: it is started without iPXE then. Bring the firmware of its network card \
                 up to date, try UEFI instead of BIOS boot, or another network card."
            }
            Self::LoaderSilent => {
                "Look at its screen; switch Secure Boot off once to see whether this is it."
            }
            Self::IpxeLost => {
                "Switch PortFast on for its switch port, and look whether http://APPLIANCE/ opens from another machine \
                 on this network."
            }
            Self::GrubLost => {
                "Look whether http://APPLIANCE/ opens from another machine on this network; use Debian 13's signed \
                 GRUB."
            }
            Self::ScriptOnly => "Look at its screen: the boot loader says there what it could not do.",
            Self::KernelBroken => {
                "Look whether somebody restarted it; then change the cable, then the switch port."
            }
            Self::InitrdNotAsked => {
                "Look at its screen; to see whether this is it, switch Secure Boot off once."
            }
            Self::InitrdBroken => {
                "Look at its memory, and whether somebody restarted it; then change the cable, then the switch port."
            }
            Self::KernelSilent => {
                "Look at its screen. If the last lines are about the network, the card needs a driver or firmware \
                 package in the image; try another network card."
            }
            Self::NoReport => {
                "Set its clock in its setup, look whether TCP 7443 of the appliance can be reached from there, and look \
                 at its screen for the reason."
            }
            Self::DiskEmpty => {
                "Adopt the machine so that it is installed, or look in its setup whether the disk is seen at all."
            }
            Self::Loop => {
                "Look at its screen in the moment before it resets; switch the BMC's watchdog off for the \
                 installation."
            }
        }
    }
}
