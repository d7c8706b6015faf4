//! HTTP over loopback, with requests as firmware, boot loaders and browsers write them.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use pxe::{Boot, MacAddr, NoteKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::served::{serve, vmlinuz};

#[tokio::test]
async fn files_in_whole_and_in_part() {
    let served = serve(Boot::Discover).await;
    let path = "/boot/files/vmlinuz";
    let whole = served.get(path).await;
    assert_eq!((whole.status(), whole.header("Content-Length")), ("200", Some("700001")));
    assert!(whole.body == vmlinuz());
    let note = served.book.noted(NoteKind::Http, "HTTP vmlinuz: 700001 bytes in").await;
    assert_eq!(note.address, Some(Ipv4Addr::LOCALHOST.into()));

    let part = served.ask("GET", path, &["Range: bytes=300000-300009"]).await;
    assert_eq!((part.status(), part.header("Content-Range")), ("206", Some("bytes 300000-300009/700001")));
    assert_eq!(part.body, vmlinuz()[300_000..300_010]);
    let rest = served.ask("GET", path, &["Range: bytes=700000-"]).await;
    assert_eq!((rest.status(), rest.body.len(), rest.header("Content-Length")), ("206", 1, Some("1")));
    let beyond = served.ask("GET", path, &["Range: bytes=700001-"]).await;
    assert_eq!((beyond.status(), beyond.header("Content-Range")), ("416", Some("bytes */700001")));

    let head = served.ask("HEAD", path, &[]).await;
    assert_eq!((head.status(), head.header("Content-Length"), head.body.len()), ("200", Some("700001"), 0));
    let empty = served.get("/boot/files/empty").await;
    assert_eq!((empty.status(), empty.header("Content-Length")), ("200", Some("0")));
}

#[tokio::test]
async fn a_download_goes_on_only_if_the_file_is_the_same() {
    let served = serve(Boot::Discover).await;
    let path = "/boot/files/vmlinuz";
    let etag = served.ask("HEAD", path, &[]).await.header("ETag").unwrap().to_owned();
    assert_eq!(served.ask("GET", path, &[&format!("If-None-Match: {etag}")]).await.status(), "304");
    let range = ["Range: bytes=1-", &format!("If-Range: {etag}")];
    assert_eq!(served.ask("GET", path, &range).await.status(), "206");
    fs::write(served.files.path().join("artifacts/vmlinuz"), "another kernel").unwrap();
    let changed = served.ask("GET", path, &range).await;
    assert_eq!((changed.status(), changed.text()), ("200", "another kernel"));
}

#[tokio::test]
async fn files_of_other_systems_have_a_folder_of_their_own() {
    let served = serve(Boot::Discover).await;
    assert_eq!(served.get("/boot/files/os/debian/linux").await.text(), "Debian's kernel");
    for nothing in ["/boot/files/os/vmlinuz", "/boot/files/debian/linux", "/boot/files/os/", "/boot/files/os"]
    {
        assert_eq!(served.get(nothing).await.status(), "404", "{nothing}");
    }
    assert_eq!(served.get("/boot/files/os/debian/../secret").await.status(), "404");
    served.book.noted(NoteKind::Refused, "debian/../secret").await;
}

