//! TFTP (RFC 1350 with the options of 2347 to 2349 and 7440): boot loaders for firmware, read only.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use async_tftp::{
    packet,
    server::{Handler, TftpServerBuilder},
};
use futures::io::{AsyncRead, Sink};
use tokio_util::sync::CancellationToken;

use crate::{
    Directory, Note, Step,
    folder::{self, NoFile},
    script::grub_start,
    step::{Protocol, Sent},
    transfer::{ONE_BLOCK, Transfer},
};

/// Boot loaders are a few MB. They are held in memory while they are sent, once however many ask.
const LARGEST: u64 = 64 << 20;

/// The files of one TFTP server.
pub struct Files {
    pub loaders: PathBuf,
    /// The appliance, for GRUB's configuration.
    pub address: Ipv4Addr,
    pub directory: Arc<dyn Directory>,
}

/// Answers on `socket` until `shutdown` is cancelled.
pub async fn serve(
    socket: UdpSocket,
    files: Files,
    shutdown: CancellationToken,
) -> Result<(), async_tftp::Error> {
    let server = TftpServerBuilder::with_handler(Loaders { files, loaded: BTreeMap::new() })
        .std_socket(socket)?
        // The library goes on sending to a client that answered with an error, as EDK2 does after
        // it has asked for the size: that has to end soon, whatever timeout the client wants.
        .timeout(Duration::from_secs(1))
        .ignore_client_timeout()
        .max_send_retries(5)
        // One Ethernet frame: fragments are what boot ROMs lose.
        .block_size_limit(ONE_BLOCK)
        // 64 blocks were as fast as more, and this bounds what a request can make us hold.
        .window_size_limit(64)
        .build()
        .await?;
    tokio::select! {
        result = server.serve() => result,
        () = shutdown.cancelled() => Ok(()),
    }
}

struct Loaders {
    files: Files,
    loaded: BTreeMap<PathBuf, Loaded>,
}

struct Loaded {
    modified: SystemTime,
    bytes: Weak<[u8]>,
}

impl Handler for Loaders {
    type Reader = Reading;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(Reading, Option<u64>), packet::Error> {
        let asked = path.to_string_lossy().into_owned();
        let bytes = match self.bytes(&asked) {
            Ok(bytes) => bytes,
            Err(error) => {
                // GRUB looks for half a dozen files that need not be there; that is no refusal.
                let sent = if matches!(error, NoFile::Missing) {
                    Sent::Missing
                } else {
                    Sent::Refused { reason: error.sentence() }
                };
                let step = Step::File { protocol: Protocol::Tftp, name: format!("{asked:?}"), sent };
                self.files.directory.note(Note { mac: None, address: Some(client.ip()), step });
                return Err(match error {
                    NoFile::Missing => packet::Error::FileNotFound,
                    NoFile::Outside => packet::Error::PermissionDenied,
                    NoFile::Io(_) => packet::Error::UnknownError,
                });
            }
        };
        let size = bytes.len() as u64;
        let transfer = Transfer {
            directory: Arc::clone(&self.files.directory),
            address: client.ip(),
            protocol: Protocol::Tftp,
            name: asked,
            bytes: size,
            sent: 0,
            since: Instant::now(),
        };
        Ok((Reading { bytes: Cursor::new(bytes), transfer }, Some(size)))
    }

    async fn write_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
        _size: Option<u64>,
    ) -> Result<Sink, packet::Error> {
        self.files.directory.note(Note {
            mac: None,
            address: Some(client.ip()),
            step: Step::Refused {
                what: format!("TFTP write of {:?}: this server is read only", path.to_string_lossy()),
            },
        });
        Err(packet::Error::PermissionDenied)
    }
}

impl Loaders {
    fn bytes(&mut self, asked: &str) -> Result<Arc<[u8]>, NoFile> {
        let name = folder::loader(asked);
        // GRUB's image has $prefix /grub built in, and looks for several names below it.
        if name.ends_with("/grub.cfg") {
            return Ok(grub_start(self.files.address).into_bytes().into());
        }
        let (file, metadata) = folder::open(&self.files.loaders, name)?;
        let modified = metadata.modified().map_err(NoFile::Io)?;
        if metadata.len() > LARGEST {
            return Err(NoFile::Io(io::Error::other(format!("{} bytes are no boot loader", metadata.len()))));
        }
        self.loaded.retain(|_, loaded| loaded.bytes.strong_count() > 0);
        if let Some(loaded) = self.loaded.get(Path::new(name))
            && loaded.modified == modified
            && let Some(bytes) = loaded.bytes.upgrade()
        {
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(NoFile::Io)?;
        let bytes: Arc<[u8]> = bytes.into();
        self.loaded.insert(PathBuf::from(name), Loaded { modified, bytes: Arc::downgrade(&bytes) });
        Ok(bytes)
    }
}

/// A file on its way; notes the end of the transfer when it is dropped.
struct Reading {
    bytes: Cursor<Arc<[u8]>>,
    transfer: Transfer,
}

impl AsyncRead for Reading {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.bytes.read(buf);
        self.transfer.count(read.as_ref().copied().unwrap_or(0));
        Poll::Ready(read)
    }
}
