//! What goes into a kickstart file, checked when it is made, so that rendering cannot fail and
//! nothing that a machine reported can begin a line of its own.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use crate::MacAddr;

/// What one host's kickstart is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KickstartFacts {
    /// For people who read the file: the machine's name, model, serial. May hold anything.
    pub title: String,
    pub hostname: HostName,
    /// The NIC on the appliance's network.
    pub nic: MacAddr,
    pub disk: DiskId,
    /// Room for two versions of the artifacts.
    pub image_mib: u32,
    pub time_zone: TimeZone,
    /// For root.
    pub ssh_keys: Vec<SshKey>,
    pub appliance: Ipv4Addr,
    pub ca_sha256: Sha256,
    pub image_sha256: Sha256,
    /// The one-time token of this installation.
    pub token: Token,
}

/// A value that cannot be used, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {wanted}")]
pub struct Invalid {
    pub value: String,
    pub wanted: &'static str,
}

macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(Invalid { value: text.to_owned(), wanted: $wanted }) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked!(
    /// A host name without domain, RFC 1123: lower-case letters, digits and dashes, at most 63.
    HostName,
    "a host name (lower-case letters, digits and dashes, at most 63)",
    |text| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
);

checked!(
    /// SHA-256 in 64 lower-case hexadecimal digits.
    Sha256,
    "a SHA-256 in 64 lower-case hexadecimal digits",
    |text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);

checked!(
    /// A one-time token: letters, digits, `-` and `_`, as hexadecimal and URL-safe base64 have them.
    Token,
    "a token (letters, digits, - and _, 16 to 128 of them)",
    |text| (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
);

checked!(
    /// A name of the time zone database, as `Europe/Paris`.
    TimeZone,
    "a time zone like Europe/Paris",
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b))
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
    }
);

checked!(
    /// One line of authorized_keys: type, base64 and perhaps a comment, without options.
    SshKey,
    "a public SSH key on one line",
    |text| {
        let mut fields = text.splitn(3, ' ');
        let kind = fields.next().unwrap_or_default();
        let key = fields.next().unwrap_or_default();
        (kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-"))
            && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"-@.".contains(&b))
            && key.len() >= 16
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
            && !text.chars().any(char::is_control)
    }
);

/// A disk under a name that stays the same from boot to boot, as `disk/by-id/virtio-ABC123`.
///
/// udev makes these names of bus, model and serial, and writes `_` for whatever is not a letter, a
/// digit or one of `#+-.:=@_`. So a serial with blanks, quotes or commas never gets this far: a
/// name that holds one is not udev's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(String);

impl DiskId {
    /// Relative to /dev, as kickstart names disks: `disk/by-id/…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `/dev/disk/by-id/…`
    pub fn path(&self) -> String {
        format!("/dev/{}", self.0)
    }
}

impl FromStr for DiskId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let relative = text.strip_prefix("/dev/").unwrap_or(text);
        let name = relative.strip_prefix("disk/by-id/").or_else(|| relative.strip_prefix("disk/by-path/"));
        let good = |name: &str| {
            // 255 is the longest file name; `#` would begin a comment and is quoted when rendered.
            (1..=255).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&b))
        };
        match name {
            Some(name) if good(name) => Ok(Self(relative.to_owned())),
            _ => Err(Invalid {
                value: text.to_owned(),
                wanted: "a disk under /dev/disk/by-id or /dev/disk/by-path",
            }),
        }
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_its_place_is_no_fact() {
        for bad in [
            "",
            "/dev/vda",
            "vda",
            "/dev/disk/by-id/",
            "/dev/disk/by-id/..",
            "/dev/disk/by-id/../../vda",
            "disk/by-id/a b",
            "disk/by-id/a\nreboot",
            "disk/by-id/a,b",
            "disk/by-id/a\"",
            "disk/by-id/*",
            "disk/by-label/x",
        ] {
            assert!(bad.parse::<DiskId>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "/dev/disk/by-id/ata-QEMU_HARDDISK_S1".parse::<DiskId>().unwrap().as_str(),
            "disk/by-id/ata-QEMU_HARDDISK_S1"
        );
        assert!("disk/by-path/pci-0000:00:1f.2-ata-1".parse::<DiskId>().is_ok());

        for bad in ["", "-a", "a-", "A", "a.b", "a\nreboot", "a b"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
        for bad in [
            "ssh-ed25519",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me\nreboot",
            "command=\"x\" ssh-rsa AAAAC3NzaC1lZDI1NTE5",
        ] {
            assert!(bad.parse::<SshKey>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "x y".parse::<Token>().unwrap_err().to_string(),
            "\"x y\" is not a token (letters, digits, - and _, 16 to 128 of them)"
        );
    }
}
