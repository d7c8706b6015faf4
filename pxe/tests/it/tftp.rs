//! TFTP over loopback: the clients of Debian for what is good, raw packets for what is not.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::fs::symlink,
    process::Command,
    sync::Arc,
    time::Duration,
};

use crate::tftp_client;
use pxe::{Boot, NoteKind, tftp};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::directory::Book;

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

    /// What another client gets: its command, with `$PORT` in it for the server's and `$FILE` for where it puts it. A
    /// word may have a no-break space in it for a space, as atftp takes an option and its value as one.
    async fn get_by(&self, command: &str) -> Vec<u8> {
        let target = self.loaders.path().join("got");
        _ = fs::remove_file(&target);
        let command = command
            .replace("$PORT", &self.address.port().to_string())
            .replace("$FILE", target.to_str().unwrap());
        let mut words = command.split(' ').map(|word| word.replace('\u{a0}', " "));
        let mut client = Command::new(words.next().unwrap());
        client.args(words);
        let output = tokio::task::spawn_blocking(move || client.output());
        let output = output.await.unwrap().unwrap_or_else(|error| {
            panic!("these tests need atftp, curl and busybox (tests/needs has them): {command}: {error}")
        });
        fs::read(target).unwrap_or_else(|error| panic!("{command}: {error}: {output:?}"))
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
    // Nothing begins with these, so nothing answers them.
    for packet in [
        &b""[..],
        b"\0",
        b"\0\x03\0\x01data",
        b"\0\x04\0\x01",
        b"\0\x05\0\x01error\0",
        b"\0\x63?",
        &[0; 65_000],
    ] {
        assert_eq!(served.send(packet).await, None, "{packet:?}");
    }
    let error = async |packet: &[u8]| {
        let answer = served.send(packet).await.unwrap_or_else(|| panic!("no answer to {packet:?}"));
        assert_eq!(answer[..3], [0, 5, 0], "{packet:?}");
        answer[3]
    };
    for cut in [&b"\0\x01"[..], b"\0\x01shimx64.efi", b"\0\x01shimx64.efi\0", b"\0\x01shimx64.efi\0octet"] {
        assert_eq!(error(cut).await, 4, "{cut:?}");
    }
    for (length, code) in [(1000, 1), (1100, 4), (1_400, 4), (3000, 4), (64_000, 4)] {
        assert_eq!(error(&read_request(&"a".repeat(length), &[])).await, code, "{length}");
    }
    for (name, code) in [
        ("\u{fffd}", 1),
        ("shimx64.efi/", 1),
        ("..", 2),
        ("..\\..\\etc\\passwd", 2),
        ("C:\\boot.ini", 1),
        ("/proc/self/environ", 1),
        ("grub/../../../etc/passwd", 2),
        ("~/x", 1),
        ("%2e%2e/etc/passwd", 1),
    ] {
        assert_eq!(error(&read_request(name, &[])).await, code, "{name}");
    }
    assert_eq!(error(b"\0\x01\xff\xfe\0octet\0").await, 1);
    // Files go as they are, which the client is told.
    assert_eq!(error(b"\0\x01shimx64.efi\0netascii\0").await, 0);
    served.book.noted(NoteKind::Refused, "octet").await;
    assert_eq!(error(b"\0\x01shimx64.efi\0gibberish\0").await, 0);
    // An option without a value is none.
    assert_eq!(served.send(b"\0\x01shimx64.efi\0octet\0blksize\0").await.unwrap()[..4], [0, 3, 0, 1]);
    // Of an option that is there twice the first counts.
    let twice = read_request("shimx64.efi", &[("blksize", "600"), ("blksize", "900")]);
    assert_eq!(served.send(&twice).await.unwrap(), b"\0\x06blksize\x00600\0");
    // Writing is refused.
    assert_eq!(error(b"\0\x02shimx64.efi\0octet\0").await, 2);
    served.book.noted(NoteKind::Refused, "read only").await;
    assert_eq!(served.get("shimx64.efi").await.unwrap(), loader());
    served.end().await;
}

