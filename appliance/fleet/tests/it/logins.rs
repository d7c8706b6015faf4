//! The list of logins and when one of it is tried at a BMC, as decisions: literals in, events out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::common::{World, blank_disk, capacity, hardware};
use fleet::power::{APART_SECS, Bmc, Kind, OWN, next_login, wanted_account};
use fleet::site::Policy;
use fleet::wire::{BmcKind, BmcSeen, Hardware};
use fleet::{Command, Mac, MachineId, Timestamp};

const ONE: MachineId = MachineId(1);
const TWO: MachineId = MachineId(2);
const LIST: [u32; 3] = [1, 2, 4];

fn says(number: u8, address: Option<&str>) -> Hardware {
    let mac = Mac([0x52, 0x54, 0, 0, 0, number]);
    let address = address.map(|address| address.parse::<IpAddr>().unwrap());
    let bmc = Some(BmcSeen { address, mac: None, kind: BmcKind::Ipmi });
    Hardware { bmc, ..hardware(mac, vec![blank_disk(&format!("D{number}"))]) }
}

/// A host that says where its BMC is.
fn host(world: &mut World, number: u8, address: &str) {
    let machine = MachineId(number.into());
    world.does(Command::Report { key: format!("k{number}"), hardware: says(number, Some(address)) });
    world.does(Command::ServeKickstart { machine, attempt: 1 });
    world.does(Command::PhoneHome { machine, attempt: 1 });
    world.does(Command::ObserveHost { machine, capacity: capacity(4096) });
}

fn next(world: &World, list: &[u32]) -> Option<(String, u32)> {
    next_login(&world.fleet.machines[&ONE], list, Timestamp(world.clock))
}

fn bmc(address: &str) -> Bmc {
    Bmc { kind: Kind::Ipmi, address: address.into(), pin: None, options: BTreeMap::new() }
}

#[test]
fn each_login_is_tried_once_and_never_two_within_ten_minutes() {
    let mut world = World::founded();
    host(&mut world, 1, "10.9.0.1");
    assert_eq!(next(&world, &[]), None, "without a list nothing is tried");
    for number in LIST {
        let address = "10.9.0.1".to_owned();
        assert_eq!(next(&world, &LIST), Some((address.clone(), number)));
        let again = Command::TryLogin { machine: ONE, address, number };
        world.does(again.clone());
        assert_eq!(next(&world, &LIST), None);
        world.refuses(again.clone());
        world.clock += (APART_SECS - 1) * 1000;
        world.refuses(again.clone());
        world.clock += 1000;
        world.refuses(again);
    }
    assert_eq!(next(&world, &LIST), None, "all were tried");
    let why = "it refuses the login".to_owned();
    world.does(Command::EndSearch { machine: ONE, stop: false, why });
    assert_eq!(next(&world, &[1, 2, 4, 5]).map(|(_, number)| number), Some(5), "one that is new is tried");
    // A person who asks has it begin again, and not within the time.
    let late = world.clock;
    world.does(Command::TryLogin { machine: ONE, address: "10.9.0.1".into(), number: 5 });
    world.does(Command::FindBmc { machine: ONE, address: None });
    assert_eq!(next(&world, &LIST), None);
    world.clock = late + APART_SECS * 1000 + 1000;
    assert_eq!(next(&world, &LIST).map(|(_, number)| number), Some(1));
    // Another machine's BMC answered there.
    world.does(Command::TryLogin { machine: ONE, address: "10.9.0.1".into(), number: 1 });
    world.does(Command::EndSearch { machine: ONE, stop: true, why: "it is another's".into() });
    world.clock += APART_SECS * 1000;
    assert_eq!(next(&world, &LIST), None);
}

#[test]
fn what_is_taken_is_set_and_is_not_set_again_when_a_person_removed_it() {
    let mut world = World::founded();
    host(&mut world, 1, "10.9.0.1");
    world.does(Command::TryLogin { machine: ONE, address: "10.9.0.1".into(), number: 1 });
    let taken = world.does(Command::TakeLogin { machine: ONE, number: 1, bmc: bmc("10.9.0.1") });
    let sentences: Vec<String> = taken.iter().map(fleet::Event::sentence).collect();
    assert!(sentences[0].contains("Its BMC at 10.9.0.1 takes login 1 of the list"), "{sentences:?}");
    assert!(sentences[1].contains("Its power is switched by IPMI at 10.9.0.1"), "{sentences:?}");
    assert_eq!(next(&world, &LIST), None);
    let refusal = world.refuses(Command::FindBmc { machine: ONE, address: None }).to_string();
    assert!(refusal.contains("has a BMC: IPMI at 10.9.0.1"), "{refusal}");
    world.does(Command::RemoveBmc { machine: ONE });
    world.clock += APART_SECS * 1000;
    assert_eq!(next(&world, &[1]), None);
}

