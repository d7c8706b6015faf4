//! Random commands against what must always hold: no address twice, no id twice, every event readable
//! again, and a replay of the log equal to the live fleet.

mod orders;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::common;
use crate::common::{World, capacity, image};
use fleet::document::{derive, export};
use fleet::power::off_since;
use fleet::rack::Occupant;
use fleet::site::{Adopt, Policy};
use fleet::switch::Plugged;
use fleet::tenant::{self, Limits};
use fleet::user::Role;
use fleet::wire::{Neighbour, ObservedSoftware, ObservedVm, SoftwareState, VmState};
use fleet::{
    Command, Event, Fleet, Mac, MachineId, NodeId, Observed, ObservedNode, Planner, Restore, Timestamp, VmId,
    compact, digest, host, parts, service, simulate, state_hash, subnet, vm, wire,
};
use orders::command;
use proptest::prelude::*;

/// What a tenant has is called after it and is in its view, and nothing else is.
fn tenants_hold(fleet: &Fleet, before: &Fleet) -> Result<(), TestCaseError> {
    for vm in fleet.vms.values() {
        let first = vm.name.split_once('-').map(|(first, _)| first);
        let of = first.filter(|first| fleet.tenants.contains_key(*first));
        prop_assert_eq!(vm.tenant.as_deref(), of, "{} is called after its tenant", vm.name);
    }
    for user in fleet.users.values() {
        let of = user.tenant.as_ref();
        prop_assert!(of.is_none_or(|of| fleet.tenants.contains_key(of) && user.role < Role::Admin));
    }
    for (name, tenant) in &fleet.tenants {
        let (view, limits) = (tenant::view(fleet, name), tenant.limits);
        let own = |of: &Option<Arc<str>>| of.as_deref() == Some(name.as_str());
        let vms: Vec<_> = fleet.vms.values().filter(|vm| own(&vm.tenant)).map(|vm| vm.id).collect();
        prop_assert_eq!(view.vms.keys().copied().collect::<Vec<_>>(), vms);
        let services = fleet.services.values().filter(|service| own(&service.tenant)).count();
        prop_assert_eq!(view.services.len(), services);
        let nothing = view.machines.is_empty() && view.hosts.is_empty() && view.users.is_empty();
        prop_assert!(nothing && view.racks.is_empty() && view.subnets.is_empty() && view.site.is_none());
        prop_assert!(view.vms.values().all(|vm| view.leases.address(vm.mac) == fleet.leases.address(vm.mac)));
        prop_assert_eq!(view.leases.given.iter().count(), view.vms.len());
        let (usage, was) = (tenant::usage(fleet, name), tenant::usage(before, name));
        let grew = usage.vms > was.vms;
        prop_assert!(!grew || limits.vms.is_none_or(|most| usage.vms <= most));
        prop_assert!(!grew || limits.memory_mib.is_none_or(|most| usage.memory_mib <= most));
    }
    Ok(())
}

/// One address of a MAC address in a subnet, one MAC address of an address, and who is known keeps it.
fn addresses_hold(fleet: &Fleet, before: &Fleet) -> Result<(), TestCaseError> {
    let leases = &fleet.leases;
    for addresses in [&leases.given, &leases.reserved] {
        let mut seen = BTreeSet::new();
        let mut of_subnet = BTreeSet::new();
        for (mac, address) in addresses.iter() {
            prop_assert!(seen.insert(address), "no address twice");
            prop_assert_eq!(addresses.holder(*address), Some(*mac));
            let subnet = subnet::of_address(fleet, *address).map(|subnet| subnet.name);
            prop_assert!(subnet.is_some(), "{} is in a subnet", address);
            prop_assert!(of_subnet.insert((mac, subnet)), "one address for each MAC address and subnet");
        }
    }
    for (mac, address) in
        leases.given.iter().filter(|(mac, address)| before.leases.given.holder(*address) != Some(*mac))
    {
        let reserved = leases.reserved.holder(*address);
        prop_assert!(
            reserved.is_none_or(|reserved| reserved == *mac)
                || fleet.site.as_ref().is_some_and(|site| site.foreign)
        );
        prop_assert!(!leases.quarantined.contains_key(address), "what is given is not in quarantine");
        if let Some(holder) = before.leases.given.holder(*address) {
            let foreign = fleet.site.as_ref().is_some_and(|site| site.foreign);
            prop_assert!(foreign, "{} had {}", holder, address);
        }
    }
    Ok(())
}

