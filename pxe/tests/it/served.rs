//! The HTTP server over loopback, with a few files.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::PathBuf, sync::Arc};

use pxe::{
    Boot,
    http::{self, Limits, Listener},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::directory::Book;

pub struct Served {
    pub address: SocketAddr,
    pub book: Arc<Book>,
    pub files: TempDir,
    pub stop: CancellationToken,
    pub server: tokio::task::JoinHandle<()>,
}

pub struct Response {
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// By its exact name: GRUB takes `Content-Length` in no other spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub async fn serve(boot: Boot) -> Served {
    serve_with(boot, Limits::default(), None).await
}

pub async fn serve_with(boot: Boot, limits: Limits, tls: Option<Arc<ServerConfig>>) -> Served {
    let files = tempfile::tempdir().unwrap();
    let artifacts = files.path().join("artifacts");
    let loaders = files.path().join("loaders");
    let systems = files.path().join("systems");
    fs::create_dir(&artifacts).unwrap();
    fs::create_dir(&loaders).unwrap();
    fs::create_dir_all(systems.join("debian")).unwrap();
    fs::write(systems.join("debian/linux"), "Debian's kernel").unwrap();
    fs::write(systems.join("secret"), "s").unwrap();
    fs::write(artifacts.join("vmlinuz"), vmlinuz()).unwrap();
    fs::write(artifacts.join("empty"), "").unwrap();
    fs::write(loaders.join("shimx64.efi"), "shim").unwrap();
    fs::write(loaders.join("grubnetx64.efi"), "network GRUB").unwrap();
    symlink("/etc/passwd", artifacts.join("leads-out")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = Listener { socket: listener, tls };
    let book = Book::new(boot);
    let given = http::Files {
        address: [10, 77, 0, 1].into(),
        artifacts,
        loaders,
        systems,
        ca_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        ca_sha256: "ab".repeat(32).parse().unwrap(),
        directory: book.clone(),
    };
    let stop = CancellationToken::new();
    let server = tokio::spawn({
        let stop = stop.clone();
        async move { http::serve(vec![listener], given, limits, stop).await.unwrap() }
    });
    Served { address, book, files, stop, server }
}

/// More than one packet, less than a large file.
pub fn vmlinuz() -> Vec<u8> {
    (0..700_001_u32).map(|n| (n * 3 + n / 257) as u8).collect()
}

impl Served {
    /// As a machine with this address, one of loopback's.
    pub async fn connect(&self, from: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Response {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        for header in headers {
            request += &format!("{header}\r\n");
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let body = answer.split_off(end + 4);
        Response { head: String::from_utf8(answer).unwrap(), body }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask("GET", path, &["Host: 10.77.0.1"]).await
    }

    /// Where an artifact lies.
    pub fn artifact(&self, name: &str) -> PathBuf {
        self.files.path().join("artifacts").join(name)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
