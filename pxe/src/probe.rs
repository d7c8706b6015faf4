//! Asks who serves DHCP on an interface, as a machine that has just been switched on would ask, and listens for servers
//! that appear later.
//!
//! Whole Ethernet frames, because the interface may have no address: the kernel's UDP drops the
//! answers then (rp_filter, which systemd switches on).

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use dhcproto::{
    Encodable, Encoder,
    v4::{DhcpOption, Flags, Message, MessageType, OptionCode},
};
use socket2::SockFilter;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    MacAddr,
    dhcp::{Options, code},
    frame::{self, EVERYBODY, IPV4, address, packet_socket, read_udp},
};

/// Somebody else's DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignServer {
    /// Option 54, or the packet's sender.
    pub address: Ipv4Addr,
    /// The address that it offered.
    pub offered: Ipv4Addr,
    /// The first of option 3.
    pub router: Option<Ipv4Addr>,
    /// The sender of the frame: the server, or the relay before it.
    pub mac: MacAddr,
}

/// A second server may answer a little after the first.
const AFTER_FIRST: Duration = Duration::from_millis(500);
/// A DISCOVER may be lost, and switches need a while before they pass packets.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often [`watch`] asks without a reason.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// How soon [`watch`] asks again when clients name a server that it has not heard.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// A server that goes on answering is reported this often.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Servers that are remembered for that; with more than these on a wire something plays games.
const MOST: usize = 64;

/// Sends DISCOVERs for at most `wait` and lists who offers an address. The interface has to be up.
/// Needs CAP_NET_RAW.
pub async fn dhcp_servers(interface: &str, wait: Duration) -> io::Result<Vec<ForeignServer>> {
    let (socket, mac) = packet_socket(interface, IPV4, &FILTER)?;
    // Only has to differ from the other clients' on the wire.
    let xid = RandomState::new().hash_one(mac) as u32;
    let discover = discover(mac, xid).map_err(io::Error::other)?;

    let mut frame = [0; 2048];
    let mut servers: Vec<ForeignServer> = Vec::new();
    let mut end = Instant::now() + wait;
    let mut ask = Instant::now();
    while Instant::now() < end {
        if ask <= Instant::now() {
            socket.send(&discover).await?;
            ask += ASK_EVERY;
        }
        let Ok(received) = timeout_at(ask.min(end), socket.recv(&mut frame)).await else { continue };
        let Some(Heard::Offer(server)) = heard(&frame[..received?], Some(xid)) else { continue };
        end = end.min(Instant::now() + AFTER_FIRST);
        if !servers.iter().any(|known| known.address == server.address) {
            servers.push(server);
        }
    }
    Ok(servers)
}

/// Reports other DHCP servers than `own` on an interface as they are heard, for as long as somebody takes the reports;
/// one that is heard all the time every ten seconds. Needs CAP_NET_RAW; the interface has to be up.
///
/// It hears every OFFER and ACK that comes by. A switch passes those that are unicast to their client only, so it also
/// asks by itself: every five minutes, and soon after a client's REQUEST has named a server that was not heard. What it
/// reports is never what the appliance itself sends: the kernel does not hand a packet socket its own machine's frames.
pub async fn watch(interface: &str, own: Ipv4Addr, reports: mpsc::Sender<ForeignServer>) -> io::Result<()> {
    let (socket, mac) = packet_socket(interface, IPV4, &FILTER)?;
    let mut frame = [0; 2048];
    let mut reported: BTreeMap<(MacAddr, Ipv4Addr), Instant> = BTreeMap::new();
    let mut asked = Instant::now();
    let mut ask = asked;
    loop {
        if ask <= Instant::now() {
            asked = Instant::now();
            ask = asked + LOOK_EVERY;
            let xid = RandomState::new().hash_one(mac) as u32;
            // A cable that is out is no reason to stop listening.
            if let Err(error) = socket.send(&discover(mac, xid).map_err(io::Error::other)?).await {
                tracing::debug!("Asking for DHCP servers on {interface}: {error}");
            }
        }
        let received = tokio::select! {
            () = reports.closed() => return Ok(()),
            () = tokio::time::sleep_until(ask) => continue,
            received = socket.recv(&mut frame) => received,
        };
        let length = match received {
            Ok(length) => length,
            // The interface went down, and comes again.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENETDOWN) => {
                tokio::time::sleep(ASK_EVERY).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        match heard(&frame[..length], None) {
            Some(Heard::Offer(server)) if server.address != own && server.mac != mac => {
                let now = Instant::now();
                reported.retain(|_, at| now.duration_since(*at) < REPORT_EVERY);
                let key = (server.mac, server.address);
                if reported.len() < MOST && !reported.contains_key(&key) {
                    reported.insert(key, now);
                    if reports.send(server).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Some(Heard::Named(server)) if server != own => {
                if !reported.keys().any(|(_, address)| *address == server) {
                    ask = ask.min(asked + LOOK_AGAIN);
                }
            }
            Some(Heard::Offer(_) | Heard::Named(_)) | None => {}
        }
    }
}

/// Passes DHCP of servers and to servers, and little else: IPv4, UDP, no later fragment, from or to port 67.
const FILTER: [SockFilter; 13] = [
    SockFilter::new(0x28, 0, 0, 12),     // ldh [12]
    SockFilter::new(0x15, 0, 10, 0x800), // jeq IPv4, else drop
    SockFilter::new(0x30, 0, 0, 23),     // ldb [23]
    SockFilter::new(0x15, 0, 8, 17),     // jeq UDP, else drop
    SockFilter::new(0x28, 0, 0, 20),     // ldh [20]
    SockFilter::new(0x45, 6, 0, 0x1fff), // jset a later fragment: drop
    SockFilter::new(0xb1, 0, 0, 14),     // ldxb 4*([14]&0xf)
    SockFilter::new(0x48, 0, 0, 14),     // ldh [x + 14], the source port
    SockFilter::new(0x15, 2, 0, 67),     // jeq 67: pass
    SockFilter::new(0x48, 0, 0, 16),     // ldh [x + 16], the destination port
    SockFilter::new(0x15, 0, 1, 67),     // jeq 67: pass, else drop
    SockFilter::new(0x06, 0, 0, 0x4000), // ret: pass
    SockFilter::new(0x06, 0, 0, 0),      // ret: drop
];

/// A DISCOVER with the broadcast flag, from nobody to everybody.
fn discover(mac: MacAddr, xid: u32) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, none, none, none, none, &mac.0);
    message.set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(MessageType::Discover));
    let wanted = [OptionCode::SubnetMask, OptionCode::Router, OptionCode::DomainNameServer];
    options.insert(DhcpOption::ParameterRequestList(wanted.into()));
    let mut payload = Vec::new();
    message.encode(&mut Encoder::new(&mut payload))?;
    payload.resize(payload.len().max(300), 0);
    let from = SocketAddrV4::new(none, 68);
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    Ok(frame::udp((mac, from), (EVERYBODY, to), &payload))
}

