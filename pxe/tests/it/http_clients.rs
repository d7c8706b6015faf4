//! HTTP with the programs that installers and people use: curl, wget, busybox's wget, Python's http.client.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use pxe::{Boot, NoteKind, http::Limits};
use rcgen::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use crate::served::{Served, serve, serve_with, vmlinuz};

/// Runs a program in `folder` beside the server.
async fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    let program = program.to_owned();
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error} (tests/needs installs it)"));
    println!("{program}: {:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

async fn good(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = run(folder, program, arguments).await;
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_gets_the_whole_file() {
    let served = serve(Boot::Discover).await;
    let (url, folder) = (served.url("/boot/files/vmlinuz"), tempfile::tempdir().unwrap());
    let (folder, name) = (folder.path(), "it");
    for (program, arguments) in [
        ("curl", vec!["-sSf", "-o", name, &url]),
        ("curl", vec!["-sSf", "-0", "-o", name, &url]),
        ("curl", vec!["-sSf", "--compressed", "-H", "TE: trailers", "-o", name, &url]),
        ("wget", vec!["-q", "-O", name, &url]),
        ("busybox", vec!["wget", "-q", "-O", name, &url]),
        (
            "python3",
            vec![
                "-c",
                "import sys, urllib.request as r; open('it', 'wb').write(r.urlopen(sys.argv[1]).read())",
                &url,
            ],
        ),
    ] {
        good(folder, program, &arguments).await;
        assert!(fs::read(folder.join(name)).unwrap() == vmlinuz(), "{program} {arguments:?}");
        fs::remove_file(folder.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_are_taken_up_again_where_they_broke_off() {
    let served = serve(Boot::Discover).await;
    let (url, folder) = (served.url("/boot/files/vmlinuz"), tempfile::tempdir().unwrap());
    let (folder, whole) = (folder.path(), vmlinuz());
    for (program, arguments) in [
        ("curl", vec!["-sSf", "-C", "-", "-o", "it", &url]),
        ("wget", vec!["-q", "-c", "-O", "it", &url]),
        ("busybox", vec!["wget", "-q", "-c", "-O", "it", &url]),
    ] {
        fs::write(folder.join("it"), &whole[..300_000]).unwrap();
        good(folder, program, &arguments).await;
        assert!(fs::read(folder.join("it")).unwrap() == whole, "{program}");
    }
    let part = good(folder, "curl", &["-sSf", "-r", "-3", "-w", " %{http_code}", "-o", "part", &url]).await;
    assert_eq!(
        (part.as_str(), fs::read(folder.join("part")).unwrap().as_slice()),
        (" 206", &whole[699_998..])
    );
    // What one has already is not sent again.
    let answer = ["-sS", "-o", "again", "-w", "%{http_code} %{size_download}"];
    let tags = ["--etag-save", "tag", "--etag-compare", "tag", &url];
    assert_eq!(good(folder, "curl", &[&answer[..], &tags].concat()).await, "200 700001");
    assert_eq!(good(folder, "curl", &[&answer[..], &tags].concat()).await, "304 0");
    assert_eq!(good(folder, "curl", &[&answer[..], &["-z", "it", &url]].concat()).await, "304 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_serves_many_requests() {
    let served = serve(Boot::Disk).await;
    let folder = tempfile::tempdir().unwrap();
    let script = served.url("/boot/02-00-00-00-00-01/script.ipxe");
    let (kernel, answers) =
        (served.url("/boot/files/vmlinuz"), served.url("/boot/answers/t0k3n/preseed.cfg"));
    let said = "x".repeat(40_000);
    let connects = good(
        folder.path(),
        "curl",
        &[
            "-sSf",
            "-o",
            "a",
            "-w",
            "%{num_connects}",
            &script,
            "-o",
            "b",
            &kernel,
            "--next",
            "-sSf",
            "-I",
            "-o",
            "c",
            "-w",
            "%{num_connects}",
            &kernel,
            "--next",
            "-sSf",
            "-o",
            "d",
            "-w",
            "%{num_connects}",
            "-H",
            "Expect: 100-continue",
            "-d",
            &said,
            &answers,
        ],
    )
    .await;
    assert_eq!(connects, "1000");
    assert!(fs::read(folder.path().join("b")).unwrap() == vmlinuz());
    assert_eq!(fs::read_to_string(folder.path().join("d")).unwrap(), "d-i");

    let program = "
import http.client, sys
server = http.client.HTTPConnection(sys.argv[1], timeout=10)
def ask(method, path, **more):
    server.request(method, path, **more)
    answer = server.getresponse()
    return answer.status, answer.getheader('Content-Length'), answer.read()
socket = None
for _ in range(3):
    assert ask('HEAD', '/boot/files/vmlinuz') == (200, '700001', b'')
    assert socket in (None, server.sock)
    socket = server.sock
    assert ask('GET', '/boot/files/vmlinuz', headers={'Range': 'bytes=0-0'})[:2] == (206, '1')
    assert ask('GET', '/boot/files/vmlinuz', headers={'Range': 'bytes=0-0,5-6'})[:2] == (200, '700001')
    assert ask('GET', '/boot/files/none')[0] == 404
    assert ask('HEAD', '/boot/files/none')[0::2] == (404, b'')
    assert ask('POST', '/boot/answers/t0k3n/preseed.cfg', body='done')[2] == b'd-i'
    assert ask('GET', '/boot/files/vmlinuz', headers={'Range': 'bytes=700001-'})[0] == 416
    assert ask('DELETE', '/boot/files/vmlinuz')[0] == 405
    assert ask('GET', '/boot/files/empty') == (200, '0', b'')
assert server.sock is socket
";
    good(folder.path(), "python3", &["-c", program, &served.address.to_string()]).await;
}

/// A file that is cut short or written over while it is sent: every client has to see that it has not got it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_is_broken_off_and_never_looks_whole() {
    const BYTES: usize = 48 << 20;
    let served = Arc::new(serve(Boot::Discover).await);
    let folder = tempfile::tempdir().unwrap();
    let url = served.url("/boot/files/large");
    let python = "
import sys, time, http.client
server = http.client.HTTPConnection(sys.argv[1].split('/')[2])
server.request('GET', '/boot/files/large')
answer = server.getresponse()
open('it', 'wb').write(answer.read(1000))
time.sleep(2)
answer.read()
";
    let cut = |served: &Served| {
        File::options().write(true).open(served.artifact("large")).unwrap().set_len(30 << 20).unwrap();
    };
    let overwritten = |served: &Served| {
        use std::os::unix::fs::FileExt;
        File::options()
            .write(true)
            .open(served.artifact("large"))
            .unwrap()
            .write_at(b"other", 40 << 20)
            .unwrap();
    };
    type Change = (fn(&Served), &'static str);
    let changes: [Change; 2] = [
        (cut, "large: broken off, the file became shorter"),
        (overwritten, "large: broken off, the file was changed"),
    ];
    for (change, noted) in changes {
        for (program, arguments) in [
            ("curl", vec!["-sSf", "--limit-rate", "8M", "-o", "it", &url]),
            ("wget", vec!["-q", "--tries=1", "--limit-rate=8M", "-O", "it", &url]),
            ("python3", vec!["-c", python, &url]),
        ] {
            fs::write(served.artifact("large"), vec![7; BYTES]).unwrap();
            // Of the client before; the first has none.
            let _ = fs::remove_file(folder.path().join("it"));
            let ends = run(folder.path(), program, &arguments);
            let changes = async {
                // The first of it has come, and no client here has the last of it so soon.
                while fs::metadata(folder.path().join("it")).map_or(0, |file| file.len()) == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                change(&served);
            };
            let (output, ()) = tokio::join!(ends, changes);
            assert!(!output.status.success() && output.status.signal().is_none(), "{program}: {noted}");
            let notes = served.book.notes();
            let seen = notes.iter().filter(|note| note.step.to_string().contains(noted)).count();
            assert!(seen > 0, "{program}: {notes:#?}");
        }
    }
    assert!(
        served
            .book
            .notes()
            .iter()
            .all(|note| !note.step.to_string().contains(&format!("large: {BYTES} bytes")))
    );
    served.book.noted(NoteKind::Http, "large: ended after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_over_tls() {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["boot.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], signing_key.into())
        .unwrap();
    // As the appliance's page has it; this server does not speak HTTP/2.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let limits = Limits { transfers: 1, large: 1 << 20, ..Limits::default() };
    let served = serve_with(Boot::Discover, limits, Some(Arc::new(config))).await;
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n / 251 * 7 + n) as u8).collect();
    fs::write(served.artifact("large"), &large).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("ca.pem"), cert.pem()).unwrap();
    let url = |name: &str| format!("https://127.0.0.1:{}/boot/files/{name}", served.address.port());
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let version = if version == "--tls-max=1.2" { vec!["--tls-max", "1.2"] } else { vec![version] };
        let name = url("large");
        good(folder, "curl", &[&version[..], &["-sSf", "--cacert", "ca.pem", "-o", "it", &name]].concat())
            .await;
        assert!(fs::read(folder.join("it")).unwrap() == large);
    }
    let (kernel, name) = (url("vmlinuz"), url("large"));
    good(folder, "wget", &["-q", "--ca-certificate=ca.pem", "-O", "it", &kernel]).await;
    assert!(fs::read(folder.join("it")).unwrap() == vmlinuz());
    let part = ["-sSf", "--cacert", "ca.pem", "-r", "4000000-", "-o", "it", &name];
    good(folder, "curl", &part).await;
    assert!(fs::read(folder.join("it")).unwrap() == large[4_000_000..]);
    // Whoever does not trust the certificate gets nothing, nor does plain HTTP.
    assert_eq!(run(folder, "curl", &["-sSf", "-o", "it", &kernel]).await.status.code(), Some(60));
    served.book.noted(NoteKind::Refused, "HTTPS: it refused the certificate (UnknownCA)").await;
    // As the firmware of OVMF is built.
    let old = ["-sSf", "--cacert", "ca.pem", "--tls-max", "1.2", "--ciphers", "AES128-SHA256", &kernel];
    assert_eq!(run(folder, "curl", &old).await.status.code(), Some(35));
    served.book.noted(NoteKind::Refused, "HTTPS: it knows no TLS 1.2 or 1.3 with elliptic curves").await;
    // Plain HTTP, or a look at the port, is no handshake.
    assert!(!run(folder, "curl", &["-sSf", &served.url("/boot/ca.pem")]).await.status.success());
    drop(served.connect([127, 0, 0, 9]).await);
    let handshakes =
        || served.book.notes().iter().filter(|note| note.step.to_string().starts_with("HTTPS: ")).count();
    assert_eq!(handshakes(), 2);
}
