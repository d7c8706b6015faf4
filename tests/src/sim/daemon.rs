//! A simulated appliance: the fleet in memory, the shared log, and what its handlers do around the pure functions.

use std::collections::BTreeSet;
use std::sync::Arc;

use appliance::dhcp;
use appliance::node_api::desired::{Sources, desired};
use appliance::node_api::machine::instruction;
use fleet::machine::{self, Phase};
use fleet::wire::{Checked, Desired, Erased, Hardware, Instruction, ReportReply};
use fleet::{
    Command, Ctx, Event, Fleet, MachineId, NodeId, Observed, ObservedNode, Plan, Planner, Refusal, Timestamp,
};
use pxe::dhcp::{Answer as DhcpAnswer, Kind, Mode, Need, ServerFacts, answer, need, parse};
use pxe::script::{self, ScriptFacts};

use rand::Rng as _;

use super::bmc::Attempt;
use super::log::Log;
use super::speech::{Answer, Loader, Question, Speaker};
use super::{Happening, World};

/// The reconciler looks so soon after a change, and so often without one (appliance/src/reconcile.rs).
const SETTLE: u64 = 50;
const EVERY: u64 = 10_000;
/// Reports are held for so long, long polls for so long (appliance/src/node_api, hypervisor/node/src/client.rs).
const HOLD: u64 = 10_000;
const LONG_POLL: u64 = 25_000;
/// How long an appliance is away when it is restarted.
const RESTART: u64 = 3_000;

pub const CA: &str = "abababababababababababababababababababababababababababababababab";

pub struct Daemon {
    pub up: bool,
    pub life: u32,
    pub fleet: Fleet,
    pub position: usize,
    pub observed: Observed,
    /// What the reconciler found last.
    pub plan: Plan,
    planner: Planner,
    /// When all that is still planned is given again.
    again: u64,
    look_due: Option<u64>,
    held: Vec<Held>,
    held_due: bool,
    seen: dhcp::Seen,
    /// What is under way through BMCs.
    pub attempts: BTreeSet<Attempt>,
    started: Timestamp,
}

struct Held {
    speaker: Speaker,
    ask: u64,
    until: u64,
    what: Holding,
}

enum Holding {
    Report(MachineId),
    Desired { key: String, node: NodeId, known: Option<u64> },
}

impl Daemon {
    /// Replays the log. What nodes said last is kept beside the log.
    pub fn start(log: &Log, observed: Observed, life: u32, now: Timestamp) -> Daemon {
        Daemon {
            up: true,
            life,
            fleet: log.replay(),
            position: log.last(),
            observed,
            plan: Plan::default(),
            planner: Planner::default(),
            again: 0,
            look_due: None,
            held: Vec::new(),
            held_due: false,
            seen: dhcp::Seen::since(now),
            attempts: BTreeSet::new(),
            started: now,
        }
    }

    pub fn catch_up(&mut self, log: &Log) {
        for event in log.after(self.position) {
            fleet::evolve(&mut self.fleet, &event);
        }
        self.position = log.last();
    }
}

impl World {
    /// Decides at this appliance and appends; with somebody else's rows in between, catches up and decides again.
    pub fn execute(&mut self, id: usize, actor: &str, command: &Command) -> Result<Vec<Event>, Refusal> {
        let ctx = Ctx { now: self.clock.now() };
        loop {
            let daemon = &mut self.daemons[id];
            let decided = fleet::decide(&daemon.fleet, command, ctx);
            // Another appliance may have made right a moment ago what is refused here.
            if decided.is_err() && daemon.position < self.log.last() {
                daemon.catch_up(&self.log);
                self.changed(id);
                continue;
            }
            let events = decided?;
            if events.is_empty() {
                return Ok(events);
            }
            if self.log.append(daemon.position, ctx.now, actor, &events).is_err() {
                daemon.catch_up(&self.log);
                self.changed(id);
                continue;
            }
            for event in &events {
                fleet::evolve(&mut daemon.fleet, event);
            }
            daemon.position = self.log.last();
            self.changed(id);
            for other in (0..self.daemons.len()).filter(|other| *other != id) {
                let delay = self.chance.random_range(5..50);
                self.clock.after(delay, Happening::Notice(other));
            }
            self.recorded(actor, command, &events);
            return Ok(events);
        }
    }

    pub fn notice(&mut self, id: usize) {
        let daemon = &mut self.daemons[id];
        if daemon.up && daemon.position < self.log.last() {
            daemon.catch_up(&self.log);
            self.changed(id);
        }
    }

