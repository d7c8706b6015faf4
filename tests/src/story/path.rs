//! The whole path: from an ISO to an answering service, as issue after issue
//! will keep it. It is also what the lab shows and what the benchmark measures.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Chapter, Story, accidents, fence};
use crate::appliance::{ADDRESS, PASSWORD, retry};
use crate::bmc::Kind;
use crate::eli::Eli;
use crate::machine::{Disk, Firmware, Spec, mac_of};
use crate::progress::seconds;
use crate::world::World;

pub const STORY: Story = Story {
    name: "path",
    about: "from the ISO to an answering service, and on when its hosts hang and are made anew",
    chapters: &[
        APPLIANCE,
        STRANGERS,
        Chapter {
            name: "nonsense on the wire does not stop it, and a laptop is given an address",
            tell: accidents::nonsense_on_the_wire,
        },
        Chapter {
            name: "a machine whose disk holds data waits for the question",
            tell: accidents::data_on_disk,
        },
        Chapter {
            name: "its daemon, killed, comes back and knows the same",
            tell: accidents::killed_when_found,
        },
        Chapter { name: "a machine with Secure Boot is found", tell: accidents::secure_boot },
        Chapter { name: "asked to wipe, the first installs", tell: accidents::wiped },
        Chapter {
            name: "power lost in the middle, then the daemon killed: it starts over, and both become hosts",
            tell: accidents::power_lost,
        },
        Chapter { name: "eli vm create makes a VM that runs", tell: vm },
        Chapter {
            name: "eli install hello.eli makes a service that answers over HTTP, also when the daemon is killed meanwhile",
            tell: service,
        },
        PAGE,
        CONSOLE,
        SECOND_START,
        Chapter {
            name: "a host makes an account for the appliance at its own BMC, which lets it in",
            tell: fence::account,
        },
        BMCS,
        HANGS,
        REIMAGED,
        Chapter {
            name: "the other is fenced from the page, and is a host again by the page",
            tell: fence::fenced_by_hand,
        },
        HANGS_WITH_ITS_BMC,
    ],
};

/// The same without what goes wrong, one machine at a time, so that its times can be compared.
pub const MEASURED: Story = Story {
    name: "path",
    about: "from the ISO to an answering service, and on when its hosts hang and are made anew; measured",
    chapters: &[
        APPLIANCE,
        STRANGERS,
        Chapter { name: "a laptop on the LAN is given an address", tell: laptop },
        Chapter { name: "two blank machines, BIOS and UEFI, become hosts without a touch", tell: hosts },
        Chapter { name: "eli vm create makes a VM that runs", tell: vm },
        Chapter {
            name: "eli install hello.eli makes a service that answers over HTTP",
            tell: measured_service,
        },
        PAGE,
        CONSOLE,
        SECOND_START,
        BMCS,
        HANGS,
        REIMAGED,
        Chapter {
            name: "the other is fenced from the page, reimaged from the page, and ready again",
            tell: fence::fenced_and_reimaged,
        },
        HANGS_WITH_ITS_BMC,
    ],
};

const APPLIANCE: Chapter = Chapter { name: "the ISO boots and becomes an appliance", tell: appliance };
const STRANGERS: Chapter =
    Chapter { name: "nothing but boot and node paths answers without a login", tell: strangers };
const PAGE: Chapter = Chapter { name: "a person sees it on the page", tell: page };
const CONSOLE: Chapter = Chapter { name: "the VM's serial console opens in the browser", tell: console };
const SECOND_START: Chapter =
    Chapter { name: "the appliance starts from its own disk and knows everything", tell: second_start };
const BMCS: Chapter =
    Chapter { name: "the appliance reaches both BMCs and knows that the hosts are on", tell: fence::bmcs };
const HANGS: Chapter =
    Chapter { name: "a host hangs: it is cut off, and then its VM runs on the other", tell: fence::hangs };
const REIMAGED: Chapter =
    Chapter { name: "reimaged from the page, it is ready again", tell: fence::reimaged };
const HANGS_WITH_ITS_BMC: Chapter = Chapter {
    name: "a host hangs, and so does its BMC: nothing moves until it is known to be off",
    tell: fence::hangs_with_its_bmc,
};

