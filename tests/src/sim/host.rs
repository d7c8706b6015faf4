//! A simulated host agent: the real plan of a node, carried out on a hypervisor in memory that takes its time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use fleet::VmId;
use fleet::wire::{Capacity, Neighbour, Observed, ObservedVm, VmState};
use hypervisor::plan::{Here, Step, plan_node};
use hypervisor::{Hypervisor as _, seed_name};
use node::alone::Lonely;
use node::member::Word;

use super::World;
use super::computer::{ANSWER, Computer, Content, State};
use super::guest::Guest;
use super::member::{HEARTBEAT, Member};
use super::speech::{Alarm, Question};

/// libvirt takes a while to answer its first question.
const FIRST_CAPACITY: u64 = 3_000;

pub struct Host {
    pub member: Member,
    word: Word<VmId, VmState>,
    /// The pass that is under way: the revision it carries out, and the steps that are left.
    pass: Option<Pass>,
    next_settle: u64,
    lonely: Lonely,
    started: u64,
    passes: u64,
}

struct Pass {
    number: u64,
    revision: u64,
    gone: Vec<VmId>,
    steps: VecDeque<Step>,
    failed: BTreeSet<VmId>,
}

impl Host {
    pub fn observed(&self, computer: &Computer, elapsed: u64, nothing: Observed) -> Observed {
        let (revision, vms) = self.word.read();
        let capacity = (elapsed - self.started >= FIRST_CAPACITY).then(|| Capacity {
            hypervisor: "simulated".to_owned(),
            domain_type: "kvm".to_owned(),
            threads: 4,
            memory_mib: computer.memory_mib,
            volume_bytes: 80 << 30,
            volume_free_bytes: 60 << 30,
        });
        let vms = vms.into_iter().map(|(id, state)| ObservedVm { id, state }).collect();
        let neighbours = computer.cable.iter().map(|(system, port)| Neighbour {
            mac: computer.mac,
            chassis: format!("chassis-{system}"),
            port: port.clone(),
            system: Some(system.clone()),
        });
        Observed { revision, capacity, vms, neighbours: neighbours.collect(), ..nothing }
    }
}

impl World {
    pub fn start_host(&mut self, id: usize) {
        let Content::System { key, certificate } = self.computers[id].content.clone() else { return };
        let now = self.clock.elapsed();
        let host = Host {
            member: Member::new(key, None, certificate),
            word: Word::new().0,
            pass: None,
            next_settle: 0,
            lonely: Lonely::default(),
            started: now,
            passes: 0,
        };
        self.computers[id].state = State::Host(Box::new(host));
        let speaker = self.speaker(id);
        self.member_starts(speaker);
        self.alarm(speaker, FIRST_CAPACITY, Alarm::Tell);
    }

    pub fn host_alarm(&mut self, id: usize, alarm: Alarm) {
        match alarm {
            Alarm::Settle => self.settle_host(id),
            Alarm::StepDone(pass) => self.step_done(id, pass),
            other => self.member_alarm(self.speaker(id), other),
        }
    }

    /// Begins a pass, if none is under way: looks at everything, and takes the first step.
    fn settle_host(&mut self, id: usize) {
        let now = self.clock.elapsed();
        let speaker = self.speaker(id);
        let computer = &mut self.computers[id];
        if let State::Host(host) = &computer.state
            && let Some(number) = host.member.desired.as_ref().and_then(|desired| desired.restart)
            && computer.restarted.replace(number) != Some(number)
        {
            self.say(format!("{} restarts as it was told", self.computers[id].name));
            return self.restart(id, 0);
        }
        if self.is_alone_too_long(id) {
            self.say(format!("{} is cut off and restarts", self.computers[id].name));
            return self.restart(id, 0);
        }
        let computer = &mut self.computers[id];
        let here = look(computer);
        let State::Host(host) = &mut computer.state else { return };
        if host.next_settle <= now {
            host.next_settle = now + HEARTBEAT;
            self.alarm(speaker, HEARTBEAT, Alarm::Settle);
            self.tell(speaker);
            self.check_disks(id);
        }
        let State::Host(host) = &mut self.computers[id].state else { return };
        let Some(desired) = &host.member.desired else { return };
        // A download is left for what is wanted now; any other step is ended first.
        if let Some(pass) = &host.pass
            && (pass.revision == desired.revision || !matches!(pass.steps.front(), Some(Step::FetchImage(_))))
        {
            return;
        }
        host.passes += 1;
        let steps = plan_node(&desired.vms, &here).into();
        host.pass = Some(Pass {
            number: host.passes,
            revision: desired.revision,
            gone: desired.gone.clone(),
            steps,
            failed: BTreeSet::new(),
        });
        self.next_step(id);
    }

    /// Says it again until it is heard.
    fn check_disks(&mut self, id: usize) {
        let computer = &self.computers[id];
        let State::Host(host) = &computer.state else { return };
        let Some(number) = host.member.desired.as_ref().and_then(|desired| desired.check) else { return };
        let question = Question::Checked { key: host.member.key.clone(), checked: computer.checked(number) };
        self.ask(self.speaker(id), question, ANSWER);
    }

