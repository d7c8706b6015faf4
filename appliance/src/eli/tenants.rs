//! `eli tenant`: who shares the site, and how much each may have.

use clap::{Args, Subcommand};
use fleet::tenant::Limits;
use serde_json::json;

use super::client::Client;
use super::nouns::{self, segment};
use super::table::Table;
use super::{Output, say};
use crate::api::tenants::{Listed, NewTenant};

#[derive(Subcommand)]
pub enum TenantVerb {
    /// Who shares the site, what each has, and what each may have
    List,
    /// Add one: its users see its own VMs and services, whose names begin with NAME-, and nothing else
    Add {
        /// a-z and 0-9, at most 20 characters
        name: String,
        #[command(flatten)]
        limits: Most,
    },
    /// Set its limits, all of them: what is not said has none
    Set {
        name: String,
        #[command(flatten)]
        limits: Most,
    },
    /// Remove those that have nothing any more
    Remove(nouns::Names),
}

#[derive(Args)]
pub struct Most {
    /// VMs that it may have
    #[arg(long, value_name = "COUNT")]
    vms: Option<u64>,
    /// vCPUs of all its VMs
    #[arg(long, value_name = "COUNT")]
    cpus: Option<u64>,
    /// Memory of all its VMs
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Disks of all its VMs
    #[arg(long, value_name = "GIB")]
    disk: Option<u64>,
}

impl Most {
    fn limits(&self) -> Limits {
        let Most { vms, cpus, memory, disk } = *self;
        Limits { vms, vcpus: cpus, memory_mib: memory, disk_gib: disk }
    }
}

pub async fn tenant(client: &Client, verb: TenantVerb, output: Output) -> anyhow::Result<()> {
    match verb {
        TenantVerb::List => list(&client.list("/tenants").await?, output),
        TenantVerb::Add { name, limits } => {
            let new = NewTenant { name, limits: limits.limits() };
            say(&client.send("POST", "/tenants", &new).await?);
            Ok(())
        }
        TenantVerb::Set { name, limits } => {
            say(&client.send("PUT", &format!("/tenants/{}", segment(&name)), &limits.limits()).await?);
            Ok(())
        }
        TenantVerb::Remove(names) => {
            nouns::each(names, async |name| {
                client.send("DELETE", &format!("/tenants/{}", segment(name)), &json!({})).await
            })
            .await
        }
    }
}

fn list(tenants: &[Listed], output: Output) -> anyhow::Result<()> {
    if output.list(tenants, |listed| listed.tenant.name.clone())? {
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "VMS", "VCPUS", "MEMORY", "DISK", "SERVICES", "USERS"]);
    for listed in tenants {
        let takes = listed.takes().into_iter().map(|(_, has, most)| match most {
            Some(most) => format!("{has} of {most}"),
            None => has,
        });
        let rest = [listed.services.to_string(), listed.users.join(",")];
        table.row([listed.tenant.name.clone()].into_iter().chain(takes).chain(rest).collect(), Vec::new());
    }
    table.print("No tenants. eli tenant add NAME adds one.");
    Ok(())
}
