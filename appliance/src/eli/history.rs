//! `eli history`, `eli state`: the log, and what it comes to.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use fleet::{Fleet, Timestamp, evolve, state_hash};

use super::Output;
use super::client::Client;
use super::table::Table;
use crate::api::history::{Compacted, Full, Lines, Sum, Told};
use crate::core::Line;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct History {
    #[command(subcommand)]
    what: Option<What>,
    /// Events after this position; without it, the last ones
    #[arg(long)]
    after: Option<i64>,
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

#[derive(Subcommand)]
enum What {
    /// An event and the command that it came from
    Show { position: i64 },
    /// A shorter list of commands that comes to the same state
    Compact {
        /// Write it to this file, a command a line
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// The whole log as commands with their times, to be replayed
    Export {
        /// Write it to this file, a command a line
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

impl History {
    pub fn lists(&self) -> bool {
        self.what.is_none()
    }
}

pub async fn history(client: &Client, history: History, output: Output) -> anyhow::Result<()> {
    match history.what {
        None => {
            let after = history.after.map(|after| format!("after={after}&")).unwrap_or_default();
            tell(&client.list(&format!("/history?{after}limit={}", history.limit)).await?, output)
        }
        Some(What::Show { position }) => {
            let full: Full = client.get(&format!("/history/{position}")).await?;
            output.document(&full)
        }
        Some(What::Compact { out }) => compact(client, out.as_deref()).await,
        Some(What::Export { out }) => {
            let lines = log(client).await?;
            write(&lines, out.as_deref())
        }
    }
}

pub async fn state(client: &Client, at: Option<&str>, output: Output) -> anyhow::Result<()> {
    let at = at.map(|at| format!("?at={}", at.replace('+', "%2B"))).unwrap_or_default();
    let sum: Sum = client.get(&format!("/hash{at}")).await?;
    if output.one(&sum, &sum.hash.to_string())? {
        return Ok(());
    }
    println!("Position {}, state {}", sum.position, sum.hash);
    Ok(())
}

fn tell(events: &[Told], output: Output) -> anyhow::Result<()> {
    if output.list(events, |event| event.position.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["POSITION", "TIME", "ACTOR", "OF", "WHAT"]);
    for event in events {
        let of =
            event.name.as_ref().map_or(event.subject.clone(), |name| format!("{name} ({})", event.subject));
        let of = if event.name.as_ref() == Some(&event.subject) { event.subject.clone() } else { of };
        let cells = vec![
            event.position.to_string(),
            local(event.at),
            event.actor.clone(),
            of,
            event.sentence.clone(),
        ];
        table.row(cells, Vec::new());
    }
    table.print("Nothing has happened yet.");
    Ok(())
}

async fn compact(client: &Client, out: Option<&Path>) -> anyhow::Result<()> {
    let short: Compacted = client.get("/log/compacted").await?;
    let mut fleet = Fleet::default();
    for line in &short.lines {
        let events = line.what.decide(&fleet, line.at).context("the compacted log cannot be replayed")?;
        events.iter().for_each(|event| evolve(&mut fleet, event));
    }
    let hash = state_hash(&fleet);
    eprintln!("{} commands instead of {} events", short.lines.len(), short.sum.position);
    eprintln!("State of the log        {}", short.sum.hash);
    eprintln!("State of the short log  {hash}");
    anyhow::ensure!(hash == short.sum.hash, "they are not the same");
    match out {
        Some(_) => write(&short.lines, out),
        None => Ok(()),
    }
}

/// The whole log of the appliance.
pub async fn log(client: &Client) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut after = 0;
    loop {
        let page: Lines = client.get(&format!("/log?after={after}")).await?;
        lines.extend(page.lines);
        if !page.more {
            return Ok(lines);
        }
        after = page.next;
    }
}

fn write(lines: &[Line], out: Option<&Path>) -> anyhow::Result<()> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(line)?;
        text.push('\n');
    }
    match out {
        Some(out) => std::fs::write(out, text).with_context(|| format!("writing {}", out.display())),
        None => Ok(std::io::stdout().write_all(text.as_bytes())?),
    }
}

/// By the clock of this place: `2026-11-21 14:27:29 +01:00`.
pub fn local(at: Timestamp) -> String {
    let at = i64::try_from(at.0).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    at.map_or_else(String::new, |at| {
        at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
    })
}
