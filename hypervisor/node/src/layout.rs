//! Where the parts of a disk begin and end, and the commands that make them. Pure: what is run is decided here,
//! running it is the installer's work.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pxe::kickstart::{LogicalVolume, Partition, PartitionKind, VolumeGroup, VolumeSize};

pub const ESP_LABEL: &str = "ELI-ESP";
pub const IMAGE_LABEL: &str = "ELI-IMAGE";
pub const STATE_LABEL: &str = "ELI-STATE";
pub const VOLUME_GROUP: &str = "elisandra";
pub const SMALLEST_DISK: u64 = 10_000_000_000;

/// The name of the partition for volumes until all is on the disk. A disk that carries it holds nothing but what an
/// interrupted start of ours left behind, and counts as blank.
pub const UNFINISHED: &str = "ELI-UNFINISHED";
const FINISHED: &str = "ELI-LVM";

const MIB: u64 = 1 << 20;
/// A large, slow disk writes its inode tables for minutes.
const FORMAT: Duration = Duration::from_secs(600);

/// How a disk is divided, in the words of a kickstart file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub partitions: Vec<Partition>,
    pub volume_groups: Vec<VolumeGroup>,
    pub logical_volumes: Vec<LogicalVolume>,
}

impl Layout {
    /// The appliance's own disk: the same as a host's.
    pub fn of_the_appliance() -> Self {
        let part = |what, size_mib, label: Option<&str>| Partition {
            what,
            size_mib,
            grow: false,
            label: label.map(str::to_owned),
        };
        let pv = "pv.01".to_owned();
        Self {
            partitions: vec![
                part(PartitionKind::BiosBoot, 1, None),
                part(PartitionKind::Efi, 256, Some(ESP_LABEL)),
                part(PartitionKind::Ext4 { mount: "/elisandra/image".to_owned() }, 3072, Some(IMAGE_LABEL)),
                Partition {
                    grow: true,
                    ..part(PartitionKind::PhysicalVolume { name: pv.clone() }, 1024, None)
                },
            ],
            volume_groups: vec![VolumeGroup { name: VOLUME_GROUP.to_owned(), physical_volumes: vec![pv] }],
            logical_volumes: vec![LogicalVolume {
                mount: crate::places::STATE.to_owned(),
                group: VOLUME_GROUP.to_owned(),
                name: "state".to_owned(),
                label: Some(STATE_LABEL.to_owned()),
                size: VolumeSize::Percent(100),
            }],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("the parts of the disk take {needed_mib} MiB, but {disk} has {available_mib} MiB")]
    TooSmall { disk: String, needed_mib: u64, available_mib: u64 },
    #[error("the layout has no {0}, without which an installed machine does not start")]
    Missing(&'static str),
}

/// A partition at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// `/dev/vda1`
    pub device: PathBuf,
    pub start_mib: u64,
    pub size_mib: u64,
    pub what: PartitionKind,
    pub label: Option<String>,
}

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `making the partition table`
    pub name: &'static str,
    pub program: &'static str,
    pub arguments: Vec<String>,
    pub input: String,
    pub limit: Duration,
}

/// A file system of the new layout and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    pub device: PathBuf,
    pub kind: &'static str,
    /// In the running system: `/var/lib/elisandra`.
    pub mount: String,
    pub label: Option<String>,
}

/// Finds a place for each partition on a disk of `bytes`. Sizes that grow take what is left.
pub fn place(layout: &Layout, disk: &Path, bytes: u64) -> Result<Vec<Placed>, LayoutError> {
    required(layout)?;
    // A MiB at the beginning keeps everything aligned for every kind of disk; GPT's second copy is at the end.
    let available = (bytes / MIB).saturating_sub(2);
    let needed: u64 = layout.partitions.iter().map(|part| part.size_mib).sum();
    if needed > available {
        return Err(LayoutError::TooSmall {
            disk: disk.display().to_string(),
            needed_mib: needed,
            available_mib: available,
        });
    }
    let mut start = 1;
    Ok(layout
        .partitions
        .iter()
        .zip(1u32..)
        .map(|(part, number)| {
            let size = part.size_mib + if part.grow { available - needed } else { 0 };
            let placed = Placed {
                device: partition(disk, number),
                start_mib: start,
                size_mib: size,
                what: part.what.clone(),
                label: part.label.clone(),
            };
            start += size;
            placed
        })
        .collect())
}

