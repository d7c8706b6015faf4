//! The initrd: from a started kernel to a mounted root, or to an installed disk.
//!
//! Whatever goes wrong here happens in front of a machine without a shell. An error is said in a sentence on the
//! screen and on the serial line, and what can be tried again is tried again for ever.

mod discover;
mod disk;
mod iso;
mod live;
mod rescue;
mod tale;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use nix::sys::reboot::{RebootMode, reboot};

use crate::client::{Authority, Backoff};
use crate::cmdline::{self, Appliance, Mode};
use crate::console::{self, say};
use crate::places::{self, RUN};
use crate::tool::{self, SHORT};

/// Follows the kernel command line. Returns when the root is mounted at `root`.
pub async fn run(root: &Path) -> anyhow::Result<()> {
    console::use_all();
    fs::create_dir_all(RUN).context("making the folder /run/elisandra")?;
    let text = fs::read_to_string("/proc/cmdline").context("reading the kernel command line")?;
    let line = cmdline::parse(&text)?;
    match line.mode {
        Mode::Iso { wipe } => iso::run(root, wipe).await,
        Mode::Disk => disk::run(root).await,
        Mode::Discover(appliance) => discover::run(&appliance, line.boot_mac).await,
        Mode::Live { appliance, image_url, image_sha256 } => {
            live::run(root, &appliance, line.boot_mac, &image_url, &image_sha256).await
        }
        Mode::Rescue { appliance, image_url, image_sha256 } => {
            rescue::run(root, &appliance, line.boot_mac, &image_url, &image_sha256).await
        }
    }
}

/// Makes an empty file in /run/elisandra that tells the running system what it is.
fn mark(role: &str) -> anyhow::Result<()> {
    places::write(&Path::new(RUN).join(role), "", 0o644)?;
    Ok(())
}

/// The CA of the appliance, asked for until it answers with the right one.
async fn authority(appliance: &Appliance) -> Authority {
    let mut backoff = Backoff::default();
    let mut said = String::new();
    loop {
        match Authority::fetch(appliance.address, &appliance.ca_sha256).await {
            Ok(authority) => {
                set_clock(authority.time);
                return authority;
            }
            Err(error) => say_once(&mut said, format!("{:#}. Still asking …", anyhow::Error::from(error))),
        }
        backoff.wait().await;
    }
}

/// A line that is true for minutes is shown once, so that the lines before it stay on the screen.
fn say_once(said: &mut String, line: String) {
    if *said != line {
        say(&line);
        *said = line;
    }
}

/// A computer with an empty battery believes in 2000, before any certificate was valid. One site, one clock:
/// where this one is off by more than a minute, the appliance's counts.
fn set_clock(appliance: Option<SystemTime>) {
    let Some(right) = appliance else { return };
    let now = SystemTime::now();
    let off = right.duration_since(now).or_else(|_| now.duration_since(right)).unwrap_or_default();
    if off < Duration::from_secs(60) {
        return;
    }
    let seconds = right.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    say(format_args!("This machine's clock is off by {} s; taking the appliance's time.", off.as_secs()));
    let set = tool::run(
        "setting the clock",
        SHORT,
        Command::new("date").args(["-u", "-s", &format!("@{seconds}")]),
    );
    // Into the battery-backed clock too, so that the installed system begins with it.
    let kept = set.and_then(|_| {
        tool::run("setting the hardware clock", SHORT, Command::new("hwclock").args(["-u", "-w"]))
    });
    if let Err(error) = kept {
        say(error);
    }
}

/// Restarts the machine. Everything that must be on disk has been synced by the caller.
async fn restart() -> ! {
    say("Restarting.");
    loop {
        // It only returns when it fails.
        let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
        say(format_args!("This machine does not restart by itself ({error}). Please switch it off and on."));
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}
