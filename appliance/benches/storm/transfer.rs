//! What boot loaders fetch: TFTP in lock step or windows, and HTTP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::servers::SERVER;

/// Between two packets of TFTP, before the last one is sent again.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 20;

/// How firmware asks over TFTP.
#[derive(Debug, Clone, Copy)]
pub struct Tftp {
    pub block: usize,
    pub window: u16,
}

/// The kernel gives an address to this namespace a moment after it was asked to.
async fn bound<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..2000 {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bound => return bound,
        }
    }
    bind()
}

/// Asks for the size, breaks off, and fetches the file, as PXE firmware does. Returns its length.
pub async fn tftp(own: Ipv4Addr, file: &str, how: Tftp) -> anyhow::Result<usize> {
    let socket = bound(|| {
        let socket = std::net::UdpSocket::bind((own, 0))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
    .await?;
    let socket = UdpSocket::from_std(socket)?;
    let block = how.block.to_string();
    let (_, from) = ask(&socket, &request(file, &[("tsize", "0"), ("blksize", &block)])).await?;
    socket.send_to(b"\0\x05\0\x08User aborted\0", from).await?;

    // Another port, so that nothing of the first transfer is taken for the second.
    let port = std::net::UdpSocket::bind((own, 0))?;
    port.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(port)?;
    let window = how.window.to_string();
    let mut options = vec![("blksize", block.as_str())];
    if how.window > 1 {
        options.push(("windowsize", &window));
    }
    let (_, from) = ask(&socket, &request(file, &options)).await?;
    socket.connect(from).await?;
    let (mut last, mut length, mut heard, mut tries) = (0_u16, 0, 0, 0);
    let mut buffer = [0; 2048];
    acknowledge(&socket, last).await?;
    loop {
        let Ok(received) = timeout(PATIENCE, socket.recv(&mut buffer)).await else {
            tries += 1;
            anyhow::ensure!(tries < TRIES, "{file} stopped at block {last}");
            heard = 0;
            acknowledge(&socket, last).await?;
            continue;
        };
        let packet = &buffer[..received?];
        let [0, 3, high, low, data @ ..] = packet else {
            anyhow::ensure!(!packet.starts_with(&[0, 5]), "{file}: {}", String::from_utf8_lossy(packet));
            continue;
        };
        if u16::from_be_bytes([*high, *low]) != last.wrapping_add(1) {
            continue;
        }
        (last, length, heard, tries) = (last.wrapping_add(1), length + data.len(), heard + 1, 0);
        let over = data.len() < how.block;
        if over || heard == how.window {
            heard = 0;
            acknowledge(&socket, last).await?;
        }
        if over {
            return Ok(length);
        }
    }
}

async fn acknowledge(socket: &UdpSocket, block: u16) -> io::Result<()> {
    let [high, low] = block.to_be_bytes();
    socket.send(&[0, 4, high, low]).await?;
    Ok(())
}

fn request(file: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = vec![0, 1];
    for word in [file, "octet"].into_iter().chain(options.iter().flat_map(|(name, value)| [*name, *value])) {
        packet.extend(word.bytes());
        packet.push(0);
    }
    packet
}

/// The OACK of a request, and the port that it came from.
async fn ask(socket: &UdpSocket, request: &[u8]) -> anyhow::Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2048];
    for _ in 0..TRIES {
        socket.send_to(request, (SERVER, 69)).await?;
        if let Ok(received) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await {
            let (length, from) = received?;
            anyhow::ensure!(buffer[..2] == [0, 6], "no OACK: {}", String::from_utf8_lossy(&buffer[..length]));
            return Ok((buffer[..length].to_vec(), from));
        }
    }
    anyhow::bail!("TFTP does not answer")
}

/// A connection from one of the addresses here.
pub async fn connect(own: Ipv4Addr, port: u16) -> anyhow::Result<TcpStream> {
    let socket = bound(|| {
        let socket = TcpSocket::new_v4()?;
        socket.bind((own, 0).into())?;
        Ok(socket)
    })
    .await?;
    let stream = socket.connect((SERVER, port).into()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The first `limit` bytes of a file; the connection is broken off then.
pub async fn get(own: Ipv4Addr, path: &str, limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut stream = connect(own, 80).await?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {SERVER}\r\nUser-Agent: iPXE/1.21.1\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let (head, body) = answer(&mut stream, limit).await?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "GET {path}: {head}");
    Ok(body)
}

pub async fn answer(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    limit: usize,
) -> anyhow::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut wanted = None;
    loop {
        let read = stream.read(&mut buffer).await?;
        bytes.extend_from_slice(&buffer[..read]);
        let end = bytes.windows(4).take(8192).position(|four| four == b"\r\n\r\n");
        if let (None, Some(end)) = (wanted, end) {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let length: usize = length.ok_or_else(|| anyhow::anyhow!("no Content-Length: {head}"))?;
            wanted = Some((end + 4, end + 4 + length.min(limit)));
        }
        if let Some((start, end)) = wanted.filter(|(_, end)| bytes.len() >= *end) {
            let head = String::from_utf8_lossy(&bytes[..start]).into_owned();
            return Ok((head, bytes[start..end].to_vec()));
        }
        anyhow::ensure!(read > 0, "the connection ended early");
    }
}
