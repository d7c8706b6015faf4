//! Settings of the daemon: one file, read once. Without a file the appliance image's own places hold.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where settings are looked for. On the appliance only the second lasts: its `/etc` is as new at each start.
const USUAL: [&str; 2] = ["/etc/elisandra/elisandra.toml", "/var/lib/elisandra/elisandra.toml"];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What must survive: log, authority, bundles.
    pub state: PathBuf,
    /// `postgres://user:password@host/database`, which several daemons may share; otherwise `log.sqlite` in `state`.
    pub database: Option<String>,
    /// What is made anew at each start.
    pub run: PathBuf,
    /// vmlinuz, initrd, live.squashfs, guest.img, manifest.json.
    pub files: PathBuf,
    /// undionly.kpxe, shimx64.efi, grubnetx64.efi.
    pub loaders: PathBuf,
    /// Page and REST API, TLS.
    pub page: SocketAddr,
    /// Node API, TLS.
    pub nodes: SocketAddr,
    /// DNS domain given to machines.
    pub domain: String,
    /// The Debian mirror that machines install from, through the cache.
    pub mirror: String,
    /// Most that the cache of it keeps.
    pub mirror_gib: u64,
    /// Firmware that boots over HTTP is told an https URL. It then has to trust the site's CA.
    pub https_boot: bool,
    /// For trying things out with another site's log: nothing is served and nothing is carried out.
    pub rehearsal: bool,
    /// How lines of the daemon's own log are written.
    pub log: Log,
    /// The network to serve; otherwise what `elisandra network` found is read from `run`/network.json.
    pub serve: Option<Served>,
    /// By the name of the NIC; what is not said here may be set at the appliance's screen.
    pub nic: BTreeMap<String, NicSettings>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// For people.
    #[default]
    Text,
    /// An object a line, with every field by its name.
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NicSettings {
    pub mode: Setting,
}

/// How a NIC is to be served; network.rs says what `auto` comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    #[default]
    Auto,
    Full,
    Proxy,
    Off,
}

impl Setting {
    pub fn word(self) -> &'static str {
        match self {
            Setting::Auto => "auto",
            Setting::Full => "full",
            Setting::Proxy => "proxy",
            Setting::Off => "off",
        }
    }
}

/// What a DHCP server gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Addresses, and boot information to those who boot.
    #[default]
    Full,
    /// ProxyDHCP: boot information only, beside another server that gives the addresses.
    Proxy,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mode::Full => "full",
            Mode::Proxy => "proxy",
        })
    }
}

impl From<Mode> for pxe::dhcp::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Full => pxe::dhcp::Mode::Full,
            Mode::Proxy => pxe::dhcp::Mode::Proxy,
        }
    }
}

/// An interface that the appliance serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    pub interface: String,
    pub address: Ipv4Addr,
    pub network: Ipv4Net,
    #[serde(default)]
    pub mode: Mode,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            state: "/var/lib/elisandra".into(),
            database: None,
            run: "/run/elisandra".into(),
            files: "/run/elisandra/files".into(),
            loaders: "/usr/lib/elisandra/boot".into(),
            page: SocketAddr::from(([0, 0, 0, 0], 443)),
            nodes: SocketAddr::from(([0, 0, 0, 0], 7443)),
            domain: "elisandra".to_owned(),
            mirror: "http://deb.debian.org/debian".to_owned(),
            mirror_gib: 16,
            https_boot: false,
            rehearsal: false,
            log: Log::Text,
            serve: None,
            nic: BTreeMap::new(),
        }
    }
}

/// An address without the name, the password and the parameters that it is entered with.
fn without_entry(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, place)| place))
        }
        None => plain.to_owned(),
    }
}

impl Config {
    /// The settings as others may see them: how the database is entered is left out.
    pub fn shown(&self) -> String {
        let database = self.database.as_deref().map(without_entry);
        let mirror = without_entry(&self.mirror);
        format!("{:#?}\n", Config { database, mirror, ..self.clone() })
    }

    /// Reads `path`; without one, the first of the usual ones that is there, or the defaults. How NICs are served
    /// may also be set at the screen; what is in the file comes first.
    pub fn read(path: Option<&Path>) -> anyhow::Result<Config> {
        Ok(Config::read_both(path)?.0)
    }

    /// As [`Config::read`], and what the file alone says of NICs.
    pub fn read_both(path: Option<&Path>) -> anyhow::Result<(Config, BTreeMap<String, NicSettings>)> {
        let usual = || USUAL.into_iter().map(Path::new).find(|usual| usual.exists());
        let mut config = match path.or_else(usual) {
            Some(path) => parse(path)?,
            None => Config::default(),
        };
        let own = config.nic.clone();
        let set = config.nics_file();
        if set.exists() {
            let set: BTreeMap<String, NicSettings> = parse(&set)?;
            for (name, settings) in set {
                config.nic.entry(name).or_insert(settings);
            }
        }
        Ok((config, own))
    }

    /// What was set at the screen.
    pub fn nics_file(&self) -> PathBuf {
        self.state.join("nics.toml")
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
}
