//! The BMCs and power strips of simulated computers, and the appliance's hand on them: it acts on what is wanted, asks,
//! and reports.

use fleet::power::{self, Action, Answer, Move, Outcome, Outlets, Try, Way};
use fleet::{Command, Mac, MachineId, Timestamp};

use super::computer::State;
use super::{Happening, World};

/// A BMC that is well takes so long to switch and to say so twice; one that is silent is given up after so long, and
/// one that hangs in between after more.
const SWITCHED: u64 = 4_000;
const GIVEN_UP: u64 = 20_000;
const HUNG: u64 = 120_000;
/// Until it is tried again.
const AGAIN: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bmc {
    Well,
    Silent,
    /// Takes the order and says nothing more.
    Hanging,
    /// Says what is wanted and does nothing.
    Lying,
}

/// A computer has two supplies, each in an outlet of its own.
pub const OUTLETS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strip {
    Well,
    Silent,
    /// The second outlet stays as it is.
    Stuck,
    /// Says what is wanted and does nothing.
    Lying,
}

/// What is under way to switch a computer's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    pub machine: MachineId,
    pub since: Timestamp,
}

impl World {
    /// Begins what is wanted and not under way.
    pub fn switch_power(&mut self, daemon: usize) {
        let appliance = &self.daemons[daemon];
        let machines = appliance.fleet.machines.values().filter(|machine| machine.power.is_switchable());
        let wanted: Vec<Attempt> = machines
            .filter_map(|machine| Some(Attempt { machine: machine.id, since: power::wanted(machine)?.since }))
            .filter(|attempt| !appliance.attempts.contains(attempt))
            .collect();
        for attempt in wanted {
            self.daemons[daemon].attempts.insert(attempt);
            self.try_way(daemon, attempt, 0);
        }
    }

    /// By the way of this number, if there is one.
    fn try_way(&mut self, daemon: usize, attempt: Attempt, number: usize) -> bool {
        let known = self.daemons[daemon].fleet.machines.get(&attempt.machine);
        let Some(machine) = known.filter(|machine| is_wanted(machine, attempt)) else { return false };
        let Some(Try { way, secs, .. }) = power::tries(machine).get(number).copied() else { return false };
        let mac = machine.macs.first().copied();
        let computer = mac.and_then(|mac| self.computers.iter().find(|computer| computer.mac == mac));
        let takes = match (computer, way) {
            (None, _) => GIVEN_UP,
            (Some(computer), Way::Strips) if computer.strip == Strip::Silent => GIVEN_UP,
            (Some(_), Way::Strips) => SWITCHED * OUTLETS as u64,
            (Some(computer), Way::Bmc) if computer.bmc == Bmc::Silent || !computer.has_power() => GIVEN_UP,
            (Some(computer), Way::Bmc) if computer.bmc == Bmc::Hanging => HUNG,
            (Some(_), Way::Bmc) => SWITCHED,
        };
        let takes = secs.map_or(takes, |secs| takes.min(secs * 1000));
        let life = self.daemons[daemon].life;
        self.clock.after(takes, Happening::Switched { daemon, life, attempt, number });
        true
    }

    /// An attempt is over.
    pub fn switched(&mut self, daemon: usize, life: u32, attempt: Attempt, number: usize) {
        if self.daemons[daemon].life != life || !self.daemons[daemon].up {
            return;
        }
        let Attempt { machine: id, since } = attempt;
        let known = self.daemons[daemon].fleet.machines.get(&id);
        let next = known.filter(|machine| is_wanted(machine, attempt));
        let next = next.and_then(|machine| power::tries(machine).get(number).copied());
        let mac = known.and_then(|machine| machine.macs.first().copied());
        if let (Some(Try { way, action, .. }), Some(mac)) = (next, mac) {
            let outcome = self.attempted(daemon, attempt, mac, way, action);
            let command = Command::ReportPower { machine: id, since, way, outcome };
            // Refused when it is not wanted any more.
            let _ = self.execute(daemon, "appliance", &command);
        }
        // What is proven changes which ways there are.
        let is_next = self.daemons[daemon].fleet.machines.get(&id).is_some_and(|machine| {
            is_wanted(machine, attempt)
                && power::tries(machine).get(number).map(|it| it.way) == next.map(|it| it.way)
        });
        if is_next && self.try_way(daemon, attempt, number + 1) {
            return;
        }
        let known = self.daemons[daemon].fleet.machines.get(&id);
        if known.is_some_and(|machine| is_wanted(machine, attempt)) {
            self.clock.after(AGAIN, Happening::TryPowerAgain { daemon, life, attempt });
        } else {
            self.daemons[daemon].attempts.remove(&attempt);
        }
    }

