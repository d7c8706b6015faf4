//! Asks who serves DHCPv6 on an interface, as a new client would.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::{
    ALL_SERVERS_AND_RELAYS, CLIENT_PORT, SERVER_PORT, mac_of,
    option::{self, Writer, scan},
    server_duid,
};

const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;

/// Somebody else's DHCPv6 server, or the relay before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignServer {
    /// The sender of its answer: mostly a link-local address.
    pub address: Ipv6Addr,
    pub duid: Vec<u8>,
}

/// Sends a SOLICIT and lists who answers within `wait`. `own` is the DUID of our server, which does not count. Needs the
/// interface's port 546 to itself: where a DHCPv6 client runs, that is an error.
pub async fn servers(interface: &str, own: &[u8], wait: Duration) -> io::Result<Vec<ForeignServer>> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_only_v6(true)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0)))?;
    let socket = UdpSocket::from_std(socket.into())?;

    // Only has to differ from the other clients' on the wire.
    let [a, b, c, ..] = RandomState::new().hash_one(own).to_be_bytes();
    let mut solicit = Writer(vec![SOLICIT, a, b, c]);
    solicit.option(option::CLIENT_ID, &server_duid(mac_of(interface)?));
    // Elapsed time: none. One IA without wishes.
    solicit.option(8, &[0, 0]);
    solicit.option(option::IA_NA, &[0; 12]);
    let everybody = SocketAddrV6::new(ALL_SERVERS_AND_RELAYS, SERVER_PORT, 0, index);
    socket.send_to(&solicit.0, everybody).await?;

    let mut found: Vec<ForeignServer> = Vec::new();
    let end = Instant::now() + wait;
    let mut packet = [0; 2048];
    while let Ok(received) = timeout_at(end, socket.recv_from(&mut packet)).await {
        let (length, SocketAddr::V6(from)) = received? else { continue };
        let [ADVERTISE, x, y, z, options @ ..] = &packet[..length] else { continue };
        if [*x, *y, *z] != [a, b, c] {
            continue;
        }
        let mut options = scan(options).map_while(Result::ok);
        let Some((_, duid)) = options.find(|(code, _)| *code == option::SERVER_ID) else { continue };
        if duid != own && !found.iter().any(|known| known.duid == duid) {
            found.push(ForeignServer { address: *from.ip(), duid: duid.to_vec() });
        }
    }
    Ok(found)
}
