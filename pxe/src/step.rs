//! What the boot servers saw of a machine, a step at a time: the lines of its timeline.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::{MacAddr, dhcp::Kind, dhcp6};

/// One line of a machine's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub mac: Option<MacAddr>,
    /// The address that the packet or request came from, where the MAC is not known.
    pub address: Option<IpAddr>,
    pub step: Step,
}

/// What happened. Its `Display` is a line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A packet of a DHCP client and what came of it.
    Dhcp { packet: Kind, client: Client, outcome: Outcome },
    /// The same over IPv6.
    Dhcp6 { packet: dhcp6::Kind, client: Client, outcome: Outcome<Ipv6Addr> },
    /// A file that was asked for.
    File { protocol: Protocol, name: String, sent: Sent },
    /// A large file that is sent when it is this machine's turn: `place` 1 is the next.
    Waiting { name: String, place: usize },
    /// A boot script, made at the request: `own` is what it makes the machine do (`discover`, `its own disk`).
    Script { loader: Loader, boots: String },
    /// TLS to the HTTPS server did not come about, for this reason.
    Handshake { reason: String },
    /// Something that was asked for and not given: a bad packet, a path that leads out.
    Refused { what: String },
}

/// Which program asks, by what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// PXE firmware; the architecture is option 93's (RFC 4578).
    Firmware {
        arch: u16,
    },
    /// Firmware that boots over HTTP.
    HttpFirmware {
        arch: u16,
    },
    Ipxe,
    /// A system, with its vendor class if it has one.
    System(Option<String>),
}

/// What a DHCP client was told; `A` is an address of its family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<A = Ipv4Addr> {
    Offered {
        address: A,
        file: Option<String>,
    },
    Leased {
        address: A,
        file: Option<String>,
    },
    /// ProxyDHCP: boot information only, the address comes from another server.
    BootOnly {
        file: Option<String>,
    },
    Informed {
        address: A,
    },
    /// That what it says is taken note of: it keeps an address, or gives one back (IPv6).
    Confirmed {
        what: String,
    },
    /// Nothing was sent: the client takes what another server offered, this address if it says which.
    Elsewhere {
        server: A,
        address: Option<A>,
    },
    Nak {
        reason: String,
    },
    /// Nothing was sent, for this reason.
    Silence {
        reason: String,
    },
    /// What should have been sent could not be made or sent, or no address could be given.
    Failed {
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tftp,
    Http,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    Whole {
        bytes: u64,
        took: Duration,
    },
    /// Ended early; `bytes` is what was asked for. With `sent == bytes` over TFTP all went out and the end was not
    /// acknowledged, as by a boot ROM that starts the program at once.
    Part {
        sent: u64,
        bytes: u64,
        took: Duration,
    },
    /// The client broke it off and said why.
    BrokenOff {
        sent: u64,
        bytes: u64,
        took: Duration,
        words: String,
    },
    /// EDK2 asks for the size, breaks off, and asks again for the file.
    SizeOnly,
    Missing,
    Refused {
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    Ipxe,
    Grub,
}

/// The kinds of lines, for a timeline that can be filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    Dhcp,
    Tftp,
    Http,
    Refused,
}

