//! What a machine says of its disks after it has read them from end to end.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::KnownDisk;

/// `POST /node/checked`: what came of the check with this number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    pub number: u32,
    pub disks: Vec<DiskChecked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiskChecked {
    pub disk: KnownDisk,
    /// So much of it can be read.
    pub bytes_read: u64,
    pub seconds: u64,
    /// Where it could not be read, in bytes from its begin, each for a part of 1 MiB; the first of them.
    pub unreadable: Vec<u64>,
    /// How many such parts there are.
    pub unreadable_parts: u64,
    /// Why it was not read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it says of itself (SMART), if it says anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What a disk says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Health {
    /// Its own verdict.
    pub passed: Option<bool>,
    pub power_on_hours: Option<u64>,
    /// ATA attribute 5: sectors that were replaced by spare ones.
    pub reallocated: Option<u64>,
    /// ATA attribute 197: sectors that wait to be replaced.
    pub pending: Option<u64>,
    /// NVMe: percentage used of the writing that it was made for; may be above 100.
    pub worn_percent: Option<u64>,
    /// NVMe: media and data integrity errors.
    pub media_errors: Option<u64>,
}

impl DiskChecked {
    /// What a person should do something about; `None` for a disk that is well.
    pub fn trouble(&self) -> Option<String> {
        let Health { passed, pending, .. } = self.health.clone().unwrap_or_default();
        if let Some(error) = &self.error {
            return Some(format!("{} was not read to its end: {error}", self.disk));
        }
        if self.unreadable_parts > 0 {
            return Some(format!("{} has {} MiB that cannot be read", self.disk, self.unreadable_parts));
        }
        if passed == Some(false) {
            return Some(format!("{} says of itself that it is failing", self.disk));
        }
        pending
            .filter(|pending| *pending > 0)
            .map(|pending| format!("{} says that {pending} of its sectors wait to be replaced", self.disk))
    }
}

impl fmt::Display for DiskChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.trouble() {
            Some(trouble) => f.write_str(&trouble)?,
            None => write!(f, "{} can be read from end to end", self.disk)?,
        }
        if let Some(pace) = self.bytes_read.checked_div(self.seconds * 1_000_000) {
            write!(f, ", {pace} MB/s")?;
        }
        let Some(health) = &self.health else { return Ok(()) };
        write!(f, "{health}")
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Health { passed, power_on_hours, reallocated, pending, worn_percent, media_errors } = self;
        match passed {
            Some(true) => f.write_str("; SMART: passed")?,
            Some(false) => f.write_str("; SMART: failing")?,
            None => f.write_str("; SMART: no verdict")?,
        }
        let figures = [
            (power_on_hours, " h running"),
            (reallocated, " sectors replaced"),
            (pending, " sectors waiting to be replaced"),
            (worn_percent, " % worn"),
            (media_errors, " media errors"),
        ];
        for (figure, unit) in figures {
            if let Some(figure) = figure {
                write!(f, ", {figure}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_told_by_its_worst() {
        let disk = KnownDisk {
            path: "/dev/sda".into(),
            by_id: None,
            serial: Some("S".into()),
            model: None,
            bytes: 4_000_000_000,
        };
        let well = DiskChecked {
            disk,
            bytes_read: 4_000_000_000,
            seconds: 20,
            unreadable: Vec::new(),
            unreadable_parts: 0,
            error: None,
            health: Some(Health { passed: Some(true), power_on_hours: Some(9), ..Health::default() }),
        };
        assert_eq!(
            well.to_string(),
            "/dev/sda (4 GB, serial S) can be read from end to end, 200 MB/s; SMART: passed, 9 h running"
        );
        assert_eq!(well.trouble(), None);
        let says = |passed, pending| {
            let health = Some(Health { passed: Some(passed), pending: Some(pending), ..Health::default() });
            DiskChecked { health, ..well.clone() }.trouble().unwrap_or_default()
        };
        assert!(says(false, 0).contains("failing"));
        assert!(says(true, 8).contains("8 of its sectors"));
        assert_eq!(says(true, 0), "");
        let worn = DiskChecked { unreadable: vec![1 << 20], unreadable_parts: 3, ..well.clone() };
        assert!(worn.trouble().unwrap().contains("3 MiB that cannot be read"));
        let quick = DiskChecked { seconds: 0, health: None, ..well };
        assert_eq!(quick.to_string(), "/dev/sda (4 GB, serial S) can be read from end to end");
    }
}