/// What a frame tells of servers.
enum Heard {
    /// An OFFER, or an ACK.
    Offer(ForeignServer),
    /// A client takes the offer of this one.
    Named(Ipv4Addr),
}

/// Reads a frame; `None` for everything that tells of no server. With `xid`, only an OFFER to us.
fn heard(frame: &[u8], xid: Option<u32>) -> Option<Heard> {
    let packet = read_udp(frame)?;
    let message = packet.payload;
    let from_server = packet.from.port() == 67 && *message.first()? == 2;
    if xid.is_some_and(|xid| packet.to.port() != 68 || message.get(4..8) != Some(&xid.to_be_bytes()))
        || message.get(236..240)? != [99, 130, 83, 99]
    {
        return None;
    }
    let mut options = Options::new();
    options.scan(&message[240..]).ok()?;
    let server = options.address(code::SERVER);
    match options.get(code::KIND)? {
        [2] if from_server => {}
        [5] if from_server && xid.is_none() => {}
        [3] if *message.first()? == 1 && xid.is_none() => return server.map(Heard::Named),
        _ => return None,
    }
    let offered = address(message.get(16..20)?)?;
    // A ProxyDHCP server gives no addresses, and a renewal is not heard of one who asks for none.
    if offered.is_unspecified() {
        return None;
    }
    Some(Heard::Offer(ForeignServer {
        address: server.unwrap_or(*packet.from.ip()),
        offered,
        router: options.get(code::ROUTER).and_then(|value| address(value.get(..4)?)),
        mac: packet.from_mac,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_discover_is_one_that_our_server_understands() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let frame = discover(mac, 7).unwrap();
        let packet = read_udp(&frame).unwrap();
        assert_eq!((packet.from_mac, packet.to.to_string()), (mac, "255.255.255.255:67".to_owned()));
        let request = crate::dhcp::parse(packet.payload).unwrap();
        assert_eq!((request.xid, request.sight.mac, request.broadcast), (7, mac, true));
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(mut frame in prop::collection::vec(any::<u8>(), 0..400), valid in any::<bool>()) {
            if valid && frame.len() > 300 {
                frame[12..15].copy_from_slice(&[8, 0, 0x45]);
                frame[20..24].copy_from_slice(&[0, 0, 64, 17]);
                frame[34..38].copy_from_slice(&[0, 67, 0, 68]);
                frame[38..40].copy_from_slice(&[1, 0x80]);
                frame[42] = 2;
                frame[46..50].copy_from_slice(&[0, 0, 0, 7]);
                frame[278..282].copy_from_slice(&[99, 130, 83, 99]);
            }
            heard(&frame, Some(7));
            heard(&frame, None);
        }
    }
}
