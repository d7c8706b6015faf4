//! Packages: what a `.eli` bundle says it is and wants. The format is described in docs/eli.md.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Ctx, Fleet, Refusal, service};

/// A bundle as it came in: its checksum and what its manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub sha256: String,
    pub bytes: u64,
    pub manifest: Manifest,
}

/// `manifest.toml` of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1
    pub format: u32,
    pub name: String,
    pub version: String,
    pub summary: String,
    pub requires: Requires,
    #[serde(default)]
    pub nodes: Nodes,
    #[serde(default, rename = "deb")]
    pub debs: Vec<Deb>,
    #[serde(default, rename = "config")]
    pub configs: Vec<Config>,
    pub service: Unit,
    pub health: Health,
}

/// For each node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Requires {
    pub memory_mib: u64,
    pub vcpus: u32,
    pub disk_gib: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    pub min: u32,
}

impl Default for Nodes {
    fn default() -> Self {
        Nodes { min: 1 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deb {
    /// Path inside the bundle.
    pub file: String,
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Path inside the bundle.
    pub template: String,
    /// Absolute path on the node.
    pub path: String,
    /// Octal, as chmod takes it.
    #[serde(default = "default_mode")]
    pub mode: String,
}

fn default_mode() -> String {
    "0644".to_owned()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// systemd unit.
    pub unit: String,
    pub port: u16,
    /// Of the address shown to people: `http`.
    pub protocol: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub path: String,
    pub status: u16,
}

/// A package that is kept by the appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub bundle: Bundle,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "few packages are ever removed")]
pub enum Event {
    Added {
        bundle: Bundle,
    },
    Removed {
        name: String,
        #[serde(default)]
        leftovers: Vec<String>,
    },
}

impl Event {
    pub(crate) fn name(&self) -> &str {
        match self {
            Event::Added { bundle } => &bundle.manifest.name,
            Event::Removed { name, .. } => name,
        }
    }
}

impl Event {
    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Removed { leftovers, .. } => leftovers,
            Event::Added { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Added { bundle } => {
                write!(f, "Package {} {} was added", bundle.manifest.name, bundle.manifest.version)
            }
            Event::Removed { name, .. } => write!(f, "Package {name} was removed"),
        }
    }
}

/// By force, the service that it is installed as is removed with it: without its package it could be neither
/// configured nor moved.
pub(crate) fn remove(fleet: &Fleet, name: &str, force: bool, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    if !fleet.packages.contains_key(name) {
        return Err(Refusal::Missing { what: "package", name: name.to_owned() });
    }
    let mut events = Vec::new();
    let mut leftovers = Vec::new();
    for service in service::of_package(fleet, name).filter(|it| it.phase != service::Phase::Removing) {
        if !force {
            return Err(Refusal::Conflict(format!(
                "{} is {} at {}; remove the service first, or remove the package by force, which removes both",
                service.name,
                service.phase.word(),
                service.url()
            )));
        }
        events.extend(service::remove(fleet, service.id, false, ctx)?);
        leftovers.push(format!("the service {} is still being removed", service.name));
    }
    events.push(crate::Event::Package(Event::Removed { name: name.to_owned(), leftovers }));
    Ok(events)
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Added { bundle } => {
            let package = Package { bundle: bundle.clone() };
            fleet.packages.insert(bundle.manifest.name.clone(), Arc::new(package));
        }
        Event::Removed { name, .. } => {
            fleet.packages.remove(name);
        }
    }
}
