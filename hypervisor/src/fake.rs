//! A hypervisor in memory, for tests of what stands on one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleet::VmId;
use fleet::wire::{Capacity, ConsoleKind, VmSpec, VolumeSpec};

use crate::{Ensured, Hypervisor, HypervisorError, Vm, checked_name, fingerprint, seed_name};

/// Keeps volumes and machines in memory. [`Fake::fail`] makes one kind of request fail until it is lifted.
#[derive(Debug, Default)]
pub struct Fake {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    vms: BTreeMap<VmId, Vm>,
    volumes: BTreeSet<String>,
    failing: BTreeMap<&'static str, String>,
}

impl Fake {
    /// `request` (`ensure_volume`, `ensure_seed`, `ensure_vm`, `remove_vm`, `vms`, `capacity`, `console`) fails with `reason`.
    pub fn fail(&self, request: &'static str, reason: &str) {
        self.inner().failing.insert(request, reason.to_owned());
    }

    pub fn succeed(&self, request: &'static str) {
        self.inner().failing.remove(request);
    }

    /// The machine ends by itself, as when somebody shuts it down inside.
    pub fn stop(&self, id: VmId) {
        if let Some(vm) = self.inner().vms.get_mut(&id) {
            vm.running = false;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere is that test's failure; what is here is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checked(&self, request: &'static str) -> Result<MutexGuard<'_, Inner>, HypervisorError> {
        let inner = self.inner();
        match inner.failing.get(request) {
            Some(reason) => Err(HypervisorError::Refused(reason.clone())),
            None => Ok(inner),
        }
    }
}

impl Hypervisor for Fake {
    fn capacity(&self) -> Result<Capacity, HypervisorError> {
        drop(self.checked("capacity")?);
        Ok(Capacity {
            hypervisor: "fake".to_owned(),
            domain_type: "kvm".to_owned(),
            threads: 4,
            memory_mib: 8192,
            volume_bytes: 100 << 30,
            volume_free_bytes: 80 << 30,
        })
    }

    fn vms(&self) -> Result<Vec<Vm>, HypervisorError> {
        Ok(self.checked("vms")?.vms.values().cloned().collect())
    }

    fn volumes(&self) -> Result<BTreeSet<String>, HypervisorError> {
        Ok(self.checked("volumes")?.volumes.clone())
    }

    fn ensure_volume(&self, volume: &VolumeSpec, _image: &Path) -> Result<Ensured, HypervisorError> {
        let name = checked_name(&volume.name)?.to_owned();
        let new = self.checked("ensure_volume")?.volumes.insert(name);
        Ok(if new { Ensured::Created } else { Ensured::AlreadyThere })
    }

    fn ensure_seed(&self, name: &str, _content: &Path) -> Result<Ensured, HypervisorError> {
        let name = checked_name(name)?.to_owned();
        let new = self.checked("ensure_seed")?.volumes.insert(name);
        Ok(if new { Ensured::Created } else { Ensured::AlreadyThere })
    }

    fn ensure_vm(&self, vm: &VmSpec) -> Result<Ensured, HypervisorError> {
        let mut inner = self.checked("ensure_vm")?;
        for needed in [&vm.volume.name, &seed_name(vm)] {
            if !inner.volumes.contains(needed) {
                return Err(HypervisorError::Refused(format!("there is no volume {needed}")));
            }
        }
        if inner.vms.values().any(|other| other.name == vm.name && other.uuid != vm.uuid) {
            return Err(HypervisorError::Refused(format!("there is another machine called {}", vm.name)));
        }
        let wanted = Vm {
            id: vm.id,
            uuid: vm.uuid,
            name: vm.name.clone(),
            running: true,
            volume: vm.volume.name.clone(),
            seed: seed_name(vm),
            fingerprint: fingerprint(vm),
        };
        let ensured = match inner.vms.get(&vm.id) {
            None => Ensured::Created,
            Some(there) if *there == wanted => Ensured::AlreadyThere,
            Some(there) if !there.running => Ensured::Started,
            Some(_) => Ensured::Redefined,
        };
        inner.vms.insert(vm.id, wanted);
        Ok(ensured)
    }

    fn console(&self, vm: &Vm, kind: ConsoleKind) -> Result<PathBuf, HypervisorError> {
        drop(self.checked("console")?);
        Err(HypervisorError::Refused(format!(
            "{} is held in memory and has no {} console",
            vm.name,
            kind.word()
        )))
    }

    fn remove_vm(&self, vm: &Vm) -> Result<Ensured, HypervisorError> {
        let mut inner = self.checked("remove_vm")?;
        inner.volumes.remove(&vm.volume);
        inner.volumes.remove(&vm.seed);
        match inner.vms.remove(&vm.id) {
            Some(_) => Ok(Ensured::Removed),
            None => Ok(Ensured::AlreadyThere),
        }
    }
}
