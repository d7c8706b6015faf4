//! VMs: guests on hosts. Placement is decided here and recorded, so that carrying out leaves nothing to choose.
//!
//! ```text
//! Wanted ──seen running──▶ Running ──remove──▶ Removing ──host says gone──▶ (removed)
//!    └───────────────────────remove───────────────▲
//! ```
//!
//! cancel: Wanted ──▶ Removing; Removing ──▶ Wanted. remove by force: forgotten at once, from every phase; if its host
//! still has it, the host removes it as soon as it speaks again. Its host fenced: Wanted, on another host.

mod recovery;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Ctx, Fleet, Mac, MachineId, Refusal, Timestamp, VmId, host, is_label, lease, service, tenant};

pub use recovery::Recover;
pub(crate) use recovery::{may_move, recover};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    pub id: VmId,
    pub name: Arc<str>,
    pub host: MachineId,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub disk_gib: u64,
    /// Shared by all VMs that are made from it.
    pub image: Arc<Image>,
    pub mac: Mac,
    /// SHA-256 of its guest agent's public key, once it has enrolled.
    pub key: Option<Box<str>>,
    pub phase: Phase,
    pub since: Timestamp,
    /// When it was said that this phase lasts longer than it should.
    #[serde(default)]
    pub late: Option<Timestamp>,
    /// What becomes of it when its host is fenced.
    #[serde(default, skip_serializing_if = "Recover::is_wait")]
    pub recover: Recover,
    /// Whose it is; without one, the site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
}

impl Vm {
    /// Of its volume, in the pool of its host.
    pub fn volume_name(&self) -> String {
        format!("{}-{}", self.name, self.id)
    }

    /// What a host must have room for.
    fn needs(&self) -> NewVm {
        NewVm {
            name: self.name.to_string(),
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            disk_gib: self.disk_gib,
            image: Image::clone(&self.image),
            recover: self.recover,
            tenant: self.tenant.as_deref().map(str::to_owned),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Wanted,
    Running,
    Removing,
}

impl Phase {
    /// How long it may last until the log says that it is late; `None` if it does not pass by itself.
    pub fn limit_secs(self) -> Option<u64> {
        match self {
            Phase::Wanted => Some(600),
            Phase::Removing => Some(300),
            Phase::Running => None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Phase::Wanted => "starting",
            Phase::Running => "running",
            Phase::Removing => "being removed",
        }
    }
}

/// A disk image that volumes are made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Image {
    /// File name under `/boot/files/`.
    pub name: String,
    pub sha256: String,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVm {
    pub name: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub disk_gib: u64,
    pub image: Image,
    #[serde(default, skip_serializing_if = "Recover::is_wait")]
    pub recover: Recover,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Created {
        vm: Vm,
        host_name: String,
    },
    Enrolled {
        vm: VmId,
        key: String,
    },
    Running {
        vm: VmId,
        at: Timestamp,
    },
    Removing {
        vm: VmId,
        at: Timestamp,
    },
    Gone {
        vm: VmId,
    },
    /// It was to be removed, and is wanted again.
    Kept {
        vm: VmId,
        at: Timestamp,
    },
    Late {
        vm: VmId,
        what: String,
        at: Timestamp,
    },
    /// Its host is off for good or for a while; it is made anew on another.
    Moved {
        vm: VmId,
        host: MachineId,
        host_name: String,
        leftovers: Vec<String>,
        at: Timestamp,
    },
    /// By force, without its host's word.
    Forgotten {
        vm: VmId,
        name: String,
        leftovers: Vec<String>,
    },
}

impl Event {
    pub(crate) fn vm(&self) -> VmId {
        match self {
            Event::Created { vm, .. } => vm.id,
            Event::Enrolled { vm, .. }
            | Event::Running { vm, .. }
            | Event::Removing { vm, .. }
            | Event::Gone { vm }
            | Event::Kept { vm, .. }
            | Event::Late { vm, .. }
            | Event::Moved { vm, .. }
            | Event::Forgotten { vm, .. } => *vm,
        }
    }
}

impl Event {
    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Moved { leftovers, .. } | Event::Forgotten { leftovers, .. } => leftovers,
            Event::Created { .. }
            | Event::Enrolled { .. }
            | Event::Running { .. }
            | Event::Removing { .. }
            | Event::Gone { .. }
            | Event::Kept { .. }
            | Event::Late { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Created { vm, host_name } => {
                write!(f, "Created as {}", vm.name)?;
                // Tenants are told of no host.
                if !host_name.is_empty() {
                    write!(f, " on {host_name}")?;
                }
                write!(f, ": {} vCPU, {} MiB memory, {} GiB disk", vm.vcpus, vm.memory_mib, vm.disk_gib)
            }
            Event::Enrolled { .. } => f.write_str("Its guest agent was given a certificate"),
            Event::Running { .. } => f.write_str("Running"),
            Event::Removing { .. } => f.write_str("To be removed"),
            Event::Gone { .. } => f.write_str("Gone from its host"),
            Event::Kept { .. } => f.write_str("Not removed: it is wanted again"),
            Event::Late { what, .. } => write!(f, "Is late: {what}"),
            Event::Moved { host_name, .. } if host_name.is_empty() => {
                f.write_str("Made anew, from its image")
            }
            Event::Moved { host_name, .. } => {
                write!(f, "Made anew on {host_name}, from its image: its host is fenced")
            }
            Event::Forgotten { name, .. } => write!(f, "VM {name} was forgotten without its host's word"),
        }
    }
}

pub fn by_name<'a>(fleet: &'a Fleet, name: &str) -> Option<&'a Vm> {
    let vms = fleet.index.vms_by_name(name).filter_map(|vm| fleet.vms.get(&vm));
    vms.map(Arc::as_ref).find(|vm| *vm.name == *name)
}