    /// The fleet or what was observed is another one now.
    fn changed(&mut self, id: usize) {
        self.look_within(id, SETTLE);
        let daemon = &mut self.daemons[id];
        if !daemon.held.is_empty() && !daemon.held_due {
            daemon.held_due = true;
            let life = daemon.life;
            self.clock.after(1, Happening::Held { daemon: id, life });
        }
    }

    pub fn look_within(&mut self, id: usize, millis: u64) {
        let due = self.clock.elapsed() + millis;
        let daemon = &mut self.daemons[id];
        if daemon.up && daemon.look_due.is_none_or(|already| already > due) {
            daemon.look_due = Some(due);
            let life = daemon.life;
            self.clock.after(millis, Happening::Look { daemon: id, life });
        }
    }

    /// One look of the reconciler: what is planned is given as commands.
    pub fn look(&mut self, id: usize, life: u32) {
        let now = self.clock.elapsed();
        let daemon = &mut self.daemons[id];
        if !daemon.up || daemon.life != life || daemon.look_due != Some(now) {
            return;
        }
        daemon.look_due = None;
        let mut commands = daemon.planner.look(&daemon.fleet, &daemon.observed, self.clock.now());
        daemon.plan = daemon.planner.plan().clone();
        if now >= daemon.again {
            daemon.again = now + EVERY;
            commands = daemon.planner.actions().cloned().collect();
        }
        let due = daemon.planner.next_due().map(|due| due.0.saturating_sub(self.clock.now().0));
        self.check_waiting(id);
        let up_secs = self.clock.now().secs_since(self.daemons[id].started);
        for command in commands.into_iter().filter(|command| !fleet::is_early(command, up_secs)) {
            // Refused when the fleet has moved on since; the next look sees it as it is.
            let _ = self.execute(id, "appliance", &command);
        }
        self.switch_power(id);
        self.look_within(id, due.unwrap_or(EVERY).clamp(SETTLE, EVERY));
    }

    pub fn stop_daemon(&mut self, id: usize) {
        self.daemons[id].up = false;
        self.daemons[id].held.clear();
        self.say(format!("the appliance {id} stops"));
    }

    pub fn restart_daemon(&mut self, id: usize) {
        self.stop_daemon(id);
        self.clock.after(RESTART, Happening::DaemonStarts(id));
    }

    pub fn start_daemon(&mut self, id: usize) {
        let before = &self.daemons[id];
        let after = Daemon::start(&self.log, before.observed.clone(), before.life + 1, self.clock.now());
        self.daemons[id] = after;
        self.say(format!("the appliance {id} has replayed {} events", self.log.last()));
        self.look_within(id, SETTLE);
    }

    /// Answers a question, or holds it.
    pub fn hear(&mut self, id: usize, speaker: Speaker, ask: u64, question: Question) {
        if !self.daemons[id].up {
            return;
        }
        let answer = match question {
            Question::Dhcp(packet) => match self.lease(id, &packet) {
                Some(reply) => Answer::Dhcp(reply),
                None => return,
            },
            Question::Script { mac, loader } => {
                let boot = dhcp::boot(&self.daemons[id].fleet, &self.tokens, pxe::MacAddr(mac.0));
                let facts = ScriptFacts {
                    address: self.address(),
                    host: self.address().into(),
                    ca: CA.parse().expect("64 hexadecimal digits"),
                    by_ipxe: false,
                    image: None,
                };
                let text = match loader {
                    Loader::Ipxe => script::ipxe(&facts, pxe::MacAddr(mac.0), &boot),
                    Loader::Grub => script::grub(&facts, pxe::MacAddr(mac.0), &boot),
                };
                Answer::Script(text.expect("only `live` needs an image"))
            }
            Question::Report { key, hardware } => match self.report(id, speaker, ask, key, *hardware) {
                Some(answer) => answer,
                None => return,
            },
            Question::Kickstart { key, token } => self
                .of_holder(id, &key, &token, |machine, attempt| Command::ServeKickstart { machine, attempt }),
            Question::Installed { key, token } => {
                self.of_holder(id, &key, &token, |machine, attempt| Command::PhoneHome { machine, attempt })
            }
            Question::Erased { key, erased } => self.erased(id, &key, erased),
            Question::Checked { key, checked } => self.checked(id, &key, checked),
            Question::Failed { key, token, step, error } => {
                self.of_holder(id, &key, &token, |machine, attempt| Command::FailInstall {
                    machine,
                    attempt,
                    step,
                    error,
                })
            }
            Question::Certificate { key, enrollment } => self.certificate(id, key, enrollment),
            Question::Desired { key, node, known } => match self.desired_of(id, &key, node) {
                Ok(desired) if Some(desired.revision) != known => Answer::Desired(Box::new(desired)),
                Ok(_) => {
                    self.hold(id, speaker, ask, LONG_POLL, Holding::Desired { key, node, known });
                    return;
                }
                Err(refused) => refused,
            },
            Question::Observed { key, node, said } => {
                if !self.is(id, &key, node) {
                    Answer::Refused(format!("this certificate is not the one of {node}"))
                } else {
                    let at = self.clock.now();
                    // What nodes said is kept beside the log, where every appliance reads it.
                    let last = Arc::new(ObservedNode { at, said: *said });
                    for other in 0..self.daemons.len() {
                        self.daemons[other].observed.insert(node, Arc::clone(&last));
                        self.changed(other);
                    }
                    Answer::Done
                }
            }
        };
        self.reply(speaker, ask, answer);
    }

