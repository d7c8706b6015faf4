//! `eli`, the console client.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    appliance::eli::run(home.unwrap_or_default().join("elisandra/eli.toml"))
}
