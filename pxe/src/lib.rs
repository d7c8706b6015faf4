//! Everything that a machine meets before it runs our system: addresses (DHCP), boot loaders
//! (TFTP), boot scripts and files (HTTP), the router advertisement that keeps firmware from
//! waiting for IPv6, and the kickstart file that an installation follows.
//!
//! What to answer is decided by pure functions ([`dhcp::answer`], [`script`], [`kickstart`]);
//! the sockets around them are in [`Server`]. Who a machine is and what it should boot comes from
//! the [`Directory`], which the appliance implements. docs/booting.md follows the packets.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use async_trait::async_trait;
use ipnet::{Ipv4Net, Ipv6Net};

pub mod dhcp;
pub mod dhcp6;
pub mod diagnosis;
mod folder;
mod frame;
pub mod http;
pub mod kickstart;
mod neighbours;
pub mod probe;
pub mod ra;
pub mod script;
pub mod server;
pub mod step;
pub mod tftp;
mod transfer;

pub use server::{Server, ServerError, Tls};
pub use step::{Note, NoteKind, Step};

/// What the boot servers ask the rest of the appliance.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Gives the address for a client that only asks (DHCPOFFER). Nothing has to be durable.
    async fn offer(&self, sight: &Sight) -> Result<Assignment, Refused>;

    /// Gives the same address, durable on disk when this returns: the DHCPACK is sent after it.
    async fn commit(&self, sight: &Sight) -> Result<Assignment, Refused>;

    /// Whether this client's address is durable already, so that committing it writes nothing and no conflict has to be
    /// looked for. When packets come faster than they can be answered, those of unknown clients are dropped first.
    /// Answers from memory and never blocks.
    fn knows(&self, _mac: MacAddr) -> bool {
        true
    }

    /// The lines of the menu that a BIOS shows in ProxyDHCP; with fewer than two it shows none and boots.
    fn menu(&self, _mac: MacAddr) -> Vec<dhcp::Choice> {
        Vec::new()
    }

    /// Takes note that somebody else answers to `address`, as the client of this MAC (DHCPDECLINE) or a probe found:
    /// it is given to nobody for a while, and to this client another one.
    async fn quarantine(&self, mac: MacAddr, address: Ipv4Addr);

    /// The network that a client is on: that of `link` ([`Sight::link`]), or the one that is served directly. `None`
    /// for a link that nobody has described.
    fn network(&self, link: Option<Ipv4Addr>) -> Option<Arc<Network>>;

    /// The IPv6 network of the served link. The address of a NIC in it ends with its IPv4 address.
    fn network6(&self) -> Option<Ipv6Net>;

    /// What clients of [`Directory::network6`] are told besides their address.
    fn services6(&self) -> Services6 {
        Services6::default()
    }

    /// Says what this machine boots now. Answers from memory and never blocks.
    fn boot(&self, mac: MacAddr) -> Boot;

    /// The answers that an installer of another system asks for (preseed, autoinstall, kickstart), at
    /// `/boot/answers/PATH`; also what it says there when it is done. `from` is who asks: it has to be the machine that
    /// the answers are for.
    async fn answers(&self, path: &str, from: IpAddr) -> Result<String, Refused>;

    /// Takes a line for the machine's timeline.
    fn note(&self, note: Note);
}

/// What one DHCP packet tells about the machine that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub mac: MacAddr,
    /// Option 93, RFC 4578: 0 BIOS, 7 and 9 EFI x64, 11 EFI arm64, 16 and 19 these over HTTP.
    pub arch: Option<u16>,
    /// Option 97 in the order of its bytes on the wire (SMBIOS: the first three fields are little endian).
    pub uuid: Option<[u8; 16]>,
    /// Option 60.
    pub vendor_class: Option<String>,
    /// Option 77.
    pub user_class: Option<String>,
    /// Option 12.
    pub hostname: Option<String>,
    /// Option 50, or the address that the client says it has.
    pub requested: Option<Ipv4Addr>,
    /// giaddr, when a relay forwarded the packet.
    pub relay: Option<Ipv4Addr>,
    /// An address of the client's network, when that is not the one served directly: link selection (RFC 3527), subnet
    /// selection (RFC 3011), or the relay's address.
    pub link: Option<Ipv4Addr>,
}

