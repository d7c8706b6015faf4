//! How quick the log is: `cargo bench -p appliance --bench log -- append|follow|start [N]…`; without a word, all.
//!
//! Every figure stands beside what the disk itself can do, measured in the same run.

#[path = "../tests/it/database.rs"]
mod database;
#[path = "../tests/it/example.rs"]
mod example;
#[path = "../tests/it/machines.rs"]
mod machines;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use appliance::core::{self, Actor, Core};
use appliance::store::Fact;
use appliance::web;
use axum::body::Body;
use axum::http::{Request, header};
use futures::StreamExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use database::{Database, Kind};
use machines::{found, numbered, sight};

const COMMANDERS: u32 = 32;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |word: &str| words.is_empty() || words.iter().any(|wanted| wanted == word);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("append") {
            append(Kind::Sqlite).await;
            append(Kind::Postgres).await;
        }
        if wanted("follow") {
            follow().await;
        }
        if wanted("start") {
            let sizes: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
            for vms in if sizes.is_empty() { vec![100_000, 1_000_000] } else { sizes } {
                start(Kind::Sqlite, vms).await;
                start(Kind::Postgres, vms).await;
            }
        }
    });
}

/// `COMMANDERS` give commands, each waiting for its answer before it gives the next, for ten seconds.
async fn append(kind: Kind) {
    let database = Database::new(kind);
    let sync = sync_times(&database);
    let mut tasks = JoinSet::new();
    let core = core::start(database.open().await, &mut tasks, CancellationToken::new()).await.unwrap();
    core.execute(&Actor::Appliance, found()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let before = core.position();
    let mut commanders = JoinSet::new();
    for commander in 0..COMMANDERS {
        let (core, stop) = (core.clone(), Arc::clone(&stop));
        commanders.spawn(async move { command(&core, commander, &stop).await });
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    stop.store(true, Ordering::Relaxed);
    let mut times: Vec<Duration> = commanders.join_all().await.into_iter().flatten().collect();
    let spent = begun.elapsed().as_secs_f64();
    let events = core.position() - before;
    times.sort();
    println!(
        "append {kind:?}: {:.0} events/s, {:.0} commands/s; a command takes {:.1} ms (median), {:.1} ms (p99); \
         fdatasync of 16 kB takes {:.2} ms (median) here",
        events as f64 / spent,
        times.len() as f64 / spent,
        millis(times[times.len() / 2]),
        millis(times[times.len() * 99 / 100]),
        millis(sync),
    );
    tasks.shutdown().await;
}

async fn command(core: &Core, commander: u32, stop: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let sight = sight(turn * COMMANDERS + commander);
        let begun = Instant::now();
        core.execute(&Actor::Appliance, sight).await.unwrap();
        times.push(begun.elapsed());
    }
    times
}

/// A change that is made through one daemon, until it is on a page of another that is open.
async fn follow() {
    let database = Database::new(Kind::Postgres);
    let folder = tempfile::tempdir().unwrap();
    let one = example::site_on(folder.path(), database.open().await).await;
    let two = example::site_on(folder.path(), database.open().await).await;
    let (from, code) = (std::net::Ipv4Addr::LOCALHOST.into(), two.app.auth.code().unwrap());
    let token = two
        .app
        .auth
        .set_first_password(from, &code, "correct horse", appliance::auth::Client::Page, core::now())
        .await
        .unwrap();
    let request = Request::get("/live?of=/machines%3Fsort%3D-since")
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    let answer = web::router(two.app.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert!(answer.status().is_success());
    let mut page = answer.into_body().into_data_stream();
    let mut times = Vec::new();
    for number in 256..356 {
        // A page that was just changed waits a little before it is changed again.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        one.app.core.execute(&Actor::Appliance, sight(number)).await.unwrap();
        let name = fleet::machine::by_mac(&one.app.core.fleet(), numbered(number)).unwrap().name.to_string();
        loop {
            let chunk = page.next().await.unwrap().unwrap();
            if String::from_utf8_lossy(&chunk).contains(&format!(">{name}<")) {
                break;
            }
        }
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "follow: a change made through one daemon is on a page of another after {:.1} ms (median), {:.1} ms (p99)",
        millis(times[50]),
        millis(times[98]),
    );
}

/// From the start of the daemon's process to the first answered request, with so many VMs.
async fn start(kind: Kind, vms: u64) {
    let database = Database::new(kind);
    let store = database.open().await;
    let (mut last, mut facts) = (0, Vec::new());
    let mut events = sample::log(vms).peekable();
    let begun = Instant::now();
    while let Some(event) = events.next() {
        facts.push(Fact { at: core::now(), actor: "sample".into(), event, command: None });
        if facts.len() == 16_384 || events.peek().is_none() {
            store.append(last, &facts).await.unwrap();
            last += facts.len() as i64;
            facts.clear();
        }
    }
    eprintln!("{last} events written in {:.0} s", begun.elapsed().as_secs_f64());
    drop(events);
    let begun = Instant::now();
    let fleet = if vms > 100_000 { sample::fleet(vms) } else { store.load().await.unwrap().fleet };
    let replay = begun.elapsed();
    let begun = Instant::now();
    store.save_snapshot(&fleet, last, core::now()).await.unwrap();
    let saving = begun.elapsed();
    for chunk in sample::observed(&fleet, core::now()).into_iter().collect::<Vec<_>>().chunks(1000) {
        store.keep(&[], chunk).await.unwrap();
    }
    drop(fleet);
    store.pool().close().await;

    let folder = tempfile::tempdir().unwrap();
    let (page, nodes) = (free_port(), free_port());
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let config = format!(
        "state = {:?}\nrun = {run:?}\nfiles = {:?}\ndatabase = {:?}\npage = \"127.0.0.1:{page}\"\nnodes = \"127.0.0.1:{nodes}\"\n",
        folder.path().join("state"),
        folder.path(),
        database.url
    );
    let path = folder.path().join("elisandra.toml");
    std::fs::write(&path, config).unwrap();
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let log = std::fs::File::create(folder.path().join("daemon.log")).unwrap();
    let begun = Instant::now();
    let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_elisandra"))
        .args(["--config".as_ref(), path.as_os_str(), "serve".as_ref()])
        .stderr(log)
        .spawn()
        .unwrap();
    let serving = loop {
        let asked = client.get(format!("https://127.0.0.1:{page}/login")).send().await;
        if asked.is_ok_and(|answer| answer.status().as_u16() < 500) {
            break begun.elapsed();
        }
        if begun.elapsed() > Duration::from_secs(300) || daemon.try_wait().unwrap().is_some() {
            panic!("{}", std::fs::read_to_string(folder.path().join("daemon.log")).unwrap());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let memory = status(daemon.id(), "VmRSS:");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (later, most) = (status(daemon.id(), "VmRSS:"), status(daemon.id(), "VmHWM:"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    println!(
        "start {kind:?}, {vms} VMs, {last} events: serving after {:.2} s with {memory} MiB resident; {later} MiB ten \
         seconds later, at most {most} MiB; making the \
         snapshot takes {:.1} s{}",
        serving.as_secs_f64(),
        saving.as_secs_f64(),
        if vms > 100_000 {
            String::new()
        } else {
            format!(", a replay without it {:.1} s", replay.as_secs_f64())
        },
    );
}

/// Of proc_pid_status(5), in MiB.
fn status(process: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What the disk takes for one durable write, the median of 200.
fn sync_times(database: &Database) -> Duration {
    let mut file = std::fs::File::create(database.folder.path().join("sync")).unwrap();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            file.write_all(&[1; 16_384]).unwrap();
            let begun = Instant::now();
            file.sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[100]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
