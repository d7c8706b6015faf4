//! Hosts that hang, and hosts that are made anew: what the appliance does to
//! them through their BMCs, on machines that are seen to lose their power.
//! Chapters of the path, which has made the hosts and what runs on them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::path::{BIOS, UEFI, VM, logged_in};
use crate::api;
use crate::machine::mac_of;
use crate::progress::seconds;
use crate::world::World;

const LIMIT: Duration = Duration::from_secs(900);

/// Twice as long as an appliance takes with a BMC that answers.
const WATCHED: Duration = Duration::from_secs(75);

/// What the host is told, it does by its KCS interface; what the appliance then does, it does over LAN.
pub fn account(world: &mut World) -> Result<()> {
    let eli = logged_in(world)?;
    let bios = machine(world, BIOS)?;
    let is_said = |what: &str, said: &str| -> Result<()> {
        world.api()?.wait_until(what, LIMIT, |_| {
            let lines = world.api().ok()?.timeline(&bios.id).ok()?;
            lines.iter().any(|line| line.text.contains(said)).then_some(())
        })
    };
    eli.show(&["policy", "--bmc-accounts", "on"])?;
    is_said("the account is made", "It made an account for the appliance at its BMC")?;
    // What it says of its BMC leads to where the other services of this computer are.
    let address = world.bmc(BIOS)?.address_from_appliance().to_string();
    eli.show(&["bmc", "find", &bios.name, "--address", &address])?;
    // Only after the BMC has said whose it is.
    is_said("the appliance is let in with it", "takes the account that it made")?;
    eli.show(&["policy", "--bmc-accounts", "off"])
}

/// Gives the appliance the logins of both BMCs. The one of ipmi_sim takes more than the page asks for.
pub fn bmcs(world: &mut World) -> Result<()> {
    let [bios, uefi] = [machine(world, BIOS)?.id, machine(world, UEFI)?.id];
    world.api()?.set_bmc(&bios, world.bmc(BIOS)?)?;
    let bmc = world.bmc(UEFI)?;
    let (kind, address) = (bmc.kind, bmc.address_from_appliance());
    world.desk()?.set_bmc(&uefi, kind, address)?;
    for name in [BIOS, UEFI] {
        is_known_to_be(world, name, "on")?;
    }
    world.desk()?.keep("bmc")
}

pub fn hangs(world: &mut World) -> Result<()> {
    if world.measuring {
        // In its first minute an appliance fences nobody by itself, and it has just been restarted.
        thread::sleep(Duration::from_secs(60));
    }
    let hung = host_of_vm(world)?;
    let other = other_than(&hung);
    let process = world.machine(&hung)?.pid().context("the host is off already")?;
    let since = Instant::now();
    world.machine(&hung)?.freeze()?;
    world.progress.say(format_args!("{hung} hangs"));
    is_fenced(world, &hung)?;
    world.progress.say(format_args!("{hung} is cut off after {}", seconds(since.elapsed())));
    ensure!(!world.machine(&hung)?.is_on(), "{hung} is said to be off, but its process {process} is there");
    runs_on(world, &[other])?;
    world.times.push(("hung host to its VM running elsewhere".into(), since.elapsed()));
    world.progress.say(format_args!("{VM} runs on {other} after {}", seconds(since.elapsed())));
    ensure!(!world.machine(&hung)?.is_on(), "{hung} was switched on although nobody let it in again");
    Ok(())
}

/// The host that hung is made anew, by a person at the page.
pub fn reimaged(world: &mut World) -> Result<()> {
    let name = other_than(&host_of_vm(world)?);
    is_reimaged(world, name)
}

/// The host of the VM is well, and a person at the page fences it; then it is let in again. To reimage it would take
/// minutes, and the other was.
pub fn fenced_by_hand(world: &mut World) -> Result<()> {
    let name = is_fenced_by_hand(world)?;
    let_in_again(world, &name)
}

/// The same, but it is reimaged: how long that takes is compared.
pub fn fenced_and_reimaged(world: &mut World) -> Result<()> {
    let name = is_fenced_by_hand(world)?;
    is_reimaged(world, &name)
}

fn is_fenced_by_hand(world: &mut World) -> Result<String> {
    let name = host_of_vm(world)?;
    let other = other_than(&name);
    let id = machine(world, &name)?.id;
    let clicked = Instant::now();
    world.desk()?.order(&id, "Fence")?;
    is_fenced(world, &name)?;
    ensure!(!world.machine(&name)?.is_on(), "{name} is said to be off, but it is on");
    world.progress.say(format_args!("{name} was off {} after the click", seconds(clicked.elapsed())));
    let desk = world.desk()?;
    desk.sees("fenced")?;
    desk.keep("fenced")?;
    runs_on(world, &[other])?;
    Ok(name)
}

