//! `eli machine power|bmc|reimage|check|identify …`, `eli host fence|unfence|fail …`: machines as a whole.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::client::Client;
use super::nouns::{HowInstalled, Names, each, segment};
use super::say;
use crate::api::machines::Machine as Found;

#[derive(Args)]
pub struct Switch {
    action: Action,
    #[command(flatten)]
    names: Names,
    /// Whatever runs on it
    #[arg(long)]
    force: bool,
}

impl Switch {
    /// Whether what runs on the machine ends by it.
    pub fn cuts(&self) -> bool {
        !matches!(self.action, Action::On)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    On,
    /// At once, as if its plug was pulled
    Off,
    /// Off, and when that is proven, on
    Cycle,
}

#[derive(Args)]
pub struct Bmc {
    name: String,
    /// redfish, ipmi, or the name of a fence agent such as fence_apc_snmp; without it the BMC is shown
    #[arg(requires = "address")]
    kind: Option<String>,
    /// HOST or HOST:PORT
    address: Option<String>,
    #[arg(long)]
    user: Option<String>,
    /// The password is read from this file, or with - from standard input; it is asked for if a user is given alone
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// What else a fence agent is told: plug=3
    #[arg(long, value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Set it although it does not answer as it should
    #[arg(long)]
    force: bool,
    /// Forget the BMC and its login
    #[arg(long, conflicts_with_all = ["kind", "address", "user", "password_file", "option", "force"])]
    pub remove: bool,
}

#[derive(Args)]
pub struct Reimage {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    how: HowInstalled,
    /// Forget the VMs that are still on it
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub struct Fence {
    #[command(flatten)]
    names: Names,
    /// For the log
    #[arg(long)]
    why: Option<String>,
    /// You have seen that it is off: nothing is switched
    #[arg(long)]
    off: bool,
}

#[derive(Args)]
pub struct Unfence {
    #[command(flatten)]
    names: Names,
    /// Leave it off
    #[arg(long)]
    stay_off: bool,
}

pub async fn switch(client: &Client, Switch { action, names, force }: Switch) -> anyhow::Result<()> {
    let action = action.to_possible_value().context("an action without a name")?.get_name().to_owned();
    let order = json!({ "action": action, "force": force });
    each(names, async |name| client.send("POST", &path(name, "power"), &order).await).await
}

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    names: Names,
    /// End one that goes on
    #[arg(long)]
    stop: bool,
}

pub async fn check(client: &Client, Check { names, stop }: Check) -> anyhow::Result<()> {
    each(names, async |name| client.send("POST", &path(name, "check"), &json!({ "on": !stop })).await).await
}

pub async fn identify(client: &Client, names: Names, on: bool) -> anyhow::Result<()> {
    each(names, async |name| client.send("POST", &path(name, "identify"), &json!({ "on": on })).await).await
}

pub async fn bmc(client: &Client, bmc: Bmc) -> anyhow::Result<()> {
    let path = path(&bmc.name, "bmc");
    if bmc.remove {
        say(&client.delete(&path).await?);
        return Ok(());
    }
    let Some(kind) = &bmc.kind else { return show(client, &bmc.name).await };
    let password = password_of(bmc.password_file.as_deref(), bmc.user.as_deref())?;
    let options = options(&bmc.option)?;
    let order = json!({
        "kind": kind,
        "address": bmc.address,
        "user": bmc.user,
        "password": password,
        "options": options,
        "force": bmc.force,
    });
    say(&client.send("PUT", &path, &order).await?);
    Ok(())
}

/// From where it is said to be, or asked for; none if there is no user either.
pub(super) fn password_of(file: Option<&str>, user: Option<&str>) -> anyhow::Result<Option<String>> {
    match (file, user) {
        (Some(file), _) => read_password(file).map(Some),
        (None, Some(user)) if std::io::stdin().is_terminal() => {
            super::login::ask_hidden(&format!("Password of {user}: ")).map(Some)
        }
        (None, Some(_)) => {
            anyhow::bail!("say where the password is: --password-file FILE, or - to read it here")
        }
        (None, None) => Ok(None),
    }
}

pub(super) fn options(words: &[String]) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    let mut options = serde_json::Map::new();
    for option in words {
        let (key, value) = option.split_once('=').context("an option is KEY=VALUE")?;
        options.insert(key.to_owned(), value.into());
    }
    Ok(options)
}

fn read_password(file: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    match file {
        "-" => std::io::stdin().read_to_string(&mut text).context("reading the password")?,
        path => {
            text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
            text.len()
        }
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

async fn show(client: &Client, name: &str) -> anyhow::Result<()> {
    let machine: Found = client.get(&format!("/machines/{}", segment(name))).await?;
    let Some(bmc) = machine.bmc else {
        println!("No BMC of {} is known", machine.name);
        return Ok(());
    };
    println!("{} at {}", bmc.kind, bmc.address);
    if let Some(pin) = bmc.pin {
        println!("Certificate  {pin}");
    }
    match (bmc.trouble, machine.power) {
        (Some(trouble), _) => println!("Trouble      {trouble}"),
        (None, Some(power)) => println!("Power        {}", power.is),
        (None, None) => println!("Power        not asked yet"),
    }
    Ok(())
}

pub async fn reimage(client: &Client, Reimage { names, how, force }: Reimage) -> anyhow::Result<()> {
    each(names, async |name| {
        let machine: Found = client.get(&format!("/machines/{}", segment(name))).await?;
        let own = || machine.system_disk.clone();
        let wipe: Vec<String> =
            if how.wipe { how.disk.clone().or_else(own).into_iter().collect() } else { Vec::new() };
        let order = json!({ "wipe": wipe, "profile": how.profile, "disk": how.disk, "force": force });
        client.send("POST", &path(name, "reimage"), &order).await
    })
    .await
}

pub async fn fence(client: &Client, Fence { names, why, off }: Fence) -> anyhow::Result<()> {
    let order = json!({ "why": why, "off": off });
    each(names, async |name| client.send("POST", &path(name, "fence"), &order).await).await
}

pub async fn unfence(client: &Client, Unfence { names, stay_off }: Unfence) -> anyhow::Result<()> {
    let order = json!({ "on": !stay_off });
    each(names, async |name| client.send("POST", &path(name, "unfence"), &order).await).await
}

fn path(name: &str, what: &str) -> String {
    format!("/machines/{}/{what}", segment(name))
}
