//! Subnets, reservations, quarantine, and a pool that is exhausted.

use std::net::Ipv4Addr;

use crate::common;
use crate::common::{World, at, blank_disk, hardware, new_vm};
use fleet::subnet::{self, Range, Route, Subnet};
use fleet::{Command, Ctx, Fleet, Mac, Refusal, Timestamp, lease};

const DAY: u64 = 24 * 3600 * 1000;

fn mac(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, number])
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn range(first: &str, last: &str) -> Range {
    Range { first: ip(first), last: ip(last) }
}

fn lab() -> Subnet {
    Subnet {
        router: Some(ip("10.80.0.1")),
        ranges: vec![range("10.80.0.10", "10.80.0.12")],
        ..Subnet::new("lab", "10.80.0.0/24".parse().unwrap())
    }
}

fn sight(number: u8, link: Option<&str>) -> Command {
    Command::Sight { mac: mac(number), arch: None, uuid: None, link: link.map(ip) }
}

/// The address that a client asks for and is given.
fn given(world: &mut World, number: u8, link: Option<&str>) -> Ipv4Addr {
    world.does(sight(number, link));
    address(&world.fleet, number, link)
}

fn address(fleet: &Fleet, number: u8, link: Option<&str>) -> Ipv4Addr {
    let subnet = subnet::of_link(fleet, link.map(ip)).unwrap();
    fleet.leases.given.of_in(mac(number), subnet.network).unwrap()
}

fn sentence(refusal: Refusal) -> String {
    refusal.to_string()
}

#[test]
fn what_is_wrong_with_a_subnet_is_said() {
    let mut world = World::founded();
    let mut wrong = |subnet: Subnet| sentence(world.refuses(Command::SetSubnet { subnet }));
    assert_eq!(
        wrong(Subnet { network: "10.77.5.0/24".parse().unwrap(), router: None, ranges: vec![], ..lab() }),
        "10.77.5.0/24 overlaps 10.77.0.0/16, the network of subnet site"
    );
    assert_eq!(
        wrong(Subnet { router: Some(ip("10.81.0.1")), ..lab() }),
        "the router 10.81.0.1 is outside of 10.80.0.0/24"
    );
    assert_eq!(
        wrong(Subnet { ranges: vec![range("10.80.0.10", "10.80.1.3")], ..lab() }),
        "the pool range 10.80.0.10-10.80.1.3 is outside of 10.80.0.0/24"
    );
    assert_eq!(
        wrong(Subnet { ranges: vec![range("10.80.0.10", "10.80.0.9")], ..lab() }),
        "the pool range 10.80.0.10-10.80.0.9 ends before it begins"
    );
    let twice = vec![range("10.80.0.10", "10.80.0.20"), range("10.80.0.20", "10.80.0.30")];
    assert_eq!(
        wrong(Subnet { ranges: twice, ..lab() }),
        "the pool ranges 10.80.0.10-10.80.0.20 and 10.80.0.20-10.80.0.30 overlap"
    );
    assert_eq!(
        wrong(Subnet { name: subnet::OWN.into(), ..lab() }),
        "the site's own network is 10.77.0.0/16, for good; it cannot become 10.80.0.0/24"
    );
    let away = Route { to: "10.0.0.0/8".parse().unwrap(), via: ip("10.81.0.1") };
    for bad in [
        Subnet { name: "Lab!".into(), ..lab() },
        Subnet { network: "10.80.0.7/24".parse().unwrap(), ..lab() },
        Subnet { network: "10.80.0.0/31".parse().unwrap(), router: None, ranges: vec![], ..lab() },
        Subnet { routes: vec![away], ..lab() },
        Subnet { dns: vec![ip("0.0.0.0")], ..lab() },
        Subnet { ntp: vec![ip("224.0.0.1")], ..lab() },
        Subnet { dns: vec![ip("9.9.9.9"); 9], ..lab() },
        Subnet { domain: Some("a\nb".into()), ..lab() },
        Subnet { mtu: Some(100), ..lab() },
        Subnet { lease_secs: Some(1), ..lab() },
    ] {
        wrong(bad);
    }
    world.does(Command::SetSubnet { subnet: lab() });
    assert!(world.does(Command::SetSubnet { subnet: lab() }).is_empty(), "it is so already");
}

