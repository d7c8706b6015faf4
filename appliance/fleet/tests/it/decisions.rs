//! Decision tests: commands in, events and refusals out. No runtime, no clock, no disk.

use crate::common;
use crate::common::{World, blank_disk, capacity, disk_with, hardware};
use fleet::machine::{Boot, Phase};
use fleet::site::{Adopt, Policy};
use fleet::{Command, Mac, MachineId, NodeId, Refusal, Subject, VmId, lease, machine, vm};

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

#[test]
fn a_blank_machine_is_adopted_installed_and_becomes_a_host_by_itself() {
    let mut world = World::founded();
    world.does(Command::Sight { mac: MAC, arch: Some(0), uuid: None, link: None });
    let address = world.fleet.leases.address(MAC).unwrap();
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Discover);

    world.does(Command::Report { key: "k1".into(), hardware: hardware(MAC, vec![blank_disk("A")]) });
    let id = MachineId(1);
    assert!(matches!(world.phase(id), Phase::Installing { attempt: 1, kickstart_served: false, .. }));
    world.does(Command::ServeKickstart { machine: id, attempt: 1 });
    world.does(Command::PhoneHome { machine: id, attempt: 1 });
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Disk);
    world.does(Command::Enroll { node: NodeId::Machine(id), key: "k1".into() });
    world.does(Command::ObserveHost { machine: id, capacity: capacity(4096) });
    assert_eq!(*world.phase(id), Phase::Ready);
    assert_eq!(world.fleet.leases.address(MAC).unwrap(), address, "the address stays through all stages");
}

#[test]
fn a_machine_of_two_nics_is_one_machine() {
    let mut world = World::founded();
    let second = Mac([0x52, 0x54, 0, 0, 0, 2]);
    world.does(Command::Sight { mac: MAC, arch: Some(7), uuid: None, link: None });
    world.does(Command::Sight { mac: second, arch: Some(7), uuid: None, link: None });
    assert_eq!(world.fleet.machines.len(), 2);
    let mut both = hardware(second, vec![blank_disk("A")]);
    both.nics.push(fleet::wire::Nic { mac: MAC, ..both.nics[0].clone() });
    world.does(Command::Report { key: "k".into(), hardware: both });
    assert_eq!(world.fleet.machines.len(), 1);
    assert!(machine::by_mac(&world.fleet, MAC).is_some());
    assert_ne!(world.fleet.leases.address(MAC).unwrap(), world.fleet.leases.address(second).unwrap());
}

#[test]
fn a_disk_that_holds_data_is_a_question_and_not_a_target() {
    let mut world = World::founded();
    let before = hardware(MAC, vec![disk_with("A", "ext4", "data")]);
    world.does(Command::Report { key: "k".into(), hardware: before.clone() });
    let id = MachineId(1);
    assert_eq!(*world.phase(id), Phase::Reported);
    let plan = world.plan();
    let [waiting] = plan.waiting_of(Subject::Machine(id)) else { panic!("{plan:?}") };
    assert_eq!(waiting.subject, Subject::Machine(id));
    assert_eq!(waiting.what, "/dev/vda holds ext4 'data'; wipe it?");
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Disk, "its owner can go on using it");

    let refusal = world.refuses(Command::Adopt { machine: id, wipe: false, profile: None, disk: None });
    assert_eq!(refusal, Refusal::Conflict("/dev/vda holds ext4 'data'; wipe it?".into()));
    world.does(Command::Adopt { machine: id, wipe: true, profile: None, disk: None });
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Discover);
    world.does(Command::Report { key: "k".into(), hardware: before });
    assert!(matches!(world.phase(id), Phase::Installing { wipe: true, .. }));
}

#[test]
fn a_second_disk_with_data_stops_the_policy_although_the_first_is_blank() {
    let mut world = World::founded();
    let disks = vec![blank_disk("A"), disk_with("B", "zfs_member", "tank")];
    world.does(Command::Report { key: "k".into(), hardware: hardware(MAC, disks) });
    assert_eq!(*world.phase(MachineId(1)), Phase::Reported);
}

