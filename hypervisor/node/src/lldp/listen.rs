//! Hears LLDP on this machine's NICs, and keeps what was said for as long as it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleet::Mac;
use fleet::wire::Neighbour;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::SetStruct;
use nix::sys::socket::{LinkAddr, recvfrom, setsockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{Announcement, parse};

const ETHERTYPE: u16 = 0x88cc;

/// "Nearest bridge": what every switch sends to and none passes on (IEEE 802.1AB-2016, 7.1).
const GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];

/// NICs come and go; new ones are listened on after so long at the latest.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Behind a switch that passes LLDP on, a NIC hears many; so many are enough to see that.
const MOST_OF_A_NIC: usize = 8;

/// What this machine's NICs hear; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Neighbours(Arc<Mutex<BTreeMap<Neighbour, Instant>>>);

impl Neighbours {
    /// What holds now, in a fixed order.
    pub fn now(&self) -> Vec<Neighbour> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        heard.retain(|_, until| *until > now);
        heard.keys().cloned().collect()
    }

    /// Whether that changed anything.
    fn hear(&self, mac: Mac, said: Announcement, now: Instant) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, until| *until > now);
        let Announcement { chassis, port, system, ttl_secs } = said;
        let until = now + Duration::from_secs(u64::from(ttl_secs));
        let neighbour = Neighbour { mac, chassis, port, system };
        let same_port = |known: &Neighbour| {
            known.mac == mac && known.chassis == neighbour.chassis && known.port == neighbour.port
        };
        if ttl_secs == 0 {
            let before = heard.len();
            heard.retain(|known, _| !same_port(known));
            return heard.len() != before;
        }
        let known = heard.contains_key(&neighbour);
        if !known {
            // It may have been renamed.
            heard.retain(|known, _| !same_port(known));
            if heard.keys().filter(|known| known.mac == mac).count() >= MOST_OF_A_NIC {
                return false;
            }
        }
        heard.insert(neighbour, until);
        !known
    }
}

/// Listens for ever on what `nics` names (interface and MAC address), and calls `changed` at news. Needs CAP_NET_RAW.
pub async fn listen(
    neighbours: Neighbours,
    nics: impl Fn() -> Vec<(String, Mac)>,
    changed: impl Fn(),
) -> io::Result<()> {
    // DGRAM: the kernel takes the Ethernet header off, and a VLAN tag with it.
    let protocol = Protocol::from(i32::from(ETHERTYPE.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), Some(protocol))?;
    // tokio's UdpSocket for what is none: all that is used of it is when there is something to read.
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
    let mut listening: BTreeMap<usize, Mac> = BTreeMap::new();
    let mut joined = BTreeSet::new();
    let mut frame = [0; 2048];
    loop {
        listening.clear();
        for (name, mac) in nics() {
            // It may be gone again.
            let Ok(index) = if_nametoindex(name.as_str()) else { continue };
            if !joined.contains(&index) && join(&socket, index).is_ok() {
                joined.insert(index);
            }
            listening.insert(index as usize, mac);
        }
        joined.retain(|index| listening.contains_key(&(*index as usize)));

        let look_again = tokio::time::sleep(LOOK_AGAIN);
        tokio::pin!(look_again);
        loop {
            let received = tokio::select! {
                () = &mut look_again => break,
                received = socket.async_io(Interest::READABLE, || receive(&socket, &mut frame)) => received,
            };
            let (length, index) = match received {
                Ok(received) => received,
                // A NIC that goes down says so once on the socket.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                Err(error) => return Err(error),
            };
            // What virtual machines say on their own wires is not about this machine's cables.
            let Some(mac) = index.and_then(|index| listening.get(&index)) else { continue };
            if let Some(said) = parse(&frame[..length])
                && neighbours.hear(*mac, said, Instant::now())
            {
                changed();
            }
        }
    }
}

fn receive(socket: &UdpSocket, frame: &mut [u8]) -> io::Result<(usize, Option<usize>)> {
    let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), frame)?;
    Ok((length, from.map(|from| from.ifindex())))
}

#[derive(Clone)]
struct Membership;

nix::setsockopt_impl!(
    Membership,
    libc::SOL_PACKET,
    libc::PACKET_ADD_MEMBERSHIP,
    libc::packet_mreq,
    SetStruct<'_, libc::packet_mreq>
);

/// Lets frames to the group pass the NIC's own filter, for as long as the socket is open.
fn join(socket: &UdpSocket, index: u32) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&GROUP);
    let request = libc::packet_mreq {
        mr_ifindex: index.cast_signed(),
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: 6,
        mr_address: address,
    };
    Ok(setsockopt(socket, Membership, &request)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn says(port: &str, system: &str, ttl_secs: u16) -> Announcement {
        let (port, system) = (port.to_owned(), Some(system.to_owned()));
        Announcement { chassis: "c".to_owned(), port, system, ttl_secs }
    }

    #[test]
    fn what_was_said_holds_for_its_time() {
        let heard = Neighbours::default();
        let now = Instant::now();
        assert!(heard.hear(MAC, says("7", "sw1", 120), now));
        assert!(!heard.hear(MAC, says("7", "sw1", 120), now), "said again");
        assert!(heard.hear(MAC, says("7", "sw2", 120), now), "renamed");
        assert_eq!(heard.now().len(), 1);
        assert!(heard.hear(MAC, says("7", "sw2", 0), now), "the port goes down");
        assert_eq!(heard.now(), []);
        heard.hear(MAC, says("7", "sw2", 120), now.checked_sub(Duration::from_secs(121)).unwrap());
        assert_eq!(heard.now(), [], "over");
    }

    #[test]
    fn nobody_fills_the_memory() {
        let heard = Neighbours::default();
        for port in 0..1000 {
            heard.hear(MAC, says(&port.to_string(), "sw", u16::MAX), Instant::now());
        }
        assert_eq!(heard.now().len(), MOST_OF_A_NIC);
    }
}
