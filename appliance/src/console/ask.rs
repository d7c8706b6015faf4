//! The socket between the daemon and the screen: a question is a line of JSON, and so is its answer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::Status;
use crate::App;
use crate::config::Config;
use crate::network::Found;

/// How long the screen waits for the daemon, and the daemon for a question.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest question.
const LIMIT: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    Status,
    /// A new one-time code for the built-in user, whose password and sessions are over.
    ResetPassword,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Box<Status>),
    Code(String),
    Refused(String),
}

pub fn socket(config: &Config) -> PathBuf {
    config.run.join("console.sock")
}

/// Answers the screen until the daemon stops.
pub async fn serve(
    app: App,
    config: Config,
    found: Found,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let path = socket(&config);
    // Of a daemon that was killed.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("keeping {} for root", path.display()))?;
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted.context("waiting for the screen")?.0,
        };
        // One after another: there is one screen.
        match tokio::time::timeout(PATIENCE, answer(&app, &config, &found, stream)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("The screen was not answered: {error:#}"),
            Err(_) => tracing::debug!("The screen asked too slowly"),
        }
    }
}

async fn answer(app: &App, config: &Config, found: &Found, mut stream: UnixStream) -> anyhow::Result<()> {
    // The folder's mode keeps others away already; between bind and chmod the socket's own does not.
    let uid = stream.peer_cred()?.uid();
    anyhow::ensure!(uid == 0 || uid == nix::unistd::Uid::effective().as_raw(), "user {uid} asked");
    let (read, mut write) = stream.split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(LIMIT)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Question::Status) => Answer::Status(Box::new(Status::of(app, config, found))),
        Ok(Question::ResetPassword) => match app.auth.reset_first_password().await {
            Ok(code) => {
                app.core.bump();
                let sentence = "The password of admin was reset and its sessions were ended, by the console";
                app.core.note("site", "login", sentence.to_owned());
                tracing::warn!("{sentence}");
                Answer::Code(code)
            }
            Err(error) => Answer::Refused(error.to_string()),
        },
        Err(error) => Answer::Refused(format!("that is no question: {error}")),
    };
    write.write_all((serde_json::to_string(&answer)? + "\n").as_bytes()).await?;
    Ok(())
}

/// Asks the daemon; an error says why it does not answer.
pub fn ask(socket: &Path, question: Question) -> anyhow::Result<Answer> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).context("the daemon does not answer")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all((serde_json::to_string(&question)? + "\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("the daemon does not answer")?;
    serde_json::from_str(&line).context("the daemon answers something unexpected")
}
