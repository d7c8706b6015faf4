//! Erasing the disks of a machine: what is on them is to be gone, and it is written down what shows it.
//!
//! ```text
//! Found, Failed, Installed, Ready ──ask──▶ Erasing ──starts from the network──▶ disk after disk ──▶ Found, held
//!                ▲                            │                                     │ cancel: after this disk
//!                └─────────cancel─────────────┘                                     ▼
//!                                                                              Found, held
//! ```
//!
//! The machine is given one disk at a time. One that was restarted in the middle of a disk begins that disk again.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::disk::holds_data;
use super::report::MAX_ATTEMPTS;
use super::{Before, Machine, Phase, event, find, retire};
use crate::host::Host;
use crate::power::{Action, Order};
use crate::wire::{Disk, EraseDisk, EraseOutcome, Hardware, KnownDisk, Method, Proof};
use crate::{Ctx, Fleet, MachineId, Refusal, Timestamp, vm};

/// What a person wants to be erased.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erase {
    /// By serial number, stable name or path; all that are built in, if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<String>,
    #[serde(default)]
    pub method: Method,
    /// It leaves for good when all of them are erased.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retire: bool,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasing {
    pub method: Method,
    pub disks: Vec<Task>,
    /// It was cancelled; the disk that is under way is the last.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retire: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub disk: KnownDisk,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Waiting,
    Begun {
        attempt: u32,
        /// Of the start of the machine that does it.
        key: String,
    },
    Done,
    Failed {
        error: String,
    },
}

impl Erasing {
    pub fn begun(&self) -> bool {
        self.disks.iter().any(|task| task.state != State::Waiting)
    }

    /// The disk that is under way.
    pub fn current(&self) -> Option<EraseDisk> {
        self.disks.iter().zip(0..).find_map(|(task, number)| match &task.state {
            State::Begun { attempt, .. } => {
                Some(EraseDisk { number, attempt: *attempt, disk: task.disk.clone(), method: self.method })
            }
            State::Waiting | State::Done | State::Failed { .. } => None,
        })
    }

    pub fn done(&self) -> usize {
        self.disks.iter().filter(|task| task.state == State::Done).count()
    }

    /// How long it may stand where it is: a slow disk writes 50 MB in a second.
    pub(super) fn limit_secs(&self) -> u64 {
        match self.current() {
            Some(current) => 900 + current.disk.bytes / 50_000_000,
            None if self.begun() => 900,
            None => 1800,
        }
    }

    /// What stays unerased, as sentences.
    fn left(&self) -> Vec<String> {
        let left = self.disks.iter().filter_map(|Task { disk, state }| match state {
            State::Done => None,
            State::Waiting => Some(format!("{disk} was not touched")),
            State::Begun { .. } => Some(format!("{disk} was begun, and is not proven to be erased")),
            State::Failed { error } => Some(format!("{disk} is not erased: {error}")),
        });
        left.collect()
    }
}

/// What the certificate says of a machine, which may be gone when it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub name: String,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub serial: Option<String>,
    pub uuid: Option<uuid::Uuid>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Asked {
        machine: MachineId,
        about: About,
        disks: Vec<KnownDisk>,
        method: Method,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        retire: bool,
        at: Timestamp,
    },
    /// Before it has begun: the machine stays what it is.
    Cancelled {
        machine: MachineId,
        at: Timestamp,
    },
    Begun {
        machine: MachineId,
        number: u32,
        disk: KnownDisk,
        attempt: u32,
        /// Of the start of the machine that does it.
        key: String,
        at: Timestamp,
    },
    Done {
        machine: MachineId,
        number: u32,
        disk: KnownDisk,
        proof: Proof,
        at: Timestamp,
    },
    Failed {
        machine: MachineId,
        number: u32,
        disk: KnownDisk,
        step: String,
        error: String,
        at: Timestamp,
    },
    /// No other disk is begun.
    Stopping {
        machine: MachineId,
        at: Timestamp,
    },
    Ended {
        machine: MachineId,
        erased: u32,
        left: Vec<String>,
        at: Timestamp,
    },
}

