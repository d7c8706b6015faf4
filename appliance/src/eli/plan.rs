//! `eli plan -- COMMAND` and `eli apply`: what would be done, and doing exactly that.
//!
//! The appliance keeps nothing of a plan. It is kept here, beside what `eli login` has learned, and holds the commands
//! and the digest of what they come to.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser as _};
use fleet::document::Document;
use serde::{Deserialize, Serialize};

use super::client::{Client, PlanMade};
use super::document::{self, Format};
use super::ending::Own;
use super::table::plain;
use super::{Arguments, Command, Output, say, watch};
use crate::api::Changed;
use crate::api::document::PlannedDocument;
use crate::api::plan::{Apply as Request, Planned, Wanted, sentences};

/// Plans that are kept for `eli apply`; older ones are forgotten.
const KEPT: usize = 50;

/// Digits of a digest by which a kept plan is called.
const SHORT: usize = 12;

#[derive(Args)]
pub struct Plan {
    /// Also write the plan to a file, which eli apply takes wherever it is
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Any command of eli that changes something
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Args)]
pub struct Apply {
    /// A document, a plan's file, what eli plan called a plan, or - for a document on standard input
    what: String,
    /// Of the document, if its name does not say it
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// A plan as it is kept in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Where it was made.
    server: String,
    position: i64,
    #[serde(flatten)]
    request: Request,
}

pub async fn plan(client: &Client, plan: Plan, output: Output, settings: &Path) -> anyhow::Result<()> {
    let command_line = std::iter::once("eli").chain(plan.command.iter().map(String::as_str));
    let command = Arguments::try_parse_from(command_line).unwrap_or_else(|error| error.exit()).command;
    show(client, command, plan.out.as_deref(), output, settings).await
}

/// Shows what a command would do, and keeps that for `eli apply`.
pub async fn show(
    client: &Client,
    command: Command,
    out: Option<&Path>,
    output: Output,
    settings: &Path,
) -> anyhow::Result<()> {
    if watch::only_shows(&command) {
        return Err(Own::WronglyCalled("this changes nothing, so there is nothing to plan".to_owned()).into());
    }
    let client = client.planning();
    let planned = make(&client, command, settings).await?;
    let kept = keep(&client, &planned, settings)?;
    if let Some(out) = out {
        write(out, &kept.1)?;
    }
    if output.one(&planned, &kept.0)? {
        return Ok(());
    }
    tell(&planned);
    if planned.forecast.changes_nothing() {
        return Ok(());
    }
    println!(
        "Nothing was changed (position {}). Exactly this is done by\n  eli apply {}",
        planned.position, kept.0
    );
    Ok(())
}

/// What a command would do, by a client that only plans.
pub async fn make(client: &Client, command: Command, settings: &Path) -> anyhow::Result<Planned> {
    let made = match Box::pin(super::give(client, command, Output::Json, settings)).await {
        Ok(()) => bail!("this changes nothing, so there is nothing to plan"),
        Err(error) => error.downcast::<PlanMade>()?.0,
    };
    together(client, made).await
}

/// With `only_plan` a document is compared and nothing is done.
pub async fn apply(client: &Client, apply: Apply, only_plan: bool, settings: &Path) -> anyhow::Result<()> {
    if let Some(kept) = kept(&apply.what, settings)? {
        ensure!(!only_plan, "{} is a plan already", apply.what);
        ensure!(
            kept.server == client.server,
            "this plan was made at {}, and this is {}",
            kept.server,
            client.server
        );
        let done: Changed = client.send("POST", "/apply", &kept.request).await?;
        say(&done);
        return Ok(());
    }
    let document: Document = document::read(&apply.what, apply.format)?;
    let PlannedDocument { plan, left } = client.ask("/document", &document).await?;
    if plan.forecast.changes_nothing() && left.is_empty() {
        println!("Nothing had to be changed");
        return Ok(());
    }
    tell(&plan);
    if !only_plan && !plan.forecast.changes_nothing() {
        let request = request(&plan)?;
        let done: Changed = client.send("POST", "/apply", &request).await?;
        println!("Done: {} changes", done.changed.len());
    }
    for sentence in &left {
        println!("Stays different: {}", plain(sentence));
    }
    ensure!(left.is_empty(), "the site is not like {} yet", apply.what);
    Ok(())
}

