//! Cancel, remove and force: what becomes of every noun in every phase, what is left over, and that nothing waits in
//! silence for ever.

use crate::common;
use crate::common::{World, blank_disk, hardware, new_vm};
use fleet::machine::{Erase, Phase};
use fleet::site::{Adopt, Policy};
use fleet::{
    Command, Event, Mac, MachineId, NodeId, Observed, ServiceId, Subject, Timestamp, VmId, service, vm,
};

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is in this phase afterwards; the word of the page.
    Is(&'static str),
    Gone,
    Refused,
}
use Outcome::{Gone, Is, Refused};

/// Cancel, remove, remove by force.
type Row = [Outcome; 3];

/// No wildcards here: a new phase has to say what becomes of it.
fn machine_row(phase: &Phase) -> Row {
    match phase {
        Phase::Sighted | Phase::Reported | Phase::Failed { .. } => [Refused, Gone, Gone],
        Phase::Adopted { .. } | Phase::Installing { .. } => [Is("found"), Gone, Gone],
        Phase::Installed | Phase::Ready | Phase::Retired => [Refused, Gone, Gone],
        Phase::Erasing(erasing) if erasing.begun() => [Is("erasing"), Gone, Gone],
        Phase::Erasing(_) => [Is("found"), Gone, Gone],
    }
}

fn vm_row(phase: vm::Phase) -> Row {
    match phase {
        vm::Phase::Wanted => [Is("being removed"), Is("being removed"), Gone],
        vm::Phase::Running => [Refused, Is("being removed"), Gone],
        vm::Phase::Removing => [Is("starting"), Is("being removed"), Gone],
    }
}

fn service_row(phase: service::Phase) -> Row {
    match phase {
        service::Phase::Installing => [Is("being removed"), Is("being removed"), Gone],
        service::Phase::Answering => [Refused, Is("being removed"), Gone],
        service::Phase::Removing => [Is("installing"), Is("being removed"), Gone],
    }
}

const MACHINE: MachineId = MachineId(1);
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

/// The machine m1 in every phase.
fn machines() -> Vec<World> {
    let report = || Command::Report { key: "k".into(), hardware: hardware(MAC, vec![blank_disk("A")]) };
    let ask = || {
        let mut world = World::founded();
        world.does(Command::SetPolicy {
            policy: Policy { adopt: Adopt::Ask, ssh_keys: vec![], ..Default::default() },
        });
        world
    };
    let after = |mut world: World, commands: Vec<Command>| {
        for command in commands {
            world.does(command);
        }
        world
    };
    let adopt = || Command::Adopt { machine: MACHINE, wipe: false, profile: None, disk: None };
    let erase = || Command::EraseMachine { machine: MACHINE, how: Erase::default() };
    let kickstart = || Command::ServeKickstart { machine: MACHINE, attempt: 1 };
    let fail =
        Command::FailInstall { machine: MACHINE, attempt: 1, step: "copying".into(), error: "no".into() };
    let home = Command::PhoneHome { machine: MACHINE, attempt: 1 };
    vec![
        after(ask(), vec![Command::Sight { mac: MAC, arch: Some(0), uuid: None, link: None }]),
        after(ask(), vec![report()]),
        after(ask(), vec![report(), erase()]),
        after(ask(), vec![report(), erase(), report()]),
        after(ask(), vec![report(), Command::Retire { machine: MACHINE }]),
        after(ask(), vec![report(), adopt()]),
        after(ask(), vec![report(), adopt(), report()]),
        after(ask(), vec![report(), adopt(), report(), kickstart(), fail]),
        after(ask(), vec![report(), adopt(), report(), kickstart(), home]),
        World::with_host(4096),
    ]
}

fn vms() -> Vec<World> {
    let create = || {
        let mut world = World::with_host(4096);
        world.does(Command::CreateVm { spec: new_vm("web", 512) });
        world
    };
    let (wanted, mut running, mut removing) = (create(), create(), create());
    running.does(Command::ObserveVmRunning { vm: VmId(1) });
    removing.does(Command::RemoveVm { vm: VmId(1), force: false });
    vec![wanted, running, removing]
}

fn services() -> Vec<World> {
    let install = || {
        let mut world = World::with_host(4096);
        world.does(Command::InstallPackage {
            bundle: common::bundle("hello", 512),
            image: common::image(),
            tenant: None,
        });
        world
    };
    let (installing, mut answering, mut removing) = (install(), install(), install());
    answering.does(Command::ObserveAnswering { service: ServiceId(1) });
    removing.does(Command::RemoveService { service: ServiceId(1), force: false });
    vec![installing, answering, removing]
}