#[test]
fn a_machine_has_one_address_in_each_subnet_that_it_comes_to() {
    let mut world = World::founded();
    world.does(Command::SetSubnet { subnet: lab() });
    let home = given(&mut world, 1, None);
    let away = given(&mut world, 1, Some("10.80.0.1"));
    assert!(lab().pool()[0].first <= away && away <= lab().pool()[0].last);
    assert_eq!(given(&mut world, 1, None), home, "and has its old one when it is back");
    assert_eq!(world.fleet.leases.given.len(), 2);
    assert_eq!(
        sentence(world.refuses(sight(1, Some("10.99.0.1")))),
        "no subnet is known that 10.99.0.1 is in",
        "a relay that says another network"
    );

    world.does(Command::Report { key: "k".into(), hardware: hardware(mac(1), vec![blank_disk("A")]) });
    let refusal = sentence(world.refuses(Command::RemoveSubnet { name: "lab".into(), force: false }));
    assert!(refusal.starts_with("in subnet lab, host-1 has 10.80.0.1"), "{refusal}");
    world.does(Command::RemoveSubnet { name: "lab".into(), force: true });
    assert_eq!(world.fleet.leases.given.of(mac(1)).collect::<Vec<_>>(), [home]);
}

#[test]
fn the_sites_own_network_is_described_like_any_other() {
    let mut world = World::founded();
    let own = Subnet {
        router: Some(ip("10.77.0.2")),
        ranges: vec![range("10.77.0.1", "10.77.0.3")],
        ..Subnet::new(subnet::OWN, "10.77.0.0/16".parse().unwrap())
    };
    world.does(Command::SetSubnet { subnet: own });
    assert_eq!(given(&mut world, 1, None), ip("10.77.0.3"), "not the appliance's, not the router's");
    world.refuses(sight(2, None));
    world.does(Command::RemoveSubnet { name: subnet::OWN.into(), force: false });
    assert_eq!(given(&mut world, 1, None), ip("10.77.0.3"), "what was given stays");
    given(&mut world, 2, None);
}

#[test]
fn a_reservation_holds_before_and_after_the_machine_was_seen() {
    let mut world = World::founded();
    let reserve = |number, address: &str| Command::Reserve { mac: mac(number), address: ip(address) };
    world.does(reserve(1, "10.77.3.3"));
    assert_eq!(given(&mut world, 1, None), ip("10.77.3.3"));
    let before = given(&mut world, 2, None);
    world.does(reserve(2, "10.77.0.9"));
    assert_eq!(address(&world.fleet, 2, None), before, "until it asks again");
    assert_eq!(given(&mut world, 2, None), ip("10.77.0.9"));
    assert_eq!(
        sentence(world.refuses(reserve(3, "10.77.0.9"))),
        "10.77.0.9 is reserved for 52:54:00:00:00:02"
    );
    let other = given(&mut world, 4, None);
    let refusal = sentence(world.refuses(Command::Reserve { mac: mac(3), address: other }));
    assert!(refusal.contains("eli lease remove"), "{refusal}");
    for bad in ["10.77.0.1", "10.77.0.0", "10.77.255.255", "10.99.0.1"] {
        world.refuses(reserve(3, bad));
    }
    world.refuses(Command::Reserve { mac: Mac([1, 0, 0x5e, 0, 0, 1]), address: ip("10.77.0.10") });
    world.does(Command::Unreserve { address: ip("10.77.3.3") });
    assert_eq!(given(&mut world, 1, None), ip("10.77.3.3"), "it keeps what it has");
}

#[test]
fn an_address_in_quarantine_is_nobodys_for_a_day() {
    let mut world = World::founded();
    world.does(Command::SetSubnet { subnet: lab() });
    let link = Some("10.80.0.1");
    let declined = given(&mut world, 1, link);
    let decline = |address| Command::Quarantine { mac: mac(1), address };
    world.does(decline(declined));
    assert!(world.does(decline(declined)).is_empty(), "once is enough");
    let second = given(&mut world, 1, link);
    let third = given(&mut world, 2, link);
    assert!(declined != second && declined != third && second != third);
    world.refuses(sight(3, link));
    assert!(
        sentence(world.refuses(decline(third))).contains("is not the address of"),
        "nobody takes away another's"
    );

    world.clock += DAY;
    assert_eq!(given(&mut world, 3, link), declined, "over, and the last that is left");
    assert!(world.fleet.leases.quarantined.is_empty());
}

