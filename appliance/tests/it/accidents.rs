//! What must not break the log: a process killed at any step of an append, a database that goes away in the middle
//! of it, a disk that does not take what is written, a disk that is full, and daemons that share a log.
//!
//! Where a process has to die, the test starts itself once more as that process: a commander.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::example;
use appliance::core::{self, Actor, Core, ExecuteError};
use appliance::store::{Pool, Store, StoreError};
use appliance::tokens::Tokens;
use appliance::{auth, dhcp, web};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use fleet::Mac;
use nix::sys::signal::{Signal, raise};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::database::{Database, Kind, Stop};
use crate::machines::{found, numbered, sight};

/// Set for a commander: the database's address, and where to die: `append-inserted:3`.
const DATABASE: &str = "ELISANDRA_TEST_DATABASE";
const DIE_AT: &str = "ELISANDRA_TEST_DIE_AT";

/// PostgreSQL inserts and commits by one statement; `killed_while_the_server_has_its_statement` dies in the middle of it.
fn steps(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Sqlite => &["append-begun", "append-inserted", "append-committed", "append-published"],
        Kind::Postgres => &["append-begun", "append-committed", "append-published"],
    }
}

async fn start(store: Store) -> (Core, JoinSet<anyhow::Result<()>>) {
    let mut tasks = JoinSet::new();
    let core = core::start(store, &mut tasks, CancellationToken::new()).await.unwrap();
    (core, tasks)
}

async fn found_site(database: &Database) {
    let (core, mut tasks) = start(database.open().await).await;
    core.execute(&Actor::Appliance, found()).await.unwrap();
    tasks.shutdown().await;
}

