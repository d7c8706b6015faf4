//! A program that speaks to a BMC for us: bounded in time and in what it may say, and ended with all it has started.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::BmcError;
use super::error::brief;
use crate::vault::Secret;

/// Where programs that speak to BMCs find others.
pub(super) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// More than that is read and forgotten.
const KEPT: u64 = 64 * 1024;

pub(super) struct Program<'a> {
    pub path: &'a Path,
    pub arguments: Vec<String>,
    /// Beside a PATH; nothing of ours is passed on.
    pub environment: BTreeMap<&'static str, String>,
    pub input: String,
    pub limit: Duration,
    /// For errors.
    pub address: &'a str,
}

pub(super) struct Finished {
    /// None if a signal ended it.
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Program<'_> {
    pub async fn run(self) -> Result<Finished, BmcError> {
        let name = self.name();
        let not_started =
            |error: std::io::Error| BmcError::NotStarted { program: name.clone(), why: error.to_string() };
        let mut child = tokio::process::Command::new(self.path)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .envs(&self.environment)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(not_started)?;
        // Agents start programs of their own, which must not outlive them.
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(|pid| Group(Pid::from_raw(pid)));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let work = async {
            let told = async {
                if let Some(mut stdin) = stdin {
                    // One that does not want to hear it says why by itself.
                    let _ = stdin.write_all(self.input.as_bytes()).await;
                }
            };
            let ((), output, errors, status) = tokio::join!(told, kept(stdout), kept(stderr), child.wait());
            status.map(|status| Finished { code: status.code(), output, errors })
        };
        let finished = tokio::time::timeout(self.limit, work).await;
        drop(group);
        match finished {
            Ok(finished) => finished.map_err(not_started),
            Err(_) => Err(BmcError::Silent { address: self.address.to_owned(), secs: self.limit.as_secs() }),
        }
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Finished {
    /// The last line of what it said, without `secret`.
    pub fn why(&self, secret: Option<&Secret>) -> String {
        let said = if self.errors.trim().is_empty() { &self.output } else { &self.errors };
        let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        brief(&without(line, secret))
    }
}

/// Some programs print what they were given when it is not to their taste.
fn without(text: &str, secret: Option<&Secret>) -> String {
    match secret.map(Secret::reveal).filter(|secret| !secret.is_empty()) {
        Some(secret) => text.replace(secret, "(secret)"),
        None => text.to_owned(),
    }
}

async fn kept(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut kept = Vec::new();
    let read = (&mut pipe).take(KEPT).read_to_end(&mut kept).await;
    if read.is_ok() {
        // Somebody whose pipe is full would wait for ever.
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Ends the processes of a group when it is dropped, also when nobody waits for the answer any more.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // They may all have ended by themselves.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}
