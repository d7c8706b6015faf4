//! A VM as a snapshot holds it: with the number of its image among the images, which are a noun of their own there.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::vm::{Image, Phase, Recover, Vm};
use crate::{Mac, MachineId, Timestamp, VmId};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredVm {
    id: VmId,
    name: Arc<str>,
    host: MachineId,
    vcpus: u32,
    memory_mib: u64,
    disk_gib: u64,
    image: usize,
    mac: Mac,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Box<str>>,
    phase: Phase,
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    late: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Recover::is_wait")]
    recover: Recover,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<Arc<str>>,
}

impl StoredVm {
    /// The number of its image, and the VM with `image` in its place.
    pub(super) fn with(self, image: &Arc<Image>) -> (usize, Vm) {
        let StoredVm {
            id,
            name,
            host,
            vcpus,
            memory_mib,
            disk_gib,
            image: number,
            mac,
            key,
            phase,
            since,
            late,
            recover,
            tenant,
        } = self;
        let image = Arc::clone(image);
        let vm = Vm {
            id,
            name,
            host,
            vcpus,
            memory_mib,
            disk_gib,
            image,
            mac,
            key,
            phase,
            since,
            late,
            recover,
            tenant,
        };
        (number, vm)
    }
}

/// Gives images their numbers, in their order.
pub(super) struct Numbers<'a> {
    numbers: OrdMap<&'a Arc<Image>, usize>,
    /// VMs of one image mostly follow each other.
    last: Option<(&'a Arc<Image>, usize)>,
}

impl<'a> Numbers<'a> {
    pub(super) fn of(images: impl Iterator<Item = &'a Arc<Image>>) -> Numbers<'a> {
        Numbers { numbers: images.enumerate().map(|(number, image)| (image, number)).collect(), last: None }
    }

    pub(super) fn store(&mut self, vm: &'a Vm) -> StoredVm {
        let Vm {
            id,
            name,
            host,
            vcpus,
            memory_mib,
            disk_gib,
            image,
            mac,
            key,
            phase,
            since,
            late,
            recover,
            tenant,
        } = vm;
        let last = self.last.filter(|(last, _)| Arc::ptr_eq(last, image));
        let number = last.or_else(|| Some((image, *self.numbers.get(&image)?)));
        self.last = number;
        StoredVm {
            id: *id,
            name: Arc::clone(name),
            host: *host,
            vcpus: *vcpus,
            memory_mib: *memory_mib,
            disk_gib: *disk_gib,
            // The index knows the image of every VM; without a number the snapshot is refused when it is read.
            image: number.map_or(usize::MAX, |(_, number)| number),
            mac: *mac,
            key: key.clone(),
            phase: *phase,
            since: *since,
            late: *late,
            recover: *recover,
            tenant: tenant.clone(),
        }
    }
}
