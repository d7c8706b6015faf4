//! What machines in their initrd say on their own consoles: kept in memory for who looks, and nowhere else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet::{MachineId, Timestamp};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::broadcast;

use super::Line;

/// Of each machine; a whole boot with the kernel's words is less.
const KEPT: usize = 128 << 10;
/// Those that spoke last.
const MACHINES: usize = 64;
/// Pieces that one who looks may be behind.
const BEHIND: usize = 64;

#[derive(Default)]
pub struct Heard {
    tales: Mutex<BTreeMap<MachineId, Tale>>,
}

struct Tale {
    at: Timestamp,
    past: VecDeque<u8>,
    shown: broadcast::Sender<Arc<[u8]>>,
}

impl Tale {
    fn new(at: Timestamp) -> Tale {
        Tale { at, past: VecDeque::new(), shown: broadcast::Sender::new(BEHIND) }
    }
}

impl Heard {
    pub fn say(&self, machine: MachineId, lines: &[String], at: Timestamp) {
        let mut piece = Vec::new();
        for line in lines {
            // What a machine says is shown on a terminal, and is to write lines there and nothing else.
            let line = line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c });
            piece.extend(line.collect::<String>().into_bytes());
            piece.extend(b"\r\n");
        }
        let mut tales = self.lock();
        let tale = tales.entry(machine).or_insert_with(|| Tale::new(at));
        tale.at = at;
        tale.past.extend(&piece);
        let surplus = tale.past.len().saturating_sub(KEPT);
        tale.past.drain(..surplus);
        // Nobody may be looking just now.
        let _ = tale.shown.send(piece.into());
        while tales.len() > MACHINES {
            let silent = tales.iter().min_by_key(|(_, tale)| tale.at).map(|(machine, _)| *machine);
            let Some(silent) = silent else { break };
            tales.remove(&silent);
        }
    }

    /// What was said, and then what is; what is written to it goes nowhere.
    pub fn line(&self, machine: MachineId, now: Timestamp) -> Box<dyn Line> {
        let (past, shown) = {
            let mut tales = self.lock();
            let tale = tales.entry(machine).or_insert_with(|| Tale::new(now));
            (Vec::from(tale.past.clone()), tale.shown.subscribe())
        };
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        tokio::spawn(show(past, shown, ours));
        Box::new(theirs)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MachineId, Tale>> {
        self.tales.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when nobody reads any more, or with what is said.
async fn show(past: Vec<u8>, mut shown: broadcast::Receiver<Arc<[u8]>>, mut to: DuplexStream) {
    let mut piece: Arc<[u8]> = if past.is_empty() {
        Arc::from(&b"[nothing was heard of it yet; a machine speaks while it is in its initrd]\r\n"[..])
    } else {
        past.into()
    };
    while to.write_all(&piece).await.is_ok() {
        piece = match shown.recv().await {
            Ok(piece) => piece,
            Err(broadcast::error::RecvError::Lagged(_)) => Arc::from(&b"[some was left out]\r\n"[..]),
            Err(broadcast::error::RecvError::Closed) => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_has_bounds_and_no_escapes() {
        let heard = Heard::default();
        heard.say(MachineId(1), &["one\x1b]0;evil\x07".to_owned()], Timestamp(1));
        let mut line = heard.line(MachineId(1), Timestamp(1));
        let mut read = [0; 14];
        line.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"one ]0;evil \r\n");
        heard.say(MachineId(1), &["two".to_owned()], Timestamp(2));
        line.read_exact(&mut read[..5]).await.unwrap();
        assert_eq!(&read[..5], b"two\r\n");

        for _ in 0..5 {
            heard.say(MachineId(1), &["x".repeat(100 << 10)], Timestamp(3));
        }
        assert_eq!(heard.lock()[&MachineId(1)].past.len(), KEPT);
        for machine in 2..200 {
            heard.say(MachineId(machine), &["hello".to_owned()], Timestamp(machine));
        }
        assert_eq!(heard.lock().len(), MACHINES);
        assert!(heard.lock().contains_key(&MachineId(199)));
        assert!(!heard.lock().contains_key(&MachineId(1)));
    }
}
