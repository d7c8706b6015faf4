//! Racks, switches and ports: what stands where, and which NIC is in which port.

use std::collections::BTreeSet;

use crate::common;
use crate::common::{World, blank_disk, hardware};
use fleet::rack::{Occupant, Place, place_of};
use fleet::switch::{Plugged, Socket, socket_of};
use fleet::wire::Neighbour;
use fleet::{Command, Event, Mac, MachineId};

fn mac(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, number])
}

/// host-1 is a host; host-2 and host-3 were found.
fn three_machines() -> World {
    let mut world = World::with_host(4096);
    for number in 2..=3 {
        let disks = vec![common::disk_with("B", "ext4", "")];
        world.does(Command::Report { key: format!("k{number}"), hardware: hardware(mac(number), disks) });
    }
    world
}

fn sentences(events: &[Event]) -> Vec<String> {
    events.iter().map(Event::sentence).collect()
}

fn put(machine: u64, unit: u32, height: u32) -> Command {
    Command::PlaceMachine { machine: MachineId(machine), rack: "r1".into(), unit, height }
}

fn heard(machine: u8, chassis: &str, port: &str, system: &str) -> Command {
    let system = (!system.is_empty()).then(|| system.to_owned());
    let neighbour = Neighbour { mac: mac(machine), chassis: chassis.into(), port: port.into(), system };
    Command::ObserveNeighbour { machine: MachineId(u64::from(machine)), neighbour }
}

fn plug(port: &str, what: Plugged) -> Command {
    Command::Plug { switch: "sw1".into(), port: port.into(), what }
}

fn nic(number: u8) -> Plugged {
    Plugged::Nic { mac: mac(number) }
}

fn sw1(port: &str) -> Socket {
    Socket { switch: "sw1".into(), port: port.into() }
}

#[test]
fn a_unit_holds_one_thing() {
    let mut world = three_machines();
    world.does(Command::AddRack { name: "r1".into(), units: 42 });
    assert_eq!(sentences(&world.does(put(1, 3, 2))), ["host-1 stands in units 3 to 4 of rack r1"]);
    let refusal = world.refuses(put(2, 4, 1));
    assert_eq!(refusal.to_string(), "host-1 stands in units 3 to 4 of rack r1");
    world.refuses(put(2, 2, 2));
    world.does(put(2, 2, 1));
    let refusal = world.refuses(put(3, 42, 2));
    assert_eq!(refusal.to_string(), "rack r1 has the units 1 to 42; 2 units from 42 up do not fit");
    world.refuses(put(3, 0, 1));
    world.refuses(put(3, u32::MAX, u32::MAX));
    assert!(world.does(put(1, 3, 2)).is_empty(), "it stands there already");
    let moved = world.does(put(1, 4, 2));
    assert_eq!(
        sentences(&moved),
        ["host-1 was moved from units 3 to 4 of rack r1 to units 4 to 5 of rack r1"],
        "its own units are not in its way"
    );
    world.does(Command::AddSwitch {
        name: "sw1".into(),
        ports: vec![],
        place: Some(Place { rack: "r1".into(), unit: 42, height: 1 }),
    });
    world.refuses(put(3, 42, 1));

    let refusal = world.refuses(Command::RemoveRack { name: "r1".into(), force: false });
    assert_eq!(
        refusal.to_string(),
        "rack r1 holds host-2, host-1, sw1; take that out first, or remove it by force"
    );
    let removed = world.does(Command::RemoveRack { name: "r1".into(), force: true });
    assert_eq!(
        removed[0].leftovers(),
        ["host-2 stands in no rack now", "host-1 stands in no rack now", "sw1 stands in no rack now"]
    );
    assert_eq!(place_of(&world.fleet, &Occupant::Switch("sw1".into())), None);
    for wrong in [("R1", 42), ("r1", 0), ("r1", 61)] {
        world.refuses(Command::AddRack { name: wrong.0.into(), units: wrong.1 });
    }
}