pub fn by_mac(fleet: &Fleet, mac: Mac) -> Option<&Vm> {
    fleet.vms.get(&fleet.index.vm_by_mac(mac)?).map(Arc::as_ref)
}

/// The VMs that are on this host or are to be.
pub fn on_host(fleet: &Fleet, host: MachineId) -> impl Iterator<Item = &Vm> {
    fleet.index.vms_on(host).filter_map(|vm| fleet.vms.get(&vm)).map(Arc::as_ref)
}

pub(crate) fn create(fleet: &Fleet, new: &NewVm, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let invalid = |sentence: String| Err(Refusal::Invalid(sentence));
    if !is_label(&new.name) {
        return invalid(format!(
            "{:?} is not usable as a name: a-z, 0-9 and -, at most 63 characters",
            new.name
        ));
    }
    tenant::may_be_called(fleet, new.tenant.as_deref(), &new.name)?;
    if by_name(fleet, &new.name).is_some() {
        return Err(Refusal::Conflict(format!("there is a VM {} already", new.name)));
    }
    if !(1..=1024).contains(&new.vcpus) || !(1..=65_536).contains(&new.disk_gib) {
        return invalid("a VM has 1 to 1024 vCPUs and a disk of 1 to 65536 GiB".to_owned());
    }
    if !(128..=64 * 1024 * 1024).contains(&new.memory_mib) {
        return invalid(format!(
            "{} MiB is not usable: a VM has at least 128 MiB and at most 64 TiB",
            new.memory_mib
        ));
    }
    if let Some(tenant) = &new.tenant {
        tenant::has_room(fleet, tenant, new)?;
    }
    let host = place(fleet, new, |_| true)?;
    let Some(site) = &fleet.site else {
        return Err(Refusal::Conflict("the site is not founded yet".to_owned()));
    };
    // A machine may have come with the MAC address that would be next.
    let free = |(_, mac): &(VmId, Mac)| {
        fleet.index.machine_by_mac(*mac).is_none()
            && fleet.leases.given.of(*mac).next().is_none()
            && fleet.leases.reserved.of(*mac).next().is_none()
    };
    let next = (fleet.last_vm + 1..).take(1 << 24).map(|id| (VmId(id), mac_of(site.id, id))).find(free);
    let Some((id, mac)) = next else {
        return Err(Refusal::Conflict("every MAC address that a VM could have is in use".to_owned()));
    };
    let given = lease::assign(fleet, mac, link_of(fleet, host.machine), ctx);
    let mut events = given.map_err(|refusal| Refusal::OfHosts {
        sentence: refusal.to_string(),
        told: format!("there is no address for {} now", new.name),
    })?;
    let vm = Vm {
        id,
        name: new.name.as_str().into(),
        host: host.machine,
        vcpus: new.vcpus,
        memory_mib: new.memory_mib,
        disk_gib: new.disk_gib,
        image: Arc::new(new.image.clone()),
        mac,
        key: None,
        phase: Phase::Wanted,
        since: ctx.now,
        late: None,
        recover: new.recover,
        tenant: new.tenant.as_deref().map(Into::into),
    };
    let host_name = fleet
        .machines
        .get(&host.machine)
        .map_or_else(|| host.machine.to_string(), |machine| machine.name.to_string());
    events.push(crate::Event::Vm(Event::Created { vm, host_name }));
    Ok(events)
}

