//! Power, fencing and reimaging as decisions: literals in, events out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{World, blank_disk, capacity, disk_with, hardware, new_vm};
use fleet::machine::{Phase, Reimage};
use fleet::power::{Action, Bmc, Kind, Outcome, Way};
use fleet::site::{Fencing, Policy};
use fleet::vm::{NewVm, Recover};
use fleet::{
    Command, Event, Fleet, Mac, MachineId, NodeId, Observed, ObservedNode, Subject, Timestamp, VmId, plan,
    wire,
};

const ONE: MachineId = MachineId(1);
const TWO: MachineId = MachineId(2);

fn mac(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, number])
}

/// Hosts m1, m2 and so on with BMCs, as many as are asked for.
fn hosts(number: u8) -> World {
    let mut world = World::founded();
    for number in 1..=number {
        let machine = MachineId(number.into());
        let key = format!("k{number}");
        let disk = blank_disk(&format!("D{number}"));
        world.does(Command::Report { key, hardware: hardware(mac(number), vec![disk]) });
        world.does(Command::ServeKickstart { machine, attempt: 1 });
        world.does(Command::PhoneHome { machine, attempt: 1 });
        world.does(Command::ObserveHost { machine, capacity: capacity(4096) });
        world.does(Command::SetBmc { machine, bmc: bmc(number) });
    }
    world
}

fn bmc(number: u8) -> Bmc {
    Bmc { kind: Kind::Redfish, address: format!("10.9.0.{number}"), pin: None, options: BTreeMap::new() }
}

fn anew(name: &str) -> Command {
    Command::CreateVm { spec: NewVm { recover: Recover::Anew, ..new_vm(name, 512) } }
}

fn proven() -> Outcome {
    Outcome::Done("Redfish at 10.9.0.1 said so twice".into())
}

/// What was wanted of the machine's power was done.
fn obeyed(world: &mut World, machine: MachineId) -> Vec<Event> {
    let since = fleet::power::wanted(&world.fleet.machines[&machine]).expect("something is wanted").since;
    world.does(Command::ReportPower { machine, since, way: Way::Bmc, outcome: proven() })
}

/// Every host has spoken at this time, `uptime_secs` after its start.
fn heard(fleet: &Fleet, at: u64, uptime_secs: u64) -> Observed {
    let said = |id: &MachineId| wire::Observed {
        revision: 1,
        version: "0.1.0".into(),
        uptime_secs,
        capacity: Some(capacity(fleet.hosts[id].memory_mib)),
        vms: vec![],
        software: vec![],
        neighbours: vec![],
    };
    let node = |id: &MachineId| Arc::new(ObservedNode { at: Timestamp(at), said: said(id) });
    fleet.hosts.keys().map(|id| (NodeId::Machine(*id), node(id))).collect()
}

/// Gives what is planned until nothing more comes of it.
fn obey_plan(world: &mut World, observed: &Observed, now: u64) {
    for _ in 0..10 {
        world.clock = now;
        let planned = plan(&world.fleet, observed, Timestamp(now));
        let before = world.log.len();
        for command in planned.actions() {
            let _ = world.give(command);
            world.clock = now;
        }
        if world.log.len() == before {
            return;
        }
    }
    panic!("the plan never comes to rest");
}

fn waits(world: &World, observed: &Observed, subject: Subject, now: u64) -> String {
    let planned = plan(&world.fleet, observed, Timestamp(now));
    let words: Vec<String> = planned.waiting_of(subject).iter().map(|wait| wait.what.to_string()).collect();
    words.join("; ")
}

