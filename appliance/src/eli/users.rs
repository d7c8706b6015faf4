//! `eli user`, `eli session`, `eli token`, `eli me`, `eli passwd`: who may do what.

use clap::Subcommand;
use fleet::user::Role;
use serde_json::json;

use super::client::Client;
use super::nouns::segment;
use super::table::Table;
use super::{Output, list, login, nouns, say};
use crate::api::Changed;
use crate::api::session::Token;
use crate::api::sessions::{self, NewToken};
use crate::api::users::{ChangedPassword, Listed, Me, NewPassword, NewRole, NewUser};

#[derive(Subcommand)]
pub enum UserVerb {
    /// Who may log in, and what each may do
    List,
    /// Add one: a viewer sees everything, an operator runs it, an admin decides who may
    Add {
        name: String,
        #[arg(long, value_parser = role, default_value = "operator")]
        role: Role,
        /// He sees what this tenant has, and nothing else
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        password: Password,
    },
    /// Make somebody a viewer, an operator or an admin
    Role {
        name: String,
        #[arg(value_parser = role)]
        role: Role,
    },
    /// Set somebody's password; who is logged in by that name is not any more
    Password {
        name: String,
        #[command(flatten)]
        password: Password,
    },
    /// Remove; what they are logged in with ends at once
    Remove(nouns::Names),
}

// The verb of the same name has the group of that name.
#[derive(clap::Args)]
#[group(skip)]
pub struct Password {
    /// The password, for scripts; otherwise it is asked for
    #[arg(long, env = "ELI_NEW_PASSWORD", hide = true, hide_env_values = true, allow_hyphen_values = true)]
    new_password: Option<String>,
}

#[derive(Subcommand)]
pub enum SessionVerb {
    /// Who is logged in, by what and from where: you, and for an admin everybody
    List,
    /// End them, also tokens of programs
    End(nouns::Names),
}

#[derive(Subcommand)]
pub enum TokenVerb {
    /// Make one for a program; it is shown this once
    Make {
        /// What it is for
        name: String,
        /// It may do no more than this
        #[arg(long, value_parser = role, default_value = "viewer")]
        role: Role,
        /// It is for this only: machines:read to see them, vms for all about them, create_vm for one order; may be given again
        #[arg(long, value_name = "WORD", value_delimiter = ',')]
        scope: Vec<String>,
        /// It is good for so many days
        #[arg(long, default_value_t = sessions::USUAL_DAYS)]
        days: u64,
    },
}

#[derive(clap::Args)]
pub struct OwnPassword {
    /// The old one, for scripts; otherwise it is asked for
    #[arg(long, env = "ELI_PASSWORD", hide = true, hide_env_values = true, allow_hyphen_values = true)]
    password: Option<String>,
    #[command(flatten)]
    new: Password,
}

fn role(word: &str) -> Result<Role, fleet::Refusal> {
    word.parse()
}

impl Password {
    fn get(self) -> anyhow::Result<String> {
        self.new_password.map_or_else(login::new_password, Ok)
    }
}

pub async fn user(client: &Client, verb: UserVerb, output: Output) -> anyhow::Result<()> {
    match verb {
        UserVerb::List => users(&client.list("/users").await?, output),
        UserVerb::Add { name, role, tenant, password } => {
            // Asked for first: a user whom nobody can log in as is half a user.
            let password = if client.is_planning() { String::new() } else { password.get()? };
            say(&client.send("POST", "/users", &NewUser { name: name.clone(), role, tenant }).await?);
            set_password(client, &name, password).await
        }
        UserVerb::Role { name, role } => {
            say(&client.send("PUT", &format!("/users/{}/role", segment(&name)), &NewRole { role }).await?);
            Ok(())
        }
        UserVerb::Password { name, password } => set_password(client, &name, password.get()?).await,
        UserVerb::Remove(names) => {
            nouns::each(names, async |name| {
                client.send("DELETE", &format!("/users/{}", segment(name)), &json!({})).await
            })
            .await
        }
    }
}

async fn set_password(client: &Client, name: &str, password: String) -> anyhow::Result<()> {
    say(&client
        .send("PUT", &format!("/users/{}/password", segment(name)), &NewPassword { password })
        .await?);
    Ok(())
}

pub async fn session(client: &Client, verb: SessionVerb, output: Output) -> anyhow::Result<()> {
    match verb {
        SessionVerb::List => sessions(&client.list("/sessions").await?, output),
        SessionVerb::End(names) => {
            nouns::each(names, async |id| {
                client.send("DELETE", &format!("/sessions/{}", segment(id)), &json!({})).await
            })
            .await
        }
    }
}

pub async fn token(client: &Client, verb: TokenVerb) -> anyhow::Result<()> {
    let TokenVerb::Make { name, role, scope, days } = verb;
    let scope = (!scope.is_empty()).then(|| scope.join(" ").parse()).transpose()?;
    let made: Token = client.send("POST", "/tokens", &NewToken { name, role, scope, days }).await?;
    println!("{}", made.token);
    eprintln!("It is shown this once; a program gives it as ELI_TOKEN, or as Authorization: Bearer.");
    Ok(())
}

pub async fn me(client: &Client, output: Output) -> anyhow::Result<()> {
    let me: Me = client.get("/me").await?;
    if !output.one(&me, &me.name)? {
        let scope = me.scope.as_ref().map(|scope| format!(", by a token for {scope}")).unwrap_or_default();
        let of = me.tenant.as_ref().map(|tenant| format!(" of {tenant}")).unwrap_or_default();
        println!("{}, {}{of}, at {}{scope}", me.name, me.role.with_article(), client.server);
    }
    Ok(())
}

pub async fn passwd(client: &Client, own: OwnPassword) -> anyhow::Result<()> {
    let old = own.password.map_or_else(|| login::ask_hidden("Your password: "), Ok)?;
    let changed: Changed =
        client.send("PUT", "/me/password", &ChangedPassword { old, new: own.new.get()? }).await?;
    say(&changed);
    Ok(())
}

fn users(users: &[Listed], output: Output) -> anyhow::Result<()> {
    if output.list(users, |listed| listed.user.name.clone())? {
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "ROLE", "TENANT", "LOGIN"]);
    for Listed { user, password } in users {
        let login = if *password { "by password" } else { "none: set a password" };
        table.row(
            vec![
                user.name.clone(),
                user.role.to_string(),
                user.tenant.clone().unwrap_or_default(),
                login.to_owned(),
            ],
            Vec::new(),
        );
    }
    table.print("");
    Ok(())
}

/// What a session may do, if it is less than its user may.
fn may(session: &sessions::Listed) -> String {
    let role = session.role.map(|role| role.to_string());
    let scope = session.scope.as_ref().map(|scope| format!("for {scope}"));
    role.into_iter().chain(scope).collect::<Vec<_>>().join(", ")
}

fn sessions(sessions: &[sessions::Listed], output: Output) -> anyhow::Result<()> {
    if output.list(sessions, |session| session.id.clone())? {
        return Ok(());
    }
    let mut table = Table::new(&["ID", "USER", "BY", "FROM", "USED", "MAY"]);
    for session in sessions {
        let by = match &session.name {
            Some(name) => format!("{} {name}", session.client),
            None if session.here => format!("{} (this one)", session.client),
            None => session.client.clone(),
        };
        let row = vec![
            session.id.clone(),
            session.user.clone(),
            by,
            session.from.clone().unwrap_or_default(),
            format!("{} ago", list::ago(session.used_at)),
            may(session),
        ];
        table.row(row, Vec::new());
    }
    table.print("");
    Ok(())
}