/// 02: locally administered, unicast. Two octets of the site's id keep two sites on one wire apart.
fn mac_of(site: uuid::Uuid, vm: u64) -> Mac {
    let [_, _, _, _, _, n3, n2, n1] = vm.to_be_bytes();
    Mac([0x02, site.as_bytes()[14], site.as_bytes()[15], n3, n2, n1])
}

/// The host with the most free memory; the appliance's own machine only if no other has room.
fn place<'a>(
    fleet: &'a Fleet,
    new: &NewVm,
    may_be: impl Fn(&host::Host) -> bool,
) -> Result<&'a host::Host, Refusal> {
    let fits = |host: &&host::Host| {
        host.threads >= new.vcpus
            && host::free_volume_bytes(fleet, host) >= new.disk_gib << 30
            && may_be(host)
    };
    if let Some(host) = host::roomy(fleet, new.memory_mib).find(fits) {
        return Ok(host);
    }
    let wanted = format!(
        "{} wants {} MiB memory, {} vCPU and {} GiB disk",
        new.name, new.memory_mib, new.vcpus, new.disk_gib
    );
    let told = format!("{wanted}, and there is no room for it now");
    let sentence = match host::roomiest(fleet) {
        None if fleet.hosts.is_empty() => format!("{wanted}, and there is no host yet"),
        None if fleet.hosts.values().all(|host| host.draining_since.is_some()) => {
            format!("{wanted}, and every host is being drained")
        }
        None => format!("{wanted}, and every host is silent, fenced, or being drained"),
        Some(host) => format!(
            "{wanted}; no host has room for it. The most there is: {} has {} MiB free, {} threads and {} GiB for volumes",
            fleet
                .machines
                .get(&host.machine)
                .map_or_else(|| host.machine.to_string(), |m| m.name.to_string()),
            host::free_memory_mib(fleet, host),
            host.threads,
            host::free_volume_bytes(fleet, host) >> 30
        ),
    };
    Err(Refusal::OfHosts { sentence, told })
}

/// VMs are on the wire of their host: an address of it, if that is not the site's own network.
fn link_of(fleet: &Fleet, host: MachineId) -> Option<std::net::Ipv4Addr> {
    let machine = fleet.machines.get(&host)?;
    let own = fleet.site.as_ref()?.network;
    let addresses = || machine.macs.iter().flat_map(|mac| fleet.leases.given.of(*mac));
    if addresses().any(|address| own.contains(&address)) {
        return None;
    }
    addresses().next()
}

fn find(fleet: &Fleet, id: VmId) -> Result<&Vm, Refusal> {
    fleet.vms.get(&id).map(Arc::as_ref).ok_or_else(|| Refusal::Missing { what: "VM", name: id.to_string() })
}

/// Whoever calls this has shown the VM's enrollment; it is good for one key.
pub(crate) fn enroll(fleet: &Fleet, id: VmId, key: &str) -> Result<Vec<crate::Event>, Refusal> {
    let vm = find(fleet, id)?;
    match &vm.key {
        Some(known) if **known == *key => Ok(Vec::new()),
        Some(_) => Err(Refusal::Conflict(format!(
            "the enrollment of {} was used already, with another key",
            vm.name
        ))),
        None => Ok(vec![crate::Event::Vm(Event::Enrolled { vm: id, key: key.to_owned() })]),
    }
}

pub(crate) fn observe_running(fleet: &Fleet, id: VmId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let vm = find(fleet, id)?;
    match vm.phase {
        Phase::Wanted => Ok(vec![crate::Event::Vm(Event::Running { vm: id, at: ctx.now })]),
        Phase::Running | Phase::Removing => Ok(Vec::new()),
    }
}

pub(crate) fn remove(fleet: &Fleet, id: VmId, force: bool, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let vm = find(fleet, id)?;
    if !force {
        carries_nothing(fleet, vm, "remove that, or remove the VM by force")?;
        return Ok(removing(vm, ctx).into_iter().collect());
    }
    let host = host_name(fleet, vm);
    let mut leftovers = vec![format!(
        "volume {} stays on {host}'s disk until {host} speaks again and removes it",
        vm.volume_name()
    )];
    leftovers.extend(fleet.leases.address(vm.mac).map(|address| {
        format!("if {host} still runs it, it still uses {address}, which is free for others now")
    }));
    let mut events = forgotten(fleet, vm, leftovers);
    let mut after = fleet.clone();
    for event in &events {
        crate::evolve(&mut after, event);
    }
    events.extend(service::without_nodes(&after, id));
    Ok(events)
}

