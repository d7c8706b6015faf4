//! The log on a real disk, on both kinds of database: what was acknowledged is there, commits are shared, several
//! daemons share one log, and a log that is not whole is not used.

use appliance::core::{self, Actor, Core, ExecuteError};
use appliance::store::{Pool, StoreError};
use fleet::Command;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, Kind};
use crate::machines::{found, sight};

/// Each test once on SQLite and once on PostgreSQL.
macro_rules! on_both {
    ($($(#[$about:meta])* async fn $name:ident($database:ident: &Database) $body:block)*) => {
        $($(#[$about])* async fn $name($database: &Database) $body)*
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&Database::new(Kind::Sqlite)).await;
            })*
        }
        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&Database::new(Kind::Postgres)).await;
            })*
        }
    };
}

/// A daemon's core on a database.
struct Daemon {
    core: Core,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Daemon {
    async fn start(database: &Database) -> Daemon {
        let mut tasks = JoinSet::new();
        let core = core::start(database.open().await, &mut tasks, CancellationToken::new()).await.unwrap();
        Daemon { core, tasks }
    }

    async fn give(&self, command: Command) -> Result<Vec<fleet::Event>, ExecuteError> {
        self.core.execute(&Actor::Appliance, command).await
    }

    /// As a crash ends it: nothing is written any more.
    async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.core.store().pool().close().await;
    }
}