    fn is_alone_too_long(&mut self, id: usize) -> bool {
        let now = Duration::from_millis(self.clock.elapsed());
        let State::Host(host) = &self.computers[id].state else { return false };
        let alone = host.member.desired.as_ref().and_then(|desired| desired.alone.as_ref());
        let (reached, after_secs) = match alone {
            Some(alone) => (self.reaches_anybody(id, &alone.neighbours), alone.after_secs),
            None => (true, 0),
        };
        let State::Host(host) = &mut self.computers[id].state else { return false };
        host.lonely.look(reached, after_secs, now)
    }

    fn reaches_anybody(&self, id: usize, neighbours: &[Ipv4Addr]) -> bool {
        let answers = |(other, computer): (usize, &Computer)| {
            matches!(computer.state, State::Host(_))
                && !computer.frozen
                && !self.network.blocked.contains(&other)
                && computer.address.is_some_and(|address| neighbours.contains(&address))
        };
        !self.network.blocked.contains(&id)
            && (self.daemons.iter().any(|daemon| daemon.up) || self.computers.iter().enumerate().any(answers))
    }

    /// Says what is being done; `step_done` does it when its time has passed.
    fn next_step(&mut self, id: usize) {
        let speaker = self.speaker(id);
        let computer = &mut self.computers[id];
        let State::Host(host) = &mut computer.state else { return };
        let (Some(pass), Some(desired)) = (&mut host.pass, &host.member.desired) else { return };
        let concerned = |pass: &Pass, step: &Step| -> Vec<VmId> {
            step.concerns(&desired.vms).into_iter().filter(|vm| !pass.failed.contains(vm)).collect()
        };
        while pass.steps.front().is_some_and(|step| concerned(pass, step).is_empty()) {
            pass.steps.pop_front();
        }
        let Some(step) = pass.steps.front() else { return self.settled(id) };
        let (millis, what) = match step {
            Step::Remove(_) => (500, None),
            Step::FetchImage(_) => (10_000, Some("downloading the image")),
            Step::MakeVolume(_) => (4_000, Some("copying the image")),
            Step::MakeSeed(_) => (300, Some("writing its first data")),
            Step::Run(_) => (1_000, Some("starting")),
        };
        if let Some(what) = what {
            for vm in concerned(pass, step) {
                host.word.say(vm, VmState::Creating { step: what.to_owned() });
            }
        }
        let done = Alarm::StepDone(pass.number);
        self.tell(speaker);
        self.alarm(speaker, millis, done);
    }

    fn step_done(&mut self, id: usize, number: u64) {
        let computer = &mut self.computers[id];
        let State::Host(host) = &mut computer.state else { return };
        let (Some(pass), Some(desired)) = (&mut host.pass, &host.member.desired) else { return };
        if pass.number != number {
            return;
        }
        let Some(step) = pass.steps.pop_front() else { return };
        let hypervisor = &computer.hypervisor;
        let done = match &step {
            Step::Remove(vm) => hypervisor.remove_vm(vm).map(|_| ()),
            Step::FetchImage(image) => {
                computer.images.insert(image.sha256.clone());
                Ok(())
            }
            Step::MakeVolume(vm) => hypervisor.ensure_volume(&vm.volume, Path::new("")).map(|_| ()),
            Step::MakeSeed(vm) => hypervisor.ensure_seed(&seed_name(vm), Path::new("")).map(|_| ()),
            Step::Run(vm) => hypervisor.ensure_vm(vm).map(|_| ()),
        };
        let has_failed = done.is_err();
        if let Err(error) = &done {
            for vm in step.concerns(&desired.vms) {
                host.word.say(vm, VmState::Failing { reason: error.to_string() });
                pass.failed.insert(vm);
            }
        }
        match step {
            Step::Remove(vm) if done.is_ok() => {
                computer.guests.remove(&vm.id);
            }
            Step::Run(spec) if done.is_ok() => {
                let new = !computer.guests.contains_key(&spec.id);
                if new {
                    computer.guests.insert(spec.id, Guest::new(&spec));
                }
                self.check_domains(&spec);
                self.start_guest(id, spec.id);
            }
            _ => {}
        }
        if has_failed {
            self.tell(self.speaker(id));
        }
        self.next_step(id);
    }

    /// The end of a pass: what is seen counts, except where a step failed.
    fn settled(&mut self, id: usize) {
        let computer = &mut self.computers[id];
        let here = look(computer);
        let State::Host(host) = &mut computer.state else { return };
        let Some(pass) = host.pass.take() else { return };
        let gone = pass.gone.iter().map(|vm| (*vm, VmState::Gone));
        let there =
            here.vms.iter().map(|vm| (vm.id, if vm.running { VmState::Running } else { VmState::Stopped }));
        let states: BTreeMap<VmId, VmState> = gone.chain(there).collect();
        let before = host.word.read();
        host.word.settle(pass.revision, states, &pass.failed);
        let news = host.word.read() != before;
        let behind = host.member.desired.as_ref().is_some_and(|now| now.revision != pass.revision);
        let speaker = self.speaker(id);
        if news {
            self.tell(speaker);
        }
        if behind {
            self.alarm(speaker, 0, Alarm::Settle);
        }
    }
}

fn look(computer: &Computer) -> Here {
    Here {
        vms: computer.hypervisor.vms().unwrap_or_default(),
        volumes: computer.hypervisor.volumes().unwrap_or_default(),
        images: computer.images.clone(),
    }
}