/// The address of one NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub address: Ipv4Addr,
    pub hostname: Option<String>,
    pub lease_secs: u32,
    pub network: Arc<Network>,
}

/// What every client of one IP network is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub subnet: Ipv4Net,
    /// The default route; none where nobody routes.
    pub router: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub domain: String,
    pub ntp: Vec<Ipv4Addr>,
    /// Other routes: a destination and the router to it (RFC 3442).
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    pub mtu: Option<u16>,
}

/// What every client of the IPv6 network is told, besides what is the same as for IPv4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services6 {
    pub dns: Vec<Ipv6Addr>,
    pub ntp: Vec<Ipv6Addr>,
    /// Whether the appliance routes IPv6: then it is the default route.
    pub routes: bool,
}

/// Why the directory gives nothing, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// What a machine should boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// Kernel and initrd in mode `discover`: report the hardware, follow instructions.
    Discover,
    /// The whole system over the network, held in memory.
    Live,
    /// Its own disk.
    Disk,
    /// A shell of ours over the network, for a person.
    Rescue,
    /// The memory test.
    MemoryTest,
    /// Another system: an installer of the catalogue, or whatever a profile says.
    System(Arc<System>),
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discover => "discover",
            Self::Live => "run over the network",
            Self::Disk => "its own disk",
            Self::Rescue => "rescue",
            Self::MemoryTest => "memory test",
            Self::System(system) => &system.title,
        })
    }
}

/// Another system than ours, as boot loaders start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// For the screen and the timeline: `Debian 13 installer`.
    pub title: String,
    pub start: Start,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A kernel with its initial RAM disks, by their paths below `/boot/files/`, and its command line.
    Linux { kernel: String, initrds: Vec<String>, command_line: script::CommandLine },
    /// An EFI program, by its path below `/boot/files/`.
    Efi { program: String },
    /// A script of a person's own, for the loaders that know its language.
    Text { ipxe: Option<String>, grub: Option<String> },
}

/// A hardware address. Displayed as `aa:bb:cc:dd:ee:ff`, parsed from that or with dashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The form used in URLs: `aa-bb-cc-dd-ee-ff`.
    pub fn dashed(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six pairs of hexadecimal digits with colons or dashes between them")]
pub struct NotAMac;

impl FromStr for MacAddr {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        // 17 ASCII characters: two digits and a separator, six times, without the last separator.
        let bytes = text.as_bytes();
        if bytes.len() != 17 {
            return Err(NotAMac);
        }
        let separator = bytes[2];
        if separator != b':' && separator != b'-' {
            return Err(NotAMac);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(NotAMac);
        let mut mac = [0; 6];
        for (place, byte) in mac.iter_mut().enumerate() {
            let pair = &bytes[place * 3..];
            if place < 5 && pair[2] != separator {
                return Err(NotAMac);
            }
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).map_err(|_| NotAMac)?;
        }
        Ok(Self(mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_in_both_forms_and_nothing_else() {
        let mac = MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);
        assert_eq!("52:54:00:ab:cd:ef".parse(), Ok(mac));
        assert_eq!("52-54-00-AB-CD-EF".parse(), Ok(mac));
        assert_eq!(mac.dashed().parse(), Ok(mac));
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00-ab:cd:ef",
            "52:54:00:ab:cd:e\n",
            "+2:54:00:ab:cd:ef",
            "5254.00ab.cdef..",
            "52:54:00:ab:cd:ef:",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(NotAMac), "{bad:?}");
        }
    }
}