fn outcome(world: &World, command: &Command, phase: impl Fn(&World) -> Option<&'static str>) -> Outcome {
    let mut world = World { fleet: world.fleet.clone(), log: vec![], clock: world.clock };
    match world.give(command) {
        Err(_) => Refused,
        Ok(_) => phase(&world).map_or(Gone, Is),
    }
}

#[test]
fn every_phase_can_be_left() {
    let mut seen = vec![];
    for world in machines() {
        let machine = &world.fleet.machines[&MACHINE];
        let word = |world: &World| world.fleet.machines.get(&MACHINE).map(|machine| machine.phase.word());
        let subject = Subject::Machine(MACHINE);
        let row = [
            outcome(&world, &Command::Cancel { subject }, word),
            outcome(&world, &Command::RemoveMachine { machine: MACHINE, force: false }, word),
            outcome(&world, &Command::RemoveMachine { machine: MACHINE, force: true }, word),
        ];
        assert_eq!(row, machine_row(&machine.phase), "{}", machine.phase.word());
        seen.push(machine.phase.word());
    }
    assert_eq!(
        seen,
        [
            "sighted",
            "found",
            "erasing",
            "erasing",
            "retired",
            "adopted",
            "installing",
            "failed",
            "installed",
            "ready"
        ]
    );
    for world in vms() {
        let vm = &world.fleet.vms[&VmId(1)];
        let word = |world: &World| world.fleet.vms.get(&VmId(1)).map(|vm| vm.phase.word());
        let row = [
            outcome(&world, &Command::Cancel { subject: Subject::Vm(VmId(1)) }, word),
            outcome(&world, &Command::RemoveVm { vm: VmId(1), force: false }, word),
            outcome(&world, &Command::RemoveVm { vm: VmId(1), force: true }, word),
        ];
        assert_eq!(row, vm_row(vm.phase), "{}", vm.phase.word());
    }
    for world in services() {
        let id = ServiceId(1);
        let service = &world.fleet.services[&id];
        let word = |world: &World| world.fleet.services.get(&id).map(|service| service.phase.word());
        let row = [
            outcome(&world, &Command::Cancel { subject: Subject::Service(id) }, word),
            outcome(&world, &Command::RemoveService { service: id, force: false }, word),
            outcome(&world, &Command::RemoveService { service: id, force: true }, word),
        ];
        assert_eq!(row, service_row(service.phase), "{}", service.phase.word());
    }
}

/// What the plan gives at this moment, nodes being silent.
fn late_at(world: &World, secs: u64) -> Vec<Command> {
    let plan = fleet::plan(&world.fleet, &Observed::new(), Timestamp(secs * 1000));
    plan.actions().cloned().collect()
}