    fn attempted(&mut self, daemon: usize, attempt: Attempt, mac: Mac, way: Way, action: Action) -> Outcome {
        let Some(computer) = self.computers.iter().position(|computer| computer.mac == mac) else {
            return Outcome::Failed("nothing answers there".to_owned());
        };
        match (way, self.computers[computer].bmc) {
            (Way::Strips, _) => self.by_strips(daemon, attempt, computer, action),
            (Way::Bmc, _) if !self.computers[computer].has_power() => {
                Outcome::Failed("its BMC does not answer".to_owned())
            }
            (Way::Bmc, Bmc::Silent) => Outcome::Failed("its BMC does not answer".to_owned()),
            (Way::Bmc, Bmc::Hanging) => Outcome::Failed("its BMC does not answer any more".to_owned()),
            (Way::Bmc, Bmc::Lying) => Outcome::Done("its BMC said so twice".to_owned()),
            (Way::Bmc, Bmc::Well) => {
                self.obey(computer, action);
                Outcome::Done("its BMC said so twice".to_owned())
            }
        }
    }

    fn by_strips(&mut self, daemon: usize, attempt: Attempt, computer: usize, action: Action) -> Outcome {
        let Attempt { machine, since } = attempt;
        if action != Action::On
            && let Err(refusal) = self.execute(daemon, "appliance", &Command::BeginStrips { machine, since })
        {
            return Outcome::Failed(refusal.to_string());
        }
        let strips = self.daemons[daemon].fleet.machines.get(&machine).map(|it| it.power.strips.clone());
        let mut outlets = Outlets::to(action, power::outlets(&strips.unwrap_or_default()));
        loop {
            let (name, next) = match outlets.next() {
                Ok((outlet, next)) => (outlet.name.clone(), next),
                Err(Ok(proof)) => return Outcome::Done(proof),
                Err(Err(why)) => return Outcome::Failed(why),
            };
            outlets.hear(self.outlet(computer, &name, next));
        }
    }

    /// Outlets are called after their computer: `m-a-1`, `m-a-2`.
    fn outlet(&mut self, computer: usize, name: &str, next: Move) -> Answer {
        let fed = self.computers.iter().position(|it| name.strip_prefix(&*it.name).is_some_and(is_number));
        let number = name.rsplit('-').next().and_then(|number| number.parse::<usize>().ok());
        let (Some(fed), Some(number @ 1..=OUTLETS)) = (fed, number) else {
            return Answer::Trouble("there is no such outlet".to_owned());
        };
        match (self.computers[computer].strip, next) {
            (Strip::Silent, _) => return Answer::Trouble("it does not answer".to_owned()),
            (Strip::Lying, Move::Switch { on }) => return Answer::Is { on },
            (Strip::Lying, Move::Ask) => return Answer::Is { on: false },
            (Strip::Stuck, Move::Switch { on })
                if number == OUTLETS && on != self.computers[fed].outlets[number - 1] =>
            {
                return Answer::Trouble(format!("it says {}", if on { "off" } else { "on" }));
            }
            (Strip::Well | Strip::Stuck, Move::Switch { on }) => self.feed(fed, number - 1, on),
            (Strip::Well | Strip::Stuck, Move::Ask) => {}
        }
        Answer::Is { on: self.computers[fed].outlets[number - 1] }
    }

    /// Firmware starts by itself when power comes back.
    fn feed(&mut self, computer: usize, outlet: usize, on: bool) {
        let had = self.computers[computer].has_power();
        self.computers[computer].outlets[outlet] = on;
        let has = self.computers[computer].has_power();
        let name = self.computers[computer].name.clone();
        self.say(format!("outlet {} of {name} is {}", outlet + 1, if on { "on" } else { "off" }));
        if had && !has {
            self.power_off(computer);
        }
        if !had && has {
            self.power_on(computer);
        }
    }

    pub fn try_power_again(&mut self, daemon: usize, life: u32, attempt: Attempt) {
        if self.daemons[daemon].life == life {
            self.daemons[daemon].attempts.remove(&attempt);
            self.switch_power(daemon);
        }
    }

    fn obey(&mut self, computer: usize, action: Action) {
        let name = self.computers[computer].name.clone();
        self.say(format!("{name} is {} by its BMC", action.done()));
        match action {
            Action::On => self.power_on(computer),
            Action::Off => self.power_off(computer),
            Action::Cycle | Action::Netboot => {
                self.power_off(computer);
                self.power_on(computer);
            }
        }
    }

    /// Its processor stands still; only switching it off ends that.
    pub fn freeze(&mut self, computer: usize) {
        if !matches!(self.computers[computer].state, State::Off) {
            self.say(format!("{} hangs", self.computers[computer].name));
            self.computers[computer].frozen = true;
        }
    }
}

fn is_wanted(machine: &fleet::machine::Machine, attempt: Attempt) -> bool {
    power::wanted(machine).is_some_and(|wanted| wanted.since == attempt.since)
}

fn is_number(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|number| number.parse::<usize>().is_ok())
}
