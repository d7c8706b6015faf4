//! Boot scripts for iPXE and GRUB.
//!
//! Every value in them is typed: a MAC, an IPv4 address, hexadecimal digits. None can end a line or
//! begin a command.

use std::net::Ipv4Addr;

use crate::{Boot, MacAddr, kickstart::Sha256};

/// What scripts are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFacts {
    /// The appliance.
    pub address: Ipv4Addr,
    pub ca: Sha256,
    /// Of live.squashfs; [`Boot::Live`] cannot be carried out without.
    pub image: Option<Sha256>,
}

/// Why there is no script for what a machine should boot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoScript {
    /// `elisandra.mode=live` without an image to boot.
    #[error("there is no live.squashfs with a checksum in manifest.json")]
    Image,
    #[error("{0} cannot be started by this boot loader")]
    Loader(String),
}

/// Words of a kernel's command line, which no boot loader takes for anything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine(Vec<String>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} cannot be part of a kernel's command line: {reason}")]
pub struct BadWord {
    pub word: String,
    pub reason: &'static str,
}

impl std::str::FromStr for CommandLine {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let bad = |word: &str, reason| BadWord { word: word.chars().take(80).collect(), reason };
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            return Err(bad(&control.to_string(), "it is a control character"));
        }
        // x86 takes 2048 bytes, and ours come on top.
        if text.len() > 1500 {
            return Err(bad(text, "it is longer than 1500 bytes"));
        }
        for word in text.split(' ') {
            if !word.is_ascii() {
                return Err(bad(word, "boot loaders take ASCII only"));
            }
            if word.contains(['\'', '"', '\\', '`']) {
                return Err(bad(word, "boot loaders read quotes and backslashes in different ways"));
            }
            // iPXE expands settings wherever they stand, and knows no way to quote them.
            if word.contains("${") {
                return Err(bad(word, "iPXE would put a setting in its place"));
            }
            if ["&&", "||", ";"].contains(&word) {
                return Err(bad(word, "it would begin another command"));
            }
        }
        Ok(Self(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()))
    }
}

