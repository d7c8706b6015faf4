//! Follows something until it is as it should be, and says on the way what it waits for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::client::{Client, NotReached};
use super::ending::Own;
use super::list;
use super::table::plain;
use crate::api::Wait;
use crate::api::state::State;

const EVERY: Duration = Duration::from_secs(1);
/// The appliance restarts, a cable is moved: that is not the end of what goes on there.
const PATIENCE: Duration = Duration::from_secs(120);

/// Prints what changes, with the seconds since the start before it; on a terminal a line below tells that it goes on.
pub struct Reporter {
    start: Instant,
    line: ProgressBar,
    said: BTreeMap<String, String>,
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

impl Reporter {
    pub fn start() -> Reporter {
        // Nothing is drawn where standard error is no terminal.
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed}  {msg}") {
            line.set_style(style);
        }
        line.enable_steady_tick(Duration::from_millis(200));
        Reporter { start: Instant::now(), line, said: BTreeMap::new() }
    }

    /// The last line of all.
    pub fn end(self, sentence: &str) {
        self.line.finish_and_clear();
        println!("{} ({} s)", plain(sentence), self.start.elapsed().as_secs());
    }

    pub fn say(&mut self, name: &str, text: &str) {
        if self.said.get(name).is_some_and(|said| said == text) {
            return;
        }
        let secs = self.start.elapsed().as_secs();
        self.line.suspend(|| println!("{secs:>5} s  {}: {}", plain(name), plain(text)));
        self.line.set_message(format!("{}: {}", plain(name), plain(text)));
        self.said.insert(name.to_owned(), text.to_owned());
    }

    pub fn say_state(&mut self, name: &str, phase: &str, waiting: &[Wait]) {
        let waits = list::waits(waiting);
        self.say(
            name,
            &if waits.is_empty() { phase.to_owned() } else { format!("{phase}, {}", waits.join("; ")) },
        );
    }
}

/// Asks for the state again and again until `done` has an answer.
pub async fn follow<T>(
    client: &Client,
    limit: Duration,
    mut done: impl FnMut(&State) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    let mut reached = Instant::now();
    loop {
        match client.get::<State>("/state").await {
            Ok(state) => {
                reached = Instant::now();
                if let Some(answer) = done(&state)? {
                    return Ok(answer);
                }
            }
            Err(error) if error.downcast_ref::<NotReached>().is_some() && reached.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
        }
        if start.elapsed() > limit {
            let sentence =
                format!("that took longer than {} s; it goes on without being watched", limit.as_secs());
            return Err(Own::TimedOut(sentence).into());
        }
        tokio::time::sleep(EVERY).await;
    }
}

pub async fn until_running(client: &Client, id: &str, limit: Duration) -> anyhow::Result<()> {
    let mut reporter = Reporter::start();
    let address = follow(client, limit, |state| {
        let vm = state.vms.iter().find(|vm| vm.id.to_string() == id).context("it was deleted meanwhile")?;
        reporter.say_state(&vm.name, &vm.phase, &vm.waiting);
        Ok((vm.phase == "running").then_some(vm.address))
    })
    .await?;
    if let Some(address) = address {
        reporter.end(&format!("{id} runs at {address}"));
    }
    Ok(())
}
