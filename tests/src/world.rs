//! What a story happens in: a lab with an appliance, machines that join it, a
//! laptop, and how long things took.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::api::Api;
use crate::appliance::Appliance;
use crate::bmc::{self, Bmc};
use crate::desk::Desk;
use crate::lab::Lab;
use crate::lan::Mac;
use crate::laptop::Laptop;
use crate::machine::{Disk, Firmware, Machine, Spec, mac_of};
use crate::progress::{Progress, seconds};

/// What was built and is tried out.
#[derive(Debug, Clone)]
pub struct Products {
    /// Folder with elisandra.iso, vmlinuz, hello.eli and so on.
    pub out: PathBuf,
    /// Folder with the program `eli`.
    pub binaries: PathBuf,
}

/// Fields are dropped in this order: machines before the LAN they are on.
pub struct World {
    /// By the names of their machines.
    pub bmcs: BTreeMap<String, Bmc>,
    pub machines: BTreeMap<String, Machine>,
    pub appliance: Option<Appliance>,
    pub api: Option<Api>,
    pub laptop: Option<Laptop>,
    /// A person at the page, who sat down when he was first asked for something.
    pub desk: Option<Desk>,
    pub lab: Lab,
    pub products: Products,
    pub progress: Progress,
    /// Machines are started one after the other, so that each has this computer
    /// to itself and its times can be compared.
    pub measuring: bool,
    /// What was measured, in the order of the table.
    pub times: Vec<(String, Duration)>,
}

/// The phases of a machine in their order, as the API names them.
const PHASES: [&str; 6] = ["sighted", "found", "adopted", "installing", "installed", "ready"];

/// How far a machine has come; a failed one is nowhere.
pub fn rank(phase: &str) -> Option<usize> {
    PHASES.iter().position(|name| *name == phase)
}

impl World {
    pub fn new(lab: Lab, products: Products, progress: Progress, measuring: bool) -> World {
        World {
            bmcs: BTreeMap::new(),
            machines: BTreeMap::new(),
            appliance: None,
            api: None,
            laptop: None,
            desk: None,
            lab,
            products,
            progress,
            measuring,
            times: Vec::new(),
        }
    }

    pub fn api(&self) -> Result<&Api> {
        self.api.as_ref().context("nobody has logged in to the appliance yet")
    }

    pub fn appliance(&mut self) -> Result<&mut Appliance> {
        self.appliance.as_mut().context("there is no appliance yet")
    }

    pub fn desk(&mut self) -> Result<&mut Desk> {
        let page = self.appliance()?.page;
        let pictures = self.lab.folder.join("pictures");
        match &mut self.desk {
            Some(desk) => Ok(desk),
            none => Ok(none.insert(Desk::log_in(page, pictures)?)),
        }
    }

    pub fn machine(&mut self, name: &str) -> Result<&mut Machine> {
        self.machines.get_mut(name).with_context(|| format!("there is no machine {name} in the lab"))
    }

    /// Puts the ISO into the first machine's drive; the machine stays off.
    pub fn build_appliance(&mut self, firmware: Firmware, disks: Vec<Disk>, page_port: u16) -> Result<()> {
        let iso = self.products.out.join("elisandra.iso");
        self.appliance = Some(Appliance::build(&self.lab, &iso, firmware, disks, page_port)?);
        Ok(())
    }

    /// Boots the first machine from the ISO and logs in.
    pub fn start_appliance(&mut self) -> Result<()> {
        let progress = self.progress.clone();
        let appliance = self.appliance()?;
        appliance.machine.power_on()?;
        progress.during("The appliance boots from the ISO", || appliance.introduction())?;
        self.note_time("appliance: power-on to its address on the screen");
        let appliance = self.appliance()?;
        let api = appliance.log_in().context("logging in with the one-time code on the screen")?;
        self.api = Some(api);
        self.note_time("appliance: power-on to logged in");
        Ok(())
    }

    fn note_time(&mut self, what: &str) {
        if let Some(since) = self.appliance.as_ref().and_then(|appliance| appliance.machine.on_since()) {
            self.times.push((what.to_string(), since.elapsed()));
        }
    }

    /// Plugs in a blank machine and switches it on.
    pub fn plug_in(&mut self, spec: Spec) -> Result<Mac> {
        let name = spec.name.clone();
        let mut machine = self.lab.build(spec)?;
        machine.power_on()?;
        let mac = machine.mac();
        self.machines.insert(name, machine);
        Ok(mac)
    }

    /// The same with a machine that has a BMC.
    pub fn plug_in_with_bmc(&mut self, spec: Spec, kind: bmc::Kind) -> Result<Mac> {
        let name = spec.name.clone();
        let machine = self.lab.build(spec)?;
        self.bmcs.insert(name.clone(), Bmc::connect(kind, &machine)?);
        let machine = self.machines.entry(name).insert_entry(machine).into_mut();
        machine.power_on()?;
        Ok(machine.mac())
    }

