//! `eli machine strip show|set|remove`: the outlets that a machine is plugged into.

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Client;
use super::nouns::segment;
use super::power::{options, password_of};
use super::say;
use crate::api::machines::Machine as Found;

#[derive(Subcommand)]
pub enum Strip {
    /// Its outlets, and what their power strips said last
    Show { name: String },
    /// Say which outlets of a power strip it is plugged into, in the place of those that are known there
    Set(Set),
    /// Forget its outlets of one power strip, or of all
    Remove {
        name: String,
        /// Of the power strip at this address
        address: Option<String>,
    },
}

#[derive(Args)]
pub struct Set {
    name: String,
    /// The name of a fence agent such as fence_apc_snmp
    agent: String,
    /// HOST or HOST:PORT
    address: String,
    /// As the power strip calls them; name all that the machine is plugged into
    #[arg(required = true)]
    outlets: Vec<String>,
    #[arg(long)]
    user: Option<String>,
    /// The password is read from this file, or with - from standard input; it is asked for if a user is given alone.
    /// Without a user it is the community of SNMP
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// What else the fence agent is told: switch=2
    #[arg(long, value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Set it although it does not answer as it should
    #[arg(long)]
    force: bool,
}

pub async fn strip(client: &Client, verb: Strip) -> anyhow::Result<()> {
    match verb {
        Strip::Show { name } => show(client, &name).await,
        Strip::Set(set) => {
            let order = json!({
                "agent": set.agent,
                "address": set.address,
                "outlets": set.outlets,
                "user": set.user,
                "password": password_of(set.password_file.as_deref(), set.user.as_deref())?,
                "options": options(&set.option)?,
                "force": set.force,
            });
            say(&client.send("PUT", &path(&set.name), &order).await?);
            Ok(())
        }
        Strip::Remove { name, address } => {
            let of = address.map(|address| format!("?address={}", segment(&address))).unwrap_or_default();
            say(&client.delete(&format!("{}{of}", path(&name))).await?);
            Ok(())
        }
    }
}

async fn show(client: &Client, name: &str) -> anyhow::Result<()> {
    let machine: Found = client.get(&format!("/machines/{}", segment(name))).await?;
    let Some(outlets) = machine.outlets else {
        println!("No power strip of {} is known", machine.name);
        return Ok(());
    };
    for strip in &outlets.strips {
        println!("{} at {}: {}", strip.agent, strip.address, strip.outlets.join(", "));
    }
    match (&outlets.trouble, &outlets.is) {
        (Some(trouble), _) => println!("Trouble  {trouble}"),
        (None, Some(is)) => println!("Power    {is}"),
        (None, None) => println!("Power    not asked yet"),
    }
    if outlets.cut {
        println!("Some of them may be off; powering {} on switches them on, too", machine.name);
    }
    Ok(())
}

fn path(name: &str) -> String {
    format!("/machines/{}/strip", segment(name))
}
