//! What the kernel command line tells the initrd.

use std::net::Ipv4Addr;

use fleet::id::Mac;

/// The `elisandra.*` keys of the command line, and the NIC that the firmware booted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    pub mode: Mode,
    /// `BOOTIF=01-aa-bb-cc-dd-ee-ff`, as PXELINUX began it and iPXE and GRUB scripts pass it on.
    pub boot_mac: Option<Mac>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// From the medium: become the appliance; on a disk that holds data only if a person chose that in the menu.
    Iso { wipe: bool },
    /// Report to the appliance and do as it says.
    Discover(Appliance),
    /// Run from memory with an image from the network.
    Live { appliance: Appliance, image_url: String, image_sha256: String },
    /// A shell for a person, from memory with an image from the network.
    Rescue { appliance: Appliance, image_url: String, image_sha256: String },
    /// Run from this machine's own disk.
    Disk,
}

/// Where the appliance is and how to know that it is the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appliance {
    pub address: Ipv4Addr,
    /// Of the CA certificate's DER, in lower-case hexadecimal.
    pub ca_sha256: String,
}

/// A command line that cannot be followed, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    #[error("the kernel command line does not say elisandra.mode=")]
    NoMode,
    #[error(
        "elisandra.mode={0} on the kernel command line is not a mode (iso, discover, live, rescue, disk)"
    )]
    UnknownMode(String),
    #[error("elisandra.mode={mode} needs {key}= on the kernel command line")]
    Missing { mode: &'static str, key: &'static str },
    #[error("{key}={value} on the kernel command line is not {wanted}")]
    Bad { key: &'static str, value: String, wanted: &'static str },
}

/// Reads /proc/cmdline. Where a key stands twice, the last counts, as the kernel does it.
pub fn parse(text: &str) -> Result<CommandLine, CommandLineError> {
    let value = |key: &str| {
        text.split_whitespace()
            .rev()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .filter(|value| !value.is_empty())
    };
    let needed = |mode, key| value(key).ok_or(CommandLineError::Missing { mode, key });
    let appliance = |mode| {
        let address = needed(mode, "elisandra.appliance")?;
        let ca_sha256 = sha256("elisandra.ca", needed(mode, "elisandra.ca")?)?;
        let address = address.parse().map_err(|_| CommandLineError::Bad {
            key: "elisandra.appliance",
            value: address.to_owned(),
            wanted: "an IPv4 address",
        })?;
        Ok(Appliance { address, ca_sha256 })
    };

    let mode = match value("elisandra.mode").ok_or(CommandLineError::NoMode)? {
        "iso" => match value("elisandra.wipe") {
            None => Mode::Iso { wipe: false },
            Some("first") => Mode::Iso { wipe: true },
            Some(other) => {
                return Err(CommandLineError::Bad {
                    key: "elisandra.wipe",
                    value: other.to_owned(),
                    wanted: "first",
                });
            }
        },
        "disk" => Mode::Disk,
        "discover" => Mode::Discover(appliance("discover")?),
        "live" => Mode::Live {
            appliance: appliance("live")?,
            image_url: needed("live", "elisandra.image")?.to_owned(),
            image_sha256: sha256("elisandra.sha256", needed("live", "elisandra.sha256")?)?,
        },
        "rescue" => Mode::Rescue {
            appliance: appliance("rescue")?,
            image_url: needed("rescue", "elisandra.image")?.to_owned(),
            image_sha256: sha256("elisandra.sha256", needed("rescue", "elisandra.sha256")?)?,
        },
        other => return Err(CommandLineError::UnknownMode(other.to_owned())),
    };
    // The first octet is the ARP hardware type, 01 for Ethernet. A BOOTIF that is not understood is no reason
    // to stay down: the other NICs are tried too.
    let boot_mac = value("BOOTIF").and_then(|value| value.strip_prefix("01-").unwrap_or(value).parse().ok());
    Ok(CommandLine { mode, boot_mac })
}

fn sha256(key: &'static str, value: &str) -> Result<String, CommandLineError> {
    let value = value.to_ascii_lowercase();
    if value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(value);
    }
    Err(CommandLineError::Bad { key, value, wanted: "a SHA-256 in hexadecimal" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn each_mode_is_read() {
        let appliance = || Appliance { address: Ipv4Addr::new(10, 77, 0, 1), ca_sha256: SHA.to_owned() };
        assert_eq!(
            parse("BOOT_IMAGE=/vmlinuz boot=elisandra elisandra.mode=iso console=ttyS0,115200\n"),
            Ok(CommandLine { mode: Mode::Iso { wipe: false }, boot_mac: None })
        );
        assert_eq!(parse("elisandra.mode=iso elisandra.wipe=first").unwrap().mode, Mode::Iso { wipe: true });
        assert_eq!(
            parse(&format!(
                "initrd=initrd elisandra.mode=discover elisandra.appliance=10.77.0.1 elisandra.ca={SHA} BOOTIF=01-52-54-00-ab-cd-ef"
            )),
            Ok(CommandLine {
                mode: Mode::Discover(appliance()),
                boot_mac: Some(Mac([0x52, 0x54, 0, 0xab, 0xcd, 0xef]))
            })
        );
        let upper = SHA.to_uppercase();
        assert_eq!(
            parse(&format!(
                "elisandra.mode=live elisandra.appliance=10.77.0.1 elisandra.ca={upper} elisandra.image=http://10.77.0.1/boot/files/live.squashfs elisandra.sha256={SHA}"
            ))
            .unwrap()
            .mode,
            Mode::Live {
                appliance: appliance(),
                image_url: "http://10.77.0.1/boot/files/live.squashfs".to_owned(),
                image_sha256: SHA.to_owned()
            }
        );
        assert!(matches!(
            parse(&format!(
                "elisandra.mode=rescue elisandra.appliance=10.77.0.1 elisandra.ca={SHA} elisandra.image=http://a/b elisandra.sha256={SHA}"
            ))
            .unwrap()
            .mode,
            Mode::Rescue { image_url, .. } if image_url == "http://a/b"
        ));
        // A person who edits the line in the boot loader appends.
        assert_eq!(parse("elisandra.mode=iso elisandra.mode=disk").unwrap().mode, Mode::Disk);
    }

    #[test]
    fn what_cannot_be_followed_is_said_in_a_sentence() {
        let said: Vec<String> = [
            "quiet",
            "elisandra.mode=",
            "elisandra.mode=live-cd",
            "elisandra.mode=iso elisandra.wipe=all",
            "elisandra.mode=rescue",
            "elisandra.mode=discover",
            "elisandra.mode=discover elisandra.appliance=10.77.0.1 elisandra.ca=abc",
            &format!("elisandra.mode=discover elisandra.appliance=router elisandra.ca={SHA}"),
        ]
        .into_iter()
        .map(|line| parse(line).unwrap_err().to_string())
        .collect();
        assert_eq!(
            said,
            [
                "the kernel command line does not say elisandra.mode=",
                "the kernel command line does not say elisandra.mode=",
                "elisandra.mode=live-cd on the kernel command line is not a mode (iso, discover, live, rescue, disk)",
                "elisandra.wipe=all on the kernel command line is not first",
                "elisandra.mode=rescue needs elisandra.appliance= on the kernel command line",
                "elisandra.mode=discover needs elisandra.appliance= on the kernel command line",
                "elisandra.ca=abc on the kernel command line is not a SHA-256 in hexadecimal",
                "elisandra.appliance=router on the kernel command line is not an IPv4 address",
            ]
        );
        assert_eq!(parse("elisandra.mode=disk BOOTIF=eth0").unwrap().boot_mac, None);
    }
}
