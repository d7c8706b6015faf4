//! What nodes and the appliance say to each other on the node API (TLS, port 7443, JSON).
//!
//! A machine in its initrd reports and is told what to do; a host or guest pulls everything it
//! should be ([`Desired`]) and posts everything it is ([`Observed`]).

mod account;
mod check;
mod erase;

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::id::{Mac, MachineId, NodeId, VmId};

pub use account::{AccountMade, BmcAccount};
pub use check::{Checked, DiskChecked, Health};
pub use erase::{EraseDisk, EraseOutcome, Erased, KnownDisk, Level, Means, Method, Proof};

/// `POST /node/report`: a machine in the initrd says what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub hardware: Hardware,
    /// What its NICs have heard over LLDP so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
}

/// The answer to a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReply {
    pub machine: MachineId,
    pub instruction: Instruction,
}

/// What a machine in the initrd is to do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Instruction {
    /// Report again in two seconds; `reason` is for the machine's own screen.
    Wait { reason: String },
    /// Fetch `GET /node/kickstart/TOKEN` (it answers once) and carry it out.
    Install { token: String },
    /// Erase this disk and no other, and say what came of it: `POST /node/erased`.
    Erase(Box<EraseDisk>),
    /// Read all disks from end to end, write nothing, and say what came of it: `POST /node/checked`. Reports go on
    /// meanwhile; another answer to one ends the reading.
    Check { number: u32 },
    /// Restart; what the machine boots then is decided by the netboot answers.
    Reboot,
}

/// What a computer is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hardware {
    pub firmware: Firmware,
    /// SMBIOS type 1; absent where the firmware gives none. Not unique in the field.
    pub uuid: Option<uuid::Uuid>,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub serial: Option<String>,
    pub board_serial: Option<String>,
    pub cpu: Cpu,
    pub memory_mib: u64,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    /// The NIC over which the appliance was reached.
    pub boot_mac: Mac,
    /// The computer's own management controller, as it is seen from inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc: Option<BmcSeen>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BmcSeen {
    /// On the network; absent where it has none yet, or does not say.
    pub address: Option<IpAddr>,
    pub mac: Option<Mac>,
    pub kind: BmcKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BmcKind {
    Ipmi,
    /// It speaks Redfish, and perhaps IPMI too.
    Redfish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    Bios,
    Uefi,
    UefiSecureBoot,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cpu {
    pub model: String,
    pub sockets: u32,
    pub threads: u32,
    /// Intel VT-x or AMD-V is there and switched on.
    pub virtualization: bool,
}

/// A block device that could hold a system: no optical drives, no loop devices, no RAM disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Disk {
    /// `/dev/vda`; may differ at the next boot.
    pub path: String,
    /// `/dev/disk/by-id/...`; stays the same.
    pub by_id: Option<String>,
    pub serial: Option<String>,
    pub model: Option<String>,
    pub bytes: u64,
    pub rotational: bool,
    pub removable: bool,
    /// What was found on it, empty when it is blank.
    pub contents: Vec<DiskContent>,
}

/// A file system, volume group, RAID member or partition table found on a disk or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiskContent {
    /// `/dev/vda1`
    pub path: String,
    /// As `blkid` names it: `ext4`, `LVM2_member`, `ceph_bluestore`, `gpt`.
    pub what: String,
    pub label: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Nic {
    pub name: String,
    pub mac: Mac,
    pub driver: Option<String>,
    pub carrier: bool,
    pub speed_mbit: Option<u32>,
}

/// `POST /node/progress`: a line for the timeline while something takes its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    pub step: String,
    pub percent: Option<u8>,
}

/// `POST /node/said`: what a machine in its initrd says on its own console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    pub lines: Vec<String>,
}

/// `POST /node/installed`: the installation whose kickstart was fetched with `token` is complete and on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    pub token: String,
}

/// `POST /node/failed`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    pub token: String,
    pub step: String,
    pub error: String,
}

/// `POST /node/certificate`: a host (known by its key) or a guest (by its enrollment) asks for its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// PKCS #10, PEM; for the key that the TLS connection itself was made with.
    pub csr_pem: String,
    /// What a guest found in its cloud-init data, or the host agent of the appliance in node.json.
    pub enrollment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReply {
    pub node: NodeId,
    pub certificate_pem: String,
    pub ca_pem: String,
}

/// `GET /node/ID/desired`: all that a host or guest should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Changes when anything below changes; give it back as `?revision=` to wait for the next.
    pub revision: u64,
    pub hostname: String,
    /// Lines for root's authorized_keys.
    pub ssh_keys: Vec<String>,
    /// For hosts.
    pub vms: Vec<VmSpec>,
    /// For hosts: what must not be there any more. A host names each of them as [`VmState::Gone`] once it is not.
    #[serde(default)]
    pub gone: Vec<VmId>,
    /// For guests.
    pub software: Vec<SoftwareSpec>,
    /// For hosts: restart, once for each number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<u64>,
    /// For hosts: read all disks from end to end, and say what came of it, once for each number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<u32>,
    /// For hosts: an account that is to be made at its own BMC; what came of it is said by
    /// `POST /node/ID/account`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_account: Option<BmcAccount>,
    /// For hosts: when one that is cut off restarts by itself, after which nothing runs on it until it is told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Alone>,
    /// For hosts: consoles that somebody wants to see. Hosts of earlier versions know nothing of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consoles: Vec<WantedConsole>,
}

