//! The appliance machine's own screen: address, fingerprint, one-time code, and what is going on.
//!
//! The daemon writes the text to `RUN/console` (it holds the one-time code, so only root may read it);
//! `elisandra console` is a process of its own that draws it, so that the screen also tells when the daemon is down.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::machine::Phase;
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::config::Config;
use crate::network::Found;

const SCREENS: [&str; 2] = ["/dev/tty1", "/dev/ttyS0"];

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
        crate::ca::write(&path, &text(&app, &config, &found), 0o600)?;
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

fn text(app: &App, config: &Config, found: &Found) -> String {
    let fleet = app.core.fleet();
    let mut lines = vec!["Elisandra".to_owned(), String::new()];
    let served = found.serve.as_ref().map(|served| IpAddr::V4(served.address));
    let mut addresses = addresses();
    addresses.sort_by_key(|address| Some(*address) == served);
    for address in &addresses {
        lines.push(format!("Web page      https://{address}/"));
    }
    if addresses.is_empty() {
        lines.push("Web page      not reachable yet: no address".to_owned());
    }
    lines.push(format!("Fingerprint   SHA256 {}", app.ca.fingerprint()));
    match app.auth.code() {
        Some(code) => lines.push(format!("One-time code {code}   (sets the first password, on the page)")),
        None => lines.push("Log in with the password that was set.".to_owned()),
    }
    lines.push(String::new());
    lines.push(found.sentence.clone());
    lines.extend(app.wires.warnings().into_iter().map(|warning| format!("WARNING: {warning}")));
    if let Ok(sentence) = std::fs::read_to_string(config.run.join("memory-only")) {
        lines.push(format!("KEPT IN MEMORY ONLY: {}", sentence.trim()));
    }
    lines.push(String::new());
    let ready = fleet.hosts.len();
    lines.push(format!(
        "{} machines, {ready} of them ready; {} VMs; {} services",
        fleet.machines.len(),
        fleet.vms.len(),
        fleet.services.len()
    ));
    for machine in fleet.machines.values().filter(|machine| machine.phase != Phase::Ready).take(8) {
        lines.push(format!("  {:<12} {}", machine.name, machine.phase.word()));
    }
    lines.join("\n") + "\n"
}

/// Draws `RUN/console` on the screens of this machine whenever it changes. Does not return.
pub fn draw(config: &Config) -> anyhow::Result<()> {
    let path = config.run.join("console");
    let mut shown = String::new();
    loop {
        let text = read(&path);
        if text != shown {
            for screen in screens() {
                // A screen that cannot be written to now (a serial port that is not there) must not keep the other dark.
                if let Err(error) = paint(&screen, &text) {
                    tracing::debug!(%error, screen = %screen.display(), "A screen could not be drawn");
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

fn screens() -> impl Iterator<Item = PathBuf> {
    SCREENS.iter().map(PathBuf::from).filter(|screen| screen.exists())
}

fn paint(screen: &Path, text: &str) -> std::io::Result<()> {
    let mut tty = std::fs::OpenOptions::new().write(true).open(screen)?;
    // Clear and home; the lines end in CR LF because nobody has set these terminals up.
    write!(tty, "\x1b[2J\x1b[H{}", text.replace('\n', "\r\n"))
}
