//! Lists: as tables for people, as the API's own JSON for scripts.

use fleet::Timestamp;
use fleet::site::{Adopt, Policy};
use serde::{Deserialize, Serialize};

use super::Output;
use super::client::Client;
use super::history;
use super::table::{Table, plain, span};
use crate::api::Wait;
use crate::api::hosts::Host;
use crate::api::images::Image;
use crate::api::machines::Machine;
use crate::api::packages::Package;
use crate::api::racks::Rack;
use crate::api::services::Service;
use crate::api::state::State;
use crate::api::switches::Switch;
use crate::api::vms::Vm;
use crate::api::volumes::Volume;
use crate::core;
use crate::web::show;

pub fn machines(machines: &[Machine], output: Output) -> anyhow::Result<()> {
    if output.list(machines, |machine| machine.name.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["ID", "NAME", "PHASE", "SINCE", "ADDRESS", "FIRMWARE", "HARDWARE"]);
    for machine in machines {
        let addresses: Vec<String> = machine.addresses.iter().map(ToString::to_string).collect();
        let cells = vec![
            machine.id.to_string(),
            machine.name.clone(),
            machine.phase.clone(),
            ago(machine.since),
            addresses.join(","),
            machine.firmware.clone().unwrap_or_default(),
            machine.summary.clone().unwrap_or_default(),
        ];
        let mut below = waits(&machine.waiting);
        below.extend(machine.trouble.iter().map(|trouble| {
            format!("does not boot: {} {} -> {}", trouble.what, trouble.why, trouble.next_step)
        }));
        table.row(cells, below);
    }
    table.print("No machines yet. Plug one in and let it start from the network.");
    Ok(())
}

pub fn hosts(hosts: &[Host], output: Output) -> anyhow::Result<()> {
    if output.list(hosts, |host| host.name.to_string())? {
        return Ok(());
    }
    let mut table =
        Table::new(&["ID", "NAME", "MEMORY", "FREE", "THREADS", "VOLUMES", "FREE", "VMS", "HYPERVISOR"]);
    for host in hosts {
        let cells = vec![
            host.id.to_string(),
            host.name.clone(),
            host.memory(),
            host.free_memory(),
            host.threads.to_string(),
            host.volumes(),
            host.volumes_free().unwrap_or_default(),
            host.vms.len().to_string(),
            host.hypervisor.clone(),
        ];
        table.row(cells, Vec::new());
    }
    table.print("No hosts yet. A machine becomes one a few minutes after it was adopted.");
    Ok(())
}

pub fn vms(vms: &[Vm], output: Output) -> anyhow::Result<()> {
    if output.list(vms, |vm| vm.name.to_string())? {
        return Ok(());
    }
    let mut table =
        Table::new(&["ID", "NAME", "STATE", "SINCE", "ADDRESS", "HOST", "MEMORY", "VCPUS", "DISK"]);
    for vm in vms {
        let cells = vec![
            vm.id.to_string(),
            vm.name.clone(),
            vm.phase.clone(),
            ago(vm.since),
            vm.address.map(|address| address.to_string()).unwrap_or_default(),
            vm.host_name.clone(),
            vm.memory(),
            vm.vcpus.to_string(),
            format!("{} GiB", vm.disk_gib),
        ];
        table.row(cells, waits(&vm.waiting));
    }
    table.print("No VMs yet. eli vm create NAME makes one.");
    Ok(())
}

pub fn volumes(volumes: &[Volume], output: Output) -> anyhow::Result<()> {
    if output.list(volumes, |volume| volume.name.clone())? {
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "STATE", "SINCE", "SIZE", "VM", "HOST", "MADE FROM"]);
    for volume in volumes {
        let cells = vec![
            volume.name.clone(),
            volume.phase.clone(),
            ago(volume.since),
            format!("{} GiB", volume.size_gib),
            volume.vm_name.clone(),
            volume.host_name.clone(),
            volume.image.clone(),
        ];
        table.row(cells, Vec::new());
    }
    table.print("No volumes yet. Each VM has one; eli vm create NAME makes a VM.");
    Ok(())
}