#[test]
fn a_phase_that_should_pass_by_itself_is_late_once() {
    let mut worlds = machines();
    worlds.extend(vms());
    worlds.extend(services());
    let mut late = 0;
    for mut world in worlds {
        let limits: Vec<Subject> = world
            .fleet
            .machines
            .values()
            .filter(|machine| machine.phase.limit_secs().is_some())
            .map(|machine| Subject::Machine(machine.id))
            .chain(
                world
                    .fleet
                    .vms
                    .values()
                    .filter(|vm| vm.phase.limit_secs().is_some())
                    .map(|vm| Subject::Vm(vm.id)),
            )
            .chain(
                world
                    .fleet
                    .services
                    .values()
                    .filter(|service| service.phase.limit_secs().is_some())
                    .map(|service| Subject::Service(service.id)),
            )
            .collect();
        assert_eq!(late_at(&world, 60), [], "not yet");
        let said = late_at(&world, 3 * 3600);
        let about: Vec<Subject> = said
            .iter()
            .map(|command| match command {
                Command::RecordLate { subject, what } if !what.is_empty() => *subject,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(about, limits);
        for command in said {
            let events = world.does(command.clone());
            assert!(events[0].sentence().starts_with("Is late: "), "{events:?}");
            assert_eq!(world.does(command), [], "once");
            late += 1;
        }
        assert_eq!(late_at(&world, 3 * 3600), []);
    }
    assert!(late >= 9, "{late}");
}

#[test]
fn it_may_be_late_again_when_it_comes_into_the_phase_again() {
    let mut world = vms().remove(0);
    let subject = Subject::Vm(VmId(1));
    world.does(late_at(&world, 3600).remove(0));
    world.does(Command::Cancel { subject });
    world.does(Command::Cancel { subject });
    assert_eq!(world.fleet.vms[&VmId(1)].late, None);
    assert_eq!(late_at(&world, 3600).len(), 1);
}

#[test]
fn what_was_cancelled_is_left_alone_by_the_policy() {
    let mut world = World::founded();
    let report = |attempt: u32| Command::Report {
        key: format!("k{attempt}"),
        hardware: hardware(MAC, vec![blank_disk("A")]),
    };
    world.does(report(1));
    world.does(Command::ServeKickstart { machine: MACHINE, attempt: 1 });
    let cancelled = world.does(Command::Cancel { subject: Subject::Machine(MACHINE) });
    assert_eq!(
        cancelled[0].sentence(),
        "Cancelled; it is left alone until a person adopts it. Left over: an installation that is under way on host-1 \
         ends by itself and is not taken; what it wrote stays on /dev/vda (21 GB, serial A)"
    );
    world.refuses(Command::PhoneHome { machine: MACHINE, attempt: 1 });
    world.refuses(Command::ServeKickstart { machine: MACHINE, attempt: 1 });
    world.does(report(2));
    assert_eq!(
        *world.phase(MACHINE),
        Phase::Reported,
        "although its disk is blank and the policy says blank"
    );
    world.does(Command::Adopt { machine: MACHINE, wipe: false, profile: None, disk: None });
    world.does(report(2));
    assert!(matches!(world.phase(MACHINE), Phase::Installing { .. }));
    let nothing = World::with_host(4096).refuses(Command::Cancel { subject: Subject::Machine(MACHINE) });
    assert_eq!(nothing.to_string(), "host-1 is ready; nothing goes on with it that could be cancelled");
}

#[test]
fn a_host_is_forgotten_with_all_that_is_on_it_by_force_alone() {
    let mut world = World::with_host(8192);
    world.does(Command::CreateVm { spec: new_vm("web", 512) });
    world.does(Command::InstallPackage {
        bundle: common::bundle("hello", 512),
        image: common::image(),
        tenant: None,
    });
    let refusal = world.refuses(Command::RemoveMachine { machine: MACHINE, force: false });
    assert_eq!(
        refusal.to_string(),
        "host-1 carries web, hello-1; remove that first, or remove host-1 by force, which forgets it too"
    );
    let events = world.does(Command::RemoveMachine { machine: MACHINE, force: true });
    let left: Vec<String> = events.iter().flat_map(Event::leftovers).cloned().collect();
    let address =
        events.iter().find_map(|event| event.sentence().contains("still uses 10.77.").then_some(()));
    assert!(address.is_some(), "{left:?}");
    for part in [
        "volume web-v1 of VM web stays on host-1's disk",
        "volume hello-1-v2 of VM hello-1 stays on host-1's disk",
        "host-1's system stays on its disk",
        "host-1's certificate is good until 2060-01-01; nothing here answers to it any more",
    ] {
        assert!(left.iter().any(|line| line == part), "{part} is not in {left:#?}");
    }
    let fleet = &world.fleet;
    assert!(fleet.machines.is_empty() && fleet.hosts.is_empty() && fleet.vms.is_empty());
    assert!(fleet.services.is_empty() && fleet.leases.given.is_empty());

    world.does(Command::Sight { mac: MAC, arch: Some(0), uuid: None, link: None });
    assert!(world.fleet.machines.contains_key(&MachineId(2)), "it is a new sighting");
    world.refuses(Command::Enroll { node: NodeId::Machine(MACHINE), key: "k".into() });
}

#[test]
fn a_vm_whose_host_is_away_is_forgotten_by_force_and_its_service_with_it() {
    let mut world = services().remove(1);
    let refusal = world.refuses(Command::RemoveVm { vm: VmId(1), force: false });
    assert_eq!(
        refusal.to_string(),
        "hello-1 carries the service hello; remove that, or remove the VM by force"
    );
    let events = world.does(Command::RemoveVm { vm: VmId(1), force: true });
    let said: Vec<String> = events.iter().map(Event::sentence).collect();
    assert!(
        said.iter().any(|line| line.contains(
            "VM hello-1 was forgotten without its host's word. Left over: volume hello-1-v1 stays on host-1's disk \
             until host-1 speaks again and removes it"
        )),
        "{said:#?}"
    );
    assert!(world.fleet.vms.is_empty() && world.fleet.services.is_empty());
    world.refuses(Command::ObserveVmGone { vm: VmId(1) });
}

#[test]
fn a_service_that_is_being_removed_is_kept_while_its_vm_is_there() {
    let mut world = services().remove(2);
    let subject = Subject::Service(ServiceId(1));
    let refusal = world.refuses(Command::Cancel { subject: Subject::Vm(VmId(1)) });
    assert_eq!(refusal.to_string(), "hello-1 carries the service hello; cancel that");
    world.does(Command::Cancel { subject });
    assert_eq!(world.fleet.vms[&VmId(1)].phase, vm::Phase::Wanted);
    world.does(Command::RemoveService { service: ServiceId(1), force: false });
    world.does(Command::ObserveVmGone { vm: VmId(1) });
    let refusal = world.refuses(Command::Cancel { subject });
    assert_eq!(refusal.to_string(), "hello cannot be kept: its VM or its package is gone already");
}

#[test]
fn a_package_in_use_goes_by_force_alone_and_takes_its_service_with_it() {
    let mut world = services().remove(1);
    let remove = |force| Command::RemovePackage { name: "hello".into(), force };
    let refusal = world.refuses(remove(false)).to_string();
    assert!(refusal.starts_with("hello is answering at http://10.77."), "{refusal}");
    let events = world.does(remove(true));
    let last = events.last().unwrap().sentence();
    assert_eq!(last, "Package hello was removed. Left over: the service hello is still being removed");
    assert!(world.fleet.packages.is_empty());
    assert_eq!(world.fleet.services[&ServiceId(1)].phase, service::Phase::Removing);
    assert_eq!(world.refuses(remove(true)).to_string(), "there is no package hello");
}

#[test]
fn a_host_that_is_drained_gets_no_new_vm() {
    let mut world = World::with_host(8192);
    world.does(Command::CreateVm { spec: new_vm("web", 512) });
    world.does(Command::Drain { machine: MACHINE });
    assert_eq!(world.does(Command::Drain { machine: MACHINE }), []);
    let refusal = world.refuses(Command::CreateVm { spec: new_vm("other", 512) });
    assert_eq!(
        refusal.to_string(),
        "other wants 512 MiB memory, 1 vCPU and 2 GiB disk, and every host is being drained"
    );
    let waiting = |world: &World| world.plan().waiting_of(Subject::Machine(MACHINE))[0].what.to_string();
    assert_eq!(waiting(&world), "is being drained; still on it: web");
    world.does(Command::ObserveHost { machine: MACHINE, capacity: common::capacity(4096) });
    assert!(
        world.fleet.hosts[&MACHINE].draining_since.is_some(),
        "it says what it has, and is drained still"
    );
    let late = late_at(&world, 3 * 3600);
    assert!(matches!(&late[..], [.., Command::RecordLate { subject: Subject::Vm(_), .. }]), "{late:?}");
    world.does(late[0].clone());
    assert!(world.fleet.machines[&MACHINE].late.is_some());

    world.does(Command::Cancel { subject: Subject::Machine(MACHINE) });
    assert_eq!(world.fleet.machines[&MACHINE].late, None);
    world.does(Command::CreateVm { spec: new_vm("other", 512) });
    let refusal = machines().remove(1).refuses(Command::Drain { machine: MACHINE });
    assert_eq!(refusal.to_string(), "host-1 is found; it is no host");
}

#[test]
fn events_of_the_first_version_are_read() {
    for (body, leftovers) in [
        (r#"{"noun":"machine","event":"removed","machine":"m1"}"#, 0),
        (r#"{"noun":"service","event":"removed","service":"s1"}"#, 0),
    ] {
        let event: Event = serde_json::from_str(body).unwrap();
        assert_eq!(event.leftovers().len(), leftovers);
    }
    let command = r#"{"command":"remove_machine","machine":"m1"}"#;
    let read: Command = serde_json::from_str(command).unwrap();
    assert_eq!(read, Command::RemoveMachine { machine: MACHINE, force: false });
    let cancel: Command = serde_json::from_str(r#"{"command":"cancel","subject":"v7"}"#).unwrap();
    assert_eq!(cancel, Command::Cancel { subject: Subject::Vm(VmId(7)) });
}

#[test]
fn a_machine_that_goes_takes_no_address_of_a_vm() {
    let mut world = World::with_host(8192);
    world.does(Command::CreateVm { spec: new_vm("first", 256) });
    let vm_mac = |world: &World, name: &str| vm::by_name(&world.fleet, name).unwrap().mac;
    let mac = vm_mac(&world, "first");
    // A machine comes with the address that the next VM would have, and another says that it has the first one's.
    let next = Mac([mac.0[0], mac.0[1], mac.0[2], mac.0[3], mac.0[4], mac.0[5] + 1]);
    world.does(Command::Sight { mac: next, arch: Some(0), uuid: None, link: None });
    let liar = Mac([0x52, 0x54, 0, 0, 9, 9]);
    let mut lies = hardware(liar, vec![blank_disk("B")]);
    lies.nics.push(fleet::wire::Nic { name: "eth1".to_owned(), mac, ..lies.nics[0].clone() });
    world.does(Command::Report { key: "liar".into(), hardware: lies });
    world.does(Command::CreateVm { spec: new_vm("second", 256) });
    assert_ne!(vm_mac(&world, "second"), next);
    for mac in [next, liar] {
        let machine = fleet::machine::by_mac(&world.fleet, mac).unwrap().id;
        world.does(Command::RemoveMachine { machine, force: false });
    }
    for name in ["first", "second"] {
        assert!(world.fleet.leases.address(vm_mac(&world, name)).is_some(), "{name} has its address");
    }
}
