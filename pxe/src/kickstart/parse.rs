//! Reads the part of kickstart that our installer carries out.

use std::{collections::BTreeMap, str::FromStr};

use super::{
    Bootloader, DiskId, Ending, Invalid, Kickstart, LiveImage, LogicalVolume, Network, Partition,
    PartitionKind, Script, SshKeyFor, VolumeGroup, VolumeSize, words::split,
};
use crate::MacAddr;

/// Why a kickstart file is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kickstart line {line}: {reason}")]
pub struct KickstartError {
    /// Counted from 1. For something that is missing, the last line.
    pub line: usize,
    pub reason: String,
}

/// Reads a kickstart file. An unknown command, option or section is an error.
pub fn parse(text: &str) -> Result<Kickstart, KickstartError> {
    let mut draft = Draft::default();
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    while let Some((line, content)) = lines.next() {
        let fail = |reason| KickstartError { line, reason };
        let words = split(content).ok_or_else(|| fail("a quote is not closed".to_owned()))?;
        let Some((name, rest)) = words.split_first() else { continue };
        let mut command = Command::read(name, rest);
        if name == "%post" {
            let script =
                post(&mut command).and_then(|script| command.finish().map(|()| script)).map_err(fail)?;
            let body = section(&mut lines).ok_or_else(|| fail("%post has no %end".to_owned()))?;
            draft.post.push(Script { body, ..script });
        } else {
            draft.take(&mut command).and_then(|()| command.finish()).map_err(fail)?;
        }
    }
    let last = text.lines().count().max(1);
    draft.finish().map_err(|reason| KickstartError { line: last, reason })
}

/// The lines up to `%end`.
fn section<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<String> {
    let mut body = String::new();
    loop {
        let (_, line) = lines.next()?;
        if line.trim_end() == "%end" {
            return Some(body);
        }
        body.push_str(line);
        body.push('\n');
    }
}

fn post(command: &mut Command) -> Result<Script, String> {
    Ok(Script {
        nochroot: command.flag("nochroot")?,
        error_on_fail: command.flag("erroronfail")?,
        body: String::new(),
    })
}

/// What has been read so far.
#[derive(Default)]
struct Draft {
    lang: Option<String>,
    keyboard: Option<String>,
    time_zone: Option<super::TimeZone>,
    networks: Vec<Network>,
    root_locked: bool,
    ssh_keys: Vec<SshKeyFor>,
    cleared: Option<DiskId>,
    /// The disk that the first command to name one named.
    disk: Option<DiskId>,
    partitions: Vec<Partition>,
    volume_groups: Vec<VolumeGroup>,
    logical_volumes: Vec<LogicalVolume>,
    bootloader: Option<Bootloader>,
    image: Option<LiveImage>,
    post: Vec<Script>,
    ending: Option<Ending>,
}

impl Draft {
    fn take(&mut self, command: &mut Command) -> Result<(), String> {
        match command.name.as_str() {
            // How Anaconda shows itself, and that it may write to a disk without a table: nothing to carry out.
            "text" | "zerombr" => {}
            "lang" => self.lang = Some(command.argument()?),
            "keyboard" => self.keyboard = Some(command.argument()?),
            "timezone" => {
                command.flag("utc")?;
                self.time_zone = Some(command.argument()?.parse().map_err(sentence)?);
            }
            "network" => self.network(command)?,
            "rootpw" => {
                self.root_locked = command.flag("lock")?;
                if !self.root_locked {
                    return Err("only rootpw --lock is carried out".to_owned());
                }
            }
            "sshkey" => {
                let user = command.required("username")?;
                self.ssh_keys.push(SshKeyFor { user, key: command.argument()?.parse().map_err(sentence)? });
            }
            "ignoredisk" => {
                let disk = command.required("only-use")?;
                self.disk(&disk)?;
            }
            "clearpart" => self.clearpart(command)?,
            "part" | "partition" => self.part(command)?,
            "volgroup" => self.volgroup(command)?,
            "logvol" => self.logvol(command)?,
            "bootloader" => {
                if let Some(drive) = command.option("boot-drive")? {
                    self.disk(&drive)?;
                }
                let append = command.option("append")?.unwrap_or_default();
                if append.chars().any(char::is_control) {
                    return Err("--append holds a control character".to_owned());
                }
                once(&mut self.bootloader, Bootloader { append }, command)?;
            }
            "liveimg" => {
                let url = command.required("url")?;
                if !(url.starts_with("http://") || url.starts_with("https://"))
                    || url.chars().any(|c| c.is_control() || c == ' ')
                {
                    return Err(format!("{url:?} is not an http or https URL"));
                }
                let sha256 = command.required("checksum")?.parse().map_err(sentence)?;
                once(&mut self.image, LiveImage { url, sha256 }, command)?;
            }
            "reboot" => once(&mut self.ending, Ending::Reboot, command)?,
            "poweroff" | "shutdown" => once(&mut self.ending, Ending::PowerOff, command)?,
            other => return Err(format!("{other:?} is not a command that this installer carries out")),
        }
        Ok(())
    }

