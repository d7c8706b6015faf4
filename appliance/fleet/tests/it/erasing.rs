//! Erasing and retiring machines as decisions: literals in, events out.

use std::collections::BTreeMap;

use crate::common::{World, blank_disk, disk_with, hardware, new_vm};
use fleet::machine::{self, Boot, Erase, EraseEvent, Phase};
use fleet::power::{Action, Bmc, Kind};
use fleet::site::{Adopt, Policy};
use fleet::wire::{Disk, EraseOutcome, Means, Method, Proof};
use fleet::{Command, Event, Mac, MachineId, Refusal, Subject, Timestamp, plan};

const MACHINE: MachineId = MachineId(1);
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

fn disks() -> Vec<Disk> {
    let second = Disk { path: "/dev/vdb".into(), ..disk_with("B", "ext4", "photos") };
    let stick = Disk { path: "/dev/sdc".into(), removable: true, ..disk_with("USB", "vfat", "") };
    vec![blank_disk("A"), second, stick]
}

/// A found machine with two disks and a stick.
fn found() -> World {
    let mut world = World::founded();
    world.does(Command::SetPolicy {
        policy: Policy { adopt: Adopt::Ask, ssh_keys: vec![], ..Default::default() },
    });
    world.does(report("k"));
    world
}

fn report(key: &str) -> Command {
    report_with(key, disks())
}

fn report_with(key: &str, disks: Vec<Disk>) -> Command {
    Command::Report { key: key.into(), hardware: hardware(MAC, disks) }
}

fn erase(disks: &[&str]) -> Command {
    let disks = disks.iter().map(|name| (*name).to_owned()).collect();
    Command::EraseMachine { machine: MACHINE, how: Erase { disks, ..Erase::default() } }
}

fn cancel() -> Command {
    Command::Cancel { subject: Subject::Machine(MACHINE) }
}

fn said(number: u32, attempt: u32, outcome: EraseOutcome) -> Command {
    Command::ReportErased { machine: MACHINE, number, attempt, outcome }
}

fn done() -> EraseOutcome {
    let means = vec![Means::Overwrite];
    let proof =
        Proof { means, seconds: 9, places: 66, bytes_read: 66 << 20, zero: true, version: "1".into() };
    EraseOutcome::Done(proof)
}

fn broken() -> EraseOutcome {
    EraseOutcome::Failed {
        step: "writing zeroes".into(),
        error: "after 3 of 21 GB: Input/output error (os error 5)".into(),
    }
}

/// What the machine is told to erase now.
fn job(world: &World) -> Option<(u32, u32, String)> {
    let Phase::Erasing(erasing) = world.phase(MACHINE) else { return None };
    let job = erasing.current()?;
    Some((job.number, job.attempt, job.disk.serial?))
}

fn sentences(events: &[Event]) -> Vec<String> {
    events.iter().map(Event::sentence).collect()
}

fn bmc() -> Command {
    let bmc = Bmc { kind: Kind::Redfish, address: "10.9.0.1".into(), pin: None, options: BTreeMap::new() };
    Command::SetBmc { machine: MACHINE, bmc }
}

#[test]
fn disk_after_disk_and_then_it_is_found_and_held() {
    let mut world = found();
    // It holds data, so it was left to its own disk.
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Disk);
    world.does(erase(&[]));
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Discover);
    assert_eq!(job(&world), None);
    world.does(report("k2"));
    assert_eq!(job(&world), Some((0, 1, "A".into())));
    assert_eq!(world.does(said(0, 1, done())).len(), 1);
    world.does(report("k2"));
    assert_eq!(job(&world), Some((1, 1, "B".into())));
    let events = world.does(said(1, 1, done()));
    assert_eq!(sentences(&events)[1], "All 2 disks that were asked for are erased");
    assert_eq!(*world.phase(MACHINE), Phase::Reported);
    // A blank machine is not installed again by itself right away.
    world.does(Command::SetPolicy { policy: Policy::default() });
    world.does(report_with("k2", vec![blank_disk("A")]));
    assert_eq!(*world.phase(MACHINE), Phase::Reported);
    // The stick was not among them.
    let Some(Event::Erase(EraseEvent::Asked { disks, .. })) =
        world.log.iter().find(|event| matches!(event, Event::Erase(EraseEvent::Asked { .. })))
    else {
        panic!("nothing was asked for");
    };
    assert_eq!(disks.len(), 2);
}

