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
mod index;
pub mod lease;
pub mod machine;
pub mod medium;
pub mod package;
mod plan;
mod planner;
pub mod power;
pub mod profile;
pub mod rack;
pub mod restore;
#[cfg(feature = "schema")]
mod schema;
pub mod scope;
pub mod service;
mod simulate;
pub mod site;
mod snapshot;
pub mod subnet;
pub mod switch;
pub mod tenant;
pub mod user;
pub mod vm;
pub mod wire;

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use command::{Command, Ctx, Refusal, decide};
pub use compact::compact;
pub use event::{Event, evolve};
pub use hash::{Digest, StateHash, digest, state_hash};
pub use id::{Mac, MachineId, NodeId, ParseError, ServiceId, Timestamp, VmId};
pub use index::{Index, Usage};
pub use plan::{Item, Observed, ObservedNode, Plan, Subject, Waiting, heard_since, news_of_neighbours, plan};
pub use planner::{Planner, is_early};
pub use simulate::{Effect, Forecast, Placement, Step, Wait, name_of, simulate};
pub use snapshot::{BadPart, Decoded, Part, Restore, SNAPSHOT_VERSION, parts};

/// Everything that was decided: the fold of the log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Fleet {
    pub site: Option<site::Site>,
    pub policy: site::Policy,
    pub leases: lease::Leases,
    pub machines: imbl::OrdMap<MachineId, Arc<machine::Machine>>,
    pub hosts: imbl::OrdMap<MachineId, Arc<host::Host>>,
    pub vms: imbl::OrdMap<VmId, Arc<vm::Vm>>,
    pub packages: imbl::OrdMap<String, Arc<package::Package>>,
    pub services: imbl::OrdMap<ServiceId, Arc<service::Service>>,
    #[serde(default)]
    pub racks: imbl::OrdMap<String, Arc<rack::Rack>>,
    #[serde(default)]
    pub switches: imbl::OrdMap<String, Arc<switch::Switch>>,
    #[serde(default)]
    pub media: imbl::OrdMap<String, Arc<medium::Medium>>,
    /// Those that people made; others are built in.
    #[serde(default)]
    pub profiles: imbl::OrdMap<String, Arc<profile::Profile>>,
    /// Besides the site's own network, which is here only if it was described.
    #[serde(default)]
    pub subnets: imbl::OrdMap<String, Arc<subnet::Subnet>>,
    /// Besides the one that is built in.
    #[serde(default)]
    pub users: imbl::OrdMap<String, Arc<user::User>>,
    #[serde(default)]
    pub tenants: imbl::OrdMap<String, Arc<tenant::Tenant>>,
    /// The last number handed out for each noun; ids are never used twice.
    pub last_machine: u64,
    pub last_vm: u64,
    pub last_service: u64,
    #[serde(skip)]
    pub index: Index,
}

/// Without the index, which follows from the rest.
impl PartialEq for Fleet {
    fn eq(&self, other: &Fleet) -> bool {
        let Fleet {
            site,
            policy,
            leases,
            machines,
            hosts,
            vms,
            packages,
            services,
            racks,
            switches,
            media,
            profiles,
            subnets,
            users,
            tenants,
            last_machine,
            last_vm,
            last_service,
            index: _,
        } = self;
        *site == other.site
            && *policy == other.policy
            && *leases == other.leases
            && *machines == other.machines
            && *hosts == other.hosts
            && *vms == other.vms
            && *packages == other.packages
            && *services == other.services
            && *racks == other.racks
            && *switches == other.switches
            && *media == other.media
            && *profiles == other.profiles
            && *subnets == other.subnets
            && *users == other.users
            && *tenants == other.tenants
            && (*last_machine, *last_vm, *last_service)
                == (other.last_machine, other.last_vm, other.last_service)
    }
}

impl Eq for Fleet {}

impl Serialize for Fleet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Fleet::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Fleet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Fleet::deserialize(deserializer).map(Fleet::indexed)
    }
}

/// `[a-z0-9]`, `-` inside, at most 63 characters: an RFC 1123 label in lower case.
pub fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}
