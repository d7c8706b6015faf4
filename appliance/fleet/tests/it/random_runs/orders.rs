//! Orders and words of machines, as anybody might give them: most are refused.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use fleet::machine::{Erase, Reimage};
use fleet::power::{Action, Bmc, Kind as BmcKind, Outcome, Strip, Way};
use fleet::profile::{Kind, Profile};
use fleet::subnet::{Range, Subnet};
use fleet::switch::Plugged;
use fleet::tenant::{self, Limits};
use fleet::user::Role;
use fleet::wire::{EraseOutcome, Neighbour, Proof};
use fleet::{Command, Mac, MachineId, NodeId, ServiceId, Subject, Timestamp, VmId, vm};
use proptest::prelude::*;

use crate::common::{blank_disk, bundle, capacity, debian, disk_with, hardware, image, new_vm};

pub fn command() -> impl Strategy<Value = Command> {
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
            uuid: None,
            link: None
        }),
        (mac, key.clone(), any::<bool>()).prop_map(|(mac, key, blank)| Command::Report {
            key,
            hardware: hardware(
                mac,
                vec![if blank { blank_disk("A") } else { disk_with("A", "ext4", "data") }]
            ),
        }),
        (machine.clone(), any::<bool>()).prop_map(|(machine, wipe)| Command::Adopt {
            machine,
            wipe,
            profile: None,
            disk: None
        }),
        (machine.clone(), 1u32..4)
            .prop_map(|(machine, attempt)| Command::ServeKickstart { machine, attempt }),
        (machine.clone(), 1u32..4).prop_map(|(machine, attempt)| Command::PhoneHome { machine, attempt }),
        (machine.clone(), 1u32..4).prop_map(|(machine, attempt)| Command::FailInstall {
            machine,
            attempt,
            step: "copying".into(),
            error: "no".into()
        }),
        (machine.clone(), any::<bool>())
            .prop_map(|(machine, force)| Command::RemoveMachine { machine, force }),
        machine.clone().prop_map(|machine| Command::Drain { machine }),
        machine.clone().prop_map(|machine| Command::Undrain { machine }),
        (0u8..3, 1u64..6, any::<bool>()).prop_map(|(kind, id, late)| {
            let subject = match kind {
                0 => Subject::Machine(MachineId(id)),
                1 => Subject::Vm(VmId(id)),
                _ => Subject::Service(ServiceId(id)),
            };
            match late {
                true => Command::RecordLate { subject, what: "a word".into() },
                false => Command::Cancel { subject },
            }
        }),
        (0u8..2, any::<bool>())
            .prop_map(|(name, force)| Command::RemovePackage { name: format!("app-{name}"), force }),
        (0u8..6).prop_map(|last| Command::RecordAppliance {
            hardware: hardware(Mac([0x52, 0x54, 0, 0, 0, last]), vec![blank_disk("A")]),
        }),
        (machine.clone(), key)
            .prop_map(|(machine, key)| Command::Enroll { node: NodeId::Machine(machine), key }),
        (machine, memory.clone())
            .prop_map(|(machine, memory)| Command::ObserveHost { machine, capacity: capacity(memory) }),
        (0u8..4, tenant(), memory.clone()).prop_map(|(name, tenant, memory)| {
            let name = tenant::called(tenant.as_deref(), &format!("vm-{name}"));
            Command::CreateVm { spec: vm::NewVm { tenant, ..new_vm(&name, memory) } }
        }),
        vm.clone().prop_map(|vm| Command::ObserveVmRunning { vm }),
        (vm.clone(), any::<bool>()).prop_map(|(vm, force)| Command::RemoveVm { vm, force }),
        vm.prop_map(|vm| Command::ObserveVmGone { vm }),
        (0u8..2, tenant(), memory).prop_map(|(name, tenant, memory)| Command::InstallPackage {
            bundle: bundle(&format!("app-{name}"), memory),
            image: image(),
            tenant,
        }),
        service.clone().prop_map(|service| Command::ObserveAnswering { service }),
        (service, any::<bool>()).prop_map(|(service, force)| Command::RemoveService { service, force }),
        wiring(),
        systems(),
        networks(),
        users(),
        tenants(),
        power(),
    ]
}

