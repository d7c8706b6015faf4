//! What must never be, looked at whenever it could come to be; and what must be at rest.

use std::net::Ipv4Addr;

use fleet::wire::VmSpec;
use fleet::{
    Command, Ctx, Event, Fleet, Forecast, Plan, Refusal, Restore, Subject, document, machine, service,
    state_hash, vm,
};
use hypervisor::Hypervisor as _;

use super::World;
use super::computer::{Content, State};
use super::speech::Speaker;

/// Every state that ends in "-ing" has a limit of at most so many seconds, after which a line says what it waits for.
const LONGEST_LIMIT: u64 = 900;
/// Nothing has been appended for so long: the world is at rest.
const REST: u64 = 60_000;

impl World {
    /// `speaker` has just come to use `address`.
    pub fn check_addresses(&mut self, speaker: Speaker, address: Ipv4Addr) {
        let mut others = Vec::new();
        for (id, computer) in self.computers.iter().enumerate() {
            if computer.address == Some(address) && (speaker.guest.is_some() || speaker.computer != id) {
                others.push(computer.name.clone());
            }
            for guest in computer.guests.values().filter(|guest| guest.running) {
                let itself = speaker.computer == id && speaker.guest == Some(guest.vm);
                if guest.address == Some(address) && !itself {
                    others.push(format!("{} on {}", guest.vm, computer.name));
                }
            }
        }
        if let Some(other) = others.first() {
            self.wrong(format!("{address} is used twice: also by {other}"));
        }
    }

    /// The disk of this computer is about to be wiped.
    pub fn check_wiping(&mut self, id: usize) {
        let computer = &self.computers[id];
        let name = computer.name.clone();
        match &computer.content {
            Content::Data { what, .. } if !computer.may_be_wiped => {
                self.wrong(format!("{what} on {name} is wiped, and nobody has said that it may be"));
            }
            Content::System { .. } if !computer.may_be_wiped => {
                let fleet = self.log.replay();
                let attempts = machine::by_mac(&fleet, computer.mac).map_or(0, |machine| machine.attempts);
                if attempts < 2 {
                    self.wrong(format!("the installed system on {name} is wiped"));
                }
            }
            Content::Blank | Content::Begun | Content::Data { .. } | Content::System { .. } => {}
        }
    }

    /// A domain has just been started.
    pub fn check_domains(&mut self, spec: &VmSpec) {
        let running: Vec<String> = self
            .computers
            .iter()
            .filter(|computer| !matches!(computer.state, State::Off))
            .filter(|computer| {
                let domains = computer.hypervisor.vms().unwrap_or_default();
                domains.iter().any(|domain| domain.running && domain.uuid == spec.uuid)
            })
            .map(|computer| computer.name.clone())
            .collect();
        if running.len() > 1 {
            self.wrong(format!("{} runs on {}", spec.name, running.join(" and on ")));
        }
        if !self.daemons.iter().any(|daemon| daemon.fleet.vms.contains_key(&spec.id)) {
            self.wrong(format!("{} is started, and the log says that it is gone", spec.name));
        }
    }

    pub fn check_events(&mut self, command: &Command, events: &[Event]) {
        for event in events {
            match event {
                Event::Machine(machine::Event::Installed { machine, .. }) => {
                    self.installed.insert(*machine);
                }
                Event::Machine(
                    machine::Event::Removed { machine, .. }
                    | machine::Event::Adopted { machine, by: machine::By::Person, .. }
                    | machine::Event::Reimaging { machine, .. },
                ) => {
                    self.installed.remove(machine);
                }
                Event::Machine(machine::Event::InstallStarted { machine, .. })
                    if self.installed.contains(machine) =>
                {
                    self.wrong(format!("{machine} is installed and is being installed again"));
                }
                Event::Vm(vm::Event::Gone { vm }) => self.check_gone(*vm),
                _ => {}
            }
        }
        if let Command::Adopt { machine, wipe: true, .. }
        | Command::Reimage { machine, .. }
        | Command::EraseMachine { machine, .. } = command
        {
            self.allow_wiping(*machine);
        }
    }

    /// What the log calls gone runs nowhere: its address is given to others from now on.
    fn check_gone(&mut self, vm: fleet::VmId) {
        let running = self.computers.iter().find(|computer| {
            let domains = computer.hypervisor.vms().unwrap_or_default();
            domains.iter().any(|domain| domain.running && domain.id == vm)
        });
        if let Some(computer) = running {
            self.wrong(format!("{vm} is gone for the log, and runs on {}", computer.name));
        }
    }

    /// What was shown is what was done.
    pub fn check_rehearsal(&mut self, shown: &Forecast, done: &Result<Vec<Event>, Refusal>) {
        let same = match done {
            Ok(events) => shown.digest == Some(fleet::digest(events)),
            Err(refusal) => shown.refusal() == Some((0, refusal.to_string().as_str())),
        };
        if !same {
            self.wrong(format!("the plan showed {:?}, and what was done is {done:?}", shown.steps));
        }
    }

    /// A person has looked at what this machine reported and said that its disk may be wiped. The disk is known by its
    /// serial number, so another one with the same is meant as well.
    fn allow_wiping(&mut self, machine: fleet::MachineId) {
        let fleet = self.log.replay();
        let Some(machine) = fleet.machines.get(&machine) else { return };
        for computer in &mut self.computers {
            let disks = machine.hardware.iter().flat_map(|hardware| &hardware.disks);
            if disks.clone().any(|disk| disk.serial.as_ref() == Some(&computer.serial)) {
                computer.may_be_wiped = true;
            }
        }
    }

