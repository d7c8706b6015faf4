//! Tells the appliance what this machine's console says, so that nobody has to stand before it: what the kernel says,
//! and what we do.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use fleet::wire::Said;
use nix::fcntl::OFlag;
use nix::libc;
use reqwest::StatusCode;

use crate::client::{Client, ClientError};
use crate::console;

/// How often it is told.
const OFTEN: Duration = Duration::from_secs(1);
/// Lines that are told at once; what is left is told next.
const MOST: usize = 400;
/// Lines that wait while the appliance does not hear; then the oldest go.
const WAIT: usize = 2000;

/// Tells for as long as the machine is in its initrd.
pub async fn tell(client: Client) {
    let mut kernel = Kernel::open();
    let mut waiting: Vec<String> = Vec::new();
    loop {
        waiting.extend(kernel.lines());
        waiting.extend(console::said());
        let surplus = waiting.len().saturating_sub(WAIT);
        waiting.drain(..surplus);
        if !waiting.is_empty() {
            let said = Said { lines: waiting.iter().take(MOST).cloned().collect() };
            match client.said(&said).await {
                Ok(()) => drop(waiting.drain(..said.lines.len())),
                // An appliance of before does not want to hear it.
                Err(ClientError::Refused { status: StatusCode::NOT_FOUND, .. }) => return,
                // It is told again; what is wrong is said by who reports.
                Err(_) => {}
            }
        }
        if waiting.len() < MOST {
            tokio::time::sleep(OFTEN).await;
        }
    }
}

/// What the kernel has said since it started, and says.
struct Kernel(Option<File>);

impl Kernel {
    fn open() -> Self {
        let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/kmsg");
        // A machine whose kernel cannot be heard says the rest all the same.
        Self(file.ok())
    }

    fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(file) = &mut self.0 else { return lines };
        // A read is a line, and fails where it has no room for it.
        let mut record = [0; 8 << 10];
        while lines.len() < WAIT {
            match file.read(&mut record) {
                Ok(length) => lines.extend(line(&String::from_utf8_lossy(&record[..length]))),
                // Lines that we were too slow for are gone; the next is there.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        lines
    }
}

/// `6,339,5140900,-;NET: Registered PF_INET6` (Documentation/ABI/testing/dev-kmsg) as the console shows it. What is
/// only for debugging is not on it either.
fn line(record: &str) -> Option<String> {
    let (facts, text) = record.split_once(';')?;
    let mut facts = facts.split(',');
    let level: u32 = facts.next()?.parse().ok()?;
    let micros: u64 = facts.nth(1)?.parse().ok()?;
    if level & 7 == 7 {
        return None;
    }
    let text = text.lines().next().unwrap_or_default();
    Some(format!("[{:5}.{:06}] {text}", micros / 1_000_000, micros % 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_lines_are_as_on_its_console() {
        assert_eq!(
            line("6,339,5140900,-;NET: Registered PF_INET6\n SUBSYSTEM=net\n").unwrap(),
            "[    5.140900] NET: Registered PF_INET6"
        );
        assert_eq!(line("7,1,5,-;only for debugging\n"), None);
        assert_eq!(line("30,1,5,-;systemd[1]: hello\n").unwrap(), "[    0.000005] systemd[1]: hello");
        for strange in ["", ";", "x,1,2,-;a", "6;a", "6,1;a"] {
            assert_eq!(line(strange), None, "{strange}");
        }
    }
}
