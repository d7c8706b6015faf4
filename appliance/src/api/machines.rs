//! `/api/v1/machines`: computers that were found, adopted or given up.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use fleet::machine::{self, Phase};
use fleet::wire::{Disk, Firmware, Hardware};
use fleet::{Command, Fleet, Mac, MachineId, NodeId, Observed, Plan, Refusal, Subject, Timestamp, rack};
use pxe::diagnosis::{Facts, Journal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, Force, Json, Wait, erase, power, strips, switches, waiting};
use crate::core::now;
use crate::{App, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    pub id: MachineId,
    pub name: String,
    /// sighted, found, adopted, installing, installed, ready, failed, erasing, retired
    pub phase: String,
    /// When it came into this phase.
    pub since: Timestamp,
    /// The appliance runs on it.
    pub appliance: bool,
    pub addresses: Vec<Ipv4Addr>,
    pub macs: Vec<Mac>,
    pub firmware: Option<String>,
    /// The hardware in one line.
    pub summary: Option<String>,
    pub hardware: Option<Hardware>,
    pub attempts: u32,
    /// The profile that it is to be, or was, installed with, where that is not our own system.
    #[serde(default)]
    pub profile: Option<String>,
    pub waiting: Vec<Wait>,
    /// Why it does not boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// Whether a person may adopt it now.
    pub adoptable: bool,
    /// The disk that adopting it would wipe although it holds data.
    pub question: Option<Question>,
    /// When its host agent last spoke.
    pub seen_at: Option<Timestamp>,
    /// Whether something goes on with it that can be cancelled.
    pub cancellable: bool,
    /// When it was said that it takes longer than it should.
    pub late: Option<Timestamp>,
    /// What it boots at its next start, and only then: rescue, memtest, network, disk.
    pub once: Option<machine::Once>,
    /// Where it stands: `unit 3 of rack r1`.
    pub place: Option<String>,
    /// The switch ports that its NICs are in: `port 7 of sw1`.
    pub ports: Vec<String>,
    /// Serial or path of the disk that its system is on, or is to be.
    #[serde(default)]
    pub system_disk: Option<String>,
    /// What switches its power.
    #[serde(default)]
    pub bmc: Option<power::BmcShown>,
    /// The outlets that it is plugged into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlets: Option<strips::OutletsShown>,
    /// What its BMC, or its power strip if it has no BMC, said last.
    #[serde(default)]
    pub power: Option<power::PowerShown>,
    /// What is wanted of its power and is not so yet.
    #[serde(default)]
    pub order: Option<power::OrderShown>,
    #[serde(default)]
    pub fence: Option<power::FenceShown>,
    /// Its identify LED is to be lit.
    #[serde(default)]
    pub light: bool,
    /// Its disks are to be erased, or are being.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasing: Option<erase::Erasing>,
    /// The last check of its disks, or the one that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<machine::Check>,
    /// What can be done with it, and why what cannot; only where one machine is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<power::ActionShown>,
}

