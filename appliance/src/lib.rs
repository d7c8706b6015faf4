//! The control plane: one daemon, `elisandra`, and its console client, `eli`.
//!
//! The daemon holds the core in memory ([`core`]), keeps its log on disk ([`store`]), answers machines
//! ([`dhcp`] for the boot servers of crate `pxe`, [`node_api`] for nodes), people ([`web`], [`api`]),
//! and carries on by itself ([`reconcile`]).

pub mod api;
pub mod auth;
pub mod bmc;
pub mod ca;
pub mod certificate;
pub mod config;
pub mod console;
pub mod consoles;
pub mod core;
pub mod daemon;
pub mod dhcp;
pub mod eli;
pub mod files;
mod incoming;
pub mod metrics;
pub mod mirror;
pub mod netboot;
pub mod network;
pub mod node_api;
pub mod packages;
pub mod power;
pub mod query;
pub mod reconcile;
pub mod store;
pub mod systems;
pub mod tls;
pub mod tokens;
pub mod vault;
pub mod web;
pub mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;

/// What every handler needs; clones are cheap.
#[derive(Clone)]
pub struct App {
    pub core: core::Core,
    /// The folder with vmlinuz, initrd, live.squashfs, guest.img and manifest.json.
    pub files: PathBuf,
    /// The folder that keeps bundles as `SHA256.eli`.
    pub bundles: PathBuf,
    /// The folder that keeps media, each in a folder of its name.
    pub systems: PathBuf,
    pub ca: Arc<ca::Ca>,
    pub tokens: Arc<tokens::Tokens>,
    /// Passwords, sessions, and the one-time code that the console shows.
    pub auth: Arc<auth::Auth>,
    /// Secrets that are kept sealed.
    pub vault: Arc<vault::Vault>,
    /// Nothing here is real: logs are replayed into it.
    pub rehearsal: bool,
    /// When addresses were last asked for.
    pub seen: Arc<dhcp::Seen>,
    /// The BMCs of machines.
    pub bmcs: Arc<bmc::Bmcs>,
    /// What they said last.
    pub powers: Arc<power::Powers>,
    /// How each NIC is served, and who else answers there.
    pub wires: Arc<network::Wires>,
    /// Consoles that somebody looks at.
    pub consoles: Arc<consoles::Consoles>,
    /// What every page says of the whole site.
    pub glances: Arc<web::glance::Glances>,
}

impl App {
    fn sources(&self) -> node_api::desired::Sources<'_> {
        node_api::desired::Sources {
            ca_sha256: self.ca.sha256(),
            tokens: &self.tokens,
            bundles: &self.bundles,
            consoles: &self.consoles,
        }
    }
}
