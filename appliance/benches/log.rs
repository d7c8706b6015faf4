//! How quick the log is: `cargo bench -p appliance --bench log -- append|follow|start [N]…`; without a word, all.
//!
//! Every figure stands beside what the disk itself can do, measured in the same run.

#[path = "../tests/database/mod.rs"]
mod database;
#[path = "../tests/example/mod.rs"]
mod example;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use appliance::core::{self, Actor, Core};
use fleet::{Command, Mac};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use database::{Database, Kind};

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
        let [_, a, b, c] = (turn * COMMANDERS + commander).to_be_bytes();
        let mac = Mac([2, 0, 0, a, b, c]);
        let begun = Instant::now();
        core.execute(&Actor::Appliance, Command::Sight { mac, arch: Some(7), uuid: None }).await.unwrap();
        times.push(begun.elapsed());
    }
    times
}

fn found() -> Command {
    Command::Found {
        site: uuid::Uuid::from_u128(1),
        network: "10.0.0.0/8".parse().unwrap(),
        address: "10.0.0.1".parse().unwrap(),
        domain: "elisandra".into(),
    }
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
