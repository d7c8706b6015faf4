//! What a BMC speaks, found out without a login.

use std::time::Duration;

use tokio::net::UdpSocket;

use super::driver::Address;
use super::{Bmcs, redfish};

/// Presence ping of ASF 2.0 (3.2.4.2), which everything that speaks IPMI over LAN answers.
const PING: [u8; 12] = [6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x80, 0, 0, 0];
const PONG: u8 = 0x40;

const IPMI: u16 = 623;
/// It is UDP, and may be lost.
const PINGS: u32 = 3;
const PING_WAIT: Duration = Duration::from_secs(1);

impl Bmcs {
    /// The service root is for everybody.
    pub async fn speaks_redfish(&self, address: &str) -> bool {
        let Ok(address) = Address::parse(address) else { return false };
        redfish::is_there(&address, self.settings.limits.answer).await
    }

    pub async fn speaks_ipmi(&self, address: &str) -> bool {
        let Ok(address) = Address::parse(address) else { return false };
        let port = address.port.unwrap_or(IPMI);
        for _ in 0..PINGS {
            let heard = tokio::time::timeout(PING_WAIT, pong(&address.host, port)).await;
            if matches!(heard, Ok(Ok(true))) {
                return true;
            }
        }
        false
    }
}

async fn pong(host: &str, port: u16) -> std::io::Result<bool> {
    let mut addresses = tokio::net::lookup_host((host, port)).await?;
    let Some(to) = addresses.next() else { return Ok(false) };
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    socket.send(&PING).await?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).await?;
    Ok(length > 8 && answer[3] == 6 && answer[8] == PONG)
}
