//! `eli subnet`, `eli reservation`, `eli lease`.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use fleet::Mac;
use fleet::subnet::{OWN, Range, Route, Subnet};
use ipnet::Ipv4Net;
use serde_json::json;

use super::client::Client;
use super::nouns::{Names, Remove, each, remove, segment};
use super::table::{Table, span};
use super::{Output, say};
use crate::api::networks::{Lease, Network, Reservation};
use crate::core;

#[derive(Subcommand)]
pub enum SubnetVerb {
    /// Subnets, and how full they are
    List,
    /// Add a subnet that is reached through a relay
    Add {
        name: String,
        /// 10.80.0.0/24
        network: Ipv4Net,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Change what is said; `site` is the site's own network
    Set {
        name: String,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Remove subnets; `site` is described as at the beginning again
    Remove(Remove),
}

/// What is told to machines. Nothing that is not given here is changed; `none` takes away what is.
#[derive(Args)]
pub struct Settings {
    /// The default route
    #[arg(long, value_name = "ADDRESS|none")]
    router: Option<String>,
    /// May be given again
    #[arg(long, value_name = "ADDRESS|none")]
    dns: Vec<String>,
    /// May be given again
    #[arg(long, value_name = "ADDRESS|none")]
    ntp: Vec<String>,
    #[arg(long, value_name = "DOMAIN|none")]
    domain: Option<String>,
    /// Another route; may be given again
    #[arg(long, value_name = "NETWORK=ROUTER|none")]
    route: Vec<String>,
    /// In bytes
    #[arg(long, value_name = "BYTES|none")]
    mtu: Option<String>,
    /// Addresses to give; may be given again. Without any, the whole network but its first addresses
    #[arg(long, value_name = "FIRST-LAST|none")]
    range: Vec<String>,
    /// How long an address is given for, in seconds
    #[arg(long, value_name = "SECONDS|none")]
    lease: Option<String>,
}

#[derive(Subcommand)]
pub enum ReservationVerb {
    /// Reserved addresses
    List,
    /// Reserve an address for a MAC address, seen or not
    #[command(alias = "set")]
    Add { mac: Mac, address: Ipv4Addr },
    /// Give addresses free again
    Remove(Names),
}

#[derive(Subcommand)]
pub enum LeaseVerb {
    /// Who has which address
    List,
    /// End leases, or the quarantine of addresses
    Remove(Remove),
}

pub async fn subnet(client: &Client, verb: SubnetVerb, output: Output) -> anyhow::Result<()> {
    match verb {
        SubnetVerb::List => subnets(&client.list("/subnets").await?, output),
        SubnetVerb::Add { name, network, settings } => {
            let known: Vec<Network> = client.list("/subnets").await?;
            anyhow::ensure!(
                known.iter().all(|known| known.subnet.name != name),
                "there is a subnet {name} already; eli subnet set {name} changes it"
            );
            let mut subnet = Subnet::new(&name, network);
            // An address instead of a network is refused by the appliance with a sentence.
            subnet.network = network;
            put(client, settings.on(subnet)?).await
        }
        SubnetVerb::Set { name, settings } => {
            let known: Vec<Network> = client.list("/subnets").await?;
            let known = known.into_iter().find(|known| known.subnet.name == name);
            let known = known.with_context(|| format!("there is no subnet {name}"))?;
            put(client, settings.on(known.subnet)?).await
        }
        SubnetVerb::Remove(names) => remove(client, names, "subnets").await,
    }
}

async fn put(client: &Client, subnet: Subnet) -> anyhow::Result<()> {
    let path = format!("/subnets/{}", segment(&subnet.name));
    say(&client.send("PUT", &path, &subnet).await?);
    Ok(())
}

pub async fn reservation(client: &Client, verb: ReservationVerb, output: Output) -> anyhow::Result<()> {
    match verb {
        ReservationVerb::List => reservations(&client.list("/reservations").await?, output),
        ReservationVerb::Add { mac, address } => {
            let body = json!({ "mac": mac, "address": address });
            say(&client.send("POST", "/reservations", &body).await?);
            Ok(())
        }
        ReservationVerb::Remove(names) => {
            each(names, async |name| client.delete(&format!("/reservations/{}", segment(name))).await).await
        }
    }
}

pub async fn lease(client: &Client, verb: LeaseVerb, output: Output) -> anyhow::Result<()> {
    match verb {
        LeaseVerb::List => leases(&client.list("/leases").await?, output),
        LeaseVerb::Remove(names) => remove(client, names, "leases").await,
    }
}

impl Settings {
    fn on(self, mut subnet: Subnet) -> anyhow::Result<Subnet> {
        let Settings { router, dns, ntp, domain, route, mtu, range, lease } = self;
        set(&mut subnet.router, router, "an IPv4 address")?;
        set(&mut subnet.mtu, mtu, "a number of bytes")?;
        set(&mut subnet.lease_secs, lease, "a number of seconds")?;
        set(&mut subnet.domain, domain, "a domain")?;
        set_all(&mut subnet.dns, dns, "an IPv4 address", |text| text.parse().ok())?;
        set_all(&mut subnet.ntp, ntp, "an IPv4 address", |text| text.parse().ok())?;
        set_all(&mut subnet.routes, route, "a route as 10.0.0.0/8=10.80.0.1", |text| {
            let (to, via) = text.split_once('=')?;
            Some(Route { to: to.parse().ok()?, via: via.parse().ok()? })
        })?;
        set_all(&mut subnet.ranges, range, "a range as 10.80.0.10-10.80.0.99", |text| {
            let (first, last) = text.split_once('-')?;
            Some(Range { first: first.parse().ok()?, last: last.parse().ok()? })
        })?;
        Ok(subnet)
    }
}

fn set<T: std::str::FromStr>(field: &mut Option<T>, text: Option<String>, what: &str) -> anyhow::Result<()> {
    let Some(text) = text else { return Ok(()) };
    *field = match text.as_str() {
        "none" => None,
        text => Some(text.parse().ok().with_context(|| format!("{text} is not {what}, and not none"))?),
    };
    Ok(())
}

fn set_all<T>(
    field: &mut Vec<T>,
    texts: Vec<String>,
    what: &str,
    read: impl Fn(&str) -> Option<T>,
) -> anyhow::Result<()> {
    if texts.is_empty() {
        return Ok(());
    }
    let said = texts.iter().filter(|text| *text != "none");
    *field = said
        .map(|text| read(text).with_context(|| format!("{text} is not {what}, and not none")))
        .collect::<anyhow::Result<_>>()?;
    Ok(())
}

fn subnets(subnets: &[Network], output: Output) -> anyhow::Result<()> {
    if output.list(subnets, |network| network.subnet.name.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "NETWORK", "ROUTER", "DNS", "POOL", "GIVEN", "FREE"]);
    for network in subnets {
        let subnet = &network.subnet;
        let dns: Vec<String> = subnet.dns.iter().map(ToString::to_string).collect();
        let mut notes = Vec::new();
        if network.foreign {
            notes.push("another DHCP server gives the addresses".to_owned());
        }
        if network.reserved + network.quarantined > 0 {
            notes.push(format!("{} reserved, {} in quarantine", network.reserved, network.quarantined));
        }
        let pool = if network.foreign { String::new() } else { network.pool.join(",") };
        let cells = vec![
            subnet.name.clone(),
            subnet.network.to_string(),
            subnet.router.map(|router| router.to_string()).unwrap_or_default(),
            dns.join(","),
            pool,
            network.given.to_string(),
            network.free.to_string(),
        ];
        table.row(cells, notes);
    }
    table.print(&format!("No network is served yet; the site's own, {OWN}, comes with the first NIC."));
    Ok(())
}

fn reservations(reservations: &[Reservation], output: Output) -> anyhow::Result<()> {
    if output.list(reservations, |reservation| reservation.address.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["ADDRESS", "MAC", "FOR", "SUBNET", "GIVEN"]);
    for reservation in reservations {
        let cells = vec![
            reservation.address.to_string(),
            reservation.mac.to_string(),
            reservation.name.clone(),
            reservation.subnet.clone().unwrap_or_default(),
            if reservation.given { "yes" } else { "not yet" }.to_owned(),
        ];
        table.row(cells, Vec::new());
    }
    table.print("No reservations yet. eli reservation add MAC ADDRESS makes one.");
    Ok(())
}

fn leases(leases: &[Lease], output: Output) -> anyhow::Result<()> {
    if output.list(leases, |lease| lease.address.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["ADDRESS", "MAC", "HOLDER", "SUBNET", "ASKED"]);
    for lease in leases {
        let asked = lease.asked.map(|asked| format!("{} ago", span(core::now().secs_since(asked))));
        let holder = match lease.known {
            true => lease.name.clone(),
            false => format!("{} (passing by)", lease.name),
        };
        let cells = vec![
            lease.address.to_string(),
            lease.mac.to_string(),
            holder,
            lease.subnet.clone().unwrap_or_default(),
            asked.unwrap_or_default(),
        ];
        table.row(cells, Vec::new());
    }
    table.print("No address has been given yet.");
    Ok(())
}
