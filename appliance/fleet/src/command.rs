//! Commands, refusals, and `decide`, which sends each command to its noun.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::id::{Mac, MachineId, NodeId, ServiceId, Timestamp, VmId};
use crate::rack::{Occupant, Place};
use crate::switch::Socket;
use crate::wire::{Capacity, DiskChecked, EraseOutcome, Hardware, Neighbour};
use crate::{
    Event, Fleet, Subject, host, lease, machine, medium, package, power, profile, rack, restore, service,
    site, subnet, switch, tenant, user, vm,
};

/// An order. Who may give it is checked where it comes in ([`user::least_role`]); whether it can be done is decided here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "what is put back is rare, and is whole")]
pub enum Command {
    /// First start of the first appliance.
    Found {
        site: uuid::Uuid,
        network: Ipv4Net,
        address: Ipv4Addr,
        domain: String,
    },
    SetPolicy {
        policy: site::Policy,
    },
    /// A MAC address asked for an address and is to have one that stays.
    Sight {
        mac: Mac,
        arch: Option<u16>,
        uuid: Option<uuid::Uuid>,
        /// An address of its network, if that is not the site's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<Ipv4Addr>,
    },
    /// Adds a subnet, or describes it anew; `site` is the site's own.
    SetSubnet {
        subnet: subnet::Subnet,
    },
    RemoveSubnet {
        name: String,
        #[serde(default)]
        force: bool,
    },
    Reserve {
        mac: Mac,
        address: Ipv4Addr,
    },
    Unreserve {
        address: Ipv4Addr,
    },
    /// Ends a lease or a quarantine.
    FreeAddress {
        address: Ipv4Addr,
        #[serde(default)]
        force: bool,
    },
    /// A client declined the address that it was given, or a probe found it in use.
    Quarantine {
        mac: Mac,
        address: Ipv4Addr,
    },
    /// A passer-by has not renewed its address for longer than its lease, and the pool is exhausted.
    TakeBack {
        mac: Mac,
        address: Ipv4Addr,
    },
    /// A machine speaks from an address that another DHCP server gave it.
    Learn {
        mac: Mac,
        address: Ipv4Addr,
    },
    /// Who gives the addresses of the site's network: another DHCP server, or the appliance.
    ObserveServer {
        foreign: bool,
        network: Ipv4Net,
        address: Ipv4Addr,
    },
    /// A machine in the initrd said what it is; `key` is the SHA-256 of its public key.
    Report {
        key: String,
        hardware: Hardware,
    },
    /// The machine that the appliance itself runs on.
    RecordAppliance {
        hardware: Hardware,
    },
    /// `wipe`: the target disk may be wiped although it holds data.
    Adopt {
        machine: MachineId,
        wipe: bool,
        /// What it is installed with; our own system, if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<String>,
        /// By its serial number or path; the one that is chosen by itself, if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk: Option<String>,
    },
    /// At its next start the machine boots this, once; `None`: as usual.
    BootOnce {
        machine: MachineId,
        once: Option<machine::Once>,
    },
    /// A boot loader with this MAC address was given its script.
    BootedOnce {
        mac: Mac,
    },
    ServeKickstart {
        machine: MachineId,
        attempt: u32,
    },
    /// The installer of another system fetched its answers.
    ServeAnswers {
        machine: MachineId,
        attempt: u32,
    },
    PhoneHome {
        machine: MachineId,
        attempt: u32,
    },
    FailInstall {
        machine: MachineId,
        attempt: u32,
        step: String,
        error: String,
    },
    /// Stops what goes on with it.
    Cancel {
        subject: Subject,
    },
    /// A phase lasts longer than it should; `what` says what it waits for.
    RecordLate {
        subject: Subject,
        what: String,
    },
    RemoveMachine {
        machine: MachineId,
        /// With all that is on it, and whatever it says.
        #[serde(default)]
        force: bool,
    },
    /// No new VM is placed on it.
    Drain {
        machine: MachineId,
    },
    Undrain {
        machine: MachineId,
    },
    /// Installs a machine again that is installed.
    Reimage {
        machine: MachineId,
        #[serde(flatten)]
        how: machine::Reimage,
    },
    /// Erases disks of a machine.
    EraseMachine {
        machine: MachineId,
        #[serde(flatten)]
        how: machine::Erase,
    },
    /// What a machine says came of the disk that it was given to erase.
    ReportErased {
        machine: MachineId,
        number: u32,
        attempt: u32,
        outcome: EraseOutcome,
    },
    /// Has all disks of a machine read from end to end, or no more.
    CheckDisks {
        machine: MachineId,
        on: bool,
    },
    /// What a machine says came of it.
    ReportChecked {
        machine: MachineId,
        number: u32,
        disks: Vec<DiskChecked>,
    },
    /// What a host says came of the account that it was to make at its BMC.
    ReportAccount {
        machine: MachineId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    },
    /// It leaves for good, and is remembered.
    Retire {
        machine: MachineId,
    },
    Unretire {
        machine: MachineId,
    },
    /// Says what switches its power; the login is kept elsewhere.
    SetBmc {
        machine: MachineId,
        bmc: power::Bmc,
    },
    RemoveBmc {
        machine: MachineId,
    },
    /// The certificate that its BMC showed first.
    PinBmc {
        machine: MachineId,
        pin: String,
    },
    Power {
        machine: MachineId,
        action: power::Action,
        /// Whatever runs on it.
        #[serde(default)]
        force: bool,
    },
    /// Looks for its BMC with the operator's list of logins, at this address or where the machine says that it is.
    FindBmc {
        machine: MachineId,
        #[serde(default)]
        address: Option<String>,
    },
    /// That login of the list is about to be sent to its BMC.
    TryLogin {
        machine: MachineId,
        address: String,
        number: u32,
    },
    /// It was taken, and is kept as the login of this BMC.
    TakeLogin {
        machine: MachineId,
        number: u32,
        bmc: power::Bmc,
    },
    /// No login was taken; `stop`: for another reason than the login.
    EndSearch {
        machine: MachineId,
        stop: bool,
        why: String,
    },
    /// Says which outlets of a power strip it is plugged into; the login for the strip is kept elsewhere.
    SetStrip {
        machine: MachineId,
        strip: power::Strip,
    },
    /// Of the strip at this address, or of all.
    RemoveStrip {
        machine: MachineId,
        #[serde(default)]
        address: Option<String>,
    },
    /// Its outlets are about to be switched off, for what was wanted since `since`.
    BeginStrips {
        machine: MachineId,
        since: Timestamp,
    },
    /// What came of an attempt to switch its power, for what was wanted since `since`.
    ReportPower {
        machine: MachineId,
        since: Timestamp,
        #[serde(default)]
        way: power::Way,
        outcome: power::Outcome,
    },
    /// Lights its identify LED.
    Light {
        machine: MachineId,
        on: bool,
    },
    Fence {
        machine: MachineId,
        why: String,
    },
    /// By policy: its host agent is silent.
    FenceSuspect {
        machine: MachineId,
    },
    /// Its BMC said that it is off, and it goes on speaking.
    DoubtOff {
        machine: MachineId,
    },
    /// A person has seen that it is off, where nothing else can prove it.
    AttestOff {
        machine: MachineId,
        why: String,
    },
    Unfence {
        machine: MachineId,
        /// Switches it on, too.
        on: bool,
    },
    /// What would come of it if this host hung: for plans alone.
    ImagineFailure {
        machine: MachineId,
    },
    /// Its host agent was last heard of at `since`.
    Suspect {
        machine: MachineId,
        since: Timestamp,
    },
    /// It has spoken again.
    ObserveHeard {
        machine: MachineId,
    },
    /// Makes it anew on another host: its own is off.
    RecoverVm {
        vm: VmId,
    },
    /// A node proved who it is and gets a certificate for its key.
    Enroll {
        node: NodeId,
        key: String,
    },
    ObserveHost {
        machine: MachineId,
        capacity: Capacity,
    },
    CreateVm {
        spec: vm::NewVm,
    },
    ObserveVmRunning {
        vm: VmId,
    },
    RemoveVm {
        vm: VmId,
        /// Without waiting for its host's word.
        #[serde(default)]
        force: bool,
    },
    ObserveVmGone {
        vm: VmId,
    },
    InstallPackage {
        bundle: package::Bundle,
        image: vm::Image,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
    },
    ObserveAnswering {
        service: ServiceId,
    },
    RemoveService {
        service: ServiceId,
        /// Without waiting for its VMs.
        #[serde(default)]
        force: bool,
    },
    RemovePackage {
        name: String,
        #[serde(default)]
        force: bool,
    },
    AddRack {
        name: String,
        units: u32,
    },
    RemoveRack {
        name: String,
        #[serde(default)]
        force: bool,
    },
    PlaceMachine {
        machine: MachineId,
        rack: String,
        /// The lowest that it takes, counted from 1 at the bottom.
        unit: u32,
        #[serde(default = "rack::one")]
        height: u32,
    },
    UnplaceMachine {
        machine: MachineId,
    },
    AddSwitch {
        name: String,
        ports: Vec<String>,
        #[serde(default)]
        place: Option<rack::Place>,
    },
    RemoveSwitch {
        name: String,
        #[serde(default)]
        force: bool,
    },
    PlaceSwitch {
        switch: String,
        rack: String,
        unit: u32,
        #[serde(default = "rack::one")]
        height: u32,
    },
    UnplaceSwitch {
        switch: String,
    },
    AddPorts {
        switch: String,
        ports: Vec<String>,
    },
    RemovePorts {
        switch: String,
        ports: Vec<String>,
    },
    /// By hand.
    Plug {
        switch: String,
        port: String,
        what: switch::Plugged,
    },
    Unplug {
        switch: String,
        port: String,
    },
    /// Makes a profile, or changes the one of this name.
    SetProfile {
        profile: profile::Profile,
    },
    RemoveProfile {
        name: String,
        #[serde(default)]
        force: bool,
    },
    /// Its files are there.
    AddMedium {
        medium: medium::Medium,
    },
    RemoveMedium {
        name: String,
        #[serde(default)]
        force: bool,
    },
    AddUser {
        name: String,
        role: user::Role,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
    },
    SetRole {
        name: String,
        role: user::Role,
    },
    RemoveUser {
        name: String,
    },
    AddTenant {
        name: String,
        #[serde(default)]
        limits: tenant::Limits,
    },
    /// All of its limits: what is not said has none.
    SetTenant {
        name: String,
        #[serde(default)]
        limits: tenant::Limits,
    },
    RemoveTenant {
        name: String,
    },
    /// A machine heard a switch over LLDP.
    ObserveNeighbour {
        machine: MachineId,
        neighbour: Neighbour,
    },
    /// A line of a compacted log; only a replay gives it.
    Restore {
        restore: restore::Object,
    },
}

