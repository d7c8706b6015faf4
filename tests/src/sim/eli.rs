//! What a person types: the words of `eli`, given as commands to an appliance of the simulated world.

use fleet::package::{Bundle, Deb, Health, Manifest, Nodes, Requires, Unit};
use fleet::power::{self, Bmc};
use fleet::site::{Adopt, Fencing, Policy};
use fleet::switch::Plugged;
use fleet::{Command, Ctx, Forecast, MachineId, ServiceId, Subject, VmId, machine, simulate, vm};

use super::World;
use super::bmc::OUTLETS;

impl World {
    /// Gives one command. A refusal is kept for the next line, which has to expect it.
    pub fn eli(&mut self, id: usize, words: &[&str]) -> Result<(), String> {
        if !self.daemons.get(id).is_some_and(|daemon| daemon.up) {
            self.refusal = Some("the appliance does not answer".to_owned());
            return Ok(());
        }
        self.say(format!("$ eli {}", words.join(" ")));
        if let ["plan", "--", rest @ ..] = words {
            let command = self.command(rest)?;
            self.shown = Some(self.rehearse(id, &command));
            return Ok(());
        }
        let command = match self.command(words) {
            Ok(command) => command,
            Err(missing) if missing.starts_with("there is no ") => {
                self.refusal = Some(missing);
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        // Told by an appliance that is behind, a plan may be another one; applied, it would be refused.
        let is_behind = self.daemons[id].position < self.log.last();
        let shown = (!is_behind).then(|| self.rehearse(id, &command));
        let done = self.execute(id, "admin", &command);
        if let Some(shown) = shown {
            self.check_rehearsal(&shown, &done);
        }
        if let Err(refusal) = done {
            self.say(format!("refused: {refusal}"));
            self.refusal = Some(refusal.to_string());
        }
        Ok(())
    }

    /// What the command would do, told without doing it.
    fn rehearse(&self, id: usize, command: &Command) -> Forecast {
        let ctx = Ctx { now: self.clock.now() };
        let daemon = &self.daemons[id];
        simulate(&daemon.fleet, &daemon.observed, std::slice::from_ref(command), ctx)
    }

    fn command(&self, words: &[&str]) -> Result<Command, String> {
        let flag = |name: &str| words.contains(&name);
        let number = |name: &str, otherwise: u64| -> Result<u64, String> {
            let Some(place) = words.iter().position(|word| *word == name) else { return Ok(otherwise) };
            let value = words.get(place + 1).and_then(|value| value.parse().ok());
            value.ok_or_else(|| format!("{name} wants a number"))
        };
        let missing = |what: &str, name: &str| format!("there is no {what} {name}");
        Ok(match words {
            ["vm", "create", name, ..] => Command::CreateVm {
                spec: vm::NewVm {
                    name: (*name).to_owned(),
                    vcpus: u32::try_from(number("--cpus", 1)?).map_err(|_| "too many")?,
                    memory_mib: number("--memory", 512)?,
                    disk_gib: number("--disk", 4)?,
                    image: image(),
                    recover: if flag("--anew") { vm::Recover::Anew } else { vm::Recover::Wait },
                    tenant: None,
                },
            },
            ["vm", "delete", name, ..] => Command::RemoveVm {
                vm: self.vm(name).ok_or_else(|| missing("VM", name))?,
                force: flag("--force"),
            },
            ["vm", "cancel", name] => {
                Command::Cancel { subject: Subject::Vm(self.vm(name).ok_or_else(|| missing("VM", name))?) }
            }
            ["machine", "cancel", name] => Command::Cancel {
                subject: Subject::Machine(self.machine(name).ok_or_else(|| missing("machine", name))?),
            },
            ["service", "cancel", name] => Command::Cancel {
                subject: Subject::Service(self.service(name).ok_or_else(|| missing("service", name))?),
            },
            ["host", "drain", name] => {
                Command::Drain { machine: self.machine(name).ok_or_else(|| missing("machine", name))? }
            }
            ["host", "undrain", name] => {
                Command::Undrain { machine: self.machine(name).ok_or_else(|| missing("machine", name))? }
            }
            ["vm", "recover", name] => {
                Command::RecoverVm { vm: self.vm(name).ok_or_else(|| missing("VM", name))? }
            }
            ["machine", "bmc", name] => Command::SetBmc {
                machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                bmc: Bmc {
                    kind: power::Kind::Redfish,
                    address: format!("bmc-of-{name}"),
                    pin: None,
                    options: std::collections::BTreeMap::new(),
                },
            },
            ["machine", "strip", name, outlets @ ..] => Command::SetStrip {
                machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                strip: power::Strip {
                    agent: "fence_apc_snmp".to_owned(),
                    address: "strip".to_owned(),
                    outlets: match outlets {
                        [] => (1..=OUTLETS).map(|number| format!("{name}-{number}")).collect(),
                        named => named.iter().map(|outlet| (*outlet).to_owned()).collect(),
                    },
                    options: std::collections::BTreeMap::new(),
                },
            },
            ["machine", "power", name, action, ..] => Command::Power {
                machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                action: match *action {
                    "on" => power::Action::On,
                    "off" => power::Action::Off,
                    "cycle" => power::Action::Cycle,
                    other => return Err(format!("{other}?")),
                },
                force: flag("--force"),
            },
            ["machine", "reimage", name, ..] => Command::Reimage {
                machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                how: machine::Reimage {
                    wipe: flag("--wipe"),
                    force: flag("--force"),
                    ..machine::Reimage::default()
                },
            },
            ["machine", "erase", name, ..] => Command::EraseMachine {
                machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                how: machine::Erase { retire: flag("--retire"), ..machine::Erase::default() },
            },
            ["machine", "check", name, ..] => Command::CheckDisks {
                machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                on: !flag("--stop"),
            },
            ["machine", "retire", name] => {
                Command::Retire { machine: self.machine(name).ok_or_else(|| missing("machine", name))? }
            }
            ["machine", "unretire", name] => {
                Command::Unretire { machine: self.machine(name).ok_or_else(|| missing("machine", name))? }
            }
            ["host", "fence", name, rest @ ..] => {
                let machine = self.machine(name).ok_or_else(|| missing("machine", name))?;
                match rest {
                    ["--off"] => Command::AttestOff { machine, why: "its plug is pulled".to_owned() },
                    _ => Command::Fence { machine, why: "a person wants it".to_owned() },
                }
            }
            ["host", "unfence", name] => Command::Unfence {
                machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                on: true,
            },
            ["adopt", name, ..] => Command::Adopt {
                machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                wipe: flag("--wipe"),
                profile: None,
                disk: None,
            },
            ["delete", name, ..] => match self.vm(name) {
                Some(vm) => Command::RemoveVm { vm, force: flag("--force") },
                None => Command::RemoveMachine {
                    machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                    force: flag("--force"),
                },
            },
            ["policy", ..] => Command::SetPolicy {
                policy: Policy {
                    adopt: if flag("--ask") { Adopt::Ask } else { Adopt::Blank },
                    ssh_keys: Vec::new(),
                    fencing: Fencing {
                        automatic: !flag("--no-fencing"),
                        per_hour: u32::try_from(number("--per-hour", 4)?).map_err(|_| "too many")?,
                        ..Fencing::default()
                    },
                    ..Policy::default()
                },
            },
            ["install", name, ..] => Command::InstallPackage {
                bundle: bundle(name, number("--memory", 256)?),
                image: image(),
                tenant: None,
            },
            ["remove", name, ..] => Command::RemoveService {
                service: self.service(name).ok_or_else(|| missing("service", name))?,
                force: flag("--force"),
            },
            ["rack", "add", name, ..] => Command::AddRack {
                name: (*name).to_owned(),
                units: u32::try_from(number("--units", 42)?).map_err(|_| "too many")?,
            },
            ["rack", "remove", name, ..] => {
                Command::RemoveRack { name: (*name).to_owned(), force: flag("--force") }
            }
            ["place", name, rack, unit] => Command::PlaceMachine {
                machine: self.machine(name).ok_or_else(|| missing("machine", name))?,
                rack: (*rack).to_owned(),
                unit: unit.parse().map_err(|_| "not a number")?,
                height: 1,
            },
            ["switch", "add", name, ports @ ..] => Command::AddSwitch {
                name: (*name).to_owned(),
                ports: ports.iter().map(|port| (*port).to_owned()).collect(),
                place: None,
            },
            ["plug", switch, port, name] => {
                let mac = self.computers[self.computer(name)?].mac;
                Command::Plug {
                    switch: (*switch).to_owned(),
                    port: (*port).to_owned(),
                    what: Plugged::Nic { mac },
                }
            }
            ["unplug", switch, port] => {
                Command::Unplug { switch: (*switch).to_owned(), port: (*port).to_owned() }
            }
            ["subnet", verb @ ("add" | "set"), name, rest @ ..] => {
                let known = fleet::subnet::by_name(&self.daemons[0].fleet, name);
                let (known, rest) = match (*verb, rest) {
                    ("add", [network, rest @ ..]) => {
                        let network = network.parse().map_err(|_| "not a network")?;
                        (fleet::subnet::Subnet::new(name, network), rest)
                    }
                    _ => (known.ok_or_else(|| missing("subnet", name))?, rest),
                };
                Command::SetSubnet { subnet: described(known, rest)? }
            }
            ["subnet", "remove", name, ..] => {
                Command::RemoveSubnet { name: (*name).to_owned(), force: flag("--force") }
            }
            ["reservation", "add", name, address] => Command::Reserve {
                mac: match name.parse() {
                    Ok(mac) => mac,
                    Err(_) => self.computers[self.computer(name)?].mac,
                },
                address: address.parse().map_err(|_| "not an address")?,
            },
            ["reservation", "remove", address] => {
                Command::Unreserve { address: address.parse().map_err(|_| "not an address")? }
            }
            ["lease", "remove", address, ..] => Command::FreeAddress {
                address: address.parse().map_err(|_| "not an address")?,
                force: flag("--force"),
            },
            ["cancel", name, ..] => Command::Cancel {
                subject: (self.vm(name).map(Subject::Vm))
                    .or_else(|| self.service(name).map(Subject::Service))
                    .or_else(|| self.machine(name).map(Subject::Machine))
                    .ok_or_else(|| missing("machine, VM or service", name))?,
            },
            ["drain", name, ..] => {
                Command::Drain { machine: self.machine(name).ok_or_else(|| missing("machine", name))? }
            }
            ["undrain", name, ..] => {
                Command::Undrain { machine: self.machine(name).ok_or_else(|| missing("machine", name))? }
            }
            _ => return Err(format!("eli {} is not understood", words.join(" "))),
        })
    }

    pub fn has_refusal(&self) -> bool {
        self.refusal.is_some()
    }

    pub fn refusal(&self) -> String {
        format!("the command before this line was refused: {}", self.refusal.clone().unwrap_or_default())
    }

    pub fn was_refused(&mut self, sentence: &str) -> Result<(), String> {
        match self.refusal.take() {
            Some(refusal) if refusal.contains(sentence) => Ok(()),
            Some(refusal) => Err(format!("it was refused with other words: {refusal}")),
            None => Err("it was not refused".to_owned()),
        }
    }

    pub fn subject(&self, name: &str) -> Option<Subject> {
        let machine = || self.machine(name).map(Subject::Machine);
        let vm = || self.vm(name).map(Subject::Vm);
        self.service(name).map(Subject::Service).or_else(vm).or_else(machine)
    }

    /// A machine by its id, its name, or the name of the computer that it is.
    pub fn machine(&self, name: &str) -> Option<MachineId> {
        let fleet = &self.daemons[0].fleet;
        let by_id = name.parse().ok().and_then(|id: MachineId| fleet.machines.get(&id)).map(AsRef::as_ref);
        let named = by_id.or_else(|| machine::by_name(fleet, name));
        let computer = || self.computers.iter().find(|computer| computer.name == name);
        let known = named.or_else(|| machine::by_mac(fleet, computer()?.mac));
        known.map(|machine| machine.id)
    }

    pub fn vm(&self, name: &str) -> Option<VmId> {
        let fleet = &self.daemons[0].fleet;
        let by_id = name.parse().ok().filter(|id| fleet.vms.contains_key(id));
        by_id.or_else(|| Some(vm::by_name(fleet, name)?.id))
    }

    pub fn service(&self, name: &str) -> Option<ServiceId> {
        let services = &self.daemons[0].fleet.services;
        services.values().find(|service| service.name == name).map(|service| service.id)
    }
}

/// `--router 10.80.0.1 --range 10.80.0.10-10.80.0.20`
fn described(mut subnet: fleet::subnet::Subnet, words: &[&str]) -> Result<fleet::subnet::Subnet, String> {
    for pair in words.chunks(2) {
        match pair {
            ["--router", address] => subnet.router = Some(address.parse().map_err(|_| "not an address")?),
            ["--range", range] => {
                let (first, last) = range.split_once('-').ok_or("FIRST-LAST")?;
                let first = first.parse().map_err(|_| "not an address")?;
                let last = last.parse().map_err(|_| "not an address")?;
                subnet.ranges = vec![fleet::subnet::Range { first, last }];
            }
            other => return Err(format!("{other:?}?")),
        }
    }
    Ok(subnet)
}

pub fn image() -> vm::Image {
    vm::Image { name: "guest.img".to_owned(), sha256: "0".repeat(64), bytes: 1 << 30 }
}

fn bundle(name: &str, memory_mib: u64) -> Bundle {
    Bundle {
        sha256: "1".repeat(64),
        bytes: 1 << 20,
        manifest: Manifest {
            format: 1,
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            summary: "answers".to_owned(),
            requires: Requires { memory_mib, vcpus: 1, disk_gib: 2 },
            nodes: Nodes { min: 1 },
            debs: vec![Deb { file: format!("debs/{name}.deb"), sha256: "2".repeat(64) }],
            configs: Vec::new(),
            service: Unit { unit: format!("{name}.service"), port: 8080, protocol: "http".to_owned() },
            health: Health { path: "/".to_owned(), status: 200 },
        },
    }
}
