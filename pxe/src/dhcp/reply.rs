//! A reply's bytes: the header of BOOTP, the cookie, the options.

use std::net::Ipv4Addr;

use super::{
    ServerFacts,
    options::{Sheet, code},
    parse::Request,
};
use crate::MacAddr;

/// What kind of reply (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Offer,
    Ack,
    Nak,
    /// To a client that knows nothing of DHCP.
    Bootp,
}

pub(super) struct Draft {
    kind: Type,
    pub broadcast: bool,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    siaddr: Ipv4Addr,
    file: Option<String>,
    pub sheet: Sheet,
}

const FILE: usize = 108;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;
/// The least that a BOOTP client takes (RFC 1542 section 2.1), and all that it need take.
const LEAST: usize = 300;
/// IP and UDP headers.
const HEADERS: u16 = 28;

impl Draft {
    /// With what every reply has, and what goes back as it came.
    pub fn new(request: &Request, facts: &ServerFacts, kind: Type) -> Self {
        let mut sheet = Sheet::new();
        if kind != Type::Bootp {
            let number = match kind {
                Type::Offer => 2,
                Type::Ack | Type::Bootp => 5,
                Type::Nak => 6,
            };
            sheet.put(code::KIND, &[number]);
            sheet.put_address(code::SERVER, request.agent.server.unwrap_or(facts.address));
        }
        let subnet = request.subnet.map(|subnet| subnet.octets());
        // RFC 6842, 4578, 3011, 3046.
        let echoes = [
            (code::CLIENT_ID, request.client_id.as_deref()),
            (code::MACHINE_ID, request.machine_id.as_deref()),
            (code::SUBNET, subnet.as_ref().map(<[u8; 4]>::as_slice)),
            (code::RELAY_AGENT, request.relay_information.as_deref()),
        ];
        for (code, value) in echoes {
            if let Some(value) = value {
                sheet.put(code, value);
            }
        }
        Self {
            kind,
            broadcast: request.broadcast,
            // An OFFER's is zero, and so is an OFFER's client's.
            ciaddr: if kind == Type::Offer { Ipv4Addr::UNSPECIFIED } else { request.ciaddr },
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            file: None,
            sheet,
        }
    }

    /// Names the file to boot and who has it, in the header and as options: each is what some firmware reads.
    pub fn boot(&mut self, server: Ipv4Addr, file: &str) {
        self.siaddr = server;
        self.sheet.put(code::TFTP_SERVER, server.to_string().as_bytes());
        self.sheet.put(code::BOOT_FILE, file.as_bytes());
        // With the zero that ends it.
        if file.len() < COOKIE - FILE {
            self.file = Some(file.to_owned());
        }
    }

    /// Names a server without a file.
    pub fn next_server(&mut self, server: Ipv4Addr) {
        self.siaddr = server;
    }

    /// At most as long as the client takes, if its options can be made to fit.
    pub fn encode(mut self, request: &Request, mtu: Option<u16>) -> Vec<u8> {
        let limit = self.limit(request, mtu);
        let room = limit - OPTIONS;
        // The same stands in the header.
        if self.file.is_some() && self.sheet.length() >= room {
            self.sheet.remove(code::BOOT_FILE);
            self.sheet.remove(code::TFTP_SERVER);
        }
        let file_is_free = self.file.is_none();
        // A BOOTP client reads no option 52, nor more than there is room for in its own packet.
        let laid = self.sheet.lay_out(room, &request.wanted, file_is_free, self.kind != Type::Bootp);

        let mut packet = vec![0; OPTIONS];
        // A reply over Ethernet with addresses of 6 bytes.
        packet[..3].copy_from_slice(&[2, 1, 6]);
        packet[4..8].copy_from_slice(&request.xid.to_be_bytes());
        if self.broadcast {
            packet[10] = 0x80;
        }
        packet[12..16].copy_from_slice(&self.ciaddr.octets());
        packet[16..20].copy_from_slice(&self.yiaddr.octets());
        packet[20..24].copy_from_slice(&self.siaddr.octets());
        packet[24..28].copy_from_slice(&request.giaddr.octets());
        let MacAddr(mac) = request.sight.mac;
        packet[28..34].copy_from_slice(&mac);
        let sname = laid.sname.unwrap_or_default();
        packet[44..44 + sname.len()].copy_from_slice(&sname);
        let file = laid.file.or(self.file.map(String::into_bytes)).unwrap_or_default();
        packet[FILE..FILE + file.len()].copy_from_slice(&file);
        packet[COOKIE..OPTIONS].copy_from_slice(&[99, 130, 83, 99]);
        packet.extend(laid.options);
        packet.resize(packet.len().max(LEAST), 0);
        packet
    }

    /// What every client takes is an IP packet of 576 bytes (RFC 2131 section 2). Option 57 may say more, and never more
    /// than the network carries.
    fn limit(&self, request: &Request, mtu: Option<u16>) -> usize {
        if self.kind == Type::Bootp {
            return LEAST;
        }
        let takes = request.max_size.unwrap_or(576).min(mtu.unwrap_or(1500)).max(576);
        usize::from(takes - HEADERS)
    }
}