/// Each of several was planned as if it were alone; one after another they may do something else.
async fn together(client: &Client, mut made: Vec<Planned>) -> anyhow::Result<Planned> {
    if made.len() == 1 {
        return made.pop().context("nothing was planned");
    }
    let steps = made.into_iter().flat_map(|planned| planned.forecast.steps);
    let commands = steps.map(|step| step.command).collect();
    client.ask("/plan", &Wanted { commands }).await
}

pub fn tell(planned: &Planned) {
    let forecast = &planned.forecast;
    for step in &forecast.steps {
        for effect in &step.effects {
            println!("Would do    {}: {}", plain(&effect.name), plain(&effect.sentence));
        }
        if let Some(refusal) = &step.refusal {
            println!("Refused     {}", plain(refusal));
        }
    }
    for placement in &forecast.placements {
        let address = placement.address.map(|address| format!(", {address}")).unwrap_or_default();
        println!("Placed      {} on {}{address}", plain(&placement.vm), plain(&placement.host));
    }
    for wait in &forecast.waiting {
        let hint = wait.hint.as_ref().map(|hint| format!(" -> {hint}")).unwrap_or_default();
        println!("Would wait  {}: {}", plain(&wait.name), plain(&format!("{}{hint}", wait.what)));
    }
    if forecast.changes_nothing() {
        println!("Nothing would have to be changed");
    }
}

fn request(planned: &Planned) -> anyhow::Result<Request> {
    if let Some((_, refusal)) = planned.forecast.refusal() {
        bail!("{refusal}");
    }
    Ok(Request {
        commands: planned.forecast.steps.iter().map(|step| step.command.clone()).collect(),
        digest: planned.forecast.digest.context("this plan cannot be applied")?,
        sentences: sentences(&planned.forecast),
    })
}

/// Keeps a plan and says what it is called.
fn keep(client: &Client, planned: &Planned, settings: &Path) -> anyhow::Result<(String, Kept)> {
    let request = request(planned)?;
    let name = request.digest.to_string().get(..SHORT).unwrap_or_default().to_owned();
    let kept = Kept { server: client.server.clone(), position: planned.position, request };
    let folder = folder(settings);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    write(&folder.join(format!("{name}.json")), &kept)?;
    forget_old(&folder);
    Ok((name, kept))
}

fn write(path: &Path, kept: &Kept) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(kept)?;
    std::fs::write(path, json + "\n").with_context(|| format!("writing {}", path.display()))
}

/// A plan by what it was called or by its file; None if this is no plan.
fn kept(what: &str, settings: &Path) -> anyhow::Result<Option<Kept>> {
    let called = what.len() >= 4 && what.bytes().all(|b| b.is_ascii_hexdigit()) && !Path::new(what).exists();
    let path = if called {
        let folder = folder(settings);
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let named = entries.filter(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(what))
        });
        let mut named: Vec<PathBuf> = named.collect();
        match (named.pop(), named.is_empty()) {
            (Some(path), true) => path,
            (Some(_), false) => bail!("{what} may be several plans; give more of its digits"),
            (None, _) => bail!("there is no plan {what} here; plan it again, or give its file"),
        }
    } else {
        PathBuf::from(what)
    };
    if what == "-" {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let is_plan =
        serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|json| json["digest"].is_string());
    if !is_plan {
        return Ok(None);
    }
    serde_json::from_str(&text).map(Some).with_context(|| format!("{} is not a plan", path.display()))
}

fn folder(settings: &Path) -> PathBuf {
    settings.with_file_name("plans")
}

fn forget_old(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut plans: Vec<_> =
        entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    plans.sort();
    let surplus = plans.len().saturating_sub(KEPT);
    for (_, path) in plans.into_iter().take(surplus) {
        // It is forgotten the next time.
        let _ = std::fs::remove_file(path);
    }
}
