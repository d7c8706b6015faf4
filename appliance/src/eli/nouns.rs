//! `eli NOUN VERB NAME…`: commands about things by id or name. `-` reads names from standard input, one a line.

use std::collections::VecDeque;
use std::io::BufRead as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use fleet::Mac;
use fleet::machine::Once;
use fleet::switch::Plugged;
use serde_json::json;

use super::client::{Client, PlanMade};
use super::complete;
use super::ending::Own;
use super::{Output, erase, list, power, say, strips};
use crate::api::Changed;
use crate::api::machines::Machine as Found;

/// Ids or names of what a command is about.
#[derive(Args)]
pub struct Names {
    /// Ids or names; `-` reads them from standard input, one a line
    #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(complete::names))]
    names: Vec<String>,
}

#[derive(Args)]
pub struct Remove {
    #[command(flatten)]
    names: Names,
    /// Whatever is in the way; what is left over is listed
    #[arg(long)]
    force: bool,
}

/// What is put on a machine, and where.
#[derive(Args)]
pub struct HowInstalled {
    /// Wipe the disk although it holds data
    #[arg(long)]
    pub wipe: bool,
    /// With what; eli profile list shows them. Our own host, if it is not said
    #[arg(long)]
    pub profile: Option<String>,
    /// Serial or path of the disk; chosen by itself, if it is not said
    #[arg(long)]
    pub disk: Option<String>,
}

