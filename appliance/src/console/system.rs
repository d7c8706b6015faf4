//! What the screen asks of systemd.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

const LINES: &str = "500";

/// The last lines of our units' logs, oldest first.
pub fn logs() -> Vec<String> {
    let arguments = [
        "--unit=elisandra*",
        "--unit=systemd-networkd.service",
        "--lines",
        LINES,
        "--output=short",
        "--no-pager",
    ];
    match output("journalctl", &arguments) {
        Ok(text) => text.lines().map(plain).collect(),
        Err(error) => vec![format!("{error:#}")],
    }
}

/// Serves the NICs as they are set now.
pub fn serve_anew() -> anyhow::Result<()> {
    output("systemctl", &["restart", "elisandra-network.service"])?;
    output("systemctl", &["restart", "elisandra.service"]).map(drop)
}

pub fn restart() -> anyhow::Result<()> {
    output("systemctl", &["reboot"]).map(drop)
}

pub fn power_off() -> anyhow::Result<()> {
    output("systemctl", &["poweroff"]).map(drop)
}

fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("running {program}"))?;
    if !done.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// What a machine calls itself must not be able to steer this terminal.
fn plain(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