#[test]
fn lldp_makes_the_switch_and_its_port_and_moves_the_nic() {
    let mut world = three_machines();
    let found = world.does(heard(1, "aa:bb:cc:00:00:01", "Gi1/0/7", "Core-SW1.example.org"));
    assert_eq!(
        sentences(&found),
        [
            "Switch core-sw1 was heard over LLDP; its chassis is aa:bb:cc:00:00:01",
            "host-1 (52:54:00:00:00:01) is in port Gi1/0/7 of core-sw1, as LLDP says"
        ]
    );
    assert!(
        world.does(heard(1, "aa:bb:cc:00:00:01", "Gi1/0/7", "renamed")).is_empty(),
        "known by its chassis"
    );
    let moved = world.does(heard(1, "aa:bb:cc:00:00:01", "Gi1/0/8", "core-sw1"));
    assert_eq!(
        sentences(&moved),
        [
            "host-1 (52:54:00:00:00:01) moved from port Gi1/0/7 of core-sw1 to port Gi1/0/8 of core-sw1, as LLDP says"
        ]
    );
    world.does(heard(2, "aa:bb:cc:00:00:02", "1", "core-sw1"));
    world.does(heard(3, "aa:bb:cc:00:00:03", "1", ""));
    let names: Vec<_> = world.fleet.switches.keys().cloned().collect();
    assert_eq!(names, ["core-sw1", "core-sw1-2", "switch"]);

    let refusal = world.refuses(Command::RemoveSwitch { name: "core-sw1".into(), force: false });
    assert_eq!(
        refusal.to_string(),
        "switch core-sw1 has host-1 (52:54:00:00:00:01) in port Gi1/0/8; unplug that first, or remove it by force"
    );
    let stranger = Neighbour { mac: mac(2), chassis: "c".into(), port: "1".into(), system: None };
    world.refuses(Command::ObserveNeighbour { machine: MachineId(1), neighbour: stranger });
}

#[test]
fn what_lldp_says_about_a_switch_that_was_added_by_hand_is_about_that_switch() {
    let mut world = three_machines();
    world.does(Command::AddSwitch { name: "sw1".into(), ports: vec!["7".into()], place: None });
    let learned = world.does(heard(2, "c1", "7", "sw1"));
    assert_eq!(
        sentences(&learned)[0],
        "Switch sw1 was heard over LLDP for the first time; its chassis is c1"
    );
    assert_eq!(socket_of(&world.fleet, mac(2)), Some(sw1("7")));
}

#[test]
fn neither_lldp_nor_a_person_overwrites_the_other() {
    let mut world = three_machines();
    world.does(Command::AddSwitch { name: "sw1".into(), ports: vec!["7".into(), "8".into()], place: None });
    world.does(plug("7", nic(2)));
    world.does(heard(3, "c1", "7", "sw1"));
    let port = &world.fleet.switches["sw1"].ports["7"];
    assert_eq!((port.by_hand.clone(), port.heard.clone()), (Some(nic(2)), BTreeSet::from([mac(3)])));
    let contradiction = "by hand host-2 is in port 7 of sw1; LLDP says host-3";
    let waits = |world: &World| world.plan().waiting().filter(|w| w.what == contradiction).count();
    assert_eq!(waits(&world), 2, "both machines show it");

    let agreed = world.does(plug("7", nic(3)));
    assert_eq!(
        sentences(&agreed),
        [
            "host-3 (52:54:00:00:00:03) is in port 7 of sw1 instead of host-2 (52:54:00:00:00:02), as a person says"
        ]
    );
    assert_eq!(waits(&world), 0);
    assert_eq!(socket_of(&world.fleet, mac(2)), None);

    let moved = world.does(heard(3, "c1", "8", "sw1"));
    assert_eq!(
        sentences(&moved),
        ["host-3 (52:54:00:00:00:03) moved from port 7 of sw1 to port 8 of sw1, as LLDP says"]
    );
    assert_eq!(world.fleet.switches["sw1"].ports["7"].by_hand, None);
    world.does(plug("8", Plugged::Note { text: "the white cable".into() }));
    assert_eq!(waits(&world), 0, "a note contradicts nothing");
}

