//! What goes wrong in real life while machines become hosts: nonsense on the wire, data on a disk, power lost in the
//! middle, a daemon that crashes. Chapters of the path.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::path::{self, BIOS, UEFI};
use crate::api::State;
use crate::bmc::Kind;
use crate::machine::{Bus, Contents, Disk, Firmware, Spec, mac_of};
use crate::nonsense;
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(900);

/// With three machines at once on two cores, two processors each made a story a fifth longer.
const VCPUS: u32 = 1;

/// The only disk of the BIOS machine is an ext4 filesystem.
const DISK: &str = "bios-0";

pub fn nonsense_on_the_wire(world: &mut World) -> Result<()> {
    let jack = world.lab.lan.jack("stranger");
    for frame in nonsense::frames(mac_of("stranger", 0)) {
        jack.send(&frame);
    }
    path::laptop(world)
}

pub fn data_on_disk(world: &mut World) -> Result<()> {
    let contents = Contents::Ext4 { label: "data".into() };
    let disk = Disk { size_gib: 20, serial: DISK.into(), bus: Bus::Sata, contents };
    let spec = Spec { disks: vec![disk], vcpus: VCPUS, ..Spec::blank(BIOS, Firmware::Bios) };
    let mac = world.plug_in_with_bmc(spec, Kind::Ipmi)?;
    let question = world.api()?.wait_until("the question about the disk of bios", LIMIT, |state| {
        state.machine(mac).and_then(|machine| machine.question.clone())
    })?;
    world.progress.say(format_args!("The page asks: {}", question.sentence));
    ensure!(question.sentence.contains("ext4"), "the question does not name what is on the disk");
    ensure!(question.sentence.contains("data"), "the question does not name the disk's label");
    ensure!(question.serial == DISK, "the question is about another disk: {}", question.serial);
    Ok(())
}

pub fn killed_when_found(world: &mut World) -> Result<()> {
    kill_daemon(world)?;
    let mac = mac_of(BIOS, 0);
    let state = world.api()?.state()?;
    ensure!(
        state.machine(mac).is_some_and(|machine| machine.question.is_some()),
        "the question was forgotten"
    );
    Ok(())
}

pub fn secure_boot(world: &mut World) -> Result<()> {
    let spec = Spec { vcpus: VCPUS, ..Spec::blank(UEFI, Firmware::UefiSecureBoot) };
    let mac = world.plug_in_with_bmc(spec, Kind::Redfish)?;
    world.is_found(UEFI, LIMIT)?;
    let state = world.api()?.state()?;
    let firmware = state.machine(mac).and_then(|machine| machine.firmware.clone());
    ensure!(firmware.as_deref() == Some("UEFI, Secure Boot"), "its firmware is shown as {firmware:?}");
    Ok(())
}

pub fn wiped(world: &mut World) -> Result<()> {
    let mac = mac_of(BIOS, 0);
    let id = world.api()?.state()?.machine(mac).context("the machine is gone")?.id.clone();
    let without = world.api()?.adopt(&id, &[]);
    ensure!(without.is_err(), "a disk with data would be wiped without being named");
    world.api()?.adopt(&id, &[DISK])?;
    is_installing(world)
}

/// Its disk is laid out and the image is on its way. Said by its own screen, so that what comes next
/// happens in the middle on a fast computer too.
fn is_installing(world: &mut World) -> Result<()> {
    world.machine(BIOS)?.wait_for("downloading the system", LIMIT).map(drop)
}

pub fn power_lost(world: &mut World) -> Result<()> {
    world.progress.say(format_args!("The power of {BIOS} is cut while it installs"));
    world.machine(BIOS)?.power_cycle()?;
    let phase = phase_of(world, BIOS)?;
    ensure!(phase == "installing", "{BIOS} was {phase} already when its power was cut");
    is_installing(world)?;
    kill_daemon(world)?;
    world.becomes_host(BIOS, LIMIT)?;
    let attempts = world.api()?.state()?.machine(mac_of(BIOS, 0)).map(|machine| machine.attempts);
    ensure!(attempts >= Some(2), "the installation was not started over: {attempts:?} attempts");
    world.becomes_host(UEFI, LIMIT)
}

fn phase_of(world: &World, name: &str) -> Result<String> {
    let state = world.api()?.state()?;
    Ok(state.machine(mac_of(name, 0)).context("the machine is gone")?.phase.clone())
}

/// Kills the daemon and checks that what it knew is what it knows.
pub fn kill_daemon(world: &mut World) -> Result<()> {
    let before = world.api()?.state()?;
    world.appliance()?.kill_daemon()?;
    let after = world.api()?.wait_until(
        "the page after the daemon was killed",
        Duration::from_secs(60),
        |state| Some(state.clone()),
    )?;
    for machine in &before.machines {
        let again = after.machines.iter().find(|again| again.id == machine.id);
        let again = again.with_context(|| format!("{} was lost with the daemon", machine.name))?;
        ensure!(again.addresses == machine.addresses, "{} has another address", machine.name);
    }
    ensure!(counts(&after) >= counts(&before), "VMs or services were lost with the daemon");
    world.progress.say("The daemon was killed and is back");
    Ok(())
}

fn counts(state: &State) -> (usize, usize) {
    (state.vms.len(), state.services.len())
}
