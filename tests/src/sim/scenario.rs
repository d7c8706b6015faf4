//! Scenarios: a screen of text, a line for what a person does or expects. docs/simulator.md lists the lines.

use std::fmt;

use fleet::machine;
use hypervisor::Fake;

use super::bmc::{Bmc, OUTLETS, Strip};
use super::clock::duration;
use super::computer::{Computer, Content, Firmware, Stage, State};
use super::daemon::Daemon;
use super::dhcp::{Client, Said, packet, read};
use super::{World, expect};

/// Where a scenario ended early, and all that led there.
pub struct Failure {
    pub script: String,
    /// Counted from 0.
    pub line: usize,
    pub reason: String,
    pub timeline: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.script.lines().enumerate() {
            writeln!(f, "{} {line}", if number == self.line { ">>>" } else { "   " })?;
        }
        writeln!(f, "\n{}\n", self.reason)?;
        f.write_str(&self.timeline)
    }
}

/// Carries a script out, with chance from `seed` unless the script names its own.
pub fn run(script: &str, seed: u64) -> Result<World, Box<Failure>> {
    let named = script.lines().find_map(|line| line.strip_prefix("seed ")?.trim().parse().ok());
    let mut world = World::new(named.unwrap_or(seed));
    for (number, line) in script.lines().enumerate() {
        let done = carry_out(&mut world, line);
        let wrong = world.wrong.take();
        if let Some(reason) = wrong.or(done.err()) {
            let (script, timeline) = (script.to_owned(), world.timeline());
            return Err(Box::new(Failure { script, line: number, reason, timeline }));
        }
    }
    Ok(world)
}

fn carry_out(world: &mut World, line: &str) -> Result<(), String> {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["seed", _] => Ok(()),
        ["at", time] => {
            let end = duration(time).ok_or("not a time")?;
            world.run_until(end);
            Ok(())
        }
        ["wait", time] => {
            let end = world.clock.elapsed() + duration(time).ok_or("not a time")?;
            world.run_until(end);
            Ok(())
        }
        // From here on, for `expect nothing recorded`.
        ["note"] => {
            world.noted = world.log.last();
            Ok(())
        }
        ["expect", rest @ ..] => expect::expect(world, rest),
        ["refused", sentence] => world.was_refused(sentence),
        _ if world.has_refusal() => Err(world.refusal()),
        ["eli", rest @ ..] => world.eli(0, rest),
        ["eli@b", rest @ ..] => world.eli(1, rest),
        // Refused or not, and whether there is anything to try it on.
        ["try", "eli", rest @ ..] => {
            let _ = world.eli(0, rest);
            world.refusal = None;
            Ok(())
        }
        ["try", "eli@b", rest @ ..] => {
            let last = world.daemons.len() - 1;
            let _ = world.eli(last, rest);
            world.refusal = None;
            Ok(())
        }
        // A person looks after all that failed, once.
        ["forgive"] => {
            world.forgive();
            Ok(())
        }
        ["plug", name, firmware, rest @ ..] => world.plug(name, firmware, rest),
        ["network", rest @ ..] => world.weather(rest),
        ["second", "appliance"] => {
            let observed = world.daemons[0].observed.clone();
            let daemon = Daemon::start(&world.log, observed, 0, world.clock.now());
            world.daemons.push(daemon);
            world.look_within(1, 0);
            Ok(())
        }
        ["restart", "appliance"] => world.each_daemon(&["a"], World::restart_daemon),
        ["restart", "appliance", which] => world.each_daemon(&[which], World::restart_daemon),
        ["stop", "appliance", which] => world.each_daemon(&[which], World::stop_daemon),
        ["start", "appliance", which] => world.each_daemon(&[which], World::start_daemon),
        ["power", "off", name] => world.with(name, |world, id| {
            world.say(format!("{} loses power", world.computers[id].name));
            world.power_off(id);
        }),
        ["power", "on", name] => world.with(name, World::power_on),
        ["power", "cycle", name] => world.with(name, |world, id| {
            world.say(format!("{} is switched off and on", world.computers[id].name));
            world.power_off(id);
            world.power_on(id);
        }),
        ["block", name] => world.with(name, |world, id| {
            world.say(format!("the cable of {} is cut", world.computers[id].name));
            world.network.blocked.insert(id);
        }),
        ["unblock", name] => world.with(name, |world, id| {
            world.say(format!("the cable of {} is whole again", world.computers[id].name));
            world.network.blocked.remove(&id);
        }),
        ["cable", name, switch, port] => {
            let id = world.computer(name)?;
            world.computers[id].cable = Some(((*switch).to_owned(), (*port).to_owned()));
            Ok(())
        }
        // Its packets come through a relay that says this address.
        ["behind", name, relay] => {
            let id = world.computer(name)?;
            world.computers[id].relay = Some(relay.parse().map_err(|_| "not an address")?);
            Ok(())
        }
        // Something that nobody knows answers to this address.
        ["taken", "nothing"] => {
            world.taken.clear();
            Ok(())
        }
        ["taken", address] => {
            world.taken.insert(address.parse().map_err(|_| "not an address")?);
            Ok(())
        }
        ["flood", count] => world.flood(count.parse().map_err(|_| "not a number")?),
        ["new", "nic", name] => world.with(name, |world, id| {
            world.say(format!("{} gets another NIC", world.computers[id].name));
            world.power_off(id);
            world.computers[id].mac.0[3] += 1;
            world.power_on(id);
        }),
        ["swap", "nics", one, other] => {
            let (one, other) = (world.computer(one)?, world.computer(other)?);
            world.swap_nics(one, other);
            Ok(())
        }
        ["fail", name, request, reason] => {
            let id = world.computer(name)?;
            let request = REQUESTS.iter().find(|known| *known == request).ok_or("not a request")?;
            world.computers[id].hypervisor.fail(request, reason);
            Ok(())
        }
        ["break", "install", name, reason] => {
            let id = world.computer(name)?;
            world.computers[id].install_fails = Some((*reason).to_owned());
            Ok(())
        }
        ["mend", name] => world.with(name, |world, id| {
            for request in REQUESTS {
                world.computers[id].hypervisor.succeed(request);
            }
            world.computers[id].install_fails = None;
        }),
        ["hang", name] => world.with(name, World::freeze),
        ["unhang", name] => world.with(name, |world, id| {
            if world.computers[id].frozen {
                world.power_off(id);
            }
        }),
        ["bmc", name, how] => {
            let id = world.computer(name)?;
            world.computers[id].bmc = match *how {
                "well" => Bmc::Well,
                "silent" => Bmc::Silent,
                "hanging" => Bmc::Hanging,
                "lying" => Bmc::Lying,
                other => return Err(format!("{other}?")),
            };
            Ok(())
        }
        ["strip", name, how] => {
            let id = world.computer(name)?;
            world.computers[id].strip = match *how {
                "well" => Strip::Well,
                "silent" => Strip::Silent,
                "stuck" => Strip::Stuck,
                "lying" => Strip::Lying,
                other => return Err(format!("{other}?")),
            };
            Ok(())
        }
        ["crash", vm] => {
            if let Some(id) = world.vm(vm) {
                for computer in 0..world.computers.len() {
                    world.stop_guest(computer, id);
                }
            }
            Ok(())
        }
        _ => Err("this line is not understood".to_owned()),
    }
}

