//! What was seen of one machine, as small as a diagnosis can do with it.

use std::net::IpAddr;

use crate::{
    Step,
    dhcp::Kind,
    step::{Client, Loader, Outcome, Protocol, Sent},
};

/// Milliseconds since 1970.
pub type Millis = u64;

/// One step, or the same one several times in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub first: Millis,
    pub last: Millis,
    pub times: u32,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It asked for an address: DISCOVER.
    Asked {
        who: Who,
        got: Got,
    },
    /// It took the address that it was offered here.
    Took {
        who: Who,
    },
    /// It took another server's.
    Elsewhere {
        server: IpAddr,
    },
    /// It found that another machine has its address.
    Declined,
    /// No address could be given.
    NoAddress {
        reason: Box<str>,
    },
    /// Its firmware is of an architecture that no loader is known for.
    NoLoader {
        arch: u16,
    },
    File {
        protocol: Protocol,
        role: Role,
        name: Box<str>,
        end: End,
    },
    Script {
        loader: Loader,
        boots: Box<str>,
    },
    /// TLS to the HTTPS server did not come about.
    Handshake {
        reason: Box<str>,
    },
    /// A large file is sent when it is its turn.
    Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Firmware,
    HttpFirmware,
    Ipxe,
    System,
}

/// What it got when it asked for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    Address,
    /// Boot information without an address, beside another server.
    BootOnly,
    Nothing,
}

/// What a file is for, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Loader,
    /// GRUB's configuration, the first thing that GRUB asks for.
    Config,
    Kernel,
    Initrd,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Whole,
    /// It has `arrived` of `bytes`; `words` are the client's when it broke off.
    Part {
        arrived: u64,
        bytes: u64,
        words: Option<Box<str>>,
    },
    /// Asked for its size and broken off.
    Size,
    Missing,
    Refused,
}

impl What {
    /// What a step says about a machine's boot; `None` if nothing.
    pub fn of(step: &Step) -> Option<Self> {
        match step {
            Step::Dhcp { packet, client, outcome } => {
                let packet = match packet {
                    Kind::Discover => Packet::Asks,
                    Kind::Request | Kind::Bootp => Packet::Takes,
                    Kind::Decline => Packet::Declines,
                    Kind::Release | Kind::Inform => Packet::Other,
                };
                Self::of_dhcp(packet, client, outcome)
            }
            Step::Dhcp6 { packet, client, outcome } => {
                use crate::dhcp6::Kind;
                let packet = match packet {
                    Kind::Solicit => Packet::Asks,
                    Kind::Request => Packet::Takes,
                    Kind::Decline => Packet::Declines,
                    Kind::Confirm | Kind::Renew | Kind::Rebind | Kind::Release | Kind::InformationRequest => {
                        Packet::Other
                    }
                };
                Self::of_dhcp(packet, client, outcome)
            }
            Step::File { protocol, name, sent } => {
                let end = match sent {
                    Sent::Whole { .. } => End::Whole,
                    // All went out: a ROM that starts the program at once does not say that it has it.
                    Sent::Part { sent, bytes, .. } if sent == bytes => End::Whole,
                    Sent::Part { sent, bytes, .. } => {
                        End::Part { arrived: *sent, bytes: *bytes, words: None }
                    }
                    Sent::BrokenOff { sent, bytes, words, .. } => {
                        End::Part { arrived: *sent, bytes: *bytes, words: Some(words.as_str().into()) }
                    }
                    Sent::SizeOnly => End::Size,
                    Sent::Missing => End::Missing,
                    Sent::Refused { .. } => End::Refused,
                };
                // Of what is not there, only loaders say anything: GRUB and shim look for many files that need not be.
                let name = name.trim_matches('"');
                let role = role(name);
                let says = match end {
                    End::Missing | End::Refused => role == Role::Loader && !may_be_missing(name),
                    End::Whole | End::Part { .. } | End::Size => true,
                };
                let name = name.chars().take(100).collect::<String>().into();
                says.then_some(Self::File { protocol: *protocol, role, name, end })
            }
            Step::Script { loader, boots } => {
                Some(Self::Script { loader: *loader, boots: boots.as_str().into() })
            }
            Step::Waiting { .. } => Some(Self::Waits),
            Step::Handshake { reason } => Some(Self::Handshake { reason: reason.as_str().into() }),
            Step::Refused { .. } => None,
        }
    }

    fn of_dhcp<A: Copy + Into<IpAddr>>(
        packet: Packet,
        client: &Client,
        outcome: &Outcome<A>,
    ) -> Option<Self> {
        let who = match client {
            Client::Firmware { .. } => Who::Firmware,
            Client::HttpFirmware { .. } => Who::HttpFirmware,
            Client::Ipxe => Who::Ipxe,
            Client::System(_) => Who::System,
        };
        // BIOS and EFI on x64 and arm64 have loaders; what is offered no file has none.
        if let (Client::Firmware { arch } | Client::HttpFirmware { arch }, Packet::Asks) = (client, packet) {
            let none = match outcome {
                Outcome::Offered { file, .. } | Outcome::BootOnly { file } => file.is_none(),
                Outcome::Silence { reason } => reason.contains("architecture"),
                _ => false,
            };
            if none {
                return Some(Self::NoLoader { arch: *arch });
            }
        }
        match (packet, outcome) {
            (_, Outcome::Elsewhere { server, .. }) => Some(Self::Elsewhere { server: (*server).into() }),
            (_, Outcome::Failed { reason }) => Some(Self::NoAddress { reason: reason.as_str().into() }),
            (Packet::Declines, _) => Some(Self::Declined),
            (Packet::Asks, Outcome::Offered { .. }) => Some(Self::Asked { who, got: Got::Address }),
            (Packet::Asks, Outcome::BootOnly { .. }) => Some(Self::Asked { who, got: Got::BootOnly }),
            (Packet::Asks, _) => Some(Self::Asked { who, got: Got::Nothing }),
            (Packet::Takes, Outcome::Leased { .. } | Outcome::BootOnly { .. }) => Some(Self::Took { who }),
            (Packet::Takes | Packet::Other, _) => None,
        }
    }

    /// Whether `next` is this once more.
    pub fn repeats(&self, next: &Self) -> bool {
        match (self, next) {
            (
                Self::File { role, name, end: End::Part { .. }, .. },
                Self::File { role: next_role, name: next_name, end: End::Part { .. }, .. },
            ) => role == next_role && name == next_name,
            _ => self == next,
        }
    }
}

/// What a packet of DHCP or DHCPv6 is for.
#[derive(Debug, Clone, Copy)]
enum Packet {
    Asks,
    Takes,
    Declines,
    Other,
}

fn role(name: &str) -> Role {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if name == "grub.cfg" {
        Role::Config
    } else if is(&["initrd", "initramfs"]) {
        Role::Initrd
    } else if [".efi", ".kpxe", ".kkpxe", ".pxe", ".0", ".efi.signed", ".n12"]
        .iter()
        .any(|end| name.ends_with(end))
    {
        Role::Loader
    } else if is(&["vmlinuz", "linux", "kernel", "bzimage"]) {
        Role::Kernel
    } else {
        Role::Other
    }
}

/// What shim looks for beside itself.
fn may_be_missing(name: &str) -> bool {
    ["revocations", "shim_certificate", "fbx64", "mmx64", "fbaa64", "mmaa64"]
        .iter()
        .any(|word| name.contains(word))
}