/// BMCs, orders, fencing, reimaging, and what comes of them.
fn power() -> impl Strategy<Value = Command> {
    let machine = (1u64..6).prop_map(MachineId);
    let action = proptest::sample::select(&[Action::On, Action::Off, Action::Cycle, Action::Netboot]);
    let outcome = prop_oneof![
        3 => Just(Outcome::Done("its BMC said so twice".into())),
        1 => Just(Outcome::Failed("it does not answer".into())),
    ];
    prop_oneof![
        (machine.clone(), 0u8..3).prop_map(|(machine, address)| Command::SetBmc {
            machine,
            bmc: Bmc {
                kind: BmcKind::Redfish,
                address: format!("10.0.0.{address}"),
                pin: None,
                options: BTreeMap::new(),
            }
        }),
        machine.clone().prop_map(|machine| Command::RemoveBmc { machine }),
        (machine.clone(), action, any::<bool>()).prop_map(|(machine, action, force)| Command::Power {
            machine,
            action,
            force
        }),
        (machine.clone(), 1u64..80, any::<bool>(), outcome).prop_map(|(machine, since, bmc, outcome)| {
            let way = if bmc { Way::Bmc } else { Way::Strips };
            Command::ReportPower { machine, since: Timestamp(since), way, outcome }
        }),
        (machine.clone(), 0u8..4).prop_map(|(machine, outlet)| Command::SetStrip {
            machine,
            strip: Strip {
                agent: "fence_apc".into(),
                address: "10.0.1.1".into(),
                outlets: vec![outlet.to_string(), (outlet + 1).to_string()],
                options: BTreeMap::new(),
            }
        }),
        machine.clone().prop_map(|machine| Command::RemoveStrip { machine, address: None }),
        (machine.clone(), 1u64..80)
            .prop_map(|(machine, since)| Command::BeginStrips { machine, since: Timestamp(since) }),
        machine.clone().prop_map(|machine| Command::DoubtOff { machine }),
        (machine.clone(), any::<bool>()).prop_map(|(machine, on)| Command::Light { machine, on }),
        machine.clone().prop_map(|machine| Command::Fence { machine, why: "it hangs".into() }),
        machine.clone().prop_map(|machine| Command::FenceSuspect { machine }),
        machine.clone().prop_map(|machine| Command::AttestOff { machine, why: "its plug is out".into() }),
        (machine.clone(), any::<bool>()).prop_map(|(machine, on)| Command::Unfence { machine, on }),
        machine.clone().prop_map(|machine| Command::Suspect { machine, since: Timestamp(1) }),
        machine.clone().prop_map(|machine| Command::ObserveHeard { machine }),
        (1u64..5).prop_map(|vm| Command::RecoverVm { vm: VmId(vm) }),
        erasing(),
        (machine, any::<bool>(), any::<bool>()).prop_map(|(machine, wipe, force)| Command::Reimage {
            machine,
            how: Reimage { wipe, force, ..Reimage::default() }
        }),
    ]
}

fn erasing() -> impl Strategy<Value = Command> {
    let machine = (1u64..4).prop_map(MachineId);
    let proof =
        Proof { means: vec![], seconds: 1, places: 1, bytes_read: 1, zero: true, version: "1".into() };
    let failed = EraseOutcome::Failed { step: "writing".into(), error: "no".into() };
    let outcome = prop_oneof![Just(EraseOutcome::Done(proof)), Just(failed)];
    prop_oneof![
        (machine.clone(), any::<bool>()).prop_map(|(machine, retire)| Command::EraseMachine {
            machine,
            how: Erase { retire, ..Erase::default() }
        }),
        (machine.clone(), 0u32..2, 1u32..3, outcome).prop_map(|(machine, number, attempt, outcome)| {
            Command::ReportErased { machine, number, attempt, outcome }
        }),
        (machine.clone(), any::<bool>()).prop_map(|(machine, on)| Command::CheckDisks { machine, on }),
        (machine.clone(), 0u32..3).prop_map(|(machine, number)| Command::ReportChecked {
            machine,
            number,
            disks: vec![]
        }),
        (machine.clone(), any::<bool>()).prop_map(|(machine, made)| Command::ReportAccount {
            machine,
            trouble: (!made).then(|| "its BMC has no place".to_owned()),
        }),
        machine.clone().prop_map(|machine| Command::Retire { machine }),
        machine.prop_map(|machine| Command::Unretire { machine }),
    ]
}

