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
use crate::{Directory, Note, NoteKind};

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
                    kind: NoteKind::Refused,
                    text: error.to_string(),
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
        let (kind, text) = self.reply(request).await;
        tracing::trace!("DHCP {:?} of {}: {text}", request.kind, request.sight.mac);
        let text = format!("{} of {}: {text}", name(request), who(request));
        self.note(Note { mac: Some(request.sight.mac), address: None, kind, text });
    }

    /// Answers one request and says how.
    async fn reply(&self, request: &Request) -> (NoteKind, String) {
        let assigned = match need(request, &self.facts) {
            Need::Silence(reason) => return (NoteKind::Dhcp, reason),
            Need::Nothing => None,
            Need::Offer => Some(self.directory.offer(&request.sight).await),
            Need::Commit => Some(self.directory.commit(&request.sight).await),
        };
        let assignment = match assigned.transpose() {
            Ok(assignment) => assignment,
            Err(refused) => return (NoteKind::Refused, refused.to_string()),
        };
        let reply = match answer(request, &self.facts, assignment.as_ref()) {
            Answer::Reply(reply) => reply,
            Answer::Silence(reason) => return (NoteKind::Dhcp, reason),
        };
        match self.socket.send_to(&reply.packet, SocketAddr::V4(reply.to)).await {
            Ok(_) => (NoteKind::Dhcp, reply.summary),
            Err(error) => {
                tracing::warn!("Sending a DHCP reply to {}: {error}", reply.to);
                (
                    NoteKind::Refused,
                    format!("{}, but sending it to {} failed: {error}", reply.summary, reply.to),
                )
            }
        }
    }

    fn note(&self, note: Note) {
        self.directory.note(note);
    }
}

fn name(request: &Request) -> &'static str {
    match request.kind {
        super::Kind::Discover => "DISCOVER",
        super::Kind::Request => "REQUEST",
        super::Kind::Decline => "DECLINE",
        super::Kind::Release => "RELEASE",
        super::Kind::Inform => "INFORM",
    }
}

/// What sent it, for people.
fn who(request: &Request) -> String {
    let class = request.sight.vendor_class.as_deref().unwrap_or_default();
    match request.sight.arch {
        _ if request.is_ipxe() => "iPXE".to_owned(),
        Some(0) | None if class.starts_with("PXEClient") => "BIOS firmware".to_owned(),
        Some(7 | 9) if class.starts_with("PXEClient") => "UEFI firmware".to_owned(),
        Some(16) if class.starts_with("HTTPClient") => "UEFI firmware (HTTP)".to_owned(),
        Some(arch) if class.starts_with("PXEClient") => format!("firmware of architecture {arch}"),
        _ if class.is_empty() => "a system".to_owned(),
        _ => class.to_owned(),
    }
}
