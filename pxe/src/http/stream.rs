//! A connection's bytes, plain or in TLS.

use std::{fs::File, io, num::NonZeroUsize, os::unix::fs::FileExt, time::Duration};

use nix::libc::MSG_MORE;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// What TLS reads of a file at a time.
const CHUNK: usize = 64 << 10;

pub struct Stream {
    way: Way,
    /// Part of a body is out and the rest is not.
    unfinished: bool,
}

enum Way {
    Plain(TcpStream),
    Secure {
        tls: Box<TlsStream<TcpStream>>,
        /// Read from the file and not yet taken.
        chunk: Vec<u8>,
        taken: usize,
    },
}

impl Stream {
    pub fn plain(tcp: TcpStream) -> Self {
        Self { way: Way::Plain(tcp), unfinished: false }
    }

    pub fn secure(tls: TlsStream<TcpStream>) -> Self {
        Self { way: Way::Secure { tls: Box::new(tls), chunk: Vec::new(), taken: 0 }, unfinished: false }
    }

    /// Reads what is there behind what `buffer` has; 0 bytes are the end.
    pub async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.way {
            Way::Plain(tcp) => tcp.read_buf(buffer).await,
            Way::Secure { tls, .. } => tls.read_buf(buffer).await,
        }
    }

    /// Writes all of it. With `more` to come, the last of it may wait to leave in one packet with that.
    pub async fn write(&mut self, mut bytes: &[u8], more: bool) -> io::Result<()> {
        match &mut self.way {
            Way::Plain(tcp) => {
                let flags = if more { MSG_MORE } else { 0 };
                while !bytes.is_empty() {
                    let send = || SockRef::from(&*tcp).send_with_flags(bytes, flags);
                    let sent = tcp.async_io(Interest::WRITABLE, send).await?;
                    bytes = &bytes[sent..];
                }
                Ok(())
            }
            Way::Secure { tls, .. } => {
                tls.write_all(bytes).await?;
                if more { Ok(()) } else { tls.flush().await }
            }
        }
    }

    /// From here to [`Self::finish`] a connection that ends is reset: a body that ends early must not look whole, not
    /// even to a client that does not count.
    pub fn begin(&mut self) {
        self.unfinished = true;
        self.cork(true);
    }

    pub async fn finish(&mut self) -> io::Result<()> {
        if let Way::Secure { tls, .. } = &mut self.way {
            tls.flush().await?;
        }
        self.unfinished = false;
        self.cork(false);
        Ok(())
    }

    /// While it is corked, TCP sends full segments only (tcp(7)): fewer, and fewer times that the client is woken.
    fn cork(&self, corked: bool) {
        if let Way::Plain(tcp) = &self.way
            && let Err(error) = SockRef::from(tcp).set_tcp_cork(corked)
        {
            tracing::debug!("Corking an HTTP connection: {error}");
        }
    }

    /// Sends at most `most` bytes of `file` from `offset` on, as many as there is room for, and waits for room if there
    /// is none. 0 bytes: the file ends there. May be dropped and called again with the same `offset`.
    pub async fn send(&mut self, file: &File, offset: u64, most: NonZeroUsize) -> io::Result<usize> {
        match &mut self.way {
            Way::Plain(tcp) => {
                let offset = usize::try_from(offset).map_err(io::Error::other)?;
                tcp.async_io(Interest::WRITABLE, || SockRef::from(&*tcp).sendfile(file, offset, Some(most)))
                    .await
            }
            Way::Secure { tls, chunk, taken } => {
                if *taken == chunk.len() {
                    chunk.resize(CHUNK.min(most.get()), 0);
                    // It is in the page cache: `send::warm` saw to it.
                    let read = file.read_at(chunk, offset)?;
                    chunk.truncate(read);
                    *taken = 0;
                    if read == 0 {
                        return Ok(0);
                    }
                }
                let written = tls.write(&chunk[*taken..]).await?;
                *taken += written;
                Ok(written)
            }
        }
    }

    /// Ends the connection so that what was sent arrives: a close while there is `more` to read would reset it.
    pub async fn close(mut self, more: bool) {
        const PATIENCE: Duration = Duration::from_secs(2);
        const ENOUGH: usize = 256 << 10;
        let ended = match &mut self.way {
            // The close that follows does the same.
            Way::Plain(_) if !more => return,
            Way::Plain(tcp) => tcp.shutdown().await,
            Way::Secure { tls, .. } => tls.shutdown().await,
        };
        if ended.is_err() || !more {
            return;
        }
        let rest = async {
            let (mut all, mut buffer) = (0, Vec::with_capacity(4096));
            while all < ENOUGH {
                buffer.clear();
                match self.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => all += read,
                }
            }
        };
        // However it ends, it has ended.
        let _ = tokio::time::timeout(PATIENCE, rest).await;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.unfinished {
            return;
        }
        let tcp = match &self.way {
            Way::Plain(tcp) => tcp,
            Way::Secure { tls, .. } => tls.get_ref().0,
        };
        if let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO)) {
            tracing::debug!("Resetting an HTTP connection: {error}");
        }
    }
}