/// Generous: a machine that is slower than the bars is seen in the benchmark; a
/// test that fails for it would fail on every busy day.
const HOST_LIMIT: Duration = Duration::from_secs(900);
const VM_LIMIT: Duration = Duration::from_secs(600);
const SERVICE_LIMIT: Duration = Duration::from_secs(900);

/// A free port of this computer.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The machine with a BMC that speaks IPMI, and the one with Redfish.
pub const BIOS: &str = "bios";
pub const UEFI: &str = "uefi";

/// May be made anew on another host.
pub const VM: &str = "web";

fn appliance(world: &mut World) -> Result<()> {
    start(world, 0)
}

/// `page_port` is a port of this computer; 0 takes a free one.
pub fn start(world: &mut World, page_port: u16) -> Result<()> {
    world.build_appliance(Firmware::Bios, vec![Disk::blank(20, "appliance-0")], page_port)?;
    world.start_appliance()?;
    let kept = world.api()?.state()?.daemon.memory_only;
    ensure!(kept.is_none(), "the blank disk was not used: {kept:?}");
    Ok(())
}

fn strangers(world: &mut World) -> Result<()> {
    for path in ["state", "machines", "policy", "timeline/site", "nothing/of/the/kind"] {
        let status = world.api()?.status_without_login(path)?;
        ensure!(matches!(status, 401 | 404), "GET /api/v1/{path} without a login answers {status}");
    }
    Ok(())
}

pub fn laptop(world: &mut World) -> Result<()> {
    let address = world.plug_in_laptop()?;
    ensure!(address.octets()[..2] == ADDRESS.octets()[..2], "the laptop was given {address}");
    world.progress.say(format_args!("A laptop on the LAN was given {address}"));
    Ok(())
}

pub fn hosts(world: &mut World) -> Result<()> {
    if world.measuring {
        // One machine at a time: the appliance is still busy with its own start for a while.
        world.api()?.wait_until("the appliance's own host agent has spoken", HOST_LIMIT, |state| {
            state.machines.iter().any(|machine| machine.appliance && machine.phase == "ready").then_some(())
        })?;
    }
    world.plug_in_with_bmc(Spec::blank(BIOS, Firmware::Bios), Kind::Ipmi)?;
    world.is_found(BIOS, HOST_LIMIT)?;
    if world.measuring {
        world.becomes_host(BIOS, HOST_LIMIT)?;
    }
    world.plug_in_with_bmc(Spec::blank(UEFI, Firmware::Uefi), Kind::Redfish)?;
    world.is_found(UEFI, HOST_LIMIT)?;
    if !world.measuring {
        world.becomes_host(BIOS, HOST_LIMIT)?;
    }
    world.becomes_host(UEFI, HOST_LIMIT)
}

/// What a person sees of it all.
fn page(world: &mut World) -> Result<()> {
    let machine = world.api()?.state()?.machine(mac_of(UEFI, 0)).context("uefi was forgotten")?.id.clone();
    let desk = world.desk()?;
    for (path, name) in [
        ("/", "overview"),
        ("/machines", "machines"),
        (&*format!("/machines/{machine}"), "machine"),
        ("/vms", "vms"),
        ("/services", "services"),
        ("/networks", "networks"),
        ("/log", "log"),
    ] {
        desk.go(path)?;
        desk.keep(name)?;
    }
    Ok(())
}

fn console(world: &mut World) -> Result<()> {
    let vm = world.api()?.state()?.vm(VM).context("the VM was forgotten")?.id.clone();
    world.desk()?.console(&vm)
}

pub fn vm(world: &mut World) -> Result<()> {
    let eli = logged_in(world)?;
    let asked = Instant::now();
    eli.show(&["vm", "create", VM, "--memory", "512", "--cpus", "1", "--disk", "3", "--anew"])?;
    let vm = world.api()?.wait_until(&format!("the VM {VM} is running"), VM_LIMIT, |state| {
        state.vm(VM).filter(|vm| vm.phase == "running").cloned()
    })?;
    world.times.push(("eli vm create to running".into(), asked.elapsed()));
    world.progress.say(format_args!(
        "The VM {VM} runs on {} after {}",
        vm.host_name,
        seconds(asked.elapsed())
    ));
    let state = world.api()?.state()?;
    let on_appliance = state.machines.iter().any(|machine| machine.appliance && machine.name == vm.host_name);
    ensure!(!on_appliance, "the VM was put on the appliance though other hosts have room");
    Ok(())
}

