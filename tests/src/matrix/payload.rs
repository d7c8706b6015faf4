//! What the machines of the matrix are given: the kernel and loaders that were built, an initrd of a few bytes, disks.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use appliance::ca::Ca;
use appliance::tls;
use pxe::Tls;

use super::network::run;

/// Folders that the boot servers give away.
pub struct Products {
    /// The real kernel with an initrd that holds nothing: a kernel that says that it started is enough.
    pub tiny: PathBuf,
    pub loaders: PathBuf,
    pub forged: PathBuf,
    pub bios_disk: PathBuf,
    pub uefi_disk: PathBuf,
    /// The CA that [`Products::tls`] is of, as firmware takes it.
    pub ca: PathBuf,
    authority: PathBuf,
}

/// A folder that dnsmasq gives away by TFTP, and Python by HTTP: the same loaders, kernel and initrd, and scripts as
/// its users write them.
pub fn peer(out: &Path, folder: &Path, address: std::net::Ipv4Addr) -> Result<()> {
    fs::create_dir_all(folder.join("grub"))?;
    for name in ["vmlinuz", "initrd"] {
        copy(&out.join(name), &folder.join(name))?;
    }
    copy(&out.join("loaders/shimx64.efi"), &folder.join("shimx64.efi"))?;
    copy(&out.join("loaders/grubnetx64.efi"), &folder.join("grubx64.efi"))?;
    let ipxe = format!(
        "#!ipxe\nkernel http://{address}/vmlinuz initrd=initrd console=ttyS0,115200\ninitrd http://{address}/initrd\nboot\n"
    );
    fs::write(folder.join("script.ipxe"), ipxe)?;
    let grub = format!(
        "linux (http,{address})/vmlinuz console=ttyS0,115200\ninitrd (http,{address})/initrd\nboot\n"
    );
    Ok(fs::write(folder.join("grub/grub.cfg"), grub)?)
}

/// dnsmasq's options for that.
pub fn peer_options(folder: &Path, address: std::net::Ipv4Addr) -> Vec<String> {
    [
        "--enable-tftp".to_owned(),
        format!("--tftp-root={}", folder.display()),
        "--enable-ra".to_owned(),
        "--dhcp-range=fd77::,ra-only".to_owned(),
        "--dhcp-match=set:ipxe,175".to_owned(),
        "--dhcp-match=set:http,option:client-arch,16".to_owned(),
        "--dhcp-match=set:uefi,option:client-arch,7".to_owned(),
        // No waiting for a ProxyDHCP server.
        "--dhcp-option-force=tag:ipxe,encap:175,176,1b".to_owned(),
        format!("--dhcp-boot=tag:ipxe,http://{address}/script.ipxe"),
        "--dhcp-option-force=tag:http,60,HTTPClient".to_owned(),
        format!("--dhcp-boot=tag:http,http://{address}/shimx64.efi"),
        "--dhcp-boot=tag:uefi,tag:!ipxe,shimx64.efi".to_owned(),
    ]
    .into()
}

/// What a boot sector shows when it was started.
pub const DISK_SAYS: &str = "This is the disk of the machine itself";

impl Products {
    /// From the folder with vmlinuz and `loaders/`, into `folder`.
    pub fn make(out: &Path, folder: &Path) -> Result<Products> {
        let loaders = out.join("loaders");
        if !loaders.join("grubnetx64.efi").exists() {
            bail!("{} is not there; `make image` builds it", loaders.display());
        }
        let products = Products {
            tiny: folder.join("tiny"),
            forged: folder.join("forged"),
            bios_disk: folder.join("bios.raw"),
            uefi_disk: folder.join("uefi.raw"),
            ca: folder.join("ca.esl"),
            authority: folder.join("ca"),
            loaders,
        };
        // What a run before left there are links to the same files: writing to them would write to the originals.
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("clearing {}", folder.display()))?;
        }
        fs::create_dir_all(&products.tiny)?;
        copy(&out.join("vmlinuz"), &products.tiny.join("vmlinuz"))?;
        fs::write(products.tiny.join("initrd"), empty_archive())?;
        products.forge()?;
        fs::write(&products.bios_disk, boot_sector())?;
        products.uefi_disk()?;
        fs::write(&products.ca, signature_list(Ca::open(&products.authority)?.der()))?;
        Ok(products)
    }

    /// What a server at this address shows to firmware that has the list [`Products::ca`].
    pub fn tls(&self, address: Ipv4Addr) -> Result<Tls> {
        let certificate = Ca::open(&self.authority)?.server_certificate(&[address.into()])?;
        Ok(Tls { port: 8443, config: tls::page_config(certificate)?, firmware: true })
    }

    /// GRUB with one byte changed: its signature no longer fits.
    fn forge(&self) -> Result<()> {
        fs::create_dir_all(&self.forged)?;
        copy(&self.loaders.join("shimx64.efi"), &self.forged.join("shimx64.efi"))?;
        let mut grub = fs::read(self.loaders.join("grubnetx64.efi")).context("reading grubnetx64.efi")?;
        let middle = grub.len() / 2;
        grub[middle] ^= 1;
        fs::write(self.forged.join("grubnetx64.efi"), grub)?;
        Ok(())
    }

    /// A FAT disk whose boot loader is iPXE, which says its name at once.
    fn uefi_disk(&self) -> Result<()> {
        let disk = &self.uefi_disk;
        fs::File::create(disk)?.set_len(4 << 20)?;
        let image = disk.display();
        run(&format!("/usr/sbin/mkfs.vfat -n OTHER {image}"))?;
        run(&format!("mmd -i {image} ::/EFI ::/EFI/BOOT"))?;
        let program = self.loaders.join("snponly.efi");
        run(&format!("mcopy -i {image} {} ::/EFI/BOOT/BOOTX64.EFI", program.display()))
    }
}

/// An EFI_SIGNATURE_LIST of one X.509 certificate (UEFI 2.10, 32.4.1).
fn signature_list(certificate: &[u8]) -> Vec<u8> {
    // EFI_CERT_X509_GUID, the first three fields in little-endian order.
    let x509 = uuid::uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").to_bytes_le();
    let owner = uuid::Uuid::nil().to_bytes_le();
    let signature = owner.len() + certificate.len();
    let head = x509.len() + 12;
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let sizes = [number(head + signature), number(0), number(signature)].concat();
    [&x509[..], &sizes, &owner, certificate].concat()
}

/// A link inside a folder that is served may not lead out of it; a hard one is where it is.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop));
    copied.with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// A cpio archive without a file in it.
fn empty_archive() -> Vec<u8> {
    let name = "TRAILER!!!\0";
    let mut archive = String::from("070701");
    for field in 0..13 {
        let value = if field == 4 {
            1
        } else if field == 11 {
            name.len()
        } else {
            0
        };
        archive += &format!("{value:08x}");
    }
    archive += name;
    let mut bytes = archive.into_bytes();
    bytes.resize(1024, 0);
    bytes
}

/// 16-bit code that shows [`DISK_SAYS`] by the BIOS and stops.
fn boot_sector() -> Vec<u8> {
    let mut sector = vec![
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x15, 0x7c, // mov si, 0x7c15: behind this code
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x06, // jz stop
        0xb4, 0x0e, // mov ah, 0x0e: teletype
        0xcd, 0x10, // int 0x10
        0xeb, 0xf5, // jmp next
        0xf4, // stop: hlt
        0xeb, 0xfd, // jmp stop
    ];
    sector.extend_from_slice(DISK_SAYS.as_bytes());
    sector.extend_from_slice(b"\r\n\0");
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    sector.resize(1 << 20, 0);
    sector
}
