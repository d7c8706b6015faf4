//! IPv6 router advertisements (RFC 4861).
//!
//! With a network of the [`Directory`]: its prefix for SLAAC, and that DHCPv6 has addresses and boot files. Without one:
//! that there is no router here, and nothing more; iPXE configures IPv6 on every boot and waits many seconds for a router
//! unless one speaks up. Beside somebody else's router or DHCPv6 server the prefix is taken back, and then nothing is
//! said.

mod packet;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv6Net;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{net::UdpSocket, time::Instant};
use tokio_util::sync::CancellationToken;

use self::packet::{Advertisement, Heard, Prefix, ROUTER_SOLICITATION};
use crate::{
    Directory, Note, Step,
    dhcp6::{self, Rivals, Standing},
};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const EVERY: Duration = Duration::from_secs(30);
/// While the interface has no link-local address yet, or others are listened for.
const AGAIN: Duration = Duration::from_secs(1);
/// How often other DHCPv6 servers are asked for, and how long they may take.
const PROBE_EVERY: Duration = Duration::from_secs(60);
const PROBE_WAIT: Duration = Duration::from_millis(1500);

/// A raw ICMPv6 socket on one interface. Needs CAP_NET_RAW.
pub struct Advertiser {
    // ICMPv6 over tokio's UdpSocket: for a raw socket recv_from and send_to are the same calls.
    socket: UdpSocket,
    interface: String,
    index: u32,
    /// The appliance's on this interface.
    address: Ipv4Addr,
    directory: Arc<dyn Directory>,
    rivals: Arc<Rivals>,
    /// What was advertised, and how many times it has to be taken back when somebody else is heard.
    advertised: Option<(Ipv6Net, u8)>,
}

impl Advertiser {
    pub fn bind(
        interface: &str,
        address: Ipv4Addr,
        directory: Arc<dyn Directory>,
        rivals: Arc<Rivals>,
    ) -> io::Result<Self> {
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
        let socket = UdpSocket::from_std(socket.into())?;
        let interface = interface.to_owned();
        Ok(Self { socket, interface, index, address, directory, rivals, advertised: None })
    }

