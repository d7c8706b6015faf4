//! What was seen of all machines lately, bounded.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Diagnosis, Facts, diagnose,
    seen::{Millis, Seen, What},
};
use crate::{MacAddr, Note, Step, neighbours, step::Outcome};

/// Steps of a machine that are kept: some starts of it.
const STEPS: usize = 48;
/// Machines that have fetched something.
const MACHINES: usize = 8192;
/// Whoever has only asked for an address. A flood of made-up MAC addresses stays in here, and pushes no machine out.
const STRANGERS: usize = 2048;
/// Addresses whose machine is known from packets.
const ADDRESSES: usize = 16_384;
/// The kernel's table of neighbours is read at most so often.
const LOOK_EVERY: Millis = 1000;

/// The steps of all machines. Shared by the servers, which note, and the pages, which ask.
#[derive(Debug, Default)]
pub struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    machines: BTreeMap<MacAddr, Machine>,
    /// By the time of their last step, those who fetched something and those who did not.
    known: BTreeSet<(Millis, MacAddr)>,
    strangers: BTreeSet<(Millis, MacAddr)>,
    addresses: HashMap<IpAddr, MacAddr>,
    in_order: VecDeque<IpAddr>,
    looked: Millis,
}

#[derive(Debug, Default)]
struct Machine {
    steps: VecDeque<Seen>,
    fetched: bool,
    /// When what it booted last spoke to us.
    reported: Option<Millis>,
}

impl Journal {
    /// Takes a step, and says whose it is if that is known: by the note itself, or by the address that a packet before
    /// gave to a MAC address, also before its lease is durable and where another server gave it; and else by the
    /// kernel's table of neighbours.
    pub fn note(&self, note: &Note, now: Millis) -> Option<MacAddr> {
        let mut inner = self.lock();
        let mac = match (note.mac, note.address) {
            (Some(mac), Some(address)) => {
                inner.learn(address, mac);
                Some(mac)
            }
            (Some(mac), None) => Some(mac),
            (None, Some(address)) => inner.mac_of(address, now),
            (None, None) => None,
        }?;
        if let Some(address) = given(&note.step) {
            inner.learn(address, mac);
        }
        if let Some(what) = What::of(&note.step) {
            inner.add(mac, what, now);
        }
        Some(mac)
    }

    /// Takes note that what the machine of these NICs booted has spoken to us.
    pub fn heard(&self, macs: &[MacAddr], now: Millis) {
        let mut inner = self.lock();
        for mac in macs {
            if let Some(machine) = inner.machines.get_mut(mac) {
                machine.reported = Some(now);
            }
        }
    }

    /// What is the matter with the machine of these NICs, of which one boots.
    pub fn diagnose(&self, macs: &[MacAddr], facts: &Facts, now: Millis) -> Option<Diagnosis> {
        let inner = self.lock();
        let machines = || macs.iter().filter_map(|mac| inner.machines.get(mac));
        let reported = machines().filter_map(|machine| machine.reported).max().max(facts.reported);
        let facts = &Facts { reported, ..facts.clone() };
        // The NIC that was heard last is the one that the firmware is at.
        let last = machines().max_by_key(|machine| machine.steps.back().map(|seen| seen.last));
        diagnose(last.map(|machine| &machine.steps).into_iter().flatten(), facts, now)
    }

