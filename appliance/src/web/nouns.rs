//! What lists know of each noun: its state, what it is found by, what it is sorted by.

use std::sync::Arc;

use fleet::host::Host;
use fleet::machine::{self, Machine};
use fleet::rack::{self, Occupant};
use fleet::service::{self, Service};
use fleet::vm::{self, Vm};
use fleet::wire::Hardware;
use fleet::{MachineId, host};

use super::list::{Found, Noun, Scene, by_state, find};
use super::look::Look;
use super::order::Key;
use super::walk;
use super::word::Word;
use crate::api::images::{Image, Kind};
use crate::api::volumes;

/// What firmware and disks say of themselves.
fn told(hardware: &Hardware) -> impl Iterator<Item = &str> {
    let lines = [&hardware.manufacturer, &hardware.product, &hardware.serial, &hardware.board_serial];
    let disks = hardware.disks.iter().filter_map(|disk| disk.serial.as_ref());
    lines.into_iter().flatten().chain(disks).chain([&hardware.cpu.model]).map(String::as_str)
}

impl Noun for &Machine {
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
            | machine::Phase::Ready => scene.hinted.machines.contains(&self.id),
        }
    }

    fn has(&self, word: &Word, scene: Scene<'_>) -> bool {
        let told = || told(self.hardware.as_ref()?).any(|line| word.is_in_any_case(line)).then_some(());
        let installed = || {
            let system = self.system.as_ref()?;
            let medium = system.medium.as_deref().unwrap_or_default();
            (word.is_in(&system.profile) || word.is_in(medium)).then_some(())
        };
        let place = || rack::place_of(scene.fleet, &Occupant::Machine(self.id));
        let own =
            || scene.fleet.site.as_ref().filter(|_| self.appliance).map(|site| site.address.to_string());
        word.is_in(&self.name)
            || word.is_id('m', self.id.0)
            || self.macs.iter().any(|mac| word.is_of(*mac))
            || told().is_some()
            || installed().is_some()
            || own().is_some_and(|address| word.is_in(&address))
            || place().is_some_and(|place| word.is_in(&place.to_string()))
    }

    fn key(&self, column: &str, _: Scene<'_>) -> Key {
        match column {
            "state" => by_state(self, &self.name),
            "since" => Key::number(self.since.0, &self.name),
            "memory" => {
                Key::number(self.hardware.as_ref().map_or(0, |hardware| hardware.memory_mib), &self.name)
            }
            _ => Key::name(&self.name),
        }
    }

    fn touch(&self, searched: bool) -> u64 {
        let own = self.since.0 ^ walk::first(&self.name);
        match self.hardware.as_ref().filter(|_| searched) {
            Some(hardware) => told(hardware).fold(own, |sum, line| sum.wrapping_add(walk::first(line))),
            None => own,
        }
    }
}

impl Noun for &Host {
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
        scene.hinted.machines.contains(&self.machine)
    }

    fn has(&self, word: &Word, scene: Scene<'_>) -> bool {
        let machine = scene.fleet.machines.get(&self.machine);
        word.is_in_any_case(&self.hypervisor)
            || machine.is_some_and(|machine| machine.as_ref().has(word, scene))
    }

    fn key(&self, column: &str, scene: Scene<'_>) -> Key {
        let name = self.name(scene);
        match column {
            "memory" => Key::number(host::free_memory_mib(scene.fleet, self), name),
            "volumes" => Key::number(host::free_volume_bytes(scene.fleet, self), name),
            "vms" => Key::number(scene.fleet.index.usage(self.machine).vms, name),
            _ => Key::name(name),
        }
    }

    fn touch(&self, _: bool) -> u64 {
        self.machine.0 ^ self.memory_mib
    }
}

impl Noun for &Vm {
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
        scene.hinted.vms.contains(&self.id)
    }

    fn has(&self, word: &Word, _: Scene<'_>) -> bool {
        word.is_in(&self.name) || word.is_of(self.mac) || word.is_id('v', self.id.0)
    }

    fn key(&self, column: &str, scene: Scene<'_>) -> Key {
        match column {
            "state" => by_state(self, &self.name),
            "since" => Key::number(self.since.0, &self.name),
            "memory" => Key::number(self.memory_mib, &self.name),
            "host" => Key::name(scene.fleet.machines.get(&self.host).map_or("", |machine| &machine.name)),
            _ => Key::name(&self.name),
        }
    }

    fn touch(&self, _: bool) -> u64 {
        self.id.0 ^ self.since.0 ^ u64::from(self.mac.0[5]) ^ walk::first(&self.name)
    }
}

