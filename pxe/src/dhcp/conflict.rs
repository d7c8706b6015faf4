//! Looks whether somebody answers to an address before it is given to a new client (RFC 5227).
//!
//! One ARP probe leaves with the OFFER, and a client's own way to its REQUEST is most of the time that it takes. Who is
//! known already is not probed for: its address is its own. Past a relay nothing is heard, so nothing is asked.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    MacAddr,
    frame::{EVERYBODY, address},
};

pub(super) const ARP: u16 = 0x0806;

/// How long an answer may take. Hosts on a LAN need a millisecond, and some sleep.
const WAIT: Duration = Duration::from_millis(250);

/// How long a finding counts.
const FRESH: Duration = Duration::from_secs(60);

/// Probes that may be out at a time: a hall of machines that is switched on at once. Past it addresses are given
/// unprobed, so that a flood of made-up clients makes no flood of broadcasts.
const AT_ONCE: usize = 1024;

/// Findings that are kept.
const MOST: usize = 8192;

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nobody answered, or nobody was asked.
    Free,
    /// It is not known before then.
    Later(Instant),
    /// This one answered.
    Taken(MacAddr),
}

/// The probes of one interface.
pub(super) struct Probes {
    mac: MacAddr,
    out: HashMap<Ipv4Addr, Probe>,
    order: VecDeque<(Instant, Ipv4Addr)>,
}

struct Probe {
    client: MacAddr,
    end: Instant,
    taken: Option<MacAddr>,
}

impl Probes {
    /// `mac` is the interface's.
    pub fn new(mac: MacAddr) -> Self {
        Self { mac, out: HashMap::new(), order: VecDeque::new() }
    }

    /// What is known of an address that a client is about to be given. If nothing is and something can be, the second is
    /// a frame to be sent now.
    pub fn look(&mut self, address: Ipv4Addr, client: MacAddr, now: Instant) -> (Finding, Option<[u8; 42]>) {
        while let Some((begun, old)) = self.order.front().copied()
            && (now.duration_since(begun) > FRESH || self.order.len() >= MOST)
        {
            self.order.pop_front();
            self.out.remove(&old);
        }
        if let Some(probe) = self.out.get_mut(&address) {
            // The next client is asked about in its place: what answered may have been the first.
            let finding = match probe.taken {
                Some(taken) if taken != client => Finding::Taken(taken),
                _ if now < probe.end => Finding::Later(probe.end),
                _ => Finding::Free,
            };
            probe.client = client;
            return (finding, None);
        }
        let earlier = self.order.len().checked_sub(AT_ONCE).and_then(|place| self.order.get(place));
        if earlier.is_some_and(|(begun, _)| *begun + WAIT > now) {
            return (Finding::Free, None);
        }
        let end = now + WAIT;
        self.out.insert(address, Probe { client, end, taken: None });
        self.order.push_back((now, address));
        (Finding::Later(end), Some(arp_probe(self.mac, address)))
    }

    /// Who was found at an address that somebody else was to have.
    pub fn taken(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.out.get(&address)?.taken
    }

    /// Reads a frame. If it shows that an address is taken that is looked for: by whom, and the client that it was for.
    pub fn heard(&mut self, frame: &[u8]) -> Option<(Ipv4Addr, MacAddr, MacAddr)> {
        let (taken, address) = read_arp(frame)?;
        let probe = self.out.get_mut(&address)?;
        // The client itself, with an address that it has kept from another life.
        if taken == probe.client || probe.taken.is_some() {
            return None;
        }
        probe.taken = Some(taken);
        Some((address, taken, probe.client))
    }
}

/// An ARP probe (RFC 5227 section 2.1.1): who has `target`? From nobody, so that it enters no cache.
fn arp_probe(mac: MacAddr, target: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    frame[..6].copy_from_slice(&EVERYBODY.0);
    frame[6..12].copy_from_slice(&mac.0);
    frame[12..14].copy_from_slice(&ARP.to_be_bytes());
    // Ethernet and IPv4 with the lengths of their addresses, request.
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac.0);
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// Who says in this frame that it has which address: the sender of an ARP request or reply, except of a probe.
fn read_arp(frame: &[u8]) -> Option<(MacAddr, Ipv4Addr)> {
    let arp = frame.get(14..42)?;
    if frame[12..14] != ARP.to_be_bytes() || arp[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let sender = address(&arp[14..18])?;
    (!sender.is_unspecified()).then_some((MacAddr(<[u8; 6]>::try_from(&arp[8..14]).ok()?), sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const TARGET: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 0);

    /// B says that it has TARGET.
    fn answer() -> [u8; 42] {
        let mut frame = arp_probe(A, TARGET);
        frame[21] = 2;
        frame[22..28].copy_from_slice(&B.0);
        frame[28..32].copy_from_slice(&TARGET.octets());
        frame
    }

    #[test]
    fn a_probe_claims_no_address_and_an_answer_does() {
        assert_eq!(read_arp(&arp_probe(A, TARGET)), None);
        assert_eq!(read_arp(&answer()), Some((B, TARGET)));
        assert_eq!(read_arp(&answer()[..41]), None);
    }

    #[test]
    fn an_address_is_asked_for_once_and_known_after_a_while() {
        let now = Instant::now();
        let mut probes = Probes::new(A);
        let client = MacAddr([2, 0, 0, 0, 0, 9]);
        let (finding, frame) = probes.look(TARGET, client, now);
        assert_eq!((finding, frame.is_some()), (Finding::Later(now + WAIT), true));
        assert_eq!(probes.look(TARGET, client, now), (Finding::Later(now + WAIT), None));
        assert_eq!(probes.look(TARGET, client, now + WAIT), (Finding::Free, None));
        // Whoever answers late is still heard.
        assert_eq!(probes.heard(&answer()), Some((TARGET, B, client)));
        assert_eq!(probes.heard(&answer()), None, "once is enough");
        assert_eq!(probes.look(TARGET, client, now + WAIT), (Finding::Taken(B), None));
        assert_eq!(probes.look(TARGET, B, now + WAIT), (Finding::Free, None), "that is its own");
        // Long after, it is asked for again.
        let later = now + FRESH * 2;
        assert_eq!(probes.look(TARGET, client, later).0, Finding::Later(later + WAIT));
    }

    #[test]
    fn a_client_that_has_the_address_already_is_no_conflict() {
        let mut probes = Probes::new(A);
        probes.look(TARGET, B, Instant::now());
        assert_eq!(probes.heard(&answer()), None);
    }

    #[test]
    fn a_flood_of_clients_is_not_a_flood_of_probes() {
        let now = Instant::now();
        let mut probes = Probes::new(A);
        let sent = (0..20_000_u32)
            .filter(|number| {
                let address = Ipv4Addr::from(0x0a00_0000 + number);
                probes.look(address, B, now + Duration::from_micros(u64::from(*number))).1.is_some()
            })
            .count();
        assert_eq!(sent, AT_ONCE);
        assert_eq!(probes.look(TARGET, B, now + WAIT * 2).0, Finding::Later(now + WAIT * 3));
        assert!(probes.out.len() <= MOST);
    }
}
