//! One command, and the plan after one change, in fleets of different sizes: `cargo bench -p fleet`. With
//! `INSTANCES=1000,100000,1000000` in the environment these sizes are measured instead of the first two.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fleet::wire::VmState;
use fleet::{
    Command, Ctx, Fleet, Mac, MachineId, NodeId, Observed, ObservedNode, Plan, Planner, Subject, Timestamp,
    VmId, decide, evolve, vm,
};

criterion_group!(benches, commands, plans);
criterion_main!(benches);

fn commands(criterion: &mut Criterion) {
    for instances in sizes() {
        let fleet = sample::fleet(instances);
        let mut group = criterion.benchmark_group("decide and evolve");
        for (name, command) in each(&fleet) {
            // The state before is kept, as readers keep it.
            group.bench_function(BenchmarkId::new(name, instances), |bencher| {
                bencher.iter(|| after(&fleet, &command));
            });
        }
    }
}

fn plans(criterion: &mut Criterion) {
    for instances in sizes() {
        let fleet = sample::fleet(instances);
        let now = Timestamp(now(&fleet).0 + 1000);
        let observed = sample::observed(&fleet, now);
        let vm = VmId(instances / 2);
        let mut group = criterion.benchmark_group("plan after one change");
        group.bench_function(BenchmarkId::new("everything anew", instances), |bencher| {
            bencher.iter(|| fleet::plan(&fleet, &observed, now));
        });
        let commands = each(&fleet).into_iter().map(|(name, command)| (name, after(&fleet, &command)));
        let changed = commands.map(|(name, after)| (name, after, observed.clone()));
        let stopped = ("a VM stops", fleet.clone(), stopped(&fleet, &observed, vm, now));
        for (name, fleet_after, observed_after) in changed.chain([stopped]) {
            let mut planner = Planner::default();
            planner.look(&fleet, &observed, now);
            let mut published = Arc::new(planner.plan().clone());
            let mut there = false;
            group.bench_function(BenchmarkId::new(name, instances), |bencher| {
                bencher.iter(|| {
                    // There and back again: each is one change.
                    there = !there;
                    match there {
                        true => planner.look(&fleet_after, &observed_after, now),
                        false => planner.look(&fleet, &observed, now),
                    };
                    publish(&mut published, planner.plan());
                    black_box(published.waiting_of(Subject::Vm(vm)).len())
                });
            });
        }
    }
}

fn sizes() -> Vec<u64> {
    let sizes = std::env::var("INSTANCES").unwrap_or_else(|_| "1000,100000".to_owned());
    sizes.split(',').filter_map(|size| size.trim().parse().ok()).collect()
}

/// A command of each kind that names something new or something in the middle of the fleet.
fn each(fleet: &Fleet) -> Vec<(&'static str, Command)> {
    let vm = VmId(fleet.last_vm / 2);
    let some = &fleet.vms[&vm];
    let mac = Mac([0x3c, 0xec, 0xef, 0xff, 0xff, 0xff]);
    let spec = |name: &str, memory_mib| vm::NewVm {
        name: name.to_owned(),
        vcpus: 2,
        memory_mib,
        disk_gib: 20,
        image: vm::Image::clone(&some.image),
        recover: vm::Recover::Wait,
        tenant: None,
    };
    vec![
        ("create a VM", Command::CreateVm { spec: spec("another", 2048) }),
        ("remove a VM", Command::RemoveVm { vm, force: false }),
        ("forget a VM", Command::RemoveVm { vm, force: true }),
        ("sight a machine", Command::Sight { mac, arch: Some(7), uuid: None, link: None }),
        (
            "report a machine",
            Command::Report { key: "b7".repeat(32), hardware: sample::hardware(mac, MachineId(0)) },
        ),
    ]
}

fn after(fleet: &Fleet, command: &Command) -> Fleet {
    let mut after = fleet.clone();
    let events = decide(fleet, command, Ctx { now: now(fleet) }).expect("it is not refused");
    for event in &events {
        evolve(&mut after, event);
    }
    after
}

fn now(fleet: &Fleet) -> Timestamp {
    fleet.vms.get_max().map_or(Timestamp(0), |(_, vm)| vm.since)
}

fn stopped(fleet: &Fleet, observed: &Observed, vm: VmId, now: Timestamp) -> Observed {
    let host = NodeId::Machine(fleet.vms[&vm].host);
    let mut said = observed[&host].said.clone();
    for seen in said.vms.iter_mut().filter(|seen| seen.id == vm) {
        seen.state = VmState::Stopped;
    }
    observed.update(host, Arc::new(ObservedNode { at: now, said }))
}

/// As the core does it.
fn publish(published: &mut Arc<Plan>, plan: &Plan) {
    if **published != *plan {
        *published = Arc::new(plan.clone());
    }
}
