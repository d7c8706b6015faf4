//! What lists know of each noun: its state, what it is found by, what it is sorted by.

use std::sync::Arc;

use fleet::host::Host;
use fleet::machine::{self, Machine};
use fleet::rack::{self, Occupant};
use fleet::service::{self, Service};
use fleet::vm::{self, Vm};
use fleet::{MachineId, Subject, host};

use super::list::{Found, Noun, Scene, by_state, find};
use super::look::Look;
use super::order::Key;
use super::word::Word;

fn has_hint(scene: Scene<'_>, subject: Subject) -> bool {
    scene.hinted.contains(&subject)
}

impl Noun for Machine {
    const STATES: &'static [&'static str] =
        &["failed", "sighted", "found", "adopted", "installing", "installed", "ready", "erasing", "retired"];

    fn name<'a>(&'a self, _: Scene<'a>) -> &'a str {
        &self.name
    }

    fn id(&self) -> u64 {
        self.id.0
    }

    fn state(&self) -> &'static str {
        self.phase.word()
    }

    fn asks(&self, scene: Scene<'_>) -> bool {
        match self.phase {
            machine::Phase::Failed { .. } => true,
            // That it may be restarted is a hint, and nothing that it waits for.
            machine::Phase::Adopted { .. }
            | machine::Phase::Installing { .. }
            | machine::Phase::Erasing(_) => self.late.is_some(),
            machine::Phase::Retired => false,
            machine::Phase::Sighted
            | machine::Phase::Reported
            | machine::Phase::Installed
            | machine::Phase::Ready => has_hint(scene, Subject::Machine(self.id)),
        }
    }

    fn has(&self, word: &Word, scene: Scene<'_>) -> bool {
        let told = || {
            let hardware = self.hardware.as_ref()?;
            let lines = [&hardware.manufacturer, &hardware.product, &hardware.serial, &hardware.board_serial];
            let disks = hardware.disks.iter().filter_map(|disk| disk.serial.as_ref());
            let mut lines = lines.into_iter().flatten().chain(disks).chain([&hardware.cpu.model]);
            lines.any(|line| word.is_in_any_case(line)).then_some(())
        };
        let place = || rack::place_of(scene.fleet, &Occupant::Machine(self.id));
        let own =
            || scene.fleet.site.as_ref().filter(|_| self.appliance).map(|site| site.address.to_string());
        word.is_in(&self.name)
            || word.is_id('m', self.id.0)
            || self.macs.iter().any(|mac| word.is_of(*mac))
            || told().is_some()
            || own().is_some_and(|address| word.is_in(&address))
            || place().is_some_and(|place| word.is_in(&place.to_string()))
    }

    fn key(&self, column: &str, _: Scene<'_>) -> Key {
        match column {
            "state" => by_state(self, &self.name),
            "since" => Key::number(self.since.0),
            "memory" => Key::number(self.hardware.as_ref().map_or(0, |hardware| hardware.memory_mib)),
            _ => Key::name(&self.name),
        }
    }
}

impl Noun for Host {
    const STATES: &'static [&'static str] = &["open", "draining"];

    fn name<'a>(&'a self, scene: Scene<'a>) -> &'a str {
        scene.fleet.machines.get(&self.machine).map_or("", |machine| &machine.name)
    }

    fn id(&self) -> u64 {
        self.machine.0
    }

    fn state(&self) -> &'static str {
        if self.draining_since.is_some() { "draining" } else { "open" }
    }

    fn asks(&self, scene: Scene<'_>) -> bool {
        has_hint(scene, Subject::Machine(self.machine))
    }

    fn has(&self, word: &Word, scene: Scene<'_>) -> bool {
        let machine = scene.fleet.machines.get(&self.machine);
        word.is_in_any_case(&self.hypervisor) || machine.is_some_and(|machine| machine.has(word, scene))
    }

    fn key(&self, column: &str, scene: Scene<'_>) -> Key {
        match column {
            "memory" => Key::number(host::free_memory_mib(scene.fleet, self)),
            "volumes" => Key::number(host::free_volume_bytes(scene.fleet, self)),
            "vms" => Key::number(scene.fleet.index.usage(self.machine).vms),
            _ => Key::name(self.name(scene)),
        }
    }
}

impl Noun for Vm {
    const STATES: &'static [&'static str] = &["starting", "running", "being removed"];

    fn name<'a>(&'a self, _: Scene<'a>) -> &'a str {
        &self.name
    }

    fn id(&self) -> u64 {
        self.id.0
    }

    fn state(&self) -> &'static str {
        self.phase.word()
    }

    fn asks(&self, scene: Scene<'_>) -> bool {
        has_hint(scene, Subject::Vm(self.id))
    }

    fn has(&self, word: &Word, _: Scene<'_>) -> bool {
        word.is_in(&self.name) || word.is_of(self.mac) || word.is_id('v', self.id.0)
    }

    fn key(&self, column: &str, scene: Scene<'_>) -> Key {
        match column {
            "state" => by_state(self, &self.name),
            "since" => Key::number(self.since.0),
            "memory" => Key::number(self.memory_mib),
            "host" => Key::name(scene.fleet.machines.get(&self.host).map_or("", |machine| &machine.name)),
            _ => Key::name(&self.name),
        }
    }
}

impl Noun for Service {
    const STATES: &'static [&'static str] = &["installing", "answering", "being removed"];

    fn name<'a>(&'a self, _: Scene<'a>) -> &'a str {
        &self.name
    }

    fn id(&self) -> u64 {
        self.id.0
    }

    fn state(&self) -> &'static str {
        self.phase.word()
    }

    fn asks(&self, scene: Scene<'_>) -> bool {
        has_hint(scene, Subject::Service(self.id))
    }

    fn has(&self, word: &Word, _: Scene<'_>) -> bool {
        word.is_in(&self.name) || word.is_in(&self.url()) || word.is_id('s', self.id.0)
    }

    fn key(&self, column: &str, _: Scene<'_>) -> Key {
        match column {
            "state" => by_state(self, &self.name),
            "since" => Key::number(self.since.0),
            _ => Key::name(&self.name),
        }
    }
}

pub fn machines<'a>(scene: Scene<'a>, look: &Look) -> Found<'a, Machine> {
    find(scene, scene.fleet.machines.values().map(Arc::as_ref), look)
}

pub fn hosts<'a>(scene: Scene<'a>, look: &Look) -> Found<'a, Host> {
    find(scene, scene.fleet.hosts.values().map(Arc::as_ref), look)
}

pub fn vms<'a>(scene: Scene<'a>, look: &Look) -> Found<'a, Vm> {
    match look.on.parse::<MachineId>() {
        Ok(host) => find(scene, vm::on_host(scene.fleet, host), look),
        Err(_) => find(scene, scene.fleet.vms.values().map(Arc::as_ref), look),
    }
}

pub fn services<'a>(scene: Scene<'a>, look: &Look) -> Found<'a, Service> {
    find(scene, scene.fleet.services.values().map(Arc::as_ref), look)
}

/// What a row is not shown for: services that a VM carries keep it.
pub fn is_free(scene: Scene<'_>, vm: &Vm) -> bool {
    service::of_vm(scene.fleet, vm.id).next().is_none()
}