#[test]
fn a_machine_that_was_restarted_begins_its_disk_again_and_not_for_ever() {
    let mut world = found();
    world.does(erase(&["B"]));
    world.does(report("start-1"));
    // The answer was lost: the same start asks once more.
    assert_eq!(world.does(report("start-1")), []);
    assert_eq!(job(&world), Some((0, 1, "B".into())));
    for attempt in 2..=machine::MAX_ATTEMPTS {
        world.does(report(&format!("start-{attempt}")));
        assert_eq!(job(&world), Some((0, attempt, "B".into())));
    }
    // A word of an earlier start is not taken for one of this.
    world.refuses(said(0, 1, done()));
    let events = world.does(report("start-6"));
    let last = sentences(&events).pop().unwrap();
    assert!(last.starts_with("Erasing ended: 0 disks are erased, 1 are not. Left over: /dev/vdb"), "{last}");
    assert!(last.contains("does the machine lose power?"), "{last}");
}

#[test]
fn another_disk_than_was_asked_for_is_not_touched() {
    let stranger = Disk { path: "/dev/vdb".into(), ..disk_with("C", "ext4", "wedding") };
    let larger = Disk { bytes: 40 << 30, ..disks()[1].clone() };
    let twice = Disk { path: "/dev/vdd".into(), ..disks()[1].clone() };
    for (there, why) in [
        (vec![stranger], "is not in the machine any more"),
        (vec![larger], "is not in the machine any more"),
        (vec![disks()[1].clone(), twice], "two disks of the machine say that they are"),
    ] {
        let mut world = found();
        world.does(erase(&["/dev/vdb"]));
        let events = world.does(report_with("k2", there));
        assert!(!events.iter().any(|event| matches!(event, Event::Erase(EraseEvent::Begun { .. }))), "{why}");
        assert!(sentences(&events).concat().contains(why), "{:?}", sentences(&events));
        assert_eq!(*world.phase(MACHINE), Phase::Reported);
    }
}

#[test]
fn a_disk_that_fails_does_not_keep_the_others_from_it() {
    let mut world = found();
    world.does(erase(&[]));
    world.does(report("k2"));
    world.does(said(0, 1, broken()));
    // The answer was lost.
    assert_eq!(world.does(said(0, 1, broken())), []);
    world.does(report("k2"));
    let events = world.does(said(1, 1, done()));
    let last = &sentences(&events)[1];
    assert_eq!(
        last,
        "Erasing ended: 1 disks are erased, 1 are not. Left over: /dev/vda (21 GB, serial A) is not erased: \
         after 3 of 21 GB: Input/output error (os error 5)"
    );
}

#[test]
fn cancelled_before_it_has_begun_it_stays_what_it_was() {
    let mut world = World::with_host(4096);
    world.does(bmc());
    let phase = |world: &World| (world.phase(MACHINE).clone(), world.fleet.hosts.clone());
    let before = phase(&world);
    world.does(erase(&[]));
    assert!(world.fleet.hosts.is_empty());
    let order = world.fleet.machines[&MACHINE].power.order.as_ref().map(|order| order.action);
    assert_eq!(order, Some(Action::Netboot));
    world.does(cancel());
    assert_eq!(phase(&world), before);
    let machine = &world.fleet.machines[&MACHINE];
    assert_eq!((&machine.before, &machine.power.order), (&None, &None));
}

#[test]
fn cancelled_later_it_stops_after_the_disk_and_says_which_are_left() {
    let mut world = found();
    world.does(erase(&[]));
    world.does(report("k2"));
    world.does(cancel());
    assert!(world.refuses(cancel()).to_string().contains("cannot be had back"));
    assert_eq!(job(&world), Some((0, 1, "A".into())));
    let events = world.does(said(0, 1, done()));
    assert_eq!(
        sentences(&events)[1],
        "Erasing ended: 1 disks are erased, 1 are not. Left over: /dev/vdb (21 GB, serial B) was not touched"
    );

    // With the power gone in that disk, it is not begun again.
    let mut world = found();
    world.does(erase(&[]));
    world.does(report("k2"));
    world.does(cancel());
    let events = world.does(report("k3"));
    let last = sentences(&events).pop().unwrap();
    assert!(last.contains("serial A) was begun, and is not proven to be erased; /dev/vdb"), "{last}");
    assert_eq!(*world.phase(MACHINE), Phase::Reported);
}