/// Both firmwares must find their boot loader, and the initrd its two labels: a machine that was moved to another
/// board starts all the same.
fn required(layout: &Layout) -> Result<(), LayoutError> {
    let partition = |wanted: &dyn Fn(&Partition) -> bool| layout.partitions.iter().any(wanted);
    let label = |label: &Option<String>, wanted| label.as_deref() == Some(wanted);
    if !partition(&|part| part.what == PartitionKind::BiosBoot) {
        return Err(LayoutError::Missing("BIOS boot partition"));
    }
    if !partition(&|part| part.what == PartitionKind::Efi) {
        return Err(LayoutError::Missing("EFI system partition"));
    }
    if !partition(&|part| matches!(part.what, PartitionKind::Ext4 { .. }) && label(&part.label, IMAGE_LABEL))
    {
        return Err(LayoutError::Missing("partition labelled ELI-IMAGE"));
    }
    if !layout
        .logical_volumes
        .iter()
        .any(|volume| volume.group == VOLUME_GROUP && label(&volume.label, STATE_LABEL))
    {
        return Err(LayoutError::Missing("volume labelled ELI-STATE in the group elisandra"));
    }
    Ok(())
}

/// `/dev/vda1`, `/dev/nvme0n1p1`: a name that ends with a digit gets a `p`.
fn partition(disk: &Path, number: u32) -> PathBuf {
    let disk = disk.display().to_string();
    let between = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    PathBuf::from(format!("{disk}{between}{number}"))
}

/// Removes the signatures of what was on the disk, on its old partitions first: an old volume group must not wake up
/// in the place of the new one.
pub fn wipe(disk: &Path, old_partitions: &[PathBuf]) -> Vec<Step> {
    old_partitions
        .iter()
        .map(PathBuf::as_path)
        .chain([disk])
        .map(|device| {
            Step::new("wiping the disk", "wipefs", ["--all", "--force", &device.display().to_string()])
        })
        .collect()
}

/// The partition table.
pub fn table(disk: &Path, placed: &[Placed]) -> Step {
    let mut script = String::from("label: gpt\n");
    for part in placed {
        let (kind, name) = match &part.what {
            PartitionKind::BiosBoot => ("21686148-6449-6E6F-744E-656564454649", "ELI-BIOS"),
            PartitionKind::Efi => ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", ESP_LABEL),
            PartitionKind::Ext4 { .. } => {
                ("0FC63DAF-8483-4772-8E79-3D69D8477DE4", part.label.as_deref().unwrap_or("ELI"))
            }
            PartitionKind::PhysicalVolume { .. } => ("E6D6D379-F507-44C2-A23C-238F2A3DF928", UNFINISHED),
        };
        // With a unit, so that disks with sectors of 4096 bytes get the same layout.
        script += &format!(
            "start={}MiB, size={}MiB, type={kind}, name=\"{name}\"\n",
            part.start_mib, part.size_mib
        );
    }
    let arguments =
        ["--wipe", "always", "--wipe-partitions", "always", "--quiet", &disk.display().to_string()];
    Step { input: script, ..Step::new("making the partition table", "sfdisk", arguments) }
}

/// Says on the disk itself that all of it is there.
pub fn finish(disk: &Path, placed: &[Placed]) -> Vec<Step> {
    placed
        .iter()
        .zip(1u32..)
        .filter(|(part, _)| matches!(part.what, PartitionKind::PhysicalVolume { .. }))
        .map(|(_, number)| {
            // The kernel holds the disk's volumes open and would refuse to read the table again; nothing in it that
            // it cares about changes.
            let (disk, number) = (disk.display().to_string(), number.to_string());
            let arguments = ["--no-reread", "--no-tell-kernel", "--part-label", &disk, &number, FINISHED];
            Step::new("finishing the partition table", "sfdisk", arguments)
        })
        .collect()
}

