//! Tenants: what they may be called, how much they may have, what they see, and when they are not removed.

use crate::common;
use crate::common::{World, bundle, image, new_vm};
use fleet::document::{derive, export};
use fleet::tenant::{self, Limits};
use fleet::user::Role;
use fleet::vm::NewVm;
use fleet::{Command, Refusal, ServiceId, VmId};

fn add(name: &str, limits: Limits) -> Command {
    Command::AddTenant { name: name.into(), limits }
}

fn vm(tenant: Option<&str>, name: &str) -> Command {
    Command::CreateVm { spec: NewVm { tenant: tenant.map(str::to_owned), ..new_vm(name, 256) } }
}

fn install(tenant: Option<&str>) -> Command {
    let tenant = tenant.map(str::to_owned);
    Command::InstallPackage { bundle: bundle("hello", 256), image: image(), tenant }
}

/// Two tenants, each with a VM v1, v3 and a service s1, s2; the site has v5 and s3.
fn shared() -> World {
    let mut world = World::with_host(16_384);
    for tenant in [Some("acme"), Some("beta"), None] {
        if let Some(tenant) = tenant {
            world.does(add(tenant, Limits::default()));
        }
        world.does(vm(tenant, &tenant::called(tenant, "web")));
        world.does(install(tenant));
    }
    world
}

#[test]
fn names_of_tenants_are_short_and_taken_by_nobody() {
    let mut world = World::with_host(4096);
    for wrong in ["", "Acme", "a-b", "a b", "abcdefghijklmnopqrstu", "ä"] {
        assert!(matches!(world.refuses(add(wrong, Limits::default())), Refusal::Invalid(_)), "{wrong}");
    }
    world.does(vm(None, "acme-web"));
    let refused = world.refuses(add("acme", Limits::default())).to_string();
    assert!(
        refused.starts_with("the VM acme-web is the site's, and is called as if it were acme's"),
        "{refused}"
    );
    world.does(add("beta", Limits::default()));
    let refused = world.refuses(add("beta", Limits::default())).to_string();
    assert_eq!(refused, "there is a tenant beta already");
    assert_eq!(world.refuses(vm(Some("gamma"), "gamma-web")).to_string(), "there is no tenant gamma");
    let refused = world.refuses(vm(Some("beta"), "web")).to_string();
    assert_eq!(refused, "names of what beta has begin with beta-; web does not");
    let refused = world.refuses(vm(None, "beta-web")).to_string();
    assert!(refused.starts_with("names that begin with beta- are for what the tenant beta has"), "{refused}");
}

#[test]
fn limits_hold_for_vms_and_for_those_of_packages() {
    let mut world = World::with_host(16_384);
    world.does(add("acme", Limits { vms: Some(2), memory_mib: Some(600), ..Limits::default() }));
    world.does(vm(Some("acme"), "acme-one"));
    world.does(install(None));
    let big = NewVm { tenant: Some("acme".into()), ..new_vm("acme-big", 500) };
    let refused = world.refuses(Command::CreateVm { spec: big }).to_string();
    assert_eq!(refused, "acme may have 600 MiB memory and has 256; acme-big wants 500 more");
    world.does(install(Some("acme")));
    let refused = world.refuses(vm(Some("acme"), "acme-three")).to_string();
    assert_eq!(refused, "acme may have 2 VMs and has 2; acme-three wants 1 more");
    world.does(Command::SetTenant {
        name: "acme".into(),
        limits: Limits { vms: Some(1), ..Limits::default() },
    });
    assert_eq!(tenant::usage(&world.fleet, "acme").vms, 2, "what is there stays");
    world.refuses(vm(Some("acme"), "acme-three"));
    world.does(vm(None, "three"));
}

#[test]
fn a_tenant_that_has_something_stays() {
    let mut world = shared();
    world.does(Command::AddUser { name: "ada".into(), role: Role::Operator, tenant: Some("acme".into()) });
    let remove = || Command::RemoveTenant { name: "acme".into() };
    let refused = world.refuses(remove()).to_string();
    assert_eq!(refused, "acme still has 2 VMs, 1 service, 1 user; remove these first");
    world.does(Command::RemoveService { service: ServiceId(1), force: true });
    for id in [1, 2] {
        world.does(Command::RemoveVm { vm: VmId(id), force: true });
    }
    assert_eq!(world.refuses(remove()).to_string(), "acme still has 1 user; remove these first");
    world.does(Command::RemoveUser { name: "ada".into() });
    world.does(remove());
    assert!(!world.fleet.tenants.contains_key("acme"));
}

#[test]
fn admins_are_the_sites() {
    let mut world = shared();
    let ada = |role| Command::AddUser { name: "ada".into(), role, tenant: Some("acme".into()) };
    let sentence = "a user of acme is a viewer or an operator; admins are the site's";
    assert_eq!(world.refuses(ada(Role::Admin)).to_string(), sentence);
    world.does(ada(Role::Viewer));
    let rise = |role| Command::SetRole { name: "ada".into(), role };
    assert_eq!(world.refuses(rise(Role::Admin)).to_string(), sentence);
    world.does(rise(Role::Operator));
}

