//! `expect …`: what has to be so now, `within` a time, or all the time `for` a while.

use fleet::Forecast;
use fleet::switch::Plugged;
use hypervisor::Hypervisor as _;

use super::World;
use super::clock::duration;
use super::computer::{Content, Stage, State};

/// Between two looks while something is waited for.
const STEP: u64 = 500;

pub fn expect(world: &mut World, words: &[&str]) -> Result<(), String> {
    let (what, limit) = match words {
        [what @ .., "within", time] => (what, Some((duration(time).ok_or("not a time")?, false))),
        [what @ .., "for", time] => (what, Some((duration(time).ok_or("not a time")?, true))),
        what => (what, None),
    };
    let Some((millis, always)) = limit else { return holds(world, what) };
    let end = world.clock.elapsed() + millis;
    loop {
        let so = holds(world, what);
        let over = world.clock.elapsed() >= end || world.wrong.is_some();
        match so {
            Ok(()) if !always || over => return Ok(()),
            Err(reason) if always || over => return Err(reason),
            Ok(()) | Err(_) => world.run_until(end.min(world.clock.elapsed() + STEP)),
        }
    }
}

fn holds(world: &mut World, what: &[&str]) -> Result<(), String> {
    let fleet = &world.daemons[0].fleet;
    match what {
        ["machine", name, wanted] => {
            let machine = world.machine(name).and_then(|id| fleet.machines.get(&id));
            same(wanted, machine.map(|machine| machine.phase.word()), "machine")
        }
        ["vm", name, wanted] => {
            let vm = world.vm(name).and_then(|id| fleet.vms.get(&id));
            same(wanted, vm.map(|vm| vm.phase.word()), "VM")
        }
        ["vm", name, "on", host] => {
            let vm = world.vm(name).and_then(|id| fleet.vms.get(&id));
            let there = vm.is_some_and(|vm| Some(vm.host) == world.machine(host));
            there.then_some(()).ok_or_else(|| format!("it is on {:?}", vm.map(|vm| vm.host)))
        }
        ["service", name, wanted] => {
            let service = world.service(name).and_then(|id| fleet.services.get(&id));
            same(wanted, service.map(|service| service.phase.word()), "service")
        }
        ["no", noun, name] => {
            let there = match *noun {
                "machine" => world.machine(name).is_some(),
                "vm" => world.vm(name).is_some(),
                "service" => world.service(name).is_some(),
                other => return Err(format!("{other} is no noun")),
            };
            if there { Err(format!("there is the {noun} {name}")) } else { Ok(()) }
        }
        ["waiting", name, text] => {
            let lines = waiting(world, name)?;
            let found = lines.iter().any(|line| line.contains(text));
            found.then_some(()).ok_or_else(|| format!("it waits for: {lines:?}"))
        }
        ["not", "waiting", name] => {
            let lines = waiting(world, name)?;
            lines.is_empty().then_some(()).ok_or_else(|| format!("it waits for: {lines:?}"))
        }
        ["event", name, text] => {
            let (count, _) = events(world, name, text);
            (count > 0).then_some(()).ok_or_else(|| "its timeline has no such line".to_owned())
        }
        ["event", name, text, "times", times] => {
            let (count, lines) = events(world, name, text);
            let wanted = times.parse() == Ok(count);
            wanted.then_some(()).ok_or_else(|| format!("{count} times: {lines:?}"))
        }
        ["nothing", "recorded"] => {
            let count = world.log.last() - world.noted;
            (count == 0).then_some(()).ok_or_else(|| format!("{count} events since `note`"))
        }
        ["disk", name, wanted] => {
            let id = world.computer(name)?;
            let content = match &world.computers[id].content {
                Content::Blank => "blank",
                Content::Data { .. } => "data",
                Content::Begun => "begun",
                Content::System { .. } => "installed",
            };
            same(wanted, Some(content), "disk")
        }
        ["screen", name, wanted] => {
            let id = world.computer(name)?;
            let screen = match &world.computers[id].state {
                State::Off => "off",
                // It runs, and nobody has given it its address.
                State::Asking(asking) if asking.stage == Stage::System => "system",
                State::Starting(_) | State::Asking(_) | State::Fetching { .. } => "starting",
                State::Initrd(_) => "initrd",
                State::Host(_) => "host",
                State::Foreign => "own-system",
            };
            same(wanted, Some(screen), "screen")
        }
        ["domain", vm, state, "on", name] => {
            let id = world.computer(name)?;
            let domains = world.computers[id].hypervisor.vms().unwrap_or_default();
            let domain = domains.iter().find(|domain| domain.name == *vm);
            let is = match domain {
                None => "gone",
                Some(domain) if domain.running => "running",
                Some(_) => "stopped",
            };
            same(state, Some(is), "domain")
        }
        ["address", name, "of", other] => {
            let (one, other) = (world.computer(name)?, world.computer(other)?);
            let (one, other) = (world.computers[one].address, world.computers[other].address);
            (one == other).then_some(()).ok_or_else(|| format!("{one:?} and {other:?}"))
        }
        ["address", name, "is", wanted] => {
            let is = world.computers[world.computer(name)?].address.map(|address| address.to_string());
            same(wanted, is.as_deref(), "address")
        }
        ["address", name, "not", other] => {
            let is = world.computers[world.computer(name)?].address.map(|address| address.to_string());
            let same = is.as_deref() == Some(*other);
            (!same).then_some(()).ok_or_else(|| format!("it is {other}"))
        }
        ["address", name, "in", network] => {
            let network: ipnet::Ipv4Net = network.parse().map_err(|_| "not a network")?;
            let is = world.computers[world.computer(name)?].address;
            let inside = is.is_some_and(|address| network.contains(&address));
            inside.then_some(()).ok_or_else(|| format!("it is {is:?}"))
        }
        ["free", subnet, wanted] => {
            let subnet = fleet::subnet::by_name(fleet, subnet).ok_or("there is no such subnet")?;
            let usage = fleet::lease::usage(fleet, &subnet, world.clock.now());
            same(wanted, Some(&usage.free().to_string()), "number of free addresses")
        }
        ["quiet"] => world.is_quiet(),
        ["settled"] => world.is_settled(),
        ["replay", "equals", "live"] => world.check_replay(),
        ["document", "changes", "nothing"] => world.check_document(),
        ["compaction", "equals", "live"] => world.check_compaction(),
        ["shown", text] => {
            let lines = world.shown.as_ref().map(shown).unwrap_or_default();
            let found = lines.iter().any(|line| line.contains(text));
            found.then_some(()).ok_or_else(|| format!("it showed: {lines:?}"))
        }
        ["port", switch, port, "has", name] => {
            let mac = world.computers[world.computer(name)?].mac;
            let port = fleet.switches.get(*switch).and_then(|switch| switch.ports.get(*port));
            let port = port.ok_or("there is no such port")?;
            let by_hand = port.by_hand == Some(Plugged::Nic { mac });
            (by_hand || port.heard.contains(&mac)).then_some(()).ok_or_else(|| format!("it has {port:?}"))
        }
        other => Err(format!("expect {} is not understood", other.join(" "))),
    }
}