on_both! {
    async fn two_hundred_machines_at_once_get_an_address_each_and_all_are_in_the_log(database: &Database) {
        let daemon = Daemon::start(database).await;
        daemon.give(found()).await.unwrap();
        let mut asking = JoinSet::new();
        for number in 0..200 {
            let core = daemon.core.clone();
            asking.spawn(async move { core.execute(&Actor::Appliance, sight(number)).await.unwrap().len() });
        }
        let events: Vec<usize> = asking.join_all().await;
        assert!(events.iter().all(|events| *events == 2), "an address and a machine each");
        let live = daemon.core.fleet();
        assert_eq!(live.leases.given.len(), 200);
        assert_eq!(daemon.core.position(), 401);
        daemon.stop().await;

        let loaded = database.open().await.load().await.unwrap();
        assert_eq!(loaded.fleet, *live);
        assert_eq!(loaded.position, 401);
    }

    async fn the_log_holds_orders_and_what_came_of_them(database: &Database) {
        let daemon = Daemon::start(database).await;
        daemon.give(found()).await.unwrap();
        let person = Actor::admin("ada");
        daemon.core.execute(&person, sight(7)).await.unwrap();
        let history = daemon.core.history(1, 100).await.unwrap();
        let kinds: Vec<&str> = history.iter().map(|record| record.kind.as_str()).collect();
        assert_eq!(kinds, ["lease.assigned", "machine.sighted"]);
        assert_eq!(history[0].command, Some(sight(7)), "the order stands at its first event");
        assert_eq!(history[1].command, None);
        assert!(history.iter().all(|record| record.actor == "ada"));
        assert_eq!(history[1].subject, "m1");
        daemon.stop().await;
    }

    async fn orders_that_belong_together_are_carried_out_together_or_not_at_all(database: &Database) {
        let daemon = Daemon::start(database).await;
        daemon.give(found()).await.unwrap();
        let refused = daemon.core.execute_all(&Actor::Appliance, vec![sight(1), sight(2), found()], None).await;
        assert!(matches!(refused, Err(ExecuteError::Refused(_))), "{refused:?}");
        assert_eq!((daemon.core.position(), daemon.core.fleet().machines.len()), (1, 0));
        let events = daemon.core.execute_all(&Actor::Appliance, vec![sight(1), sight(2)], None).await.unwrap();
        assert_eq!(events.len(), 4);
        assert_eq!(daemon.core.position(), 5);
        daemon.stop().await;
    }

    async fn the_past_can_be_asked_for_by_position_and_by_time(database: &Database) {
        let daemon = Daemon::start(database).await;
        daemon.give(found()).await.unwrap();
        for number in 0..20 {
            daemon.give(sight(number)).await.unwrap();
            if number == 9 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        let then = daemon.core.fleet_at(core::Moment::Position(21)).await.unwrap();
        assert_eq!((then.position, then.fleet.machines.len()), (21, 10));
        let tenth = daemon.core.history(20, 1).await.unwrap()[0].at;
        let then = daemon.core.fleet_at(core::Moment::Time(tenth)).await.unwrap();
        assert_eq!((then.position, then.fleet.machines.len()), (21, 10));
        let before = daemon.core.fleet_at(core::Moment::Time(fleet::Timestamp(5))).await.unwrap();
        assert_eq!((before.position, before.fleet.machines.len()), (0, 0));
        let later = daemon.core.fleet_at(core::Moment::Position(9999)).await.unwrap();
        assert_eq!(later.position, 41);
        daemon.stop().await;
    }

    async fn a_log_that_is_not_whole_is_refused_and_the_position_is_named(database: &Database) {
        let daemon = Daemon::start(database).await;
        for command in [found(), sight(1), sight(2)] {
            daemon.give(command).await.unwrap();
        }
        daemon.stop().await;
        let store = database.open().await;
        let undo = "UPDATE event SET position = position WHERE position = 0";
        for (damage, undo, sentence) in [
            (
                "UPDATE event SET position = 33 WHERE position = 3",
                "UPDATE event SET position = 3 WHERE position = 33",
                "the event log has a hole: after position 2 comes 4",
            ),
            (
                "UPDATE event SET version = 99, sum = NULL WHERE position = 2",
                "UPDATE event SET version = 1 WHERE position = 2",
                "position 2 of the event log cannot be read (version 99)",
            ),
            (
                "UPDATE event SET actor = 'nobody' WHERE position = 4",
                undo,
                "position 4 of the event log was altered",
            ),
            (
                "UPDATE event SET body = replace(body, '\"sighted\"', '\"sigh\"'), sum = NULL WHERE position = 3",
                undo,
                "position 3 of the event log cannot be read",
            ),
        ] {
            store.pool().run(damage).await.unwrap();
            let error = store.load().await.unwrap_err();
            assert!(error.to_string().contains(sentence), "{error}");
            store.pool().run(undo).await.unwrap();
        }
    }

    async fn a_start_reads_the_snapshot_and_replays_what_came_after_it(database: &Database) {
        let daemon = Daemon::start(database).await;
        daemon.give(found()).await.unwrap();
        for number in 0..50 {
            daemon.give(sight(number)).await.unwrap();
        }
        assert_eq!(daemon.core.save_snapshot().await.unwrap(), 101);
        for number in 50..60 {
            daemon.give(sight(number)).await.unwrap();
        }
        let live = daemon.core.fleet();
        daemon.stop().await;

        let store = database.open().await;
        let loaded = store.load().await.unwrap();
        assert_eq!((loaded.snapshot, loaded.position), (Some(101), 121));
        assert_eq!(loaded.fleet, *live);
        assert_eq!(fleet::state_hash(&loaded.fleet), fleet::state_hash(&live));
        store.audit(101, true).await.unwrap();
        // The past before the snapshot is still there.
        let then = store.load_until(21).await.unwrap();
        assert_eq!((then.snapshot, then.position, then.fleet.machines.len()), (None, 21, 10));
        // And after it, with it.
        let then = store.load_until(105).await.unwrap();
        assert_eq!((then.snapshot, then.position, then.fleet.machines.len()), (Some(101), 105, 52));
    }

    async fn a_snapshot_that_is_broken_or_of_another_version_is_left_aside(database: &Database) {
        let daemon = Daemon::start(database).await;
        daemon.give(found()).await.unwrap();
        daemon.give(sight(1)).await.unwrap();
        let live = daemon.core.fleet();
        let byte = match daemon.core.store().pool() {
            Pool::Sqlite(_) => {
                "UPDATE snapshot_part SET body = CAST(replace(CAST(body AS TEXT), '10.77.0.1', '10.77.0.2') AS BLOB)"
            }
            Pool::Postgres(_) => {
                "UPDATE snapshot_part
                 SET body = convert_to(replace(convert_from(body, 'UTF8'), '10.77.0.1', '10.77.0.2'), 'UTF8')"
            }
        };
        for damage in [
            byte,
            "UPDATE snapshot_part SET body = substr(body, 1, length(body) / 2)",
            "DELETE FROM snapshot_part WHERE part = 0",
            "UPDATE snapshot_part SET noun = 'unicorn' WHERE part = 0",
            "UPDATE snapshot SET version = 999",
            "UPDATE snapshot SET hash = 'no hash'",
        ] {
            daemon.core.save_snapshot().await.unwrap();
            let store = daemon.core.store();
            assert_eq!(store.load().await.unwrap().snapshot, Some(3), "good before: {damage}");
            store.pool().run(damage).await.unwrap();
            let loaded = store.load().await.unwrap();
            assert_eq!((loaded.snapshot, loaded.position), (None, 3), "{damage}");
            assert_eq!(loaded.fleet, *live);
        }
        daemon.stop().await;
    }

    async fn a_log_that_lost_its_end_or_was_altered_before_the_snapshot_is_found_out(database: &Database) {
        let daemon = Daemon::start(database).await;
        daemon.give(found()).await.unwrap();
        daemon.give(sight(1)).await.unwrap();
        daemon.core.save_snapshot().await.unwrap();
        let store = daemon.core.store();
        store.pool().run("UPDATE event SET actor = 'nobody' WHERE position = 2").await.unwrap();
        assert!(store.load().await.is_ok(), "a start with a snapshot does not look there");
        for state in [true, false] {
            let error = store.audit(3, state).await.unwrap_err();
            assert!(error.is_damage() && error.to_string().contains("position 2"), "{error}");
        }
        store.pool().run("DELETE FROM event WHERE position = 3").await.unwrap();
        let error = store.load().await.unwrap_err();
        assert!(error.to_string().contains("ends at position 2, but there is a snapshot of position 3"), "{error}");
        daemon.stop().await;
    }

    async fn a_row_added_by_hand_reaches_the_memory_of_every_daemon(database: &Database) {
        let daemon = Daemon::start(database).await;
        daemon.give(found()).await.unwrap();
        let mut fleet = daemon.core.watch_fleet();
        daemon
            .core
            .store()
            .pool()
            .run(
                "INSERT INTO event (position, at, actor, subject, kind, version, body)
                 SELECT max(position) + 1, 1700000000000, 'by hand', 'site', 'site.policy_set', 1,
                        '{\"noun\":\"site\",\"event\":\"policy_set\",\"policy\":{\"adopt\":\"ask\"}}'
                 FROM event",
            )
            .await
            .unwrap();
        let seen = fleet.wait_for(|head| head.fleet.policy.adopt == fleet::site::Adopt::Ask);
        tokio::time::timeout(crate::example::PATIENCE, seen).await.unwrap().unwrap();
        assert_eq!(daemon.core.position(), 2);
        // And what comes after it stands after it.
        daemon.give(sight(1)).await.unwrap();
        assert_eq!(daemon.core.position(), 4);
        daemon.stop().await;
        assert_eq!(database.open().await.load().await.unwrap().position, 4);
    }
}

#[tokio::test]
async fn when_the_disk_is_full_commands_are_refused_and_the_fleet_stays_as_it_was() {
    let database = Database::new(Kind::Sqlite);
    let daemon = Daemon::start(&database).await;
    let core = &daemon.core;
    core.execute(&Actor::Appliance, found()).await.unwrap();
    let Pool::Sqlite(pool) = core.store().pool() else { panic!() };
    // SQLite's own limit gives the same SQLITE_FULL as a disk without room.
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(pool).await.unwrap();
    for _ in 0..8 {
        sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 2)))
            .execute(pool)
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
        sqlx::query("PRAGMA max_page_count = 1000000").execute(pool).await.unwrap();
    }
    core.execute(&Actor::Appliance, sight(5000)).await.unwrap();
    daemon.stop().await;
}
