//! What an NVMe disk can do by itself (NVM Express base specification, Identify Controller).

use std::path::Path;

use anyhow::{Context as _, bail};
use fleet::wire::Means;
use serde::Deserialize;

/// OACS, bit 1: Format NVM is supported.
const FORMAT: u32 = 1 << 1;
/// FNA, bits 0 and 1: formatting, or erasing, one namespace is doing it to all.
const ALL_NAMESPACES: u32 = 0b11;
/// FNA, bit 2: cryptographic erase is supported.
const CRYPTO: u32 = 1 << 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    oacs: u32,
    fna: u32,
    /// Of the controller, that the kernel knows.
    namespaces: usize,
}

impl Abilities {
    /// From the JSON of `nvme id-ctrl`.
    pub fn read(json: &str, namespaces: usize) -> anyhow::Result<Abilities> {
        #[derive(Deserialize)]
        struct Controller {
            oacs: u32,
            fna: u32,
        }
        let Controller { oacs, fna } =
            serde_json::from_str(json).context("reading what the controller says")?;
        Ok(Abilities { oacs, fna, namespaces })
    }

    /// The best first, each with its secure erase setting. A disk that would erase others with it has none.
    pub fn ways(self, path: &Path) -> anyhow::Result<Vec<(Means, u8)>> {
        if self.oacs & FORMAT == 0 {
            bail!("{} cannot format itself", path.display());
        }
        if self.fna & ALL_NAMESPACES != 0 && self.namespaces != 1 {
            bail!(
                "{} would format the other {} namespaces of its controller with it",
                path.display(),
                self.namespaces.saturating_sub(1)
            );
        }
        let crypto = (self.fna & CRYPTO != 0).then_some((Means::NvmeCrypto, 2));
        Ok([(Means::NvmeUserData, 1)].into_iter().chain(crypto).collect())
    }
}

/// `/dev/nvme0` of `/dev/nvme0n1`
pub(super) fn controller(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_prefix("nvme")?;
    let (number, namespace) = name.split_once('n')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(namespace)).then(|| format!("nvme{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_of_a_namespace() {
        assert_eq!(controller(Path::new("/dev/nvme0n1")).as_deref(), Some("nvme0"));
        assert_eq!(controller(Path::new("/dev/nvme12n3")).as_deref(), Some("nvme12"));
        for other in ["/dev/sda", "/dev/nvme0", "/dev/nvme0n1p1", "/dev/nvme0c0n1", "/dev/vda"] {
            assert_eq!(controller(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_format_that_would_take_other_disks_with_it_is_not_used() {
        let path = Path::new("/dev/nvme0n1");
        let ways = |oacs: u32, fna: u32, namespaces| {
            let json = format!(r#"{{"vid":5197,"sn":"S1","oacs":{oacs},"fna":{fna},"psds":[]}}"#);
            Abilities::read(&json, namespaces).unwrap().ways(path)
        };
        assert_eq!(ways(0x17, 0, 2).unwrap(), [(Means::NvmeUserData, 1)]);
        assert_eq!(ways(0x17, 5, 1).unwrap(), [(Means::NvmeUserData, 1), (Means::NvmeCrypto, 2)]);
        for fna in 1..=3 {
            assert!(ways(0x17, fna, 2).unwrap_err().to_string().contains("the other 1 namespaces"));
        }
        assert!(ways(0x15, 0, 1).unwrap_err().to_string().contains("cannot format itself"));
        assert!(Abilities::read("no such device", 1).is_err());
    }
}
