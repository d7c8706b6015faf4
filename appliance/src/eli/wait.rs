//! Follows something until it is as it should be, and says on the way what it waits for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::client::{Client, NotReached};
use super::list;
use super::table::plain;
use crate::api::Wait;
use crate::api::state::State;

const EVERY: Duration = Duration::from_secs(1);
/// The appliance restarts, a cable is moved: that is not the end of what goes on there.
const PATIENCE: Duration = Duration::from_secs(120);

/// Prints what changes, with the seconds since the start before it.
pub struct Reporter {
    start: Instant,
    said: BTreeMap<String, String>,
}

impl Reporter {
    pub fn start() -> Reporter {
        Reporter { start: Instant::now(), said: BTreeMap::new() }
    }

    pub fn secs(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    pub fn say(&mut self, name: &str, text: &str) {
        if self.said.get(name).is_some_and(|said| said == text) {
            return;
        }
        println!("{:>5} s  {}: {}", self.secs(), plain(name), plain(text));
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
            bail!("that took longer than {} s; it goes on without being watched", limit.as_secs());
        }
        tokio::time::sleep(EVERY).await;
    }
}

pub async fn until_running(client: &Client, id: &str) -> anyhow::Result<()> {
    let mut reporter = Reporter::start();
    let address = follow(client, Duration::from_secs(1800), |state| {
        let vm = state.vms.iter().find(|vm| vm.id.to_string() == id).context("it was deleted meanwhile")?;
        reporter.say_state(&vm.name, &vm.phase, &vm.waiting);
        Ok((vm.phase == "running").then_some(vm.address))
    })
    .await?;
    if let Some(address) = address {
        println!("{id} runs at {address} ({} s)", reporter.secs());
    }
    Ok(())
}