impl CommandLine {
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

/// The kernel's command line; `None` when no kernel of ours is booted.
fn command_line(facts: &ScriptFacts, mac: MacAddr, boot: &Boot) -> Result<Option<String>, NoScript> {
    let ScriptFacts { address, ca, image } = facts;
    let mode = match boot {
        Boot::Disk => return Ok(None),
        Boot::Rescue | Boot::MemoryTest | Boot::System(_) => return Err(NoScript::Loader(boot.to_string())),
        Boot::Discover => format!("discover elisandra.appliance={address} elisandra.ca={ca}"),
        Boot::Live => {
            let image = image.as_ref().ok_or(NoScript::Image)?;
            format!(
                "live elisandra.appliance={address} elisandra.ca={ca} \
                 elisandra.image=http://{address}/boot/files/live.squashfs elisandra.sha256={image}"
            )
        }
    };
    let mac = mac.dashed();
    // panic=30: a kernel that gives up restarts the machine, which asks the appliance again; nobody stands beside it.
    Ok(Some(format!(
        "boot=elisandra elisandra.mode={mode} BOOTIF=01-{mac} console=tty0 console=ttyS0,115200 panic=30"
    )))
}

/// The script that iPXE runs.
pub fn ipxe(facts: &ScriptFacts, mac: MacAddr, boot: &Boot) -> Result<String, NoScript> {
    let Some(command_line) = command_line(facts, mac, boot)? else {
        // BIOS numbers the disks from 0x80; a disk without a boot sector fails at once. EFI knows no such
        // numbers: there the firmware goes on with its boot order, because iPXE ends with an error.
        return Ok("#!ipxe\n\
             echo Elisandra: starting from this machine's own disk\n\
             iseq ${platform} efi && exit 1 ||\n\
             sanboot --no-describe --drive 0x80 ||\n\
             sanboot --no-describe --drive 0x81 ||\n\
             sanboot --no-describe --drive 0x82 ||\n\
             sanboot --no-describe --drive 0x83 ||\n\
             echo Elisandra: no disk of this machine can be started; looking again in 30 seconds\n\
             sleep 30\n\
             reboot\n"
            .to_owned());
    };
    let address = facts.address;
    let mac = mac.dashed();
    let files = format!("http://{address}/boot/files");
    Ok(format!(
        "#!ipxe\n\
         echo Elisandra: starting over the network\n\
         imgfree\n\
         kernel --name vmlinuz {files}/vmlinuz initrd=initrd {command_line} || goto again\n\
         initrd --name initrd {files}/initrd || goto again\n\
         boot || goto again\n\
         :again\n\
         echo Elisandra: that failed; trying again in 5 seconds\n\
         sleep 5\n\
         chain --replace --autofree http://{address}/boot/{mac}/script.ipxe || goto again\n"
    ))
}

/// The configuration that GRUB reads after [`grub_start`].
pub fn grub(facts: &ScriptFacts, mac: MacAddr, boot: &Boot) -> Result<String, NoScript> {
    let Some(command_line) = command_line(facts, mac, boot)? else {
        // The GRUB that runs is the one that the disk would start, checked by the same shim: it reads
        // the disk's configuration itself. Only other systems' disks are started through their own
        // boot loader. Never `exit`: Debian's GRUB then tells the firmware that all went well, and EDK2
        // shows its menu and waits for a person.
        return Ok("echo \"Elisandra: starting from this machine's own disk\"\n\
             if search --no-floppy --set=root --label ELI-IMAGE; then\n\
             \x20 set prefix=($root)/grub\n\
             \x20 configfile ($root)/grub/grub.cfg\n\
             fi\n\
             if search --no-floppy --set=root --label ELI-ESP; then\n\
             \x20 if chainloader ($root)/EFI/BOOT/BOOTX64.EFI; then boot; fi\n\
             fi\n\
             for loader in /EFI/BOOT/BOOTX64.EFI /EFI/Microsoft/Boot/bootmgfw.efi /EFI/debian/shimx64.efi \
             /EFI/ubuntu/shimx64.efi /EFI/fedora/shimx64.efi /EFI/redhat/shimx64.efi /EFI/centos/shimx64.efi \
             /EFI/rocky/shimx64.efi /EFI/almalinux/shimx64.efi /EFI/opensuse/shim.efi /EFI/sles/shim.efi; do\n\
             \x20 if search --no-floppy --set=root --file $loader; then\n\
             \x20   if chainloader ($root)$loader; then boot; fi\n\
             \x20 fi\n\
             done\n\
             echo \"Elisandra: no disk of this machine can be started; looking again in 30 seconds\"\n\
             sleep 30\n\
             reboot\n"
            .to_owned());
    };
    let files = format!("(http,{})/boot/files", facts.address);
    Ok(format!(
        "echo \"Elisandra: starting over the network\"\n\
         if linux {files}/vmlinuz {command_line}; then\n\
         \x20 if initrd {files}/initrd; then\n\
         \x20   boot\n\
         \x20 fi\n\
         fi\n\
         echo \"Elisandra: that failed; starting again in 10 seconds\"\n\
         sleep 10\n\
         reboot\n"
    ))
}

/// What GRUB finds wherever it looks for its configuration: the way to the machine's own.
pub fn grub_start(address: Ipv4Addr) -> String {
    // $net_default_mac is `aa:bb:cc:dd:ee:ff`. What comes after it only runs when it failed; without
    // that, GRUB would wait at its prompt for ever.
    format!(
        "configfile (http,{address})/boot/$net_default_mac/grub.cfg\n\
         echo \"Elisandra: no boot script from {address}; starting again in 10 seconds\"\n\
         sleep 10\n\
         reboot\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> ScriptFacts {
        ScriptFacts {
            address: [10, 77, 0, 1].into(),
            ca: "ab".repeat(32).parse().unwrap(),
            image: Some("cd".repeat(32).parse().unwrap()),
        }
    }

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    #[test]
    fn scripts() {
        let mut all = String::new();
        for boot in [Boot::Discover, Boot::Live, Boot::Disk] {
            all += &format!("=== {boot:?}, iPXE\n{}", ipxe(&facts(), MAC, &boot).unwrap());
            all += &format!("=== {boot:?}, GRUB\n{}", grub(&facts(), MAC, &boot).unwrap());
        }
        all += &format!("=== GRUB's start\n{}", grub_start(facts().address));
        insta::assert_snapshot!(all);
    }

    #[test]
    fn live_needs_an_image() {
        let facts = ScriptFacts { image: None, ..facts() };
        assert_eq!(ipxe(&facts, MAC, &Boot::Live), Err(NoScript::Image));
        assert_eq!(grub(&facts, MAC, &Boot::Live), Err(NoScript::Image));
        assert!(ipxe(&facts, MAC, &Boot::Discover).is_ok());
    }
}