impl Event {
    pub(crate) fn machine(&self) -> MachineId {
        match self {
            Event::Asked { machine, .. }
            | Event::Cancelled { machine, .. }
            | Event::Begun { machine, .. }
            | Event::Done { machine, .. }
            | Event::Failed { machine, .. }
            | Event::Stopping { machine, .. }
            | Event::Ended { machine, .. } => *machine,
        }
    }

    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Ended { left, .. } => left,
            Event::Asked { .. }
            | Event::Cancelled { .. }
            | Event::Begun { .. }
            | Event::Done { .. }
            | Event::Failed { .. }
            | Event::Stopping { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Asked { disks, method, retire, .. } => {
                let disks: Vec<String> = disks.iter().map(ToString::to_string).collect();
                let how = match method {
                    Method::Auto => "in the best way that each has".to_owned(),
                    method => format!("by {}", method.word()),
                };
                let then = if *retire { ", and then it is retired" } else { "" };
                write!(f, "To be erased {how}: {}{then}", disks.join(", "))
            }
            Event::Cancelled { .. } => f.write_str("Not erased: it stays what it is"),
            Event::Begun { disk, attempt: 1, .. } => write!(f, "Erasing {disk}"),
            Event::Begun { disk, attempt, .. } => {
                write!(f, "Erasing {disk} from its begin again, attempt {attempt}")
            }
            Event::Done { disk, proof, .. } => write!(f, "Erased {disk}: {proof}"),
            Event::Failed { disk, step, error, .. } => write!(f, "{disk} is not erased; {step}: {error}"),
            Event::Stopping { .. } => f.write_str("Erasing stops after the disk that is under way"),
            Event::Ended { erased, left, .. } if left.is_empty() => {
                write!(f, "All {erased} disks that were asked for are erased")
            }
            Event::Ended { erased, left, .. } => {
                write!(f, "Erasing ended: {erased} disks are erased, {} are not", left.len())
            }
        }
    }
}

pub(crate) fn ask(
    fleet: &Fleet,
    id: MachineId,
    order: &Erase,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    may_be_erased(fleet, machine)?;
    let Some(hardware) = &machine.hardware else {
        return Err(Refusal::Conflict(format!("{} has not said yet what it is made of", machine.name)));
    };
    let disks = chosen(machine, hardware, &order.disks)?;
    if order.retire {
        retire::may_leave(fleet, machine)?;
    }
    let about = About {
        name: machine.name.to_string(),
        manufacturer: hardware.manufacturer.clone(),
        product: hardware.product.clone(),
        serial: hardware.serial.clone(),
        uuid: hardware.uuid,
    };
    let Erase { method, retire, .. } = *order;
    Ok(vec![crate::Event::Erase(Event::Asked { machine: id, about, disks, method, retire, at: ctx.now })])
}

fn may_be_erased(fleet: &Fleet, machine: &Machine) -> Result<(), Refusal> {
    let name = &machine.name;
    let conflict = |sentence: String| Err(Refusal::Conflict(sentence));
    if machine.appliance {
        return conflict(format!(
            "the appliance runs on {name}, with all that it knows; its disks are not erased"
        ));
    }
    match &machine.phase {
        Phase::Reported | Phase::Failed { .. } | Phase::Installed | Phase::Ready => {}
        Phase::Sighted => {
            return conflict(format!(
                "{name} has not said yet what it is made of; wait until it has started from the network"
            ));
        }
        Phase::Adopted { .. } | Phase::Installing { .. } => {
            return conflict(format!("{name} is {}; cancel that first", machine.phase.word()));
        }
        Phase::Erasing(_) => return conflict(format!("{name} is being erased already")),
        Phase::Retired => {
            return conflict(format!("{name} is retired; take it back first: eli machine unretire {name}"));
        }
    }
    if machine.power.fence.as_ref().is_some_and(|fence| fence.off.is_none()) {
        return conflict(format!(
            "{name} is being fenced; wait until it is proven to be off, or cancel that"
        ));
    }
    let vms: Vec<&str> = vm::on_host(fleet, machine.id).map(|vm| vm.name.as_ref()).collect();
    if !vms.is_empty() {
        return conflict(format!(
            "{name} carries {}, whose disks would go; drain it and remove that first",
            vms.join(", ")
        ));
    }
    Ok(())
}

