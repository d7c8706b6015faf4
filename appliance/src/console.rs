//! The appliance machine's own screen: address, state, fingerprint, one-time code, what needs somebody, logs, network,
//! the password, restart.
//!
//! The daemon tells what it knows at the socket `RUN/console.sock` and writes it as plain text to `RUN/console`; both
//! hold the one-time code, so both are root's alone. `elisandra console` is a process of its own, so that the screen
//! also works while the daemon is down, and says so. On a terminal it is a console with keys; to a serial port, which
//! may be a log, it writes the plain text whenever it changes.

mod ask;
mod draw;
mod network;
mod screen;
mod status;
mod system;

use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use ask::serve;
pub use screen::{Screen, View};
pub use status::Status;

use crate::App;
use crate::config::Config;
use crate::network::Found;

/// A text that is older than this was written by a daemon that is not running any more.
const STALE: Duration = Duration::from_secs(20);

/// Keeps `RUN/console` true.
pub async fn write(
    app: App,
    config: Config,
    found: Found,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let path = config.run.join("console");
    let mut changes = app.core.changes();
    loop {
        changes.mark_unchanged();
        crate::ca::write(&path, &Status::of(&app, &config, &found).text(), 0o600)?;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = changes.changed() => tokio::time::sleep(Duration::from_millis(500)).await,
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
    }
}

/// The addresses at which the appliance can be reached, the served one last.
pub fn addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut addresses: Vec<IpAddr> = interfaces
        .filter(|interface| !interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK))
        .filter_map(|interface| Some(IpAddr::V4(interface.address?.as_sockaddr_in()?.ip())))
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The console with keys, or the plain text on the terminals that are named. Does not return but for a person who leaves.
pub fn run(config: &Config, settings: Option<&Path>, plain: &[PathBuf]) -> anyhow::Result<()> {
    if !plain.is_empty() {
        return write_plain(config, plain);
    }
    anyhow::ensure!(
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        "this is no terminal; --plain /dev/ttyS0 writes to one that nobody types on"
    );
    draw::run(config, settings)
}

/// Writes `RUN/console` to terminals whenever it changes. Does not return.
fn write_plain(config: &Config, terminals: &[PathBuf]) -> anyhow::Result<()> {
    let path = config.run.join("console");
    let mut shown = String::new();
    loop {
        let text = read(&path);
        if text != shown {
            for terminal in terminals.iter().filter(|terminal| terminal.exists()) {
                // One that cannot be written to now (a serial port that is not there) must not keep the others dark.
                if let Err(error) = paint(terminal, &text) {
                    tracing::debug!(%error, terminal = %terminal.display(), "A screen could not be drawn");
                }
            }
            shown = text;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn read(path: &Path) -> String {
    let age = std::fs::metadata(path).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
    match (std::fs::read_to_string(path), age) {
        (Ok(text), Some(age)) if age < STALE => text,
        (Ok(text), _) => {
            format!("{text}\nThe appliance's daemon is not running; it is started again by itself.\n")
        }
        (Err(_), _) => "Elisandra\n\nThe appliance is starting.\n".to_owned(),
    }
}

fn paint(screen: &Path, text: &str) -> std::io::Result<()> {
    let mut tty = std::fs::OpenOptions::new().write(true).open(screen)?;
    // Clear and home; the lines end in CR LF because nobody has set these terminals up.
    write!(tty, "\x1b[2J\x1b[H{}", text.replace('\n', "\r\n"))
}
