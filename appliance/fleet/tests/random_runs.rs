//! Random commands against what must always hold: no address twice, no id twice, every event readable
//! again, and a replay of the log equal to the live fleet.

mod common;

use std::collections::BTreeSet;

use common::{World, blank_disk, bundle, capacity, disk_with, hardware, image, new_vm};
use fleet::{Command, Event, Fleet, Mac, MachineId, NodeId, ServiceId, VmId};
use proptest::prelude::*;

fn command() -> impl Strategy<Value = Command> {
    let mac = (0u8..6).prop_map(|last| Mac([0x52, 0x54, 0, 0, 0, last]));
    let machine = (1u64..6).prop_map(MachineId);
    let vm = (1u64..5).prop_map(VmId);
    let service = (1u64..4).prop_map(ServiceId);
    let key = (0u8..3).prop_map(|key| format!("k{key}"));
    let memory = prop_oneof![Just(256u64), Just(900), Just(4000)];
    prop_oneof![
        (mac.clone(), proptest::option::of(0u16..10)).prop_map(|(mac, arch)| Command::Sight {
            mac,
            arch,
            uuid: None
        }),
        (mac, key.clone(), any::<bool>()).prop_map(|(mac, key, blank)| Command::Report {
            key,
            hardware: hardware(
                mac,
                vec![if blank { blank_disk("A") } else { disk_with("A", "ext4", "data") }]
            ),
        }),
        (machine.clone(), any::<bool>()).prop_map(|(machine, wipe)| Command::Adopt { machine, wipe }),
        (machine.clone(), 1u32..4)
            .prop_map(|(machine, attempt)| Command::ServeKickstart { machine, attempt }),
        (machine.clone(), 1u32..4).prop_map(|(machine, attempt)| Command::PhoneHome { machine, attempt }),
        (machine.clone(), 1u32..4).prop_map(|(machine, attempt)| Command::FailInstall {
            machine,
            attempt,
            step: "copying".into(),
            error: "no".into()
        }),
        machine.clone().prop_map(|machine| Command::RemoveMachine { machine }),
        (machine.clone(), key)
            .prop_map(|(machine, key)| Command::Enroll { node: NodeId::Machine(machine), key }),
        (machine, memory.clone())
            .prop_map(|(machine, memory)| Command::ObserveHost { machine, capacity: capacity(memory) }),
        (0u8..4, memory.clone())
            .prop_map(|(name, memory)| Command::CreateVm { spec: new_vm(&format!("vm-{name}"), memory) }),
        vm.clone().prop_map(|vm| Command::ObserveVmRunning { vm }),
        vm.clone().prop_map(|vm| Command::RemoveVm { vm }),
        vm.prop_map(|vm| Command::ObserveVmGone { vm }),
        (0u8..2, memory).prop_map(|(name, memory)| Command::InstallPackage {
            bundle: bundle(&format!("app-{name}"), memory),
            image: image()
        }),
        service.clone().prop_map(|service| Command::ObserveAnswering { service }),
        service.prop_map(|service| Command::RemoveService { service }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_must_always_hold(commands in proptest::collection::vec(command(), 1..80)) {
        let mut world = World::founded();
        for command in &commands {
            let before = world.fleet.clone();
            if world.give(command).is_err() {
                prop_assert_eq!(&world.fleet, &before, "a refusal changes nothing");
            }
            let leases = &world.fleet.leases;
            let addresses: BTreeSet<_> = leases.by_mac.values().collect();
            prop_assert_eq!(addresses.len(), leases.by_mac.len(), "no address twice");
            prop_assert_eq!(leases.by_address.len(), leases.by_mac.len());
            for vm in world.fleet.vms.values() {
                prop_assert!(world.fleet.hosts.contains_key(&vm.host), "a VM's host is there");
                prop_assert!(leases.by_mac.contains_key(&vm.mac), "a VM has an address");
            }
            // Planned steps may be refused when the world moved on, but planning never fails.
            let _ = world.plan();
        }
        let mut replayed = Fleet::default();
        for event in &world.log {
            let body = serde_json::to_string(event).unwrap();
            let read: Event = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(&read, event);
            fleet::evolve(&mut replayed, &read);
        }
        prop_assert_eq!(replayed, world.fleet);
    }
}
