//! Consoles that people look at and type into.
//!
//! ```text
//! browser ──WebSocket──▶ open ──▶ wanted_of ──▶ desired state of the host
//!    ▲                    │                             │
//!    └───────carry────────┴◀──bring──◀── the host comes to the node API with the console's name
//! ```
//!
//! A console has a name that nobody can guess and only its host is told. Each is a pipe with a few kilobytes in it: who
//! reads slowly slows down what is shown to him, and to nobody else.

pub mod carry;
mod heard;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet::wire::{ConsoleKind, WantedConsole};
use fleet::{MachineId, VmId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use heard::Heard;

/// At once, of one thing and of all.
pub const MOST_OF_ONE: usize = 4;
pub const MOST: usize = 32;

/// A host hears of a console at once, by the answer that it waits for; after so long it will not come.
const COMES_WITHIN: Duration = Duration::from_secs(20);

/// Where xterm.js and noVNC are on the appliance's image.
pub const LIBRARIES: &str = "/usr/share/elisandra/web";

/// The bytes of a console, both ways.
pub trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

/// What comes of a console: its line, or why there is none.
pub type Answer = Result<Box<dyn Line>, String>;

/// All that are open, or are to be.
pub struct Consoles {
    open: Mutex<BTreeMap<Uuid, Open>>,
    /// Counts how often hosts were to be told something else.
    asked: watch::Sender<u64>,
    /// What machines in their initrd say.
    pub heard: Heard,
    /// The folder of what the pages show consoles with.
    pub libraries: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Vm(VmId, MachineId, ConsoleKind),
    /// Its serial line, by its BMC.
    Machine(MachineId),
    /// What it says in its initrd.
    Heard(MachineId),
}

impl Of {
    /// Those who only read take no place from those who type.
    fn is_read_only(self) -> bool {
        matches!(self, Of::Heard(_))
    }
}

struct Open {
    of: Of,
    /// Until its host has come.
    waits: Option<oneshot::Sender<Answer>>,
}

impl Default for Consoles {
    fn default() -> Self {
        Self::with(LIBRARIES)
    }
}

impl Consoles {
    /// With the libraries in another folder.
    pub fn with(libraries: impl Into<PathBuf>) -> Self {
        Self {
            open: Mutex::default(),
            asked: watch::Sender::new(0),
            heard: Heard::default(),
            libraries: libraries.into(),
        }
    }

    /// A place for a console of a VM, which `host` is to bring. Refused with a sentence where there are too many.
    pub fn of_vm(self: &Arc<Self>, vm: VmId, host: MachineId, kind: ConsoleKind) -> Result<Coming, String> {
        let (tell, answer) = oneshot::channel();
        let place = self.enter(Of::Vm(vm, host, kind), Some(tell))?;
        Ok(Coming { answer, place })
    }

    /// A place for the serial line of a machine.
    pub fn of_machine(self: &Arc<Self>, machine: MachineId) -> Result<Place, String> {
        self.enter(Of::Machine(machine), None)
    }

    /// A place for one who reads what a machine says.
    pub fn of_heard(self: &Arc<Self>, machine: MachineId) -> Result<Place, String> {
        self.enter(Of::Heard(machine), None)
    }

    fn enter(self: &Arc<Self>, of: Of, waits: Option<oneshot::Sender<Answer>>) -> Result<Place, String> {
        let mut open = self.lock();
        let alike = open.values().filter(|other| other.of.is_read_only() == of.is_read_only());
        if alike.count() >= MOST {
            return Err(format!("{MOST} consoles are open, and no more can be; close one"));
        }
        if open.values().filter(|other| other.of == of).count() >= MOST_OF_ONE {
            return Err(format!("this console is open {MOST_OF_ONE} times, and no more can be; close one"));
        }
        let id = Uuid::new_v4();
        open.insert(id, Open { of, waits });
        drop(open);
        self.tell();
        Ok(Place { consoles: Arc::clone(self), id })
    }

    /// What a host is to bring now.
    pub fn wanted_of(&self, host: MachineId) -> Vec<WantedConsole> {
        let open = self.lock();
        let wanted = open.iter().filter(|(_, open)| open.waits.is_some());
        wanted
            .filter_map(|(id, open)| match open.of {
                Of::Vm(vm, on, kind) if on == host => Some(WantedConsole { console: *id, vm, kind }),
                Of::Vm(..) | Of::Machine(_) | Of::Heard(_) => None,
            })
            .collect()
    }

    /// Tells when hosts are to be told something else.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// Whose console it is, and where its line goes; `None` if nobody waits for it. It can be brought once.
    pub fn take(&self, id: Uuid, host: MachineId) -> Option<(VmId, oneshot::Sender<Answer>)> {
        let mut open = self.lock();
        let waiting = open.get_mut(&id)?;
        let taken = match waiting.of {
            Of::Vm(vm, on, _) if on == host => waiting.waits.take().map(|tell| (vm, tell)),
            Of::Vm(..) | Of::Machine(_) | Of::Heard(_) => None,
        };
        drop(open);
        self.tell();
        taken
    }

    fn tell(&self) {
        self.asked.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the few consoles that can be open; given back when it is dropped.
pub struct Place {
    consoles: Arc<Consoles>,
    id: Uuid,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.consoles.lock().remove(&self.id);
        self.consoles.tell();
    }
}

/// A console that its host was told of.
pub struct Coming {
    answer: oneshot::Receiver<Answer>,
    place: Place,
}

impl Coming {
    pub async fn line(self) -> Result<(Box<dyn Line>, Place), String> {
        match tokio::time::timeout(COMES_WITHIN, self.answer).await {
            Ok(Ok(Ok(line))) => Ok((line, self.place)),
            Ok(Ok(Err(trouble))) => Err(trouble),
            Ok(Err(_)) => Err("its host began to bring the console, and then did not".to_owned()),
            Err(_) => Err(format!(
                "its host did not bring the console within {} s; it may be away, or of a version that cannot",
                COMES_WITHIN.as_secs()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: MachineId = MachineId(1);

    #[tokio::test]
    async fn a_console_is_brought_once_and_by_its_host() {
        let consoles = Arc::new(Consoles::default());
        let coming = consoles.of_vm(VmId(1), HOST, ConsoleKind::Serial).unwrap();
        let [wanted] = &consoles.wanted_of(HOST)[..] else { panic!("it is not wanted") };
        assert_eq!(wanted.vm, VmId(1));
        assert!(consoles.wanted_of(MachineId(2)).is_empty());
        assert!(consoles.take(wanted.console, MachineId(2)).is_none());
        assert!(consoles.take(Uuid::new_v4(), HOST).is_none());
        let (_, tell) = consoles.take(wanted.console, HOST).unwrap();
        assert!(consoles.take(wanted.console, HOST).is_none());
        assert!(consoles.wanted_of(HOST).is_empty());
        assert!(tell.send(Err("there is none".to_owned())).is_ok());
        assert_eq!(coming.line().await.err().unwrap(), "there is none");
        assert!(consoles.lock().is_empty());
    }

    #[test]
    fn only_so_many_are_open() {
        let consoles = Arc::new(Consoles::default());
        let open = |vm| consoles.of_vm(VmId(vm), HOST, ConsoleKind::Serial);
        let mut places: Vec<Coming> = (0..MOST_OF_ONE).map(|_| open(0).unwrap()).collect();
        assert!(open(0).err().unwrap().starts_with("this console is open 4 times"));
        places.extend((0..MOST - MOST_OF_ONE).map(|vm| open(vm as u64 + 1).unwrap()));
        assert!(open(99).err().unwrap().starts_with("32 consoles are open"));
        places.pop();
        assert!(open(99).is_ok());
    }
}