/// Why a machine does not boot, as docs/booting.md has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trouble {
    /// `offer-lost`, `shim-refused`: one word for each cause.
    pub cause: String,
    /// What was seen, with names and times.
    pub what: String,
    /// What is likely.
    pub why: String,
    /// What to do.
    pub next_step: String,
    pub since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// What to put into `wipe` when adopting: the disk's serial, or its path if it has none.
    pub serial: String,
    pub disk: String,
    pub bytes: u64,
    /// `ext4 'data'`; empty if this disk is blank and another one holds data.
    pub holds: String,
    /// `this disk holds ext4 'data'; wipe it?`
    pub sentence: String,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// Serials (or paths, of disks that have none) of the disks that may be wiped although they hold data.
    #[serde(default)]
    pub wipe: Vec<String>,
    /// What it is installed with; our own system, if it is not said.
    #[serde(default)]
    pub profile: Option<String>,
    /// Serial, stable name or path of the disk; the one that is chosen by itself, if it is not said.
    #[serde(default)]
    pub disk: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootNext {
    /// rescue, memtest, network, disk; null takes it back.
    pub once: Option<machine::Once>,
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Machine>, web::Error> {
    let (fleet, observed, plan) = (app.core.fleet(), app.core.observed(), app.core.plan());
    let machines = fleet.machines.range(page.range::<MachineId>()?).map(|(_, machine)| machine.as_ref());
    let part = page.of(machines, |machine| machine.id);
    Ok(part.made(|machines| documents(&app, &fleet, &observed, &plan, machines)))
}

pub async fn adopt(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<axum::Json<Changed>, web::Error> {
    let fleet = app.core.fleet();
    let machine = find(&fleet, &id)?;
    // `curl -X POST` without a body is enough where there is nothing to wipe.
    let Adopt { wipe, profile, disk } =
        if body.is_empty() { Adopt::default() } else { axum::Json::from_bytes(&body)?.0 };
    if let Some(question) = question(machine).filter(|_| disk.is_none())
        && !wipe.is_empty()
        && !wipe.contains(&question.serial)
    {
        return Err(Refusal::Conflict(format!(
            "{} would be installed on {} (serial {}), which is not what may be wiped: {}",
            machine.name,
            question.disk,
            question.serial,
            wipe.join(", ")
        ))
        .into());
    }
    // Asking whether to wipe would be idle where wiping does not help.
    if let Some(hardware) = machine.hardware.as_ref().filter(|_| is_adoptable(machine) && disk.is_none()) {
        machine::target_disk(hardware, true)?;
    }
    let wipe = match &disk {
        // One that is named is wiped only if it is named here, too.
        Some(disk) => wipe.contains(disk),
        None => !wipe.is_empty(),
    };
    let command = Command::Adopt { machine: machine.id, wipe, profile, disk };
    person.gives(&app, command).await
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = find(&app.core.fleet(), &id)?.id;
    let command = Command::RemoveMachine { machine, force };
    person.gives(&app, command).await
}

pub async fn cancel(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    let subject = Subject::Machine(find(&app.core.fleet(), &id)?.id);
    person.gives(&app, Command::Cancel { subject }).await
}

pub async fn boot(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Json(BootNext { once }): Json<BootNext>,
) -> Result<axum::Json<Changed>, web::Error> {
    let machine = find(&app.core.fleet(), &id)?.id;
    person.gives(&app, Command::BootOnce { machine, once }).await
}

pub async fn get(State(app): State<App>, Path(id): Path<String>) -> Result<axum::Json<Machine>, web::Error> {
    Ok(axum::Json(one(&app, find(&app.core.fleet(), &id)?)))
}

/// One machine, with what can be done with it.
pub fn one(app: &App, machine: &machine::Machine) -> Machine {
    let (fleet, observed, plan) = (app.core.fleet(), app.core.observed(), app.core.plan());
    let (journal, others) = (app.core.journal(), app.wires.others());
    let trouble = trouble(&fleet, machine, &observed, journal, &others);
    let actions = power::actions(&fleet, machine);
    Machine { actions, ..document(app, &fleet, machine, &observed, &plan, trouble) }
}

pub fn all(app: &App, fleet: &Fleet, observed: &Observed, plan: &Plan) -> Vec<Machine> {
    documents(app, fleet, observed, plan, fleet.machines.values().map(Arc::as_ref))
}

pub fn documents<'a>(
    app: &App,
    fleet: &Fleet,
    observed: &Observed,
    plan: &Plan,
    machines: impl IntoIterator<Item = &'a machine::Machine>,
) -> Vec<Machine> {
    let (journal, others) = (app.core.journal(), app.wires.others());
    let document = |machine| {
        document(app, fleet, machine, observed, plan, trouble(fleet, machine, observed, journal, &others))
    };
    machines.into_iter().map(document).collect()
}

pub fn trouble_of(
    app: &App,
    fleet: &Fleet,
    machine: &machine::Machine,
    observed: &Observed,
) -> Option<Trouble> {
    trouble(fleet, machine, observed, app.core.journal(), &app.wires.others())
}

fn document(
    app: &App,
    fleet: &Fleet,
    machine: &machine::Machine,
    observed: &Observed,
    plan: &Plan,
    trouble: Option<Trouble>,
) -> Machine {
    Machine {
        id: machine.id,
        name: machine.name.to_string(),
        phase: machine.phase.word().to_owned(),
        since: machine.since,
        appliance: machine.appliance,
        addresses: addresses(fleet, machine),
        macs: machine.macs.clone(),
        firmware: firmware(machine).map(str::to_owned),
        summary: machine.hardware.as_ref().map(summary),
        hardware: machine.hardware.clone(),
        attempts: machine.attempts,
        profile: machine.system.as_ref().map(|system| system.profile.clone()),
        waiting: waiting(plan, Subject::Machine(machine.id)),
        trouble,
        adoptable: is_adoptable(machine),
        question: question(machine),
        seen_at: observed.get(&NodeId::Machine(machine.id)).map(|node| node.at),
        cancellable: matches!(machine.phase, Phase::Adopted { .. } | Phase::Installing { .. })
            || matches!(&machine.phase, Phase::Erasing(erasing) if !erasing.stopping)
            || fleet::power::wanted(machine).is_some(),
        late: machine.late,
        once: machine.once,
        place: rack::place_of(fleet, &rack::Occupant::Machine(machine.id)).map(|place| place.to_string()),
        ports: switches::of_machine(fleet, machine),
        system_disk: machine
            .disk
            .as_ref()
            .map(|disk| disk.serial.clone().unwrap_or_else(|| disk.path.clone())),
        bmc: power::bmc(app, machine),
        outlets: strips::of(app, machine),
        power: power::power(app, machine),
        order: power::order(machine),
        fence: power::fence_of(machine),
        light: machine.power.light,
        erasing: erase::erasing(machine),
        check: machine.check.as_deref().cloned(),
        actions: Vec::new(),
    }
}

fn trouble(
    fleet: &Fleet,
    machine: &machine::Machine,
    observed: &Observed,
    journal: &Journal,
    others: &[(IpAddr, pxe::MacAddr)],
) -> Option<Trouble> {
    // It runs the program that would show this.
    if machine.appliance || machine.phase == Phase::Retired {
        return None;
    }
    let seen = observed.get(&NodeId::Machine(machine.id)).map(|node| node.at.0);
    // What it was last heard to do: it reports in the phases that it has come to by itself.
    let reported = match machine.phase {
        Phase::Sighted | Phase::Adopted { .. } | Phase::Retired => None,
        Phase::Reported
        | Phase::Installing { .. }
        | Phase::Installed
        | Phase::Ready
        | Phase::Erasing(_)
        | Phase::Failed { .. } => Some(machine.since.0),
    };
    // They are heard on the served link, and say nothing of a machine behind a relay.
    let link = fleet.site.as_ref().map(|site| site.network);
    let addresses = addresses(fleet, machine);
    let is_here =
        addresses.is_empty() || addresses.iter().any(|it| link.is_some_and(|link| link.contains(it)));
    let to_come = match &machine.phase {
        Phase::Adopted { .. } => true,
        Phase::Erasing(erasing) => !erasing.begun(),
        _ => false,
    };
    let facts = Facts {
        reports: true,
        reported: seen.max(reported),
        // Adopted, and not taken up: it has to come over the network once more.
        wanted_since: to_come.then_some(machine.since.0),
        others: if is_here { others.to_vec() } else { Vec::new() },
    };
    let macs: Vec<pxe::MacAddr> = machine.macs.iter().map(|mac| pxe::MacAddr(mac.0)).collect();
    let found = journal.diagnose(&macs, &facts, now().0)?;
    Some(Trouble {
        cause: found.cause.word().to_owned(),
        why: found.why().to_owned(),
        next_step: found.next_step().to_owned(),
        since: Timestamp(found.since),
        what: found.what,
    })
}

/// By id or by name.
pub fn find<'a>(fleet: &'a Fleet, id: &str) -> Result<&'a machine::Machine, Refusal> {
    let by_id = id.parse().ok().and_then(|id: MachineId| fleet.machines.get(&id)).map(Arc::as_ref);
    let known = by_id.or_else(|| machine::by_name(fleet, id));
    known.ok_or_else(|| Refusal::Missing { what: "machine", name: id.to_owned() })
}