    fn network(&mut self, command: &mut Command) -> Result<(), String> {
        // Without the option it is DHCP too.
        let protocol = command.option("bootproto")?.unwrap_or_else(|| "dhcp".to_owned());
        if protocol != "dhcp" {
            return Err(format!("only --bootproto=dhcp is carried out, not {protocol:?}"));
        }
        command.flag("activate")?;
        let device = command.required("device")?;
        let device = MacAddr::from_str(&device)
            .map_err(|_| format!("--device must be a MAC address, not {device:?}"))?;
        let hostname = command.option("hostname")?.map(|name| name.parse()).transpose().map_err(sentence)?;
        self.networks.push(Network { device, hostname });
        Ok(())
    }

    fn clearpart(&mut self, command: &mut Command) -> Result<(), String> {
        let drives = command.required("drives")?;
        let (all, initlabel) = (command.flag("all")?, command.flag("initlabel")?);
        let label = command.option("disklabel")?;
        if !all || !initlabel || label.as_deref() != Some("gpt") {
            return Err("only clearpart --all --initlabel --disklabel=gpt is carried out".to_owned());
        }
        let disk = self.disk(&drives)?;
        once(&mut self.cleared, disk, command)
    }

    fn part(&mut self, command: &mut Command) -> Result<(), String> {
        let name = command.argument()?;
        let fstype = command.option("fstype")?;
        let what = match (name.as_str(), fstype.as_deref()) {
            ("biosboot", Some("biosboot")) => PartitionKind::BiosBoot,
            ("/boot/efi", Some("efi")) => PartitionKind::Efi,
            (mount, Some("ext4")) if mount.starts_with('/') => {
                PartitionKind::Ext4 { mount: mount_point(mount)? }
            }
            (pv, None) if pv.starts_with("pv.") => PartitionKind::PhysicalVolume { name },
            (name, fstype) => {
                return Err(format!(
                    "partition {name:?} with file system {fstype:?} is not one that this installer makes"
                ));
            }
        };
        if let Some(disk) = command.option("ondisk")?.or(command.option("ondrive")?) {
            self.disk(&disk)?;
        }
        let size_mib = positive("size", &command.required("size")?)?;
        let label = command.option("label")?.map(file_system_label).transpose()?;
        let grow = command.flag("grow")?;
        if grow && self.partitions.iter().any(|part| part.grow) {
            return Err("only one partition can grow".to_owned());
        }
        self.partitions.push(Partition { what, size_mib, grow, label });
        Ok(())
    }

    fn volgroup(&mut self, command: &mut Command) -> Result<(), String> {
        let name = volume_name(command.argument()?)?;
        let physical_volumes = std::mem::take(&mut command.arguments);
        if physical_volumes.is_empty() {
            return Err(format!("{name} has no physical volume"));
        }
        for wanted in &physical_volumes {
            let there = |part: &Partition| matches!(&part.what, PartitionKind::PhysicalVolume { name } if name == wanted);
            if !self.partitions.iter().any(there) {
                return Err(format!("{name} is on {wanted}, which no part before it makes"));
            }
        }
        self.volume_groups.push(VolumeGroup { name, physical_volumes });
        Ok(())
    }

    fn logvol(&mut self, command: &mut Command) -> Result<(), String> {
        let mount = mount_point(&command.argument()?)?;
        let group = volume_name(command.required("vgname")?)?;
        if !self.volume_groups.iter().any(|there| there.name == group) {
            return Err(format!("{mount} is in {group}, which no volgroup before it makes"));
        }
        let name = volume_name(command.required("name")?)?;
        let fstype = command.required("fstype")?;
        if fstype != "ext4" {
            return Err(format!("only ext4 is made on a logical volume, not {fstype:?}"));
        }
        let label = command.option("label")?.map(file_system_label).transpose()?;
        let (size, percent, grow) =
            (command.option("size")?, command.option("percent")?, command.flag("grow")?);
        let size = match (size, percent, grow) {
            (Some(size), None, false) => VolumeSize::Mib(positive("size", &size)?),
            (Some(size), None, true) => VolumeSize::GrowFromMib(positive("size", &size)?),
            (None, Some(percent), false) => match percent.parse() {
                Ok(percent @ 1..=100) => VolumeSize::Percent(percent),
                _ => return Err(format!("--percent must be 1 to 100, not {percent:?}")),
            },
            _ => {
                return Err("a logical volume has either --size (and perhaps --grow) or --percent".to_owned());
            }
        };
        self.logical_volumes.push(LogicalVolume { mount, group, name, label, size });
        Ok(())
    }