/// The only source of time for the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ctx {
    pub now: Timestamp,
}

/// Why a command was not carried out, as a sentence for the person who gave it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no {what} {name}")]
    Missing { what: &'static str, name: String },
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Invalid(String),
    /// Names what tenants do not see; `told` is for them.
    #[error("{sentence}")]
    OfHosts { sentence: String, told: String },
    /// Is not for tenants.
    #[error("{0}")]
    NotTenants(String),
}

impl Refusal {
    /// As a tenant is told it.
    pub(crate) fn told(self) -> Refusal {
        match self {
            Refusal::OfHosts { told, .. } => Refusal::Conflict(told),
            Refusal::Missing { .. } | Refusal::Conflict(_) | Refusal::Invalid(_) | Refusal::NotTenants(_) => {
                self
            }
        }
    }
}

/// What happens if `command` is given now. Nothing is changed by asking.
pub fn decide(fleet: &Fleet, command: &Command, ctx: Ctx) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::Found { site, network, address, domain } => {
            site::found(fleet, *site, *network, *address, domain)
        }
        Command::SetPolicy { policy } => site::set_policy(fleet, policy),
        Command::Sight { mac, arch, uuid, link } => lease::sight(fleet, *mac, *arch, *uuid, *link, ctx),
        Command::SetSubnet { subnet } => subnet::set(fleet, subnet),
        Command::RemoveSubnet { name, force } => subnet::remove(fleet, name, *force),
        Command::Reserve { mac, address } => lease::reserve(fleet, *mac, *address),
        Command::Unreserve { address } => lease::unreserve(fleet, *address),
        Command::FreeAddress { address, force } => lease::free(fleet, *address, *force),
        Command::Quarantine { mac, address } => lease::quarantine(fleet, *mac, *address, ctx),
        Command::TakeBack { mac, address } => lease::take_back(fleet, *mac, *address),
        Command::Learn { mac, address } => lease::learn(fleet, *mac, *address),
        Command::ObserveServer { foreign, network, address } => {
            site::addresses_given(fleet, *foreign, *network, *address)
        }
        Command::Report { key, hardware } => machine::report(fleet, key, hardware, ctx),
        Command::RecordAppliance { hardware } => machine::record_appliance(fleet, hardware, ctx),
        Command::BootOnce { machine, once } => machine::ask_once(fleet, *machine, *once, ctx),
        Command::BootedOnce { mac } => Ok(machine::booted_once(fleet, *mac, ctx)),
        Command::Adopt { machine, wipe, profile, disk } => {
            machine::adopt(fleet, *machine, *wipe, profile.as_deref(), disk.as_deref(), ctx)
        }
        Command::ServeKickstart { machine, attempt } => {
            machine::serve_kickstart(fleet, *machine, *attempt, ctx)
        }
        Command::ServeAnswers { machine, attempt } => machine::serve_answers(fleet, *machine, *attempt, ctx),
        Command::PhoneHome { machine, attempt } => machine::phone_home(fleet, *machine, *attempt, ctx),
        Command::FailInstall { machine, attempt, step, error } => {
            machine::fail_install(fleet, *machine, *attempt, step, error, ctx)
        }
        Command::Cancel { subject } => match subject {
            Subject::Machine(machine) => machine::cancel(fleet, *machine, ctx),
            Subject::Vm(vm) => vm::cancel(fleet, *vm, ctx),
            Subject::Service(service) => service::cancel(fleet, *service, ctx),
        },
        Command::RecordLate { subject, what } => match subject {
            Subject::Machine(machine) => machine::record_late(fleet, *machine, what, ctx),
            Subject::Vm(vm) => vm::record_late(fleet, *vm, what, ctx),
            Subject::Service(service) => service::record_late(fleet, *service, what, ctx),
        },
        Command::RemoveMachine { machine, force } => machine::remove(fleet, *machine, *force),
        Command::Drain { machine } => host::drain(fleet, *machine, ctx),
        Command::Undrain { machine } => host::undrain(fleet, *machine, ctx),
        Command::Reimage { machine, how } => machine::reimage(fleet, *machine, how, ctx),
        Command::EraseMachine { machine, how } => machine::ask_erase(fleet, *machine, how, ctx),
        Command::ReportErased { machine, number, attempt, outcome } => {
            machine::erased(fleet, *machine, *number, *attempt, outcome, ctx)
        }
        Command::CheckDisks { machine, on } => machine::ask_check(fleet, *machine, *on, ctx),
        Command::ReportChecked { machine, number, disks } => {
            machine::checked(fleet, *machine, *number, disks, ctx)
        }
        Command::ReportAccount { machine, trouble } => {
            power::account_made(fleet, *machine, trouble.as_deref())
        }
        Command::Retire { machine } => machine::retire(fleet, *machine, ctx),
        Command::Unretire { machine } => machine::unretire(fleet, *machine, ctx),
        Command::SetBmc { machine, bmc } => power::set_bmc(fleet, *machine, bmc),
        Command::RemoveBmc { machine } => power::remove_bmc(fleet, *machine),
        Command::PinBmc { machine, pin } => power::pin(fleet, *machine, pin),
        Command::Power { machine, action, force } => power::ask(fleet, *machine, *action, *force, ctx),
        Command::FindBmc { machine, address } => power::look(fleet, *machine, address.as_deref()),
        Command::TryLogin { machine, address, number } => {
            power::try_login(fleet, *machine, address, *number, ctx)
        }
        Command::TakeLogin { machine, number, bmc } => power::take_login(fleet, *machine, *number, bmc),
        Command::EndSearch { machine, stop, why } => power::end_search(fleet, *machine, *stop, why),
        Command::SetStrip { machine, strip } => power::set_strip(fleet, *machine, strip),
        Command::RemoveStrip { machine, address } => power::remove_strip(fleet, *machine, address.as_deref()),
        Command::BeginStrips { machine, since } => power::begin_strips(fleet, *machine, *since, ctx),
        Command::DoubtOff { machine } => power::doubt(fleet, *machine, ctx),
        Command::ReportPower { machine, since, way, outcome } => {
            power::report(fleet, *machine, *since, *way, outcome, ctx)
        }
        Command::Light { machine, on } => power::light(fleet, *machine, *on),
        Command::Fence { machine, why } => power::fence(fleet, *machine, why, ctx),
        Command::FenceSuspect { machine } => power::by_policy(fleet, *machine, ctx),
        Command::AttestOff { machine, why } => power::attest(fleet, *machine, why, ctx),
        Command::Unfence { machine, on } => power::unfence(fleet, *machine, *on, ctx),
        Command::ImagineFailure { machine } => power::imagine_failure(fleet, *machine, ctx),
        Command::Suspect { machine, since } => host::suspect(fleet, *machine, *since, ctx),
        Command::ObserveHeard { machine } => host::heard(fleet, *machine, ctx),
        Command::RecoverVm { vm } => vm::recover(fleet, *vm, ctx),
        Command::Enroll { node: NodeId::Machine(machine), key } => machine::enroll(fleet, *machine, key, ctx),
        Command::Enroll { node: NodeId::Vm(vm), key } => vm::enroll(fleet, *vm, key),
        Command::ObserveHost { machine, capacity } => host::observe(fleet, *machine, capacity, ctx),
        Command::CreateVm { spec } => vm::create(fleet, spec, ctx),
        Command::ObserveVmRunning { vm } => vm::observe_running(fleet, *vm, ctx),
        Command::RemoveVm { vm, force } => vm::remove(fleet, *vm, *force, ctx),
        Command::ObserveVmGone { vm } => vm::observe_gone(fleet, *vm),
        Command::InstallPackage { bundle, image, tenant } => {
            service::install(fleet, bundle, image, tenant.as_deref(), ctx)
        }
        Command::ObserveAnswering { service } => service::observe_answering(fleet, *service, ctx),
        Command::RemoveService { service, force } => service::remove(fleet, *service, *force, ctx),
        Command::RemovePackage { name, force } => package::remove(fleet, name, *force, ctx),
        Command::AddRack { name, units } => rack::add(fleet, name, *units),
        Command::RemoveRack { name, force } => rack::remove(fleet, name, *force),
        Command::PlaceMachine { machine, rack, unit, height } => {
            let place = Place { rack: rack.clone(), unit: *unit, height: *height };
            rack::place(fleet, &Occupant::Machine(*machine), &place)
        }
        Command::UnplaceMachine { machine } => rack::unplace(fleet, &Occupant::Machine(*machine)),
        Command::AddSwitch { name, ports, place } => switch::add(fleet, name, ports, place.as_ref()),
        Command::RemoveSwitch { name, force } => switch::remove(fleet, name, *force),
        Command::PlaceSwitch { switch, rack, unit, height } => {
            let place = Place { rack: rack.clone(), unit: *unit, height: *height };
            rack::place(fleet, &Occupant::Switch(switch.clone()), &place)
        }
        Command::UnplaceSwitch { switch } => rack::unplace(fleet, &Occupant::Switch(switch.clone())),
        Command::AddPorts { switch, ports } => switch::add_ports(fleet, switch, ports),
        Command::RemovePorts { switch, ports } => switch::remove_ports(fleet, switch, ports),
        Command::Plug { switch, port, what } => {
            switch::plug(fleet, &Socket { switch: switch.clone(), port: port.clone() }, what)
        }
        Command::Unplug { switch, port } => {
            switch::unplug(fleet, &Socket { switch: switch.clone(), port: port.clone() })
        }
        Command::SetProfile { profile } => profile::set(fleet, profile),
        Command::RemoveProfile { name, force } => profile::remove(fleet, name, *force),
        Command::AddMedium { medium } => medium::add(fleet, medium),
        Command::RemoveMedium { name, force } => medium::remove(fleet, name, *force),
        Command::AddUser { name, role, tenant } => user::add(fleet, name, *role, tenant.as_deref(), ctx),
        Command::SetRole { name, role } => user::set_role(fleet, name, *role),
        Command::RemoveUser { name } => user::remove(fleet, name),
        Command::AddTenant { name, limits } => tenant::add(fleet, name, *limits, ctx),
        Command::SetTenant { name, limits } => tenant::set(fleet, name, *limits),
        Command::RemoveTenant { name } => tenant::remove(fleet, name),
        Command::ObserveNeighbour { machine, neighbour } => {
            switch::observe_neighbour(fleet, *machine, neighbour)
        }
        Command::Restore { restore } => restore::restore(fleet, restore),
    }
}
