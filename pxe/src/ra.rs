//! IPv6 router advertisements (RFC 4861) that say: there is no router here, and no DHCPv6.
//!
//! Machines on this network are served over IPv4. iPXE configures IPv6 all the same, and waits many
//! seconds for a router on every boot unless one speaks up.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{net::UdpSocket, time::Instant};
use tokio_util::sync::CancellationToken;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTER_SOLICITATION: u8 = 133;
const EVERY: Duration = Duration::from_secs(30);
/// While the interface has no link-local address yet.
const AGAIN: Duration = Duration::from_secs(1);

/// Type 134; the kernel fills in the checksum. Current hop limit unspecified, M = O = 0, router
/// lifetime 0, reachable time and retransmission timer unspecified, no options: so no prefix.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A raw ICMPv6 socket on one interface. Needs CAP_NET_RAW.
pub struct Advertiser {
    // ICMPv6 over tokio's UdpSocket: for a raw socket recv_from and send_to are the same calls.
    socket: UdpSocket,
    index: u32,
}

impl Advertiser {
    pub fn bind(interface: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        // Receivers drop neighbour discovery that passed a router.
        socket.set_multicast_hops_v6(255)?;
        socket.set_unicast_hops_v6(255)?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_loop_v6(false)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0)))?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, index })
    }

    /// Advertises at once, every 30 s, and to whoever solicits, until `shutdown` is cancelled.
    pub async fn serve(self, shutdown: CancellationToken) -> io::Result<()> {
        let mut next = Instant::now();
        let mut packet = [0; 1500];
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(next) => {
                    let wait = if self.advertise(ALL_NODES).await { EVERY } else { AGAIN };
                    next = Instant::now() + wait;
                }
                received = self.socket.recv_from(&mut packet) => {
                    let (_, from) = received?;
                    let std::net::SocketAddr::V6(from) = from else { continue };
                    if packet[0] != ROUTER_SOLICITATION {
                        continue;
                    }
                    // Its sender may not have an address yet.
                    let to = if from.ip().is_unspecified() { ALL_NODES } else { *from.ip() };
                    self.advertise(to).await;
                }
            }
        }
    }

    async fn advertise(&self, to: Ipv6Addr) -> bool {
        let sent = self.socket.send_to(&ADVERTISEMENT, SocketAddrV6::new(to, 0, 0, self.index)).await;
        match sent {
            Ok(_) => true,
            // No link-local address: none yet, or the interface has no carrier.
            Err(error) => {
                tracing::debug!("Router advertisement to {to} not sent: {error}");
                false
            }
        }
    }
}
