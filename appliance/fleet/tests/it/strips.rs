//! Power strips as the second way to a proof, as decisions: literals in, events out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{World, blank_disk, capacity, hardware};
use fleet::power::{Action, Bmc, Kind, Outcome, Strip, Try, Way, off_since, tries};
use fleet::{Command, Mac, MachineId, NodeId, Observed, ObservedNode, Subject, Timestamp, plan, wire};

const ONE: MachineId = MachineId(1);
const TWO: MachineId = MachineId(2);

/// Two hosts; the first has a BMC.
fn hosts() -> World {
    let mut world = World::founded();
    for number in 1..=2u8 {
        let machine = MachineId(number.into());
        let mac = Mac([0x52, 0x54, 0, 0, 0, number]);
        let disk = blank_disk(&format!("D{number}"));
        world.does(Command::Report { key: format!("k{number}"), hardware: hardware(mac, vec![disk]) });
        world.does(Command::ServeKickstart { machine, attempt: 1 });
        world.does(Command::PhoneHome { machine, attempt: 1 });
        world.does(Command::ObserveHost { machine, capacity: capacity(4096) });
    }
    let bmc = Bmc { kind: Kind::Redfish, address: "10.9.0.1".into(), pin: None, options: BTreeMap::new() };
    world.does(Command::SetBmc { machine: ONE, bmc });
    world
}

fn strip(address: &str, outlets: &[&str]) -> Strip {
    Strip {
        agent: "fence_apc_snmp".into(),
        address: address.into(),
        outlets: outlets.iter().map(|outlet| (*outlet).to_owned()).collect(),
        options: BTreeMap::new(),
    }
}

fn set(world: &mut World, machine: MachineId, strip: Strip) {
    world.does(Command::SetStrip { machine, strip });
}

fn ways(world: &World, machine: MachineId) -> Vec<(Way, Action)> {
    tries(&world.fleet.machines[&machine]).into_iter().map(|Try { way, action, .. }| (way, action)).collect()
}

fn since(world: &World, machine: MachineId) -> Timestamp {
    fleet::power::wanted(&world.fleet.machines[&machine]).expect("something is wanted").since
}

fn reports(world: &mut World, machine: MachineId, way: Way, outcome: Outcome) -> Vec<fleet::Event> {
    let since = since(world, machine);
    world.does(Command::ReportPower { machine, since, way, outcome })
}

fn begins(world: &mut World, machine: MachineId) {
    let since = since(world, machine);
    world.does(Command::BeginStrips { machine, since });
}

fn done() -> Outcome {
    Outcome::Done("it said so twice".into())
}

fn failed() -> Outcome {
    Outcome::Failed("it does not answer".into())
}

#[test]
fn the_bmc_is_tried_first_and_not_for_long_where_there_is_a_strip() {
    let mut world = hosts();
    world.does(Command::Fence { machine: ONE, why: "it hangs".into() });
    let alone = Try { way: Way::Bmc, action: Action::Off, secs: None };
    assert_eq!(tries(&world.fleet.machines[&ONE]), [alone]);
    world.does(Command::Cancel { subject: Subject::Machine(ONE) });
    set(&mut world, ONE, strip("pdu-a", &["3"]));
    world.does(Command::Fence { machine: ONE, why: "it hangs".into() });
    let both = [Try { secs: Some(30), ..alone }, Try { way: Way::Strips, ..alone }];
    assert_eq!(tries(&world.fleet.machines[&ONE]), both);

    assert_eq!(reports(&mut world, ONE, Way::Bmc, failed()).len(), 1);
    assert_eq!(off_since(&world.fleet, ONE), None);
    begins(&mut world, ONE);
    // Each way's trouble is kept, and said once.
    assert_eq!(reports(&mut world, ONE, Way::Strips, failed()).len(), 1);
    assert_eq!(reports(&mut world, ONE, Way::Bmc, failed()).len(), 0);
    assert_eq!(reports(&mut world, ONE, Way::Strips, failed()).len(), 0);
    assert_eq!(off_since(&world.fleet, ONE), None, "nothing is proven");
    reports(&mut world, ONE, Way::Strips, done());
    assert!(off_since(&world.fleet, ONE).is_some());
}