    pub fn lease(&mut self, id: usize, packet: &[u8]) -> Option<Vec<u8>> {
        let request = parse(packet).ok()?;
        if let (Kind::Decline, Some(address)) = (request.kind, request.sight.requested) {
            let mac = fleet::Mac(request.sight.mac.0);
            // What it says of another's address is refused.
            let _ = self.execute(id, &mac.to_string(), &Command::Quarantine { mac, address });
            return None;
        }
        let site = self.daemons[id].fleet.site.clone()?;
        let facts = ServerFacts { address: site.address, mode: Mode::Full, https: None };
        let network = dhcp::network(&self.daemons[id].fleet, request.sight.link)?;
        let assignment = match need(&request, &facts, Some(&network)) {
            Need::Silence(_) | Need::Quarantine(_) => return None,
            Need::Nothing => None,
            Need::Offer => {
                let daemon = &self.daemons[id];
                Some(dhcp::offered(&daemon.fleet, &daemon.seen, &request.sight, self.clock.now()).ok()?)
            }
            Need::Commit => {
                let (daemon, now) = (&self.daemons[id], self.clock.now());
                for order in dhcp::orders(&daemon.fleet, &daemon.seen, &request.sight, now) {
                    self.execute(id, &request.sight.mac.to_string(), &order).ok()?;
                }
                let given = dhcp::offer(&self.daemons[id].fleet, &request.sight, now).ok()?;
                self.daemons[id].seen.saw(given.address, now);
                Some(given)
            }
        };
        match answer(&request, &facts, &network, assignment.as_ref()) {
            DhcpAnswer::Reply(reply) => Some(reply.packet),
            DhcpAnswer::Silence(_) => None,
        }
    }

    fn report(
        &mut self,
        id: usize,
        speaker: Speaker,
        ask: u64,
        key: String,
        hardware: Hardware,
    ) -> Option<Answer> {
        let mac = hardware.boot_mac;
        let refused =
            self.execute(id, &mac.to_string(), &Command::Report { key: key.clone(), hardware }).err();
        let fleet = &self.daemons[id].fleet;
        let found = machine::by_key(fleet, &key).or_else(|| machine::by_mac(fleet, mac));
        let Some(machine) = found.map(|machine| machine.id) else {
            return Some(Answer::Refused(refused.map(|refusal| refusal.to_string()).unwrap_or_default()));
        };
        if let Some(refusal) = refused {
            let instruction = Instruction::Wait { reason: refusal.to_string() };
            return Some(Answer::Instruction(ReportReply { machine, instruction }));
        }
        if self.is_undecided(id, machine) {
            self.hold(id, speaker, ask, HOLD, Holding::Report(machine));
            return None;
        }
        Some(self.instruct(id, machine))
    }

    fn is_undecided(&self, id: usize, machine: MachineId) -> bool {
        let Some(machine) = self.daemons[id].fleet.machines.get(&machine) else { return false };
        machine::wanted_check(machine).is_none()
            && matches!(
                machine.phase,
                Phase::Sighted | Phase::Reported | Phase::Failed { .. } | Phase::Retired
            )
    }

    fn instruct(&self, id: usize, machine: MachineId) -> Answer {
        let daemon = &self.daemons[id];
        let instruction = instruction(&daemon.fleet, &daemon.plan, &self.tokens, machine);
        Answer::Instruction(ReportReply { machine, instruction })
    }

