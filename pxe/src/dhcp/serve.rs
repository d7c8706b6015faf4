//! The DHCP server's socket.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{net::UdpSocket, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Answer, Need, Request, ServerFacts, answer, need, parse};
use crate::{Directory, Note, Step, step::Outcome};

/// Requests that are being answered at a time. Past it packets are dropped, and clients ask again.
const AT_ONCE: usize = 1024;

/// A socket for DHCP on one interface; the server's port is 67, the client's 68. Needs root.
pub fn bind(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Before bind: another interface may have its own DHCP server.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)))?;
    UdpSocket::from_std(socket.into())
}

/// Answers on `socket` until `shutdown` is cancelled.
pub async fn serve(
    socket: UdpSocket,
    facts: ServerFacts,
    directory: Arc<dyn Directory>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let server = Arc::new(Server { socket, facts, directory });
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; 65536];
    loop {
        let (length, from) = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(ended) = answers.join_next() => {
                // A panic while answering ends the server; systemd starts it again.
                ended.map_err(io::Error::other)?;
                continue;
            }
            received = server.socket.recv_from(&mut buffer) => received?,
        };
        let request = match parse(&buffer[..length]) {
            Ok(request) => request,
            Err(error) => {
                tracing::trace!("DHCP packet from {from}: {error}");
                server.note(Note {
                    mac: None,
                    address: Some(from.ip()),
                    step: Step::Refused { what: error.to_string() },
                });
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!("Dropped a DHCP packet of {}: {AT_ONCE} are being answered", request.sight.mac);
            continue;
        };
        let server = Arc::clone(&server);
        answers.spawn(async move {
            server.handle(&request).await;
            drop(place);
        });
    }
}

struct Server {
    socket: UdpSocket,
    facts: ServerFacts,
    directory: Arc<dyn Directory>,
}

impl Server {
    async fn handle(&self, request: &Request) {
        let outcome = self.reply(request).await;
        let step = Step::Dhcp { packet: request.kind, client: request.client(), outcome };
        tracing::trace!("{}: {step}", request.sight.mac);
        self.note(Note { mac: Some(request.sight.mac), address: None, step });
    }

    /// Answers one request and says how.
    async fn reply(&self, request: &Request) -> Outcome {
        let network = self.directory.network(request.sight.link);
        let assigned = match need(request, &self.facts, network.as_deref()) {
            Need::Silence(reason) => return Outcome::Silence { reason },
            Need::Nothing => None,
            Need::Offer => Some(self.directory.offer(&request.sight).await),
            Need::Commit => Some(self.directory.commit(&request.sight).await),
        };
        let assignment = match assigned.transpose() {
            Ok(assignment) => assignment,
            Err(refused) => return Outcome::Failed { reason: refused.to_string() },
        };
        let Some(network) = network else { return Outcome::Silence { reason: "no network".to_owned() } };
        let reply = match answer(request, &self.facts, &network, assignment.as_ref()) {
            Answer::Reply(reply) => reply,
            Answer::Silence(reason) => return Outcome::Silence { reason },
        };
        match self.socket.send_to(&reply.packet, SocketAddr::V4(reply.to)).await {
            Ok(_) => reply.outcome,
            Err(error) => {
                tracing::warn!("Sending a DHCP reply to {}: {error}", reply.to);
                Outcome::Failed {
                    reason: format!("{}, but sending it to {} failed: {error}", reply.outcome, reply.to),
                }
            }
        }
    }

    fn note(&self, note: Note) {
        self.directory.note(note);
    }
}
