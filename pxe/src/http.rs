//! HTTP/1.1 (RFC 9110, 9112) for boot loaders, kernels, installers and machines that do not know our certificate yet.
//!
//! ```text
//! /boot/MAC/script.ipxe     iPXE's script          /boot/files/NAME      artifacts and boot loaders
//! /boot/MAC/grub.cfg        GRUB's configuration   /boot/files/os/PATH   files of other systems
//! /boot/answers/PATH        an installer's         /boot/ca.pem          the CA's certificate
//! /grub/…/grub.cfg          where GRUB looks first when firmware loaded it over HTTP
//! ```
//! Everything else is sent on to HTTPS.
//!
//! A request goes through `head` (bytes to fields), `answer` (fields to an answer), `select` (which part of a
//! file) and `send` (sendfile(2)), all in the turn of `connection`. Large files wait for their turn in
//! `admission`. It is no general web server: requests have no body to speak of, answers no chunks.

mod admission;
mod answer;
mod connection;
mod hand_over;
pub mod head;
mod response;
pub mod select;
mod send;
mod stream;

use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{
    LazyConfigAcceptor,
    rustls::{self, ServerConfig, server::Acceptor},
    server::TlsStream,
};
use tokio_util::sync::CancellationToken;

use crate::Step;
use admission::Admission;
pub use answer::{Files, Route, route};
use hand_over::HandOver;
use stream::Stream;

/// A handshake needs two round trips and some arithmetic.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);

/// How much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. Past it machines wait to be accepted.
    pub connections: usize,
    /// Open connections of one address. Past it they are closed.
    pub connections_each: usize,
    /// Transfers of more than `large` bytes; the rest have to wait for their turn.
    pub transfers: usize,
    pub large: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, connections_each: 256, transfers: 32, large: 16 << 20 }
    }
}

impl Limits {
    /// As many transfers as leave each 100 Mbit/s, and at least four: one machine that is slow must not idle the link.
    pub fn of_link(interface: &str) -> Self {
        // Virtual interfaces say -1 or nothing.
        let speed = fs::read_to_string(format!("/sys/class/net/{interface}/speed")).ok();
        let speed = speed.and_then(|text| text.trim().parse::<usize>().ok()).filter(|megabits| *megabits > 0);
        let default = Self::default();
        Self {
            transfers: speed.map_or(default.transfers, |megabits| (megabits / 100).clamp(4, 256)),
            ..default
        }
    }
}

/// A socket that is listened on, plain or for TLS.
pub struct Listener {
    pub socket: TcpListener,
    pub tls: Option<Arc<ServerConfig>>,
}

/// What all connections share.
struct Site {
    files: Files,
    limits: Limits,
    admission: Arc<Admission>,
    hand_over: HandOver,
    places: Arc<Semaphore>,
    /// Open connections by address.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// Answers on `listeners` until `shutdown` is cancelled. That breaks transfers off: whoever waits for
/// them asks again.
pub async fn serve(
    listeners: Vec<Listener>,
    files: Files,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    raise_file_limit(limits.connections);
    let site = Arc::new(Site {
        files,
        limits,
        admission: Admission::new(limits.transfers),
        hand_over: HandOver::default(),
        places: Arc::new(Semaphore::new(limits.connections)),
        open: Mutex::default(),
    });
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(listen(listener, Arc::clone(&site)));
    }
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = accepting.join_next() => ended.map_err(io::Error::other)?,
    }
}

async fn listen(listener: Listener, site: Arc<Site>) -> io::Result<()> {
    let config = listener.tls.map(|config| {
        let mut config = ServerConfig::clone(&config);
        // The same certificate may serve HTTP/2 elsewhere.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    });
    // The last packet of an answer must not wait for the client's acknowledgement of the one before. Connections inherit
    // it from the socket on which they came in.
    SockRef::from(&listener.socket).set_tcp_nodelay(true)?;
    let mut connections = JoinSet::new();
    loop {
        let (tcp, from, place) = accept(&listener.socket, &site.places).await;
        // Here and not as each of them ends: that would wake this task once more for every connection.
        while let Some(ended) = connections.try_join_next() {
            ended.map_err(io::Error::other)?;
        }
        // An IPv4 address in IPv6's clothes is one of IPv4.
        let from = from.ip().to_canonical();
        let Some(open) = Open::new(&site, from) else {
            tracing::debug!("{from} has {} HTTP connections already", site.limits.connections_each);
            continue;
        };
        // Without one the client is gone already.
        let Ok(to) = tcp.local_addr().map(|to| to.ip().to_canonical()) else { continue };
        let (site, config) = (Arc::clone(&site), config.clone());
        connections.spawn(async move {
            match config {
                None => connection::serve(Stream::plain(tcp), from, to, site).await,
                Some(config) => match timeout(HANDSHAKE_LIMIT, handshake(tcp, config)).await {
                    Ok(Ok(tls)) => connection::serve(Stream::secure(tls), from, to, site).await,
                    Ok(Err(NoTls::NotAsked(error))) => tracing::debug!("TLS of {from}: {error}"),
                    Ok(Err(NoTls::Refused(reason))) => {
                        site.files.note(from, None, Step::Handshake { reason })
                    }
                    Err(_) => tracing::debug!("TLS of {from}: it took too long"),
                },
            }
            drop((open, place));
        });
    }
}

/// Why there is no TLS with a client.
enum NoTls {
    /// It began with something else, or with nothing.
    NotAsked(io::Error),
    /// One side did not take what the other one said.
    Refused(String),
}

async fn handshake(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<TlsStream<TcpStream>, NoTls> {
    let begun = LazyConfigAcceptor::new(Acceptor::default(), tcp).await.map_err(NoTls::NotAsked)?;
    begun.into_stream(config).await.map_err(|error| {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        NoTls::Refused(match tls {
            Some(rustls::Error::AlertReceived(alert)) => format!("it refused the certificate ({alert:?})"),
            Some(rustls::Error::PeerIncompatible(why)) => {
                format!("it knows no TLS 1.2 or 1.3 with elliptic curves ({why:?})")
            }
            Some(other) => other.to_string(),
            None => format!("the connection ended before its end ({error})"),
        })
    })
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always is a place in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => return (stream, from, place),
            // A client that is gone again, or no file descriptor left: neither ends the server.
            Err(error) => {
                tracing::debug!("Accepting an HTTP connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Site {
    /// Most places are taken: who holds one without need has to go.
    fn is_crowded(&self) -> bool {
        self.places.available_permits() < self.limits.connections / 4
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection among those of its address.
struct Open {
    site: Arc<Site>,
    from: IpAddr,
}

impl Open {
    fn new(site: &Arc<Site>, from: IpAddr) -> Option<Self> {
        let mut open = site.open();
        let count = open.entry(from).or_default();
        if *count >= site.limits.connections_each {
            return None;
        }
        *count += 1;
        Some(Self { site: Arc::clone(site), from })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.site.open();
        if let Some(count) = open.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.from);
            }
        }
    }
}

/// systemd and shells start programs with 1024 file descriptors, for the sake of select(2), which nothing here uses.
/// Each transfer needs two.
fn raise_file_limit(connections: usize) {
    let wanted = connections as u64 * 2 + 1024;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft >= wanted { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard) }
    });
    if let Err(error) = raised {
        tracing::warn!("Raising the limit of open files: {error}");
    }
}