fn chosen(machine: &Machine, hardware: &Hardware, named: &[String]) -> Result<Vec<KnownDisk>, Refusal> {
    let mut chosen: Vec<&Disk> = Vec::new();
    if named.is_empty() {
        chosen.extend(hardware.disks.iter().filter(|disk| !disk.removable));
    }
    for name in named {
        let is_named = |disk: &&Disk| {
            disk.path == *name || disk.serial.as_ref() == Some(name) || disk.by_id.as_ref() == Some(name)
        };
        let mut disks = hardware.disks.iter().filter(is_named);
        match (disks.next(), disks.next()) {
            (Some(disk), None) if chosen.contains(&disk) => {}
            (Some(disk), None) => chosen.push(disk),
            (None, _) => return Err(Refusal::Missing { what: "disk", name: name.clone() }),
            (Some(_), Some(_)) => {
                return Err(Refusal::Conflict(format!("two disks are called {name}; name one by its path")));
            }
        }
    }
    if chosen.is_empty() {
        return Err(Refusal::Conflict(format!("{} has no disk that could be erased", machine.name)));
    }
    for disk in &chosen {
        // By its place alone it would be known again too, and another disk in that place with it.
        if disk.serial.is_none() && (named.is_empty() || disk.by_id.is_none()) {
            return Err(Refusal::Conflict(format!(
                "{} has no serial number by which it would be known again{}",
                disk.path,
                if disk.by_id.is_some() { "; name it, if it is to be erased all the same" } else { "" }
            )));
        }
        KnownDisk::of(disk).among(&hardware.disks).map_err(Refusal::Conflict)?;
    }
    Ok(chosen.into_iter().map(KnownDisk::of).collect())
}

/// The machine has started from the network and asks what it is to do. `key` is that of this start.
pub(super) fn next(machine: &Machine, hardware: &Hardware, key: &str, ctx: Ctx) -> Vec<Event> {
    let Phase::Erasing(erasing) = &machine.phase else { return Vec::new() };
    let (id, at) = (machine.id, ctx.now);
    let mut erasing = Erasing::clone(erasing);
    let mut events = Vec::new();
    for (task, number) in erasing.disks.iter_mut().zip(0..) {
        let attempts = match &task.state {
            State::Done | State::Failed { .. } => continue,
            // The answer to its last report was lost.
            State::Begun { key: known, .. } if known == key => return events,
            State::Begun { attempt, .. } => *attempt,
            State::Waiting => 0,
        };
        if erasing.stopping {
            break;
        }
        let error = match task.disk.among(&hardware.disks) {
            Ok(_) if attempts < MAX_ATTEMPTS => {
                let (disk, key) = (task.disk.clone(), key.to_owned());
                events.push(Event::Begun { machine: id, number, disk, attempt: attempts + 1, key, at });
                return events;
            }
            Ok(_) => format!("it was begun {attempts} times and never ended; does the machine lose power?"),
            Err(sentence) => sentence,
        };
        let disk = task.disk.clone();
        task.state = State::Failed { error: error.clone() };
        events.push(Event::Failed {
            machine: id,
            number,
            disk,
            step: "looking for it".to_owned(),
            error,
            at,
        });
    }
    events.push(ended(id, &erasing, ctx));
    events
}

fn ended(machine: MachineId, erasing: &Erasing, ctx: Ctx) -> Event {
    let erased = u32::try_from(erasing.done()).unwrap_or(u32::MAX);
    Event::Ended { machine, erased, left: erasing.left(), at: ctx.now }
}

/// What a machine says came of the disk that it was given.
pub(crate) fn erased(
    fleet: &Fleet,
    id: MachineId,
    number: u32,
    attempt: u32,
    outcome: &EraseOutcome,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let erasing = match &machine.phase {
        Phase::Erasing(erasing) => erasing,
        phase => {
            return Err(Refusal::Conflict(format!(
                "{} is {}; no disk of it is being erased",
                machine.name,
                phase.word()
            )));
        }
    };
    let current = erasing.current().filter(|it| it.number == number && it.attempt == attempt);
    let Some(EraseDisk { disk, .. }) = current else {
        let task = usize::try_from(number).ok().and_then(|number| erasing.disks.get(number));
        // The answer to the first word was lost on the way.
        if task.is_some_and(|task| matches!(task.state, State::Done | State::Failed { .. })) {
            return Ok(Vec::new());
        }
        return Err(Refusal::Conflict(format!(
            "attempt {attempt} at disk {number} of {} is over",
            machine.name
        )));
    };
    let event = match outcome.clone() {
        EraseOutcome::Done(proof) => Event::Done { machine: id, number, disk, proof, at: ctx.now },
        EraseOutcome::Failed { step, error } => {
            Event::Failed { machine: id, number, disk, step, error, at: ctx.now }
        }
    };
    let mut after = fleet.clone();
    evolve(&mut after, &event);
    let mut events = vec![crate::Event::Erase(event)];
    if let Some(Phase::Erasing(erasing)) = after.machines.get(&id).map(|machine| &machine.phase)
        && (erasing.stopping || erasing.disks.iter().all(|task| task.state != State::Waiting))
    {
        events.extend(end(&after, id, erasing, ctx));
    }
    Ok(events)
}

