//! The BMCs of simulated computers, and the appliance's hand on them: it acts on what is wanted, asks, and reports.

use fleet::power::{self, Action, Outcome};
use fleet::{Command, MachineId, Timestamp};

use super::computer::State;
use super::{Happening, World};

/// A BMC that is well takes so long to switch and to say so twice; one that is silent is given up after so long.
const SWITCHED: u64 = 4_000;
const GIVEN_UP: u64 = 20_000;
/// Until it is tried again.
const AGAIN: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bmc {
    Well,
    Silent,
    /// Says what is wanted and does nothing.
    Lying,
}

/// What is under way through a BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    pub machine: MachineId,
    pub since: Timestamp,
}

impl World {
    /// Begins what is wanted and not under way.
    pub fn switch_power(&mut self, daemon: usize) {
        let appliance = &self.daemons[daemon];
        let machines = appliance.fleet.machines.values().filter(|machine| machine.power.bmc.is_some());
        let wanted: Vec<(Attempt, fleet::Mac)> = machines
            .filter_map(|machine| {
                let since = power::wanted(machine)?.since;
                Some((Attempt { machine: machine.id, since }, *machine.macs.first()?))
            })
            .filter(|(attempt, _)| !appliance.attempts.contains(attempt))
            .collect();
        let life = appliance.life;
        for (attempt, mac) in wanted {
            self.daemons[daemon].attempts.insert(attempt);
            let computer = self.computers.iter().find(|computer| computer.mac == mac);
            let silent = computer.is_none_or(|computer| computer.bmc == Bmc::Silent);
            let takes = if silent { GIVEN_UP } else { SWITCHED };
            self.clock.after(takes, Happening::Switched { daemon, life, attempt });
        }
    }

    /// An attempt is over.
    pub fn switched(&mut self, daemon: usize, life: u32, attempt: Attempt) {
        if self.daemons[daemon].life != life || !self.daemons[daemon].up {
            return;
        }
        let Attempt { machine: id, since } = attempt;
        let known = self.daemons[daemon].fleet.machines.get(&id);
        let action = known.and_then(|machine| power::wanted(machine)).filter(|wanted| wanted.since == since);
        let mac = known.and_then(|machine| machine.macs.first().copied());
        let computer = mac.and_then(|mac| self.computers.iter().position(|computer| computer.mac == mac));
        if let (Some(wanted), Some(computer)) = (action, computer) {
            let outcome = match self.computers[computer].bmc {
                Bmc::Silent => Outcome::Failed("its BMC does not answer".to_owned()),
                Bmc::Lying => Outcome::Done("its BMC said so twice".to_owned()),
                Bmc::Well => {
                    self.obey(computer, wanted.action);
                    Outcome::Done("its BMC said so twice".to_owned())
                }
            };
            let command = Command::ReportPower { machine: id, since, outcome };
            // Refused when it is not wanted any more.
            let _ = self.execute(daemon, "appliance", &command);
        }
        let wanted = self.daemons[daemon].fleet.machines.get(&id).and_then(|machine| power::wanted(machine));
        if wanted.is_some_and(|wanted| wanted.since == since) {
            self.clock.after(AGAIN, Happening::TryPowerAgain { daemon, life, attempt });
        } else {
            self.daemons[daemon].attempts.remove(&attempt);
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