pub fn images(images: &[Image], output: Output) -> anyhow::Result<()> {
    if output.list(images, |image| image.id.clone())? {
        return Ok(());
    }
    let mut table = Table::new(&["ID", "KIND", "VERSION", "SIZE", "VMS", "MACHINES", "WHAT IT IS"]);
    for image in images {
        let cells = vec![
            image.id.clone(),
            image.kind.word().to_owned(),
            image.version.clone().unwrap_or_default(),
            image.size(),
            image.vms.to_string(),
            image.machines.to_string(),
            image.title.clone(),
        ];
        table.row(cells, Vec::new());
    }
    table.print("No images: the files of the appliance are missing.");
    Ok(())
}

pub fn services(services: &[Service], output: Output) -> anyhow::Result<()> {
    if output.list(services, |service| service.name.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["ID", "NAME", "VERSION", "STATE", "SINCE", "ADDRESS", "NODES"]);
    for service in services {
        let nodes: Vec<&str> = service.nodes.iter().map(|node| node.name.as_str()).collect();
        let cells = vec![
            service.id.to_string(),
            service.name.clone(),
            service.version.clone(),
            service.phase.clone(),
            ago(service.since),
            service.url.clone(),
            nodes.join(","),
        ];
        table.row(cells, waits(&service.waiting));
    }
    table.print("Nothing is installed yet. eli install FILE installs a package.");
    Ok(())
}

pub fn packages(packages: &[Package], output: Output) -> anyhow::Result<()> {
    if output.list(packages, |package| package.name.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "VERSION", "SIZE", "SUMMARY"]);
    for package in packages {
        let size = show::bytes(package.bytes);
        table.row(
            vec![package.name.clone(), package.version.clone(), size, package.summary.clone()],
            Vec::new(),
        );
    }
    table.print("No packages yet. eli install FILE brings one.");
    Ok(())
}

pub fn racks(racks: &[Rack], output: Output) -> anyhow::Result<()> {
    if output.list(racks, |rack| rack.name.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["RACK", "UNIT", "HOLDS", "ID"]);
    for rack in racks {
        let head = vec![rack.name.clone(), format!("of {}", rack.units), String::new(), String::new()];
        table.row(head, Vec::new());
        for held in &rack.holds {
            let unit = match held.height {
                1 => held.unit.to_string(),
                height => format!("{}-{}", held.unit, held.unit + height - 1),
            };
            table.row(vec![String::new(), unit, held.name.clone(), held.id.clone()], Vec::new());
        }
    }
    table.print("No racks yet. eli rack add NAME adds one.");
    Ok(())
}

pub fn switches(switches: &[Switch], output: Output) -> anyhow::Result<()> {
    if output.list(switches, |switch| switch.name.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["SWITCH", "PORT", "BY LLDP", "BY HAND"]);
    for switch in switches {
        let chassis = switch.chassis.clone().unwrap_or_default();
        table.row(vec![switch.name.clone(), String::new(), chassis, String::new()], Vec::new());
        for port in &switch.ports {
            let heard: Vec<&str> = port.heard.iter().map(|thing| thing.name.as_str()).collect();
            let by_hand = port.by_hand.as_ref().map(|thing| thing.name.clone()).unwrap_or_default();
            let contradiction = port.contradiction.clone().into_iter().collect();
            table.row(vec![String::new(), port.name.clone(), heard.join(","), by_hand], contradiction);
        }
    }
    table.print("No switches yet. One that speaks LLDP appears as soon as a machine hears it.");
    Ok(())
}