    fn disk(&mut self, name: &str) -> Result<DiskId, String> {
        // A list of disks is refused here too: DiskId holds no comma.
        let disk = DiskId::from_str(name).map_err(sentence)?;
        match self.disk.get_or_insert_with(|| disk.clone()) {
            first if *first == disk => Ok(disk),
            first => Err(format!(
                "{disk} is named, but an earlier line names {first}; one file installs on one disk"
            )),
        }
    }

    fn finish(self) -> Result<Kickstart, String> {
        let disk = self.cleared.ok_or("there is no clearpart")?;
        if self.partitions.is_empty() {
            return Err("there is no part".to_owned());
        }
        if !self.root_locked {
            return Err("there is no rootpw --lock".to_owned());
        }
        Ok(Kickstart {
            lang: self.lang,
            keyboard: self.keyboard,
            time_zone: self.time_zone,
            networks: self.networks,
            ssh_keys: self.ssh_keys,
            disk,
            partitions: self.partitions,
            volume_groups: self.volume_groups,
            logical_volumes: self.logical_volumes,
            bootloader: self.bootloader.ok_or("there is no bootloader")?,
            image: self.image.ok_or("there is no liveimg")?,
            post: self.post,
            ending: self.ending.ok_or("there is neither reboot nor poweroff")?,
        })
    }
}

/// A command's words. What nobody asked for by the end is an error.
struct Command {
    name: String,
    options: BTreeMap<String, Vec<Option<String>>>,
    arguments: Vec<String>,
}

// Anaconda takes `--size=1` and `--size 1` alike; to know that a word belongs to the option before
// it one must know which options are mere flags.
const FLAGS: [&str; 10] =
    ["utc", "lock", "activate", "all", "initlabel", "grow", "nochroot", "erroronfail", "eject", "asprimary"];

impl Command {
    fn read(name: &str, words: &[String]) -> Self {
        let mut command = Self { name: name.to_owned(), options: BTreeMap::new(), arguments: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else {
                command.arguments.push(word.clone());
                continue;
            };
            let (option, value) = match option.split_once('=') {
                Some((option, value)) => (option, Some(value.to_owned())),
                None if FLAGS.contains(&option) => (option, None),
                None => (option, words.next().cloned()),
            };
            command.options.entry(option.to_owned()).or_default().push(value);
        }
        command
    }

    fn single(&mut self, option: &str) -> Result<Option<Option<String>>, String> {
        let Some(mut values) = self.options.remove(option) else { return Ok(None) };
        if values.len() > 1 {
            return Err(format!("--{option} is given twice"));
        }
        Ok(values.pop())
    }

    fn flag(&mut self, option: &str) -> Result<bool, String> {
        match self.single(option)? {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(_)) => Err(format!("--{option} takes no value")),
        }
    }

    fn option(&mut self, option: &str) -> Result<Option<String>, String> {
        match self.single(option)? {
            None => Ok(None),
            Some(Some(value)) if !value.is_empty() => Ok(Some(value)),
            Some(_) => Err(format!("--{option} has no value")),
        }
    }

    fn required(&mut self, option: &str) -> Result<String, String> {
        self.option(option)?.ok_or_else(|| format!("{} needs --{option}", self.name))
    }

    fn argument(&mut self) -> Result<String, String> {
        if self.arguments.is_empty() {
            return Err(format!("{} says nothing more", self.name));
        }
        Ok(self.arguments.remove(0))
    }

    fn finish(&self) -> Result<(), String> {
        if let Some((option, _)) = self.options.first_key_value() {
            return Err(format!(
                "--{option} of {} is not an option that this installer carries out",
                self.name
            ));
        }
        if let Some(argument) = self.arguments.first() {
            return Err(format!("{argument:?} is more than {} takes", self.name));
        }
        Ok(())
    }
}

fn once<T>(place: &mut Option<T>, value: T, command: &Command) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{} is given twice", command.name)),
    }
}

fn positive(option: &str, text: &str) -> Result<u64, String> {
    // 1 EiB is more than any disk holds, and small enough to multiply by a MiB.
    text.parse()
        .ok()
        .filter(|size| (1..=1 << 40).contains(size))
        .ok_or_else(|| format!("--{option} must be a number of MiB, not {text:?}"))
}

fn mount_point(text: &str) -> Result<String, String> {
    let good = text.starts_with('/')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
        && !text.split('/').any(|part| part == "..");
    if good { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a mount point")) }
}

fn volume_name(text: String) -> Result<String, String> {
    let good = (1..=64).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good { Ok(text) } else { Err(format!("{text:?} is not a name for a volume")) }
}

fn file_system_label(text: String) -> Result<String, String> {
    // ext4 holds 16 bytes.
    let good = text.len() <= 16 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good { Ok(text) } else { Err(format!("{text:?} is not a label (16 letters, digits, dots or dashes)")) }
}

#[expect(clippy::needless_pass_by_value, reason = "used as map_err(sentence)")]
fn sentence(error: Invalid) -> String {
    error.to_string()
}
