//! What a machine boots at its next start, because a person said so.

use crate::common::{World, blank_disk, hardware};
use fleet::machine::{self, Boot, Once};
use fleet::{Command, Mac, MachineId};

const MACHINE: MachineId = MachineId(1);
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

fn found() -> World {
    let mut world = World::founded();
    world.does(Command::Sight { mac: MAC, arch: Some(0), uuid: None, link: None });
    world.does(Command::Report { key: "k".into(), hardware: hardware(MAC, vec![blank_disk("A")]) });
    world
}

#[test]
fn it_is_booted_once() {
    for (once, boots) in [
        (Once::Rescue, Boot::Rescue),
        (Once::Memtest, Boot::MemoryTest),
        (Once::Network, Boot::Discover),
        (Once::Disk, Boot::Disk),
    ] {
        let mut world = found();
        let before = machine::boot(&world.fleet, MAC);
        world.does(Command::BootOnce { machine: MACHINE, once: Some(once) });
        assert_eq!(machine::boot(&world.fleet, MAC), boots);
        world.does(Command::BootedOnce { mac: MAC });
        assert_eq!(machine::boot(&world.fleet, MAC), before);
        // The next script of it is nothing to write down.
        assert_eq!(world.does(Command::BootedOnce { mac: MAC }), []);
    }
}

#[test]
fn it_is_taken_back() {
    let mut world = found();
    let before = machine::boot(&world.fleet, MAC);
    world.does(Command::BootOnce { machine: MACHINE, once: Some(Once::Rescue) });
    world.does(Command::BootOnce { machine: MACHINE, once: None });
    assert_eq!(machine::boot(&world.fleet, MAC), before);
}

#[test]
fn the_appliance_is_not_sent_away_from_its_disk() {
    let mut world = World::founded();
    world.does(Command::RecordAppliance { hardware: hardware(MAC, vec![blank_disk("A")]) });
    let refusal = world.refuses(Command::BootOnce { machine: MACHINE, once: Some(Once::Memtest) });
    assert!(refusal.to_string().starts_with("the appliance runs on"), "{refusal}");
}