pub fn addresses(fleet: &Fleet, machine: &machine::Machine) -> Vec<Ipv4Addr> {
    let own = fleet.site.as_ref().filter(|_| machine.appliance).map(|site| site.address);
    own.into_iter().chain(machine.macs.iter().flat_map(|mac| fleet.leases.given.of(*mac))).collect()
}

pub fn is_adoptable(machine: &machine::Machine) -> bool {
    machine.hardware.is_some() && matches!(machine.phase, Phase::Reported | Phase::Failed { .. })
}

/// Whether adopting it takes somebody's word for a disk.
pub fn needs_wiping(machine: &machine::Machine) -> bool {
    question(machine).is_some()
}

fn question(machine: &machine::Machine) -> Option<Question> {
    let hardware = machine.hardware.as_ref().filter(|_| is_adoptable(machine))?;
    if machine::target_disk(hardware, false).is_ok() {
        return None;
    }
    let disk = machine::target_disk(hardware, true).ok()?;
    let holds = machine::contents(disk);
    let sentence = if holds.is_empty() {
        format!("another disk of it holds data and is left alone; install on {}?", disk.path)
    } else {
        format!("this disk holds {holds}; wipe it?")
    };
    Some(Question { serial: handle(disk), disk: disk.path.clone(), bytes: disk.bytes, holds, sentence })
}

fn handle(disk: &Disk) -> String {
    disk.serial.clone().unwrap_or_else(|| disk.path.clone())
}

fn firmware(machine: &machine::Machine) -> Option<&'static str> {
    match machine.hardware.as_ref().map(|hardware| hardware.firmware) {
        Some(Firmware::Bios) => Some("BIOS"),
        Some(Firmware::Uefi) => Some("UEFI"),
        Some(Firmware::UefiSecureBoot) => Some("UEFI, Secure Boot"),
        // DHCP option 93, as registered by IANA; all it has said so far.
        None => match machine.arch {
            Some(0) => Some("BIOS"),
            Some(7 | 9) => Some("UEFI"),
            Some(16) => Some("UEFI, HTTP boot"),
            Some(_) | None => None,
        },
    }
}

fn summary(hardware: &Hardware) -> String {
    let maker =
        [&hardware.manufacturer, &hardware.product].into_iter().flatten().cloned().collect::<Vec<_>>();
    let threads = match hardware.cpu.threads {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    };
    let mut words =
        vec![maker.join(" "), hardware.cpu.model.clone(), threads, web::show::mib(hardware.memory_mib)];
    words.extend(hardware.disks.iter().filter(|disk| !disk.removable).map(|disk| {
        let kind = if disk.rotational { "disk" } else { "SSD" };
        format!("{} {kind}", web::show::bytes(disk.bytes))
    }));
    words.retain(|word| !word.is_empty());
    words.join(" · ")
}