fn is_reimaged(world: &mut World, name: &str) -> Result<()> {
    let id = machine(world, name)?.id;
    let process = world.machine(name)?.pid();
    let clicked = Instant::now();
    world.desk()?.reimage(&id)?;
    world.api()?.wait_until(&format!("{name} is no host for now"), LIMIT, |state| {
        state.machine(mac_of(name, 0)).filter(|machine| machine.phase != "ready").map(drop)
    })?;
    world.desk()?.keep("reimaging")?;
    world.comes_to(name, "ready", LIMIT)?;
    let took = clicked.elapsed();
    ensure!(world.machine(name)?.pid() != process, "{name} was made anew without a power cycle");
    let first = world.times.iter().find(|(what, _)| *what == format!("{name}: power-on to ready"));
    let first = first.context("the first installation was not measured")?.1;
    // Where nothing is measured, both machines were installed at once the first time.
    world.progress.say(format_args!(
        "{name} was made anew in {}, {:.2} times its first installation ({})",
        seconds(took),
        took.as_secs_f64() / first.as_secs_f64(),
        seconds(first)
    ));
    world.times.push((format!("{name}: click to ready, made anew"), took));
    let desk = world.desk()?;
    desk.sees("ready")?;
    desk.keep("reimaged")
}

/// A host that is fenced is trusted again, by a person at the page.
fn let_in_again(world: &mut World, name: &str) -> Result<()> {
    let before = machine(world, name)?;
    world.desk()?.order(&before.id, "Unfence")?;
    world.api()?.wait_until(&format!("{name} is a host again"), LIMIT, |state| {
        let machine = state.machine(mac_of(name, 0))?;
        let has_spoken = machine.seen_at > before.seen_at;
        (machine.fence.is_none() && machine.phase == "ready" && has_spoken).then_some(())
    })?;
    ensure!(world.machine(name)?.is_on(), "{name} is said to be a host again, but it is off");
    Ok(())
}

pub fn hangs_with_its_bmc(world: &mut World) -> Result<()> {
    let hung = host_of_vm(world)?;
    let other = other_than(&hung);
    world.bmc(&hung)?.hang()?;
    world.machine(&hung)?.freeze()?;
    world.progress.say(format_args!("{hung} and its BMC hang"));
    let before = machine(world, &hung)?.name;
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        let vm = world.api()?.state()?.vm(VM).cloned().context("the VM is gone")?;
        ensure!(vm.host_name == before, "{VM} was moved to {} although {hung} may be on", vm.host_name);
        thread::sleep(Duration::from_secs(1));
    }
    ensure!(world.machine(&hung)?.is_on(), "{hung} went off although nothing reached its BMC");
    let fence = machine(world, &hung)?.fence;
    ensure!(fence.is_none_or(|fence| fence.phase != "off"), "{hung} is said to be off, but it is on");

    world.bmc(&hung)?.resume()?;
    world.progress.say("The BMC answers again");
    is_fenced(world, &hung)?;
    ensure!(!world.machine(&hung)?.is_on(), "{hung} is said to be off, but it is on");
    runs_on(world, &[other]).map(drop)
}

fn is_known_to_be(world: &World, name: &str, power: &str) -> Result<()> {
    world.api()?.wait_until(&format!("the BMC of {name} says that it is {power}"), LIMIT, |state| {
        let known = state.machine(mac_of(name, 0))?.power.as_ref()?;
        (known.is == power).then_some(())
    })
}

fn is_fenced(world: &World, name: &str) -> Result<()> {
    let why = world.api()?.wait_until(&format!("{name} is cut off"), LIMIT, |state| {
        let fence = state.machine(mac_of(name, 0))?.fence.clone()?;
        (fence.phase == "off").then_some(fence.why)
    })?;
    world.progress.say(format_args!("{name} was cut off: {why}"));
    Ok(())
}

/// The host on which the VM runs, once it is one of these.
fn runs_on(world: &World, hosts: &[&str]) -> Result<String> {
    let names: Vec<(&str, String)> =
        hosts.iter().map(|host| Ok((*host, machine(world, host)?.name))).collect::<Result<_>>()?;
    world.api()?.wait_until(&format!("{VM} runs on one of {hosts:?}"), LIMIT, |state| {
        let vm = state.vm(VM).filter(|vm| vm.phase == "running")?;
        names.iter().find(|(_, name)| *name == vm.host_name).map(|(host, _)| (*host).to_string())
    })
}

fn host_of_vm(world: &World) -> Result<String> {
    runs_on(world, &[BIOS, UEFI])
}

fn other_than(host: &str) -> &'static str {
    if host == BIOS { UEFI } else { BIOS }
}

fn machine(world: &World, name: &str) -> Result<api::Machine> {
    let state = world.api()?.state()?;
    state.machine(mac_of(name, 0)).cloned().with_context(|| format!("the appliance has forgotten {name}"))
}
