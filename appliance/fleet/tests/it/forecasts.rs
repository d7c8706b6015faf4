//! What a forecast says would wait, against the plans of the whole fleet before and after.

use std::collections::BTreeSet;

use crate::common::bundle;
use fleet::{Command, Ctx, Event, Fleet, MachineId, Observed, Timestamp, VmId, Wait, compact, vm};

#[test]
fn what_would_wait_is_the_difference_of_two_whole_plans() {
    let fleet = sample::fleet(300);
    let now = Timestamp(fleet.vms.values().map(|vm| vm.since.0).max().unwrap() + 1000);
    let (said, ctx) = (sample::observed(&fleet, now), Ctx { now });
    let image = vm::Image::clone(&fleet.vms[&VmId(1)].image);
    let spec = vm::NewVm {
        name: "another".into(),
        vcpus: 2,
        memory_mib: 2048,
        disk_gib: 20,
        image: image.clone(),
        recover: vm::Recover::Wait,
        tenant: None,
    };
    let orders = vec![
        Command::Drain { machine: fleet.vms[&VmId(7)].host },
        Command::CreateVm { spec },
        Command::RemoveVm { vm: VmId(3), force: false },
        Command::RemoveVm { vm: VmId(4), force: true },
        Command::InstallPackage { bundle: bundle("hello", 256), image, tenant: None },
        Command::RemoveMachine { machine: MachineId(1), force: true },
        Command::Sight { mac: "02:00:00:00:00:09".parse().unwrap(), arch: Some(7), uuid: None, link: None },
        // Refused, and the rest is foretold.
        Command::RemoveVm { vm: VmId(9999), force: false },
    ];
    let mut found = 0;
    for observed in [said, Observed::new()] {
        for order in &orders {
            found += compare(&fleet, &observed, std::slice::from_ref(order), ctx);
        }
        found += compare(&fleet, &observed, &orders, ctx);
        found += compare(&Fleet::default(), &observed, &compact(&fleet), ctx);
    }
    assert!(found > 300, "{found}");
}

/// How much would wait.
fn compare(fleet: &Fleet, observed: &Observed, commands: &[Command], ctx: Ctx) -> usize {
    let forecast = fleet::simulate(fleet, observed, commands, ctx);
    let expected = by_whole_plans(fleet, observed, commands, ctx);
    assert_eq!(forecast.waiting, expected, "{commands:?}");
    expected.len()
}

fn by_whole_plans(before: &Fleet, observed: &Observed, commands: &[Command], ctx: Ctx) -> Vec<Wait> {
    let mut after = before.clone();
    let mut touched = BTreeSet::new();
    for command in commands {
        for event in fleet::decide(&after, command, ctx).unwrap_or_default() {
            fleet::evolve(&mut after, &event);
            touched.insert(Event::subject(&event));
        }
    }
    let waits_now = fleet::plan(before, observed, ctx.now);
    let waits_then = fleet::plan(&after, observed, ctx.now);
    let waiting = waits_then.waiting().filter(|then| {
        touched.contains(&then.subject.to_string())
            && !waits_now.waiting_of(then.subject).iter().any(|now| now.what == then.what)
    });
    waiting
        .map(|then| {
            let subject = then.subject.to_string();
            Wait {
                name: fleet::name_of(&after, &subject).unwrap_or(subject),
                what: then.what.to_string(),
                hint: then.hint.as_ref().map(ToString::to_string),
            }
        })
        .collect()
}