#[tokio::test]
async fn every_client_gets_it_whole() {
    let served = serve().await;
    for command in [
        "atftp --option blksize\u{a0}1468 -g -r shimx64.efi -l $FILE 127.0.0.1 $PORT",
        "atftp --option windowsize\u{a0}16 --option blksize\u{a0}1468 -g -r shimx64.efi -l $FILE 127.0.0.1 $PORT",
        "atftp --option windowsize\u{a0}64 --option tsize\u{a0}0 --option timeout\u{a0}3 -g -r shimx64.efi -l $FILE 127.0.0.1 $PORT",
        "curl -s -S -o $FILE tftp://127.0.0.1:$PORT/shimx64.efi",
        "curl -s -S --tftp-blksize 1428 -o $FILE tftp://127.0.0.1:$PORT/shimx64.efi",
        "curl -s -S --tftp-no-options -o $FILE tftp://127.0.0.1:$PORT/shimx64.efi",
        "busybox tftp -g -r shimx64.efi -l $FILE 127.0.0.1 $PORT",
        "busybox tftp -b 65464 -g -r shimx64.efi -l $FILE 127.0.0.1 $PORT",
    ] {
        let got = served.get_by(command).await;
        assert!(got == loader(), "{command}: {} bytes", got.len());
    }
    served.end().await;
}

#[tokio::test]
async fn a_file_of_more_blocks_than_numbers_arrives() {
    let served = serve().await;
    let bytes: Vec<u8> = (0..34_000_001_u32).map(|n| (n / 509) as u8).collect();
    fs::write(served.loaders.path().join("large"), &bytes).unwrap();
    // 66,407 blocks, one by one and in windows.
    assert!(served.get_by("curl -s -S -o $FILE tftp://127.0.0.1:$PORT/large").await == bytes);
    let address = served.address;
    let got = tokio::task::spawn_blocking(move || {
        let mut got: Vec<u8> = Vec::new();
        tftp_client::get(address, local(1), "large", 512, 33, |data| got.extend(data)).unwrap();
        got
    });
    assert!(got.await.unwrap() == bytes);
    served.end().await;
}

#[tokio::test]
async fn an_error_of_the_client_ends_it_at_once() {
    let served = serve().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = [0; 2000];
    // As EDK2 asks for the size.
    let request = read_request("shimx64.efi", &[("tsize", "0"), ("blksize", "1468")]);
    socket.send_to(&request, served.address).await.unwrap();
    let (length, from) = socket.recv_from(&mut answer).await.unwrap();
    assert_eq!(answer[..length], *b"\0\x06blksize\x001468\0tsize\x001000003\0");
    socket.send_to(b"\0\x05\0\x08User aborted the transfer\0", from).await.unwrap();
    let note = served.book.noted(NoteKind::Tftp, "asks for the size").await;
    assert!(note.step.to_string().starts_with("TFTP shimx64.efi: broken off at its first block"));
    // It would have been repeated after a second.
    let more = tokio::time::timeout(Duration::from_millis(1500), socket.recv_from(&mut answer)).await;
    assert!(more.is_err(), "{more:?}");
    // From the same port it begins anew.
    socket.send_to(&request, served.address).await.unwrap();
    let (_, from) = socket.recv_from(&mut answer).await.unwrap();
    socket.send_to(&[0, 4, 0, 0], from).await.unwrap();
    assert_eq!(socket.recv_from(&mut answer).await.unwrap().0, 1472);
    // Words of a client are quoted.
    socket.send_to(&[0, 4, 0, 1], from).await.unwrap();
    socket.send_to(b"\0\x05\0\x03disk\nfull\0", from).await.unwrap();
    served.book.noted(NoteKind::Tftp, "after 1468 of 1000003 bytes, 0.0 s: \"disk\\nfull\"").await;
    served.end().await;
}

