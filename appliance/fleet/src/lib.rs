//! The pure core: what the fleet is, what a command does to it, and what is to be done next.
//!
//! ```text
//! command ──decide──▶ events ──(made durable by the store)──▶ evolve ──▶ Fleet
//!                                                                          │
//!                         actions (commands) + why it waits ◀──── plan ────┘◀── Observed
//! ```
//!
//! Nothing here reads a clock, draws a random number or does I/O; Cargo.toml and clippy.toml hold it to that.
//! One file per noun holds the noun's state, its events, and its part of `decide` and `evolve`.

mod command;
mod compact;
pub mod document;
mod event;
mod hash;
pub mod host;
pub mod id;
pub mod lease;
pub mod machine;
pub mod package;
mod plan;
pub mod rack;
pub mod restore;
pub mod service;
mod simulate;
pub mod site;
pub mod switch;
pub mod vm;
pub mod wire;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use command::{Command, Ctx, Refusal, decide};
pub use compact::compact;
pub use event::{Event, evolve};
pub use hash::{StateHash, state_hash};
pub use id::{Mac, MachineId, NodeId, ParseError, ServiceId, Timestamp, VmId};
pub use plan::{Observed, ObservedNode, Plan, Subject, Waiting, news_of_neighbours, plan};
pub use simulate::{Digest, Effect, Forecast, Placement, Step, Wait, digest, name_of, simulate};

/// Everything that was decided: the fold of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub site: Option<site::Site>,
    pub policy: site::Policy,
    pub leases: lease::Leases,
    pub machines: imbl::OrdMap<MachineId, machine::Machine>,
    pub hosts: imbl::OrdMap<MachineId, host::Host>,
    pub vms: imbl::OrdMap<VmId, vm::Vm>,
    pub packages: imbl::OrdMap<String, package::Package>,
    pub services: imbl::OrdMap<ServiceId, service::Service>,
    #[serde(default)]
    pub racks: imbl::OrdMap<String, Arc<rack::Rack>>,
    #[serde(default)]
    pub switches: imbl::OrdMap<String, Arc<switch::Switch>>,
    /// The last number handed out for each noun; ids are never used twice.
    pub last_machine: u64,
    pub last_vm: u64,
    pub last_service: u64,
}

/// `[a-z0-9]`, `-` inside, at most 63 characters: an RFC 1123 label in lower case.
pub fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}
