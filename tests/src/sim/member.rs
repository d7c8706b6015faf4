//! What host and guest agents have in common (hypervisor/node/src/member.rs is the real one, on sockets): the
//! certificate, pulling the desired state, telling the observed one.

use fleet::NodeId;
use fleet::wire::{Desired, Observed};
use rand::Rng as _;

use super::World;
use super::computer::{ANSWER, Content};
use super::speech::{Alarm, Answer, Question, Speaker};

pub const HEARTBEAT: u64 = 10_000;
/// A long poll is given up after the time it may take and the time an answer may take.
const POLL: u64 = 45_000;
const SILENT_BEFORE_NEW_CERTIFICATE: u32 = 6;

#[derive(Debug, Clone, Default)]
pub struct Member {
    pub key: String,
    enrollment: Option<String>,
    node: Option<NodeId>,
    pub desired: Option<Desired>,
    joining: u64,
    pulling: u64,
    telling: u64,
    /// Something happened while the last word was on its way.
    tell_again: bool,
    silent: u32,
    tries: u32,
}

impl Member {
    pub fn new(key: String, enrollment: Option<String>, node: Option<NodeId>) -> Member {
        Member { key, enrollment, node, ..Member::default() }
    }

    fn pause(&mut self, chance: f64) -> u64 {
        let longest = (1000u64 << self.tries).min(20_000);
        self.tries = (self.tries + 1).min(5);
        // 0.5 to 1 of the longest.
        longest / 2 + (chance * longest as f64 / 2.0) as u64
    }
}

impl World {
    fn member(&mut self, speaker: Speaker) -> Option<&mut Member> {
        let computer = &mut self.computers[speaker.computer];
        match speaker.guest {
            None => match &mut computer.state {
                super::computer::State::Host(host) => Some(&mut host.member),
                _ => None,
            },
            Some(vm) => computer.guests.get_mut(&vm).map(|guest| &mut guest.member),
        }
    }

    pub fn member_starts(&mut self, speaker: Speaker) {
        self.join(speaker);
        self.tell(speaker);
        self.alarm(speaker, 0, Alarm::Settle);
    }

    fn join(&mut self, speaker: Speaker) {
        let Some(member) = self.member(speaker) else { return };
        if member.node.is_some() {
            return self.pull(speaker);
        }
        let question =
            Question::Certificate { key: member.key.clone(), enrollment: member.enrollment.clone() };
        let ask = self.ask(speaker, question, ANSWER);
        if let Some(member) = self.member(speaker) {
            member.joining = ask;
        }
    }

    fn pull(&mut self, speaker: Speaker) {
        let Some(member) = self.member(speaker) else { return };
        let Some(node) = member.node else { return };
        let known = member.desired.as_ref().map(|desired| desired.revision);
        let question = Question::Desired { key: member.key.clone(), node, known };
        let ask = self.ask(speaker, question, POLL);
        if let Some(member) = self.member(speaker) {
            member.pulling = ask;
        }
    }

    /// Posts how things are; while a word is on its way, after it.
    pub fn tell(&mut self, speaker: Speaker) {
        let said = self.observed(speaker);
        let Some(member) = self.member(speaker) else { return };
        let Some(node) = member.node else { return };
        if member.telling != 0 {
            member.tell_again = true;
            return;
        }
        let question = Question::Observed { key: member.key.clone(), node, said: Box::new(said) };
        let ask = self.ask(speaker, question, ANSWER);
        if let Some(member) = self.member(speaker) {
            member.telling = ask;
        }
    }

    fn observed(&self, speaker: Speaker) -> Observed {
        let computer = &self.computers[speaker.computer];
        let nothing = Observed {
            revision: 0,
            version: "simulated".to_owned(),
            uptime_secs: (self.clock.elapsed() - computer.on_since) / 1000,
            capacity: None,
            vms: Vec::new(),
            software: Vec::new(),
            neighbours: Vec::new(),
        };
        match (speaker.guest, &computer.state) {
            (None, super::computer::State::Host(host)) => {
                host.observed(computer, self.clock.elapsed(), nothing)
            }
            (None, _) => nothing,
            (Some(vm), _) => match computer.guests.get(&vm) {
                Some(guest) => guest.observed(nothing),
                None => nothing,
            },
        }
    }

    /// Answers to what a host or guest asked.
    pub fn member_answer(&mut self, speaker: Speaker, ask: u64, answer: Answer) {
        let chance = self.chance.random();
        let Some(member) = self.member(speaker) else { return };
        if ask == member.telling {
            member.telling = 0;
            if std::mem::take(&mut member.tell_again) {
                self.tell(speaker);
            }
        } else if ask == member.joining {
            member.joining = 0;
            if let Answer::Certificate(node) = answer {
                member.node = Some(node);
                member.tries = 0;
                member.silent = 0;
                self.keep_certificate(speaker, Some(node));
                self.pull(speaker);
                self.tell(speaker);
            } else {
                let pause = member.pause(chance);
                self.alarm(speaker, pause, Alarm::Join);
            }
        } else if ask == member.pulling {
            member.pulling = 0;
            if let Answer::Desired(desired) = answer {
                member.silent = 0;
                member.tries = 0;
                let news = member.desired.as_ref().map(|known| known.revision) != Some(desired.revision);
                if news {
                    member.desired = Some(*desired);
                    self.alarm(speaker, 0, Alarm::Settle);
                }
                self.pull(speaker);
            } else {
                // Not known any more: asks for its certificate anew, with the desired state as it was.
                member.node = None;
                let pause = member.pause(chance);
                self.keep_certificate(speaker, None);
                self.alarm(speaker, pause, Alarm::Join);
            }
        }
    }

    pub fn member_alarm(&mut self, speaker: Speaker, alarm: Alarm) {
        let chance = self.chance.random();
        let Some(member) = self.member(speaker) else { return };
        match alarm {
            Alarm::Join => self.join(speaker),
            Alarm::Pull => self.pull(speaker),
            Alarm::Tell => self.tell(speaker),
            Alarm::NoAnswer(ask) if ask == member.telling => {
                member.telling = 0;
                if std::mem::take(&mut member.tell_again) {
                    self.tell(speaker);
                }
            }
            Alarm::NoAnswer(ask) if ask == member.joining => {
                member.joining = 0;
                let pause = member.pause(chance);
                self.alarm(speaker, pause, Alarm::Join);
            }
            Alarm::NoAnswer(ask) if ask == member.pulling => {
                member.pulling = 0;
                member.silent += 1;
                let anew = member.silent.is_multiple_of(SILENT_BEFORE_NEW_CERTIFICATE);
                if anew {
                    member.node = None;
                }
                let pause = member.pause(chance);
                self.alarm(speaker, pause, if anew { Alarm::Join } else { Alarm::Pull });
            }
            _ => {}
        }
    }

    fn keep_certificate(&mut self, speaker: Speaker, node: Option<NodeId>) {
        let computer = &mut self.computers[speaker.computer];
        match speaker.guest {
            None => {
                if let Content::System { certificate, .. } = &mut computer.content {
                    *certificate = node;
                }
            }
            Some(vm) => {
                if let Some(guest) = computer.guests.get_mut(&vm) {
                    guest.certificate = node;
                }
            }
        }
    }
}