#[test]
fn a_silent_host_is_fenced_and_only_then_its_vm_runs_elsewhere() {
    let mut world = hosts(3);
    world.does(anew("web"));
    let home = world.fleet.vms[&VmId(1)].host;
    let start = world.clock;
    let mut observed = heard(&world.fleet, start, 100);
    let late = start + 31_000;
    let others_speak = |observed: &mut Observed, world: &World, at| {
        let others = heard(&world.fleet, at, 131).into_iter();
        observed.extend(others.filter(|(id, _)| *id != NodeId::Machine(home)));
    };
    others_speak(&mut observed, &world, late);
    obey_plan(&mut world, &observed, start + 29_000);
    assert_eq!(world.fleet.hosts[&home].suspected_since, None);
    obey_plan(&mut world, &observed, late);
    let fence = world.fleet.machines[&home].power.fence.clone().expect("it is being fenced");
    assert_eq!(fence.why, "its host agent has been silent for 31 s");
    assert_eq!(fence.off, None);
    assert_eq!(world.fleet.vms[&VmId(1)].host, home, "nothing is proven yet");

    others_speak(&mut observed, &world, late + 60_000);
    // A BMC that does not answer proves nothing, however often.
    for _ in 0..3 {
        let outcome = Outcome::Failed("10.9.0.1 does not answer".into());
        world.does(Command::ReportPower { machine: home, since: fence.since, way: Way::Bmc, outcome });
        obey_plan(&mut world, &observed, late + 60_000);
    }
    assert_eq!(world.fleet.vms[&VmId(1)].host, home);
    assert_eq!(
        waits(&world, &observed, Subject::Machine(home), late + 60_000),
        "is being fenced, and is not proven to be off: 10.9.0.1 does not answer"
    );

    obeyed(&mut world, home);
    obey_plan(&mut world, &observed, late + 70_000);
    let vm = &world.fleet.vms[&VmId(1)];
    assert_ne!(vm.host, home);
    assert_eq!(vm.phase, fleet::vm::Phase::Wanted);
    assert_eq!(waits(&world, &observed, Subject::Machine(home), late + 80_000), "is fenced and off");
}

#[test]
fn a_vm_whose_disk_is_missed_waits_until_a_person_says_otherwise() {
    let mut world = hosts(2);
    world.does(Command::CreateVm { spec: new_vm("db", 512) });
    let home = world.fleet.vms[&VmId(1)].host;
    assert_eq!(
        world.refuses(Command::RecoverVm { vm: VmId(1) }).to_string(),
        format!(
            "{} may run db and is not proven to be off; fence it first",
            world.fleet.machines[&home].name
        )
    );
    world.does(Command::Fence { machine: home, why: "it hangs".into() });
    obeyed(&mut world, home);
    let now = world.clock;
    obey_plan(&mut world, &Observed::new(), now);
    assert_eq!(world.fleet.vms[&VmId(1)].host, home);
    assert_eq!(
        waits(&world, &Observed::new(), Subject::Vm(VmId(1)), now),
        "its host is fenced and off, and its disk is there"
    );
    world.does(Command::RecoverVm { vm: VmId(1) });
    assert_ne!(world.fleet.vms[&VmId(1)].host, home);
}

#[test]
fn most_hosts_are_never_fenced_at_once() {
    let mut world = hosts(4);
    for name in ["a", "b", "c", "d"] {
        world.does(anew(name));
    }
    let start = world.clock;
    let observed = heard(&world.fleet, start, 100);
    obey_plan(&mut world, &observed, start + 40_000);
    assert!(world.fleet.hosts.values().all(|host| host.suspected_since.is_some()));
    assert!(world.fleet.machines.values().all(|machine| machine.power.fence.is_none()));
    assert_eq!(
        waits(&world, &observed, Subject::Machine(ONE), start + 41_000),
        "its host agent is silent: 4 of 4 hosts are silent, which looks like the network and not like the hosts"
    );
    // When they speak again, nothing is left of it.
    let again = heard(&world.fleet, start + 60_000, 160);
    obey_plan(&mut world, &again, start + 61_000);
    assert!(world.fleet.hosts.values().all(|host| host.suspected_since.is_none()));
}

