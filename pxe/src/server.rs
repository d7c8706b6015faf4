//! The four servers on one interface, started and ended together.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use ipnet::Ipv4Net;
use tokio_util::sync::CancellationToken;

use crate::Directory;

/// What the boot servers of one interface need to know.
#[derive(Debug, Clone)]
pub struct Server {
    /// The interface that is served, as `lan0`.
    pub interface: String,
    /// The appliance's own address on it.
    pub address: Ipv4Addr,
    pub network: Ipv4Net,
    /// The default route given to machines; none where the appliance does not route.
    pub router: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub domain: String,
    /// The folder with vmlinuz, initrd, live.squashfs, guest.img and manifest.json.
    pub files: PathBuf,
    /// The folder with undionly.kpxe, shimx64.efi and grubnetx64.efi.
    pub loaders: PathBuf,
    /// The certificate of the appliance's CA, served at /boot/ca.pem.
    pub ca_pem: String,
    /// SHA-256 of the CA certificate's DER in lower-case hexadecimal; goes onto kernel command lines.
    pub ca_sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {}

impl Server {
    /// Answers until `shutdown` is cancelled, or until one of the servers cannot go on.
    pub async fn run(
        self,
        _directory: Arc<dyn Directory>,
        shutdown: CancellationToken,
    ) -> Result<(), ServerError> {
        shutdown.cancelled().await;
        Ok(())
    }
}
