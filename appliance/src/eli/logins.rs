//! `eli bmc logins …`, `eli bmc find …`: BMCs are found out with a list of logins.

use clap::Subcommand;
use serde_json::json;

use super::client::Client;
use super::nouns::segment;
use super::power::password_of;
use super::table::Table;
use super::{Output, say};
use crate::power::logins::Listed;

#[derive(Subcommand)]
pub enum BmcVerb {
    /// The logins that BMCs are tried with, one by one
    #[command(subcommand)]
    Logins(Logins),
    /// Try them at a machine's own BMC, again if none was taken
    Find {
        machine: String,
        /// Where it is; what the machine says itself, if it is not said
        #[arg(long)]
        address: Option<String>,
    },
}

#[derive(Subcommand)]
pub enum Logins {
    /// Without their passwords, which are shown to nobody
    List,
    /// Add one at the end. From the first on, BMCs that adopted machines say are theirs are tried with the list
    Add {
        user: String,
        /// The password is read from this file, or with - from standard input; otherwise it is asked for
        #[arg(long, value_name = "FILE")]
        password_file: Option<String>,
    },
    /// BMCs that took it keep it
    Remove { number: u32 },
}

pub async fn bmc(client: &Client, verb: BmcVerb, output: Output) -> anyhow::Result<()> {
    match verb {
        BmcVerb::Logins(Logins::List) => {
            let listed: Vec<Listed> = client.get("/bmc/logins").await?;
            if !output.list(&listed, |login| login.number.to_string())? {
                let mut table = Table::new(&["NUMBER", "USER"]);
                for Listed { number, user } in &listed {
                    table.row(vec![number.to_string(), user.clone()], Vec::new());
                }
                table.print("There are none: eli bmc logins add");
            }
            Ok(())
        }
        BmcVerb::Logins(Logins::Add { user, password_file }) => {
            let password = password_of(password_file.as_deref(), Some(&user))?;
            say(&client.send("POST", "/bmc/logins", &json!({ "user": user, "password": password })).await?);
            Ok(())
        }
        BmcVerb::Logins(Logins::Remove { number }) => {
            say(&client.delete(&format!("/bmc/logins/{number}")).await?);
            Ok(())
        }
        BmcVerb::Find { machine, address } => {
            let path = format!("/machines/{}/bmc/find", segment(&machine));
            say(&client.send("POST", &path, &json!({ "address": address })).await?);
            Ok(())
        }
    }
}