/// A NIC is in one port, a port's word about another is the other's word too, and a unit holds one thing.
fn wiring_holds(fleet: &Fleet) -> Result<(), TestCaseError> {
    let mut sockets = BTreeMap::new();
    let mut chassis = BTreeSet::new();
    for switch in fleet.switches.values() {
        prop_assert!(switch.chassis.iter().all(|id| chassis.insert(id.clone())), "a chassis is one switch");
        for (name, port) in &switch.ports {
            let by_hand = match &port.by_hand {
                Some(Plugged::Nic { mac }) => Some(*mac),
                Some(Plugged::Port { switch: other, port: its }) => {
                    let back = Plugged::Port { switch: switch.name.clone(), port: name.clone() };
                    prop_assert_eq!(&fleet.switches[other].ports[its].by_hand, &Some(back));
                    None
                }
                Some(Plugged::Note { .. }) | None => None,
            };
            for mac in by_hand.into_iter().chain(port.heard.iter().copied()) {
                let here = (switch.name.clone(), name.clone());
                let before = sockets.insert(mac, here.clone());
                prop_assert!(before.is_none_or(|before| before == here), "{} is in two ports", mac);
                prop_assert!(fleet::machine::by_mac(fleet, mac).is_some(), "{} is of no machine", mac);
            }
        }
    }
    let mut standing = BTreeSet::new();
    for rack in fleet.racks.values() {
        let mut units = BTreeSet::new();
        for (unit, held) in &rack.holds {
            prop_assert!(standing.insert(held.what.clone()), "{:?} stands twice", held.what);
            for unit in *unit..*unit + held.height {
                prop_assert!(units.insert(unit) && (1..=rack.units).contains(&unit), "unit {}", unit);
            }
            match &held.what {
                Occupant::Machine(machine) => prop_assert!(fleet.machines.contains_key(machine)),
                Occupant::Switch(switch) => prop_assert!(fleet.switches.contains_key(switch)),
            }
        }
    }
    Ok(())
}