#[test]
fn a_view_has_the_tenants_own_and_nothing_else() {
    let world = shared();
    let view = tenant::view(&world.fleet, "acme");
    let names: Vec<&str> = view.vms.values().map(|vm| &*vm.name).collect();
    assert_eq!(names, ["acme-web", "acme-hello-1"]);
    let services: Vec<&str> = view.services.values().map(|service| service.name.as_str()).collect();
    assert_eq!(services, ["acme-hello"]);
    assert_eq!(view.services[&ServiceId(1)].package(), "hello");
    let text = serde_json::to_string(&view).unwrap();
    for other in ["beta", "m1", "52:54:00:00:00:01", "10.77.0.1\"", "QEMU"] {
        assert!(!text.contains(other), "{other} in {text}");
    }
    for vm in view.vms.values() {
        assert_eq!(view.leases.address(vm.mac), world.fleet.leases.address(vm.mac));
        assert!(view.leases.address(vm.mac).is_some());
    }
    assert!(tenant::owns(&world.fleet, "acme", "v1") && tenant::owns(&world.fleet, "acme", "s1"));
    for other in ["v3", "s2", "v5", "v9", "m1", "site", "tenant:acme", "user:ada", "hello"] {
        assert!(!tenant::owns(&world.fleet, "acme", other), "{other}");
    }
}

#[test]
fn what_another_has_is_answered_as_what_is_not_there() {
    let world = shared();
    let may = |command: &Command| tenant::decide(&world.fleet, "acme", command, common::at(99));
    for (there, not) in [(3, 99), (5, 98)] {
        let (there, not) = (VmId(there), VmId(not));
        let asked = |vm: VmId, force| may(&Command::RemoveVm { vm, force }).unwrap_err();
        for force in [false, true] {
            let (one, other) = (asked(there, force), asked(not, force));
            assert_eq!(one.to_string().replace(&there.to_string(), &not.to_string()), other.to_string());
            assert!(matches!(one, Refusal::Missing { what: "VM", .. }), "{one}");
        }
    }
    assert!(may(&Command::RemoveVm { vm: VmId(1), force: false }).is_ok());
    assert!(matches!(may(&Command::RemoveVm { vm: VmId(1), force: true }), Err(Refusal::NotTenants(_))));
    assert!(matches!(may(&vm(None, "x")), Err(Refusal::NotTenants(_))));
    assert!(matches!(may(&vm(Some("beta"), "beta-x")), Err(Refusal::NotTenants(_))));
    let other =
        Command::InstallPackage { bundle: bundle("hello", 300), image: image(), tenant: Some("acme".into()) };
    assert!(matches!(may(&other), Err(Refusal::NotTenants(_))), "its own bundle would be everybody's");
}

#[test]
fn a_tenant_is_told_of_no_host() {
    let mut world = World::with_host(2048);
    world.does(add("acme", Limits::default()));
    let big = NewVm { tenant: Some("acme".into()), ..new_vm("acme-big", 60_000) };
    let command = Command::CreateVm { spec: big };
    let told = tenant::decide(&world.fleet, "acme", &command, common::at(9)).unwrap_err().to_string();
    assert!(told.ends_with("and there is no room for it now"), "{told}");
    assert!(world.refuses(command).to_string().contains("The most there is: "));
    let events = world.does(vm(Some("acme"), "acme-web"));
    let sentences: Vec<String> = events.iter().map(|event| tenant::told(event).sentence()).collect();
    assert_eq!(sentences[1], "Created as acme-web: 1 vCPU, 256 MiB memory, 2 GiB disk");
    let host = world.fleet.machines.values().next().unwrap().name.to_string();
    assert!(events[1].sentence().contains(&host));
    assert!(
        !serde_json::to_string(&events.iter().map(tenant::told).collect::<Vec<_>>()).unwrap().contains(&host)
    );
}

#[test]
fn the_package_of_several_stays_while_one_has_it() {
    let mut world = shared();
    let remove = |force| Command::RemovePackage { name: "hello".into(), force };
    assert!(world.refuses(remove(false)).to_string().starts_with("acme-hello is installing at "));
    world.does(remove(true));
    assert!(world.fleet.services.values().all(|it| it.phase == fleet::service::Phase::Removing));
}

#[test]
fn a_document_makes_tenants_and_what_they_have_elsewhere() {
    let mut world = shared();
    world.does(Command::AddUser { name: "ada".into(), role: Role::Viewer, tenant: Some("beta".into()) });
    let document = export(&world.fleet);
    let text = serde_json::to_string(&document).unwrap();
    let again = serde_json::from_str(&text).unwrap();
    assert_eq!(document, again);
    let mut other = World::with_host(16_384);
    other.does(install(None));
    let derived = derive(&other.fleet, &document, Some(&image()), common::at(5));
    assert_eq!(derived.left, Vec::<String>::new());
    for command in derived.commands {
        other.does(command);
    }
    let named =
        |world: &World| -> Vec<String> { world.fleet.services.values().map(|it| it.name.clone()).collect() };
    let (mut one, mut two) = (named(&world), named(&other));
    one.sort();
    two.sort();
    assert_eq!(one, two);
    assert_eq!(other.fleet.users["ada"].tenant.as_deref(), Some("beta"));
}
