//! The DHCPv6 server's socket.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::AsRawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{io::Interest, net::UdpSocket, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    ALL_SERVERS, ALL_SERVERS_AND_RELAYS, Answer, Facts, Need, Request, Rivals, Source, Standing, address_in,
    answer, declined, mac_of, need, parse, senders::Senders, server_duid,
};
use crate::{Assignment, Directory, MacAddr, Note, Refused, Sight, Step, dhcp6::Kind, step::Outcome};

/// Requests that are being answered at a time. Past it packets are dropped, and clients ask again.
const AT_ONCE: usize = 1024;
/// Of these, what clients may have that the directory does not know: known machines boot in a flood of made-up ones.
const UNKNOWN_AT_ONCE: usize = AT_ONCE / 4 * 3;
/// Lines about bad packets in a second.
const BAD_NOTES: u32 = 100;

/// A socket for DHCPv6 on one interface.
pub fn bind(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    // Before bind: another interface may have its own server.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_only_v6(true)?;
    socket.set_multicast_if_v6(index)?;
    socket.join_multicast_v6(&ALL_SERVERS_AND_RELAYS, index)?;
    socket.join_multicast_v6(&ALL_SERVERS, index)?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0)))?;
    UdpSocket::from_std(socket.into())
}

/// Where it is served.
#[derive(Debug, Clone)]
pub struct Link {
    pub interface: String,
    /// The appliance's IPv4 address on it.
    pub address: Ipv4Addr,
    /// Firmware that boots over HTTP is given an https URL with this port.
    pub https: Option<u16>,
}

/// Answers on `socket` until `shutdown` is cancelled. While
/// there is no IPv6 network or somebody else takes care of it, nothing is answered.
pub async fn serve(
    socket: UdpSocket,
    link: Link,
    directory: Arc<dyn Directory>,
    rivals: Arc<Rivals>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let Link { interface, address, https } = link;
    let duid = server_duid(mac_of(&interface)?);
    let mut senders = Senders::bind(&interface)
        .inspect_err(|error| tracing::warn!("Frames on {interface} cannot be seen: {error}"))
        .ok();
    let server = Arc::new(Server { socket, duid, address, https, directory, rivals });
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; 65536];
    let mut bad = (Instant::now(), 0);
    loop {
        let (length, from, multicast) = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(ended) = answers.join_next() => {
                // A panic while answering ends the server; systemd starts it again.
                ended.map_err(io::Error::other)?;
                continue;
            }
            received = receive(&server.socket, &mut buffer) => received?,
        };
        let request = match parse(&buffer[..length]) {
            Ok(request) => request,
            Err(error) => {
                tracing::trace!("DHCPv6 packet from {from}: {error}");
                if bad.0.elapsed() > Duration::from_secs(1) {
                    bad = (Instant::now(), 0);
                }
                bad.1 += 1;
                if bad.1 > BAD_NOTES {
                    continue;
                }
                server.directory.note(Note {
                    mac: None,
                    address: Some((*from.ip()).into()),
                    step: Step::Refused { what: error.to_string() },
                });
                continue;
            }
        };
        // A relay sends what it forwards; its own frame says nothing.
        let sender =
            if request.relays.is_empty() { senders.as_mut().and_then(|it| it.of(*from.ip())) } else { None };
        let mac = request.mac(*from.ip(), sender);
        let known = mac.is_some_and(|mac| server.directory.knows(mac));
        if !known && places.available_permits() < AT_ONCE - UNKNOWN_AT_ONCE {
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!("Dropped a DHCPv6 packet from {from}: {AT_ONCE} are being answered");
            continue;
        };
        let server = Arc::clone(&server);
        answers.spawn(async move {
            server.handle(&request, Source { from, multicast, mac }).await;
            drop(place);
        });
    }
}

/// One packet, its sender, and whether it went to a multicast address.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddrV6, bool)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo);
            let mut parts = [io::IoSliceMut::new(buffer)];
            let received = recvmsg::<SockaddrIn6>(
                socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            let from = received.address.ok_or_else(|| io::Error::other("a packet of nobody"))?;
            let mut multicast = false;
            for message in received.cmsgs()? {
                if let ControlMessageOwned::Ipv6PacketInfo(info) = message {
                    multicast = info.ipi6_addr.s6_addr[0] == 0xff;
                }
            }
            Ok((received.bytes, SocketAddrV6::from(from), multicast))
        })
        .await
}