/// By a look at every host and every VM.
fn roomiest(fleet: &Fleet, vm: &vm::Vm) -> Option<MachineId> {
    let taken = |host: MachineId, of: fn(&vm::Vm) -> u64| -> u64 {
        fleet.vms.values().filter(|vm| vm.host == host).map(|vm| of(vm)).sum()
    };
    let free = |host: &host::Host| {
        let appliance = fleet.machines[&host.machine].appliance;
        let memory = host.memory_mib.saturating_sub(if appliance { 1536 } else { 768 });
        memory.saturating_sub(taken(host.machine, |vm| vm.memory_mib))
    };
    let fits = |host: &&host::Host| {
        free(host) >= vm.memory_mib
            && host.threads >= vm.vcpus
            && host.volume_bytes.saturating_sub(taken(host.machine, |vm| vm.disk_gib << 30))
                >= vm.disk_gib << 30
    };
    let open = |host: &&host::Host| {
        let fenced = fleet.machines[&host.machine].power.fence.is_some();
        host.draining_since.is_none() && host.suspected_since.is_none() && !fenced
    };
    let hosts = fleet.hosts.values().map(AsRef::as_ref).filter(open).filter(fits);
    let most = hosts
        .max_by_key(|host| (!fleet.machines[&host.machine].appliance, free(host), Reverse(host.machine)));
    most.map(|host| host.machine)
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
            for vm in world.fleet.vms.values().filter(|vm| !before.vms.contains_key(&vm.id)) {
                prop_assert_eq!(Some(vm.host), roomiest(&before, vm), "a VM goes where there is most room");
            }
            let leases = &world.fleet.leases;
            addresses_hold(&world.fleet, &before)?;
            for vm in world.fleet.vms.values() {
                let was_on = before.vms.get(&vm.id).map(|vm| vm.host).filter(|host| *host != vm.host);
                if let Some(host) = was_on {
                    prop_assert!(off_since(&before, host).is_some(), "{} left a host that is not proven off", vm.name);
                }
                prop_assert!(world.fleet.hosts.contains_key(&vm.host), "a VM's host is there");
                prop_assert!(leases.address(vm.mac).is_some(), "a VM has an address");
            }
            for service in world.fleet.services.values().filter(|it| it.phase != service::Phase::Removing) {
                prop_assert!(world.fleet.packages.contains_key(service.package()), "a service has its package");
                for vm in &service.nodes {
                    prop_assert!(world.fleet.vms.contains_key(vm), "a service has its VMs");
                }
            }
            wiring_holds(&world.fleet)?;
            tenants_hold(&world.fleet, &before)?;
            // Planned steps may be refused when the world moved on, but planning never fails.
            let _ = world.plan();
        }
        let text = serde_json::to_string(&world.fleet).unwrap();
        let read: Fleet = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &world.fleet);
        prop_assert_eq!(&read.index, &world.fleet.index, "the index follows from the rest");
        let mut restore = Restore::default();
        for part in parts(&world.fleet) {
            restore.part(&part).unwrap();
        }
        let restored = restore.finish().unwrap();
        prop_assert_eq!(&restored, &world.fleet);
        prop_assert_eq!(&restored.index, &world.fleet.index);
        let mut replayed = Fleet::default();
        for event in &world.log {
            let body = serde_json::to_string(event).unwrap();
            let read: Event = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(&read, event);
            fleet::evolve(&mut replayed, &read);
        }
        prop_assert_eq!(state_hash(&replayed), state_hash(&world.fleet));
        prop_assert_eq!(replayed, world.fleet);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is planned, applying it to the same state does exactly that, at whatever time.
    #[test]
    fn a_plan_never_differs_from_what_apply_does(
        past in proptest::collection::vec(command(), 0..40),
        wanted in proptest::collection::vec(command(), 1..6),
    ) {
        let mut world = World::founded();
        for command in &past {
            let _ = world.give(command);
        }
        let before = world.fleet.clone();
        let forecast = simulate(&world.fleet, &Observed::new(), &wanted, common::at(world.clock + 1));
        prop_assert_eq!(&world.fleet, &before, "nothing is touched");
        world.clock += 86_400_000;
        let mut done = Vec::new();
        for (command, step) in wanted.iter().zip(&forecast.steps) {
            match world.give(command) {
                Ok(events) => {
                    prop_assert_eq!(&step.refusal, &None);
                    let sentences: Vec<_> = events.iter().map(Event::sentence).collect();
                    let shown: Vec<_> = step.effects.iter().map(|effect| effect.sentence.clone()).collect();
                    prop_assert_eq!(sentences, shown);
                    done.extend(events);
                }
                Err(refusal) => prop_assert_eq!(step.refusal.clone(), Some(refusal.to_string())),
            }
        }
        if let Some(shown) = forecast.digest {
            prop_assert_eq!(shown, digest(&done));
        }
    }

    /// Whatever somebody of a tenant orders: it is done as it was planned, and nothing of anybody else is different.
    #[test]
    fn orders_of_a_tenant_change_what_it_has(
        past in proptest::collection::vec(command(), 0..60),
        wanted in proptest::collection::vec(command(), 1..20),
    ) {
        let mut world = World::with_host(8192);
        world.does(Command::AddTenant { name: "acme".into(), limits: Limits::default() });
        for command in &past {
            let _ = world.give(command);
        }
        prop_assume!(world.fleet.tenants.contains_key("acme"));
        for command in &wanted {
            let before = world.fleet.clone();
            let ctx = common::at(world.clock + 1);
            let observed = Observed::new();
            let forecast = tenant::simulate(&before, &observed, "acme", std::slice::from_ref(command), ctx);
            let shown = (&forecast.steps[0].effects, &forecast.placements, &forecast.waiting);
            let shown = serde_json::to_string(&shown).unwrap();
            prop_assert!(!shown.contains("m1") && !shown.contains("node-"), "{}", shown);
            match tenant::decide(&before, "acme", command, ctx) {
                Ok(events) => {
                    let told: Vec<Event> = events.iter().map(tenant::told).collect();
                    prop_assert_eq!(forecast.digest, Some(digest(&told)));
                    events.iter().for_each(|event| fleet::evolve(&mut world.fleet, event));
                }
                Err(refusal) => prop_assert_eq!(&forecast.steps[0].refusal, &Some(refusal.to_string())),
            }
            let others = |fleet: &Fleet| {
                let vms = fleet.vms.values().filter(|vm| vm.tenant.as_deref() != Some("acme")).cloned();
                let services = fleet.services.values().filter(|it| it.tenant.as_deref() != Some("acme")).cloned();
                let Fleet { machines, hosts, users, tenants, packages, .. } = fleet.clone();
                let own: Vec<Mac> = tenant::vms(fleet, "acme").map(|vm| vm.mac).collect();
                let given = fleet.leases.given.iter().filter(|(mac, _)| !own.contains(mac));
                let given: Vec<_> = given.copied().collect();
                let things = (vms.collect::<Vec<_>>(), services.collect::<Vec<_>>(), given);
                (things, machines, hosts, users, tenants, packages)
            };
            prop_assert_eq!(others(&before), others(&world.fleet));
        }
    }

    /// The short log has the same result as the long one, wherever it is replayed.
    #[test]
    fn a_compacted_log_makes_the_same_fleet(commands in proptest::collection::vec(command(), 0..80)) {
        let mut world = World::founded();
        for command in &commands {
            let _ = world.give(command);
        }
        let short = compact(&world.fleet);
        prop_assert!(short.len() <= world.log.len(), "{} for {} events", short.len(), world.log.len());
        let mut elsewhere = World::default();
        for command in &short {
            let body = serde_json::to_string(command).unwrap();
            let read: Command = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(elsewhere.does(read).len(), 1);
        }
        prop_assert_eq!(&elsewhere.fleet, &world.fleet);
        for command in short {
            prop_assert!(elsewhere.does(command).is_empty(), "what is there already is left alone");
        }
        let mut replayed = Fleet::default();
        for event in &elsewhere.log {
            let read: Event = serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap();
            fleet::evolve(&mut replayed, &read);
        }
        prop_assert_eq!(replayed, world.fleet);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A site is already what its own document says.
    #[test]
    fn what_was_exported_changes_nothing_when_applied(commands in proptest::collection::vec(command(), 0..80)) {
        let mut world = World::founded();
        for command in &commands {
            let _ = world.give(command);
        }
        let document = export(&world.fleet);
        let derived = derive(&world.fleet, &document, Some(&image()), common::at(world.clock));
        prop_assert_eq!(derived.commands, vec![]);
        prop_assert_eq!(derived.left, Vec::<String>::new());
    }
}

