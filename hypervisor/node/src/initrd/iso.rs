//! From the medium: this machine becomes the appliance.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use fleet::wire::Disk;
use nix::mount::MsFlags;

use crate::console::say;
use crate::inventory;
use crate::labels;
use crate::mounts;
use crate::places::{self, RUN};
use crate::state::{self, Found};
use crate::tool::{self, SHORT};

const MEDIUM: &str = "ELISANDRA";

const ASKED_FOR: &str = ". To have it wiped, start the medium again and choose so in its menu";

/// For a person who sees what is about to be wiped.
const LAST_CHANCE: Duration = Duration::from_secs(10);

/// Mounts the medium and the root from it, and finds or makes a place for what must last.
pub async fn run(root: &Path, wipe: bool) -> anyhow::Result<()> {
    say("Elisandra starts from its medium.");
    let device = medium().await;
    let medium = Path::new(RUN).join("medium");
    mounts::device(&device, "iso9660", &medium, MsFlags::MS_RDONLY)?;
    let files = medium.join("elisandra");
    say(format_args!("Mounting the system from {} …", device.display()));
    mounts::root(&files.join("live.squashfs"), root)?;
    symlink(&files, Path::new(RUN).join("files")).context("pointing /run/elisandra/files at the medium")?;

    if let Err(reason) = keep_state(root, inventory::disk_of(&device).as_deref(), wipe) {
        let sentence = format!("{reason:#}");
        say(format_args!("What this appliance learns is lost when it is switched off: {sentence}"));
        places::write(&Path::new(RUN).join("memory-only"), format!("{sentence}\n"), 0o644)?;
        mounts::memory(&state::place(root), "50%")?;
    }
    super::mark("appliance")?;
    super::mark("host")
}

