//! A machine's plug, its buttons and the process that runs behind them, for
//! everybody who presses: the test, and the machine's BMC.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{BootFrom, Place, Spec, command_line};
use crate::accelerator::Accelerator;
use crate::child;
use crate::lan::Cable;
use crate::qmp::Qmp;

pub(crate) struct Chassis {
    spec: Spec,
    folder: PathBuf,
    control_socket: PathBuf,
    cables: Vec<Cable>,
    accelerator: Accelerator,
    running: Option<Running>,
    times_on: u32,
    /// Where in the serial log the current power cycle begins.
    cycle_start: u64,
    first: Option<First>,
}

struct Running {
    qemu: Child,
    control: Qmp,
    since: Instant,
}

/// What is tried before everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct First {
    pub from: BootFrom,
    /// Forgotten when the machine has been switched on with it.
    pub once: bool,
}

impl Chassis {
    pub(super) fn new(spec: Spec, folder: PathBuf, place: Place<'_>, cables: Vec<Cable>) -> Chassis {
        Chassis {
            control_socket: place.sockets.join(format!("{}.qmp", spec.name)),
            accelerator: place.accelerator,
            spec,
            folder,
            cables,
            running: None,
            times_on: 0,
            cycle_start: 0,
            first: None,
        }
    }

    pub(crate) fn connect_kcs(&mut self, bmc: SocketAddr) {
        self.spec.kcs = Some(bmc);
    }

    pub(crate) fn power_on(&mut self) -> Result<()> {
        if self.is_on() {
            bail!("{} is on already", self.spec.name);
        }
        self.running = None;
        self.times_on += 1;
        self.cycle_start = self.mark_serial_log()?;
        let complaints = OpenOptions::new().create(true).append(true).open(self.qemu_log())?;
        let program = self.spec.firmware.emulator();
        let mut command = child::command(program);
        command
            .args(command_line::arguments(
                &self.spec,
                &self.folder,
                &self.control_socket,
                &self.cables,
                &self.accelerator,
                self.first.map(|first| first.from),
            ))
            .stdout(Stdio::null())
            .stderr(complaints);
        let since = Instant::now();
        let mut qemu = child::spawn(command).with_context(|| format!("starting {program}"))?;
        let control = match self.reach_control(&mut qemu) {
            Ok(control) => control,
            Err(error) => {
                child::kill(&mut qemu);
                return Err(error.context(format!("switching {} on", self.spec.name)));
            }
        };
        self.running = Some(Running { qemu, control, since });
        self.forget_what_was_first()
    }

    pub(crate) fn power_off(&mut self) {
        if let Some(mut running) = self.running.take() {
            child::kill(&mut running.qemu);
        }
    }

    pub(crate) fn power_cycle(&mut self) -> Result<()> {
        self.power_off();
        self.power_on()
    }

    pub(crate) fn reset(&mut self) -> Result<()> {
        // QEMU resets when it comes to it and does not say here that it has; what is to be first is told to a
        // new one.
        if self.first.is_some() && self.is_on() {
            return self.power_cycle();
        }
        self.control("system_reset", Value::Null).map(drop)
    }

    /// Asks the operating system to switch the machine off, by ACPI.
    pub(crate) fn press_briefly(&mut self) -> Result<()> {
        self.control("system_powerdown", Value::Null).map(drop)
    }

    /// From the next power on.
    pub(crate) fn boot_first(&mut self, first: Option<First>) {
        self.first = first;
    }

    pub(crate) fn boots_first(&self) -> Option<BootFrom> {
        self.first.map(|first| first.from)
    }

    pub(super) fn take_medium_out(&mut self) -> Result<()> {
        if self.is_on() {
            bail!("{} is on; its medium is taken out when it is off", self.spec.name);
        }
        self.spec.medium = None;
        Ok(())
    }

    pub(crate) fn is_on(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| matches!(running.qemu.try_wait(), Ok(None)))
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.qemu.id())
    }

    pub(super) fn on_since(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.since)
    }

    pub(super) fn cycle_start(&self) -> u64 {
        self.cycle_start
    }

    pub(super) fn control(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let running = self.running.as_mut().with_context(|| format!("{} is off", self.spec.name))?;
        running.control.execute(command, arguments)
    }

    /// The firmware of this power on has its order already; a changed one holds from the next reset.
    fn forget_what_was_first(&mut self) -> Result<()> {
        let Some(First { from, once: true }) = self.first else { return Ok(()) };
        self.first = None;
        for (device, index) in command_line::usual_order(&self.spec, from) {
            let path = format!("/machine/peripheral/{device}");
            self.control("qom-set", json!({ "path": path, "property": "bootindex", "value": index }))?;
        }
        Ok(())
    }

    /// Writes a line that divides power cycles; gives the length after it.
    fn mark_serial_log(&self) -> Result<u64> {
        let mut log = OpenOptions::new().create(true).append(true).open(serial_log(&self.folder))?;
        writeln!(log, "\n===== {}: power on number {} =====", self.spec.name, self.times_on)?;
        Ok(log.metadata()?.len())
    }

    fn reach_control(&self, qemu: &mut Child) -> Result<Qmp> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match Qmp::connect(&self.control_socket) {
                Ok(control) => return Ok(control),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = qemu.try_wait()? {
                let said = fs::read_to_string(self.qemu_log()).unwrap_or_default();
                bail!("QEMU ended at once ({status}): {}", said.lines().last().unwrap_or("it said nothing"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn qemu_log(&self) -> PathBuf {
        self.folder.join("qemu.log")
    }
}

impl Drop for Chassis {
    fn drop(&mut self) {
        self.power_off();
    }
}

pub(super) fn serial_log(folder: &Path) -> PathBuf {
    folder.join("serial.log")
}
