//! TFTP (RFC 1350 with the options of 2347 to 2349 and 7440): boot loaders for firmware, read only.
//!
//! [`parse`] reads packets, [`transfer`] decides for one transfer and [`engine`] for all of them what is sent when; all
//! three know neither sockets nor files nor a clock. `shelf` has the files, and [`serve`] is the thread with the
//! sockets around it.

use std::{io, net::UdpSocket, os::unix::net::UnixStream, path::PathBuf, sync::Arc, thread};

use tokio_util::sync::CancellationToken;

pub use crate::folder::NoFile;
use crate::{Directory, script::Host};

pub mod engine;
pub mod parse;
mod shelf;
mod sockets;
pub mod transfer;

/// The files of one TFTP server.
pub struct Files {
    pub loaders: PathBuf,
    /// The appliance as machines reach this server, for GRUB's configuration.
    pub address: Host,
    pub directory: Arc<dyn Directory>,
}

/// Answers on `socket` until `shutdown` is cancelled. Transfers go out from a few sockets more, on the same address.
///
/// One thread of its own does it all: a transfer is no task, so that ten thousand of them cost neither stacks nor wakers,
/// and a storm of them takes one processor and not the threads that others need.
pub async fn serve(socket: UdpSocket, files: Files, shutdown: CancellationToken) -> io::Result<()> {
    // Dropped at the end, also when nobody waits for this future any more; the thread sees it.
    let (alive, watched) = UnixStream::pair()?;
    let (tell, mut ended) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let server = sockets::Server::new(socket, files, watched)?;
    thread::Builder::new().name("tftp".to_owned()).spawn(move || {
        // A directory may start tasks when it is told something.
        let _runtime = runtime.enter();
        // Nobody listens any more when the future was dropped.
        _ = tell.send(server.run());
    })?;
    let result = tokio::select! {
        result = &mut ended => result,
        () = shutdown.cancelled() => {
            drop(alive);
            ended.await
        }
    };
    result.unwrap_or_else(|_| Err(io::Error::other("the thread of the TFTP server panicked")))
}
