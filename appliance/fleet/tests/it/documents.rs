//! Documents: the least list of commands, and a sentence for everything that stays different.

use crate::common;
use crate::common::{World, blank_disk, hardware, image};
use fleet::document::{Document, MachinePart, Prune, RackPart, SwitchPart, VmPart, derive, export};
use fleet::rack::{Occupant, place_of};
use fleet::site::{Adopt, Policy};
use fleet::{Command, Mac, MachineId, vm};

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 9]);

fn apply(world: &mut World, document: &Document) -> (usize, Vec<String>) {
    let derived = derive(&world.fleet, document, Some(&image()), common::at(world.clock));
    let count = derived.commands.len();
    for command in derived.commands {
        assert!(!world.does(command).is_empty(), "no command is idle");
    }
    let again = derive(&world.fleet, document, Some(&image()), common::at(world.clock));
    assert_eq!(again.commands, [], "applying again does nothing");
    (count, derived.left)
}

fn web(memory_mib: u64) -> VmPart {
    VmPart {
        name: "web".into(),
        vcpus: None,
        memory_mib: Some(memory_mib),
        disk_gib: Some(2),
        image: None,
        recover: None,
        tenant: None,
    }
}

#[test]
fn a_document_becomes_what_is_missing_and_nothing_else() {
    let mut world = World::with_host(4096);
    world.does(Command::CreateVm { spec: common::new_vm("other", 256) });
    let document = Document { vms: vec![web(512)], ..Document::default() };
    assert_eq!(apply(&mut world, &document), (1, vec![]));
    assert_eq!(vm::by_name(&world.fleet, "web").unwrap().memory_mib, 512);
    assert!(vm::by_name(&world.fleet, "other").is_some(), "what is not in it is left alone");

    let pruning = Document { prune: Prune { vms: true, ..Prune::default() }, ..document };
    assert_eq!(apply(&mut world, &pruning), (1, vec![]));
    assert_eq!(vm::by_name(&world.fleet, "other").unwrap().phase, vm::Phase::Removing);
}

#[test]
fn what_cannot_be_changed_is_said() {
    let mut world = World::with_host(4096);
    world.does(Command::CreateVm { spec: common::new_vm("web", 512) });
    let machine = MachinePart { name: Some("host-7".into()), ..MachinePart::default() };
    let document = Document { vms: vec![web(1024)], machines: vec![machine], ..Document::default() };
    let (count, left) = apply(&mut world, &document);
    assert_eq!(count, 0);
    assert_eq!(
        left,
        [
            "machine host-7 is not here yet; apply this again when it has started from the network",
            "VM web has 512 MiB memory and not 1024 MiB; a VM cannot be changed yet: delete it and apply this again",
        ]
    );
    let big = Document { vms: vec![VmPart { name: "big".into(), ..web(1 << 20) }], ..Document::default() };
    let (count, left) = apply(&mut world, &big);
    assert_eq!(count, 0);
    assert!(left[0].starts_with("VM big: big wants 1048576 MiB memory"), "{left:?}");
}

#[test]
fn machines_are_adopted_and_change_places() {
    let mut world = World::with_host(4096);
    world.does(Command::SetPolicy {
        policy: Policy { adopt: Adopt::Ask, ssh_keys: vec![], ..Default::default() },
    });
    world.does(Command::Report { key: "k9".into(), hardware: hardware(MAC, vec![blank_disk("B")]) });
    let at = |name: &str, mac, unit| MachinePart {
        name: Some(name.into()),
        mac,
        adopt: true,
        profile: None,
        drained: None,
        rack: Some("a1".into()),
        unit: Some(unit),
        height: None,
    };
    let mut document = Document {
        racks: vec![RackPart { name: "a1".into(), units: 10 }],
        switches: vec![SwitchPart {
            name: "core".into(),
            rack: Some("a1".into()),
            unit: Some(10),
            height: None,
            ports: vec!["1".into(), "2".into()],
            plugged: [("1".into(), fleet::switch::Plugged::Nic { mac: MAC })].into(),
        }],
        machines: vec![at("host-1", None, 1), at("never mind", Some(MAC), 2)],
        ..Document::default()
    };
    // Rack, switch, adoption, three places, a plug.
    assert_eq!(apply(&mut world, &document), (7, vec![]));
    let unit = |world: &World, id| place_of(&world.fleet, &Occupant::Machine(MachineId(id))).unwrap().unit;
    assert_eq!((unit(&world, 1), unit(&world, 2)), (1, 2));

    document.machines[0].unit = Some(2);
    document.machines[1].unit = Some(1);
    assert_eq!(apply(&mut world, &document), (4, vec![]), "both are taken out and put back");
    assert_eq!((unit(&world, 1), unit(&world, 2)), (2, 1));

    document.machines[0].drained = Some(true);
    assert_eq!(apply(&mut world, &document), (1, vec![]));
    document.machines[0].drained = Some(false);
    assert_eq!(apply(&mut world, &document), (1, vec![]));

    document.machines[1].unit = Some(10);
    let (count, left) = apply(&mut world, &document);
    assert_eq!((count, left.len()), (0, 1), "{left:?}");
    assert_eq!(unit(&world, 2), 1, "it stays where it was");
}

#[test]
fn a_site_is_made_again_elsewhere() {
    let mut world = World::with_host(4096);
    world.does(Command::AddRack { name: "a1".into(), units: 42 });
    world.does(Command::CreateVm { spec: common::new_vm("web", 512) });
    let document = export(&world.fleet);
    let text = serde_json::to_string(&document).unwrap();
    assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);

    let mut elsewhere = World::with_host(8192);
    assert_eq!(apply(&mut elsewhere, &document), (2, vec![]));
    assert_eq!(export(&elsewhere.fleet), document);
}
