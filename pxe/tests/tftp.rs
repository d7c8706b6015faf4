//! TFTP over loopback: Debian's own client for what is good, raw packets for what is not.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::fs::symlink,
    process::Command,
    sync::Arc,
    time::Duration,
};

use pxe::{Boot, NoteKind, tftp};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

mod directory;
use directory::Book;

struct Served {
    address: SocketAddr,
    book: Arc<Book>,
    loaders: TempDir,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

/// A server with a folder that has a loader, a GRUB and ways that lead out.
async fn serve() -> Served {
    let loaders = tempfile::tempdir().unwrap();
    let path = loaders.path();
    fs::write(path.join("shimx64.efi"), loader()).unwrap();
    fs::write(path.join("grubnetx64.efi"), "network GRUB").unwrap();
    fs::write(path.join("grubx64.efi"), "disk GRUB").unwrap();
    symlink("/etc/passwd", path.join("leads-out")).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let book = Book::new(Boot::Discover);
    let files =
        tftp::Files { loaders: path.to_owned(), address: [10, 77, 0, 1].into(), directory: book.clone() };
    let stop = CancellationToken::new();
    let server = tokio::spawn({
        let stop = stop.clone();
        async move { tftp::serve(socket, files, stop).await.unwrap() }
    });
    Served { address, book, loaders, stop, server }
}

/// Not a whole number of blocks, with all bytes in it.
fn loader() -> Vec<u8> {
    (0..1_000_003_u32).map(|n| (n * 7 + n / 251) as u8).collect()
}

impl Served {
    /// What `tftp-hpa` gets; `Err` with its words.
    async fn get(&self, name: &str) -> Result<Vec<u8>, String> {
        let target = self.loaders.path().join("got");
        let mut client = Command::new("tftp");
        client
            .args(["-m", "binary", "127.0.0.1", &self.address.port().to_string(), "-c", "get", name])
            .arg(&target);
        let output = tokio::task::spawn_blocking(move || {
            client.output().expect("these tests need tftp (Debian: apt-get install tftp-hpa)")
        });
        let said = String::from_utf8_lossy(&output.await.unwrap().stdout).into_owned();
        if said.contains("Error") { Err(said.trim().to_owned()) } else { Ok(fs::read(target).unwrap()) }
    }

    /// Sends raw bytes and returns the first packet of the answer.
    async fn send(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(packet, self.address).await.unwrap();
        let mut answer = vec![0; 65536];
        let (length, from) = tokio::time::timeout(Duration::from_millis(500), socket.recv_from(&mut answer))
            .await
            .ok()?
            .unwrap();
        // Breaks off what may have begun.
        socket.send_to(b"\0\x05\0\0enough\0", from).await.unwrap();
        answer.truncate(length);
        Some(answer)
    }

