//! Checking disks as decisions: literals in, events out.

use crate::common::{World, disk_with, hardware};
use fleet::machine::{self, Boot, Erase};
use fleet::site::{Adopt, Policy};
use fleet::wire::{DiskChecked, KnownDisk};
use fleet::{Command, Event, Mac, MachineId, Refusal, Subject};

const MACHINE: MachineId = MachineId(1);
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

/// A found machine with a disk that holds data.
fn found() -> World {
    let mut world = World::founded();
    world.does(Command::SetPolicy { policy: Policy { adopt: Adopt::Ask, ..Policy::default() } });
    let hardware = hardware(MAC, vec![disk_with("B", "ext4", "photos")]);
    world.does(Command::Report { key: "k".into(), hardware });
    world
}

fn check(on: bool) -> Command {
    Command::CheckDisks { machine: MACHINE, on }
}

fn said(number: u32, unreadable_parts: u64) -> Command {
    let checked = DiskChecked {
        disk: KnownDisk::of(&disk_with("B", "ext4", "photos")),
        bytes_read: 1 << 30,
        seconds: 10,
        unreadable: vec![0; usize::try_from(unreadable_parts).unwrap()],
        unreadable_parts,
        error: None,
        health: None,
    };
    Command::ReportChecked { machine: MACHINE, number, disks: vec![checked] }
}

fn wanted(world: &World) -> Option<u32> {
    machine::wanted_check(&world.fleet.machines[&MACHINE])
}

fn waiting(world: &World) -> Vec<(String, bool)> {
    let plan = world.plan();
    let waiting = plan.waiting_of(Subject::Machine(MACHINE)).iter();
    waiting
        .map(|it| (it.what.to_string(), it.hint.is_some()))
        .filter(|(what, _)| what.contains("read"))
        .collect()
}

#[test]
fn what_is_broken_waits_for_a_person_until_it_is_well() {
    let mut world = found();
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Disk);
    world.does(check(true));
    assert_eq!(world.does(check(true)), []);
    assert_eq!((wanted(&world), machine::boot(&world.fleet, MAC)), (Some(1), Boot::Discover));
    assert!(!waiting(&world)[0].1, "nothing is to be done about it");
    let events = world.does(said(1, 2));
    assert!(events[0].sentence().contains("has 2 MiB that cannot be read, 107 MB/s"), "{events:?}");
    assert_eq!((wanted(&world), machine::boot(&world.fleet, MAC)), (None, Boot::Disk));
    let [(what, true)] = &waiting(&world)[..] else { panic!("{:?}", waiting(&world)) };
    assert!(what.contains("serial B) has 2 MiB"), "{what}");
    world.does(check(true));
    // The answer to the last word was lost, and it is said again.
    assert_eq!(world.does(said(1, 2)), []);
    world.does(said(2, 0));
    assert_eq!(waiting(&world), []);
}

#[test]
fn it_is_taken_back_and_what_is_said_afterwards_is_not_taken() {
    let mut world = found();
    assert_eq!(world.does(check(false)), []);
    world.does(check(true));
    world.does(check(false));
    assert_eq!((wanted(&world), waiting(&world)), (None, vec![]));
    assert_eq!(world.does(said(1, 3)), []);
}

#[test]
fn it_is_refused_where_nobody_could_read_the_disks() {
    let mut world = found();
    let sentence = |refusal: Refusal| refusal.to_string();
    world.does(Command::EraseMachine { machine: MACHINE, how: Erase::default() });
    assert!(sentence(world.refuses(check(true))).contains("is erasing; wait until that is over"));
    world.does(Command::Cancel { subject: Subject::Machine(MACHINE) });
    world.does(check(true));
    // It leaves with it.
    world.does(Command::Retire { machine: MACHINE });
    assert_eq!(wanted(&world), None);
    assert!(sentence(world.refuses(check(true))).contains("take it back first"));
    let sighted =
        Command::Sight { mac: Mac([0x52, 0x54, 0, 0, 0, 9]), arch: Some(7), uuid: None, link: None };
    let events = world.does(sighted);
    assert!(events.iter().any(|event| matches!(event, Event::Machine(machine::Event::Sighted { .. }))));
    let other = world.refuses(Command::CheckDisks { machine: MachineId(2), on: true });
    assert!(sentence(other).contains("has not said yet what it is made of"));
}