    /// The MAC addresses that were seen and their last step, the latest first.
    pub fn seen(&self) -> Vec<(MacAddr, Millis)> {
        let inner = self.lock();
        let mut all: Vec<_> =
            inner.known.iter().chain(&inner.strangers).map(|(at, mac)| (*mac, *at)).collect();
        all.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
        all
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here is left half done by a panic that matters: it is what was seen.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address that a packet gives to its sender, or that it takes elsewhere.
fn given(step: &Step) -> Option<IpAddr> {
    match step {
        Step::Dhcp { outcome, .. } => given_by(outcome).map(IpAddr::from),
        Step::Dhcp6 { outcome, .. } => given_by(outcome).map(IpAddr::from),
        Step::File { .. }
        | Step::Script { .. }
        | Step::Waiting { .. }
        | Step::Handshake { .. }
        | Step::Refused { .. } => None,
    }
}

fn given_by<A: Copy>(outcome: &Outcome<A>) -> Option<A> {
    match outcome {
        Outcome::Offered { address, .. }
        | Outcome::Leased { address, .. }
        | Outcome::Informed { address } => Some(*address),
        Outcome::Elsewhere { address, .. } => *address,
        Outcome::BootOnly { .. }
        | Outcome::Confirmed { .. }
        | Outcome::Nak { .. }
        | Outcome::Silence { .. }
        | Outcome::Failed { .. } => None,
    }
}

impl Inner {
    fn learn(&mut self, address: IpAddr, mac: MacAddr) {
        if self.addresses.insert(address, mac).is_none() {
            self.in_order.push_back(address);
            if self.in_order.len() > ADDRESSES
                && let Some(oldest) = self.in_order.pop_front()
            {
                self.addresses.remove(&oldest);
            }
        }
    }

    fn mac_of(&mut self, address: IpAddr, now: Millis) -> Option<MacAddr> {
        if let Some(mac) = self.addresses.get(&address) {
            return Some(*mac);
        }
        if let Some(mac) = neighbours::of_interface_id(address) {
            return Some(mac);
        }
        if now < self.looked + LOOK_EVERY {
            return None;
        }
        self.looked = now;
        for (address, mac) in neighbours::table() {
            self.learn(address.into(), mac);
        }
        self.addresses.get(&address).copied()
    }

    fn add(&mut self, mac: MacAddr, what: What, now: Millis) {
        let machine = self.machines.entry(mac).or_default();
        let before = machine.steps.back().map(|seen| seen.last);
        if let Some(before) = before {
            let queue = if machine.fetched { &mut self.known } else { &mut self.strangers };
            queue.remove(&(before, mac));
        }
        // Clocks may go back; steps do not.
        let now = before.map_or(now, |before| before.max(now));
        machine.fetched |= matches!(what, What::File { .. } | What::Script { .. });
        match machine.steps.back_mut() {
            Some(last) if last.what.repeats(&what) => {
                last.what = what;
                last.last = now;
                last.times = last.times.saturating_add(1);
            }
            _ => {
                if machine.steps.len() == STEPS {
                    machine.steps.pop_front();
                }
                machine.steps.push_back(Seen { first: now, last: now, times: 1, what });
            }
        }
        let (queue, most) =
            if machine.fetched { (&mut self.known, MACHINES) } else { (&mut self.strangers, STRANGERS) };
        queue.insert((now, mac));
        if queue.len() > most
            && let Some((_, oldest)) = queue.pop_first()
        {
            self.machines.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;
    use crate::{
        dhcp::Kind,
        step::{Client, Loader, Protocol, Sent},
    };

    fn mac(number: u32) -> MacAddr {
        let [a, b, c, d] = number.to_be_bytes();
        MacAddr([0x52, 0x54, a, b, c, d])
    }

    fn dhcp(packet: Kind, outcome: Outcome) -> Step {
        Step::Dhcp { packet, client: Client::Firmware { arch: 7 }, outcome }
    }

    fn offered(address: Ipv4Addr) -> Step {
        dhcp(Kind::Discover, Outcome::Offered { address, file: Some("shimx64.efi".to_owned()) })
    }

    fn file(name: &str) -> Step {
        let sent = Sent::Whole { bytes: 1, took: Duration::ZERO };
        Step::File { protocol: Protocol::Tftp, name: name.to_owned(), sent }
    }

    fn by_address(address: [u8; 4], step: Step) -> Note {
        Note { mac: None, address: Some(IpAddr::from(address)), step }
    }

    fn by_mac(mac: MacAddr, step: Step) -> Note {
        Note { mac: Some(mac), address: None, step }
    }

    #[test]
    fn steps_find_their_machine_before_the_lease_and_beside_another_server() {
        let journal = Journal::default();
        // An offer is enough: TFTP may be noted before the lease is durable.
        journal.note(&by_mac(mac(1), offered([10, 77, 1, 1].into())), 0);
        assert_eq!(journal.note(&by_address([10, 77, 1, 1], file("shimx64.efi")), 1), Some(mac(1)));
        // Another server's address.
        let outcome =
            Outcome::Elsewhere { server: [10, 0, 0, 1].into(), address: Some([10, 0, 0, 9].into()) };
        journal.note(&by_mac(mac(2), dhcp(Kind::Request, outcome)), 2);
        assert_eq!(journal.note(&by_address([10, 0, 0, 9], file("shimx64.efi")), 3), Some(mac(2)));
        // A script says both.
        let step = Step::Script { loader: Loader::Ipxe, boots: "discover".to_owned() };
        journal.note(&Note { mac: Some(mac(3)), address: Some([10, 0, 0, 7].into()), step }, 4);
        assert_eq!(journal.note(&by_address([10, 0, 0, 7], file("vmlinuz")), 5), Some(mac(3)));
        // A link-local address has the MAC address in it.
        let address = Some("fe80::5054:ff:fe00:4".parse().unwrap());
        let note = Note { mac: None, address, step: file("shimx64.efi") };
        assert_eq!(journal.note(&note, 6), Some(MacAddr([0x52, 0x54, 0, 0, 0, 4])));
        assert_eq!(journal.note(&by_address([192, 0, 2, 1], file("vmlinuz")), 7), None);
        assert_eq!(journal.seen().len(), 4);
    }

    #[test]
    fn a_flood_of_strangers_pushes_no_machine_out() {
        let journal = Journal::default();
        journal.note(&by_mac(mac(1), offered([10, 77, 1, 1].into())), 0);
        journal.note(&by_address([10, 77, 1, 1], file("shimx64.efi")), 0);
        for number in 10..10_010 {
            journal.note(&by_mac(mac(number), offered([10, 77, 1, 2].into())), u64::from(number));
        }
        let inner = journal.lock();
        assert_eq!(inner.strangers.len(), STRANGERS);
        assert_eq!(inner.machines.len(), STRANGERS + 1);
        assert!(inner.machines.contains_key(&mac(1)));
        drop(inner);
        let diagnosis = journal.diagnose(&[mac(9), mac(1)], &Facts::default(), 60_000).unwrap();
        assert_eq!(diagnosis.cause, crate::diagnosis::Cause::ShimRefused);
        journal.heard(&[mac(9), mac(1)], 1);
        assert_eq!(journal.diagnose(&[mac(9), mac(1)], &Facts::default(), 60_000), None);
    }

    #[test]
    fn one_machine_keeps_its_last_steps_and_counts_what_repeats() {
        let journal = Journal::default();
        for at in 0..1000 {
            journal.note(&by_mac(mac(1), offered([10, 77, 1, 1].into())), at);
        }
        assert_eq!(journal.lock().machines[&mac(1)].steps.len(), 1);
        assert_eq!(journal.lock().machines[&mac(1)].steps[0].times, 1000);
        for at in 0..1000 {
            journal.note(&by_address([10, 77, 1, 1], file(&format!("{at}.efi"))), 1000 + at);
        }
        assert_eq!(journal.lock().machines[&mac(1)].steps.len(), STEPS);
    }
}