#[test]
fn outlets_that_may_be_off_are_switched_on_before_the_bmc_is_asked_to() {
    let mut world = hosts();
    set(&mut world, ONE, strip("pdu-a", &["3"]));
    set(&mut world, ONE, strip("pdu-b", &["3"]));
    world.does(Command::Fence { machine: ONE, why: "it hangs".into() });
    let since = since(&world, ONE);
    world.does(Command::BeginStrips { machine: ONE, since });
    assert_eq!(world.does(Command::BeginStrips { machine: ONE, since }), vec![], "that is known already");
    // Without power its BMC says nothing: the strips are asked first from now on.
    assert_eq!(ways(&world, ONE), [(Way::Strips, Action::Off), (Way::Bmc, Action::Off)]);
    let events = world.does(Command::Cancel { subject: Subject::Machine(ONE) });
    let left = format!("{events:?}");
    assert!(
        left.contains("some outlets of host-1 may be off; powering it on switches them on, too"),
        "{left}"
    );
    world.refuses(Command::BeginStrips { machine: ONE, since });

    world.does(Command::Power { machine: ONE, action: Action::Cycle, force: true });
    assert_eq!(ways(&world, ONE), [(Way::Strips, Action::On)]);
    reports(&mut world, ONE, Way::Strips, done());
    assert_eq!(ways(&world, ONE), [(Way::Bmc, Action::Cycle)], "its BMC has power again");
    reports(&mut world, ONE, Way::Bmc, done());
    assert_eq!(ways(&world, ONE), []);
    assert_eq!(world.fleet.machines[&ONE].power.cut, None);
}

#[test]
fn a_machine_without_a_bmc_is_fenced_and_switched_by_its_outlets_alone() {
    let mut world = hosts();
    let refusal = world.refuses(Command::Fence { machine: TWO, why: String::new() }).to_string();
    assert!(refusal.contains("no BMC of host-2 is known and no power strip"), "{refusal}");
    set(&mut world, TWO, strip("pdu-a", &["4", "5"]));
    world.does(Command::Fence { machine: TWO, why: "it hangs".into() });
    assert_eq!(ways(&world, TWO), [(Way::Strips, Action::Off)]);
    begins(&mut world, TWO);
    reports(&mut world, TWO, Way::Strips, done());
    world.does(Command::Unfence { machine: TWO, on: true });
    assert_eq!(ways(&world, TWO), [(Way::Strips, Action::On)]);
    reports(&mut world, TWO, Way::Strips, done());
    assert_eq!((ways(&world, TWO), world.fleet.machines[&TWO].power.cut), (vec![], None));
    world.does(Command::Power { machine: TWO, action: Action::Cycle, force: false });
    assert_eq!(ways(&world, TWO), [(Way::Strips, Action::Cycle)]);
    let refusal = world.refuses(Command::RemoveStrip { machine: TWO, address: None }).to_string();
    assert!(refusal.contains("is being switched; cancel that first"), "{refusal}");
}

#[test]
fn an_outlet_feeds_one_machine() {
    let mut world = hosts();
    set(&mut world, ONE, strip("pdu-a", &["3", "7"]));
    let refused = |world: &mut World, strip: Strip| {
        world.refuses(Command::SetStrip { machine: TWO, strip }).to_string()
    };
    let shared = refused(&mut world, strip("PDU-A", &["4", "07"]));
    assert!(shared.starts_with("outlet 7 of the power strip at pdu-a feeds host-1"), "{shared}");
    let bmc = Bmc {
        kind: Kind::Agent("fence_apc".into()),
        address: "pdu-a".into(),
        pin: None,
        options: [("plug".to_owned(), "3".to_owned())].into(),
    };
    let shared = world.refuses(Command::SetBmc { machine: TWO, bmc: bmc.clone() }).to_string();
    assert_eq!(shared, "outlet 3 of the power strip at pdu-a feeds host-1");
    world.does(Command::RemoveStrip { machine: ONE, address: None });
    world.does(Command::SetBmc { machine: TWO, bmc });
    let shared = world.refuses(Command::SetStrip { machine: ONE, strip: strip("pdu-a", &["3"]) }).to_string();
    assert!(shared.starts_with("outlet 3 of the power strip at pdu-a feeds host-2"), "{shared}");
    // Two strips behind one address.
    let second = Strip { options: [("switch".to_owned(), "2".to_owned())].into(), ..strip("pdu-a", &["3"]) };
    set(&mut world, ONE, second);
}

