//! The wires from a BMC to its machine's buttons: a port of the loopback that
//! reads one line and answers in one line.
//!
//! ```text
//! get power        power:1             set power 0       ok
//! get boot         boot:pxe            set boot pxe      ok     for the next power on
//!                                      set boot-always pxe      for every one
//! set reset 1, set shutdown 1, set identify 15 0
//! refused: and why
//! ```
//!
//! These are the words of ipmi_sim's chassis program, and one more.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::machine::{BootFrom, Chassis, First};

/// A line that does not come is a BMC that has ended.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Panel {
    pub address: SocketAddr,
    wires: Arc<Wires>,
}

struct Wires {
    machine: Weak<Mutex<Chassis>>,
    lies: AtomicBool,
    delay_millis: AtomicU64,
    light: AtomicBool,
    cut: AtomicBool,
}

impl Panel {
    pub(super) fn wire(machine: Weak<Mutex<Chassis>>) -> Result<Panel> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let wires = Arc::new(Wires {
            machine,
            lies: AtomicBool::new(false),
            delay_millis: AtomicU64::new(0),
            light: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        });
        let inside = wires.clone();
        thread::Builder::new().name("bmc panel".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                if inside.cut.load(Relaxed) {
                    return;
                }
                let wires = inside.clone();
                // A BMC that is gone before its answer needs none.
                thread::spawn(move || drop(wires.serve(stream)));
            }
        })?;
        Ok(Panel { address, wires })
    }

    pub(super) fn lie(&self, lies: bool) {
        self.wires.lies.store(lies, Relaxed);
    }

    pub(super) fn slow_down(&self, by: Duration) {
        self.wires.delay_millis.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn light_is_on(&self) -> bool {
        self.wires.light.load(Relaxed)
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        self.wires.cut.store(true, Relaxed);
        // Wakes the thread that listens, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

impl Wires {
    fn serve(&self, mut stream: TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut line)?;
        thread::sleep(Duration::from_millis(self.delay_millis.load(Relaxed)));
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match self.answer(&words) {
            Ok(answer) => answer,
            Err(error) => format!("refused: {error:#}"),
        };
        Ok(writeln!(stream, "{answer}")?)
    }

    fn answer(&self, words: &[&str]) -> Result<String> {
        let machine = self.machine.upgrade().context("the machine is gone")?;
        let lies = self.lies.load(Relaxed);
        match words {
            ["get", "power"] => Ok(format!("power:{}", u8::from(!lies && lock(&machine).is_on()))),
            ["get", "boot"] => Ok(format!("boot:{}", word(lock(&machine).boots_first()))),
            ["set", ..] if lies => Ok("ok".into()),
            ["set", order @ ..] => self.carry_out(order, &mut lock(&machine)).map(|()| "ok".into()),
            _ => bail!("{words:?} is no order"),
        }
    }

    fn carry_out(&self, order: &[&str], machine: &mut Chassis) -> Result<()> {
        match order {
            ["power", "0"] => machine.power_off(),
            // Asked for what is so already, a BMC says yes.
            ["power", "1"] if machine.is_on() => {}
            ["power", "1"] => machine.power_on()?,
            ["reset", _] => machine.reset()?,
            ["shutdown", _] => machine.press_briefly()?,
            ["boot", from] => machine.boot_first(boot_from(from)?.map(|from| First { from, once: true })),
            ["boot-always", from] => {
                machine.boot_first(boot_from(from)?.map(|from| First { from, once: false }));
            }
            ["identify", seconds, force] => self.light.store(*seconds != "0" || *force == "1", Relaxed),
            _ => bail!("{order:?} is no order"),
        }
        Ok(())
    }
}

/// `default` is the disk that is tried by default (IPMI 2.0, table 28-14).
fn boot_from(word: &str) -> Result<Option<BootFrom>> {
    Ok(match word {
        "none" => None,
        "pxe" => Some(BootFrom::Lan),
        "default" => Some(BootFrom::Disk),
        "cdrom" => Some(BootFrom::Medium),
        _ => bail!("a machine of the lab cannot boot from {word:?}"),
    })
}

fn word(from: Option<BootFrom>) -> &'static str {
    match from {
        None => "none",
        Some(BootFrom::Lan) => "pxe",
        Some(BootFrom::Disk) => "default",
        Some(BootFrom::Medium) => "cdrom",
    }
}

fn lock(machine: &Mutex<Chassis>) -> MutexGuard<'_, Chassis> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}
