//! The real `eli`, as a user runs it on this computer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::api::USER;

pub struct Eli {
    program: PathBuf,
    /// Its home: what it remembers is kept apart from the user's own.
    home: PathBuf,
}

impl Eli {
    pub fn new(binaries: &Path, home: &Path) -> Result<Eli> {
        let program = binaries.join("eli");
        let program = program.canonicalize().with_context(|| format!("looking for {}", program.display()))?;
        Ok(Eli { program, home: home.to_path_buf() })
    }

    /// Logs in to the appliance whose page is at `page`.
    pub fn log_in(&self, page: SocketAddr, ca_sha256: &str, password: &str) -> Result<String> {
        let address = format!("https://{page}");
        let mut login = self.command(&["login", &address, "--fingerprint", ca_sha256, "--user", USER]);
        run(login.env("ELI_PASSWORD", password))
    }

    /// Runs `eli` with these arguments and gives what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.command(arguments))
    }

    /// Runs `eli` and lets it print to the terminal, as a user sees it.
    pub fn show(&self, arguments: &[&str]) -> Result<()> {
        println!("         $ eli {}", arguments.join(" "));
        run(self.command(arguments).stdout(Stdio::inherit())).map(drop)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("HOME", &self.home).env_remove("XDG_CONFIG_HOME");
        command
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::piped()).output().context("running eli")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
