//! A DHCP client as firmware, boot loaders and systems have it: real packets out, real packets in.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable as _, Decoder};
use fleet::Mac;

/// Who asks: what each says about itself differs, and the answer with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    BiosFirmware,
    UefiFirmware,
    UefiHttpFirmware,
    Ipxe,
    System,
}

impl Client {
    /// Seconds before it asks again; `None` when it gives up. PXE 2.1 asks four times, systems for ever.
    pub fn patience(self, tries: u32) -> Option<u64> {
        match self {
            Client::BiosFirmware | Client::UefiFirmware | Client::UefiHttpFirmware => {
                [4, 8, 16, 32].get(tries as usize).copied()
            }
            Client::Ipxe => [1, 2, 4, 8, 10].get(tries as usize).copied(),
            Client::System => Some([1, 2, 4, 8, 16].get(tries as usize).copied().unwrap_or(30)),
        }
    }

    fn options(self, uuid: uuid::Uuid) -> Vec<(u8, Vec<u8>)> {
        let machine = || [&[0][..], &uuid.to_bytes_le()].concat();
        let firmware = |arch: u16, class: &str| {
            vec![
                (60, class.as_bytes().to_vec()),
                (93, arch.to_be_bytes().to_vec()),
                (94, vec![1, 2, 1]),
                (97, machine()),
            ]
        };
        match self {
            Client::BiosFirmware => firmware(0, "PXEClient:Arch:00000:UNDI:002001"),
            Client::UefiFirmware => firmware(7, "PXEClient:Arch:00007:UNDI:003016"),
            Client::UefiHttpFirmware => firmware(16, "HTTPClient:Arch:00016:UNDI:003001"),
            Client::Ipxe => {
                let mut options = firmware(0, "PXEClient:Arch:00000:UNDI:002001");
                options.push((77, b"iPXE".to_vec()));
                options
            }
            Client::System => vec![(57, 1500u16.to_be_bytes().to_vec())],
        }
    }
}

/// What the client takes over from an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    pub address: Ipv4Addr,
    pub server: Ipv4Addr,
}

/// DISCOVER, or REQUEST when there is an offer to take.
pub fn packet(client: Client, mac: Mac, uuid: uuid::Uuid, xid: u32, offer: Option<Offer>) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&xid.to_be_bytes());
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&mac.0);
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    let mut option = |code: u8, value: &[u8]| {
        packet.push(code);
        packet.push(u8::try_from(value.len()).expect("an option of a client is short"));
        packet.extend_from_slice(value);
    };
    option(53, &[if offer.is_some() { 3 } else { 1 }]);
    if let Some(offer) = offer {
        option(50, &offer.address.octets());
        option(54, &offer.server.octets());
    }
    for (code, value) in client.options(uuid) {
        option(code, &value);
    }
    packet.push(255);
    packet
}

/// The address is somebody else's.
pub fn decline(mac: Mac, address: Ipv4Addr, through: Option<Ipv4Addr>) -> Vec<u8> {
    let server = Ipv4Addr::UNSPECIFIED;
    let mut packet = packet(Client::System, mac, uuid::Uuid::nil(), 1, Some(Offer { address, server }));
    // The first option is the kind of packet.
    packet[242] = 4;
    if let Some(through) = through {
        relay(&mut packet, through);
    }
    packet
}

/// As a relay passes it on: its address in giaddr, and one hop more (RFC 1542, 4.1.1).
pub fn relay(packet: &mut [u8], through: Ipv4Addr) {
    packet[3] += 1;
    packet[24..28].copy_from_slice(&through.octets());
}

/// What a server said to the client with this transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Offer(Offer),
    Ack { address: Ipv4Addr, file: Option<String> },
    Nak,
}

pub fn read(packet: &[u8], xid: u32) -> Option<Said> {
    let message = Message::decode(&mut Decoder::new(packet)).ok()?;
    if message.xid() != xid {
        return None;
    }
    let options = message.opts();
    let server = match options.get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server,
        _ => return None,
    };
    match options.msg_type()? {
        MessageType::Offer => Some(Said::Offer(Offer { address: message.yiaddr(), server })),
        MessageType::Ack => {
            // The field is padded with zeros.
            let file = message.fname_str().and_then(Result::ok).map(|file| file.trim_end_matches('\0'));
            let file = file.filter(|file| !file.is_empty()).map(str::to_owned);
            Some(Said::Ack { address: message.yiaddr(), file })
        }
        MessageType::Nak => Some(Said::Nak),
        _ => None,
    }
}