fn users() -> impl Strategy<Value = Command> {
    let name = prop_oneof![Just("admin".to_owned()), Just("ada".to_owned()), Just("otto".to_owned())];
    let role = proptest::sample::select(&Role::ALL);
    prop_oneof![
        (name.clone(), role.clone(), tenant()).prop_map(|(name, role, tenant)| Command::AddUser {
            name,
            role,
            tenant
        }),
        (name.clone(), role).prop_map(|(name, role)| Command::SetRole { name, role }),
        name.prop_map(|name| Command::RemoveUser { name }),
    ]
}

/// Nobody's, or of one of two.
fn tenant() -> impl Strategy<Value = Option<String>> {
    prop_oneof![3 => Just(None), 2 => Just(Some("acme".to_owned())), 1 => Just(Some("beta".to_owned()))]
}

fn tenants() -> impl Strategy<Value = Command> {
    let name =
        prop_oneof![2 => Just("acme".to_owned()), 1 => Just("beta".to_owned()), 1 => Just("vm".to_owned())];
    let limits = prop_oneof![
        Just(Limits::default()),
        Just(Limits { vms: Some(1), ..Limits::default() }),
        Just(Limits { memory_mib: Some(1000), disk_gib: Some(3), ..Limits::default() }),
    ];
    prop_oneof![
        2 => (name.clone(), limits.clone()).prop_map(|(name, limits)| Command::AddTenant { name, limits }),
        1 => (name.clone(), limits).prop_map(|(name, limits)| Command::SetTenant { name, limits }),
        1 => name.prop_map(|name| Command::RemoveTenant { name }),
    ]
}

/// Media, profiles, and machines that get other systems.
fn systems() -> impl Strategy<Value = Command> {
    let machine = (1u64..6).prop_map(MachineId);
    let name = (0u8..2).prop_map(|name| format!("p{name}"));
    let medium = (0u8..2).prop_map(|name| format!("d{name}"));
    prop_oneof![
        medium.clone().prop_map(|name| Command::AddMedium { medium: debian(&name, "13") }),
        (medium.clone(), any::<bool>()).prop_map(|(name, force)| Command::RemoveMedium { name, force }),
        (name.clone(), proptest::option::of(medium)).prop_map(|(name, medium)| {
            let profile = Profile { medium, ..Profile::plain(&name, Kind::Debian) };
            Command::SetProfile { profile }
        }),
        (name.clone(), any::<bool>()).prop_map(|(name, force)| Command::RemoveProfile { name, force }),
        (machine.clone(), name, any::<bool>()).prop_map(|(machine, name, wipe)| Command::Adopt {
            machine,
            wipe,
            profile: Some(name),
            disk: None
        }),
        (machine, 1u32..3).prop_map(|(machine, attempt)| Command::ServeAnswers { machine, attempt }),
    ]
}