/// Every node that packages can be put on, and what it is assigned to.
pub fn registry(state: &State, output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Node<'a> {
        node: &'a Vm,
        assigned: Option<&'a Service>,
    }
    let nodes: Vec<Node> = state
        .vms
        .iter()
        .map(|vm| Node {
            node: vm,
            assigned: state.services.iter().find(|service| service.nodes.iter().any(|node| node.id == vm.id)),
        })
        .collect();
    if output.list(&nodes, |node| node.node.name.to_string())? {
        return Ok(());
    }
    let mut table = Table::new(&["NODE", "ADDRESS", "HOST", "STATE", "ASSIGNED TO", "ANSWERS AT"]);
    for Node { node, assigned } in &nodes {
        let answering = assigned.filter(|service| service.phase == "answering");
        let cells = vec![
            node.name.clone(),
            node.address.map(|address| address.to_string()).unwrap_or_default(),
            node.host_name.clone(),
            node.phase.clone(),
            assigned.map_or("free".to_owned(), |service| format!("{} {}", service.name, service.version)),
            answering.map(|service| service.url.clone()).unwrap_or_default(),
        ];
        table.row(cells, Vec::new());
    }
    table.print("No nodes yet. A package gets its own when it is installed.");
    Ok(())
}

/// A line of a timeline, as the API gives it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    at: Timestamp,
    actor: String,
    /// `event`, or the kind of the note.
    kind: String,
    subject: String,
    text: String,
}

pub fn timeline(lines: &[Line], output: Output) -> anyhow::Result<()> {
    if output.list(lines, |line| line.text.clone())? {
        return Ok(());
    }
    let mut before: Option<Timestamp> = None;
    for line in lines {
        let at = history::local(line.at);
        let spent = before.map_or(0, |before| line.at.secs_since(before));
        let spent = if spent >= 2 { format!("+{}", span(spent)) } else { String::new() };
        let kind = if line.kind == "event" { "" } else { &line.kind };
        println!("{at}  {spent:>12}  {kind:8}  {}", plain(&line.text));
        before = Some(line.at);
    }
    if lines.is_empty() {
        println!("Nothing has happened yet.");
    }
    Ok(())
}

/// Why this machine does not boot, as the page says it; nothing if all is well or it is no machine.
pub async fn trouble(client: &Client, name: &str) -> anyhow::Result<()> {
    let machines: Vec<Machine> = client.list("/machines").await?;
    let machine = machines.iter().find(|machine| machine.name == name || machine.id.to_string() == name);
    if let Some(trouble) = machine.and_then(|machine| machine.trouble.as_ref()) {
        println!("Does not boot: {}", plain(&trouble.what));
        println!("Likely:        {}", plain(&trouble.why));
        println!("Next step:     {}", plain(&trouble.next_step));
    }
    Ok(())
}

pub fn policy(policy: &Policy, output: Output) -> anyhow::Result<()> {
    if output.one(policy, "policy")? {
        return Ok(());
    }
    println!(
        "{}",
        match policy.adopt {
            Adopt::Blank => "Machines whose disks are blank are adopted by themselves (--ask changes that)",
            Adopt::Ask => "Machines are adopted only when a person says so (--blank changes that)",
        }
    );
    println!(
        "{}",
        match policy.bmc_accounts {
            true =>
                "Hosts make an account for the appliance at their own BMCs (--bmc-accounts off changes that)",
            false => "Hosts make no account at their own BMCs (--bmc-accounts on changes that)",
        }
    );
    println!("SSH keys that are let in on every host and VM: {}", policy.ssh_keys.len());
    for key in &policy.ssh_keys {
        println!("    {}", plain(key));
    }
    Ok(())
}

pub fn waits(waiting: &[Wait]) -> Vec<String> {
    waiting
        .iter()
        .map(|wait| match &wait.hint {
            Some(hint) => format!("waits: {} -> {hint}", wait.what),
            None => format!("waits: {}", wait.what),
        })
        .collect()
}

/// By this machine's clock; a lab or laptop whose clock is wrong shows wrong spans, nothing else.
pub fn ago(since: Timestamp) -> String {
    span(core::now().secs_since(since))
}