    pub fn bmc(&self, name: &str) -> Result<&Bmc> {
        self.bmcs.get(name).with_context(|| format!("{name} has no BMC in the lab"))
    }

    /// Pulls a machine's cable out of the LAN; the machine goes on.
    pub fn cut_off(&self, name: &str) -> Result<()> {
        self.lab.lan.port(name).map(|port| port.cut())
    }

    /// Undoes [`World::cut_off`].
    pub fn connect_again(&self, name: &str) -> Result<()> {
        self.lab.lan.port(name).map(|port| port.mend())
    }

    /// Waits until a machine has come as far as `phase`, and fails early when
    /// its installation has.
    pub fn comes_to(&self, name: &str, phase: &str, limit: Duration) -> Result<()> {
        let mac = self.machines.get(name).with_context(|| format!("no machine {name}"))?.mac();
        let wanted = rank(phase).with_context(|| format!("{phase} is no phase of a machine"))?;
        let reached = self.api()?.wait_until(&format!("{name} is {phase}"), limit, |state| {
            let machine = state.machine(mac)?;
            match rank(&machine.phase) {
                Some(rank) if rank >= wanted => Some(Ok(())),
                Some(_) => None,
                None => Some(Err(machine.clone())),
            }
        })?;
        if let Err(machine) = reached {
            let why: Vec<String> = machine.waiting.into_iter().map(|wait| wait.what).collect();
            bail!("{name} is {}: {}", machine.phase, why.join("; "));
        }
        Ok(())
    }

    /// Follows a machine through these of its phases and notes when after
    /// power-on each was reached.
    pub fn follow(&mut self, name: &str, phases: &[&str], limit: Duration) -> Result<()> {
        for phase in phases {
            self.comes_to(name, phase, limit)?;
            let on = self.machine(name)?.on_since().context("it is off")?;
            self.times.push((format!("{name}: power-on to {phase}"), on.elapsed()));
            self.progress.say(format_args!("{name} is {phase}, {} after power-on", seconds(on.elapsed())));
        }
        Ok(())
    }

    /// From a machine's power-on until the appliance knows its hardware.
    pub fn is_found(&mut self, name: &str, limit: Duration) -> Result<()> {
        self.follow(name, &PHASES[..2], limit)
    }

    /// From there to a ready host.
    pub fn becomes_host(&mut self, name: &str, limit: Duration) -> Result<()> {
        let found = Instant::now();
        self.follow(name, &PHASES[2..], limit)?;
        self.times.push((format!("{name}: found to ready"), found.elapsed()));
        Ok(())
    }

    /// Plugs a laptop into the LAN; it asks for an address like anybody.
    pub fn plug_in_laptop(&mut self) -> Result<Ipv4Addr> {
        let jack = self.lab.lan.jack("laptop");
        let laptop = self.laptop.insert(Laptop::plug_in(jack, mac_of("laptop", 0)));
        laptop.address(Duration::from_secs(60))
    }

    /// A port of this computer that leads to an address of the LAN.
    pub fn forward(&self, local: SocketAddr, to: SocketAddrV4) -> Result<SocketAddr> {
        self.laptop.as_ref().context("there is no laptop on the LAN")?.forward(local, to)
    }

    /// Everything that may explain a failure: what the machines printed last and
    /// what the appliance knows of them.
    pub fn evidence(&self) -> String {
        let mut text = String::new();
        let appliance = self.appliance.iter().map(|appliance| &appliance.machine);
        for machine in appliance.chain(self.machines.values()) {
            let tail = crate::console::plain(&machine.console_tail(25));
            text.push_str(&format!("\n── serial log of {}\n{tail}\n", machine.name));
        }
        let Some(Ok(state)) = self.api.as_ref().map(Api::state) else { return text };
        text.push_str(&format!("\n── the appliance's state\n{}\n", state.summary()));
        let machines = state.machines.iter().map(|machine| (&machine.id, &machine.name));
        let vms = state.vms.iter().map(|vm| (&vm.id, &vm.name));
        let services = state.services.iter().map(|service| (&service.id, &service.name));
        for (id, name) in machines.chain(vms).chain(services) {
            let Some(Ok(lines)) = self.api.as_ref().map(|api| api.timeline(id)) else { continue };
            text.push_str(&format!("\n── timeline of {name}\n"));
            for line in &lines[lines.len().saturating_sub(20)..] {
                text.push_str(&format!("{} {:<8} {}\n", line.at, line.kind, line.text));
            }
        }
        text
    }

    /// Takes the ISO out and starts the appliance from its own disk.
    pub fn restart_appliance_from_disk(&mut self) -> Result<()> {
        self.api = None;
        let progress = self.progress.clone();
        let appliance = self.appliance()?;
        appliance.machine.power_off();
        appliance.machine.take_medium_out()?;
        appliance.machine.power_on()?;
        let api = progress.during("The appliance boots from its own disk", || appliance.log_in())?;
        self.api = Some(api);
        Ok(())
    }
}