/// Gives commands without end, a line for each that was acknowledged; dies where it is told to. Returns only when
/// the core has ended by itself.
async fn command(url: &str) {
    if let Ok(place) = std::env::var(DIE_AT) {
        let (step, time) = place.split_once(':').unwrap();
        let left = AtomicU32::new(time.parse().unwrap());
        fail::cfg_callback(step, move || {
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                raise(Signal::SIGKILL).unwrap();
            }
        })
        .unwrap();
    }
    let store = Store::open(url).await.unwrap();
    let (core, mut tasks) = start(store).await;
    let first = u32::try_from(core.fleet().machines.len()).unwrap() + 1;
    for commander in 0..8 {
        let core = core.clone();
        tokio::spawn(async move {
            for turn in 0..100_000 {
                let number = first + 1_000_000 + turn * 8 + commander;
                match core.execute(&Actor::Appliance, sight(number)).await {
                    // One write to a pipe is whole.
                    Ok(_) => std::io::stdout().write_all(format!("ack {number}\n").as_bytes()).unwrap(),
                    Err(error) => {
                        std::io::stdout().write_all(format!("no {number} {error}\n").as_bytes()).unwrap()
                    }
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended.unwrap() {
            println!("ended: {error:#}");
            return;
        }
    }
}

/// Starts this test again as a commander.
fn commander(test: &str, prefix: &[&str], url: &str, more: &[(&str, &str)]) -> Child {
    let own = std::env::current_exe().unwrap();
    let mut words = prefix.iter().map(ToString::to_string).chain([own.display().to_string()]);
    let mut process = Process::new(words.next().unwrap());
    process.args(words).args([&format!("accidents::{test}"), "--exact", "--nocapture", "--test-threads=1"]);
    process.env(DATABASE, url).envs(more.iter().copied());
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// What a commander that has ended said was acknowledged.
fn acknowledged(said: impl Iterator<Item = String>) -> Vec<u32> {
    said.filter_map(|line| line.strip_prefix("ack ")?.parse().ok()).collect()
}

/// How often each machine was sighted, by what stands in the log.
async fn sighted(store: &Store) -> BTreeMap<Mac, usize> {
    let mut times = BTreeMap::new();
    let mut position = 0;
    loop {
        let records = store.read(position, 1000).await.unwrap();
        let Some(last) = records.last() else { return times };
        position = last.position;
        for record in &records {
            if let fleet::Event::Machine(fleet::machine::Event::Sighted { mac, .. }) = &record.event {
                *times.entry(*mac).or_default() += 1;
            }
        }
    }
}

async fn killed_at_every_step(test: &str, kind: Kind) {
    if let Ok(url) = std::env::var(DATABASE) {
        return command(&url).await;
    }
    let database = Database::new(kind);
    found_site(&database).await;
    let mut all = Vec::new();
    for step in steps(kind) {
        for time in [1, 2, 9] {
            let place = format!("{step}:{time}");
            let child = commander(test, &[], &database.url, &[(DIE_AT, &place)]);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), None, "it was killed at {place}");
            all.extend(acknowledged(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned)));
        }
    }
    assert!(all.len() > 30, "something was acknowledged before each kill: {}", all.len());
    let store = database.open().await;
    let loaded = store.load().await.unwrap();
    let times = sighted(&store).await;
    for number in all {
        assert_eq!(times.get(&numbered(number)), Some(&1), "{number} was acknowledged");
        assert!(loaded.fleet.leases.address(numbered(number)).is_some());
    }
    assert!(times.values().all(|times| *times == 1), "nothing is there twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_an_append_on_sqlite() {
    killed_at_every_step("killed_at_every_step_of_an_append_on_sqlite", Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_an_append_on_postgres() {
    killed_at_every_step("killed_at_every_step_of_an_append_on_postgres", Kind::Postgres).await;
}

/// The server may still carry out what a process asked for that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_server_has_its_statement() {
    if let Ok(url) = std::env::var(DATABASE) {
        return command(&url).await;
    }
    let database = Database::new(Kind::Postgres);
    found_site(&database).await;
    let store = database.open().await;
    let Pool::Postgres(pool) = store.pool() else { unreachable!("it is PostgreSQL") };
    let is_waiting = async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO event%'";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(pool).await.unwrap() > 0
    };
    let before = store.end().await.unwrap();
    for _ in 0..3 {
        let mut lock = pool.begin().await.unwrap();
        sqlx::query("LOCK TABLE event IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
        let mut child = commander("killed_while_the_server_has_its_statement", &[], &database.url, &[]);
        let until = Instant::now() + Duration::from_secs(30);
        while !is_waiting().await {
            assert!(Instant::now() < until, "the commander's statement waits for the lock");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            acknowledged(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned)).is_empty()
        );
        lock.commit().await.unwrap();
        while is_waiting().await {
            assert!(Instant::now() < until, "the statement ends");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // All of a group or nothing of it, and a log that can be read.
    let loaded = store.load().await.unwrap();
    assert!(loaded.position >= before);
    assert!(sighted(&store).await.values().all(|times| *times == 1), "nothing is there twice");
}

/// fsync and fdatasync fail with EIO once the file named by the environment is there.
const BROKEN_SYNC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int broken(void) { const char *flag = getenv("BROKEN_SYNC"); return flag && access(flag, F_OK) == 0; }
int fsync(int fd) { if (broken()) { errno = EIO; return -1; } return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { if (broken()) { errno = EIO; return -1; } return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_does_not_take_what_is_written_stops_the_process() {
    if let Ok(url) = std::env::var(DATABASE) {
        return command(&url).await;
    }
    let database = Database::new(Kind::Sqlite);
    found_site(&database).await;
    let folder = database.folder.path();
    let (source, library, flag) = (folder.join("sync.c"), folder.join("sync.so"), folder.join("broken"));
    std::fs::write(&source, BROKEN_SYNC).unwrap();
    let built =
        Process::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(built.success());
    let environment = [("LD_PRELOAD", library.to_str().unwrap()), ("BROKEN_SYNC", flag.to_str().unwrap())];
    let mut child = commander(
        "a_disk_that_does_not_take_what_is_written_stops_the_process",
        &[],
        &database.url,
        &environment,
    );
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let before: Vec<String> = said.by_ref().take(50).collect();
    std::fs::write(&flag, "").unwrap();
    // It ends by itself: a new start reads what is really there.
    let rest: Vec<String> = said.collect();
    assert!(child.wait().unwrap().success());
    assert!(rest.iter().any(|line| line.starts_with("ended: the log can no longer be trusted")), "{rest:?}");
    std::fs::remove_file(&flag).unwrap();
    let times = sighted(&database.open().await).await;
    for number in acknowledged(before.into_iter().chain(rest)) {
        assert_eq!(times.get(&numbered(number)), Some(&1), "{number} was acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_commands_are_refused_and_known_machines_get_their_addresses() {
    if let Ok(url) = std::env::var(DATABASE) {
        return full_disk(&url).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=1m elisandra {} && exec \"$@\"", folder.path().display());
    let prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let url = format!("sqlite:{}", folder.path().join("log.sqlite").display());
    let test = "on_a_full_disk_commands_are_refused_and_known_machines_get_their_addresses";
    let output = commander(test, &prefix, &url, &[]).wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("the disk was full, and then it was not"), "{said}");
}

/// In a namespace in which the log's folder is a small file system of its own.
async fn full_disk(url: &str) {
    let (core, mut tasks) = start(Store::open(url).await.unwrap()).await;
    core.execute(&Actor::Appliance, found()).await.unwrap();
    let folder = Path::new(url.strip_prefix("sqlite:").unwrap()).parent().unwrap();
    // What shall be given back in the end.
    std::fs::write(folder.join("ballast"), vec![1; 200_000]).unwrap();
    let mut number = 0;
    let error = loop {
        number += 1;
        if let Err(error) = core.execute(&Actor::Appliance, sight(number)).await {
            break error;
        }
        assert!(number < 100_000, "the disk is never full");
    };
    let ExecuteError::NotDurable(source) = error else { panic!("{error:?}") };
    assert!(matches!(*source, StoreError::Database { .. }), "{source}");
    assert!(number > 1 && core.fleet().leases.address(numbered(number)).is_none());

    let tokens = Arc::new(Tokens::made_from(b"secret"));
    let seen = Arc::new(dhcp::Seen::since(core::now()));
    let directory = dhcp::directory(core.clone(), tokens, seen, false);
    let client = |number| asking(numbered(number));
    let given = directory.commit(&client(1)).await.unwrap();
    assert_eq!(Some(given.address), core.fleet().leases.address(numbered(1)));
    assert!(
        directory.commit(&client(99_999)).await.is_err(),
        "an address that is not in the log is not given"
    );

    std::fs::remove_file(folder.join("ballast")).unwrap();
    core.execute(&Actor::Appliance, sight(99_999)).await.unwrap();
    println!("the disk was full, and then it was not");
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hop_between_two_daemons_find_one_log() {
    let database = Database::new(Kind::Postgres);
    found_site(&database).await;
    let (one, mut tasks_of_one) = start(database.open().await).await;
    let (two, mut tasks_of_two) = start(database.open().await).await;
    let mut clients = JoinSet::new();
    for client in 0..16_u32 {
        let daemons = [one.clone(), two.clone()];
        clients.spawn(async move {
            let mut seed = u64::from(client) + 1;
            for turn in 0..25 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let daemon = &daemons[usize::from(seed >> 63 == 1)];
                let events = daemon.execute(&Actor::Appliance, sight(client * 100 + turn)).await.unwrap();
                assert_eq!(events.len(), 2, "each machine is new to the daemon that decides");
                let held = daemon.fleet().leases.address(numbered(client * 100 + turn));
                assert!(held.is_some(), "what was acknowledged is in the fleet of that daemon");
            }
        });
    }
    clients.join_all().await;
    for core in [&one, &two] {
        let mut fleet = core.watch_fleet();
        let all = fleet.wait_for(|head| head.position == 801);
        tokio::time::timeout(example::PATIENCE, all).await.unwrap().unwrap();
    }
    assert_eq!(*one.fleet(), *two.fleet());
    assert_eq!(one.fleet().leases.given.len(), 400, "no address twice");
    let loaded = database.open().await.load().await.unwrap();
    assert_eq!(loaded.fleet, *one.fleet());
    tasks_of_one.shutdown().await;
    tasks_of_two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_restarted_and_killed_in_the_middle_of_a_thousand_commands() {
    let mut database = Database::new(Kind::Postgres);
    found_site(&database).await;
    let (core, mut tasks) = start(database.open().await).await;
    let done = Arc::new(AtomicU32::new(0));
    let mut clients = JoinSet::new();
    for client in 0..32_u32 {
        let (core, done) = (core.clone(), Arc::clone(&done));
        clients.spawn(async move {
            let mut answers = Vec::new();
            for turn in 0..40 {
                let number = client * 100 + turn;
                let answer = core.execute(&Actor::Appliance, sight(number)).await;
                if let Err(error) = &answer {
                    assert!(!error.to_string().is_empty());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                done.fetch_add(1, Ordering::SeqCst);
                answers.push((number, answer));
            }
            answers
        });
    }
    for (after, how) in [(200, Stop::Fast), (600, Stop::Kill)] {
        while done.load(Ordering::SeqCst) < after {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        database.stop(how);
        database.start_again();
    }
    let answers: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    assert_eq!(answers.len(), 1280);
    let refused = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    println!("{refused} of {} were refused", answers.len());
    assert!(refused > 0, "the database was never away");

    wait_until(|| core.away().is_none()).await;
    core.execute(&Actor::Appliance, sight(9999)).await.expect("it goes on by itself");
    let times = sighted(&database.open().await).await;
    for (number, answer) in answers {
        let there = times.get(&numbered(number)).copied().unwrap_or(0);
        match answer {
            Ok(_) => assert_eq!(there, 1, "{number} was acknowledged"),
            Err(ExecuteError::Away(_) | ExecuteError::NotDurable(_)) => {
                assert_eq!(there, 0, "{number} was refused");
            }
            Err(error) => panic!("{number}: {error}"),
        }
    }
    assert_eq!(database.open().await.load().await.unwrap().fleet, *core.fleet());
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_machines_nodes_and_pages_are_answered_from_memory() {
    let mut database = Database::new(Kind::Postgres);
    let folder = tempfile::tempdir().unwrap();
    let site = example::site_on(folder.path(), database.open().await).await;
    let core = &site.app.core;
    let host = example::host(core, example::mac(2)).await;
    let auth = &site.app.auth;
    let (here, code) = (std::net::Ipv4Addr::LOCALHOST.into(), auth.code().unwrap());
    let token =
        auth.set_first_password(here, &code, "correct horse", auth::Client::Page, core::now()).await.unwrap();
    let router = web::router(site.app.clone());
    let ask = |method: &str, path: &str, body: &'static str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .unwrap();
        let answer = router.clone().oneshot(request);
        async move {
            let begun = Instant::now();
            let answer = answer.await.unwrap();
            let status = answer.status();
            let body = to_bytes(answer.into_body(), 10_000_000).await.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(4), "an answer took {:?}", begun.elapsed());
            (status, String::from_utf8(body.to_vec()).unwrap())
        }
    };

    database.stop(Stop::Kill);
    wait_until(|| core.away().is_some()).await;
    let (status, page) = ask("GET", "/", "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("The database is away"), "the page says so");
    let (status, state) = ask("GET", "/api/v1/state", "").await;
    assert!(status.is_success() && state.contains(&host.to_string()));
    let (status, refused) = ask("PUT", "/api/v1/policy", r#"{"adopt":"ask"}"#).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{refused}");
    assert!(refused.contains("the database is away"), "{refused}");
    let (status, _) = ask("GET", "/api/v1/machines/m1/timeline", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);

    let tokens = Arc::new(Tokens::made_from(b"secret"));
    let seen = Arc::new(dhcp::Seen::since(core::now()));
    let directory = dhcp::directory(core.clone(), tokens, seen, false);
    let known = asking(example::mac(2));
    let given = directory.commit(&known).await.unwrap();
    assert_eq!(Some(given.address), core.fleet().leases.address(example::mac(2)));
    let unknown = asking(example::mac(77));
    assert!(directory.commit(&unknown).await.is_err());
    // What a node says now is shown now, and kept when the database is back.
    example::join(core, host).await;

    database.start_again();
    wait_until(|| core.away().is_none()).await;
    let (status, _) = ask("PUT", "/api/v1/policy", r#"{"adopt":"ask"}"#).await;
    assert!(status.is_success(), "commands are taken again without anybody's help");
    directory.commit(&unknown).await.expect("and new machines get their addresses");
    assert!(!ask("GET", "/", "").await.1.contains("The database is away"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_asked_by_a_node_is_not_behind() {
    let database = Database::new(Kind::Postgres);
    found_site(&database).await;
    let (one, mut tasks_of_one) = start(database.open().await).await;
    let (two, mut tasks_of_two) = start(database.open().await).await;
    for number in 0..100 {
        one.execute(&Actor::Appliance, sight(number)).await.unwrap();
        two.catch_up().await;
        assert_eq!(two.position(), one.position());
    }
    tasks_of_one.shutdown().await;
    tasks_of_two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_to_one_daemon_is_known_to_the_other() {
    let database = Database::new(Kind::Postgres);
    let folder = tempfile::tempdir().unwrap();
    let site = example::site_on(folder.path(), database.open().await).await;
    let (other, mut tasks) = start(database.open().await).await;
    let host = example::host(&site.app.core, example::mac(2)).await;
    wait_until(|| other.observed().contains_key(&fleet::NodeId::Machine(host))).await;
    wait_until(|| other.fleet().hosts.contains_key(&host)).await;
    tasks.shutdown().await;
}

/// A client that sends DHCPREQUEST.
fn asking(mac: Mac) -> pxe::Sight {
    pxe::Sight {
        mac: pxe::MacAddr(mac.0),
        arch: Some(7),
        uuid: None,
        vendor_class: None,
        user_class: None,
        hostname: None,
        requested: None,
        relay: None,
        link: None,
    }
}

async fn wait_until(holds: impl Fn() -> bool) {
    let until = Instant::now() + example::PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "it does not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
