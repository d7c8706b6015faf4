//! Snapshots: the same state gives the same bytes, and what was changed on the way is found.

use crate::common;
use crate::common::World;
use fleet::{BadPart, Command, Fleet, Part, Restore, StateHash, parts, state_hash};

fn restored(parts: &[Part]) -> Result<Fleet, BadPart> {
    let mut restore = Restore::default();
    for part in parts {
        restore.part(part)?;
    }
    restore.finish()
}

/// Large enough that VMs and leases take several parts.
fn large() -> Fleet {
    sample::fleet(5000)
}

#[test]
fn a_large_fleet_comes_back_with_an_equal_index_and_shared_images() {
    let fleet = large();
    let all: Vec<Part> = parts(&fleet).collect();
    assert!(all.iter().filter(|part| part.noun == "vm").count() == 2);
    let back = restored(&all).unwrap();
    assert_eq!(back, fleet);
    assert_eq!(back.index, fleet.index);
    assert_eq!(state_hash(&back), state_hash(&fleet));
    let mut images: Vec<_> = back.vms.values().map(|vm| std::sync::Arc::as_ptr(&vm.image)).collect();
    images.sort();
    images.dedup();
    assert_eq!(images.len(), 1);
}

#[test]
fn what_was_changed_on_the_way_is_found() {
    let mut world = World::with_host(4096);
    world.does(Command::CreateVm { spec: common::new_vm("web", 512) });
    world.does(Command::CreateVm { spec: common::new_vm("db", 512) });
    let good: Vec<Part> = parts(&world.fleet).collect();
    assert_eq!(restored(&good).as_ref(), Ok(&world.fleet));
    let bad = |change: &dyn Fn(&mut Vec<Part>)| {
        let mut parts = good.clone();
        change(&mut parts);
        restored(&parts).unwrap_err().to_string()
    };

    for place in 0..good.len() {
        bad(&|parts| drop(parts.remove(place)));
        for byte in 0..good[place].body.len() {
            bad(&|parts| parts[place].body[byte] ^= 1);
        }
    }
    let vms = good.iter().position(|part| part.noun == "vm").unwrap();
    let name = |parts: &mut Vec<Part>| {
        let text = String::from_utf8(parts[vms].body.clone()).unwrap();
        parts[vms].body = text.replace("\"db\"", "\"dc\"").into_bytes();
    };
    assert_eq!(bad(&name), "part 6 of the snapshot, of the noun \"vm\", was changed or is missing");
    assert_eq!(bad(&|parts| drop(parts.remove(vms))), "the snapshot has 5 parts and must have 6",);
    assert_eq!(
        bad(&|parts| parts.insert(vms, good[vms].clone())),
        "the snapshot has objects of the noun \"vm\" twice or out of order"
    );
    assert_eq!(
        bad(&|parts| parts[vms].noun = "vehicle".into()),
        "a part of the snapshot, of the noun \"vehicle\", is bad: this version does not know such a noun"
    );
    assert_eq!(bad(&|parts| drop(parts.pop())), "the snapshot's end is missing");
}

#[test]
fn a_state_hash_is_read_as_it_is_written() {
    let hash = state_hash(&Fleet::default());
    assert_eq!(hash.to_string().parse::<StateHash>(), Ok(hash));
    assert_ne!(hash, state_hash(&World::founded().fleet));
}