#[test]
fn a_disk_that_could_be_mistaken_for_another_is_not_a_target() {
    let mut world = World::founded();
    let nameless = fleet::wire::Disk { by_id: None, serial: None, ..blank_disk("A") };
    world.does(Command::Report { key: "k".into(), hardware: hardware(MAC, vec![nameless]) });
    assert_eq!(*world.phase(MachineId(1)), Phase::Reported);
    let plan = world.plan();
    let [waiting] = plan.waiting_of(Subject::Machine(MachineId(1))) else { panic!("{plan:?}") };
    assert_eq!(waiting.what, "/dev/vda has no serial number or place by which it would be known again");
}

#[test]
fn a_disk_that_was_filled_after_the_decision_is_not_wiped() {
    let mut world = World::founded();
    world.does(Command::SetPolicy {
        policy: Policy { adopt: Adopt::Ask, ssh_keys: vec![], ..Default::default() },
    });
    world.does(Command::Report { key: "k".into(), hardware: hardware(MAC, vec![blank_disk("A")]) });
    world.does(Command::Adopt { machine: MachineId(1), wipe: false, profile: None, disk: None });
    world.does(Command::Report {
        key: "k".into(),
        hardware: hardware(MAC, vec![disk_with("A", "xfs", "new")]),
    });
    assert!(matches!(world.phase(MachineId(1)), Phase::Failed { .. }));
}

#[test]
fn power_lost_in_the_middle_starts_over_with_a_new_token_and_a_new_key() {
    let mut world = World::founded();
    world.does(Command::Report { key: "k1".into(), hardware: hardware(MAC, vec![blank_disk("A")]) });
    world.does(Command::ServeKickstart { machine: MachineId(1), attempt: 1 });
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Discover);
    let half_done = hardware(MAC, vec![disk_with("A", "gpt", "")]);
    world.does(Command::Report { key: "k2".into(), hardware: half_done.clone() });
    assert!(matches!(
        world.phase(MachineId(1)),
        Phase::Installing { attempt: 2, kickstart_served: false, .. }
    ));
    world.refuses(Command::ServeKickstart { machine: MachineId(1), attempt: 1 });
    world.refuses(Command::PhoneHome { machine: MachineId(1), attempt: 1 });
    world.does(Command::ServeKickstart { machine: MachineId(1), attempt: 2 });
    world.does(Command::PhoneHome { machine: MachineId(1), attempt: 2 });
    assert_eq!(*world.phase(MachineId(1)), Phase::Installed);
    world.refuses(Command::Enroll { node: NodeId::Machine(MachineId(1)), key: "k1".into() });
}

#[test]
fn a_machine_that_never_ends_its_installation_asks_for_a_person() {
    let mut world = World::founded();
    for attempt in 0..=machine::MAX_ATTEMPTS {
        let key = format!("k{attempt}");
        world.does(Command::Report { key, hardware: hardware(MAC, vec![blank_disk("A")]) });
    }
    assert!(matches!(world.phase(MachineId(1)), Phase::Failed { .. }));
    world.does(Command::Adopt { machine: MachineId(1), wipe: false, profile: None, disk: None });
    assert!(matches!(world.phase(MachineId(1)), Phase::Adopted { .. }));
}

#[test]
fn an_install_token_works_once_and_phoning_home_may_be_repeated() {
    let mut world = World::founded();
    world.does(Command::Report { key: "k".into(), hardware: hardware(MAC, vec![blank_disk("A")]) });
    let id = MachineId(1);
    world.refuses(Command::PhoneHome { machine: id, attempt: 1 });
    world.does(Command::ServeKickstart { machine: id, attempt: 1 });
    let refusal = world.refuses(Command::ServeKickstart { machine: id, attempt: 1 });
    assert_eq!(refusal.to_string(), "the install token of host-1 was used already");
    world.does(Command::PhoneHome { machine: id, attempt: 1 });
    assert!(world.does(Command::PhoneHome { machine: id, attempt: 1 }).is_empty());
}

#[test]
fn an_installed_machine_cannot_be_reported_over() {
    let mut world = World::with_host(4096);
    let refusal = world
        .refuses(Command::Report { key: "thief".into(), hardware: hardware(MAC, vec![blank_disk("A")]) });
    assert_eq!(refusal.to_string(), "host-1 is installed already; reimage it if it is to be installed again");
}