impl Noun for &Service {
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
        scene.hinted.services.contains(&self.id)
    }

    fn has(&self, word: &Word, _: Scene<'_>) -> bool {
        word.is_in(&self.name) || word.is_in(&self.url()) || word.is_id('s', self.id.0)
    }

    fn key(&self, column: &str, _: Scene<'_>) -> Key {
        match column {
            "state" => by_state(self, &self.name),
            "since" => Key::number(self.since.0, &self.name),
            _ => Key::name(&self.name),
        }
    }

    fn touch(&self, _: bool) -> u64 {
        self.id.0 ^ walk::first(&self.name)
    }
}

/// The disk of a VM.
#[derive(Clone, Copy)]
pub struct Volume<'a>(pub &'a Vm);

impl Noun for Volume<'_> {
    const STATES: &'static [&'static str] = &["being made", "in use", "being deleted"];

    fn name<'a>(&'a self, _: Scene<'a>) -> &'a str {
        &self.0.name
    }

    fn id(&self) -> u64 {
        self.0.id.0
    }

    fn state(&self) -> &'static str {
        volumes::word(self.0.phase)
    }

    /// What is to be done about a VM stands at the VM.
    fn asks(&self, _: Scene<'_>) -> bool {
        false
    }

    fn has(&self, word: &Word, _: Scene<'_>) -> bool {
        let Volume(vm) = self;
        let whole = || {
            let (name, id) = word.text.rsplit_once("-v")?;
            (vm.name.ends_with(name) && id.parse() == Ok(vm.id.0)).then_some(())
        };
        word.is_in(&vm.name)
            || word.is_id('v', vm.id.0)
            || vm.image.sha256.starts_with(&word.text)
            || whole().is_some()
    }

    fn key(&self, column: &str, scene: Scene<'_>) -> Key {
        let Volume(vm) = self;
        match column {
            "state" => by_state(self, &vm.name),
            "since" => Key::number(vm.since.0, &vm.name),
            "size" => Key::number(vm.disk_gib, &vm.name),
            "host" => vm.key("host", scene),
            _ => Key::name(&vm.name),
        }
    }

    fn touch(&self, searched: bool) -> u64 {
        self.0.touch(searched)
    }
}

impl Noun for &Image {
    const STATES: &'static [&'static str] = &[Kind::Guest.word(), Kind::System.word(), Kind::Medium.word()];

    fn name<'a>(&'a self, _: Scene<'a>) -> &'a str {
        &self.name
    }

    fn id(&self) -> u64 {
        let begin: String = self.sha256.chars().take(16).collect();
        u64::from_str_radix(&begin, 16).unwrap_or_default()
    }

    fn state(&self) -> &'static str {
        self.kind.word()
    }

    fn asks(&self, _: Scene<'_>) -> bool {
        false
    }

    fn has(&self, word: &Word, _: Scene<'_>) -> bool {
        let version = self.version.as_deref().unwrap_or_default();
        [&self.name, &self.title, version].into_iter().any(|text| word.is_in_any_case(text))
            || self.sha256.starts_with(&word.text)
    }

    fn key(&self, column: &str, _: Scene<'_>) -> Key {
        match column {
            "state" => by_state(self, &self.name),
            "size" => Key::number(self.bytes, &self.name),
            "uses" => Key::number(self.vms + self.machines, &self.name),
            _ => Key::name(&self.name),
        }
    }

    fn touch(&self, _: bool) -> u64 {
        self.bytes
    }
}

pub fn machines<'a>(scene: Scene<'a>, look: &Look) -> Found<&'a Machine> {
    find(scene, scene.fleet.machines.values().map(Arc::as_ref), look)
}

pub fn hosts<'a>(scene: Scene<'a>, look: &Look) -> Found<&'a Host> {
    find(scene, scene.fleet.hosts.values().map(Arc::as_ref), look)
}

pub fn vms<'a>(scene: Scene<'a>, look: &Look) -> Found<&'a Vm> {
    match look.on.parse::<MachineId>() {
        Ok(host) => find(scene, vm::on_host(scene.fleet, host), look),
        Err(_) => find(scene, scene.fleet.vms.values().map(Arc::as_ref), look),
    }
}

pub fn volumes<'a>(scene: Scene<'a>, look: &Look) -> Found<Volume<'a>> {
    match look.on.parse::<MachineId>() {
        Ok(host) => find(scene, vm::on_host(scene.fleet, host).map(Volume), look),
        Err(_) => find(scene, scene.fleet.vms.values().map(|vm| Volume(vm)), look),
    }
}

pub fn services<'a>(scene: Scene<'a>, look: &Look) -> Found<&'a Service> {
    find(scene, scene.fleet.services.values().map(Arc::as_ref), look)
}

/// What a row is not shown for: services that a VM carries keep it.
pub fn is_free(scene: Scene<'_>, vm: &Vm) -> bool {
    service::of_vm(scene.fleet, vm.id).next().is_none()
}