#[test]
fn the_policy_fences_no_faster_than_it_says() {
    let mut world = hosts(5);
    world.does(Command::SetPolicy {
        policy: Policy { fencing: Fencing { per_hour: 1, ..Fencing::default() }, ..Policy::default() },
    });
    for name in ["a", "b", "c", "d", "e"] {
        world.does(anew(name));
    }
    let start = world.clock;
    let mut observed = heard(&world.fleet, start + 40_000, 100);
    let quiet = heard(&world.fleet, start, 100);
    for id in [ONE, TWO] {
        observed.insert(NodeId::Machine(id), quiet[&NodeId::Machine(id)].clone());
    }
    obey_plan(&mut world, &observed, start + 40_000);
    let fenced = |world: &World| {
        let fenced = world.fleet.machines.values().filter(|machine| machine.power.fence.is_some());
        fenced.map(|machine| machine.id).collect::<Vec<_>>()
    };
    assert_eq!(fenced(&world), [ONE]);
    assert_eq!(
        waits(&world, &observed, Subject::Machine(TWO), start + 41_000),
        "its host agent is silent: 1 hosts were fenced within an hour, as many as the policy allows"
    );
    let hour = start + 3_641_000;
    for (id, node) in heard(&world.fleet, hour, 4000) {
        if ![ONE, TWO].map(NodeId::Machine).contains(&id) {
            observed.insert(id, node);
        }
    }
    obey_plan(&mut world, &observed, hour);
    assert_eq!(fenced(&world), [ONE, TWO]);
}

#[test]
fn without_a_bmc_a_person_is_asked_and_may_say_that_it_is_off() {
    let mut world = hosts(2);
    world.does(anew("web"));
    let home = world.fleet.vms[&VmId(1)].host;
    world.does(Command::RemoveBmc { machine: home });
    let why = || "ada pulled its plug".to_owned();
    let refusal = world.refuses(Command::AttestOff { machine: home, why: why() }).to_string();
    assert!(refusal.ends_with("is not silent, so it is not off; is it another one?"), "{refusal}");
    let start = world.clock;
    let mut observed = heard(&world.fleet, start + 40_000, 140);
    let node = heard(&world.fleet, start, 100)[&NodeId::Machine(home)].clone();
    observed.insert(NodeId::Machine(home), node);
    obey_plan(&mut world, &observed, start + 40_000);
    assert_eq!(world.fleet.machines[&home].power.fence, None);
    let waits = waits(&world, &observed, Subject::Machine(home), start + 41_000);
    assert!(waits.starts_with("its host agent is silent: no BMC of"), "{waits}");
    world.does(Command::AttestOff { machine: home, why: why() });
    obey_plan(&mut world, &observed, start + 42_000);
    assert_ne!(world.fleet.vms[&VmId(1)].host, home);
}

#[test]
fn a_fenced_host_that_speaks_was_switched_on_or_never_off() {
    let mut world = hosts(2);
    world.does(Command::Fence { machine: ONE, why: "it hangs".into() });
    obeyed(&mut world, ONE);
    let off = world.clock;
    let lies = heard(&world.fleet, off + 60_000, 5000);
    let words = waits(&world, &lies, Subject::Machine(ONE), off + 60_000);
    assert!(words.starts_with("its BMC said that it is off, and it goes on speaking"), "{words}");
    obey_plan(&mut world, &lies, off + 60_000);
    assert!(world.fleet.machines[&ONE].power.fence.is_some());
    let started = heard(&world.fleet, off + 60_000, 20);
    obey_plan(&mut world, &started, off + 60_000);
    assert_eq!(world.fleet.machines[&ONE].power.fence, None);
}

