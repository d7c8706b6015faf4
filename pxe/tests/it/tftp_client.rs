//! A TFTP client with windows (RFC 7440), for tests and for the benchmark.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

/// What was got: its bytes, and the window that the server agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Got {
    pub bytes: u64,
    pub window: u16,
}

/// Gets a file from `server` to `from`, an address of this machine; `take` is given the data of each block in turn.
pub fn get(
    server: SocketAddr,
    from: SocketAddr,
    name: &str,
    block: u16,
    window: u16,
    mut take: impl FnMut(&[u8]),
) -> io::Result<Got> {
    let socket = UdpSocket::bind(from)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    // Several windows fit in while we are busy.
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
    let mut request = format!("\0\x01{name}\0octet\0blksize\0{block}\0");
    // Not every server knows windows, and without them the option is no use.
    if window > 1 {
        request.push_str(&format!("windowsize\0{window}\0"));
    }
    let (mut length, mut agreed) = (0, None);
    let mut packet = vec![0; usize::from(block) + 4];
    // The server's port, the last block in sequence, and how many came since it was last acknowledged.
    let (mut peer, mut have, mut since) = (None::<SocketAddr>, 0_u64, 0);
    let mut tries = 0;
    loop {
        if peer.is_none() {
            socket.send_to(request.as_bytes(), server)?;
        }
        let received = match socket.recv_from(&mut packet) {
            Ok((size, sender)) if peer.is_none_or(|peer| peer == sender) => {
                // From here on the kernel looks at nothing else.
                if peer.is_none() {
                    socket.connect(sender)?;
                    peer = Some(sender);
                }
                tries = 0;
                &packet[..size]
            }
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < 10 => {
                tries += 1;
                if peer.is_some() {
                    socket.send(&acknowledgment(have))?;
                }
                since = 0;
                continue;
            }
            Err(error) => return Err(error),
        };
        match received {
            [0, 6, options @ ..] => {
                agreed = Some(option(options, "windowsize").unwrap_or(1));
                assert!(option(options, "blksize").is_none_or(|size| size <= block));
                packet.resize(usize::from(option(options, "blksize").unwrap_or(512)) + 4, 0);
                socket.send(&acknowledgment(0))?;
            }
            [0, 3, high, low, data @ ..] => {
                let number = u16::from_be_bytes([*high, *low]);
                if number != (have + 1) as u16 {
                    // Something is missing, or this came before. Said once for a window.
                    if since != u16::MAX && number.wrapping_sub(have as u16) < 0x8000 {
                        since = u16::MAX;
                        socket.send(&acknowledgment(have))?;
                    }
                    continue;
                }
                have += 1;
                since = if since == u16::MAX { 1 } else { since + 1 };
                take(data);
                length += data.len() as u64;
                let end = data.len() + 4 < packet.len();
                if since >= agreed.unwrap_or(1) || end {
                    since = 0;
                    socket.send(&acknowledgment(have))?;
                }
                if end {
                    return Ok(Got { bytes: length, window: agreed.unwrap_or(1) });
                }
            }
            [0, 5, _, _, words @ ..] => return Err(io::Error::other(String::from_utf8_lossy(words))),
            other => return Err(io::Error::other(format!("{other:?}"))),
        }
    }
}

/// Whether a server answers there: it says that there is no such file.
#[allow(dead_code, reason = "the benchmark starts servers that say nothing when they are ready")]
pub fn probe(server: SocketAddr, from: SocketAddr) -> bool {
    let Ok(socket) = UdpSocket::bind(from) else { return false };
    let timeout = socket.set_read_timeout(Some(Duration::from_millis(100)));
    let asked = timeout.and_then(|()| socket.send_to(b"\0\x01no such file\0octet\0", server));
    asked.and_then(|_| socket.recv_from(&mut [0; 600])).is_ok()
}

fn acknowledgment(block: u64) -> [u8; 4] {
    let [high, low] = (block as u16).to_be_bytes();
    [0, 4, high, low]
}

fn option(options: &[u8], name: &str) -> Option<u16> {
    let mut words = options.split(|byte| *byte == 0);
    words.find(|word| *word == name.as_bytes())?;
    std::str::from_utf8(words.next()?).ok()?.parse().ok()
}
