//! The fleet as a snapshot: parts of at most 4096 objects of one noun, as JSON, one object a line.
//!
//! Canonical: the same state gives the same bytes. So the hash of the parts is the hash of the state. The last part
//! lists the digests of all others, by which a part that is missing or was changed is found.

mod decode;
mod restore;
mod stored;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Fleet, StateHash, site};

pub use decode::Decoded;
pub use restore::Restore;
use stored::Numbers;

/// Grows when what was written before can no longer be read.
pub const SNAPSHOT_VERSION: i64 = 1;

const OBJECTS: usize = 4096;

/// The noun of the last part.
const END: &str = "end";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub noun: String,
    pub body: Vec<u8>,
}

/// Why a snapshot is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPart(pub(crate) String);

/// What there is once: the site, its policy, and the numbers that were handed out last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    site: Option<site::Site>,
    policy: site::Policy,
    last_machine: u64,
    last_vm: u64,
    last_service: u64,
}

pub fn parts(fleet: &Fleet) -> impl Iterator<Item = Part> {
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
        index,
    } = fleet;
    let mut numbers = Numbers::of(index.images());
    let root = Root {
        site: site.clone(),
        policy: policy.clone(),
        last_machine: *last_machine,
        last_vm: *last_vm,
        last_service: *last_service,
    };
    let mut contents = Contents { parts: Vec::new() };
    let mut body = part("site", std::iter::once(root))
        .chain(part("lease", leases.given.iter()))
        .chain(part("machine", machines.values()))
        .chain(part("host", hosts.values()))
        .chain(part("image", index.images()))
        .chain(part("vm", vms.values().map(move |vm| numbers.store(vm))))
        .chain(part("package", packages.values()))
        .chain(part("service", services.values()))
        .chain(part("rack", racks.values()))
        .chain(part("switch", switches.values()))
        .chain(part("medium", media.values()))
        .chain(part("profile", profiles.values()))
        .chain(part("subnet", subnets.values()))
        .chain(part("user", users.values()))
        .chain(part("tenant", tenants.values()))
        .chain(part("reservation", leases.reserved.iter()))
        .chain(part("quarantine", leases.quarantined.values()));
    let mut ended = false;
    std::iter::from_fn(move || {
        if let Some(part) = body.next() {
            contents.parts.push((part.noun.clone(), part.digest()));
            return Some(part);
        }
        let end = (!ended).then(|| contents.part());
        ended = true;
        end
    })
}

fn part<T: Serialize>(
    noun: &'static str,
    mut objects: impl Iterator<Item = T>,
) -> impl Iterator<Item = Part> {
    std::iter::from_fn(move || {
        let mut body = Vec::new();
        for object in objects.by_ref().take(OBJECTS) {
            // Text, numbers and lists of them: there is nothing in a fleet that JSON cannot say.
            let _ = serde_json::to_writer(&mut body, &object);
            body.push(b'\n');
        }
        (!body.is_empty()).then(|| Part { noun: noun.to_owned(), body })
    })
}

impl Part {
    /// SHA-256 of the body; that of the last part is the state hash.
    pub fn digest(&self) -> StateHash {
        StateHash(Sha256::digest(&self.body).into())
    }
}

/// Noun and digest of every part but the last.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    parts: Vec<(String, StateHash)>,
}

impl Contents {
    fn part(&self) -> Part {
        Part { noun: END.to_owned(), body: serde_json::to_vec(self).unwrap_or_default() }
    }
}