    /// After each look: what has been on its way for longer than it may says what it waits for.
    pub fn check_waiting(&mut self, id: usize) {
        let daemon = &self.daemons[id];
        let now = self.clock.now();
        if daemon.plan != fleet::plan(&daemon.fleet, &daemon.observed, now) {
            return self.wrong("the plan that was kept up to date is another one than a new one would be");
        }
        let silent = on_its_way(&daemon.fleet)
            .into_iter()
            .filter(|(_, _, since)| now.secs_since(*since) > LONGEST_LIMIT)
            .find(|(subject, ..)| !waits(&daemon.plan, *subject));
        if let Some((subject, phase, since)) = silent {
            let secs = now.secs_since(since);
            self.wrong(format!("{subject:?} is {phase} for {secs} s, and no line says what it waits for"));
        }
    }

    /// The log replayed from its text is what every appliance has in memory.
    pub fn check_replay(&mut self) -> Result<(), String> {
        for id in 0..self.daemons.len() {
            self.notice(id);
        }
        let replayed = self.log.replay();
        for (id, daemon) in self.daemons.iter().enumerate().filter(|(_, daemon)| daemon.up) {
            if daemon.fleet != replayed {
                return Err(format!("appliance {id} has another state in memory than the log replays to"));
            }
        }
        let mut parts = Restore::default();
        for part in fleet::parts(&replayed) {
            parts.part(&part).map_err(|bad| bad.to_string())?;
        }
        let restored = parts.finish().map_err(|bad| bad.to_string())?;
        if restored != replayed || state_hash(&restored) != state_hash(&self.daemons[0].fleet) {
            return Err("a snapshot is read as another state than it was made of".to_owned());
        }
        let hole = self.log.rows().iter().enumerate().find(|(place, row)| row.position != place + 1);
        match hole {
            Some((place, row)) => Err(format!("row {} has the position {}", place + 1, row.position)),
            None => Ok(()),
        }
    }

    /// The shorter list of commands makes the same fleet, and is shorter.
    pub fn check_compaction(&self) -> Result<(), String> {
        let live = &self.daemons[0].fleet;
        let short = fleet::compact(live);
        if short.len() > self.log.last() {
            return Err(format!("{} commands for {} events", short.len(), self.log.last()));
        }
        let mut again = Fleet::default();
        let ctx = Ctx { now: self.clock.now() };
        for command in &short {
            let events = fleet::decide(&again, command, ctx).map_err(|refusal| refusal.to_string())?;
            events.iter().for_each(|event| fleet::evolve(&mut again, event));
        }
        let same = again == *live && state_hash(&again) == state_hash(live);
        same.then_some(()).ok_or_else(|| "the short list makes another fleet".to_owned())
    }

    /// What the site is, written down and applied to it, changes nothing.
    pub fn check_document(&self) -> Result<(), String> {
        let live = &self.daemons[0].fleet;
        let ctx = Ctx { now: self.clock.now() };
        let derived = document::derive(live, &document::export(live), Some(&super::eli::image()), ctx);
        match derived.commands.first() {
            Some(command) => Err(format!("applying its own document would give {command:?}")),
            None => Ok(()),
        }
    }

    /// Nothing is planned and nothing has been recorded for a while.
    pub fn is_quiet(&self) -> Result<(), String> {
        let since = self.clock.elapsed() - self.last_event;
        if since < REST {
            let last = self.timeline.iter().rev().find(|line| line.subject != "world");
            let last = last.map_or_else(String::new, |line| format!("{}: {}", line.subject, line.text));
            return Err(format!("{} ms ago: {last}", since));
        }
        let planned = self.daemons.iter().filter(|daemon| daemon.up).flat_map(|daemon| daemon.plan.actions());
        match planned.into_iter().next() {
            Some(action) => Err(format!("still planned: {action:?}")),
            None => Ok(()),
        }
    }

    /// At rest, and nothing is on its way any more.
    pub fn is_settled(&self) -> Result<(), String> {
        self.is_quiet()?;
        match on_its_way(&self.daemons[0].fleet).first() {
            Some((subject, phase, _)) => Err(format!("{subject:?} is still {phase}")),
            None => Ok(()),
        }
    }
}

/// What should pass by itself, and since when.
fn on_its_way(fleet: &Fleet) -> Vec<(Subject, &'static str, fleet::Timestamp)> {
    let machines = fleet.machines.values().filter_map(|machine| match machine.phase {
        machine::Phase::Adopted { .. }
        | machine::Phase::Installing { .. }
        | machine::Phase::Erasing(_)
        | machine::Phase::Installed => {
            Some((Subject::Machine(machine.id), machine.phase.word(), machine.since))
        }
        machine::Phase::Sighted
        | machine::Phase::Reported
        | machine::Phase::Ready
        | machine::Phase::Failed { .. }
        | machine::Phase::Retired => None,
    });
    let vms = fleet.vms.values().filter_map(|vm| match vm.phase {
        vm::Phase::Wanted | vm::Phase::Removing => Some((Subject::Vm(vm.id), vm.phase.word(), vm.since)),
        vm::Phase::Running => None,
    });
    let services = fleet.services.values().filter_map(|service| match service.phase {
        service::Phase::Installing | service::Phase::Removing => {
            Some((Subject::Service(service.id), service.phase.word(), service.since))
        }
        service::Phase::Answering => None,
    });
    machines.chain(vms).chain(services).collect()
}

fn waits(plan: &Plan, subject: Subject) -> bool {
    !plan.waiting_of(subject).is_empty()
}