/// What a hypervisor can be told to fail at.
pub const REQUESTS: [&str; 4] = ["ensure_volume", "ensure_seed", "ensure_vm", "remove_vm"];

/// Words between spaces; what stands in quotes is one. A `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (place, part) in line.split('"').enumerate() {
        if place % 2 == 1 {
            words.push(part.to_owned());
            continue;
        }
        let (part, comment) = match part.split_once('#') {
            Some((part, _)) => (part, true),
            None => (part, false),
        };
        words.extend(part.split_whitespace().map(str::to_owned));
        if comment {
            break;
        }
    }
    words
}

impl World {
    /// `plug m-a bios data "ext4 'photos'" memory 8192 install 90s like m-b`
    fn plug(&mut self, name: &str, firmware: &str, rest: &[&str]) -> Result<(), String> {
        let number = u8::try_from(self.computers.len() + 1).map_err(|_| "too many computers")?;
        let mut computer = Computer {
            name: name.to_owned(),
            mac: fleet::Mac([0x52, 0x54, 0, 0, 0, number]),
            uuid: uuid::Uuid::from_u128(0xabcd_0000 + u128::from(number)),
            serial: format!("S-{number}"),
            firmware: match firmware {
                "bios" => Firmware::Bios,
                "uefi" => Firmware::Uefi,
                "uefi-http" => Firmware::UefiHttp,
                other => return Err(format!("{other} is no firmware")),
            },
            memory_mib: 8192,
            content: Content::Blank,
            life: 0,
            state: State::Off,
            address: None,
            relay: None,
            cable: None,
            install: 60_000,
            install_fails: None,
            hypervisor: Fake::default(),
            images: std::collections::BTreeSet::new(),
            guests: std::collections::BTreeMap::new(),
            may_be_wiped: false,
            bmc: Bmc::Well,
            strip: Strip::Well,
            outlets: [true; OUTLETS],
            on_since: 0,
            restarted: None,
            frozen: false,
        };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().copied().ok_or_else(|| format!("{word} of what?"));
            match *word {
                "blank" => {}
                "data" => computer.content = data(value()?),
                "memory" => computer.memory_mib = value()?.parse().map_err(|_| "not a number")?,
                "install" => computer.install = duration(value()?).ok_or("not a time")?,
                "like" => {
                    let other = self.computer(value()?)?;
                    computer.uuid = self.computers[other].uuid;
                    computer.serial = self.computers[other].serial.clone();
                }
                other => return Err(format!("{other}?")),
            }
        }
        self.computers.push(computer);
        self.power_on(usize::from(number) - 1);
        Ok(())
    }

    /// `network lost 5% duplicated 2% delay 1ms..200ms`, or `network good`
    fn weather(&mut self, rest: &[&str]) -> Result<(), String> {
        let percent = |text: &str| -> Result<u32, String> {
            let number: u32 = text.trim_end_matches('%').parse().map_err(|_| "not a percentage")?;
            Ok(number * 10)
        };
        for pair in rest.chunks(2) {
            match pair {
                ["good"] => {
                    (self.network.lost, self.network.duplicated, self.network.delay) = (0, 0, (1, 1));
                }
                ["lost", text] => self.network.lost = percent(text)?,
                ["duplicated", text] => self.network.duplicated = percent(text)?,
                ["delay", text] => {
                    let (from, to) = text.split_once("..").ok_or("from..to")?;
                    let (from, to) = (duration(from), duration(to));
                    self.network.delay = from.zip(to).ok_or("not a time")?;
                }
                other => return Err(format!("{other:?}?")),
            }
        }
        Ok(())
    }

    /// Does what the page asks a person to do: adopts again what failed, and restarts what does not come on.
    fn forgive(&mut self) {
        let fleet = self.daemons[0].fleet.clone();
        for machine in fleet.machines.values() {
            if let machine::Phase::Failed { .. } = machine.phase {
                let _ = self.eli(0, &["adopt", &machine.id.to_string(), "--wipe"]);
                self.refusal = None;
            }
        }
        for id in 0..self.computers.len() {
            let computer = &self.computers[id];
            let phase = machine::by_mac(&fleet, computer.mac).map(|machine| &machine.phase);
            let wanted =
                matches!(phase, Some(machine::Phase::Adopted { .. } | machine::Phase::Installing { .. }));
            let system = matches!(computer.content, Content::System { .. });
            let restart = match &computer.state {
                State::Foreign | State::Host(_) => wanted,
                State::Asking(asking) => wanted && asking.stage == Stage::System,
                State::Initrd(_) => system && !wanted,
                State::Starting(stage) => wanted && matches!(stage, Stage::Disk | Stage::System),
                State::Off | State::Fetching { .. } => false,
            };
            if restart {
                self.say(format!("a person restarts {}", self.computers[id].name));
                self.power_off(id);
                self.power_on(id);
            }
        }
    }

    /// So many MAC addresses that nobody has ask for addresses, every other one as firmware, and take them.
    fn flood(&mut self, count: u32) -> Result<(), String> {
        self.say(format!("{count} machines that do not exist ask for addresses"));
        for number in 0..count {
            let [_, _, high, low] = number.to_be_bytes();
            let mac = fleet::Mac([0x0a, 0xbb, 0, 0, high, low]);
            let client = if number % 2 == 0 { Client::UefiFirmware } else { Client::System };
            let uuid = uuid::Uuid::from_u128(u128::from(number));
            let offer = self.lease(0, &packet(client, mac, uuid, number, None));
            if let Some(Said::Offer(offer)) = offer.and_then(|offer| read(&offer, number)) {
                self.lease(0, &packet(client, mac, uuid, number, Some(offer)));
            }
        }
        Ok(())
    }

    /// Both are off while somebody has them open.
    fn swap_nics(&mut self, one: usize, other: usize) {
        let names = (&self.computers[one].name, &self.computers[other].name);
        self.say(format!("{} and {} swap their NICs", names.0, names.1));
        for id in [one, other] {
            self.power_off(id);
        }
        let mac = self.computers[one].mac;
        self.computers[one].mac = self.computers[other].mac;
        self.computers[other].mac = mac;
        for id in [one, other] {
            self.power_on(id);
        }
    }

    fn each_daemon(&mut self, which: &[&str], what: impl Fn(&mut World, usize)) -> Result<(), String> {
        for name in which {
            let id = match *name {
                "a" => 0,
                "b" if self.daemons.len() > 1 => 1,
                other => return Err(format!("there is no appliance {other}")),
            };
            what(self, id);
        }
        Ok(())
    }

    fn with(&mut self, name: &str, what: impl Fn(&mut World, usize)) -> Result<(), String> {
        let id = self.computer(name)?;
        what(self, id);
        Ok(())
    }

    /// A computer by the name it was plugged in with, or by the name or id of the machine it is known as.
    pub fn computer(&self, name: &str) -> Result<usize, String> {
        let fleet = &self.daemons[0].fleet;
        let by_id =
            name.parse().ok().and_then(|id: fleet::MachineId| fleet.machines.get(&id)).map(AsRef::as_ref);
        let known = by_id.or_else(|| machine::by_name(fleet, name));
        self.computers
            .iter()
            .position(|computer| {
                computer.name == name || known.is_some_and(|machine| machine.macs.contains(&computer.mac))
            })
            .ok_or_else(|| format!("there is no computer {name}"))
    }
}

fn data(text: &str) -> Content {
    let (what, label) = match text.split_once(" '") {
        Some((what, label)) => (what, Some(label.trim_end_matches('\'').to_owned())),
        None => (text, None),
    };
    Content::Data { what: what.to_owned(), label }
}
