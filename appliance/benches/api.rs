//! How many reads a second the REST API answers with one core: `cargo bench -p appliance --bench api`.
//!
//! The daemon's part runs in one thread; sixteen clients keep their connections, over TLS on loopback, and ask from
//! another. The site has 100,000 VMs.

#[path = "../tests/it/example.rs"]
mod example;
#[path = "../tests/it/large.rs"]
mod large;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use appliance::{tls, web};
use reqwest::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const VMS: u64 = 100_000;
const MACHINES: usize = 10_000;
const CLIENTS: usize = 16;
const LASTS: Duration = Duration::from_secs(5);

const PATHS: [&str; 8] = [
    "/api/v1/me",
    "/api/v1/policy",
    "/api/v1/subnets",
    "/api/v1/machines/m1",
    "/api/v1/machines?limit=10",
    "/api/v1/vms?limit=10",
    "/api/v1/vms?limit=10&after=v50000",
    "/metrics",
];

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (tell, told) = mpsc::channel();
    // It ends with the process.
    std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve(tell))
    });
    let (address, token) = told.recv().unwrap();
    println!("load of the computer: {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());
    println!("| read | a second | bytes |\n|---|--:|--:|");
    let asking = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for path in PATHS {
        let (answers, bytes) = asking.block_on(ask(address, &token, path));
        println!("| `{path}` | {:.0} | {bytes} |", answers as f64 / LASTS.as_secs_f64());
    }
}

async fn serve(tell: mpsc::Sender<(SocketAddr, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let mut site = large::site(folder.path(), VMS, MACHINES).await;
    let token = large::token(&site.app).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = tls::page_config(site.app.ca.server_certificate(&[address.ip()]).unwrap()).unwrap();
    let router = web::router(site.app.clone());
    site.tasks.spawn(tls::serve(listener, config, router, None, site.shutdown.clone()));
    tell.send((address, token)).unwrap();
    std::future::pending::<()>().await;
}

/// How many answers there were, and how long the last was.
async fn ask(address: SocketAddr, token: &str, path: &str) -> (usize, usize) {
    let mut asking = JoinSet::new();
    let end = Instant::now() + LASTS;
    for _ in 0..CLIENTS {
        let client = Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
        let (url, token) = (format!("https://{address}{path}"), token.to_owned());
        asking.spawn(async move {
            let (mut answers, mut bytes) = (0, 0);
            while Instant::now() < end {
                let answer = client.get(&url).bearer_auth(&token).send().await.unwrap();
                bytes = answer.error_for_status().unwrap().bytes().await.unwrap().len();
                answers += 1;
            }
            (answers, bytes)
        });
    }
    let all = asking.join_all().await;
    (all.iter().map(|(answers, _)| answers).sum(), all[0].1)
}
