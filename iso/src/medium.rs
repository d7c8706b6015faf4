//! elisandra.iso: one file that boots by BIOS and by UEFI, as a disc and as a USB stick.
//!
//! | started by | through |
//! |---|---|
//! | BIOS, disc | El Torito image: GRUB's cdboot.img and core |
//! | BIOS, stick | the first sector (boot_hybrid.img), which loads the same El Torito image |
//! | UEFI, disc | El Torito image for EFI: a FAT partition with Debian's shim and signed GRUB |
//! | UEFI, stick | the same FAT partition, listed in the partition table |

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    manifest, progress, source,
    system::{System, copy},
    tool,
};

/// Whole medium: found by this label, by the boot loader and by the initrd.
const LABEL: &str = "ELISANDRA";
const ESP_MIB: u64 = 8;

pub fn build(system: &System, out: &Path) -> Result<()> {
    progress::step("elisandra.iso", || {
        let folder = tempfile::tempdir_in(out).context("making a temporary folder")?;
        let tree = folder.path().join("tree");
        let grub = tree.join("boot/grub");
        fs::create_dir_all(&grub).context("making the medium's folders")?;
        copy(&source("boot/medium.cfg"), &grub.join("grub.cfg"))?;
        // Started from a disc, the signed GRUB takes the whole disc for the partition it was loaded from.
        let signed = tree.join("EFI/debian");
        fs::create_dir_all(&signed).context("making the medium's folders")?;
        copy(&source("boot/medium-efi.cfg"), &signed.join("grub.cfg"))?;
        copy(&system.root.built("eltorito.img"), &grub.join("eltorito.img"))?;

        let esp = folder.path().join("esp.img");
        efi_partition(system, &esp)?;
        let image = folder.path().join("elisandra.iso");
        xorriso(system, &tree, &esp, out, &image)?;
        fs::rename(&image, out.join("elisandra.iso")).context("naming elisandra.iso")
    })
}

/// The FAT partition for UEFI firmware. shim is started as the default program and loads `grubx64.efi` beside
/// it; that GRUB reads /EFI/debian/grub.cfg, the prefix it was signed with.
fn efi_partition(system: &System, image: &Path) -> Result<()> {
    let file = fs::File::create(image).context("making the EFI partition")?;
    file.set_len(ESP_MIB << 20).context("making the EFI partition")?;
    tool::run(Command::new("mkfs.vfat").args(["-n", "ELI-BOOT"]).arg(image))?;
    let mtools = |name: &str| {
        let mut command = Command::new(name);
        command.arg("-i").arg(image);
        command
    };
    tool::run(mtools("mmd").args(["::/EFI", "::/EFI/BOOT", "::/EFI/debian"]))?;
    let files: [(PathBuf, &str); 3] = [
        (system.root.built("shimx64.efi"), "::/EFI/BOOT/BOOTX64.EFI"),
        (system.root.built("grubx64.efi"), "::/EFI/BOOT/grubx64.efi"),
        (source("boot/medium-efi.cfg"), "::/EFI/debian/grub.cfg"),
    ];
    for (from, to) in files {
        tool::run(mtools("mcopy").arg(from).arg(to))?;
    }
    Ok(())
}

fn xorriso(system: &System, tree: &Path, esp: &Path, out: &Path, image: &Path) -> Result<()> {
    let mut command = Command::new("xorriso");
    command.args(["-as", "mkisofs", "-quiet", "-iso-level", "3", "-R", "-J", "-joliet-long", "-V", LABEL]);
    command.arg("-o").arg(image);
    // BIOS, from a disc and from a stick
    command.args([
        "-b",
        "boot/grub/eltorito.img",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-boot-info-table",
    ]);
    command.arg("--grub2-boot-info").arg("--grub2-mbr").arg(system.root.built("boot_hybrid.img"));
    // UEFI, from both: one FAT image, appended as a partition
    command.args(["-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot"]);
    command.args(["-append_partition", "2", "0xef"]).arg(esp).args([
        "-partition_offset",
        "16",
        "-appended_part_as_gpt",
    ]);
    command.arg("-graft-points").arg(format!("/={}", tree.display()));
    for name in manifest::FILES.iter().chain(&["manifest.json"]) {
        command.arg(format!("/elisandra/{name}={}", out.join(name).display()));
    }
    tool::run(&mut command)
}