fn service(world: &mut World) -> Result<()> {
    ask_for_hello(world, &["--no-wait"])?;
    accidents::kill_daemon(world)?;
    hello_answers(world, ANY_PORT).map(drop)
}

fn measured_service(world: &mut World) -> Result<()> {
    install_hello(world, ANY_PORT).map(drop)
}

/// Installs the example and asks it over the LAN; gives the address on this
/// computer that leads to it.
pub fn install_hello(world: &mut World, local: SocketAddr) -> Result<SocketAddr> {
    let asked = Instant::now();
    ask_for_hello(world, &[])?;
    let local = hello_answers(world, local)?;
    world.times.push(("eli install to answering".into(), asked.elapsed()));
    world.progress.say(format_args!("eli install took {}", seconds(asked.elapsed())));
    Ok(local)
}

/// Waits until hello answers, where the registry says that it does.
pub fn hello_answers(world: &mut World, local: SocketAddr) -> Result<SocketAddr> {
    let service = world.api()?.wait_until("the service hello is answering", SERVICE_LIMIT, |state| {
        state.service("hello").filter(|service| service.phase == "answering").cloned()
    })?;
    let local = world.forward(local, SocketAddrV4::new(service.address, service.port))?;
    let page = retry(Duration::from_secs(30), || get(local))?;
    world.progress.say(format_args!("hello answers at {}", service.url));
    ensure!(page.contains(&service.address.to_string()), "the page does not name its own address: {page}");
    Ok(local)
}

/// `eli install hello.eli`; by itself it ends when the service answers.
pub fn ask_for_hello(world: &mut World, options: &[&str]) -> Result<()> {
    let eli = logged_in(world)?;
    let bundle = world.products.out.join("hello.eli");
    let bundle = bundle.to_str().context("the folder's name is not UTF-8")?;
    eli.show(&[&["install", bundle], options].concat())
}

/// Asks the service over HTTP, from the laptop on the LAN.
pub fn get(local: SocketAddr) -> Result<String> {
    // Fails when it was done before; without it reqwest cannot make a client,
    // not even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = reqwest::blocking::get(format!("http://{local}/"))?;
    Ok(answer.error_for_status()?.text()?)
}

fn second_start(world: &mut World) -> Result<()> {
    let before = world.api()?.state()?;
    world.restart_appliance_from_disk()?;
    let after = world.api()?.state()?;
    let names = |state: &crate::api::State| {
        let machines = state.machines.iter().map(|machine| (machine.id.clone(), machine.addresses.clone()));
        machines.collect::<Vec<_>>()
    };
    ensure!(
        names(&before) == names(&after),
        "machines changed: {:?}, then {:?}",
        names(&before),
        names(&after)
    );
    ensure!(
        after.service("hello").is_some() && after.vm(VM).is_some(),
        "the VM or the service was forgotten"
    );
    let now = after.machines.iter().filter_map(|machine| machine.seen_at).max().unwrap_or(0);
    world.api()?.wait_until("both hosts speak to the appliance again", Duration::from_secs(180), |state| {
        let mut hosts = state.machines.iter().filter(|machine| !machine.appliance);
        hosts.all(|machine| machine.seen_at > Some(now)).then_some(())
    })
}

/// `eli` on this computer, logged in.
pub fn logged_in(world: &mut World) -> Result<Eli> {
    let home = world.lab.folder.join("home");
    std::fs::create_dir_all(&home)?;
    let eli = Eli::new(&world.products.binaries, &home)?;
    let appliance = world.appliance()?;
    let introduction = appliance.introduction()?;
    eli.log_in(appliance.page, &introduction.ca_sha256, PASSWORD)?;
    Ok(eli)
}