#[test]
fn whoever_declines_everything_does_not_use_up_the_pool_for_a_day() {
    let mut world = World::founded();
    let hall = Subnet {
        ranges: vec![range("10.80.0.10", "10.80.0.29")],
        ..Subnet::new("lab", "10.80.0.0/24".parse().unwrap())
    };
    world.does(Command::SetSubnet { subnet: hall.clone() });
    for number in 0..20 {
        let address = given(&mut world, number, Some("10.80.0.1"));
        world.does(Command::Quarantine { mac: mac(number), address });
    }
    world.refuses(sight(50, Some("10.80.0.1")));
    let now = Timestamp(world.clock + 11 * 60 * 1000);
    assert_eq!(lease::usage(&world.fleet, &hall, now).quarantined, 6, "a quarter, and one");
    world.clock = now.0;
    given(&mut world, 50, Some("10.80.0.1"));
}

#[test]
fn a_pool_that_strangers_exhausted_takes_nothing_from_those_who_are_known() {
    let mut world = World::founded();
    let own = Subnet {
        ranges: vec![range("10.77.1.0", "10.77.1.99")],
        ..Subnet::new(subnet::OWN, "10.77.0.0/16".parse().unwrap())
    };
    world.does(Command::SetSubnet { subnet: own.clone() });
    world.does(Command::Sight { mac: mac(1), arch: Some(0), uuid: None, link: None });
    world.does(Command::Report { key: "k".into(), hardware: hardware(mac(1), vec![blank_disk("A")]) });
    world.does(Command::ServeKickstart { machine: fleet::MachineId(1), attempt: 1 });
    world.does(Command::PhoneHome { machine: fleet::MachineId(1), attempt: 1 });
    let capacity = common::capacity(4096);
    world.does(Command::ObserveHost { machine: fleet::MachineId(1), capacity });
    world.does(Command::CreateVm { spec: new_vm("web", 512) });
    world.does(Command::Reserve { mac: mac(2), address: ip("10.77.1.50") });
    let known = world.fleet.leases.clone();

    let stranger = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Mac([0x0a, 0, 0, 0, high, low])
    };
    let flood = |world: &mut World| {
        let sights = (0..500).map(|number| Command::Sight {
            mac: stranger(number),
            // As firmware asks: each is a machine on the page, and none has said what it is.
            arch: (number % 2 == 0).then_some(7),
            uuid: None,
            link: None,
        });
        sights.filter(|sight| world.give(sight).is_ok()).count()
    };
    assert_eq!(flood(&mut world), 97);
    assert_eq!(lease::usage(&world.fleet, &own, Timestamp(0)).free(), 0);
    for (mac, address) in known.given.iter() {
        assert_eq!(world.fleet.leases.given.holder(*address), Some(*mac));
        assert!(lease::is_known(&world.fleet, *mac));
        world.refuses(Command::TakeBack { mac: *mac, address: *address });
    }
    assert_eq!(given(&mut world, 2, None), ip("10.77.1.50"), "a reservation is kept free");
    assert_eq!(lease::lease_secs(&world.fleet, stranger(0), &own), 3600);
    assert_eq!(lease::lease_secs(&world.fleet, mac(1), &own), 12 * 3600);

    let (mac, address) =
        *world.fleet.leases.given.iter().find(|(mac, _)| !lease::is_known(&world.fleet, *mac)).unwrap();
    world.refuses(sight(3, None));
    world.does(Command::TakeBack { mac, address });
    assert_eq!(given(&mut world, 3, None), address, "there is room again");
}

