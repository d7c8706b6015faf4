//! The log on a real disk: what was acknowledged is there, commits are shared, and a log that is not whole is not used.

use std::path::Path;

use appliance::core::{self, Actor, Core, ExecuteError};
use appliance::store::{Store, StoreError};
use fleet::{Command, Mac};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

async fn core_on(path: &Path, tasks: &mut JoinSet<anyhow::Result<()>>) -> Core {
    let store = Store::open(path).await.unwrap();
    core::start(store, tasks, CancellationToken::new()).await.unwrap()
}

fn found() -> Command {
    Command::Found {
        site: uuid::Uuid::from_u128(1),
        network: "10.77.0.0/16".parse().unwrap(),
        address: "10.77.0.1".parse().unwrap(),
        domain: "elisandra".into(),
    }
}

fn sight(number: u32) -> Command {
    let [_, a, b, c] = number.to_be_bytes();
    Command::Sight { mac: Mac([2, 0, 0, a, b, c]), arch: Some(0), uuid: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_machines_at_once_get_an_address_each_and_all_are_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.sqlite");
    let mut tasks = JoinSet::new();
    let core = core_on(&path, &mut tasks).await;
    core.execute(&Actor::Appliance, found()).await.unwrap();
    let mut asking = JoinSet::new();
    for number in 0..200 {
        let core = core.clone();
        asking.spawn(async move { core.execute(&Actor::Appliance, sight(number)).await.unwrap().len() });
    }
    let events: Vec<usize> = asking.join_all().await;
    assert!(events.iter().all(|events| *events == 2), "an address and a machine each");
    let live = core.fleet();
    assert_eq!(live.leases.by_address.len(), 200);
    tasks.shutdown().await;
    drop(core);

    let (replayed, last) = Store::open(&path).await.unwrap().load().await.unwrap();
    assert_eq!(replayed, *live);
    assert_eq!(last, 401);
}

#[tokio::test]
async fn a_log_that_is_not_whole_is_refused_and_the_position_is_named() {
    for (damage, sentence) in [
        ("DELETE FROM event WHERE position = 3", "the event log has a hole: after position 2 comes 4"),
        (
            "UPDATE event SET version = 99 WHERE position = 2",
            "position 2 of the event log cannot be read (version 99)",
        ),
        (
            "UPDATE event SET body = replace(body, '\"sighted\"', '\"sigh\"') WHERE position = 3",
            "position 3 of the event log cannot be read",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.sqlite");
        let mut tasks = JoinSet::new();
        let core = core_on(&path, &mut tasks).await;
        for command in [found(), sight(1), sight(2)] {
            core.execute(&Actor::Appliance, command).await.unwrap();
        }
        sqlx::query(damage).execute(core.pool()).await.unwrap();
        tasks.shutdown().await;
        let error = Store::open(&path).await.unwrap().load().await.unwrap_err();
        assert!(error.to_string().contains(sentence), "{error}");
    }
}

#[tokio::test]
async fn when_the_disk_is_full_commands_are_refused_and_the_fleet_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.sqlite");
    let store = Store::open(&path).await.unwrap();
    let mut tasks = JoinSet::new();
    let core = core::start(store, &mut tasks, CancellationToken::new()).await.unwrap();
    core.execute(&Actor::Appliance, found()).await.unwrap();
    // SQLite's own limit gives the same SQLITE_FULL as a disk without room.
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(core.pool()).await.unwrap();
    for _ in 0..8 {
        sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 2)))
            .execute(core.pool())
            .await
            .unwrap();
    }
    let mut refused = None;
    for number in 0..1000 {
        let before = core.fleet();
        if let Err(error) = core.execute(&Actor::Appliance, sight(number)).await {
            assert_eq!(*core.fleet(), *before);
            refused = Some(error);
            break;
        }
    }
    let Some(ExecuteError::NotDurable(source)) = refused else { panic!("{refused:?}") };
    assert!(matches!(*source, StoreError::Database { .. }), "{source}");
    // With room again it goes on by itself.
    for _ in 0..8 {
        sqlx::query("PRAGMA max_page_count = 1000000").execute(core.pool()).await.unwrap();
    }
    core.execute(&Actor::Appliance, sight(5000)).await.unwrap();
    tasks.shutdown().await;
}