    async fn end(self) {
        self.stop.cancel();
        self.server.await.unwrap();
    }
}

fn read_request(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = vec![0, 1];
    for word in [name, "octet"].into_iter().chain(options.iter().flat_map(|(name, value)| [*name, *value])) {
        packet.extend(word.as_bytes());
        packet.push(0);
    }
    packet
}

#[tokio::test]
async fn a_loader_arrives_whole_and_is_noted() {
    let served = serve().await;
    assert_eq!(served.get("shimx64.efi").await.unwrap(), loader());
    assert_eq!(served.get("/shimx64.efi").await.unwrap(), loader());
    let note = served.book.noted(NoteKind::Tftp, "TFTP shimx64.efi: 1000003 bytes in").await;
    assert_eq!(note.address, Some(Ipv4Addr::LOCALHOST.into()));
    served.end().await;
}

#[tokio::test]
async fn shim_gets_the_network_grub_and_grub_its_start() {
    let served = serve().await;
    assert_eq!(served.get("grubx64.efi").await.unwrap(), b"network GRUB");
    // As Debian's signed grubnetx64 looks for it.
    for name in ["/grub/x86_64-efi/grub.cfg", "/grub/grub.cfg"] {
        let config = String::from_utf8(served.get(name).await.unwrap()).unwrap();
        assert!(
            config.starts_with("configfile (http,10.77.0.1)/boot/$net_default_mac/grub.cfg\n"),
            "{config}"
        );
    }
    served.end().await;
}

#[tokio::test]
async fn nothing_outside_of_the_folder_is_given() {
    let served = serve().await;
    for name in ["../../etc/passwd", "/../etc/passwd", "x/../../etc/passwd", "leads-out"] {
        let said = served.get(name).await.unwrap_err();
        assert!(said.contains("Error code 2"), "{name}: {said}");
        served.book.noted(NoteKind::Refused, &format!("{name:?}")).await;
    }
    for name in ["/etc/passwd", "revocations.efi", ""] {
        let said = String::from_utf8(served.send(&read_request(name, &[])).await.unwrap()).unwrap();
        assert!(said.starts_with("\0\x05\0\x01"), "{name}: {said:?}");
    }
    // And the server goes on.
    assert_eq!(served.get("shimx64.efi").await.unwrap(), loader());
    served.end().await;
}

#[tokio::test]
async fn absurd_options_get_a_sane_answer() {
    let served = serve().await;
    let answer =
        async |options: &[(&str, &str)]| served.send(&read_request("shimx64.efi", options)).await.unwrap();
    // Taken, bounded, or not taken over (then data follows in blocks of 512).
    assert_eq!(answer(&[("blksize", "1024")]).await, b"\0\x06blksize\x001024\0");
    assert_eq!(answer(&[("blksize", "65464")]).await, b"\0\x06blksize\x001468\0");
    for absurd in ["0", "7", "65465", "99999999999999999999", "-1", "many", ""] {
        let data = answer(&[("blksize", absurd)]).await;
        assert_eq!((data.len(), &data[..4]), (516, &[0, 3, 0, 1][..]), "blksize {absurd}");
    }
    assert_eq!(answer(&[("windowsize", "65535")]).await, b"\0\x06windowsize\x0064\0");
    assert_eq!(answer(&[("windowsize", "0")]).await[..4], [0, 3, 0, 1]);
    assert_eq!(answer(&[("tsize", "0")]).await, b"\0\x06tsize\x001000003\0");
    assert_eq!(answer(&[("timeout", "255")]).await[..4], [0, 3, 0, 1]);
    served.end().await;
}

#[tokio::test]
async fn bad_packets_do_not_stop_it() {
    let served = serve().await;
    let long = read_request(&"a".repeat(3000), &[]);
    let longer_than_its_buffer = read_request(&"a".repeat(8000), &[]);
    for packet in [
        &b""[..],
        b"\0",
        b"\0\x01",
        b"\0\x01shimx64.efi",
        b"\0\x01shimx64.efi\0",
        b"\0\x01shimx64.efi\0gibberish\0",
        b"\0\x01shimx64.efi\0octet\0blksize\0",
        b"\0\x01\xff\xfe\0octet\0",
        b"\0\x03\0\x01data",
        b"\0\x04\0\x01",
        b"\0\x05\0\x01error\0",
        b"\0\x63?",
        &longer_than_its_buffer,
    ] {
        assert_eq!(served.send(packet).await, None, "{packet:?}");
    }
    assert_eq!(served.send(&long).await.unwrap()[..4], [0, 5, 0, 1]);
    // Writing is refused.
    assert_eq!(served.send(b"\0\x02shimx64.efi\0octet\0").await.unwrap()[..4], [0, 5, 0, 2]);
    served.book.noted(NoteKind::Refused, "read only").await;
    assert_eq!(served.get("shimx64.efi").await.unwrap(), loader());
    served.end().await;
}

#[tokio::test]
async fn many_at_once_each_get_all_of_it() {
    let served = Arc::new(serve().await);
    let port = served.address.port().to_string();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..20 {
        let target = served.loaders.path().join(format!("got-{number}"));
        let port = port.clone();
        clients.spawn_blocking(move || {
            let mut client = Command::new("tftp");
            client.args(["-m", "binary", "127.0.0.1", &port, "-c", "get", "shimx64.efi"]).arg(&target);
            client.output().unwrap();
            fs::read(target).unwrap() == loader()
        });
    }
    assert!(clients.join_all().await.into_iter().all(|whole| whole));
}