/// A host is cut off when neither the appliance nor any of these has answered for so long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alone {
    /// Other hosts.
    pub neighbours: Vec<Ipv4Addr>,
    pub after_secs: u64,
}

/// A console that a host is to bring: `GET /node/ID/console/CONSOLE`, upgraded to [`CONSOLE_PROTOCOL`], and from then
/// on the console's bytes both ways until one side closes. A host that cannot posts a [`ConsoleTrouble`] there instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedConsole {
    pub console: uuid::Uuid,
    pub vm: VmId,
    pub kind: ConsoleKind,
}

/// What the connection of a console is upgraded to.
pub const CONSOLE_PROTOCOL: &str = "elisandra-console";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConsoleKind {
    /// What was said last, then what is said and typed.
    Serial,
    /// RFB (RFC 6143), as VNC speaks it.
    Graphic,
}

impl ConsoleKind {
    pub fn word(self) -> &'static str {
        match self {
            ConsoleKind::Serial => "serial",
            ConsoleKind::Graphic => "graphic",
        }
    }
}

/// `POST /node/ID/console/CONSOLE`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleTrouble {
    /// A sentence for who looks.
    pub error: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    pub id: VmId,
    /// Also the libvirt domain's name and the guest's host name; `[a-z0-9-]{1,63}`.
    pub name: String,
    /// The domain's UUID: the same on whichever host it runs.
    pub uuid: uuid::Uuid,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub volume: VolumeSpec,
    pub mac: Mac,
    pub bridge: String,
    /// Address that DHCP will give it.
    pub address: Ipv4Addr,
    pub seed: Seed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Name in the pool, without directory.
    pub name: String,
    pub bytes: u64,
    pub image: ImageSpec,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// Plain HTTP: the checksum makes it safe.
    pub url: String,
    pub sha256: String,
    pub bytes: u64,
}

/// cloud-init's NoCloud data, put into a small volume labelled CIDATA, so that no secret in it
/// crosses the provisioning network in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    pub meta_data: String,
    pub user_data: String,
    pub network_config: String,
}

/// A package that a guest should have installed, configured and answering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftwareSpec {
    pub name: String,
    pub version: String,
    /// Of the `.eli` file; fetched from `GET /node/ID/bundle/SHA256`.
    pub bundle_sha256: String,
    /// Names of the `.deb` files inside the bundle, in the order to install them.
    pub debs: Vec<String>,
    /// Rendered configuration files.
    pub files: Vec<ConfigFile>,
    /// systemd unit to enable and to restart when `files` changed.
    pub unit: String,
    pub port: u16,
    pub health: HealthCheck,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    pub path: String,
    pub mode: u32,
    pub content: String,
}

/// `GET http://127.0.0.1:PORT/PATH` must answer with `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub path: String,
    pub status: u16,
}

/// `POST /node/ID/observed`: all that a host or guest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Of the [`Desired`] that was carried out last.
    pub revision: u64,
    pub version: String,
    pub uptime_secs: u64,
    /// Hosts: what there is for VMs. Guests: `None`.
    pub capacity: Option<Capacity>,
    pub vms: Vec<ObservedVm>,
    pub software: Vec<ObservedSoftware>,
    /// What its NICs hear over LLDP. Nodes of the first version do not send it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
}

/// The switch port at the other end of a NIC's cable, as LLDP (IEEE 802.1AB) says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Neighbour {
    /// Of the NIC that heard it.
    pub mac: Mac,
    pub chassis: String,
    pub port: String,
    /// What the switch calls itself.
    pub system: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// As libvirt says it, e.g. `QEMU 10.0.2, libvirt 11.3.0`.
    pub hypervisor: String,
    /// `kvm`; anything else is not fit for VMs.
    pub domain_type: String,
    pub threads: u32,
    pub memory_mib: u64,
    pub volume_bytes: u64,
    pub volume_free_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedVm {
    pub id: VmId,
    pub state: VmState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum VmState {
    /// `step` for people: "copying the image, 40 %".
    Creating {
        step: String,
    },
    Running,
    Stopped,
    /// It was to go, and nothing of it is left. Not hearing of it does not mean that: the word may be older than the
    /// VM itself.
    Gone,
    /// Tried again all the time; `reason` says what is wrong now.
    Failing {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedSoftware {
    pub name: String,
    pub version: String,
    pub state: SoftwareState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum SoftwareState {
    Installing {
        step: String,
    },
    /// The health check answered as it should.
    Healthy,
    Failing {
        reason: String,
    },
}