#[tokio::test]
async fn an_installer_gets_its_answers_and_nobody_else() {
    let served = serve(Boot::Discover).await;
    let path = "/boot/answers/t0k3n/preseed.cfg";
    let answers = served.get(path).await;
    assert_eq!((answers.status(), answers.text()), ("200", "d-i"));
    assert_eq!(answers.header("Cache-Control"), Some("no-store"));
    let said = ["Content-Length: 4", "Content-Type: text/plain"];
    let mut stream = served.connect([127, 0, 0, 1]).await;
    stream
        .write_all(format!("POST {path} HTTP/1.1\r\n{}\r\n\r\ndone", said.join("\r\n")).as_bytes())
        .await
        .unwrap();
    // The body is not taken for the next request.
    stream.write_all(b"GET /boot/ca.pem HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut both = String::new();
    stream.read_to_string(&mut both).await.unwrap();
    assert!(both.contains("\r\n\r\nd-iHTTP/1.1 200 OK\r\n"), "{both}");
    assert!(both.ends_with("-----BEGIN CERTIFICATE-----\n"));

    let refused = served.get("/boot/answers/guessed").await;
    assert_eq!(
        (refused.status(), refused.text()),
        ("403", "there are no answers for you here, or not now\n")
    );
    // Another machine with the right token, and one that says that it is another one.
    let mut stream = served.connect([127, 0, 0, 2]).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    served.book.noted(NoteKind::Refused, "127.0.0.2 is not the machine").await;
    // An answer may be given once.
    let head = served.ask("HEAD", path, &[]).await;
    assert_eq!((head.status(), head.header("Allow")), ("405", Some("GET, POST")));
    assert_eq!(served.ask("POST", "/boot/ca.pem", &[]).await.status(), "405");
    assert_eq!(served.ask("POST", path, &["Content-Length: 70000"]).await.status(), "413");
    assert_eq!(served.ask("POST", path, &["Transfer-Encoding: chunked"]).await.status(), "411");
}

#[tokio::test]
async fn a_connection_is_kept_and_takes_requests_ahead() {
    let served = serve(Boot::Discover).await;
    let mut stream = served.connect([127, 0, 0, 1]).await;
    let mut requests = String::new();
    for _ in 0..20 {
        requests += "GET /boot/files/shimx64.efi HTTP/1.1\r\nHost: a\r\n\r\n";
        requests += "HEAD /boot/files/vmlinuz HTTP/1.1\r\nHost: a\r\n\r\n";
    }
    requests += "GET /boot/files/vmlinuz HTTP/1.1\r\nConnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).await.unwrap();
    assert!(answers.ends_with(&vmlinuz()));
    answers.truncate(answers.len() - vmlinuz().len());
    let heads = String::from_utf8(answers).unwrap();
    assert_eq!(heads.matches("HTTP/1.1 200 OK\r\n").count(), 41);
    // iPXE keeps it only if it is told to.
    assert_eq!(heads.matches("\r\nConnection: keep-alive\r\n").count(), 40);
    assert_eq!(heads.matches("\r\n\r\nshimHTTP").count(), 20);
}

/// A byte now and then keeps a connection for so long and no longer.
#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let served = serve(Boot::Discover).await;
    let slow = served.connect([127, 0, 0, 1]).await;
    let (mut incoming, mut outgoing) = slow.into_split();
    let writes = tokio::spawn(async move {
        for byte in b"GET /boot/ca.pem HTTP/1.1\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy" {
            if outgoing.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
    let (begun, mut answer) = (Instant::now(), Vec::new());
    // Reset or ended, without an answer.
    let _ = incoming.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    assert!((9..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    writes.abort();
}

#[tokio::test]
async fn firmware_that_boots_over_http_finds_its_loaders() {
    let served = serve(Boot::Discover).await;
    assert_eq!(served.get("/boot/files/shimx64.efi").await.text(), "shim");
    // shim asks for it with two slashes.
    assert_eq!(served.get("/boot/files//grubx64.efi").await.text(), "network GRUB");
    let start = served.get("/grub/x86_64-efi/grub.cfg").await;
    assert!(start.text().starts_with("configfile (http,10.77.0.1)/boot/$net_default_mac/grub.cfg\n"));
    // EDK2 waits for a body.
    let missing = served.get("/boot/files/revocations_sku.efi").await;
    assert_eq!((missing.status(), missing.body.is_empty()), ("404", false));
}

#[tokio::test]
async fn scripts_say_what_the_directory_says() {
    let served = serve(Boot::Disk).await;
    let script = served.get("/boot/02-00-00-00-00-01/script.ipxe").await;
    assert!(script.text().starts_with("#!ipxe\n") && script.text().contains("sanboot"));
    assert_eq!(script.header("Cache-Control"), Some("no-store"));
    // As GRUB writes a MAC.
    assert!(served.get("/boot/02:00:00:00:00:01/grub.cfg").await.text().contains("ELI-IMAGE"));
    let note = served.book.noted(NoteKind::Http, "GRUB script: its own disk").await;
    assert_eq!(note.mac, Some(MacAddr([2, 0, 0, 0, 0, 1])));
    for nobody in [
        "/boot/x/script.ipxe",
        "/boot/02-00-00-00-00-0g/grub.cfg",
        "/boot/02-00-00-00-00-01%0Areboot/grub.cfg",
    ] {
        let answer = served.get(nobody).await;
        assert_eq!((answer.status(), answer.text()), ("404", "there is no such file\n"), "{nobody}");
    }
}

#[tokio::test]
async fn live_takes_its_checksum_from_the_manifest() {
    let served = serve(Boot::Live).await;
    let script = served.get("/boot/02-00-00-00-00-01/script.ipxe").await;
    assert!(
        script
            .text()
            .contains("\necho Elisandra: there is no live.squashfs with a checksum in manifest.json\n")
    );
    served.book.noted(NoteKind::Refused, "iPXE script: there is no live.squashfs with a checksum").await;
    let sha256 = "cd".repeat(32);
    let manifest =
        format!(r#"{{"version":"1","files":{{"live.squashfs":{{"sha256":"{sha256}","bytes":9}}}}}}"#);
    fs::write(served.files.path().join("artifacts/manifest.json"), manifest).unwrap();
    let script = served.get("/boot/02-00-00-00-00-01/script.ipxe").await;
    assert!(script.text().contains(&format!("elisandra.sha256={sha256} ")));
}

#[tokio::test]
async fn nothing_outside_of_the_folders_is_given() {
    let served = serve(Boot::Discover).await;
    for path in [
        "/boot/files/leads-out",
        "/boot/files/../../etc/passwd",
        "/boot/files/%2e%2e/%2e%2e/etc/passwd",
        "/boot/files//etc/passwd",
        "/boot/files/",
    ] {
        let answer = served.get(path).await;
        assert_ne!(answer.status(), "200", "{path}");
        assert!(!answer.text().contains("root:"), "{path}");
    }
    served.book.noted(NoteKind::Refused, "leads-out").await;
}

#[tokio::test]
async fn everything_else_goes_to_https() {
    let served = serve(Boot::Discover).await;
    let to = async |host: &str, path: &str| {
        let answer = served.ask("GET", path, &[host]).await;
        assert_eq!(answer.status(), "308");
        answer.header("Location").unwrap().to_owned()
    };
    assert_eq!(to("Host: elisandra.lan:80", "/machines?all=1").await, "https://elisandra.lan/machines?all=1");
    assert_eq!(to("Host: a b\"<", "/").await, "https://10.77.0.1/");
    assert_eq!(to("X: y", "/boot").await, "https://10.77.0.1/boot");
    assert!(served.get("/boot/ca.pem").await.text().starts_with("-----BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn bad_requests_and_hangers_on_do_not_stop_it() {
    let served = serve(Boot::Discover).await;
    let mut idle = Vec::new();
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"",
        b"GET /boot/files/vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        idle.push(stream);
    }
    assert_eq!(served.get("/boot/files/vmlinuz").await.status(), "200");
    // A client that leaves in the middle is noted.
    drop(idle);
    served.stop.cancel();
    served.server.await.unwrap();
}