/// What the planner has to follow.
#[derive(Debug, Clone)]
enum Happening {
    Command(Box<Command>),
    Said(NodeId, Box<wire::Observed>),
    /// Seconds; negative where the clock is set back.
    Time(i64),
    /// The planned commands are given.
    Obey,
}

fn happening() -> impl Strategy<Value = Happening> {
    let state = prop_oneof![
        3 => Just(VmState::Running),
        1 => Just(VmState::Stopped),
        1 => Just(VmState::Creating { step: "copying".into() }),
        1 => Just(VmState::Failing { reason: "no room".into() }),
    ];
    let vms = proptest::collection::btree_map((1u64..5).prop_map(VmId), state, 0..4)
        .prop_map(|vms| vms.into_iter().map(|(id, state)| ObservedVm { id, state }).collect());
    let mac = (0u8..6).prop_map(|last| Mac([0x52, 0x54, 0, 0, 0, last]));
    let neighbour = (mac, 0u8..3, 1u8..4).prop_map(|(mac, chassis, port)| Neighbour {
        mac,
        chassis: format!("c{chassis}"),
        port: port.to_string(),
        system: None,
    });
    let neighbours = proptest::collection::vec(neighbour, 0..3);
    let capacity = proptest::option::of(prop_oneof![Just(capacity(4096)), Just(capacity(8192))]);
    let host = (1u64..4, capacity, vms, neighbours).prop_map(|(host, capacity, vms, neighbours)| {
        let said = wire::Observed { vms, capacity, neighbours, ..silence() };
        Happening::Said(NodeId::Machine(MachineId(host)), Box::new(said))
    });
    let software = prop_oneof![
        Just(SoftwareState::Healthy),
        Just(SoftwareState::Installing { step: "unpacking".into() }),
        Just(SoftwareState::Failing { reason: "no".into() }),
    ];
    let guest = (1u64..5, 0u8..2, software).prop_map(|(vm, name, state)| {
        let software = vec![ObservedSoftware { name: format!("app-{name}"), version: "1.0.0".into(), state }];
        Happening::Said(NodeId::Vm(VmId(vm)), Box::new(wire::Observed { software, ..silence() }))
    });
    let policy = any::<bool>().prop_map(|ask| Command::SetPolicy {
        policy: Policy {
            adopt: if ask { Adopt::Ask } else { Adopt::Blank },
            ssh_keys: vec![],
            ..Default::default()
        },
    });
    prop_oneof![
        6 => command().prop_map(|command| Happening::Command(Box::new(command))),
        1 => policy.prop_map(|command| Happening::Command(Box::new(command))),
        4 => host,
        2 => guest,
        3 => prop_oneof![0i64..60, 100i64..1000, Just(-1i64), -400i64..0].prop_map(Happening::Time),
        2 => Just(Happening::Obey),
    ]
}

