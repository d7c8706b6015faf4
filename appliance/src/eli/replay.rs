//! `eli replay`: a log carried out again, in memory or on an appliance that is a rehearsal.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use fleet::{Fleet, digest, evolve, state_hash};

use super::client::{self, Client};
use super::history;
use super::settings::Settings;
use crate::api::history::Sum;
use crate::api::replay::{Replay as Request, Replayed};
use crate::core::{Line, What};

/// Lines that are sent at once.
const AT_ONCE: usize = 500;

#[derive(Args)]
pub struct Replay {
    /// What eli history export or compact has written; without it, the log of this appliance
    file: Option<PathBuf>,
    /// https://ADDRESS of an appliance that is a rehearsal, or memory
    #[arg(long, default_value = "memory")]
    into: String,
    /// Fingerprint of its certificate
    #[arg(long)]
    into_fingerprint: Option<String>,
    /// Token of a session there
    #[arg(long, env = "ELI_INTO_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
    into_token: Option<String>,
}

pub async fn replay(client: &Client, replay: Replay, settings: &Path) -> anyhow::Result<()> {
    let lines = match &replay.file {
        Some(file) => read(file)?,
        None => history::log(client).await?,
    };
    if replay.into == "memory" {
        return in_memory(&lines);
    }
    let target = target(&replay, settings)?;
    let before: Sum = target.get("/hash").await?;
    if before.position > 0 {
        eprintln!("{} has a log of {} events already", target.server, before.position);
    }
    let mut events = 0;
    for (batch, part) in lines.chunks(AT_ONCE).enumerate() {
        let request = Request { lines: part.to_vec() };
        let done: Replayed = target
            .ask("/replay", &request)
            .await
            .with_context(|| format!("lines {} to {}", batch * AT_ONCE + 1, batch * AT_ONCE + part.len()))?;
        events += done.events;
    }
    let after: Sum = target.get("/hash").await?;
    println!("{} lines came to {events} events in {}", lines.len(), target.server);
    println!("Position {}, state {}", after.position, after.hash);
    Ok(())
}

fn in_memory(lines: &[Line]) -> anyhow::Result<()> {
    let mut fleet = Fleet::default();
    let mut events = 0;
    for (number, line) in (1..).zip(lines) {
        let place = || match line.position {
            Some(position) => format!("position {position}"),
            None => format!("line {number}"),
        };
        let decided = line.what.decide(&fleet, line.at);
        let decided =
            decided.with_context(|| format!("{}: this version refuses what is in the log", place()))?;
        if line.digest.is_some_and(|recorded| recorded != digest(&decided)) {
            let sentences: Vec<String> = decided.iter().map(fleet::Event::sentence).collect();
            bail!(
                "{}: this version decides differently from the log: {}{}",
                place(),
                if sentences.is_empty() { "nothing happens".to_owned() } else { sentences.join("; ") },
                match &line.what {
                    What::Command(command) => format!("\n  {}", serde_json::to_string(command)?),
                    What::Event(_) => String::new(),
                }
            );
        }
        decided.iter().for_each(|event| evolve(&mut fleet, event));
        events += decided.len();
    }
    println!("{} lines came to {events} events, as they are in the log", lines.len());
    println!("State {}", state_hash(&fleet));
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Vec<Line>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| format!("line {number} of {}", file.display()))
        })
        .collect()
}

/// What is not given is taken from `eli login`, if that was there.
fn target(replay: &Replay, settings: &Path) -> anyhow::Result<Client> {
    let server = client::address(&replay.into)?;
    let kept = Settings::read(settings)?.filter(|kept| kept.server == server);
    let fingerprint =
        replay.into_fingerprint.clone().or_else(|| kept.as_ref().map(|kept| kept.fingerprint.clone()));
    let token = replay.into_token.clone().or_else(|| kept.map(|kept| kept.token));
    let fingerprint =
        fingerprint.with_context(|| format!("{server} is not known here; give --into-fingerprint"))?;
    let token = token.with_context(|| format!("nobody is logged in at {server}; give --into-token"))?;
    Client::new(server, fingerprint.parse()?, Some(token))
}
