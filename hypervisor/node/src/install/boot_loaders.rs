//! Makes a disk start under both firmwares, whichever one the machine has today.

use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::Context;

use super::disk::Device;
use crate::layout::{IMAGE_LABEL, Placed};
use crate::places;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// The boot loader files of a system image.
pub struct BootLoaders {
    shim: Vec<u8>,
    mok_manager: Option<Vec<u8>>,
    grub: Vec<u8>,
    bios_boot: Vec<u8>,
    bios_core: Vec<u8>,
}

impl BootLoaders {
    /// From `/usr/lib/elisandra/boot` of a system.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let file = |name: &str| {
            fs::read(folder.join(name)).with_context(|| format!("reading {}", folder.join(name).display()))
        };
        Ok(Self {
            shim: file("shimx64.efi")?,
            mok_manager: file("mmx64.efi").ok(),
            grub: file("grubx64.efi")?,
            bios_boot: file("bios-boot.img")?,
            bios_core: file("bios-core.img")?,
        })
    }

    /// Writes the ESP mounted at `esp`, then the BIOS boot loader of `disk`.
    pub fn install(&self, esp: &Path, disk: &Device, bios_boot: &Placed) -> anyhow::Result<()> {
        // EFI/BOOT/BOOTX64.EFI is what every firmware starts from a disk that it has no entry for, so nothing has to
        // be kept in the firmware's own memory. Shim then looks for grubx64.efi beside itself.
        let folder = esp.join("EFI/BOOT");
        places::write(&folder.join("grubx64.efi"), &self.grub, 0o644)?;
        if let Some(mok_manager) = &self.mok_manager {
            places::write(&folder.join("mmx64.efi"), mok_manager, 0o644)?;
        }
        // Debian's signed GRUB has this path built in.
        places::write(&esp.join("EFI/debian/grub.cfg"), esp_config(), 0o644)?;
        places::write(&folder.join("BOOTX64.EFI"), &self.shim, 0o644)?;
        self.embed(disk, bios_boot)
    }

    fn embed(&self, disk: &Device, bios_boot: &Placed) -> anyhow::Result<()> {
        let name = disk.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sectors =
            fs::read_to_string(format!("/sys/block/{name}/queue/logical_block_size")).unwrap_or_default();
        if sectors.trim() == "4096" {
            // No BIOS starts from such a disk.
            return Ok(());
        }
        let mut device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&disk.path)
            .with_context(|| format!("opening {}", disk.path.display()))?;
        images::grub::embed_bios_grub(
            &mut device,
            &self.bios_boot,
            &self.bios_core,
            bios_boot.start_mib * MIB / SECTOR,
            bios_boot.size_mib * MIB / SECTOR,
        )?;
        device.sync_all().with_context(|| format!("writing {}", disk.path.display()))
    }
}

fn esp_config() -> String {
    format!(
        "search --no-floppy --label {IMAGE_LABEL} --set=root\nset prefix=($root)/grub\nconfigfile /grub/grub.cfg\n"
    )
}

/// GRUB's configuration on the image partition. `append` goes to the end of the kernel command line.
pub fn grub_config(append: &str) -> String {
    let append = quote(append);
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_input console serial\n\
         terminal_output console serial\n\
         set timeout=1\n\
         set default=0\n\
         menuentry \"Elisandra\" {{\n\
         \x20   linux /a/vmlinuz boot=elisandra elisandra.mode=disk {append}\n\
         \x20   initrd /a/initrd\n\
         }}\n"
    )
}

/// Each word in single quotes, so that GRUB's shell reads nothing in it.
fn quote(append: &str) -> String {
    let words = append.split_whitespace().map(|word| {
        let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-=,:/@%+".contains(&b));
        if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_starts_the_kernel_from_the_image_partition() {
        insta::assert_snapshot!(grub_config("console=tty0 console=ttyS0,115200 panic=30"), @r#"
        serial --unit=0 --speed=115200
        terminal_input console serial
        terminal_output console serial
        set timeout=1
        set default=0
        menuentry "Elisandra" {
            linux /a/vmlinuz boot=elisandra elisandra.mode=disk console=tty0 console=ttyS0,115200 panic=30
            initrd /a/initrd
        }
        "#);
        assert!(grub_config("a=$(reboot) b='c").contains(r"elisandra.mode=disk 'a=$(reboot)' 'b='\''c'"));
    }

    #[test]
    fn a_system_without_boot_loaders_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let Err(error) = BootLoaders::read(dir.path()) else { panic!("there is none") };
        assert!(error.to_string().ends_with("shimx64.efi"), "{error}");
    }
}