fn silence() -> wire::Observed {
    wire::Observed {
        revision: 1,
        version: "0.1.0".into(),
        uptime_secs: 1,
        capacity: None,
        vms: vec![],
        software: vec![],
        neighbours: vec![],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The plan that is kept up to date is the plan that would be made anew.
    #[test]
    fn the_planner_forgets_nothing(happenings in proptest::collection::vec((happening(), any::<bool>()), 1..80)) {
        let mut world = World::with_host(8192);
        world.clock = 10_000_000;
        let mut observed = Observed::new();
        let mut planner = Planner::default();
        for (happening, look) in happenings {
            match happening {
                Happening::Command(command) => drop(world.give(&command)),
                Happening::Said(node, said) => {
                    let at = Timestamp(world.clock);
                    observed.insert(node, Arc::new(ObservedNode { at, said: *said }));
                }
                Happening::Time(secs) => world.clock = world.clock.saturating_add_signed(secs * 1000),
                Happening::Obey => {
                    let actions: Vec<Command> = planner.actions().cloned().collect();
                    actions.iter().for_each(|command| drop(world.give(command)));
                }
            }
            if !look {
                continue;
            }
            let now = Timestamp(world.clock);
            let anew = planner.look(&world.fleet, &observed, now);
            let plan = fleet::plan(&world.fleet, &observed, now);
            prop_assert_eq!(planner.plan(), &plan);
            prop_assert!(planner.actions().eq(plan.actions()));
            prop_assert!(anew.iter().all(|command| plan.actions().any(|planned| planned == command)));
            let due = plan.subjects.values().filter_map(|item| item.due).min();
            prop_assert_eq!(planner.next_due(), due);
        }
    }
}