    /// Gives the command for the machine and attempt that the token is for, if it is shown by that machine.
    fn of_holder(
        &mut self,
        id: usize,
        key: &str,
        token: &str,
        command: impl FnOnce(MachineId, u32) -> Command,
    ) -> Answer {
        let holder = self.tokens.read_install(token).filter(|(machine, _)| {
            let known = self.daemons[id].fleet.machines.get(machine);
            known.is_some_and(|known| known.key.as_deref() == Some(key))
        });
        let Some((machine, attempt)) = holder else {
            return Answer::Refused("this install token belongs to another machine".to_owned());
        };
        match self.execute(id, &machine.to_string(), &command(machine, attempt)) {
            Ok(_) => Answer::Done,
            Err(refusal) => Answer::Refused(refusal.to_string()),
        }
    }

    fn erased(&mut self, id: usize, key: &str, erased: Erased) -> Answer {
        let Erased { number, attempt, outcome } = erased;
        self.of_key(id, key, |machine| Command::ReportErased { machine, number, attempt, outcome })
    }

    fn checked(&mut self, id: usize, key: &str, checked: Checked) -> Answer {
        let Checked { number, disks } = checked;
        self.of_key(id, key, |machine| Command::ReportChecked { machine, number, disks })
    }

    /// Gives the command for the machine with this key.
    fn of_key(&mut self, id: usize, key: &str, command: impl FnOnce(MachineId) -> Command) -> Answer {
        let Some(machine) = machine::by_key(&self.daemons[id].fleet, key).map(|machine| machine.id) else {
            return Answer::Refused("this key is not known here".to_owned());
        };
        match self.execute(id, &machine.to_string(), &command(machine)) {
            Ok(_) => Answer::Done,
            Err(refusal) => Answer::Refused(refusal.to_string()),
        }
    }

    fn certificate(&mut self, id: usize, key: String, enrollment: Option<String>) -> Answer {
        let node = match &enrollment {
            Some(token) => self.tokens.read_enrollment(token),
            None => machine::by_key(&self.daemons[id].fleet, &key).map(|m| NodeId::Machine(m.id)),
        };
        let Some(node) = node else { return Answer::Refused("this key is not known here".to_owned()) };
        match self.execute(id, &node.to_string(), &Command::Enroll { node, key }) {
            Ok(_) => Answer::Certificate(node),
            Err(refusal) => Answer::Refused(refusal.to_string()),
        }
    }

    fn is(&self, id: usize, key: &str, node: NodeId) -> bool {
        let fleet = &self.daemons[id].fleet;
        let known = match node {
            NodeId::Machine(machine) => {
                fleet.machines.get(&machine).and_then(|machine| machine.key.as_deref())
            }
            NodeId::Vm(vm) => fleet.vms.get(&vm).and_then(|vm| vm.key.as_deref()),
        };
        known == Some(key)
    }

    fn desired_of(&self, id: usize, key: &str, node: NodeId) -> Result<Desired, Answer> {
        if !self.is(id, key, node) {
            return Err(Answer::Refused(format!("{node} was removed, or is known by another key now")));
        }
        // Nobody looks at a console in this world.
        let consoles = appliance::consoles::Consoles::default();
        let sources = Sources {
            ca_sha256: CA.to_owned(),
            tokens: &self.tokens,
            // No package of this world has templates to read.
            bundles: std::path::Path::new("/nonexistent"),
            consoles: &consoles,
        };
        desired(&self.daemons[id].fleet, &sources, node).map_err(|error| Answer::Refused(error.to_string()))
    }

    fn hold(&mut self, id: usize, speaker: Speaker, ask: u64, millis: u64, what: Holding) {
        let until = self.clock.elapsed() + millis;
        let life = self.daemons[id].life;
        self.daemons[id].held.push(Held { speaker, ask, until, what });
        self.clock.after(millis, Happening::Held { daemon: id, life });
    }

    /// Answers what has been held for long enough, or has come to be decided.
    pub fn release(&mut self, id: usize, life: u32) {
        if self.daemons[id].life != life {
            return;
        }
        self.daemons[id].held_due = false;
        let now = self.clock.elapsed();
        for held in std::mem::take(&mut self.daemons[id].held) {
            let over = held.until <= now;
            let answer = match &held.what {
                Holding::Report(machine) => {
                    (over || !self.is_undecided(id, *machine)).then(|| self.instruct(id, *machine))
                }
                Holding::Desired { key, node, known } => match self.desired_of(id, key, *node) {
                    Ok(desired) => {
                        (over || Some(desired.revision) != *known).then(|| Answer::Desired(Box::new(desired)))
                    }
                    // A removed node learns of it at the end of its poll.
                    Err(refused) => Some(refused),
                },
            };
            match answer {
                Some(answer) => self.reply(held.speaker, held.ask, answer),
                None => self.daemons[id].held.push(held),
            }
        }
    }
}