#[test]
fn vms_go_where_there_is_room_and_are_refused_with_the_figures_where_there_is_none() {
    let mut world = World::with_host(4096);
    world.does(Command::CreateVm { spec: common::new_vm("web", 2048) });
    let vm = &world.fleet.vms[&VmId(1)];
    assert_eq!(vm.host, MachineId(1));
    let address = world.fleet.leases.address(vm.mac).unwrap();
    assert_ne!(address, world.fleet.leases.address(MAC).unwrap());

    let before = world.fleet.clone();
    let refusal = world.refuses(Command::CreateVm { spec: common::new_vm("big", 2048) });
    assert_eq!(
        refusal.to_string(),
        "big wants 2048 MiB memory, 1 vCPU and 2 GiB disk; no host has room for it. \
         The most there is: host-1 has 1280 MiB free, 2 threads and 18 GiB for volumes"
    );
    assert_eq!(world.fleet, before);
    world.refuses(Command::CreateVm { spec: common::new_vm("web", 128) });
    world.refuses(Command::CreateVm { spec: common::new_vm("Not a name", 128) });
    world.refuses(Command::RemoveMachine { machine: MachineId(1), force: false });

    world.does(Command::RemoveVm { vm: VmId(1), force: false });
    world.does(Command::ObserveVmGone { vm: VmId(1) });
    assert_eq!(world.fleet.leases.given.holder(address), None);
    world.does(Command::CreateVm { spec: common::new_vm("big", 2048) });
    assert_eq!(world.fleet.vms.keys().copied().collect::<Vec<_>>(), [VmId(2)], "ids are not used twice");
}

#[test]
fn a_package_gets_a_node_an_address_and_an_entry_in_the_registry() {
    let mut world = World::with_host(4096);
    world.does(Command::InstallPackage {
        bundle: common::bundle("hello", 512),
        image: common::image(),
        tenant: None,
    });
    let service = world.fleet.services.values().next().unwrap().clone();
    assert_eq!(&*world.fleet.vms[&VmId(1)].name, "hello-1");
    let mac = world.fleet.vms[&VmId(1)].mac;
    assert_eq!(service.address, world.fleet.leases.address(mac).unwrap());
    assert_eq!(service.url(), format!("http://{}:8080/", service.address));
    world.refuses(Command::InstallPackage {
        bundle: common::bundle("hello", 512),
        image: common::image(),
        tenant: None,
    });
    world.refuses(Command::RemoveVm { vm: VmId(1), force: false });

    let before = world.fleet.clone();
    world.refuses(Command::InstallPackage {
        bundle: common::bundle("huge", 1 << 20),
        image: common::image(),
        tenant: None,
    });
    assert_eq!(world.fleet, before);

    world.does(Command::RemoveService { service: service.id, force: false });
    assert_eq!(world.fleet.vms[&VmId(1)].phase, vm::Phase::Removing);
    world.does(Command::ObserveVmGone { vm: VmId(1) });
    let actions = world.plan().actions().cloned().collect::<Vec<_>>();
    assert_eq!(actions, [Command::RemoveService { service: service.id, force: false }]);
    world.does(actions[0].clone());
    assert!(world.fleet.services.is_empty());
}

#[test]
fn a_guest_enrols_once() {
    let mut world = World::with_host(4096);
    world.does(Command::CreateVm { spec: common::new_vm("web", 512) });
    let node = NodeId::Vm(VmId(1));
    world.does(Command::Enroll { node, key: "a".into() });
    assert!(world.does(Command::Enroll { node, key: "a".into() }).is_empty());
    world.refuses(Command::Enroll { node, key: "b".into() });
}

#[test]
fn addresses_run_out_with_a_sentence() {
    let mut world = World::default();
    world.does(Command::Found {
        site: uuid::Uuid::from_u128(1),
        network: "10.0.0.0/24".parse().unwrap(),
        address: "10.0.0.1".parse().unwrap(),
        domain: "elisandra".into(),
    });
    let mac = |number: u8| Mac([2, 0, 0, 0, 0, number]);
    let given = (0..=255).take_while(|number| {
        let sight = Command::Sight { mac: mac(*number), arch: None, uuid: None, link: None };
        fleet::decide(&world.fleet, &sight, common::at(1)).is_ok_and(|events| {
            events.iter().for_each(|event| fleet::evolve(&mut world.fleet, event));
            true
        })
    });
    assert_eq!(given.count(), 239, "10.0.0.16 to 10.0.0.254");
    let own = fleet::subnet::own(&world.fleet).unwrap();
    assert_eq!(lease::address_for(&world.fleet, mac(255), &own, common::at(1).now), None);
}