#[test]
fn switches_are_plugged_into_each_other_at_both_ends() {
    let mut world = three_machines();
    for name in ["sw1", "sw2", "sw3"] {
        world.does(Command::AddSwitch { name: name.into(), ports: vec!["1".into()], place: None });
    }
    let to = |switch: &str| Plugged::Port { switch: switch.into(), port: "1".into() };
    world.does(plug("1", to("sw2")));
    assert_eq!(world.fleet.switches["sw2"].ports["1"].by_hand, Some(to("sw1")));
    let refusal = world.refuses(Command::Plug { switch: "sw3".into(), port: "1".into(), what: to("sw2") });
    assert_eq!(refusal.to_string(), "port 1 of sw1 is in port 1 of sw2; unplug it first");
    world.refuses(plug("1", to("sw1")));
    world.does(plug("1", nic(1)));
    assert_eq!(world.fleet.switches["sw2"].ports["1"].by_hand, None, "the other end too");
    world.does(plug("1", to("sw3")));
    world.does(Command::RemoveSwitch { name: "sw3".into(), force: true });
    assert_eq!(world.fleet.switches["sw1"].ports["1"].by_hand, None);
}

#[test]
fn a_vm_is_in_no_port_and_a_removed_machine_neither() {
    let mut world = three_machines();
    world.does(Command::AddRack { name: "r1".into(), units: 4 });
    world.does(Command::AddSwitch { name: "sw1".into(), ports: vec!["1".into()], place: None });
    world.does(Command::CreateVm { spec: common::new_vm("web", 512) });
    let vm = world.fleet.vms.values().next().unwrap().mac;
    let refusal = world.refuses(plug("1", Plugged::Nic { mac: vm }));
    assert_eq!(
        refusal.to_string(),
        format!("{vm} is the NIC of the VM web; a VM is in no port, its host is")
    );
    let refusal = world.refuses(plug("1", nic(9)));
    assert_eq!(refusal.to_string(), "there is no machine with the MAC address 52:54:00:00:00:09");
    assert_eq!(world.refuses(plug("2", nic(2))).to_string(), "there is no port 2 of sw1");

    world.does(plug("1", nic(2)));
    world.does(put(2, 1, 1));
    let refusal = world.refuses(Command::RemovePorts { switch: "sw1".into(), ports: vec!["1".into()] });
    assert_eq!(refusal.to_string(), "host-2 (52:54:00:00:00:02) is in port 1 of sw1; unplug it first");
    world.does(Command::RemoveMachine { machine: MachineId(2), force: false });
    assert_eq!(socket_of(&world.fleet, mac(2)), None);
    assert!(world.fleet.racks["r1"].holds.is_empty());
    world.does(Command::RemovePorts { switch: "sw1".into(), ports: vec!["1".into()] });
}

#[test]
fn a_machine_that_turns_out_to_be_another_stands_where_it_stood() {
    let mut world = World::founded();
    world.does(Command::Sight { mac: mac(1), arch: Some(7), uuid: None, link: None });
    world.does(Command::Sight { mac: mac(2), arch: Some(7), uuid: None, link: None });
    world.does(Command::AddRack { name: "r1".into(), units: 4 });
    world.does(put(1, 1, 1));
    let mut both = hardware(mac(2), vec![blank_disk("A")]);
    both.nics.push(fleet::wire::Nic { mac: mac(1), ..both.nics[0].clone() });
    world.does(Command::Report { key: "k".into(), hardware: both });
    let place = place_of(&world.fleet, &Occupant::Machine(MachineId(2)));
    assert_eq!(place, Some(Place { rack: "r1".into(), unit: 1, height: 1 }));
}

#[test]
fn a_nic_that_hears_two_switches_stays_with_the_one_that_is_known() {
    let mut world = three_machines();
    let hears = |chassis: &str| Neighbour {
        mac: mac(1),
        chassis: chassis.into(),
        port: "1".into(),
        system: Some("sw".into()),
    };
    let both = [hears("c2"), hears("c1")];
    let machine = world.fleet.machines[&MachineId(1)].clone();
    let news: Vec<Command> = fleet::news_of_neighbours(&world.fleet, &machine, &both).collect();
    assert_eq!(news, [heard(1, "c1", "1", "sw")]);
    world.does(news[0].clone());
    assert_eq!(fleet::news_of_neighbours(&world.fleet, &machine, &both).count(), 0);
}