/// It has come to its end, and to what was to follow.
fn end(fleet: &Fleet, id: MachineId, erasing: &Erasing, ctx: Ctx) -> Vec<crate::Event> {
    let whole = erasing.retire && erasing.left().is_empty();
    let mut after = fleet.clone();
    let ended = crate::Event::Erase(ended(id, erasing, ctx));
    crate::evolve(&mut after, &ended);
    let leaves = if whole { retire::retire(&after, id, ctx).unwrap_or_default() } else { Vec::new() };
    std::iter::once(ended).chain(leaves).collect()
}

/// Before it has begun, the machine stays what it is; afterwards no other disk is begun.
pub(super) fn cancel(machine: &Machine, erasing: &Erasing, ctx: Ctx) -> Result<crate::Event, Refusal> {
    let (id, at) = (machine.id, ctx.now);
    Ok(crate::Event::Erase(match (erasing.begun(), erasing.stopping) {
        (false, _) => Event::Cancelled { machine: id, at },
        (true, false) => Event::Stopping { machine: id, at },
        (true, true) => {
            return Err(Refusal::Conflict(format!(
                "erasing {} stops after the disk that is under way; one that is begun cannot be had back",
                machine.name
            )));
        }
    }))
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Asked { machine, disks, method, retire, at, .. } => {
            let host = fleet.hosts.get(machine).map(|host| Host::clone(host));
            let tasks = disks.iter().map(|disk| Task { disk: disk.clone(), state: State::Waiting });
            let erasing =
                Erasing { method: *method, disks: tasks.collect(), stopping: false, retire: *retire };
            event::enter(fleet, *machine, *at, |machine| {
                // One that waits in the initrd needs no restart.
                let runs = matches!(machine.phase, Phase::Installed | Phase::Ready)
                    || machine.hardware.as_ref().is_some_and(holds_data);
                let was = std::mem::replace(&mut machine.phase, Phase::Erasing(Box::new(erasing)));
                machine.before = Some(Box::new(Before { phase: was, system: machine.system.take(), host }));
                machine.once = None;
                machine.power.fence = None;
                let restart = Order::new(Action::Netboot, *at);
                machine.power.order = (runs && machine.power.is_switchable()).then_some(restart);
            });
            fleet.remove_host(*machine);
        }
        Event::Cancelled { machine, at } => event::as_before(fleet, *machine, *at),
        Event::Begun { machine, number, attempt, key, at, .. } => {
            event::enter(fleet, *machine, *at, |machine| {
                machine.before = None;
                // It has started from the network, which is all that was wanted of its power.
                machine.power.order = None;
                set(machine, *number, State::Begun { attempt: *attempt, key: key.clone() });
            });
        }
        Event::Done { machine, number, at, .. } => {
            event::enter(fleet, *machine, *at, |machine| set(machine, *number, State::Done));
        }
        Event::Failed { machine, number, error, at, .. } => {
            event::enter(fleet, *machine, *at, |machine| {
                set(machine, *number, State::Failed { error: error.clone() });
            });
        }
        Event::Stopping { machine, .. } => fleet.change_machine(*machine, |machine| {
            if let Phase::Erasing(erasing) = &mut machine.phase {
                erasing.stopping = true;
            }
        }),
        Event::Ended { machine, at, .. } => event::enter(fleet, *machine, *at, |machine| {
            machine.phase = Phase::Reported;
            machine.attempts = 0;
            machine.held = true;
            machine.system = None;
            machine.disk = None;
            machine.before = None;
        }),
    }
}

fn set(machine: &mut Machine, number: u32, state: State) {
    let Phase::Erasing(erasing) = &mut machine.phase else { return };
    let task = usize::try_from(number).ok().and_then(|number| erasing.disks.get_mut(number));
    if let Some(task) = task {
        task.state = state;
    }
}
