//! Everything that a machine meets before it runs our system: addresses (DHCP), boot loaders
//! (TFTP), boot scripts and files (HTTP), the router advertisement that keeps firmware from
//! waiting for IPv6, and the kickstart file that an installation follows.
//!
//! What to answer is decided by pure functions ([`dhcp::answer`], [`script`], [`kickstart`]);
//! the sockets around them are in [`Server`]. Who a machine is and what it should boot comes from
//! the [`Directory`], which the appliance implements. docs/booting.md follows the packets.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use async_trait::async_trait;

pub mod dhcp;
mod folder;
pub mod http;
pub mod kickstart;
pub mod probe;
pub mod ra;
pub mod script;
pub mod server;
pub mod tftp;
mod transfer;

pub use server::{Server, ServerError};

/// What the boot servers ask the rest of the appliance.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Gives the address for a client that only asks (DHCPOFFER). Nothing has to be durable.
    async fn offer(&self, sight: &Sight) -> Result<Assignment, Refused>;

    /// Gives the same address, durable on disk when this returns: the DHCPACK is sent after it.
    async fn commit(&self, sight: &Sight) -> Result<Assignment, Refused>;

    /// Says what this machine boots now. Answers from memory and never blocks.
    fn boot(&self, mac: MacAddr) -> Boot;

    /// Takes a line for the machine's timeline.
    fn note(&self, note: Note);
}

/// What one DHCP packet tells about the machine that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub mac: MacAddr,
    /// Option 93, RFC 4578: 0 BIOS, 7 and 9 EFI x64, 16 EFI x64 over HTTP.
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
}

/// The address of one NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub address: Ipv4Addr,
    pub hostname: Option<String>,
    pub lease_secs: u32,
}

/// Why the directory gives no address, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// What a machine should boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// Kernel and initrd in mode `discover`: report the hardware, follow instructions.
    Discover,
    /// The whole system over the network, held in memory.
    Live,
    /// Its own disk.
    Disk,
}

/// One line of a machine's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub mac: Option<MacAddr>,
    /// The address that the packet or request came from, where the MAC is not known.
    pub address: Option<IpAddr>,
    pub kind: NoteKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    Dhcp,
    Tftp,
    Http,
    /// Something that was asked for and not given: a bad packet, a path that leads out.
    Refused,
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
