//! A simple [`Directory`]: addresses in the order of asking, one boot answer for all, notes kept.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use pxe::{Assignment, Boot, Directory, MacAddr, Note, NoteKind, Refused, Sight};

pub struct Book {
    pub boot: Boot,
    given: Mutex<BTreeMap<MacAddr, Ipv4Addr>>,
    committed: Mutex<Vec<MacAddr>>,
    notes: Mutex<Vec<Note>>,
}

impl Book {
    pub fn new(boot: Boot) -> Arc<Self> {
        Arc::new(Self { boot, given: Mutex::default(), committed: Mutex::default(), notes: Mutex::default() })
    }

    #[allow(dead_code, reason = "each test binary uses its part of this module")]
    pub fn committed(&self) -> Vec<MacAddr> {
        self.committed.lock().unwrap().clone()
    }

    #[allow(dead_code, reason = "each test binary uses its part of this module")]
    pub fn notes(&self) -> Vec<Note> {
        self.notes.lock().unwrap().clone()
    }

    /// Waits for a note, as transfers are noted when they end, a moment after the client has it all.
    #[allow(dead_code, reason = "each test binary uses its part of this module")]
    pub async fn noted(&self, kind: NoteKind, words: &str) -> Note {
        for _ in 0..500 {
            if let Some(note) =
                self.notes().into_iter().find(|note| note.kind == kind && note.text.contains(words))
            {
                return note;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no note of {kind:?} with {words:?} among {:#?}", self.notes());
    }

    fn assignment(&self, sight: &Sight) -> Assignment {
        let mut given = self.given.lock().unwrap();
        let next = u8::try_from(given.len()).unwrap();
        let address = *given.entry(sight.mac).or_insert_with(|| [10, 77, 1, next].into());
        Assignment { address, hostname: Some(format!("m{}", address.octets()[3])), lease_secs: 3600 }
    }
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

    fn boot(&self, _: MacAddr) -> Boot {
        self.boot
    }

    fn note(&self, note: Note) {
        self.notes.lock().unwrap().push(note);
    }
}