#[test]
fn passwords_are_sent_for_nobody_who_is_not_adopted_and_to_no_bmc_that_two_claim() {
    let mut world = World::founded();
    world.does(Command::SetPolicy { policy: Policy { adopt: fleet::site::Adopt::Ask, ..Policy::default() } });
    world.does(Command::Report { key: "k1".into(), hardware: says(1, Some("10.9.0.1")) });
    assert_eq!(next(&world, &LIST), None);
    let refusal =
        world.refuses(Command::FindBmc { machine: ONE, address: Some("10.9.0.1".into()) }).to_string();
    assert!(refusal.contains("adopt it first"), "{refusal}");

    let mut world = World::founded();
    host(&mut world, 1, "10.9.0.1");
    host(&mut world, 2, "10.9.0.1");
    let command = Command::TryLogin { machine: ONE, address: "10.9.0.1".into(), number: 1 };
    let refusal = world.refuses(command.clone()).to_string();
    assert!(refusal.contains("is that of host-2 as well"), "{refusal}");
    world.does(Command::SetBmc { machine: TWO, bmc: bmc("10.9.0.2") });
    world.does(command);
    assert_eq!(next_login(&world.fleet.machines[&TWO], &LIST, Timestamp(world.clock)), None);

    let mut world = World::founded();
    let hardware = says(1, Some("10.9.0.1"));
    world.does(Command::RecordAppliance { hardware });
    assert_eq!(next(&world, &LIST), None, "the appliance is no host of its own");
}

#[test]
fn a_restarted_appliance_knows_what_was_tried() {
    let mut world = World::founded();
    host(&mut world, 1, "10.9.0.1");
    world.does(Command::TryLogin { machine: ONE, address: "10.9.0.1".into(), number: 1 });
    let text = serde_json::to_string(&world.fleet).unwrap();
    let read: fleet::Fleet = serde_json::from_str(&text).unwrap();
    assert_eq!(read, world.fleet);
    let machine = &read.machines[&ONE];
    assert_eq!(next_login(machine, &LIST, Timestamp(world.clock)), None);
    let later = Timestamp(world.clock + APART_SECS * 1000);
    assert_eq!(next_login(machine, &LIST, later), Some(("10.9.0.1".to_owned(), 2)));
}

#[test]
fn a_machine_that_says_another_address_each_time_has_no_more_logins_tried() {
    let mut world = World::founded();
    let reports = |address: &str| Command::Report { key: "k1".into(), hardware: says(1, Some(address)) };
    world.does(reports("10.9.0.1"));
    let at = |address: &str| Command::TryLogin { machine: ONE, address: address.into(), number: 1 };
    world.does(at("10.9.0.1"));
    for address in ["10.9.0.2", "10.9.0.1", "10.9.0.3"] {
        world.does(reports(address));
        assert_eq!(next(&world, &LIST), None, "{address}");
        world.refuses(at(address));
    }
    world.clock += APART_SECS * 1000;
    assert_eq!(next(&world, &LIST), Some(("10.9.0.3".to_owned(), 1)));
}

#[test]
fn a_person_may_ask_for_another_address_at_once_but_not_for_the_first_again() {
    let mut world = World::founded();
    host(&mut world, 1, "10.9.0.1");
    let asks = |address: &str| Command::FindBmc { machine: ONE, address: Some(address.into()) };
    world.does(Command::TryLogin { machine: ONE, address: "10.9.0.1".into(), number: 1 });
    world.clock += 1000;
    world.does(asks("10.9.0.2"));
    assert_eq!(next(&world, &LIST), Some(("10.9.0.2".to_owned(), 1)));
    world.does(Command::TryLogin { machine: ONE, address: "10.9.0.2".into(), number: 1 });
    world.does(asks("10.9.0.1"));
    assert_eq!(next(&world, &LIST), None, "it was asked a moment ago");
    world.clock += (APART_SECS - 1) * 1000;
    assert_eq!(next(&world, &LIST), Some(("10.9.0.1".to_owned(), 1)));
    world.does(asks("10.9.0.2"));
    assert_eq!(next(&world, &LIST), None);
}

#[test]
fn a_host_makes_an_account_where_the_policy_says_so_and_it_is_tried_first() {
    let mut world = World::founded();
    host(&mut world, 1, "10.9.0.1");
    let wanted = |world: &World| wanted_account(&world.fleet, &world.fleet.machines[&ONE]);
    let made =
        |trouble: Option<&str>| Command::ReportAccount { machine: ONE, trouble: trouble.map(Into::into) };
    let own = Command::TryLogin { machine: ONE, address: "10.9.0.1".into(), number: OWN };
    assert!(!wanted(&world));
    assert_eq!(world.does(made(None)), [], "nobody asked for it");
    world.refuses(own.clone());

    let policy = Policy { bmc_accounts: true, ..Policy::default() };
    world.does(Command::SetPolicy { policy });
    assert!(wanted(&world));
    assert_eq!(next(&world, &[]), None, "it is not made yet");
    world.refuses(own.clone());
    world.does(made(None));
    assert!(!wanted(&world));
    assert_eq!(next(&world, &LIST), Some(("10.9.0.1".to_owned(), OWN)));
    world.does(own.clone());
    world.clock += APART_SECS * 1000;
    assert_eq!(next(&world, &LIST), Some(("10.9.0.1".to_owned(), 1)), "then the list");

    // Looked for again, it is made again.
    world.does(Command::FindBmc { machine: ONE, address: None });
    assert!(wanted(&world));
    let told = world.does(made(Some("all 10 users of its BMC are somebody's")));
    assert!(told[0].sentence().contains("all 10 users of its BMC are somebody's"), "{told:?}");
    assert!(!wanted(&world));
    world.refuses(own);
    world.does(Command::FindBmc { machine: ONE, address: None });
    world.does(made(None));
    world.does(Command::TakeLogin { machine: ONE, number: OWN, bmc: bmc("10.9.0.1") });
    world.does(Command::RemoveBmc { machine: ONE });
    assert!(!wanted(&world), "a person removed it");
}