    /// Advertises at once, every 30 s, and to whoever solicits, and listens for others that do, until `shutdown` is
    /// cancelled.
    pub async fn serve(mut self, shutdown: CancellationToken) -> io::Result<()> {
        let mut next = Instant::now();
        let mut packet = [0; 1500];
        let probes = probe(self.interface.clone(), Arc::clone(&self.directory), Arc::clone(&self.rivals));
        tokio::pin!(probes);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = &mut probes => {}
                () = tokio::time::sleep_until(next) => next = Instant::now() + self.tick().await,
                received = self.socket.recv_from(&mut packet) => {
                    let (length, SocketAddr::V6(from)) = received? else { continue };
                    if packet[0] == ROUTER_SOLICITATION {
                        // Its sender may not have an address yet.
                        let to = if from.ip().is_unspecified() { ALL_NODES } else { *from.ip() };
                        self.advertise(to).await;
                    } else if let Some(heard) = Heard::read(&packet[..length]) {
                        self.hear(*from.ip(), &heard);
                        if self.advertised.is_some() && self.is_beside() {
                            next = Instant::now();
                        }
                    }
                }
            }
        }
    }

    /// Does what has to be done from time to time, and says when to do it again.
    async fn tick(&mut self) -> Duration {
        match self.rivals.standing(Instant::now().into()) {
            Standing::Listening => {
                // Other routers answer at once.
                if self.send(&[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0], ALL_ROUTERS).await {
                    self.rivals.asked(Instant::now().into());
                }
                self.advertise(ALL_NODES).await;
                AGAIN
            }
            Standing::Serving => {
                if let Some(network) = self.network() {
                    let address = dhcp6::address_in(network, self.address);
                    if let Err(error) = dhcp6::ensure_own_address(&self.interface, address) {
                        tracing::warn!("{} does not get {address}: {error}", self.interface);
                    }
                }
                if self.advertise(ALL_NODES).await { EVERY } else { AGAIN }
            }
            Standing::Beside(_) => {
                let Some((network, times)) = self.advertised.take() else { return EVERY };
                let back = Prefix { network, good: false };
                self.send(
                    &Advertisement { prefix: Some(back), ..Advertisement::default() }.bytes(),
                    ALL_NODES,
                )
                .await;
                // One may be lost.
                self.advertised =
                    times.checked_sub(1).filter(|times| *times > 0).map(|times| (network, times));
                AGAIN
            }
        }
    }

    fn hear(&self, from: Ipv6Addr, heard: &Heard) {
        if !heard.is_rival(self.network()) {
            return;
        }
        let now = Instant::now().into();
        let lifetime = Duration::from_secs(u64::from(heard.lifetime));
        if self.rivals.heard(format!("the router {from}"), lifetime, now) {
            note(&self.directory, from, format!("The router {from} advertises IPv6 on {}", self.interface));
        }
    }

    fn is_beside(&self) -> bool {
        matches!(self.rivals.standing(Instant::now().into()), Standing::Beside(_))
    }

    fn network(&self) -> Option<Ipv6Net> {
        self.directory.network6().filter(|network| network.prefix_len() == 64)
    }

    /// Advertises what is served, or that nothing is; beside another router nothing is said at all.
    async fn advertise(&mut self, to: Ipv6Addr) -> bool {
        let network = match self.rivals.standing(Instant::now().into()) {
            Standing::Beside(_) => return true,
            Standing::Listening => None,
            Standing::Serving => self.network(),
        };
        let Some(network) = network else { return self.send(&Advertisement::default().bytes(), to).await };
        let ipv4 = self.directory.network(None);
        let services = self.directory.services6();
        self.advertised = Some((network, 3));
        let advertisement = Advertisement {
            prefix: Some(Prefix { network, good: true }),
            routes: services.routes,
            mac: dhcp6::mac_of(&self.interface).ok(),
            mtu: ipv4.as_ref().and_then(|network| network.mtu),
            dns: services.dns,
            domain: ipv4.map(|network| network.domain.clone()).unwrap_or_default(),
        };
        self.send(&advertisement.bytes(), to).await
    }

    async fn send(&self, packet: &[u8], to: Ipv6Addr) -> bool {
        match self.socket.send_to(packet, SocketAddrV6::new(to, 0, 0, self.index)).await {
            Ok(_) => true,
            // No link-local address: none yet, or the interface has no carrier.
            Err(error) => {
                tracing::debug!("Neighbour discovery to {to} not sent: {error}");
                false
            }
        }
    }
}

/// Asks for other DHCPv6 servers, at once and every minute, for ever.
async fn probe(interface: String, directory: Arc<dyn Directory>, rivals: Arc<Rivals>) {
    loop {
        let found = match dhcp6::mac_of(&interface) {
            Ok(mac) => dhcp6::servers(&interface, &dhcp6::server_duid(mac), PROBE_WAIT).await,
            Err(error) => Err(error),
        };
        let wait = match found {
            Ok(servers) => {
                for server in servers {
                    let address = server.address;
                    let who = format!("the DHCPv6 server {address}");
                    if rivals.heard(who, Duration::ZERO, Instant::now().into()) {
                        let what = format!("The DHCPv6 server {address} answers on {interface}");
                        note(&directory, address, what);
                    }
                }
                PROBE_EVERY
            }
            // No link-local address yet.
            Err(error) => {
                tracing::debug!("Asking for DHCPv6 servers on {interface}: {error}");
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

fn note(directory: &Arc<dyn Directory>, from: Ipv6Addr, what: String) {
    let what = format!("{what}; nothing is given away over IPv6 there");
    tracing::warn!("{what}");
    directory.note(Note { mac: None, address: Some(IpAddr::V6(from)), step: Step::Refused { what } });
}