fn carries_nothing(fleet: &Fleet, vm: &Vm, hint: &str) -> Result<(), Refusal> {
    match service::of_vm(fleet, vm.id).next() {
        Some(service) => {
            Err(Refusal::Conflict(format!("{} carries the service {}; {hint}", vm.name, service.name)))
        }
        None => Ok(()),
    }
}

fn host_name(fleet: &Fleet, vm: &Vm) -> String {
    fleet.machines.get(&vm.host).map_or_else(|| vm.host.to_string(), |machine| machine.name.to_string())
}

/// Its address becomes free, and nothing is known of it any more.
pub(crate) fn forgotten(fleet: &Fleet, vm: &Vm, leftovers: Vec<String>) -> Vec<crate::Event> {
    let released = fleet.leases.address(vm.mac).is_some();
    let released =
        released.then_some(crate::Event::Lease(lease::Event::Released { mac: vm.mac, address: None }));
    let forgotten = Event::Forgotten { vm: vm.id, name: vm.name.to_string(), leftovers };
    released.into_iter().chain([crate::Event::Vm(forgotten)]).collect()
}

pub(crate) fn cancel(fleet: &Fleet, id: VmId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let vm = find(fleet, id)?;
    match vm.phase {
        Phase::Wanted => {
            carries_nothing(fleet, vm, "cancel that")?;
            Ok(removing(vm, ctx).into_iter().collect())
        }
        Phase::Removing => {
            carries_nothing(fleet, vm, "cancel that")?;
            Ok(vec![kept(vm, ctx)])
        }
        Phase::Running => Err(Refusal::Conflict(format!(
            "{} is running; nothing goes on with it that could be cancelled",
            vm.name
        ))),
    }
}

/// What its host has not deleted yet stays; a disk that is gone is made anew.
pub(crate) fn kept(vm: &Vm, ctx: Ctx) -> crate::Event {
    crate::Event::Vm(Event::Kept { vm: vm.id, at: ctx.now })
}

/// The phase lasts longer than it should: said once.
pub(crate) fn record_late(
    fleet: &Fleet,
    id: VmId,
    what: &str,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let vm = find(fleet, id)?;
    if vm.late.is_some() || vm.phase.limit_secs().is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Vm(Event::Late { vm: id, what: what.to_owned(), at: ctx.now })])
}

pub(crate) fn removing(vm: &Vm, ctx: Ctx) -> Option<crate::Event> {
    (vm.phase != Phase::Removing).then_some(crate::Event::Vm(Event::Removing { vm: vm.id, at: ctx.now }))
}

pub(crate) fn observe_gone(fleet: &Fleet, id: VmId) -> Result<Vec<crate::Event>, Refusal> {
    let vm = find(fleet, id)?;
    match vm.phase {
        Phase::Removing => Ok(vec![
            crate::Event::Lease(lease::Event::Released { mac: vm.mac, address: None }),
            crate::Event::Vm(Event::Gone { vm: id }),
        ]),
        Phase::Wanted | Phase::Running => {
            Err(Refusal::Conflict(format!("{} is wanted; it cannot be gone for good", vm.name)))
        }
    }
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    let mut enter = |id: &VmId, phase: Phase, at: &Timestamp| {
        fleet.change_vm(*id, |vm| {
            vm.phase = phase;
            vm.since = *at;
            vm.late = None;
        });
    };
    match event {
        Event::Created { vm, .. } => {
            fleet.last_vm = fleet.last_vm.max(vm.id.0);
            fleet.put_vm(vm.clone());
        }
        Event::Enrolled { vm, key } => fleet.change_vm(*vm, |vm| vm.key = Some(key.as_str().into())),
        Event::Running { vm, at } => enter(vm, Phase::Running, at),
        Event::Removing { vm, at } => enter(vm, Phase::Removing, at),
        Event::Kept { vm, at } => enter(vm, Phase::Wanted, at),
        Event::Late { vm, at, .. } => fleet.change_vm(*vm, |vm| vm.late = Some(*at)),
        Event::Moved { vm, host, at, .. } => {
            enter(vm, Phase::Wanted, at);
            fleet.change_vm(*vm, |vm| {
                vm.host = *host;
                // The agent on its new disk makes another key.
                vm.key = None;
            });
        }
        Event::Gone { vm } | Event::Forgotten { vm, .. } => fleet.remove_vm(*vm),
    }
}