/// Drives may take half a minute to spin up, and USB sticks to be found.
async fn medium() -> PathBuf {
    let mut modules = Command::new("modprobe");
    modules.args(["-q", "-a", "isofs", "sr_mod", "usb_storage", "uas"]);
    // What is missing or built in shows in the search below.
    let _ = tool::run("loading modules", SHORT, &mut modules);
    let mut said = Instant::now() - Duration::from_secs(60);
    loop {
        if let Some(device) = labels::find(MEDIUM).into_iter().next() {
            return device;
        }
        if said.elapsed() > Duration::from_secs(15) {
            said = Instant::now();
            say("Looking for the Elisandra medium …");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Mounts an appliance's state that is already here, or lays out a blank disk for it, or one that is to be wiped. The
/// error is the sentence that says why nothing of it was possible.
fn keep_state(root: &Path, medium: Option<&str>, wipe: bool) -> anyhow::Result<()> {
    let found = state::find(None)?;
    // Left behind by a start whose power was lost: the disk still counts as blank then.
    let role = found.as_ref().map(Found::role).transpose()?.flatten();
    let mut anothers = None;
    if let Some(found) = found
        && let Some(role) = role
    {
        if role == "appliance" {
            say("Found the data of this appliance on its disk.");
            return found.mount(root);
        }
        // Somebody put the medium into a host. Its disk belongs to a running fleet.
        anyhow::ensure!(wipe, "the disk of this machine belongs to a {role} of another appliance{ASKED_FOR}");
        anothers = found.disk;
    }
    let disks = inventory::this_machines_disks();
    let disk = choose(&disks, medium, wipe.then_some(anothers.as_deref()));
    let disk = disk.map_err(|reason| anyhow::anyhow!(reason))?;
    if let Some(contents) = contents(disk) {
        say(format_args!(
            "The disk {} holds {contents}, and is WIPED in {} seconds, as it was chosen in the menu. Switch this machine off \
             to keep it.",
            describe(disk),
            LAST_CHANCE.as_secs()
        ));
        std::thread::sleep(LAST_CHANCE);
    }
    say(format_args!("Setting up the disk {} …", describe(disk)));
    crate::install::lay_out_for_appliance(disk)?;
    let Some(found) = state::find(disk.path.strip_prefix("/dev/"))? else {
        anyhow::bail!("the disk {} was set up, but cannot be found again", disk.path)
    };
    found.mount(root)
}

/// The smallest label a person can find the disk by.
fn describe(disk: &Disk) -> String {
    let name = disk.model.as_deref().or(disk.serial.as_deref()).unwrap_or("no name");
    format!("{} ({name}, {} GB)", disk.path, disk.bytes / 1_000_000_000)
}

/// What is on it, the last of it; None if it is blank.
fn contents(disk: &Disk) -> Option<String> {
    let content = disk.contents.last()?;
    let label = content.label.as_ref().map(|label| format!(" '{label}'")).unwrap_or_default();
    Some(format!("{}{label}", content.what))
}

/// The first blank disk that is large enough, built in, and not the medium. If one may be wiped, that which belongs to
/// another appliance, or else the first if none is blank.
fn choose<'a>(
    disks: &'a [Disk],
    medium: Option<&str>,
    wipe: Option<Option<&str>>,
) -> Result<&'a Disk, String> {
    let own: Vec<&Disk> =
        disks.iter().filter(|disk| disk.path.strip_prefix("/dev/") != medium && !disk.removable).collect();
    let large = || own.iter().filter(|disk| disk.bytes >= crate::layout::SMALLEST_DISK);
    let blank = || large().find(|disk| disk.contents.is_empty());
    let chosen = match wipe {
        None => blank(),
        Some(None) => blank().or_else(|| large().next()),
        Some(anothers) => large().find(|disk| disk.path.strip_prefix("/dev/") == anothers),
    };
    if let Some(disk) = chosen {
        return Ok(disk);
    }
    let used = large().find_map(|disk| Some((disk, contents(disk)?)));
    let Some((used, contents)) = used else {
        let Some(small) = own.first() else { return Err("this machine has no disk".to_owned()) };
        return Err(format!("the disk {} is too small; it takes 10 GB", describe(small)));
    };
    Err(format!(
        "the disk {} holds {contents}, and nothing is wiped without being asked for{ASKED_FOR}",
        describe(used)
    ))
}

#[cfg(test)]
mod tests {
    use fleet::wire::DiskContent;

    use super::*;

    fn disk(path: &str, gb: u64, contents: &[(&str, Option<&str>)]) -> Disk {
        Disk {
            path: path.to_owned(),
            by_id: None,
            serial: None,
            model: Some("QEMU HARDDISK".to_owned()),
            bytes: gb * 1_000_000_000,
            rotational: false,
            removable: false,
            contents: contents
                .iter()
                .map(|(what, label)| DiskContent {
                    path: path.to_owned(),
                    what: (*what).to_owned(),
                    label: label.map(str::to_owned),
                })
                .collect(),
        }
    }

    #[test]
    fn a_blank_disk_is_taken_and_never_one_with_data() {
        let disks = [
            disk("/dev/sda", 100, &[("ext4", Some("data"))]),
            disk("/dev/sdb", 4, &[]),
            disk("/dev/sdc", 20, &[]),
        ];
        assert_eq!(choose(&disks, None, None).unwrap().path, "/dev/sdc");
        // The stick that was booted from may look like a disk.
        let refused = choose(&disks, Some("sdc"), None).unwrap_err();
        assert_eq!(
            refused,
            "the disk /dev/sda (QEMU HARDDISK, 100 GB) holds ext4 'data', and nothing is wiped without being asked for. \
             To have it wiped, start the medium again and choose so in its menu"
        );
    }

    #[test]
    fn chosen_in_the_menu_one_with_data_is_taken() {
        let used =
            [disk("/dev/sda", 4, &[]), disk("/dev/sdb", 100, &[("ext4", None)]), disk("/dev/sdc", 20, &[])];
        let path =
            |disks, medium, anothers| choose(disks, medium, Some(anothers)).map(|disk| disk.path.as_str());
        assert_eq!(path(&used, None, None), Ok("/dev/sdc"), "nothing has to be wiped");
        assert_eq!(path(&used[..2], None, None), Ok("/dev/sdb"));
        // Otherwise it would be found there again at the next start.
        assert_eq!(path(&used, None, Some("sdb")), Ok("/dev/sdb"));
        assert!(path(&used[..2], Some("sdb"), None).is_err(), "never the medium");
        assert_eq!(contents(&used[1]).as_deref(), Some("ext4"));
    }

    #[test]
    fn without_a_fit_disk_the_sentence_says_why() {
        assert_eq!(choose(&[], None, None).unwrap_err(), "this machine has no disk");
        assert_eq!(
            choose(&[disk("/dev/vda", 4, &[])], None, None).unwrap_err(),
            "the disk /dev/vda (QEMU HARDDISK, 4 GB) is too small; it takes 10 GB"
        );
        let stick = Disk { removable: true, ..disk("/dev/sdb", 64, &[]) };
        assert_eq!(choose(&[stick], None, None).unwrap_err(), "this machine has no disk");
    }
}
