//! What a machine in the initrd is told to erase, and what it says came of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Disk;

/// How the old contents of a disk are to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The best that the disk can do by itself, and if it can do nothing, writing over it.
    #[default]
    Auto,
    /// The disk is told that nothing on it is needed; where it does not forget, zeroes are written.
    Discard,
    /// NVMe alone: the disk makes itself new.
    Format,
    /// Zeroes over every block.
    Overwrite,
}

impl Method {
    pub fn word(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::Discard => "discard",
            Method::Format => "format",
            Method::Overwrite => "overwrite",
        }
    }
}

/// What was done to a disk, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// NVMe Format with secure erase setting 2.
    NvmeCrypto,
    /// NVMe Format with secure erase setting 1.
    NvmeUserData,
    /// BLKSECDISCARD.
    SecureDiscard,
    /// BLKDISCARD.
    Discard,
    Overwrite,
}

impl Means {
    /// As in `was erased by …`.
    pub fn words(self) -> &'static str {
        match self {
            Means::NvmeCrypto => "NVMe Format, cryptographic erase (nvme format --ses=2)",
            Means::NvmeUserData => "NVMe Format, user data erase (nvme format --ses=1)",
            Means::SecureDiscard => "secure discard of every block (blkdiscard --secure)",
            Means::Discard => "discard of every block (blkdiscard)",
            Means::Overwrite => "zeroes written over every block",
        }
    }

    fn level(self) -> Level {
        match self {
            Means::NvmeCrypto | Means::NvmeUserData => Level::Purge,
            // What a secure discard leaves behind depends on the maker; it is taken for no more than can be seen.
            Means::SecureDiscard | Means::Overwrite => Level::Clear,
            Means::Discard => Level::None,
        }
    }
}

/// What that comes to by NIST SP 800-88 Rev. 1, appendix A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Level {
    None,
    Clear,
    Purge,
}

impl Level {
    pub fn of(means: &[Means]) -> Level {
        means.iter().map(|means| means.level()).max().unwrap_or(Level::None)
    }

    pub fn word(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Clear => "clear",
            Level::Purge => "purge",
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Level::None => {
                "no method of NIST SP 800-88: the disk was told that nothing on it is needed, and reads as if nothing \
                 was; what its cells still hold is not known"
            }
            Level::Clear => {
                "Clear of NIST SP 800-88 Rev. 1: what can be addressed is gone for whoever reads the disk by its usual \
                 commands; spare and remapped blocks may hold remains"
            }
            Level::Purge => {
                "Purge of NIST SP 800-88 Rev. 1 (NVM Express: Format): gone for a laboratory too, as far as the \
                 disk's own command does what its maker says"
            }
        }
    }
}

/// By what a disk is known again. Nothing is written to one of which any of it is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KnownDisk {
    /// When it was chosen; may differ at the next boot.
    pub path: String,
    pub by_id: Option<String>,
    pub serial: Option<String>,
    pub model: Option<String>,
    pub bytes: u64,
}

impl KnownDisk {
    pub fn of(disk: &Disk) -> KnownDisk {
        KnownDisk {
            path: disk.path.clone(),
            by_id: disk.by_id.clone(),
            serial: disk.serial.clone(),
            model: disk.model.clone(),
            bytes: disk.bytes,
        }
    }

    /// Its name of this start is no proof, and neither is its size alone.
    pub fn is(&self, disk: &Disk) -> bool {
        (self.serial.is_some() || self.by_id.is_some())
            && self.serial == disk.serial
            && self.by_id == disk.by_id
            && self.model == disk.model
            && self.bytes == disk.bytes
    }

    /// The one among `disks`; a sentence if it is not there, or if two say that they are it.
    pub fn among<'a>(&self, disks: &'a [Disk]) -> Result<&'a Disk, String> {
        let mut found = disks.iter().filter(|disk| self.is(disk));
        match (found.next(), found.next()) {
            (Some(disk), None) => Ok(disk),
            (Some(_), Some(_)) => Err(format!("two disks of the machine say that they are {self}")),
            (None, _) => Err(format!("{self} is not in the machine any more")),
        }
    }
}

impl fmt::Display for KnownDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gigabytes = self.bytes / 1_000_000_000;
        match &self.serial {
            Some(serial) => write!(f, "{} ({gigabytes} GB, serial {serial})", self.path),
            None => write!(f, "{} ({gigabytes} GB)", self.path),
        }
    }
}

/// One disk that is to be erased now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseDisk {
    /// Counted from 0 among the disks that were asked for.
    pub number: u32,
    pub attempt: u32,
    pub disk: KnownDisk,
    pub method: Method,
}

/// `POST /node/erased`: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    pub number: u32,
    pub attempt: u32,
    pub outcome: EraseOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraseOutcome {
    Done(Proof),
    Failed {
        step: String,
        /// How far it came is a part of it.
        error: String,
    },
}

/// What was done to a disk, and what was seen of it afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Proof {
    pub means: Vec<Means>,
    pub seconds: u64,
    /// So many places were read before and after, the first and the last of the disk among them.
    pub places: u32,
    pub bytes_read: u64,
    /// All of what was read was zero afterwards.
    pub zero: bool,
    /// Of the version of our program that did it.
    pub version: String,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let means: Vec<&str> = self.means.iter().map(|means| means.words()).collect();
        let seen = if self.zero { "all of it is zero" } else { "nothing of it is what was there before" };
        write!(f, "{}; {} places were read back, {seen}", means.join(", then "), self.places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_known_by_all_that_it_says() {
        let disk = Disk {
            path: "/dev/sda".into(),
            by_id: Some("/dev/disk/by-id/ata-X_1".into()),
            serial: Some("1".into()),
            model: Some("X".into()),
            bytes: 1 << 40,
            rotational: true,
            removable: false,
            contents: Vec::new(),
        };
        let known = KnownDisk::of(&disk);
        let moved = Disk { path: "/dev/sdb".into(), ..disk.clone() };
        assert_eq!(known.among(std::slice::from_ref(&moved)), Ok(&moved));
        let others = [
            Disk { serial: Some("2".into()), ..disk.clone() },
            Disk { serial: None, ..disk.clone() },
            Disk { by_id: None, ..disk.clone() },
            Disk { model: None, ..disk.clone() },
            Disk { bytes: 1 << 41, ..disk.clone() },
        ];
        for other in others {
            assert!(!known.is(&other), "{other:?}");
        }
        assert!(known.among(&[disk.clone(), moved]).unwrap_err().contains("two disks"));
        let nameless = Disk { serial: None, by_id: None, ..disk };
        assert!(!KnownDisk::of(&nameless).is(&nameless));
    }

    #[test]
    fn the_best_of_what_was_done_counts() {
        assert_eq!(Level::of(&[Means::Discard]), Level::None);
        assert_eq!(Level::of(&[Means::Overwrite, Means::Discard]), Level::Clear);
        assert_eq!(Level::of(&[Means::NvmeUserData]), Level::Purge);
    }
}
