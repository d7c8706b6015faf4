//! A simple [`Directory`]: addresses in the order of asking, one boot answer for all, notes kept.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ipnet::Ipv6Net;
use pxe::{Assignment, Boot, Directory, MacAddr, Network, Note, NoteKind, Refused, Sight};

pub struct Book {
    pub boot: Boot,
    network6: Option<Ipv6Net>,
    /// Whether DHCP for IPv4 has addresses.
    ipv4: bool,
    pub lease_secs: AtomicU32,
    quarantined: Mutex<Vec<(MacAddr, Ipv4Addr)>>,
    given: Mutex<BTreeMap<MacAddr, Ipv4Addr>>,
    committed: Mutex<Vec<MacAddr>>,
    notes: Mutex<Vec<Note>>,
}

impl Book {
    pub fn new(boot: Boot) -> Arc<Self> {
        Self::with(boot, None, true)
    }

    /// Of a network with IPv6, and with IPv4 or without.
    pub fn six(boot: Boot, ipv4: bool) -> Arc<Self> {
        Self::with(boot, Some(network6()), ipv4)
    }

    fn with(boot: Boot, network6: Option<Ipv6Net>, ipv4: bool) -> Arc<Self> {
        Arc::new(Self {
            boot,
            network6,
            ipv4,
            lease_secs: AtomicU32::new(3600),
            quarantined: Mutex::default(),
            given: Mutex::default(),
            committed: Mutex::default(),
            notes: Mutex::default(),
        })
    }

    pub fn quarantined(&self) -> Vec<(MacAddr, Ipv4Addr)> {
        self.quarantined.lock().unwrap().clone()
    }

    pub fn committed(&self) -> Vec<MacAddr> {
        self.committed.lock().unwrap().clone()
    }

    pub fn notes(&self) -> Vec<Note> {
        self.notes.lock().unwrap().clone()
    }

    /// Forgets what was noted.
    pub fn forget(&self) {
        self.notes.lock().unwrap().clear();
    }

    /// Waits for a note, as transfers are noted when they end, a moment after the client has it all.
    pub async fn noted(&self, kind: NoteKind, words: &str) -> Note {
        for _ in 0..500 {
            if let Some(note) = self
                .notes()
                .into_iter()
                .find(|note| note.step.kind() == kind && note.step.to_string().contains(words))
            {
                return note;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no note of {kind:?} with {words:?} among {:#?}", self.notes());
    }

    fn assignment(&self, sight: &Sight) -> Assignment {
        let mut given = self.given.lock().unwrap();
        let next = u8::try_from(given.len() + self.quarantined.lock().unwrap().len()).unwrap();
        // Also where IPv4 is not served: an address of IPv6 ends with it.
        let network = self.network(sight.link).unwrap_or_else(network);
        let mut pool = network.subnet.network().octets();
        pool[2] += 1;
        pool[3] = next;
        let address = *given.entry(sight.mac).or_insert(pool.into());
        Assignment {
            address,
            hostname: Some(format!("m{}", address.octets()[3])),
            lease_secs: self.lease_secs.load(Ordering::Relaxed),
            network,
        }
    }
}

/// The IPv6 network of the tests.
pub fn network6() -> Ipv6Net {
    "fd12:3456:789a:1::/64".parse().unwrap()
}

/// 10.77.0.0/16, with the appliance at its first address as router and for names.
pub fn network() -> Arc<Network> {
    let appliance = Ipv4Addr::new(10, 77, 0, 1);
    Arc::new(Network {
        subnet: "10.77.0.0/16".parse().unwrap(),
        router: Some(appliance),
        dns: vec![appliance],
        domain: "elisandra".to_owned(),
        ntp: Vec::new(),
        routes: Vec::new(),
        mtu: None,
    })
}

/// 10.78.0.0/16, behind a relay at its first address.
pub fn beyond_a_relay() -> Arc<Network> {
    let relay = Ipv4Addr::new(10, 78, 0, 1);
    let subnet = "10.78.0.0/16".parse().unwrap();
    Arc::new(Network { subnet, router: Some(relay), dns: vec![relay], ..Network::clone(&network()) })
}

#[async_trait::async_trait]
impl Directory for Book {
    async fn offer(&self, sight: &Sight) -> Result<Assignment, Refused> {
        if sight.hostname.as_deref() == Some("unwanted") {
            return Err(Refused("this machine is not wanted".to_owned()));
        }
        Ok(self.assignment(sight))
    }

    async fn commit(&self, sight: &Sight) -> Result<Assignment, Refused> {
        // As long as a slow disk takes: the ACK has to wait for it.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.committed.lock().unwrap().push(sight.mac);
        Ok(self.assignment(sight))
    }

    fn knows(&self, mac: MacAddr) -> bool {
        self.committed.lock().unwrap().contains(&mac)
    }

    async fn quarantine(&self, mac: MacAddr, address: Ipv4Addr) {
        self.quarantined.lock().unwrap().push((mac, address));
        self.given.lock().unwrap().remove(&mac);
        self.committed.lock().unwrap().retain(|known| *known != mac);
    }

    fn network(&self, link: Option<Ipv4Addr>) -> Option<Arc<Network>> {
        let beyond = beyond_a_relay();
        let there = |network: &Arc<Network>| link.is_none_or(|link| network.subnet.contains(&link));
        [network(), beyond].into_iter().find(|network| self.ipv4 && there(network))
    }

    fn network6(&self) -> Option<Ipv6Net> {
        self.network6
    }

    fn boot(&self, _: MacAddr) -> Boot {
        self.boot.clone()
    }

    /// One installation, by the machine at 127.0.0.1.
    async fn answers(&self, path: &str, from: IpAddr) -> Result<String, Refused> {
        match path {
            "t0k3n/preseed.cfg" if from == IpAddr::from([127, 0, 0, 1]) => Ok("d-i".to_owned()),
            "t0k3n/preseed.cfg" => Err(Refused(format!("{from} is not the machine that is being installed"))),
            _ => Err(Refused("nothing is being installed".to_owned())),
        }
    }

    fn note(&self, note: Note) {
        self.notes.lock().unwrap().push(note);
    }
}
