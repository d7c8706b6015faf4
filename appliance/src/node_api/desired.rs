//! What one node should be: the part of the fleet that concerns it.

use std::path::Path;

use anyhow::Context as _;
use fleet::wire::{BmcAccount, Desired, HealthCheck, ImageSpec, Seed, SoftwareSpec, VmSpec, VolumeSpec};
use fleet::{Fleet, MachineId, NodeId, VmId, power, service, vm};
use sha2::{Digest as _, Sha256};

use crate::consoles::Consoles;
use crate::packages;
use crate::tokens::Tokens;

/// The bridge on every host that is one with the site's network.
const BRIDGE: &str = "lan0";

/// What goes into a desired state besides the fleet.
pub struct Sources<'a> {
    /// Fingerprint of the site's authority.
    pub ca_sha256: String,
    pub tokens: &'a Tokens,
    /// The folder that keeps bundles as `SHA256.eli`.
    pub bundles: &'a Path,
    pub consoles: &'a Consoles,
}

pub fn desired(fleet: &Fleet, sources: &Sources<'_>, node: NodeId) -> anyhow::Result<Desired> {
    let mut desired = match node {
        NodeId::Machine(machine) => host(fleet, sources, machine)?,
        NodeId::Vm(vm) => guest(fleet, sources, vm)?,
    };
    // From the content: the same after a restart of the daemon, so that no node starts over for nothing.
    let digest = Sha256::digest(serde_json::to_vec(&desired)?);
    let first: [u8; 8] = digest[..8].try_into()?;
    // 53 bits: whole in every JSON reader.
    desired.revision = (u64::from_be_bytes(first) >> 11) | 1;
    Ok(desired)
}

fn host(fleet: &Fleet, sources: &Sources<'_>, id: MachineId) -> anyhow::Result<Desired> {
    let machine = fleet.machines.get(&id).with_context(|| format!("there is no {id}"))?;
    let wanted = vm::on_host(fleet, id).filter(|vm| vm.phase != vm::Phase::Removing);
    let gone = vm::on_host(fleet, id).filter(|vm| vm.phase == vm::Phase::Removing).map(|vm| vm.id);
    Ok(Desired {
        revision: 0,
        hostname: machine.name.to_string(),
        ssh_keys: fleet.policy.ssh_keys.clone(),
        vms: wanted.map(|vm| vm_spec(fleet, sources, vm)).collect::<anyhow::Result<_>>()?,
        gone: gone.collect(),
        software: Vec::new(),
        // Where its power can be switched, that restarts it, whether its system still listens or not.
        restart: (machine.before.is_some() && !machine.power.is_switchable()).then_some(machine.since.0),
        check: fleet::machine::wanted_check(machine),
        bmc_account: power::wanted_account(fleet, machine).then(|| BmcAccount {
            user: power::ACCOUNT.to_owned(),
            password: sources.tokens.bmc_password(id),
        }),
        alone: power::alone(fleet, id),
        consoles: sources.consoles.wanted_of(id),
    })
}

fn vm_spec(fleet: &Fleet, sources: &Sources<'_>, vm: &vm::Vm) -> anyhow::Result<VmSpec> {
    let site = fleet.site.as_ref().context("the site is not founded")?;
    let address = fleet.leases.address(vm.mac).with_context(|| format!("{} has no address", vm.name))?;
    // JSON is YAML, so this is a cloud-config that any image with cloud-init reads as well.
    let user_data = serde_json::json!({
        "hostname": vm.name,
        "ssh_authorized_keys": fleet.policy.ssh_keys,
        "elisandra": {
            "appliance": site.address,
            "ca_sha256": sources.ca_sha256,
            "enrollment": sources.tokens.enrollment(NodeId::Vm(vm.id)),
        },
    });
    let digest = Sha256::digest(format!("{} {}", site.id, vm.id));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    Ok(VmSpec {
        id: vm.id,
        name: vm.name.to_string(),
        uuid: uuid::Builder::from_custom_bytes(uuid).into_uuid(),
        vcpus: vm.vcpus,
        memory_mib: vm.memory_mib,
        volume: VolumeSpec {
            name: format!("{}-{}", vm.name, vm.id),
            bytes: vm.disk_gib << 30,
            image: ImageSpec {
                url: format!("http://{}/boot/files/{}", site.address, vm.image.name),
                sha256: vm.image.sha256.clone(),
                bytes: vm.image.bytes,
            },
        },
        mac: vm.mac,
        bridge: BRIDGE.to_owned(),
        address,
        seed: Seed {
            meta_data: serde_json::json!({ "instance-id": vm.id, "local-hostname": vm.name }).to_string(),
            user_data: format!("#cloud-config\n{user_data}\n"),
            network_config: serde_json::json!({
                "version": 2,
                "ethernets": { "lan": {
                    "match": { "macaddress": vm.mac }, "dhcp4": true, "dhcp-identifier": "mac",
                } },
            })
            .to_string(),
        },
    })
}

fn guest(fleet: &Fleet, sources: &Sources<'_>, id: VmId) -> anyhow::Result<Desired> {
    let vm = fleet.vms.get(&id).with_context(|| format!("there is no {id}"))?;
    let wanted = service::of_vm(fleet, id).filter(|service| service.phase != service::Phase::Removing);
    let software =
        wanted.map(|service| software(fleet, sources, service, vm)).collect::<anyhow::Result<_>>()?;
    Ok(Desired {
        revision: 0,
        hostname: vm.name.to_string(),
        ssh_keys: fleet.policy.ssh_keys.clone(),
        vms: Vec::new(),
        gone: Vec::new(),
        software,
        restart: None,
        check: None,
        bmc_account: None,
        alone: None,
        consoles: Vec::new(),
    })
}

fn software(
    fleet: &Fleet,
    sources: &Sources<'_>,
    service: &service::Service,
    node: &vm::Vm,
) -> anyhow::Result<SoftwareSpec> {
    let package = fleet
        .packages
        .get(service.package())
        .with_context(|| format!("there is no package {}", service.package()))?;
    let manifest = &package.bundle.manifest;
    let bundle = sources.bundles.join(format!("{}.eli", service.sha256));
    Ok(SoftwareSpec {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        bundle_sha256: service.sha256.clone(),
        debs: manifest.debs.iter().map(|deb| deb.file.clone()).collect(),
        files: packages::render(fleet, service, node, &bundle)?,
        unit: manifest.service.unit.clone(),
        port: manifest.service.port,
        health: HealthCheck { path: manifest.health.path.clone(), status: manifest.health.status },
    })
}