#[derive(Subcommand)]
pub enum Machine {
    /// What it boots at its next start, and only then
    Boot {
        #[arg(add = ArgValueCompleter::new(complete::names))]
        name: String,
        what: Next,
    },
    /// Install a found machine: our own host, or the system of a profile
    Install {
        #[command(flatten)]
        names: Names,
        #[command(flatten)]
        how: HowInstalled,
    },
    /// Install it again: a host, or the system of a profile
    Reimage(power::Reimage),
    /// Erase its disks; a certificate says what was done
    Erase(erase::Erase),
    /// What was erased of it, signed
    Erasure(erase::Erasure),
    /// Read its disks from end to end; nothing on them is changed
    Check(power::Check),
    /// It leaves for good, and is not taken up again by itself
    Retire(Names),
    /// Take a retired machine back
    Unretire(Names),
    /// Switch it on, off, or off and on, by its BMC or its power strip
    Power(power::Switch),
    /// Show or set what switches its power, and the login for it
    Bmc(power::Bmc),
    /// The outlets of power strips that it is plugged into: a second way to cut it off
    #[command(subcommand)]
    Strip(strips::Strip),
    /// Light its identify LED
    Identify(Names),
    /// Put its identify LED out
    Dark(Names),
    /// Stop what goes on with it; it is left alone until it is adopted
    Cancel(Names),
    /// Forget it
    Remove(Remove),
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Next {
    /// A shell of ours over the network, on its screen and on its serial port
    Rescue,
    /// The memory test
    Memtest,
    /// Over the network, to report what it is
    Network,
    /// Its own disk
    Disk,
    /// Nothing but what it would boot anyway
    Usual,
}

#[derive(Subcommand)]
pub enum Host {
    /// Place no new VM on it
    Drain(Names),
    /// Place VMs on it again
    Undrain(Names),
    /// Cut it off by its BMC or its power strip; then what ran on it can run elsewhere
    Fence(power::Fence),
    /// Switch a fenced host on and let it run again
    Unfence(power::Unfence),
    /// What would come of it if it hung: only with eli plan -- host fail NAME
    Fail(Names),
    /// Forget it; with --force together with all that is on it
    Remove(Remove),
}

#[derive(Subcommand)]
pub enum Service {
    /// Stop its installation or its removal
    Cancel(Names),
    /// Remove it and its VM
    Remove(Remove),
}

#[derive(Subcommand)]
pub enum Package {
    /// Keep it no longer
    Remove(Remove),
}

#[derive(Subcommand)]
pub enum Rack {
    /// Add a rack
    Add {
        name: String,
        #[arg(long, default_value_t = 42)]
        units: u32,
    },
    /// Remove racks
    Remove(Remove),
    /// Racks, and what stands in them
    List,
    /// Put a machine or switch into a rack, or move it
    Place {
        /// Machine by id or name, or switch by name
        #[arg(add = ArgValueCompleter::new(complete::names))]
        what: String,
        rack: String,
        /// The lowest that it takes, counted from 1 at the bottom
        unit: u32,
        #[arg(long, default_value_t = 1)]
        height: u32,
    },
    /// Take machines or switches out of their racks
    Unplace(Names),
}

#[derive(Subcommand)]
pub enum Switch {
    /// Add a switch that does not speak LLDP, or before it does
    Add {
        name: String,
        /// So many ports, named 1, 2, 3 …
        #[arg(long, default_value_t = 0)]
        ports: u32,
        /// A port by its name; may be given again
        #[arg(long, value_name = "NAME")]
        port: Vec<String>,
    },
    /// Remove switches
    Remove(Remove),
    /// Switches, and what is in their ports
    List,
    /// Say what is plugged into a port
    Plug {
        switch: String,
        port: String,
        #[command(flatten)]
        what: What,
    },
    /// Say that a port is empty
    Unplug { switch: String, port: String },
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// A machine with one NIC, by id or name
    #[arg(long)]
    machine: Option<String>,
    /// A machine's NIC
    #[arg(long)]
    mac: Option<Mac>,
    /// A port of another switch
    #[arg(long, num_args = 2, value_names = ["SWITCH", "PORT"])]
    to: Option<Vec<String>>,
    /// Anything else
    #[arg(long)]
    note: Option<String>,
}

pub async fn machine(client: &Client, verb: Machine, output: Output) -> anyhow::Result<()> {
    match verb {
        Machine::Boot { name, what } => {
            let once = match what {
                Next::Rescue => Some(Once::Rescue),
                Next::Memtest => Some(Once::Memtest),
                Next::Network => Some(Once::Network),
                Next::Disk => Some(Once::Disk),
                Next::Usual => None,
            };
            let path = format!("/machines/{}/boot", segment(&name));
            say(&client.send("POST", &path, &json!({ "once": once })).await?);
            Ok(())
        }
        Machine::Install { names, how } => {
            each(names, async |name| super::adopt(client, name, &how).await).await
        }
        Machine::Reimage(reimage) => power::reimage(client, reimage).await,
        Machine::Erase(erase) => erase::erase(client, erase).await,
        Machine::Erasure(erasure) => erase::show(client, erasure, output).await,
        Machine::Check(check) => power::check(client, check).await,
        Machine::Retire(names) => post(client, names, "machines", "retire").await,
        Machine::Unretire(names) => post(client, names, "machines", "unretire").await,
        Machine::Power(switch) => power::switch(client, switch).await,
        Machine::Bmc(bmc) => power::bmc(client, bmc).await,
        Machine::Strip(verb) => strips::strip(client, verb).await,
        Machine::Identify(names) => power::identify(client, names, true).await,
        Machine::Dark(names) => power::identify(client, names, false).await,
        Machine::Cancel(names) => post(client, names, "machines", "cancel").await,
        Machine::Remove(remove) => self::remove(client, remove, "machines").await,
    }
}

pub async fn host(client: &Client, verb: Host) -> anyhow::Result<()> {
    match verb {
        Host::Drain(names) => post(client, names, "hosts", "drain").await,
        Host::Undrain(names) => post(client, names, "hosts", "undrain").await,
        Host::Fence(fence) => power::fence(client, fence).await,
        Host::Unfence(unfence) => power::unfence(client, unfence).await,
        Host::Fail(names) => post(client, names, "hosts", "fail").await,
        Host::Remove(remove) => self::remove(client, remove, "machines").await,
    }
}

pub async fn service(client: &Client, verb: Service) -> anyhow::Result<()> {
    match verb {
        Service::Cancel(names) => post(client, names, "services", "cancel").await,
        Service::Remove(remove) => self::remove(client, remove, "services").await,
    }
}

pub async fn package(client: &Client, verb: Package) -> anyhow::Result<()> {
    let Package::Remove(remove) = verb;
    self::remove(client, remove, "packages").await
}

pub async fn rack(client: &Client, verb: Rack, output: Output) -> anyhow::Result<()> {
    match verb {
        Rack::Add { name, units } => {
            say(&client.send("POST", "/racks", &json!({ "name": name, "units": units })).await?);
            Ok(())
        }
        Rack::Remove(remove) => self::remove(client, remove, "racks").await,
        Rack::List => list::racks(&client.list("/racks").await?, output),
        Rack::Place { what, rack, unit, height } => {
            let path = format!("/{}/{}/place", holder(client, &what).await?, segment(&what));
            say(&client.send("PUT", &path, &json!({ "rack": rack, "unit": unit, "height": height })).await?);
            Ok(())
        }
        Rack::Unplace(names) => {
            each(names, async |name| {
                client.delete(&format!("/{}/{}/place", holder(client, name).await?, segment(name))).await
            })
            .await
        }
    }
}

pub async fn switch(client: &Client, verb: Switch, output: Output) -> anyhow::Result<()> {
    match verb {
        Switch::Add { name, ports, port } => {
            let ports: Vec<String> = (1..=ports).map(|number| number.to_string()).chain(port).collect();
            say(&client.send("POST", "/switches", &json!({ "name": name, "ports": ports })).await?);
            Ok(())
        }
        Switch::Remove(remove) => self::remove(client, remove, "switches").await,
        Switch::List => list::switches(&client.list("/switches").await?, output),
        Switch::Plug { switch, port, what } => {
            let what = plugged(client, what).await?;
            let path = format!("/switches/{}/plug", segment(&switch));
            say(&client.send("POST", &path, &json!({ "port": port, "what": what })).await?);
            Ok(())
        }
        Switch::Unplug { switch, port } => {
            let path = format!("/switches/{}/unplug", segment(&switch));
            say(&client.send("POST", &path, &json!({ "port": port })).await?);
            Ok(())
        }
    }
}

async fn plugged(client: &Client, what: What) -> anyhow::Result<Plugged> {
    if let Some(mac) = what.mac {
        return Ok(Plugged::Nic { mac });
    }
    if let Some(text) = what.note {
        return Ok(Plugged::Note { text });
    }
    if let Some(mut to) = what.to.map(VecDeque::from)
        && let (Some(switch), Some(port)) = (to.pop_front(), to.pop_front())
    {
        return Ok(Plugged::Port { switch, port });
    }
    let name = what.machine.context("say what is plugged in")?;
    let machines: Vec<Found> = client.list("/machines").await?;
    let machine = machines.iter().find(|machine| machine.id.to_string() == name || machine.name == name);
    let machine = machine.ok_or_else(|| Own::missing("machine", &name))?;
    match machine.macs.as_slice() {
        [mac] => Ok(Plugged::Nic { mac: *mac }),
        macs => {
            let macs: Vec<String> = macs.iter().map(ToString::to_string).collect();
            anyhow::bail!("{name} has the NICs {}; say which by --mac", macs.join(", "))
        }
    }
}

/// `machines` or `switches`: where something of this name is.
async fn holder(client: &Client, name: &str) -> anyhow::Result<&'static str> {
    let machines: Vec<Found> = client.list("/machines").await?;
    let machine = machines.iter().any(|machine| machine.id.to_string() == name || machine.name == name);
    Ok(if machine { "machines" } else { "switches" })
}