fn same(wanted: &str, is: Option<&str>, noun: &str) -> Result<(), String> {
    match is {
        Some(is) if is == wanted => Ok(()),
        Some(is) => Err(format!("the {noun} is {is}")),
        None => Err(format!("there is no such {noun}")),
    }
}

/// The lines of a plan, as `eli plan` prints them.
fn shown(forecast: &Forecast) -> Vec<String> {
    let effects = forecast.steps.iter().flat_map(|step| {
        let refusal = step.refusal.iter().map(|refusal| format!("refused: {refusal}"));
        refusal.chain(step.effects.iter().map(|effect| format!("{}: {}", effect.name, effect.sentence)))
    });
    let waits = forecast.waiting.iter().map(|wait| format!("{} would wait: {}", wait.name, wait.what));
    effects.chain(waits).collect()
}

/// What the page says that this thing waits for.
fn waiting(world: &World, name: &str) -> Result<Vec<String>, String> {
    let subject = world.subject(name).ok_or("there is no such thing")?;
    let plan = fleet::plan(&world.daemons[0].fleet, &world.daemons[0].observed, world.clock.now());
    let lines = plan.waiting_of(subject).iter();
    Ok(lines.map(|wait| format!("{} ({})", wait.what, wait.hint.as_deref().unwrap_or_default())).collect())
}

/// Lines of its timeline that contain `text`.
fn events(world: &World, name: &str, text: &str) -> (usize, Vec<String>) {
    let subject = world.machine(name).map(|id| id.to_string());
    let subject = subject.or_else(|| world.vm(name).map(|id| id.to_string()));
    let subject = subject.or_else(|| world.service(name).map(|id| id.to_string()));
    let subject = subject.unwrap_or_else(|| name.to_owned());
    let lines = world.timeline.iter().filter(|line| line.subject == subject && line.text.contains(text));
    let lines: Vec<String> = lines.map(|line| line.text.clone()).collect();
    (lines.len(), lines)
}
