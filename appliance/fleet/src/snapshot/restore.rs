//! Parts put together to a fleet.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::decode::Objects;
use super::{BadPart, Contents, Decoded, Part, Root};
use crate::host::Host;
use crate::index::{map_of, set_of};
use crate::lease::{Addresses, Leases, Quarantine};
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
use crate::{Fleet, Index, Mac, MachineId, ServiceId, StateHash, VmId};

/// Takes the parts in the order in which [`super::parts`] gave them.
#[derive(Debug, Default)]
pub struct Restore {
    root: Option<Box<Root>>,
    leases: Vec<((Mac, Ipv4Addr), ())>,
    machines: Vec<(MachineId, Arc<Machine>)>,
    hosts: Vec<(MachineId, Arc<Host>)>,
    vms: Vec<(VmId, Arc<Vm>)>,
    packages: Vec<(String, Arc<Package>)>,
    services: Vec<(ServiceId, Arc<Service>)>,
    racks: Vec<(String, Arc<Rack>)>,
    switches: Vec<(String, Arc<Switch>)>,
    media: Vec<(String, Arc<Medium>)>,
    profiles: Vec<(String, Arc<Profile>)>,
    subnets: Vec<(String, Arc<Subnet>)>,
    users: Vec<(String, Arc<User>)>,
    tenants: Vec<(String, Arc<Tenant>)>,
    reservations: Vec<((Mac, Ipv4Addr), ())>,
    quarantines: Vec<(Ipv4Addr, Quarantine)>,
    images: Vec<(Image, ())>,
    /// By their numbers.
    shared: Vec<Arc<Image>>,
    seen: Contents,
    end: Option<(Contents, StateHash)>,
}

impl Restore {
    pub fn part(&mut self, part: &Part) -> Result<(), BadPart> {
        self.add(part.decode()?)
    }

    pub fn add(&mut self, decoded: Decoded) -> Result<(), BadPart> {
        let Decoded { noun, digest, objects } = decoded;
        if self.end.is_some() {
            return Err(BadPart(format!("a part of the noun {noun:?} follows the snapshot's end")));
        }
        let in_order = match objects {
            Objects::Root(root) => self.root.replace(root).is_none(),
            Objects::Leases(leases) => append(&mut self.leases, leases),
            Objects::Machines(machines) => append(&mut self.machines, machines),
            Objects::Hosts(hosts) => append(&mut self.hosts, hosts),
            Objects::Images(images) => {
                let ascend = append(&mut self.images, images);
                self.shared = self.images.iter().map(|(image, ())| Arc::new(image.clone())).collect();
                ascend
            }
            Objects::Vms(mut vms, images) => {
                self.share_images(&mut vms, &images)?;
                append(&mut self.vms, vms)
            }
            Objects::Packages(packages) => append(&mut self.packages, packages),
            Objects::Services(services) => append(&mut self.services, services),
            Objects::Racks(racks) => append(&mut self.racks, racks),
            Objects::Switches(switches) => append(&mut self.switches, switches),
            Objects::Media(media) => append(&mut self.media, media),
            Objects::Profiles(profiles) => append(&mut self.profiles, profiles),
            Objects::Subnets(subnets) => append(&mut self.subnets, subnets),
            Objects::Users(users) => append(&mut self.users, users),
            Objects::Tenants(tenants) => append(&mut self.tenants, tenants),
            Objects::Reservations(reservations) => append(&mut self.reservations, reservations),
            Objects::Quarantines(quarantines) => append(&mut self.quarantines, quarantines),
            Objects::End(end) => {
                self.end = Some((end, digest));
                return Ok(());
            }
        };
        if !in_order {
            return Err(BadPart(format!(
                "the snapshot has objects of the noun {noun:?} twice or out of order"
            )));
        }
        self.seen.parts.push((noun, digest));
        Ok(())
    }

    fn share_images(&self, vms: &mut [(VmId, Arc<Vm>)], numbers: &[usize]) -> Result<(), BadPart> {
        for ((id, vm), number) in vms.iter_mut().zip(numbers) {
            let Some(image) = self.shared.get(*number) else {
                return Err(BadPart(format!(
                    "the snapshot has no image of number {number}, which {id} is made from"
                )));
            };
            Arc::make_mut(vm).image = Arc::clone(image);
        }
        Ok(())
    }

    /// The state hash, once the last part was added.
    pub fn hash(&self) -> Option<StateHash> {
        self.end.as_ref().map(|(_, digest)| *digest)
    }

    pub fn finish(self) -> Result<Fleet, BadPart> {
        let Some((end, _)) = self.end else {
            return Err(BadPart("the snapshot's end is missing".to_owned()));
        };
        if end != self.seen {
            return Err(BadPart(difference(&end, &self.seen)));
        }
        let Some(root) = self.root else {
            return Err(BadPart("the snapshot has no site".to_owned()));
        };
        let leases = Leases {
            given: addresses(self.leases)?,
            reserved: addresses(self.reservations)?,
            quarantined: map_of(self.quarantines),
        };
        let mut fleet = Fleet {
            site: root.site,
            policy: root.policy,
            leases,
            machines: map_of(self.machines),
            hosts: map_of(self.hosts),
            vms: map_of(self.vms),
            packages: map_of(self.packages),
            services: map_of(self.services),
            racks: map_of(self.racks),
            switches: map_of(self.switches),
            media: map_of(self.media),
            profiles: map_of(self.profiles),
            subnets: map_of(self.subnets),
            users: map_of(self.users),
            tenants: map_of(self.tenants),
            last_machine: root.last_machine,
            last_vm: root.last_vm,
            last_service: root.last_service,
            index: Index::default(),
        };
        fleet.make_index();
        Ok(fleet)
    }
}

fn addresses(by_mac: Vec<((Mac, Ipv4Addr), ())>) -> Result<Addresses, BadPart> {
    let mut by_address: Vec<_> = by_mac.iter().map(|((mac, address), ())| (*address, *mac)).collect();
    by_address.sort_unstable();
    if let Some([(address, _), _]) = by_address.array_windows().find(|[(a, _), (b, _)]| a == b) {
        return Err(BadPart(format!("the snapshot gives {address} to two MAC addresses")));
    }
    let by_mac = by_mac.into_iter().map(|(pair, ())| pair).collect();
    Ok(Addresses::new(set_of(by_mac), map_of(by_address)))
}

/// False if the keys do not ascend.
fn append<K: Ord, V>(all: &mut Vec<(K, V)>, more: Vec<(K, V)>) -> bool {
    let joint = match (all.last(), more.first()) {
        (Some((last, _)), Some((first, _))) => last < first,
        (None, _) | (_, None) => true,
    };
    let ascend = more.is_sorted_by(|(a, _), (b, _)| a < b);
    all.extend(more);
    joint && ascend
}

fn difference(end: &Contents, seen: &Contents) -> String {
    let pairs = end.parts.iter().zip(&seen.parts).enumerate();
    match pairs.into_iter().find(|(_, (wanted, found))| wanted != found) {
        Some((place, ((noun, _), (found, _)))) if noun == found => {
            format!("part {} of the snapshot, of the noun {noun:?}, was changed or is missing", place + 1)
        }
        Some((place, ((noun, _), (found, _)))) => {
            format!("part {} of the snapshot must be of the noun {noun:?} and is of {found:?}", place + 1)
        }
        None => format!("the snapshot has {} parts and must have {}", seen.parts.len(), end.parts.len()),
    }
}
