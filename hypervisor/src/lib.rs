//! Virtual machines on one host.
//!
//! A [`Hypervisor`] is told what should be there, one thing at a time, and says what it changed; asking twice
//! changes nothing the second time. It blocks: an agent calls it where blocking is allowed. [`Libvirt`] is the real
//! one, [`Fake`] is held in memory and can be told to fail.
//!
//! ```text
//! image ──ensure_volume──▶ volume ─┐
//! cloud-init data ──ensure_seed──▶ seed ─┴─ensure_vm──▶ running ──remove_vm──▶ nothing left
//! ```

mod domain;
mod fake;
mod libvirt;
pub mod plan;
mod qcow2;
mod xml;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use fleet::VmId;
use fleet::wire::{Capacity, ConsoleKind, VmSpec, VolumeSpec};
use uuid::Uuid;

pub use domain::console_name;
pub use fake::Fake;
pub use libvirt::{Libvirt, Places};
pub use qcow2::{ImageError, check_image};

/// One host's virtual machines and their volumes.
pub trait Hypervisor: Send + Sync + 'static {
    /// What there is for virtual machines, and whether they run in hardware.
    fn capacity(&self) -> Result<Capacity, HypervisorError>;

    /// The virtual machines that we made; others on the host are not ours to see.
    fn vms(&self) -> Result<Vec<Vm>, HypervisorError>;

    /// Names of the complete volumes and seeds in the pool.
    fn volumes(&self) -> Result<BTreeSet<String>, HypervisorError>;

    /// A volume with the content of `image` (a checked qcow2 file), as large as it should be, that needs the image no
    /// longer. One that is there already is left as it is.
    fn ensure_volume(&self, volume: &VolumeSpec, image: &Path) -> Result<Ensured, HypervisorError>;

    /// The volume `name` with the bytes of the file `content`: cloud-init data for a first start.
    fn ensure_seed(&self, name: &str, content: &Path) -> Result<Ensured, HypervisorError>;

    /// The virtual machine is defined and runs. Its volume and seed are there.
    fn ensure_vm(&self, vm: &VmSpec) -> Result<Ensured, HypervisorError>;

    /// The Unix socket at which a running virtual machine has its console.
    fn console(&self, vm: &Vm, kind: ConsoleKind) -> Result<PathBuf, HypervisorError>;

    /// Ends the virtual machine at once and removes it with its volume and seed.
    fn remove_vm(&self, vm: &Vm) -> Result<Ensured, HypervisorError>;
}

/// What asking for something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    AlreadyThere,
    Created,
    /// It was there and did not run.
    Started,
    /// It was there and runs as it was; the next start is as it should be.
    Redefined,
    Removed,
}

/// A virtual machine as the hypervisor has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    pub id: VmId,
    pub uuid: Uuid,
    pub name: String,
    pub running: bool,
    pub volume: String,
    pub seed: String,
    /// Of everything in the specification that its definition depends on: differs when that changed.
    pub fingerprint: String,
}

/// The name of a machine's seed in the pool.
pub fn seed_name(vm: &VmSpec) -> String {
    format!("{}.seed", vm.volume.name)
}

/// Of what the definition of a virtual machine is made of.
pub fn fingerprint(vm: &VmSpec) -> String {
    domain::fingerprint(vm)
}

#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    #[error("{step}")]
    Libvirt {
        step: String,
        #[source]
        source: virt::error::Error,
    },
    #[error("{step}")]
    Io {
        step: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Something that no further try will change.
    #[error("{0}")]
    Refused(String),
}

/// Names come over the network and become file names.
fn checked_name(name: &str) -> Result<&str, HypervisorError> {
    let good = (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good {
        Ok(name)
    } else {
        Err(HypervisorError::Refused(format!("{name:?} is not a name for a volume")))
    }
}

#[cfg(test)]
mod tests;
