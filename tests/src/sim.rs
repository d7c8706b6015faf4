//! The simulator: the real core of an appliance in a world that is made up. Not the lab, whose machines are QEMU's
//! and whose seconds are seconds: here time is a number, the network is a queue, and a machine is a state machine.
//!
//! ```text
//!  scenario (text) ──▶ World ── computers: firmware, initrd, host agent, guests ──┐ DHCP packets, reports,
//!                        │                                                        │ desired and observed
//!                        └──── daemons: decide, evolve, plan; one shared log ◀────┘ over a network with faults
//! ```
//!
//! Real are: `fleet` (decide, evolve, plan), the DHCP packets and their answers, the boot scripts, tokens, the desired
//! state of nodes, and the plans of hosts and guests. Made up are: the clock, chance (one generator, from a seed), the
//! network, disks, and how long things take. The same seed is the same run, byte for byte.

mod bmc;
mod check;
mod clock;
mod computer;
mod daemon;
mod dhcp;
mod eli;
mod expect;
mod guest;
mod host;
mod log;
mod member;
mod network;
mod scenario;
mod speech;
mod weather;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use appliance::tokens::Tokens;
use fleet::{Command, Event, Forecast, MachineId, Observed};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use bmc::Attempt;
use clock::{Clock, read_aloud};
use computer::{Computer, State};
use daemon::Daemon;
use log::Log;
use network::Network;
use speech::{Alarm, Answer, Question, Speaker};

pub use scenario::{Failure, run};
pub use weather::script;

pub struct World {
    clock: Clock<Happening>,
    chance: ChaCha8Rng,
    network: Network,
    log: Log,
    daemons: Vec<Daemon>,
    tokens: Tokens,
    computers: Vec<Computer>,
    /// Addresses that something answers to that nobody knows.
    taken: BTreeSet<Ipv4Addr>,
    asked: u64,
    timeline: Vec<Line>,
    /// When the last event was appended.
    last_event: u64,
    /// Machines that phoned home since a person last said that they are to be installed.
    installed: BTreeSet<MachineId>,
    /// Why the last command of a person was refused.
    refusal: Option<String>,
    /// The last position of the log when the script said `note`.
    noted: usize,
    /// What `eli plan` has shown last.
    shown: Option<Forecast>,
    /// The first thing that must never be and was.
    wrong: Option<String>,
}

/// What happens at a moment.
enum Happening {
    /// A question arrives at an appliance.
    Question {
        daemon: usize,
        speaker: Speaker,
        ask: u64,
        question: Question,
    },
    /// An answer arrives where the question came from.
    Answer {
        speaker: Speaker,
        ask: u64,
        answer: Answer,
    },
    Alarm {
        speaker: Speaker,
        alarm: Alarm,
    },
    /// The reconciler of an appliance looks.
    Look {
        daemon: usize,
        life: u32,
    },
    /// An appliance looks through what it holds back.
    Held {
        daemon: usize,
        life: u32,
    },
    /// An appliance hears that the log has grown.
    Notice(usize),
    DaemonStarts(usize),
    /// An attempt to switch a computer's power is over.
    Switched {
        daemon: usize,
        life: u32,
        attempt: Attempt,
        /// Which of the ways it was.
        number: usize,
    },
    TryPowerAgain {
        daemon: usize,
        life: u32,
        attempt: Attempt,
    },
}

/// One line of what happened.
struct Line {
    at: u64,
    subject: String,
    text: String,
}

