//! The database: SQLite beside the daemon, or PostgreSQL. The same statements run on both.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

use super::{StoreError, migrations};

#[derive(Debug, Clone)]
pub enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs the same code on either kind of pool: `on_pool!(&pool, p => sqlx::query("…").execute(p).await)`.
macro_rules! on_pool {
    ($pool:expr, $inner:ident => $body:expr) => {
        match $pool {
            $crate::store::Pool::Sqlite($inner) => $body,
            $crate::store::Pool::Postgres($inner) => $body,
        }
    };
}
pub(crate) use on_pool;

/// How long a statement may wait for a connection before the database counts as away.
const ACQUIRE: Duration = Duration::from_secs(2);

/// A connection that was not used for so long is asked whether it still is one.
const IDLE: Duration = Duration::from_millis(500);

impl Pool {
    /// Opens the file, made if it is not there. `synchronous=FULL` in WAL mode: a commit that returned is on the disk.
    pub(super) async fn sqlite(path: &Path) -> Result<Pool, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .auto_vacuum(SqliteAutoVacuum::None)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            // A full disk makes SQLite roll back by itself; sqlx, whose own rollback fails then, would refuse every
            // further BEGIN on that connection.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options)
            .await
            .map_err(|source| StoreError::of("opened", source))?;
        Migrator::new(migrations::SQLITE).await?.run(&pool).await?;
        Ok(Pool::Sqlite(pool))
    }

    /// Connects to `postgres://user:password@host:port/database`; several daemons may use one database.
    pub(super) async fn postgres(url: &str) -> Result<Pool, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|source| StoreError::of("opened", source))?
            .application_name("elisandra")
            // A site's default must not make a commit that returned less than durable.
            .options([("synchronous_commit", "on")]);
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(ACQUIRE)
            // Asking costs a round trip: only what has been idle may have been cut off unnoticed.
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    if used.idle_for >= IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(options)
            .await
            .map_err(|source| StoreError::of("opened", source))?;
        Migrator::new(migrations::POSTGRES).await?.run(&pool).await?;
        let fsync: String = sqlx::query_scalar("SHOW fsync")
            .fetch_one(&pool)
            .await
            .map_err(|source| StoreError::of("opened", source))?;
        if fsync == "off" {
            tracing::warn!("This PostgreSQL server runs with fsync=off: a power cut can lose the log");
        }
        Ok(Pool::Postgres(pool))
    }

    /// How a transaction that writes begins. On SQLite a plain BEGIN that reads first loses its place to another writer.
    pub(crate) fn begin(&self) -> &'static str {
        match self {
            Pool::Sqlite(_) => "BEGIN IMMEDIATE",
            Pool::Postgres(_) => "BEGIN",
        }
    }

    /// Runs one statement without arguments.
    pub async fn run(&self, statement: impl sqlx::SqlSafeStr) -> Result<(), sqlx::Error> {
        let statement = statement.into_sql_str();
        on_pool!(self, pool => sqlx::raw_sql(statement).execute(pool).await.map(drop))
    }

    pub async fn close(&self) {
        on_pool!(self, pool => pool.close().await);
    }
}