#[test]
fn what_is_no_outlet_is_refused() {
    let mut world = hosts();
    let good = strip("10.9.0.40", &["3"]);
    let with =
        |name: &str, value: &str| Strip { options: [(name.into(), value.into())].into(), ..good.clone() };
    for wrong in [
        Strip { agent: "redfish".into(), ..good.clone() },
        Strip { agent: "fence_../sh".into(), ..good.clone() },
        Strip { address: "pdu a".into(), ..good.clone() },
        strip("10.9.0.40", &[]),
        strip("10.9.0.40", &["3", "03"]),
        strip("10.9.0.40", &["1,2"]),
        strip("10.9.0.40", &["-3"]),
        strip("10.9.0.40", &["3\naction=on"]),
        strip("10.9.0.40", &[""]),
        with("plug", "4"),
        with("community", "planted"),
    ] {
        world.refuses(Command::SetStrip { machine: ONE, strip: wrong });
    }
    assert_eq!(world.does(Command::SetStrip { machine: ONE, strip: good.clone() }).len(), 1);
    assert_eq!(world.does(Command::SetStrip { machine: ONE, strip: good }), vec![]);
    world.refuses(Command::RemoveStrip { machine: ONE, address: Some("10.9.0.41".into()) });
}

/// The first host has spoken at this time, long after its start.
fn speaks(at: u64) -> Observed {
    let said = wire::Observed {
        revision: 1,
        version: "0.1.0".into(),
        uptime_secs: 5000,
        capacity: Some(capacity(4096)),
        vms: vec![],
        software: vec![],
        neighbours: vec![],
    };
    [(NodeId::Machine(ONE), Arc::new(ObservedNode { at: Timestamp(at), said }))].into_iter().collect()
}

fn planned(world: &World, at: u64) -> (Vec<Command>, String) {
    let planned = plan(&world.fleet, &speaks(at), Timestamp(at));
    let about = |command: &&Command| matches!(command, Command::DoubtOff { .. });
    let waits = planned.waiting_of(Subject::Machine(ONE)).iter().map(|wait| wait.what.to_string());
    let waits = waits.collect::<Vec<_>>().join("; ");
    (planned.actions().filter(about).cloned().collect(), waits)
}

#[test]
fn a_bmc_that_lies_is_doubted_and_the_strip_cuts_the_machine_off() {
    let mut world = hosts();
    set(&mut world, ONE, strip("pdu-a", &["3"]));
    world.does(Command::Fence { machine: ONE, why: "it hangs".into() });
    let first = since(&world, ONE);
    reports(&mut world, ONE, Way::Bmc, done());
    let (doubts, _) = planned(&world, world.clock + 60_000);
    assert_eq!(doubts, [Command::DoubtOff { machine: ONE }]);
    world.does(Command::DoubtOff { machine: ONE });
    assert_eq!(off_since(&world.fleet, ONE), None);
    assert_eq!(ways(&world, ONE), [(Way::Strips, Action::Off)], "its BMC is not believed again");
    let late = Command::ReportPower { machine: ONE, since: first, way: Way::Bmc, outcome: done() };
    world.refuses(late);
    begins(&mut world, ONE);
    reports(&mut world, ONE, Way::Strips, done());
    assert!(off_since(&world.fleet, ONE).is_some());
    let (doubts, waits) = planned(&world, world.clock + 60_000);
    assert_eq!(doubts, []);
    assert!(waits.starts_with("its power strip said that it is off, and it goes on speaking"), "{waits}");
    world.refuses(Command::DoubtOff { machine: ONE });
}