impl World {
    /// A founded site without machines.
    pub fn new(seed: u64) -> World {
        let log = Log::default();
        let clock = Clock::default();
        let daemon = Daemon::start(&log, Observed::default(), 0, clock.now());
        let mut world = World {
            clock,
            chance: ChaCha8Rng::seed_from_u64(seed),
            network: Network::default(),
            log,
            daemons: vec![daemon],
            tokens: Tokens::made_from(b"a secret of a site that is made up"),
            computers: Vec::new(),
            taken: BTreeSet::new(),
            asked: 0,
            timeline: Vec::new(),
            last_event: 0,
            installed: BTreeSet::new(),
            refusal: None,
            noted: 0,
            shown: None,
            wrong: None,
        };
        let found = Command::Found {
            site: uuid::Uuid::from_u128(0x1234_5678),
            network: "10.77.0.0/16".parse().expect("a network"),
            address: world.address(),
            domain: "elisandra".to_owned(),
        };
        if let Err(refusal) = world.execute(0, "appliance", &found) {
            world.wrong(refusal.to_string());
        }
        world.look_within(0, 0);
        world
    }

    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, 1)
    }

    /// Lets everything happen until `end`, in milliseconds since the beginning, or until something is wrong.
    pub fn run_until(&mut self, end: u64) {
        while self.wrong.is_none() {
            let Some(happening) = self.clock.next_until(end) else { return };
            self.happen(happening);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Question { daemon, speaker, ask, question } => {
                if !self.network.blocked.contains(&speaker.computer) {
                    self.hear(daemon, speaker, ask, question);
                }
            }
            Happening::Answer { speaker, ask, answer } => {
                if !self.network.blocked.contains(&speaker.computer) && self.is_alive(speaker) {
                    match speaker.guest {
                        None => self.computer_answer(speaker.computer, ask, answer),
                        Some(vm) => self.guest_answer(speaker, vm, ask, answer),
                    }
                }
            }
            Happening::Alarm { speaker, alarm } => {
                if self.is_alive(speaker) {
                    match speaker.guest {
                        None => self.computer_alarm(speaker.computer, alarm),
                        Some(vm) => self.guest_alarm(speaker, vm, alarm),
                    }
                }
            }
            Happening::Look { daemon, life } => self.look(daemon, life),
            Happening::Held { daemon, life } => self.release(daemon, life),
            Happening::Notice(daemon) => self.notice(daemon),
            Happening::DaemonStarts(daemon) => self.start_daemon(daemon),
            Happening::Switched { daemon, life, attempt, number } => {
                self.switched(daemon, life, attempt, number);
            }
            Happening::TryPowerAgain { daemon, life, attempt } => {
                self.try_power_again(daemon, life, attempt);
            }
        }
    }

    fn is_alive(&self, speaker: Speaker) -> bool {
        let computer = &self.computers[speaker.computer];
        if computer.frozen {
            return false;
        }
        match speaker.guest {
            None => computer.life == speaker.life && !matches!(computer.state, State::Off),
            Some(vm) => {
                computer.guests.get(&vm).is_some_and(|guest| guest.running && guest.life == speaker.life)
            }
        }
    }

    /// Asks over TCP; the answer or, after `millis`, the alarm that none came has the number that is returned.
    fn ask(&mut self, speaker: Speaker, question: Question, millis: u64) -> u64 {
        self.asked += 1;
        let ask = self.asked;
        self.send(speaker, ask, question);
        self.alarm(speaker, millis, Alarm::NoAnswer(ask));
        ask
    }

    fn send(&mut self, speaker: Speaker, ask: u64, question: Question) {
        let arrivals = match &question {
            Question::Dhcp(_) => self.network.datagram(&mut self.chance, speaker.computer),
            _ => self.network.stream(&mut self.chance, speaker.computer).into_iter().collect(),
        };
        for delay in arrivals {
            let daemon = self.answering_daemon();
            let question = question.clone();
            self.clock.after(delay, Happening::Question { daemon, speaker, ask, question });
        }
    }

    fn reply(&mut self, speaker: Speaker, ask: u64, answer: Answer) {
        let arrivals = match &answer {
            Answer::Dhcp(_) => self.network.datagram(&mut self.chance, speaker.computer),
            _ => self.network.stream(&mut self.chance, speaker.computer).into_iter().collect(),
        };
        for delay in arrivals {
            self.clock.after(delay, Happening::Answer { speaker, ask, answer: answer.clone() });
        }
    }

    /// The appliance that a question of a machine reaches: the first that is up, as all know one address.
    fn answering_daemon(&self) -> usize {
        self.daemons.iter().position(|daemon| daemon.up).unwrap_or(0)
    }

    fn say(&mut self, text: impl Into<String>) {
        self.timeline.push(Line { at: self.clock.elapsed(), subject: "world".to_owned(), text: text.into() });
    }

    fn wrong(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.say(format!("WRONG: {text}"));
        self.wrong.get_or_insert(text);
    }

    /// Events stand in the log now.
    fn recorded(&mut self, actor: &str, command: &Command, events: &[Event]) {
        self.last_event = self.clock.elapsed();
        for event in events {
            let text = format!("{} [{actor}]", event.sentence());
            self.timeline.push(Line { at: self.last_event, subject: event.subject(), text });
        }
        self.check_events(command, events);
    }

    /// What happened, a line each.
    pub fn timeline(&self) -> String {
        let line = |line: &Line| format!("{}  {:<18} {}\n", read_aloud(line.at), line.subject, line.text);
        self.timeline.iter().map(line).collect()
    }

    /// The whole log as text.
    pub fn log(&self) -> String {
        self.log.text()
    }
}
