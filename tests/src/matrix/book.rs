//! A [`Directory`] that is told what each machine boots, and keeps what is said of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use ipnet::Ipv6Net;
use pxe::diagnosis::{Diagnosis, Facts, Journal, Millis};
use pxe::{Assignment, Boot, Directory, MacAddr, Network, Note, Refused, Sight, Step};

pub struct Book {
    network: Arc<Network>,
    /// If there is one, nothing is given away over IPv4.
    network6: Option<Ipv6Net>,
    kept: Mutex<Kept>,
    journal: Journal,
}

#[derive(Default)]
struct Kept {
    boots: BTreeMap<MacAddr, Vec<Boot>>,
    given: BTreeMap<MacAddr, Ipv4Addr>,
    notes: Vec<(Instant, Option<MacAddr>, String)>,
}

impl Book {
    /// Gives addresses from the second half of `network`, which is a /16.
    pub fn new(network: Network, network6: Option<Ipv6Net>) -> Arc<Book> {
        Arc::new(Book {
            network: Arc::new(network),
            network6,
            kept: Mutex::default(),
            journal: Journal::default(),
        })
    }

    pub fn expect(&self, mac: MacAddr, boots: Vec<Boot>) {
        self.kept().boots.insert(mac, boots);
    }

    /// Another server gives it this address.
    pub fn knows(&self, mac: MacAddr, address: Ipv4Addr) {
        self.kept().given.insert(mac, address);
    }

    /// Its timeline.
    pub fn lines(&self, mac: MacAddr) -> Vec<String> {
        self.kept()
            .notes
            .iter()
            .filter(|(_, of, _)| *of == Some(mac))
            .map(|(_, _, line)| line.clone())
            .collect()
    }

    pub fn first(&self, mac: MacAddr, part: &str) -> Option<Instant> {
        let kept = self.kept();
        let mut notes = kept.notes.iter();
        notes.find(|(_, of, line)| *of == Some(mac) && line.contains(part)).map(|(at, _, _)| *at)
    }

    /// What a person is told is the matter with it now.
    pub fn diagnosis(&self, mac: MacAddr) -> Option<Diagnosis> {
        self.journal.diagnose(&[mac], &Facts::default(), now())
    }

    /// For a person: with the seconds since `start`.
    pub fn timeline(&self, mac: MacAddr, start: Instant) -> String {
        let kept = self.kept();
        let mine = kept.notes.iter().filter(|(at, of, _)| *of == Some(mac) && *at >= start);
        mine.map(|(at, _, line)| format!("{:>6.1} s  {line}\n", (*at - start).as_secs_f64())).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assignment(&self, mac: MacAddr) -> Assignment {
        let mut kept = self.kept();
        let [a, b, _, _] = self.network.subnet.network().octets();
        let next = u8::try_from(kept.given.len()).unwrap_or(u8::MAX);
        let address = *kept.given.entry(mac).or_insert(Ipv4Addr::new(a, b, 128, next));
        Assignment { address, hostname: None, lease_secs: 3600, network: self.network.clone() }
    }
}

#[async_trait::async_trait]
impl Directory for Book {
    async fn offer(&self, sight: &Sight) -> Result<Assignment, Refused> {
        Ok(self.assignment(sight.mac))
    }

    async fn commit(&self, sight: &Sight) -> Result<Assignment, Refused> {
        Ok(self.assignment(sight.mac))
    }

    async fn quarantine(&self, _: MacAddr, _: Ipv4Addr) {}

    fn network(&self, _: Option<Ipv4Addr>) -> Option<Arc<Network>> {
        self.network6.is_none().then(|| self.network.clone())
    }

    fn network6(&self) -> Option<Ipv6Net> {
        self.network6
    }

    fn boot(&self, mac: MacAddr) -> Boot {
        let kept = self.kept();
        kept.boots.get(&mac).and_then(|boots| boots.first()).cloned().unwrap_or(Boot::Disk)
    }

    async fn answers(&self, _: &str, _: IpAddr) -> Result<String, Refused> {
        Err(Refused("nothing is being installed".to_owned()))
    }

    fn note(&self, note: Note) {
        let mut kept = self.kept();
        let by_address = || {
            let asked = match (note.address?, self.network6) {
                (IpAddr::V6(address), Some(network)) => pxe::dhcp6::ipv4_of(network, address)?.into(),
                (address, _) => address,
            };
            kept.given.iter().find(|(_, address)| IpAddr::V4(**address) == asked).map(|(mac, _)| *mac)
        };
        let mac = note.mac.or_else(by_address);
        self.journal.note(&Note { mac, ..note.clone() }, now());
        // The script has been served: what stands behind it comes next.
        if let (Step::Script { .. }, Some(mac)) = (&note.step, mac)
            && let Some(boots) = kept.boots.get_mut(&mac)
            && boots.len() > 1
        {
            boots.remove(0);
        }
        kept.notes.push((Instant::now(), mac, note.step.to_string()));
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
