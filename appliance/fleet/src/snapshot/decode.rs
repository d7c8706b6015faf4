//! One part read: it needs no other, so that several threads can read a snapshot.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::stored::StoredVm;
use super::{BadPart, Contents, END, Part, Root};
use crate::host::Host;
use crate::lease::Quarantine;
use crate::machine::Machine;
use crate::medium::Medium;
use crate::package::Package;
use crate::profile::Profile;
use crate::rack::Rack;
use crate::service::Service;
use crate::subnet::Subnet;
use crate::switch::Switch;
use crate::tenant::Tenant;
use crate::user::User;
use crate::vm::{Image, Vm};
use crate::{Mac, MachineId, ServiceId, StateHash, VmId};

/// A part that was read, for [`super::Restore::add`].
#[derive(Debug)]
pub struct Decoded {
    pub(super) noun: String,
    pub(super) digest: StateHash,
    pub(super) objects: Objects,
}

/// By the keys of their maps, in their order.
#[derive(Debug)]
pub(super) enum Objects {
    Root(Box<Root>),
    Leases(Vec<((Mac, Ipv4Addr), ())>),
    Machines(Vec<(MachineId, Arc<Machine>)>),
    Hosts(Vec<(MachineId, Arc<Host>)>),
    Images(Vec<(Image, ())>),
    /// With the numbers of their images, which another part has.
    Vms(Vec<(VmId, Arc<Vm>)>, Vec<usize>),
    Packages(Vec<(String, Arc<Package>)>),
    Services(Vec<(ServiceId, Arc<Service>)>),
    Racks(Vec<(String, Arc<Rack>)>),
    Switches(Vec<(String, Arc<Switch>)>),
    Media(Vec<(String, Arc<Medium>)>),
    Profiles(Vec<(String, Arc<Profile>)>),
    Subnets(Vec<(String, Arc<Subnet>)>),
    Users(Vec<(String, Arc<User>)>),
    Tenants(Vec<(String, Arc<Tenant>)>),
    Reservations(Vec<((Mac, Ipv4Addr), ())>),
    Quarantines(Vec<(Ipv4Addr, Quarantine)>),
    End(Contents),
}

impl Part {
    pub fn decode(&self) -> Result<Decoded, BadPart> {
        let objects = match self.noun.as_str() {
            "site" => self.root(),
            "lease" => self.read(|lease| (lease, ())).map(Objects::Leases),
            "machine" => self.read(|it: Machine| (it.id, Arc::new(it))).map(Objects::Machines),
            "host" => self.read(|it: Host| (it.machine, Arc::new(it))).map(Objects::Hosts),
            "image" => self.read(|image| (image, ())).map(Objects::Images),
            "vm" => self.vms(),
            "package" => self.read(package).map(Objects::Packages),
            "service" => self.read(|it: Service| (it.id, Arc::new(it))).map(Objects::Services),
            "rack" => self.read(|it: Rack| (it.name.clone(), Arc::new(it))).map(Objects::Racks),
            "switch" => self.read(|it: Switch| (it.name.clone(), Arc::new(it))).map(Objects::Switches),
            "medium" => self.read(|it: Medium| (it.name.clone(), Arc::new(it))).map(Objects::Media),
            "profile" => self.read(|it: Profile| (it.name.clone(), Arc::new(it))).map(Objects::Profiles),
            "subnet" => self.read(|it: Subnet| (it.name.clone(), Arc::new(it))).map(Objects::Subnets),
            "user" => self.read(|it: User| (it.name.clone(), Arc::new(it))).map(Objects::Users),
            "tenant" => self.read(|it: Tenant| (it.name.clone(), Arc::new(it))).map(Objects::Tenants),
            "reservation" => self.read(|it| (it, ())).map(Objects::Reservations),
            "quarantine" => self.read(|it: Quarantine| (it.address, it)).map(Objects::Quarantines),
            END => serde_json::from_slice(&self.body).map(Objects::End).map_err(|error| error.to_string()),
            _ => Err("this version does not know such a noun".to_owned()),
        };
        match objects {
            Ok(objects) => Ok(Decoded { noun: self.noun.clone(), digest: self.digest(), objects }),
            Err(why) => {
                Err(BadPart(format!("a part of the snapshot, of the noun {:?}, is bad: {why}", self.noun)))
            }
        }
    }

    fn root(&self) -> Result<Objects, String> {
        let mut roots = self.read(|root: Root| root)?;
        match (roots.pop(), roots.is_empty()) {
            (Some(root), true) => Ok(Objects::Root(Box::new(root))),
            (None, _) | (Some(_), false) => Err("it must hold one object".to_owned()),
        }
    }

    fn vms(&self) -> Result<Objects, String> {
        let unknown = Arc::new(Image { name: String::new(), sha256: String::new(), bytes: 0 });
        let mut images = Vec::new();
        let vms = self.read(|stored: StoredVm| {
            let (image, vm) = stored.with(&unknown);
            images.push(image);
            (vm.id, Arc::new(vm))
        })?;
        Ok(Objects::Vms(vms, images))
    }

    fn read<T: DeserializeOwned, R>(&self, mut made: impl FnMut(T) -> R) -> Result<Vec<R>, String> {
        let Some(lines) = self.body.strip_suffix(b"\n") else {
            return Err("its last line has no end".to_owned());
        };
        lines
            .split(|byte| *byte == b'\n')
            .enumerate()
            .map(|(place, line)| match serde_json::from_slice(line) {
                Ok(object) => Ok(made(object)),
                Err(error) => Err(format!("line {}: {error}", place + 1)),
            })
            .collect()
    }
}

fn package(package: Package) -> (String, Arc<Package>) {
    (package.bundle.manifest.name.clone(), Arc::new(package))
}