/// Subnets, reservations, and what is found out about addresses.
fn networks() -> impl Strategy<Value = Command> {
    let mac = (0u8..6).prop_map(|last| Mac([0x52, 0x54, 0, 0, 0, last]));
    let vm = (0u8..5).prop_map(|last| Mac([2, 0x12, 0x34, 0, 0, last]));
    let mac = prop_oneof![mac, vm];
    let name = prop_oneof![Just("site".to_owned()), Just("lab".to_owned()), Just("yard".to_owned())];
    // Pools of a few addresses, so that they are exhausted.
    let address =
        (0u8..2, 0u8..9).prop_map(|(net, last)| Ipv4Addr::new(10, [77, 80][usize::from(net)], 0, last));
    prop_oneof![
        (mac.clone(), address.clone(), proptest::option::of(Just(7)))
            .prop_map(|(mac, link, arch)| { Command::Sight { mac, arch, uuid: None, link: Some(link) } }),
        (name.clone(), 0u8..2, proptest::option::of(address.clone()), 2u8..6).prop_map(
            |(name, net, router, pool)| {
                let network = match (name.as_str(), net) {
                    ("site", _) => "10.77.0.0/16",
                    (_, 0) => "10.80.0.0/28",
                    _ => "10.80.0.0/29",
                };
                let network: ipnet::Ipv4Net = network.parse().unwrap();
                let base = u32::from(network.network());
                let range = Range { first: (base + 2).into(), last: (base + u32::from(pool)).into() };
                let ranges = vec![range];
                Command::SetSubnet { subnet: Subnet { router, ranges, ..Subnet::new(&name, network) } }
            }
        ),
        (name, any::<bool>()).prop_map(|(name, force)| Command::RemoveSubnet { name, force }),
        (mac.clone(), address.clone()).prop_map(|(mac, address)| Command::Reserve { mac, address }),
        address.clone().prop_map(|address| Command::Unreserve { address }),
        (address.clone(), any::<bool>()).prop_map(|(address, force)| Command::FreeAddress { address, force }),
        (mac.clone(), address.clone()).prop_map(|(mac, address)| Command::Quarantine { mac, address }),
        (mac.clone(), address.clone()).prop_map(|(mac, address)| Command::TakeBack { mac, address }),
        (mac, address).prop_map(|(mac, address)| Command::Learn { mac, address }),
        proptest::bool::weighted(0.3).prop_map(|foreign| Command::ObserveServer {
            foreign,
            network: "10.77.0.0/16".parse().unwrap(),
            address: Ipv4Addr::new(10, 77, 0, 1),
        }),
    ]
}

/// Racks, switches, and what is in them.
fn wiring() -> impl Strategy<Value = Command> {
    let machine = (1u64..6).prop_map(MachineId);
    let mac = (0u8..6).prop_map(|last| Mac([0x52, 0x54, 0, 0, 0, last]));
    let rack = (0u8..2).prop_map(|rack| format!("r{rack}"));
    let switch = (0u8..3).prop_map(|switch| format!("sw{switch}"));
    let port = (1u8..4).prop_map(|port| port.to_string());
    let what = prop_oneof![
        mac.clone().prop_map(|mac| Plugged::Nic { mac }),
        (switch.clone(), port.clone()).prop_map(|(switch, port)| Plugged::Port { switch, port }),
        Just(Plugged::Note { text: "uplink".into() }),
    ];
    prop_oneof![
        (rack.clone(), 1u32..12).prop_map(|(name, units)| Command::AddRack { name, units }),
        (rack.clone(), any::<bool>()).prop_map(|(name, force)| Command::RemoveRack { name, force }),
        (machine.clone(), rack.clone(), 1u32..12, 1u32..3)
            .prop_map(|(machine, rack, unit, height)| Command::PlaceMachine { machine, rack, unit, height }),
        machine.clone().prop_map(|machine| Command::UnplaceMachine { machine }),
        switch.clone().prop_map(|name| Command::AddSwitch {
            name,
            ports: vec!["1".into(), "2".into()],
            place: None
        }),
        (switch.clone(), any::<bool>()).prop_map(|(name, force)| Command::RemoveSwitch { name, force }),
        (switch.clone(), rack, 1u32..12).prop_map(|(switch, rack, unit)| Command::PlaceSwitch {
            switch,
            rack,
            unit,
            height: 1
        }),
        (switch.clone(), port.clone())
            .prop_map(|(switch, port)| Command::AddPorts { switch, ports: vec![port] }),
        (switch.clone(), port.clone(), what).prop_map(|(switch, port, what)| Command::Plug {
            switch,
            port,
            what
        }),
        (switch.clone(), port.clone()).prop_map(|(switch, port)| Command::Unplug { switch, port }),
        (machine, mac, switch, port, 0u8..3).prop_map(|(machine, mac, switch, port, chassis)| {
            let chassis = format!("c{chassis}");
            let neighbour = Neighbour { mac, chassis, port, system: Some(switch) };
            Command::ObserveNeighbour { machine, neighbour }
        }),
    ]
}
