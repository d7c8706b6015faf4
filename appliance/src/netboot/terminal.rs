//! What the terminal shows: a line for each step of each machine, calm enough to be read aloud.
//!
//! ```text
//! 14:02:11  52:54:00:12:34:56  UEFI firmware  offered 10.0.0.5, shimx64.efi
//! 14:02:14  52:54:00:12:34:56  TFTP shimx64.efi: 963152 bytes in 0.1 s
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pxe::step::{Outcome, Step};
use pxe::{MacAddr, Note};

/// Lines that are shown in one second; nobody reads more, and a flood must cost nothing.
const A_SECOND: u32 = 50;
/// A machine that does the same again within this time, as firmware does that repeats its DISCOVER, is shown once.
const AGAIN: Duration = Duration::from_secs(5);
/// Machines whose last line is remembered.
const REMEMBERED: usize = 1024;

/// Where lines go; clones share it.
#[derive(Clone)]
pub struct Terminal {
    lines: SyncSender<Line>,
    budget: Arc<Mutex<Budget>>,
    left_out: Arc<AtomicU64>,
}

struct Line {
    who: String,
    text: String,
}

struct Budget {
    since: Instant,
    left: u32,
}

impl Terminal {
    /// Starts the thread that writes, to `out`.
    pub fn start(out: impl std::io::Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, receiver) = sync_channel(1024);
        let left_out = Arc::new(AtomicU64::new(0));
        let of_thread = Arc::clone(&left_out);
        std::thread::Builder::new()
            .name("terminal".to_owned())
            .spawn(move || write(out, &receiver, &of_thread))?;
        let budget = Arc::new(Mutex::new(Budget { since: Instant::now(), left: A_SECOND }));
        Ok(Self { lines, budget, left_out })
    }

    /// Says something of the server itself.
    pub fn say(&self, text: impl Into<String>) {
        // The thread ends with the process.
        let _ = self.lines.send(Line { who: String::new(), text: text.into() });
    }

    /// Shows a step; `holder` knows whose an address is.
    pub fn note(&self, note: &Note, holder: impl FnOnce(Ipv4Addr) -> Option<MacAddr>) {
        if !self.may() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mac = note.mac.or_else(|| match note.address? {
            IpAddr::V4(address) => holder(address),
            IpAddr::V6(_) => None,
        });
        let who = match (mac, note.address) {
            (Some(mac), _) => mac.to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "somebody".to_owned(),
        };
        if self.lines.try_send(Line { who, text: text(&note.step) }).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn may(&self) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        if budget.left == 0 && budget.since.elapsed() >= Duration::from_secs(1) {
            *budget = Budget { since: Instant::now(), left: A_SECOND };
        }
        if budget.left == A_SECOND {
            budget.since = Instant::now();
        }
        let may = budget.left > 0;
        budget.left = budget.left.saturating_sub(1);
        may
    }
}

/// `UEFI firmware  offered 10.0.0.5, shimx64.efi`: which packet it was is to be seen from what came of it.
fn text(step: &Step) -> String {
    let Step::Dhcp { client, outcome, packet } = step else { return step.to_string() };
    let (said, file) = match outcome {
        Outcome::Offered { address, file } => (format!("offered {address}"), file),
        Outcome::Leased { address, file } => (format!("leased {address}"), file),
        Outcome::BootOnly { file } => ("boot information".to_owned(), file),
        Outcome::Silence { reason } | Outcome::Failed { reason } => {
            return format!("{client}  no answer to its {packet}: {reason}");
        }
        other => return format!("{client}  {other}"),
    };
    match file {
        Some(file) => format!("{client}  {said}, {file}"),
        None => format!("{client}  {said}"),
    }
}

fn write(mut out: impl std::io::Write, lines: &Receiver<Line>, left_out: &AtomicU64) {
    let mut last: BTreeMap<String, (String, Instant)> = BTreeMap::new();
    let mut said = Instant::now();
    loop {
        let line = lines.recv_timeout(Duration::from_millis(500));
        let mut shown = String::new();
        if said.elapsed() >= Duration::from_secs(1) {
            let more = left_out.swap(0, Ordering::Relaxed);
            if more > 0 {
                shown += &format!("{}  … and {more} more steps, too many to read\n", clock());
            }
            said = Instant::now();
        }
        match line {
            Ok(Line { who, text }) if who.is_empty() => shown += &format!("{}  {text}\n", clock()),
            Ok(Line { who, text }) => {
                let again =
                    last.get(&who).is_some_and(|(before, at)| *before == text && at.elapsed() < AGAIN);
                if !again {
                    shown += &format!("{}  {who}  {text}\n", clock());
                    if last.len() >= REMEMBERED {
                        last.clear();
                    }
                    last.insert(who, (text, Instant::now()));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !shown.is_empty() {
            // A terminal that is closed is no reason to leave machines alone.
            let _ = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
        }
    }
}

fn clock() -> String {
    jiff::Zoned::now().strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use pxe::dhcp::Kind;
    use pxe::step::Client;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn until(&self, words: &str) -> String {
            for _ in 0..500 {
                let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
                if text.contains(words) {
                    return text;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("{}", String::from_utf8_lossy(&self.0.lock().unwrap()));
        }
    }

    fn offered(last: u8) -> Note {
        let step = Step::Dhcp {
            packet: Kind::Discover,
            client: Client::Firmware { arch: 7 },
            outcome: Outcome::Offered {
                address: [10, 0, 0, last].into(),
                file: Some("shimx64.efi".to_owned()),
            },
        };
        Note { mac: Some(MacAddr([0x52, 0x54, 0, 0x12, 0x34, last])), address: None, step }
    }

    #[test]
    fn a_line_can_be_read_aloud_and_is_shown_once() {
        let page = Page::default();
        let terminal = Terminal::start(page.clone()).unwrap();
        terminal.note(&offered(5), |_| None);
        terminal.note(&offered(5), |_| None);
        let step = Step::Refused { what: "TFTP write".to_owned() };
        let from = Note { mac: None, address: Some(IpAddr::from([10, 0, 0, 5])), step };
        terminal.note(&from, |_| Some(MacAddr([2, 0, 0, 0, 0, 9])));
        terminal.say("end");
        let text = page.until("end\n");
        let lines: Vec<&str> = text.lines().map(|line| &line[8..]).collect();
        assert_eq!(
            lines,
            [
                "  52:54:00:12:34:05  UEFI firmware  offered 10.0.0.5, shimx64.efi",
                "  02:00:00:00:00:09  TFTP write",
                "  end"
            ]
        );
    }

    #[test]
    fn a_flood_is_counted_and_not_shown() {
        let page = Page::default();
        let terminal = Terminal::start(page.clone()).unwrap();
        for number in 0..10_000u32 {
            let mut note = offered(5);
            note.mac = Some(MacAddr([2, 0, 0, 0, (number >> 8) as u8, number as u8]));
            terminal.note(&note, |_| None);
        }
        let text = page.until("too many to read");
        assert!(text.lines().count() < 500, "{text}");
    }
}
