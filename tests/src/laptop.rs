//! A laptop on the lab's LAN: it asks for an address by DHCP like anybody, and
//! carries TCP connections from ports of this computer to addresses of the LAN,
//! so that `curl http://127.0.0.1:PORT` reaches a service there without root.
//!
//! Its network stack is smoltcp on a [`Jack`]; one thread moves everything.

mod jack_device;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as Clock};

use anyhow::{Context, Result, bail};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};

use self::jack_device::JackDevice;
use crate::lan::{Jack, Mac};

/// Window of each connection, each way.
const BUFFER: usize = 256 * 1024;

pub struct Laptop {
    orders: Sender<Forwarding>,
    address: Arc<Mutex<Option<Ipv4Addr>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Forwarding {
    listener: TcpListener,
    to: SocketAddrV4,
}

impl Laptop {
    pub fn plug_in(jack: Jack, mac: Mac) -> Laptop {
        let (orders, inbox) = channel();
        let address = Arc::new(Mutex::new(None));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (address, ended) = (address.clone(), ended.clone());
            move || Stack::new(jack, mac, inbox, address).run(&ended)
        });
        Laptop { orders, address, ended, thread: Some(thread) }
    }

    /// The address the LAN has given to the laptop.
    pub fn address(&self, limit: Duration) -> Result<Ipv4Addr> {
        let end = Clock::now() + limit;
        loop {
            if let Some(address) = *self.address.lock().unwrap_or_else(PoisonError::into_inner) {
                return Ok(address);
            }
            if Clock::now() > end {
                bail!("no DHCP server gave the laptop an address within {} s", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Carries connections to `local` (port 0: any free one) on to `to` on the
    /// LAN. Gives the address it listens on.
    pub fn forward(&self, local: SocketAddr, to: SocketAddrV4) -> Result<SocketAddr> {
        let listener = TcpListener::bind(local).with_context(|| format!("listening on {local}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        self.orders.send(Forwarding { listener, to }).ok().context("the laptop is off")?;
        Ok(address)
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, and then it has said so.
            let _ = thread.join();
        }
    }
}

struct Stack {
    device: JackDevice,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    orders: Receiver<Forwarding>,
    forwardings: Vec<Forwarding>,
    connections: Vec<Connection>,
    address: Arc<Mutex<Option<Ipv4Addr>>>,
    next_port: u16,
}

/// A connection of this computer, and its continuation on the LAN.
struct Connection {
    local: TcpStream,
    lan: SocketHandle,
    /// The local side has sent its end of stream.
    local_done: bool,
    /// We have sent ours to the local side.
    lan_done: bool,
}

impl Stack {
    fn new(
        jack: Jack,
        mac: Mac,
        orders: Receiver<Forwarding>,
        address: Arc<Mutex<Option<Ipv4Addr>>>,
    ) -> Stack {
        let mut device = JackDevice::new(jack);
        let mut config = Config::new(EthernetAddress(mac).into());
        config.random_seed = rand::random();
        let interface = Interface::new(config, &mut device, Instant::now());
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = sockets.add(dhcpv4::Socket::new());
        Stack {
            device,
            interface,
            sockets,
            dhcp,
            orders,
            forwardings: Vec::new(),
            connections: Vec::new(),
            address,
            next_port: 49_152,
        }
    }

    fn run(mut self, ended: &AtomicBool) {
        while !ended.load(Ordering::Relaxed) {
            self.interface.poll(Instant::now(), &mut self.device, &mut self.sockets);
            self.follow_dhcp();
            self.forwardings.extend(self.orders.try_iter());
            self.accept();
            let moved = self.move_bytes();
            self.drop_finished();
            if !moved {
                self.rest();
            }
        }
    }

    fn follow_dhcp(&mut self) {
        let Some(event) = self.sockets.get_mut::<dhcpv4::Socket>(self.dhcp).poll() else { return };
        let lease = match event {
            dhcpv4::Event::Configured(lease) => Some((lease.address, lease.router)),
            dhcpv4::Event::Deconfigured => None,
        };
        self.interface.update_ip_addrs(|addresses| addresses.clear());
        self.interface.routes_mut().remove_default_ipv4_route();
        if let Some((address, router)) = lease {
            self.take_address(address, router);
        }
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = lease.map(|(cidr, _)| cidr.address());
    }

    fn take_address(&mut self, address: Ipv4Cidr, router: Option<Ipv4Addr>) {
        self.interface.update_ip_addrs(|addresses| addresses.extend([IpCidr::Ipv4(address)]));
        if let Some(router) = router
            && let Err(error) = self.interface.routes_mut().add_default_ipv4_route(router)
        {
            tracing::warn!(%error, "The laptop cannot use the router {router}");
        }
    }

    fn accept(&mut self) {
        for forwarding in &self.forwardings {
            while let Ok((local, _)) = forwarding.listener.accept() {
                let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
                let mut socket = tcp::Socket::new(buffer(), buffer());
                socket.set_nagle_enabled(false);
                socket.set_ack_delay(None);
                socket.set_timeout(Some(smoltcp::time::Duration::from_secs(30)));
                self.next_port = if self.next_port == u16::MAX { 49_152 } else { self.next_port + 1 };
                // Without an address yet this fails, and the caller sees a
                // closed connection, as with a cable that is not plugged in.
                let connected = socket.connect(self.interface.context(), forwarding.to, self.next_port);
                if connected.is_ok() && local.set_nonblocking(true).is_ok() {
                    let lan = self.sockets.add(socket);
                    self.connections.push(Connection { local, lan, local_done: false, lan_done: false });
                }
            }
        }
    }

    /// True when something moved, so that there is probably more.
    fn move_bytes(&mut self) -> bool {
        let mut moved = false;
        for connection in &mut self.connections {
            let socket = self.sockets.get_mut::<tcp::Socket>(connection.lan);
            moved |= connection.carry_out(socket);
            moved |= connection.carry_in(socket);
        }
        moved
    }

    fn drop_finished(&mut self) {
        let Stack { connections, sockets, .. } = self;
        connections.retain(|connection| {
            let finished = !sockets.get_mut::<tcp::Socket>(connection.lan).is_open();
            if finished {
                sockets.remove(connection.lan);
            }
            !finished
        });
    }

    /// Waits for a frame, but not long while connections may bring bytes from
    /// this computer, which nothing here would wake us for.
    fn rest(&mut self) {
        let longest = if self.connections.is_empty() { 20 } else { 1 };
        let due = self.interface.poll_delay(Instant::now(), &self.sockets);
        let due = due.map_or(longest, |due| due.total_millis().min(longest));
        self.device.wait(Duration::from_millis(due.max(1)));
    }
}

impl Connection {
    fn carry_out(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        if self.local_done || !socket.can_send() {
            return false;
        }
        let local = &mut self.local;
        // `send` fails only where `can_send` is false.
        let read = socket.send(|space| match local.read(space) {
            Ok(length) => (length, Ok(length)),
            Err(error) => (0, Err(error)),
        });
        match read {
            Ok(Ok(0)) => {
                self.local_done = true;
                socket.close();
                true
            }
            Ok(Ok(_)) => true,
            Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => false,
            Ok(Err(_)) | Err(_) => {
                socket.abort();
                true
            }
        }
    }

    fn carry_in(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        if socket.can_recv() {
            let local = &mut self.local;
            let written = socket.recv(|bytes| match local.write(bytes) {
                Ok(length) => (length, Ok(length)),
                Err(error) => (0, Err(error)),
            });
            return match written {
                Ok(Ok(length)) => length > 0,
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => false,
                Ok(Err(_)) | Err(_) => {
                    socket.abort();
                    true
                }
            };
        }
        let over =
            !socket.may_recv() && !matches!(socket.state(), tcp::State::SynSent | tcp::State::SynReceived);
        if over && !self.lan_done {
            self.lan_done = true;
            // Fails when the local side is gone already.
            let _ = self.local.shutdown(std::net::Shutdown::Write);
            // Nothing more can come; when we have no more either, this ends it.
            if self.local_done {
                socket.close();
            }
            return true;
        }
        false
    }
}