#[test]
fn what_must_not_be_erased_is_refused_with_a_sentence() {
    let refused = |world: &mut World, order: Command, sentence: &str| {
        let refusal = world.refuses(order).to_string();
        assert!(refusal.contains(sentence), "{refusal}");
    };
    let mut appliance = World::founded();
    appliance.does(Command::RecordAppliance { hardware: hardware(MAC, vec![blank_disk("A")]) });
    refused(&mut appliance, erase(&[]), "the appliance runs on host-1");

    let mut host = World::with_host(4096);
    host.does(Command::CreateVm { spec: new_vm("web", 512) });
    refused(&mut host, erase(&[]), "host-1 carries web, whose disks would go; drain it");
    refused(&mut host, Command::Retire { machine: MACHINE }, "host-1 carries web; drain it");

    let mut installing = World::founded();
    installing.does(Command::Report { key: "k".into(), hardware: hardware(MAC, vec![blank_disk("A")]) });
    refused(&mut installing, erase(&[]), "host-1 is installing; cancel that first");

    let mut world = found();
    refused(&mut world, erase(&["C"]), "there is no disk C");
    let nameless = Disk { serial: None, ..blank_disk("A") };
    world.does(report_with("k", vec![nameless.clone()]));
    refused(&mut world, erase(&[]), "has no serial number by which it would be known again; name it");
    world.does(erase(&["/dev/vda"]));
    refused(&mut world, erase(&[]), "is being erased already");
    world.does(cancel());
    world.does(report_with("k", vec![Disk { by_id: None, ..nameless }]));
    refused(&mut world, erase(&["/dev/vda"]), "has no serial number");
    let twins = vec![blank_disk("A"), Disk { path: "/dev/vdb".into(), ..blank_disk("A") }];
    world.does(report_with("k", twins));
    refused(&mut world, erase(&[]), "two disks of the machine say");
}

#[test]
fn it_says_what_it_waits_for_and_when_that_takes_too_long() {
    let waits = |world: &World, secs: u64| {
        let now = Timestamp(world.clock + secs * 1000);
        let plan = plan(&world.fleet, &Default::default(), now);
        let late = plan.actions().any(|command| matches!(command, Command::RecordLate { .. }));
        (plan.waiting().map(|waiting| waiting.what.to_string()).collect::<Vec<_>>().join("; "), late)
    };
    let mut world = found();
    world.does(erase(&[]));
    assert_eq!(waits(&world, 1), ("will be erased as soon as it has started from the network".into(), false));
    assert!(waits(&world, 1801).1);
    world.does(report("k2"));
    assert_eq!(waits(&world, 1), ("/dev/vda (21 GB, serial A) is being erased".into(), false));
    // 21 GB at 50 MB/s.
    assert_eq!([waits(&world, 1300).1, waits(&world, 1400).1], [false, true]);
    world.does(said(0, 1, done()));
    assert!(waits(&world, 901).0.starts_with("has ended with a disk"));
}

#[test]
fn a_retired_machine_is_remembered_and_left_alone() {
    let mut world = World::with_host(4096);
    world.does(bmc());
    let events = world.does(Command::Retire { machine: MACHINE });
    assert_eq!(sentences(&events)[1], "Retired. Left over: host-1's disks are not erased");
    assert!(world.fleet.hosts.is_empty() && world.fleet.leases.address(MAC).is_none());
    let order = world.fleet.machines[&MACHINE].power.order.as_ref().map(|order| order.action);
    assert_eq!(order, Some(Action::Off));
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Disk);

    // Switched on once more, it is not taken up again, whatever the policy says.
    world.does(Command::Sight { mac: MAC, arch: Some(0), uuid: None, link: None });
    world.does(report_with("k9", vec![blank_disk("A")]));
    assert_eq!(*world.phase(MACHINE), Phase::Retired);
    assert_eq!(world.fleet.machines.len(), 1);
    let adopt = Command::Adopt { machine: MACHINE, wipe: false, profile: None, disk: None };
    for order in [adopt.clone(), erase(&[]), Command::Reimage { machine: MACHINE, how: Default::default() }] {
        let refusal = world.refuses(order).to_string();
        assert!(refusal.contains("eli machine unretire host-1"), "{refusal}");
    }

    world.does(Command::Unretire { machine: MACHINE });
    assert_eq!(*world.phase(MACHINE), Phase::Reported);
    world.does(report_with("k9", vec![blank_disk("A")]));
    assert_eq!(*world.phase(MACHINE), Phase::Reported, "held until a person wants it");
    world.does(adopt);
    assert!(matches!(world.refuses(Command::Unretire { machine: MACHINE }), Refusal::Conflict(_)));
}

#[test]
fn erased_first_it_leaves_only_if_every_disk_is() {
    let order =
        || Command::EraseMachine { machine: MACHINE, how: Erase { retire: true, ..Erase::default() } };
    for (outcome, phase) in [(done(), Phase::Retired), (broken(), Phase::Reported)] {
        let mut world = found();
        world.does(order());
        world.does(report("k2"));
        world.does(said(0, 1, done()));
        world.does(report("k2"));
        world.does(said(1, 1, outcome));
        assert_eq!(*world.phase(MACHINE), phase);
    }
}

#[test]
fn the_order_is_one_that_a_plan_can_give_back() {
    let how = Erase { disks: vec!["A".into()], method: Method::Overwrite, retire: false };
    let order = Command::EraseMachine { machine: MACHINE, how };
    let json = serde_json::to_string(&order).unwrap();
    assert_eq!(json, r#"{"command":"erase_machine","machine":"m1","disks":["A"],"method":"overwrite"}"#);
    assert_eq!(serde_json::from_str::<Command>(&json).unwrap(), order);
}