struct Server {
    socket: UdpSocket,
    duid: Vec<u8>,
    address: Ipv4Addr,
    https: Option<u16>,
    directory: Arc<dyn Directory>,
    rivals: Arc<Rivals>,
}

impl Server {
    async fn handle(&self, request: &Request, source: Source) {
        let outcome = self.reply(request, source).await;
        let step = Step::Dhcp6 { packet: request.kind, client: request.client(), outcome };
        tracing::trace!("{}: {step}", source.from);
        self.directory.note(Note { mac: source.mac, address: Some((*source.from.ip()).into()), step });
    }

    /// Answers one request and says how.
    async fn reply(&self, request: &Request, source: Source) -> Outcome<Ipv6Addr> {
        match self.rivals.standing(Instant::now()) {
            Standing::Serving => {}
            Standing::Listening => {
                let reason = "listening for other routers and servers first".to_owned();
                return Outcome::Silence { reason };
            }
            Standing::Beside(who) => {
                return Outcome::Silence { reason: format!("{who} takes care of IPv6 here") };
            }
        }
        let Some(facts) = self.facts() else {
            return Outcome::Silence { reason: "no IPv6 addresses are given away here".to_owned() };
        };
        let assigned = match need(request, &facts, source.multicast) {
            Need::Silence(reason) => return Outcome::Silence { reason },
            Need::Nothing => None,
            Need::Offer => Some(self.assignment(request, source.mac, false).await),
            Need::Commit => Some(self.assignment(request, source.mac, true).await),
        };
        let (assignment, refused) = match assigned.transpose() {
            Ok(assignment) => (assignment, None),
            // Who has a lease keeps it until somebody can say more about it.
            Err(refused) if matches!(request.kind, Kind::Renew | Kind::Rebind) => {
                return Outcome::Failed { reason: refused.to_string() };
            }
            Err(refused) => (None, Some(refused)),
        };
        if let (Some(mac), Some(assignment)) = (source.mac, &assignment)
            && declined(request, &facts, assignment)
        {
            self.directory.quarantine(mac, assignment.address).await;
        }
        let reply = match answer(request, &facts, source, assignment.as_ref()) {
            Answer::Reply(reply) => reply,
            Answer::Silence(reason) => return Outcome::Silence { reason },
        };
        match self.socket.send_to(&reply.packet, SocketAddr::V6(reply.to)).await {
            Ok(_) => match refused {
                Some(refused) => Outcome::Failed { reason: refused.to_string() },
                None => reply.outcome,
            },
            Err(error) => {
                tracing::debug!("Sending a DHCPv6 reply to {}: {error}", reply.to);
                Outcome::Failed {
                    reason: format!("{}, but sending it to {} failed: {error}", reply.outcome, reply.to),
                }
            }
        }
    }

    fn facts(&self) -> Option<Facts> {
        let network = self.directory.network6()?;
        let services = self.directory.services6();
        let domain = self.directory.network(None).map(|network| network.domain.clone());
        Some(Facts {
            duid: self.duid.clone(),
            network,
            address: address_in(network, self.address),
            dns: services.dns,
            ntp: services.ntp,
            domain: domain.unwrap_or_default(),
            https: self.https,
        })
    }

    async fn assignment(
        &self,
        request: &Request,
        mac: Option<MacAddr>,
        durable: bool,
    ) -> Result<Assignment, Refused> {
        let Some(mac) = mac else {
            let whose = "no address: which NIC this is cannot be known. It can give itself one (SLAAC)";
            return Err(Refused(whose.to_owned()));
        };
        let sight = Sight {
            mac,
            arch: request.arch,
            uuid: request.uuid,
            vendor_class: request.vendor_class.as_ref().map(|class| class.text.clone()),
            user_class: request.user_class.clone(),
            hostname: request.hostname.clone(),
            requested: None,
            relay: None,
            link: None,
        };
        if durable { self.directory.commit(&sight).await } else { self.directory.offer(&sight).await }
    }
}
