//! What each kind of client is told to boot: the one place for it.
//!
//! ```text
//! client                          file                                 besides
//! BIOS (architecture 0)           undionly.kpxe                        60 PXEClient, 43.6 = 8
//! UEFI x64 (7, 9)                 shimx64.efi                          60 PXEClient, 43.6 = 8
//! UEFI arm64 (11)                 shimaa64.efi                         60 PXEClient, 43.6 = 8
//! UEFI x64 over HTTP (16)         http://A/boot/files/shimx64.efi      60 HTTPClient
//! UEFI arm64 over HTTP (19)       http://A/boot/files/shimaa64.efi     60 HTTPClient
//! the same where it is so set     https://A:PORT/boot/files/…          60 HTTPClient
//! iPXE                            http://A/boot/MAC/script.ipxe        175.176 = 1
//! other firmware                  none                                 60, and a line that says so
//! a system                        none
//! ```

use std::fmt;

use super::ServerFacts;
use crate::{MacAddr, step::Client};

/// Discovery control, bit 3: load the file named in this packet, no boot server discovery, no menu (PXE 2.1).
pub(super) const TAKE_THIS_FILE: &[u8] = &[6, 1, 8, 255];

/// no-pxedhcp: iPXE does not wait for a ProxyDHCP offer.
pub(super) const NO_PROXY: &[u8] = &[176, 1, 1];

/// Option 60 of the answer. Without it firmware takes the answer for one to a system, and EDK2 the file for no URL.
pub(super) fn class(client: &Client) -> Option<&'static str> {
    match client {
        Client::Firmware { .. } => Some("PXEClient"),
        Client::HttpFirmware { .. } => Some("HTTPClient"),
        Client::Ipxe | Client::System(_) => None,
    }
}

/// The file to load; `None` for a system that only wants an address, and for firmware that no boot loader is known for.
pub(super) fn file(client: &Client, mac: MacAddr, facts: &ServerFacts) -> Option<String> {
    let appliance = facts.address;
    match client {
        Client::Firmware { arch } => loader(*arch).map(str::to_owned),
        Client::HttpFirmware { arch } => loader_url(*arch, appliance, facts.https),
        Client::Ipxe => Some(format!("http://{appliance}/boot/{}/script.ipxe", mac.dashed())),
        Client::System(_) => None,
    }
}

/// Where firmware that boots over HTTP finds its boot loader: by HTTPS if `https` is a port, on the host `host`.
///
/// Nothing in its packets says whether it could do HTTPS, would refuse HTTP, or trusts this site.
pub(crate) fn loader_url(arch: u16, host: impl fmt::Display, https: Option<u16>) -> Option<String> {
    // The architectures of firmware that boots over HTTP have numbers of their own.
    let loader = match arch {
        16 => loader(7)?,
        19 => loader(11)?,
        _ => return None,
    };
    Some(match https {
        None => format!("http://{host}/boot/files/{loader}"),
        Some(443) => format!("https://{host}/boot/files/{loader}"),
        Some(port) => format!("https://{host}:{port}/boot/files/{loader}"),
    })
}

/// The boot loader of an architecture (option 93, RFC 4578 and the registry that it began).
pub(crate) fn loader(arch: u16) -> Option<&'static str> {
    match arch {
        0 => Some("undionly.kpxe"),
        // 7 is EFI byte code by the registry and x64 in all firmware; 9 is the other way about.
        7 | 9 => Some("shimx64.efi"),
        11 => Some("shimaa64.efi"),
        _ => None,
    }
}