/// File systems and volumes on the partitions that [`table`] made.
pub fn format(layout: &Layout, placed: &[Placed]) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in placed {
        let device = part.device.display().to_string();
        match &part.what {
            PartitionKind::BiosBoot => {}
            PartitionKind::Efi => {
                let label = part.label.as_deref().unwrap_or(ESP_LABEL);
                steps.push(Step::new(
                    "making the EFI file system",
                    "mkfs.vfat",
                    ["-F", "32", "-n", label, &device],
                ));
            }
            PartitionKind::Ext4 { .. } => steps.push(ext4(part.label.as_deref(), &device)),
            PartitionKind::PhysicalVolume { .. } => {
                steps.push(lvm(["pvcreate", "--yes", "-ff", "--devices", &device, &device]));
            }
        }
    }
    for group in &layout.volume_groups {
        let members = members(group, placed);
        let list = members.join(",");
        let arguments = ["vgcreate", "--yes", "--devices", &list, &group.name].map(str::to_owned);
        steps.push(lvm(arguments.into_iter().chain(members)));
    }
    for volume in &layout.logical_volumes {
        let size = match volume.size {
            VolumeSize::Mib(mib) => ["--size".to_owned(), format!("{mib}m")],
            VolumeSize::GrowFromMib(_) => ["--extents".to_owned(), "100%FREE".to_owned()],
            VolumeSize::Percent(percent) => ["--extents".to_owned(), format!("{percent}%FREE")],
        };
        let group = layout.volume_groups.iter().find(|group| group.name == volume.group);
        let list = group.map(|group| members(group, placed).join(",")).unwrap_or_default();
        let arguments =
            ["lvcreate", "--yes", "--wipesignatures", "y", "--devices", &list, "--name", &volume.name];
        steps.push(lvm(arguments.map(str::to_owned).into_iter().chain(size).chain([volume.group.clone()])));
        steps.push(ext4(volume.label.as_deref(), &volume_device(volume).display().to_string()));
    }
    steps
}

/// Everything that can be mounted, the outer mount points first.
pub fn file_systems(layout: &Layout, placed: &[Placed]) -> Vec<FileSystem> {
    let partitions = placed.iter().filter_map(|part| {
        let (kind, mount) = match &part.what {
            PartitionKind::Efi => ("vfat", "/boot/efi"),
            PartitionKind::Ext4 { mount } => ("ext4", mount.as_str()),
            PartitionKind::BiosBoot | PartitionKind::PhysicalVolume { .. } => return None,
        };
        Some(FileSystem {
            device: part.device.clone(),
            kind,
            mount: mount.to_owned(),
            label: part.label.clone(),
        })
    });
    let volumes = layout.logical_volumes.iter().map(|volume| FileSystem {
        device: volume_device(volume),
        kind: "ext4",
        mount: volume.mount.clone(),
        label: volume.label.clone(),
    });
    let mut all: Vec<FileSystem> = partitions.chain(volumes).collect();
    all.sort_by_key(|there| there.mount.matches('/').count());
    all
}

fn members(group: &VolumeGroup, placed: &[Placed]) -> Vec<String> {
    let is_member = |part: &&Placed| matches!(&part.what, PartitionKind::PhysicalVolume { name } if group.physical_volumes.contains(name));
    placed.iter().filter(is_member).map(|part| part.device.display().to_string()).collect()
}

/// device-mapper joins group and volume with a dash and doubles the dashes inside the names.
fn volume_device(volume: &LogicalVolume) -> PathBuf {
    let escaped = |name: &str| name.replace('-', "--");
    PathBuf::from(format!("/dev/mapper/{}-{}", escaped(&volume.group), escaped(&volume.name)))
}

fn ext4(label: Option<&str>, device: &str) -> Step {
    // No blocks kept for root: nobody else writes here.
    let mut arguments = vec!["-q", "-F", "-m", "0"];
    arguments.extend(label.iter().flat_map(|label| ["-L", label]));
    arguments.push(device);
    Step { limit: FORMAT, ..Step::new("making a file system", "mkfs.ext4", arguments) }
}

fn lvm(arguments: impl IntoIterator<Item = impl Into<String>>) -> Step {
    Step::new("making volumes", "lvm", arguments)
}

impl Step {
    fn new(
        name: &'static str,
        program: &'static str,
        arguments: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            name,
            program,
            arguments: arguments.into_iter().map(Into::into).collect(),
            input: String::new(),
            limit: crate::tool::SHORT,
        }
    }
}

#[cfg(test)]
mod tests;
