//! Lines for a person who stands at the machine.
//!
//! /dev/console is only the last console of the kernel command line. A line goes to each of them, so that it is
//! read on the screen and on the serial line.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::fcntl::OFlag;

/// Lines that nobody has asked for yet; the oldest go.
const WAIT: usize = 1000;

static SAID: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

static CONSOLES: OnceLock<Vec<String>> = OnceLock::new();

/// From here on lines go to every console of the kernel instead of to stdout.
pub fn use_all() {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    // A second call changes nothing.
    let _ = CONSOLES.set(devices(&active));
}

/// Shows one line.
pub fn say(line: impl Display) {
    let line = line.to_string();
    {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_back(format!(" * {line}"));
        let surplus = said.len().saturating_sub(WAIT);
        said.drain(..surplus);
    }
    let line = format!(" * {line}\r\n");
    let consoles = CONSOLES.get().map(Vec::as_slice).unwrap_or_default();
    let mut shown = false;
    for console in consoles {
        // Non-blocking: a serial port that nobody listens to must not stop a machine.
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(console);
        shown |= file.is_ok_and(|mut file| file.write_all(line.as_bytes()).is_ok());
    }
    if !shown {
        // With stdout closed there is nobody left to tell.
        let _ = std::io::stdout().write_all(line.replace('\r', "").as_bytes());
    }
}

/// What was said since this was last asked.
pub fn said() -> Vec<String> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
}

/// Shows an error and its causes in one line.
pub fn say_error(error: &anyhow::Error) {
    say(format_args!("{error:#}"));
}

/// The kernel lists them as `tty0 ttyS0`.
fn devices(active: &str) -> Vec<String> {
    active.split_whitespace().map(|name| format!("/dev/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_console_of_the_kernel_is_used() {
        assert_eq!(devices("tty0 ttyS0\n"), ["/dev/tty0", "/dev/ttyS0"]);
        assert!(devices("").is_empty());
    }
}