impl Step {
    pub fn kind(&self) -> NoteKind {
        match self {
            Self::Dhcp { outcome: Outcome::Failed { .. }, .. }
            | Self::Dhcp6 { outcome: Outcome::Failed { .. }, .. }
            | Self::File { sent: Sent::Refused { .. }, .. }
            | Self::Handshake { .. }
            | Self::Refused { .. } => NoteKind::Refused,
            Self::Dhcp { .. } | Self::Dhcp6 { .. } => NoteKind::Dhcp,
            Self::File { protocol: Protocol::Tftp, .. } => NoteKind::Tftp,
            Self::File { protocol: Protocol::Http, .. } | Self::Waiting { .. } | Self::Script { .. } => {
                NoteKind::Http
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dhcp { packet, client, outcome } => {
                write!(f, "{packet} of {client}: {outcome}")?;
                match (client, outcome) {
                    (
                        Client::Firmware { arch } | Client::HttpFirmware { arch },
                        Outcome::Offered { file: None, .. } | Outcome::Leased { file: None, .. },
                    ) => write!(f, ", no boot loader for architecture {arch}"),
                    _ => Ok(()),
                }
            }
            Self::Dhcp6 { packet, client, outcome } => write!(f, "{packet} of {client}: {outcome}"),
            Self::File { protocol, name, sent } => write!(f, "{protocol} {name}: {sent}"),
            Self::Waiting { name, place: 1 } => write!(f, "HTTP {name}: waits for its turn, it is the next"),
            Self::Waiting { name, place } => {
                write!(f, "HTTP {name}: waits for its turn, number {place} of those who wait")
            }
            Self::Script { loader, boots } => write!(f, "{loader} script: {boots}"),
            Self::Handshake { reason } => write!(f, "HTTPS: {reason}"),
            Self::Refused { what } => f.write_str(what),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware { arch: 0 } => f.write_str("BIOS firmware"),
            Self::Firmware { arch: 7 | 9 } => f.write_str("UEFI firmware"),
            Self::Firmware { arch: 11 } => f.write_str("UEFI firmware (arm64)"),
            Self::Firmware { arch } => write!(f, "firmware of architecture {arch}"),
            Self::HttpFirmware { arch: 16 } => f.write_str("UEFI firmware (HTTP)"),
            Self::HttpFirmware { arch: 19 } => f.write_str("UEFI firmware (HTTP, arm64)"),
            Self::HttpFirmware { arch } => write!(f, "firmware of architecture {arch} (HTTP)"),
            Self::Ipxe => f.write_str("iPXE"),
            Self::System(Some(class)) => f.write_str(class),
            Self::System(None) => f.write_str("a system"),
        }
    }
}

impl<A: fmt::Display> fmt::Display for Outcome<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = match self {
            Self::Offered { address, file } => {
                write!(f, "offered {address}")?;
                file
            }
            Self::Leased { address, file } => {
                write!(f, "leased {address}")?;
                file
            }
            Self::BootOnly { file } => {
                f.write_str("boot information, no address")?;
                file
            }
            Self::Informed { address } => return write!(f, "informed {address}"),
            Self::Elsewhere { server, address: Some(address) } => {
                return write!(f, "takes {address} of another DHCP server, {server}");
            }
            Self::Elsewhere { server, address: None } => {
                return write!(f, "goes to another DHCP server, {server}");
            }
            Self::Nak { reason } => return write!(f, "refused: {reason}"),
            Self::Confirmed { what: text }
            | Self::Silence { reason: text }
            | Self::Failed { reason: text } => {
                return f.write_str(text);
            }
        };
        match file {
            Some(file) => write!(f, ", boot file {file}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { bytes, took } => write!(f, "{bytes} bytes in {:.1} s", took.as_secs_f64()),
            Self::Part { sent, bytes, took } if sent == bytes => {
                write!(f, "{bytes} bytes in {:.1} s, the last of them not acknowledged", took.as_secs_f64())
            }
            Self::BrokenOff { sent, bytes, took, words } => {
                let took = took.as_secs_f64();
                write!(f, "broken off by the client after {sent} of {bytes} bytes, {took:.1} s: {words:?}")
            }
            Self::Part { sent, bytes, took } => {
                write!(f, "ended after {sent} of {bytes} bytes, {:.1} s", took.as_secs_f64())
            }
            Self::SizeOnly => {
                f.write_str("broken off at its first block, as firmware does that asks for the size")
            }
            Self::Missing => f.write_str("there is no such file"),
            Self::Refused { reason } => f.write_str(reason),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tftp => "TFTP",
            Self::Http => "HTTP",
        })
    }
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipxe => "iPXE",
            Self::Grub => "GRUB",
        })
    }
}
