//! The boot loaders, taken from the packages of the system that this runs on.

use std::path::{Path, PathBuf};

/// Name, whom it is for, where Debian and Ubuntu have it, and in which package.
const LOADERS: [(&str, &str, &[&str], &str); 7] = [
    ("undionly.kpxe", "BIOS machines", &["/usr/lib/ipxe/undionly.kpxe"], "ipxe"),
    (
        "shimx64.efi",
        "UEFI machines",
        &["/usr/lib/shim/shimx64.efi.signed", "/usr/lib/shim/shimx64.efi.signed.latest"],
        "shim-signed",
    ),
    (
        "grubnetx64.efi",
        "UEFI machines",
        &["/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"],
        "grub-efi-amd64-signed",
    ),
    ("snponly.efi", "UEFI machines with iPXE", &["/usr/lib/ipxe/snponly.efi"], "ipxe"),
    ("shimaa64.efi", "arm64 machines", &["/usr/lib/shim/shimaa64.efi.signed"], "shim-signed:arm64"),
    (
        "grubnetaa64.efi",
        "arm64 machines",
        &["/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed"],
        "grub-efi-arm64-signed:arm64",
    ),
    ("memtest.efi", "the memory test", &["/boot/memtest86+x64.efi", "/boot/memtest86+.efi"], "memtest86+"),
];

/// A folder of boot loaders.
pub struct Loaders {
    pub path: PathBuf,
    /// What machines cannot be served, and what to install.
    pub missing: Vec<String>,
    /// Copies, gone with this value.
    _copies: Option<tempfile::TempDir>,
}

/// The folder that is named; else that of an appliance; else copies of what the system's packages have.
pub fn find(named: Option<&Path>) -> std::io::Result<Loaders> {
    let own = Path::new("/usr/lib/elisandra/boot");
    let (path, copies) = match named {
        Some(path) => {
            std::fs::read_dir(path)?;
            (path.to_owned(), None)
        }
        None if own.is_dir() => (own.to_owned(), None),
        None => {
            let copies = tempfile::Builder::new().prefix("elisandra-loaders-").tempdir()?;
            for (name, _, places, _) in LOADERS {
                if let Some(place) = places.iter().find(|place| Path::new(place).is_file()) {
                    std::fs::copy(place, copies.path().join(name))?;
                }
            }
            (copies.path().to_owned(), Some(copies))
        }
    };
    // The first three boot every PC; whoever wants the others knows it.
    let missing = LOADERS[..3].iter().filter(|(name, ..)| !path.join(name).is_file());
    let missing = missing
        .map(|(name, whom, _, package)| {
            format!("{whom} cannot boot: {name} is missing (package {package} of Debian and Ubuntu has it)")
        })
        .collect();
    Ok(Loaders { path, missing, _copies: copies })
}