#[test]
fn a_service_keeps_its_address_whoever_says_that_it_is_taken() {
    let mut world = World::with_host(4096);
    let service =
        Command::InstallPackage { bundle: common::bundle("wiki", 512), image: common::image(), tenant: None };
    world.does(service);
    world.does(Command::CreateVm { spec: new_vm("web", 512) });
    let vms: Vec<_> = world.fleet.vms.values().map(|vm| (vm.name.to_string(), vm.mac)).collect();
    let mac = |name: &str| vms.iter().find(|(vm, _)| vm == name).unwrap().1;
    let address = world.fleet.leases.address(mac("wiki-1")).unwrap();
    let refusal = sentence(world.refuses(Command::Quarantine { mac: mac("wiki-1"), address }));
    assert!(refusal.contains("where the service wiki answers"), "{refusal}");

    let address = world.fleet.leases.address(mac("web")).unwrap();
    world.does(Command::Quarantine { mac: mac("web"), address });
    let after = world.fleet.leases.address(mac("web"));
    assert!(after.is_some_and(|after| after != address), "a VM is never without one");
    world.refuses(Command::FreeAddress { address: after.unwrap(), force: true });
    world.does(Command::FreeAddress { address, force: false });
    assert!(world.fleet.leases.quarantined.is_empty(), "a person knows better");
}

#[test]
fn beside_another_server_addresses_are_learnt_and_never_given() {
    let mut world = World::founded();
    let learn = |number, address: &str| Command::Learn { mac: mac(number), address: ip(address) };
    world.refuses(learn(1, "10.77.9.9"));
    let beside = Command::ObserveServer {
        foreign: true,
        network: "192.168.7.0/24".parse().unwrap(),
        address: ip("192.168.7.20"),
    };
    world.does(beside.clone());
    assert!(world.does(beside).is_empty());
    world.does(Command::Sight { mac: mac(1), arch: Some(7), uuid: None, link: None });
    assert_eq!(world.fleet.machines.len(), 1);
    assert!(world.fleet.leases.given.is_empty());
    world.does(Command::Report { key: "k".into(), hardware: hardware(mac(1), vec![blank_disk("A")]) });
    world.does(learn(1, "192.168.7.50"));
    world.does(learn(1, "192.168.7.51"));
    assert_eq!(world.fleet.leases.address(mac(1)), Some(ip("192.168.7.51")));
    assert!(world.does(learn(1, "192.168.7.20")).is_empty(), "the appliance's own");
    assert!(world.does(learn(1, "8.8.8.8")).is_empty(), "no address of the network");
    world.does(learn(2, "192.168.7.51"));
    assert_eq!(world.fleet.leases.address(mac(1)), None, "the other server gave it to somebody else");

    world.does(Command::ServeKickstart { machine: fleet::MachineId(1), attempt: 1 });
    world.does(Command::PhoneHome { machine: fleet::MachineId(1), attempt: 1 });
    world.does(Command::ObserveHost { machine: fleet::MachineId(1), capacity: common::capacity(4096) });
    assert_eq!(
        sentence(world.refuses(Command::CreateVm { spec: new_vm("web", 512) })),
        "the addresses of 192.168.7.0/24 are given by another DHCP server"
    );
    let served = Command::ObserveServer {
        foreign: false,
        network: "10.77.0.0/16".parse().unwrap(),
        address: ip("10.77.0.1"),
    };
    world.does(served);
    assert!(world.fleet.leases.given.is_empty(), "what was learnt is of no use here");
    world.does(Command::CreateVm { spec: new_vm("web", 512) });
    let beside = Command::ObserveServer {
        foreign: true,
        network: "192.168.7.0/24".parse().unwrap(),
        address: ip("192.168.7.20"),
    };
    assert!(sentence(world.refuses(beside)).contains("web"), "VMs have addresses of the network");
}

#[test]
fn the_old_commands_and_events_are_read() {
    let command: Command =
        serde_json::from_str(r#"{"command":"sight","mac":"52:54:00:00:00:01","arch":null,"uuid":null}"#)
            .unwrap();
    assert_eq!(command, sight(1, None));
    let event: fleet::Event =
        serde_json::from_str(r#"{"noun":"lease","event":"released","mac":"52:54:00:00:00:01"}"#).unwrap();
    let mut world = World::founded();
    given(&mut world, 1, None);
    fleet::evolve(&mut world.fleet, &event);
    assert!(world.fleet.leases.given.is_empty());
    let Ctx { now } = at(5);
    assert_eq!(now, Timestamp(5));
}