#[test]
fn unfencing_switches_on_and_gives_time_to_start() {
    let mut world = hosts(3);
    world.does(anew("web"));
    world.does(Command::Fence { machine: ONE, why: "it hangs".into() });
    let refusal = world.refuses(Command::Unfence { machine: ONE, on: true }).to_string();
    assert!(refusal.contains("not proven to be off yet"), "{refusal}");
    obeyed(&mut world, ONE);
    world.does(Command::Unfence { machine: ONE, on: true });
    obeyed(&mut world, ONE);
    let on = world.clock;
    let silent = heard(&world.fleet, 1, 1);
    let observed: Observed = heard(&world.fleet, on + 600_000, 700);
    let observed = observed.update(NodeId::Machine(ONE), silent[&NodeId::Machine(ONE)].clone());
    obey_plan(&mut world, &observed, on + 600_000);
    assert_eq!(world.fleet.hosts[&ONE].suspected_since, None, "it may take ten minutes to start");
}

#[test]
fn what_must_not_be_switched_off_is_not() {
    let mut world = hosts(2);
    world.does(anew("web"));
    let home = world.fleet.vms[&VmId(1)].host;
    let name = world.fleet.machines[&home].name.clone();
    let off = |force| Command::Power { machine: home, action: Action::Off, force };
    assert_eq!(
        world.refuses(off(false)).to_string(),
        format!(
            "{name} carries web, which would lose power with it; remove that first, or switch it by force"
        )
    );
    world.does(off(true));
    world.does(off(true));
    let refusal =
        world.refuses(Command::Power { machine: home, action: Action::On, force: false }).to_string();
    assert_eq!(refusal, format!("{name} is to be switched off already; cancel that first"));
    // A fence comes before whatever else was wanted, and twice is once.
    world.does(Command::Fence { machine: home, why: "it hangs".into() });
    assert_eq!(world.does(Command::Fence { machine: home, why: "again".into() }), vec![]);
    obeyed(&mut world, home);
    let refusal =
        world.refuses(Command::Power { machine: home, action: Action::On, force: false }).to_string();
    assert_eq!(refusal, format!("{name} is fenced and off; unfencing it switches it on"));

    let hardware = hardware(mac(2), vec![blank_disk("D2")]);
    world.does(Command::RecordAppliance { hardware });
    for command in [
        Command::Fence { machine: TWO, why: "it hangs".into() },
        Command::Power { machine: TWO, action: Action::Cycle, force: true },
        Command::Reimage { machine: TWO, how: Reimage { force: true, ..Reimage::default() } },
    ] {
        let refusal = world.refuses(command).to_string();
        assert!(refusal.contains("the appliance"), "{refusal}");
    }
}

#[test]
fn a_fence_during_an_installation_is_refused_with_what_to_do() {
    let mut world = World::founded();
    world.does(Command::Report { key: "k".into(), hardware: hardware(mac(1), vec![blank_disk("D1")]) });
    world.does(Command::SetBmc { machine: ONE, bmc: bmc(1) });
    assert_eq!(
        world.refuses(Command::Fence { machine: ONE, why: String::new() }).to_string(),
        "host-1 is installing and carries nothing that could run twice; switch it off, or cancel what goes on with it"
    );
}

#[test]
fn late_outcomes_and_cancelled_orders_change_nothing() {
    let mut world = hosts(1);
    world.does(Command::Power { machine: ONE, action: Action::Off, force: false });
    let since = fleet::power::wanted(&world.fleet.machines[&ONE]).unwrap().since;
    world.does(Command::Cancel { subject: Subject::Machine(ONE) });
    world.refuses(Command::ReportPower { machine: ONE, since, way: Way::Bmc, outcome: proven() });
    world.does(Command::Fence { machine: ONE, why: "it hangs".into() });
    let refusal = world
        .refuses(Command::ReportPower { machine: ONE, since, way: Way::Bmc, outcome: proven() })
        .to_string();
    assert_eq!(refusal, "nothing is wanted of the power of host-1 any more that was wanted then");
    assert_eq!(world.fleet.machines[&ONE].power.fence.as_ref().unwrap().off, None);
}