pub async fn post(client: &Client, names: Names, noun: &str, verb: &str) -> anyhow::Result<()> {
    each(names, async |name| {
        client.send("POST", &format!("/{noun}/{}/{verb}", segment(name)), &json!({})).await
    })
    .await
}

pub async fn remove(client: &Client, Remove { names, force }: Remove, noun: &str) -> anyhow::Result<()> {
    let query = if force { "?force=true" } else { "" };
    each(names, async |name| client.delete(&format!("/{noun}/{}{query}", segment(name))).await).await
}

/// One after another; what is refused for one does not keep the others from it.
pub async fn each(
    names: Names,
    carry_out: impl AsyncFn(&str) -> anyhow::Result<Changed>,
) -> anyhow::Result<()> {
    let names = names.read()?;
    let alone = names.len() == 1;
    let mut refused = 0;
    let mut plans = Vec::new();
    for name in &names {
        match carry_out(name).await {
            Ok(changed) => say(&changed),
            Err(error) if alone => return Err(error),
            Err(error) => match error.downcast::<PlanMade>() {
                Ok(PlanMade(made)) => plans.extend(made),
                Err(error) => {
                    eprintln!("eli: {name}: {error:#}");
                    refused += 1;
                }
            },
        }
    }
    anyhow::ensure!(refused == 0, "{refused} of {} were refused", names.len());
    if !plans.is_empty() {
        return Err(PlanMade(plans).into());
    }
    Ok(())
}

impl Names {
    pub fn read(self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for name in self.names {
            if name != "-" {
                names.push(name);
                continue;
            }
            for line in std::io::stdin().lock().lines() {
                let line = line.context("reading names from standard input")?;
                names.extend(Some(line.trim().to_owned()).filter(|name| !name.is_empty()));
            }
        }
        Ok(names)
    }
}

/// As a part of a path: what is not plain in a URL is escaped (RFC 3986, 2.1).
pub fn segment(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(segment("host-2"), "host-2");
        assert_eq!(segment("../state?x"), "..%2Fstate%3Fx");
    }
}
