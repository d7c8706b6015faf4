//! guest.img: the disk of a new virtual machine, as compressed qcow2.
//!
//! GPT: 1 BIOS boot partition with GRUB's core, 2 ext4 labelled ELI-GUEST with everything else. The machine's
//! disk may be larger: the root grows at the first boot.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};
use images::grub::embed_bios_grub;

use crate::{
    cache::{Cache, Key},
    debian::{Finished, Mirror, Root, name},
    source,
    system::{NODE, copy, program},
    tarball::{self, Overlay},
    tool,
};

const SECTOR: u64 = 512;
const DISK_SECTORS: u64 = (1 << 30) / SECTOR;
const BOOT_START: u64 = 2048;
const BOOT_SECTORS: u64 = 2048;
const ROOT_START: u64 = BOOT_START + BOOT_SECTORS;
/// The last MiB stays free for the second copy of the partition table.
const ROOT_SECTORS: u64 = DISK_SECTORS - ROOT_START - 2048;
/// Under fakeroot the files that tar unpacks belong to whom they should, and mkfs.ext4 writes that down.
const MAKE_FILESYSTEM: &str = r#"
set -e
tar -C "$TREE" --numeric-owner -xpf "$TAR" --exclude='./dev/*'
mkfs.ext4 -q -F -d "$TREE" -L ELI-GUEST -U "$UUID" -m 1 -J size=16 -I 256 \
    -O ^metadata_csum_seed,^orphan_file \
    -E "offset=$OFFSET,lazy_itable_init=0,lazy_journal_init=0,nodiscard" "$DISK" "$KIB"
"#;
/// Any fixed value does; it makes two builds of the same inputs alike.
const FILESYSTEM_UUID: &str = "e11a4d2a-0000-4000-8000-000000000001";

pub fn build(cache: &Cache, mirror: &Mirror, binaries: &Path, out: &Path) -> Result<()> {
    let node = program(binaries, NODE)?;
    let root = Root { kind: "guest" }.build(cache, mirror)?;
    let boot_loaders = Root { kind: "system" }.build(cache, mirror)?;
    let disk = disk(cache, &root, &boot_loaders)?;

    let key =
        Key::new().text(&name(&disk)).command(&convert(Path::new("raw"), Path::new("img"))).file(&node)?;
    let image = cache.entry("guest-image", "guest image: elisandra-node and compression", key, |folder| {
        let raw = folder.join("disk.raw");
        tool::run(Command::new("cp").arg("--sparse=always").arg(disk.join("disk.raw")).arg(&raw))?;
        add_program(&raw, &node, folder)?;
        tool::run(&mut convert(&raw, &folder.join("guest.img")))?;
        fs::remove_file(&raw).context("removing the uncompressed disk")
    })?;
    copy(&image.join("guest.img"), &out.join("guest.img"))
}

/// The disk without elisandra-node, which changes more often than everything else.
fn disk(cache: &Cache, root: &Finished, boot_loaders: &Finished) -> Result<std::path::PathBuf> {
    let mut overlay = Overlay::default();
    let layout = format!("{DISK_SECTORS} {BOOT_START} {BOOT_SECTORS} {ROOT_START} {ROOT_SECTORS}");
    let mut key = Key::new().text(&root.key()).text(&boot_loaders.key()).text(&layout).text(MAKE_FILESYSTEM);
    for ours in [source("overlay/common"), source("overlay/guest")] {
        overlay.add_tree(&ours)?;
        key = key.tree(&ours)?;
    }
    cache.entry("guest-disk", "guest image: disk with GRUB and ext4", key, |folder| {
        let disk = folder.join("disk.raw");
        partition(&disk)?;
        let tar = folder.join("root.tar");
        let mut file = File::create(&tar).context("writing the root file system")?;
        tarball::merge(&root.tar(), &overlay, &mut file)?;
        filesystem(&tar, &disk, folder)?;
        fs::remove_file(&tar).context("removing the root file system's tar")?;

        let read = |name: &str| fs::read(boot_loaders.built(name)).with_context(|| format!("reading {name}"));
        let mut file = File::options().read(true).write(true).open(&disk).context("opening the disk")?;
        embed_bios_grub(&mut file, &read("boot.img")?, &read("guest-core.img")?, BOOT_START, BOOT_SECTORS)
            .context("making the disk bootable")
    })
}

fn partition(disk: &Path) -> Result<()> {
    let file = File::create(disk).context("making the disk")?;
    file.set_len(DISK_SECTORS * SECTOR).context("making the disk")?;
    // systemd-repart knows the root by its type. The disk's own id must differ from machine to machine only
    // where two disks meet in one machine; these never do.
    let table = format!(
        "label: gpt\nlabel-id: {FILESYSTEM_UUID}\n\
         start={BOOT_START}, size={BOOT_SECTORS}, type=21686148-6449-6E6F-744E-656564454649\n\
         start={ROOT_START}, size={ROOT_SECTORS}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root\n"
    );
    tool::run_fed(Command::new("sfdisk").arg("--quiet").arg(disk), |stdin| {
        Ok(stdin.write_all(table.as_bytes())?)
    })
}

/// Fills the root partition from a tar, as an ordinary user.
fn filesystem(tar: &Path, disk: &Path, folder: &Path) -> Result<()> {
    let tree = folder.join("tree");
    fs::create_dir(&tree).context("making a folder for the root file system")?;
    let result = tool::run(
        Command::new("fakeroot")
            .args(["sh", "-c", MAKE_FILESYSTEM])
            .env("TREE", &tree)
            .env("TAR", tar)
            .env("UUID", FILESYSTEM_UUID)
            .env("OFFSET", (ROOT_START * SECTOR).to_string())
            .env("DISK", disk)
            .env("KIB", (ROOT_SECTORS * SECTOR / 1024).to_string()),
    );
    // Folders without write permission for their owner are left by some packages.
    tool::run(Command::new("chmod").args(["-R", "u+rwX"]).arg(&tree))?;
    fs::remove_dir_all(&tree).context("removing the unpacked root file system")?;
    result
}

/// Writes elisandra-node into the file system without mounting it.
fn add_program(disk: &Path, node: &Path, folder: &Path) -> Result<()> {
    let target = format!("/usr/bin/{NODE}");
    let script = folder.join("debugfs");
    let commands = format!(
        "write {} {target}\nset_inode_field {target} mode 0100755\nset_inode_field {target} uid 0\nset_inode_field {target} gid 0\n",
        node.display()
    );
    fs::write(&script, commands).context("writing the commands for debugfs")?;
    let image = format!("{}?offset={}", disk.display(), ROOT_START * SECTOR);
    tool::run(Command::new("debugfs").args(["-w", "-f"]).arg(&script).arg(&image))?;
    fs::remove_file(&script).context("removing the commands for debugfs")?;

    // debugfs ends with success whatever happened: look.
    let copy = folder.join("written");
    tool::run(
        Command::new("debugfs").args(["-R", &format!("dump {target} {}", copy.display())]).arg(&image),
    )?;
    let same = fs::read(&copy).context("reading back elisandra-node")? == fs::read(node)?;
    anyhow::ensure!(same, "debugfs did not write {NODE} to the guest's file system");
    fs::remove_file(&copy).context("removing the copy that was read back")
}

fn convert(raw: &Path, target: &Path) -> Command {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-q", "-c", "-W", "-m", "4", "-f", "raw", "-O", "qcow2"]);
    command.args(["-o", "compression_type=zstd"]).arg(raw).arg(target);
    command
}
