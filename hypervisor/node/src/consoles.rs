//! Brings the consoles of a host's virtual machines to the appliance, which asks for them in the desired state.
//!
//! The console of a machine is a socket that QEMU listens at. A graphic one takes as many as come; a serial one takes
//! one, so all that look at the same share it: each is shown what was said last and then what is said, and types into
//! it with the others.

mod serial;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use fleet::VmId;
use fleet::wire::{ConsoleKind, ConsoleTrouble, Desired, WantedConsole};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

use crate::member::{Member, Membership};
use serial::Serial;

/// Where a console is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub socket: PathBuf,
    /// What was said so far, of a serial one.
    pub log: Option<PathBuf>,
}

/// Finds the console of a machine, or says why it has none. It may block.
pub type Find = dyn Fn(VmId, ConsoleKind) -> anyhow::Result<Place> + Send + Sync;

pub struct Consoles {
    find: Box<Find>,
    /// Those that were asked for; each is brought once.
    asked: Mutex<BTreeSet<Uuid>>,
    serials: tokio::sync::Mutex<BTreeMap<VmId, std::sync::Weak<Serial>>>,
}

impl Consoles {
    pub fn new(find: Box<Find>) -> Arc<Self> {
        Arc::new(Self { find, asked: Mutex::default(), serials: tokio::sync::Mutex::default() })
    }

    /// Brings what is asked for, for ever; ends when nothing is desired any more.
    pub async fn attend(
        self: Arc<Self>,
        mut desired: watch::Receiver<Option<Desired>>,
        membership: Arc<Membership>,
    ) {
        loop {
            let wanted = desired.borrow_and_update().as_ref().map(|desired| desired.consoles.clone());
            if let Some(wanted) = wanted {
                self.bring(&wanted, &membership.member().await);
            }
            if desired.changed().await.is_err() {
                return;
            }
        }
    }

    /// Brings each of `wanted` that was not brought before, in the background.
    pub fn bring(self: &Arc<Self>, wanted: &[WantedConsole], member: &Member) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|console| wanted.iter().any(|wanted| wanted.console == *console));
        for wanted in wanted {
            if asked.insert(wanted.console) {
                tokio::spawn(Arc::clone(self).bring_one(wanted.clone(), member.clone()));
            }
        }
    }

    async fn bring_one(self: Arc<Self>, wanted: WantedConsole, member: Member) {
        let WantedConsole { console, vm, kind } = wanted;
        info!(vm.id = %vm, "Bringing the {} console of {vm}", kind.word());
        let trouble = match self.connect(vm, kind).await {
            Ok(connected) => match member.client.console(member.node, console).await {
                Ok(line) => return connected.carry(line).await,
                // Who asked has left; there is nobody to be told.
                Err(error) => {
                    return warn!("The console of {vm} was not taken: {:#}", anyhow::Error::from(error));
                }
            },
            Err(error) => format!("{error:#}"),
        };
        warn!("The console of {vm} cannot be brought: {trouble}");
        let trouble = ConsoleTrouble { error: trouble };
        if let Err(error) = member.client.console_trouble(member.node, console, &trouble).await {
            warn!("That was not heard: {:#}", anyhow::Error::from(error));
        }
    }

    async fn connect(self: &Arc<Self>, vm: VmId, kind: ConsoleKind) -> anyhow::Result<Connected> {
        let finder = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || (finder.find)(vm, kind)).await;
        let place = found.context("looking for the console")??;
        match kind {
            ConsoleKind::Graphic => Ok(Connected::Graphic(open(&place).await?)),
            ConsoleKind::Serial => {
                let mut serials = self.serials.lock().await;
                serials.retain(|_, serial| serial.strong_count() > 0);
                let shared = serials.get(&vm).and_then(std::sync::Weak::upgrade);
                if let Some(serial) = shared.filter(|serial| serial.is_open()) {
                    return Ok(Connected::Serial(serial));
                }
                let serial = Serial::open(open(&place).await?, place.log.as_deref());
                serials.insert(vm, Arc::downgrade(&serial));
                Ok(Connected::Serial(serial))
            }
        }
    }
}

async fn open(place: &Place) -> anyhow::Result<UnixStream> {
    let socket = UnixStream::connect(&place.socket).await;
    socket.with_context(|| format!("opening the console at {}", place.socket.display()))
}

enum Connected {
    Serial(Arc<Serial>),
    Graphic(UnixStream),
}

impl Connected {
    async fn carry(self, mut line: reqwest::Upgraded) {
        match self {
            Connected::Serial(serial) => serial.carry(line).await,
            // Either side may go at any moment; there is nothing to be said of it.
            Connected::Graphic(mut socket) => {
                let _ = tokio::io::copy_bidirectional(&mut socket, &mut line).await;
            }
        }
    }
}
