//! `eli login`: trust on first use, the first password, and sessions.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use serde_json::Value;

use super::Access;
use super::client::{self, Client};
use super::pin::Fingerprint;
use super::settings::{self, Settings};
use crate::api::session;

#[derive(Args)]
pub struct Login {
    /// https://ADDRESS of the appliance
    address: Option<String>,
    #[arg(long, default_value = fleet::user::FIRST)]
    user: String,
    /// The one-time code on the appliance's screen: sets the first password
    #[arg(long)]
    code: Option<String>,
    /// The password, for scripts; otherwise it is asked for
    #[arg(long, env = "ELI_PASSWORD", hide = true, hide_env_values = true, allow_hyphen_values = true)]
    password: Option<String>,
}

pub async fn login(login: Login, access: Access, path: &Path) -> anyhow::Result<()> {
    let known = Settings::read(path)?;
    let server = login.address.or(access.server).or_else(|| known.as_ref().map(|known| known.server.clone()));
    let server = client::address(&server.context("which appliance? eli login https://ADDRESS")?)?;
    let known = known.filter(|known| known.server == server);
    let fingerprint = match access.fingerprint.or_else(|| known.map(|known| known.fingerprint)) {
        Some(fingerprint) => fingerprint.parse()?,
        None => trust(&server).await?,
    };

    let client = Client::new(server.clone(), fingerprint, None)?;
    let opened: session::Token = match login.code {
        Some(code) => {
            let password = match login.password {
                Some(password) => password,
                None => new_password()?,
            };
            client.send("POST", "/password", &session::FirstPassword { code, password }).await?
        }
        None => {
            let password = match login.password {
                Some(password) => password,
                None => ask_hidden(&format!("Password of {}: ", login.user))?,
            };
            let body = session::Login { user: login.user, password };
            let opened = client.send("POST", "/login", &body).await;
            opened.with_context(|| format!("{server} did not let you in"))?
        }
    };
    let settings =
        Settings { server: server.clone(), fingerprint: fingerprint.to_string(), token: opened.token };
    settings.write(path)?;
    println!("Logged in at {server}");
    Ok(())
}

pub async fn logout(client: &Client, path: &Path) -> anyhow::Result<()> {
    let _: Value = client.send("POST", "/logout", &Value::Null).await?;
    settings::forget(path)?;
    println!("Logged out at {}", client.server);
    Ok(())
}

/// Shows who answers and asks whether that is the appliance.
async fn trust(server: &str) -> anyhow::Result<Fingerprint> {
    let fingerprint = client::look(server).await?;
    ensure!(
        std::io::stdin().is_terminal(),
        "{server} is not known here; give the fingerprint that the appliance's screen shows: --fingerprint {fingerprint} \
         if it is that"
    );
    println!(
        "{server} is not known here yet. The fingerprint of its certificate is\n\n  SHA256 {fingerprint}\n"
    );
    let answer = ask("Does the appliance's own screen show the same? [y/N] ")?;
    if !matches!(answer.to_lowercase().as_str(), "y" | "yes") {
        bail!("not trusted; nothing was sent");
    }
    Ok(fingerprint)
}

pub fn new_password() -> anyhow::Result<String> {
    let password = ask_hidden("New password: ")?;
    ensure!(ask_hidden("The same again: ")? == password, "the two are not the same");
    Ok(password)
}

pub fn ask(question: &str) -> anyhow::Result<String> {
    print!("{question}");
    std::io::stdout().flush()?;
    let mut line = String::new();
    ensure!(std::io::stdin().lock().read_line(&mut line)? > 0, "no answer was given");
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Without showing what is typed, where it is typed on a terminal.
pub fn ask_hidden(question: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return ask(question);
    }
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    hidden.local_flags.insert(LocalFlags::ECHONL);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden)?;
    let answer = ask(question);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &shown)?;
    answer
}