#[tokio::test]
async fn what_is_lost_is_sent_again() {
    let served = serve().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = [0; 2000];
    let request = read_request("grubnetx64.efi", &[("windowsize", "4"), ("blksize", "8"), ("timeout", "1")]);
    socket.send_to(&request, served.address).await.unwrap();
    let (_, from) = socket.recv_from(&mut answer).await.unwrap();
    // The acknowledgment is lost: the same comes again.
    let (length, again) = socket.recv_from(&mut answer).await.unwrap();
    assert_eq!((&answer[..2], again), (&[0, 6][..], from));
    assert!(length > 10);
    socket.send_to(&[0, 4, 0, 0], from).await.unwrap();
    // "network GRUB" is two blocks; the second one is lost.
    let mut blocks = Vec::new();
    for _ in 0..2 {
        let (length, _) = socket.recv_from(&mut answer).await.unwrap();
        blocks.push(answer[..length].to_vec());
    }
    assert_eq!(blocks, [&b"\0\x03\0\x01network "[..], b"\0\x03\0\x02GRUB"]);
    socket.send_to(&[0, 4, 0, 1], from).await.unwrap();
    let (length, _) = socket.recv_from(&mut answer).await.unwrap();
    assert_eq!(answer[..length], *b"\0\x03\0\x02GRUB");
    socket.send_to(&[0, 4, 0, 2], from).await.unwrap();
    served.book.noted(NoteKind::Tftp, "TFTP grubnetx64.efi: 12 bytes in").await;
    served.end().await;
}

#[tokio::test]
async fn a_file_that_is_replaced_meanwhile_stays_what_it_was() {
    let served = serve().await;
    let (address, path) = (served.address, served.loaders.path().to_owned());
    let got = tokio::task::spawn_blocking(move || {
        let mut got: Vec<u8> = Vec::new();
        tftp_client::get(address, local(1), "shimx64.efi", 1468, 4, |data| {
            if got.is_empty() {
                fs::write(path.join("new"), vec![9; 1_000_003]).unwrap();
                fs::rename(path.join("new"), path.join("shimx64.efi")).unwrap();
            }
            got.extend(data);
        })
        .unwrap();
        got
    });
    assert!(got.await.unwrap() == loader());
    assert!(served.get("shimx64.efi").await.unwrap() == vec![9; 1_000_003]);
    served.end().await;
}

/// An address of its own for each machine; all of 127.0.0.0/8 is this one.
fn local(machine: u16) -> SocketAddr {
    let [high, low] = machine.to_be_bytes();
    ([127, 1, high, low], 0).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_machines_at_once_are_served_and_one_takes_not_all() {
    let served = serve().await;
    let mut answer = [0; 2000];
    let request = read_request("shimx64.efi", &[("blksize", "1468")]);
    // They begin and then wait, as slow ones do.
    let mut waiting = Vec::new();
    for machine in 0..1000 {
        let socket = tokio::net::UdpSocket::bind(local(machine)).await.unwrap();
        socket.send_to(&request, served.address).await.unwrap();
        let (_, from) = socket.recv_from(&mut answer).await.unwrap();
        assert_eq!(answer[..2], [0, 6]);
        waiting.push((socket, from));
    }
    // One address wants more than its share.
    let mut greedy = Vec::new();
    let refused = loop {
        let socket = tokio::net::UdpSocket::bind(local(2000)).await.unwrap();
        socket.send_to(&request, served.address).await.unwrap();
        socket.recv_from(&mut answer).await.unwrap();
        if answer[..2] == [0, 5] {
            break greedy.len();
        }
        greedy.push(socket);
    };
    assert_eq!(refused, 256);
    served.book.noted(NoteKind::Refused, "too many transfers at once").await;
    // Everybody else gets what they ask for.
    let address = served.address;
    let got = tokio::task::spawn_blocking(move || {
        tftp_client::get(address, local(3000), "shimx64.efi", 1468, 16, |_| {}).unwrap()
    });
    assert_eq!(got.await.unwrap(), tftp_client::Got { bytes: 1_000_003, window: 16 });
    for (socket, from) in &waiting {
        socket.send_to(&[0, 4, 0, 0], from).await.unwrap();
    }
    for (socket, _) in &waiting {
        // The offer may have come a second time.
        while answer[..4] != [0, 3, 0, 1] {
            socket.recv_from(&mut answer).await.unwrap();
        }
        answer = [0; 2000];
    }
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
