//! Wake-on-LAN (AMD's Magic Packet): switches a machine on, and can be asked nothing.

use std::net::{Ipv4Addr, SocketAddrV4};

use fleet::Mac;
use tokio::net::UdpSocket;

use super::BmcError;
use super::driver::Address;

/// Discard, where nobody listens: the NIC looks for the pattern in whatever comes.
const PORT: u16 = 9;
/// One may be lost, and no answer tells.
const COPIES: usize = 3;

pub(super) struct Wake {
    mac: Mac,
    pub from: String,
    interface: Ipv4Addr,
    port: u16,
}

impl Wake {
    pub fn new(mac: Mac, address: &Address) -> Result<Wake, BmcError> {
        let interface =
            address.host.parse().map_err(|_| BmcError::Address { address: address.text.clone() })?;
        Ok(Wake { mac, from: address.text.clone(), interface, port: address.port.unwrap_or(PORT) })
    }

    pub async fn send(&self) -> Result<(), BmcError> {
        let unsent = |error: std::io::Error| BmcError::Unsent {
            mac: self.mac,
            from: self.from.clone(),
            why: error.to_string(),
        };
        // Linux sends a limited broadcast out of the interface that has the socket's own address.
        let socket = UdpSocket::bind((self.interface, 0)).await.map_err(unsent)?;
        socket.set_broadcast(true).map_err(unsent)?;
        for _ in 0..COPIES {
            let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, self.port);
            socket.send_to(&magic(self.mac), to).await.map_err(unsent)?;
        }
        Ok(())
    }
}

/// Six octets of ones, then the address sixteen times.
fn magic(mac: Mac) -> [u8; 102] {
    let mut packet = [0xff; 102];
    for place in packet[6..].chunks_exact_mut(6) {
        place.copy_from_slice(&mac.0);
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_six_ones_and_sixteen_times_the_address() {
        let packet = magic(Mac([0x52, 0x54, 0, 1, 2, 3]));
        assert_eq!(packet[..6], [0xff; 6]);
        assert_eq!(packet[6..], [0x52, 0x54, 0, 1, 2, 3].repeat(16)[..]);
    }
}
