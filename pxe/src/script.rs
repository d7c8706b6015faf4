//! Boot scripts for iPXE and GRUB.
//!
//! Every value in them is typed (a MAC, an IPv4 address, hexadecimal digits, [`CommandLine`]), of letters that no
//! loader reads as more than themselves (paths), or shown with all other letters replaced (titles). None can end a
//! line or begin a command. Only [`Start::Text`](crate::Start::Text) is what a person wrote, as it is.

mod command_line;
mod grub;
mod ipxe;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

pub use self::{
    command_line::{BadWord, CommandLine},
    grub::{grub, grub_start, grub_trouble},
    ipxe::{ipxe, ipxe_trouble},
};
use crate::{Boot, kickstart::Sha256};

/// What scripts are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFacts {
    /// The appliance, for the kernel's command line: our systems speak to it over IPv4.
    pub address: Ipv4Addr,
    /// The appliance as the boot loader reached it, for everything that is fetched before a kernel runs.
    pub host: Host,
    pub ca: Sha256,
    /// Whether GRUB starts iPXE to fetch the kernel, where Secure Boot lets it.
    pub by_ipxe: bool,
    /// Of live.squashfs; [`Boot::Live`] and [`Boot::Rescue`] cannot be carried
    /// out without.
    pub image: Option<Sha256>,
}

/// The appliance in a URL: its address of the family that a machine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host(pub IpAddr);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl From<[u8; 4]> for Host {
    fn from(address: [u8; 4]) -> Self {
        Self(address.into())
    }
}

impl From<Ipv4Addr> for Host {
    fn from(address: Ipv4Addr) -> Self {
        Self(address.into())
    }
}

/// Why there is no script for what a machine should boot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoScript {
    /// `elisandra.mode=live` without an image to boot.
    #[error("there is no live.squashfs with a checksum in manifest.json")]
    Image,
    #[error("its profile has no text for {0}, which is the boot loader of this machine")]
    Loader(&'static str),
    #[error("its profile names the file {0:?}; paths have letters, digits and . _ - + ~ / only")]
    Path(String),
}

/// A path below `/boot/files/` that can stand in a URL and in a script as it is: GRUB sends it without encoding,
/// iPXE decodes `%` and splits at spaces.
fn path(path: &str) -> Result<&str, NoScript> {
    let path = path.trim_start_matches('/');
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+~/".contains(&byte);
    if path.is_empty()
        || path.len() > 500
        || !path.bytes().all(letter)
        || path.split('/').any(|part| [".", ".."].contains(&part))
    {
        return Err(NoScript::Path(path.chars().take(80).collect()));
    }
    Ok(path)
}

/// What the screen says that is being started.
fn title(boot: &Boot) -> String {
    match boot {
        Boot::Discover | Boot::Live => "over the network".to_owned(),
        Boot::Disk => "from this machine's own disk".to_owned(),
        Boot::Rescue => "the rescue system".to_owned(),
        Boot::MemoryTest => "the memory test".to_owned(),
        Boot::System(system) => shown(&system.title),
    }
}

/// A text for people as the boot loaders' screens can show it.
fn shown(text: &str) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() || " .,:()/_+-=@".contains(letter) { letter } else { '?' }
    };
    text.chars().take(120).map(plain).collect()
}
