//! The four servers on one interface, started and ended together.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::{
    Directory,
    dhcp::{self, Mode, ServerFacts},
    dhcp6::{self, Rivals},
    http,
    kickstart::Sha256,
    ra::Advertiser,
    script::Host,
    tftp,
};

const TFTP_PORT: u16 = 69;
const HTTP_PORT: u16 = 80;

/// What the boot servers of one interface need to know.
#[derive(Debug, Clone)]
pub struct Server {
    /// The interface that is served, as `lan0`.
    pub interface: String,
    /// The appliance's own address on it.
    pub address: Ipv4Addr,
    /// Whether it gives addresses on that interface, or boot information beside another server.
    pub mode: Mode,
    /// The folder with vmlinuz, initrd, live.squashfs, guest.img and manifest.json.
    pub files: PathBuf,
    /// The folder with undionly.kpxe, shimx64.efi and grubnetx64.efi.
    pub loaders: PathBuf,
    /// The folder with the files of other systems, served below /boot/files/os/.
    pub systems: PathBuf,
    /// The same over HTTPS, for firmware that boots over it.
    pub tls: Option<Tls>,
    /// The certificate of the appliance's CA, served at /boot/ca.pem.
    pub ca_pem: String,
    /// SHA-256 of the CA certificate's DER; goes onto kernel command lines.
    pub ca_sha256: Sha256,
}

/// HTTPS beside HTTP. The machines have to trust who signed the certificate.
#[derive(Debug, Clone)]
pub struct Tls {
    /// 443, where it is free; the appliance's page has it there.
    pub port: u16,
    pub config: Arc<ServerConfig>,
    /// Firmware that boots over HTTP is sent here, and not to HTTP.
    pub firmware: bool,
}

/// Why the boot servers ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("opening the {what} socket on {interface}")]
    Bind {
        what: &'static str,
        interface: String,
        #[source]
        source: io::Error,
    },
    #[error("receiving {what} on {interface}")]
    Serve {
        what: &'static str,
        interface: String,
        #[source]
        source: io::Error,
    },
}

impl Server {
    /// Answers until `shutdown` is cancelled, or until one of the servers cannot go on. Needs root,
    /// and the interface; its address may come later.
    pub async fn run(
        self,
        directory: Arc<dyn Directory>,
        shutdown: CancellationToken,
    ) -> Result<(), ServerError> {
        let interface = self.interface.clone();
        let bound = |what, source| ServerError::Bind { what, interface: interface.clone(), source };

        let dhcp_sockets =
            dhcp::Sockets::open(&self.interface, self.mode).map_err(|error| bound("DHCP", error))?;
        let tftp_socket =
            listen(Type::DGRAM, self.address, TFTP_PORT).map_err(|error| bound("TFTP", error))?;
        let http_socket = listen_tcp(self.address, HTTP_PORT).map_err(|error| bound("HTTP", error))?;
        let mut http_listeners = vec![http::Listener { socket: http_socket, tls: None }];
        if let Some(Tls { port, config, .. }) = &self.tls {
            let socket = listen_tcp(self.address, *port).map_err(|error| bound("HTTPS", error))?;
            http_listeners.push(http::Listener { socket, tls: Some(Arc::clone(config)) });
        }

        let https = self.tls.as_ref().filter(|tls| tls.firmware).map(|tls| tls.port);
        let facts = ServerFacts { address: self.address, mode: self.mode, https };
        // Beside another server nothing is served over IPv6.
        let six = directory.network6().filter(|_| self.mode == Mode::Full);
        let six = six.map(|network| dhcp6::address_in(network, self.address));
        let mut tftp_sockets = vec![(tftp_socket, Host::from(self.address))];
        if let Some(six) = six {
            let socket =
                listen(Type::DGRAM, six, TFTP_PORT).map_err(|error| bound("TFTP over IPv6", error))?;
            tftp_sockets.push((socket, Host(six.into())));
            let socket = listen_tcp(six, HTTP_PORT).map_err(|error| bound("HTTP over IPv6", error))?;
            http_listeners.push(http::Listener { socket, tls: None });
            if let Some(Tls { port, config, .. }) = self.tls {
                let socket = listen_tcp(six, port).map_err(|error| bound("HTTPS over IPv6", error))?;
                http_listeners.push(http::Listener { socket, tls: Some(config) });
            }
        }
        let files = http::Files {
            address: self.address,
            artifacts: self.files,
            loaders: self.loaders.clone(),
            systems: self.systems,
            ca_pem: self.ca_pem,
            ca_sha256: self.ca_sha256,
            directory: Arc::clone(&directory),
        };

        let mut servers = JoinSet::new();
        let stop = shutdown.child_token();
        servers.spawn({
            let (directory, stop) = (Arc::clone(&directory), stop.clone());
            async move { ("DHCP", dhcp::serve(dhcp_sockets, facts, directory, stop).await) }
        });
        for (socket, address) in tftp_sockets {
            let (loaders, directory) = (self.loaders.clone(), Arc::clone(&directory));
            let (files, stop) = (tftp::Files { loaders, address, directory }, stop.clone());
            servers.spawn(async move {
                ("TFTP", tftp::serve(socket.into(), files, stop).await.map_err(io::Error::other))
            });
        }
        servers.spawn({
            let stop = stop.clone();
            let limits = http::Limits::of_link(&interface);
            async move { ("HTTP", http::serve(http_listeners, files, limits, stop).await) }
        });
        let rivals = Arc::new(Rivals::default());
        let bound = dhcp6::bind(&self.interface, dhcp6::SERVER_PORT).and_then(|socket| {
            let directory = Arc::clone(&directory);
            Ok((socket, Advertiser::bind(&self.interface, self.address, directory, Arc::clone(&rivals))?))
        });
        match bound {
            // Its routers and servers speak for that network.
            _ if self.mode == Mode::Proxy => {}
            Ok((socket, advertiser)) => {
                servers.spawn({
                    let stop = stop.clone();
                    async move { ("router solicitations", advertiser.serve(stop).await) }
                });
                let (interface, address, stop) = (self.interface.clone(), self.address, stop.clone());
                servers.spawn(async move {
                    let server = dhcp6::Link { interface, address, https };
                    let served = dhcp6::serve(socket, server, directory, rivals, stop).await;
                    ("DHCPv6", served)
                });
            }
            // A kernel without IPv6: machines boot all the same, some of them slower.
            Err(error) => tracing::warn!("No IPv6 on {interface}: {error}"),
        }

        let mut result = Ok(());
        while let Some(ended) = servers.join_next().await {
            let (what, served) = ended.unwrap_or_else(|error| ("packets", Err(io::Error::other(error))));
            if let Err(source) = served
                && result.is_ok()
            {
                result = Err(ServerError::Serve { what, interface: interface.clone(), source });
            }
            // One without the others would leave machines half way.
            stop.cancel();
        }
        result
    }
}

fn listen_tcp(address: impl Into<IpAddr>, port: u16) -> io::Result<TcpListener> {
    let socket = listen(Type::STREAM, address, port)?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// A socket on the appliance's address, which the interface need not have yet.
fn listen(kind: Type, address: impl Into<IpAddr>, port: u16) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let address = SocketAddr::from((address.into(), port));
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_freebind_v6(true)?;
    }
    if kind == Type::STREAM {
        // The last run's connections linger.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}