#[test]
fn a_reimaged_host_is_installed_again_on_its_own_disk_and_nothing_else_is_wiped() {
    let mut world = hosts(2);
    let before = world.fleet.machines[&ONE].disk.clone();
    world.does(Command::Reimage { machine: ONE, how: Reimage::default() });
    assert!(!world.fleet.hosts.contains_key(&ONE));
    assert_eq!(world.fleet.machines[&ONE].disk, before);
    assert_eq!(world.fleet.machines[&ONE].power.order.as_ref().unwrap().action, Action::Netboot);
    // Until it begins, it can stay what it is.
    let mut kept = World { fleet: world.fleet.clone(), log: vec![], clock: world.clock };
    kept.does(Command::Cancel { subject: Subject::Machine(ONE) });
    assert_eq!(kept.phase(ONE), &Phase::Ready);
    assert!(kept.fleet.hosts.contains_key(&ONE));
    assert_eq!(kept.fleet.machines[&ONE].power.order, None);

    let ours = disk_with("D1", "ext4", "ELI-IMAGE");
    let report = |disk| Command::Report { key: "new".into(), hardware: hardware(mac(1), vec![disk]) };
    let mut foreign = World { fleet: world.fleet.clone(), log: vec![], clock: world.clock };
    foreign.does(report(disk_with("D1", "ext4", "photos")));
    assert!(matches!(foreign.phase(ONE), Phase::Failed { .. }), "somebody's data came onto it");
    world.does(report(ours));
    assert!(matches!(world.phase(ONE), Phase::Installing { attempt: 1, .. }));
    assert_eq!(world.fleet.machines[&ONE].power.order, None);
    world.does(Command::ServeKickstart { machine: ONE, attempt: 1 });
    world.does(Command::PhoneHome { machine: ONE, attempt: 1 });
    world.does(Command::ObserveHost { machine: ONE, capacity: capacity(4096) });
    assert_eq!(world.phase(ONE), &Phase::Ready);
}

#[test]
fn reimaging_says_what_is_in_the_way() {
    let mut world = hosts(1);
    world.does(Command::CreateVm { spec: new_vm("db", 512) });
    let reimage = |force| Command::Reimage { machine: ONE, how: Reimage { force, ..Reimage::default() } };
    assert_eq!(
        world.refuses(reimage(false)).to_string(),
        "host-1 carries db, whose disks would go; remove that first, or reimage it by force, which forgets it"
    );
    let events = world.does(reimage(true));
    assert!(world.fleet.vms.is_empty());
    let leftovers: Vec<&String> = events.iter().flat_map(Event::leftovers).collect();
    assert_eq!(leftovers[0], "volume db-v1 of VM db stays on host-1's disk");
    let refusal = world.refuses(reimage(false)).to_string();
    assert_eq!(refusal, "host-1 is adopted already; cancel that first");
}

#[test]
fn a_bmc_is_one_machines_and_its_login_does_not_come_into_the_log() {
    let mut world = hosts(2);
    let refusal = world.refuses(Command::SetBmc { machine: TWO, bmc: bmc(1) }).to_string();
    assert_eq!(refusal, "Redfish at 10.9.0.1 switches host-1; one BMC switches one machine");
    for name in ["password", "login", "passwd"] {
        let options = BTreeMap::from([(name.to_owned(), "secret".to_owned())]);
        let refusal =
            world.refuses(Command::SetBmc { machine: TWO, bmc: Bmc { options, ..bmc(7) } }).to_string();
        assert!(refusal.contains("kept sealed"), "{refusal}");
    }
    for address in ["", "a b", "x\ny", "-o", "$(x)"] {
        world.refuses(Command::SetBmc { machine: TWO, bmc: Bmc { address: address.into(), ..bmc(7) } });
    }
    for kind in ["fence_", "fence_../x", "bash", "fence_apc;ls"] {
        assert!(kind.parse::<Kind>().is_err(), "{kind}");
    }
}
