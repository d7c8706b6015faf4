//! BMCs of the lab's machines: emulators that others wrote and the programs of
//! fence-agents already talk to. What they say of a machine is how its QEMU
//! process is at that moment, and what they are told to do is done to it.
//!
//! ```text
//! IPMI      ipmi_sim (OpenIPMI) ── its chassis program ──┐
//!                                                        ├── panel ── the machine's buttons
//! Redfish   sushy-emulator, TLS ── its driver ───────────┘
//! ```
//!
//! Only the panel is the lab's own; there a BMC can be made to lie or to be slow.

mod ipmi;
mod panel;
mod redfish;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::panel::Panel;
use crate::appliance::reserve;
use crate::child;
use crate::machine::Machine;

pub const USER: &str = "lab";

/// IPMI 2.0 has room for 20 bytes.
pub const PASSWORD: &str = "lab-bmc-password";

/// This computer's loopback, as QEMU's user network shows it to the appliance.
const THIS_COMPUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Until it is heard. Python alone takes some seconds on a busy computer.
const START_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ipmi,
    Redfish,
}

/// A BMC that runs. Dropping it ends it; its machine stays as it is.
pub struct Bmc {
    pub kind: Kind,
    /// On this computer: UDP for IPMI, TLS for Redfish.
    pub address: SocketAddr,
    emulator: Child,
    panel: Panel,
}

impl Kind {
    /// As the API names it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Ipmi => "ipmi",
            Kind::Redfish => "redfish",
        }
    }
}

impl Bmc {
    /// Gives a machine a BMC, which has power whether the machine is on or off.
    pub fn connect(kind: Kind, machine: &Machine) -> Result<Bmc> {
        let folder = machine.folder().join("bmc");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let panel = Panel::wire(machine.buttons())?;
        let address = free_port(kind)?;
        let command = match kind {
            Kind::Ipmi => ipmi::command(&folder, address, panel.address, machine)?,
            Kind::Redfish => redfish::command(&folder, address, panel.address, machine)?,
        };
        let emulator = spawn(command, &folder)?;
        let mut bmc = Bmc { kind, address, emulator, panel };
        bmc.wait_until_heard(&folder).with_context(|| format!("starting the BMC of {}", machine.name))?;
        Ok(bmc)
    }

    /// How the appliance reaches it, over its uplink.
    pub fn address_from_appliance(&self) -> SocketAddr {
        SocketAddr::from((THIS_COMPUTER, self.address.port()))
    }

    /// What a client has to know beside address and login, as fence agents name it.
    pub fn options(&self) -> BTreeMap<&'static str, &'static str> {
        match self.kind {
            // ipmi_sim says nothing when it is asked for the suites that it knows; ipmitool gives up after 14 s.
            Kind::Ipmi => BTreeMap::from([("cipher", "3")]),
            Kind::Redfish => BTreeMap::new(),
        }
    }

    /// It hears nothing and answers nothing, until [`Bmc::resume`]. What was sent to it meanwhile it reads then,
    /// as a BMC with a long pause does.
    pub fn hang(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// It says that the machine is off and that every order was carried out, and touches nothing.
    pub fn lie_off(&self) {
        self.panel.lie(true);
    }

    /// Every answer that needs a look at the machine takes this much longer.
    pub fn slow_down(&self, by: Duration) {
        self.panel.slow_down(by);
    }

    /// Ends hanging, lying and slowness.
    pub fn resume(&self) -> Result<()> {
        self.panel.lie(false);
        self.panel.slow_down(Duration::ZERO);
        self.signal(Signal::SIGCONT)
    }

    /// The light that tells a person which machine is meant.
    pub fn light_is_on(&self) -> bool {
        self.panel.light_is_on()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.emulator.id().try_into()?);
        kill(pid, signal).with_context(|| format!("sending {signal} to the emulator of a BMC"))
    }

    fn wait_until_heard(&mut self, folder: &Path) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        loop {
            let heard = match self.kind {
                Kind::Ipmi => ipmi::is_heard(self.address),
                Kind::Redfish => redfish::is_heard(self.address),
            };
            if heard {
                return Ok(());
            }
            let ended = self.emulator.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let said = fs::read_to_string(log(folder)).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                bail!("its emulator is not heard ({ended:?}); it said last, backwards: {}", last.join(" / "));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        child::kill(&mut self.emulator);
    }
}

/// A port of this computer that nobody uses now. The emulator takes it a moment later.
fn free_port(kind: Kind) -> Result<SocketAddr> {
    Ok(match kind {
        Kind::Ipmi => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?,
        Kind::Redfish => reserve(0)?,
    })
}

fn spawn(mut command: Command, folder: &Path) -> Result<Child> {
    let log = fs::File::create(log(folder))?;
    command.current_dir(folder).stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
    let what = format!("starting {:?}", command.get_args().collect::<Vec<_>>());
    child::spawn(command).context(what)
}

/// What the emulator prints.
fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// A path in the words of a configuration file, which has no way to write some.
fn plain_text(path: &Path) -> Result<&str> {
    let text = path.to_str().context("the lab's folder is not UTF-8")?;
    ensure!(!text.contains(['"', '\\', ' ']), "the lab's folder {text:?} has a space or a quote in its name");
    Ok(text)
}
