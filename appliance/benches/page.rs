//! What the pages cost at a large site: `cargo bench -p appliance --bench page -- [server|live|serve]`; without words,
//! `server` and `live`.
//!
//! 100,000 VMs on the hosts of crate `sample`, and as many machines that wait as make 10,000 with them; 500 of them stand
//! in 20 racks, each with a switch of 48 ports that its machines hear. `server`: the
//! time and the bytes of each page. `live`: how long a change takes until it is on 100 open pages, over TLS on loopback.
//! `serve` prints address and code, and stays: for `look` of crate `browser`, which prints when a page is first painted.

#[path = "../tests/it/example.rs"]
mod example;
#[path = "../tests/it/large.rs"]
mod large;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use appliance::core::{Actor, Core};
use appliance::{tls, web};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use example::Site;
use fleet::{Command, Mac};
use futures::StreamExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

const VMS: u64 = 100_000;
const MACHINES: usize = 10_000;
const TIMES: usize = 21;
const OPEN: usize = 100;

const PAGES: [&str; 26] = [
    "/",
    "/machines",
    "/machines?page=100&sort=-memory",
    "/machines?q=epyc%20s0000",
    "/machines?is=needs&sort=state",
    "/machines/m1",
    "/hosts?sort=-memory",
    "/vms",
    "/vms?page=1000",
    "/vms?q=web-7",
    "/vms?q=10.0.3.",
    "/vms?q=02:4a:10:00",
    "/vms?sort=-host&n=200&is=running",
    "/vms/v50000",
    "/volumes",
    "/volumes?sort=-size&page=1000",
    "/volumes?q=c5c5c5",
    "/images",
    "/services",
    "/racks",
    "/switches",
    "/networks",
    "/networks?q=web-99",
    "/log",
    "/log?q=nothing-like-this",
    "/settings",
];

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |word: &str| words.is_empty() || words.iter().any(|wanted| wanted == word);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut site = large::site(folder.path(), VMS, MACHINES).await;
        large::furnish(&site.app.core).await;
        println!("load of the computer: {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());
        if words.iter().any(|word| word == "serve") {
            let address = serve(&mut site).await;
            println!("https://{address} {}", site.app.auth.code().unwrap());
            std::future::pending::<()>().await;
        }
        let token = large::token(&site.app).await;
        if wanted("server") {
            server(&site, &token).await;
        }
        if wanted("live") {
            let address = serve(&mut site).await;
            let same = vec!["/machines?sort=-since".to_owned(); OPEN];
            live("the same list", &site.app.core, address, &token, same).await;
            let kinds = ["/machines?q=s", "/vms?q=web-", "/hosts?q=host-", "/machines/m"];
            let others = (0..OPEN).map(|number| format!("{}{}", kinds[number % kinds.len()], number + 1));
            live("100 different pages", &site.app.core, address, &token, others.collect()).await;
        }
        site.shutdown.cancel();
        site.tasks.shutdown().await;
    });
}

async fn serve(site: &mut Site) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = tls::page_config(site.app.ca.server_certificate(&[address.ip()]).unwrap()).unwrap();
    let router = web::router(site.app.clone());
    site.tasks.spawn(tls::serve(listener, config, router, None, site.shutdown.clone()));
    address
}

async fn server(site: &Site, token: &str) {
    let router = web::router(site.app.clone());
    println!("| page | median, ms | slowest, ms | kB |\n|---|--:|--:|--:|");
    for page in PAGES {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..TIMES {
            let begun = Instant::now();
            bytes = get(&router, page, token).await;
            times.push(begun.elapsed());
        }
        times.sort();
        let (median, slowest) = (millis(times[TIMES / 2]), millis(times[TIMES - 1]));
        println!("| `{page}` | {median:.1} | {slowest:.1} | {:.0} |", bytes as f64 / 1000.0);
    }
}

async fn get(router: &Router, page: &str, token: &str) -> usize {
    let request = Request::get(page).header(header::AUTHORIZATION, format!("Bearer {token}"));
    let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert!(answer.status().is_success(), "{page}: {}", answer.status());
    let head: usize =
        answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    head + to_bytes(answer.into_body(), usize::MAX).await.unwrap().len()
}

/// A machine appears; every page's navigation says how many there are.
async fn live(what: &str, core: &Core, address: SocketAddr, token: &str, pages: Vec<String>) {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let mut open = JoinSet::new();
    let count = pages.len();
    for page in pages {
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
        let page = page.replace('?', "%3F").replace('=', "%3D");
        let request = client.get(format!("https://{address}/live?of={page}")).bearer_auth(token);
        let mut stream = request.send().await.unwrap().error_for_status().unwrap().bytes_stream();
        let heard = heard.clone();
        open.spawn(async move {
            let mut text = String::new();
            while let Some(Ok(chunk)) = stream.next().await {
                text.push_str(&String::from_utf8_lossy(&chunk));
                let Some(end) = text.rfind("\n\n") else { continue };
                for event in text[..end].split("\n\n").filter(|event| event.starts_with("event: head\n")) {
                    let machines = event.split_once("Machines <small>").map(|(_, rest)| rest);
                    let count = machines.and_then(|rest| rest.split('<').next()).unwrap_or_default();
                    heard.send((count.replace(',', ""), Instant::now())).unwrap();
                }
                text.drain(..end + 2);
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    while hears.try_recv().is_ok() {}
    let mut last = Vec::new();
    for _ in 0..TIMES {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let number = core.fleet().last_machine + 1;
        let [.., n3, n2, n1] = number.to_be_bytes();
        let mac = Mac([0x06, 0, 0, n3, n2, n1]);
        let begun = Instant::now();
        let sight = Command::Sight { mac, arch: Some(7), uuid: None, link: None };
        core.execute(&Actor::Wire(mac), sight).await.unwrap();
        let machines = core.fleet().machines.len().to_string();
        let mut reached = 0;
        while reached < count {
            let (shown, at) =
                tokio::time::timeout(Duration::from_secs(30), hears.recv()).await.unwrap().unwrap();
            if shown == machines {
                reached += 1;
                if reached == count {
                    last.push(at.duration_since(begun));
                }
            }
        }
    }
    last.sort();
    println!(
        "{what}: a change is on the last of {count} open pages after {:.0} ms (median), {:.0} ms at most",
        millis(last[TIMES / 2]),
        millis(last[TIMES - 1]),
    );
    open.shutdown().await;
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
