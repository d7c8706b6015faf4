//! The steps by which a database comes to the layout that this program reads. They are part of the program.
//!
//! `sqlx::migrate!` would read the folder itself, but by it sqlx, SQLite and a TLS library are compiled a second time,
//! for the compiler's own use.

use futures::future::BoxFuture;
use sqlx::SqlSafeStr as _;
use sqlx::error::BoxDynError;
use sqlx::migrate::{Migration, MigrationSource, MigrationType};

/// The names of files, and what is in them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps(&'static [(&'static str, &'static str)]);

macro_rules! steps {
    ($folder:literal: $($name:literal),+) => {
        Steps(&[$(($name, include_str!(concat!("../../../migrations/", $folder, "/", $name, ".sql")))),+])
    };
}

pub(super) const SQLITE: Steps = steps!(
    "sqlite": "0001_log", "0002_auth", "0003_log", "0004_users", "0005_secrets", "0006_scope", "0007_webhooks"
);

pub(super) const POSTGRES: Steps = steps!(
    "postgres": "0001_log", "0002_auth", "0003_users", "0004_secrets", "0005_scope", "0006_webhooks"
);

impl MigrationSource<'static> for Steps {
    fn resolve(self) -> BoxFuture<'static, Result<Vec<Migration>, BoxDynError>> {
        Box::pin(async move { self.0.iter().map(|(name, sql)| migration(name, sql)).collect() })
    }
}

/// As sqlx makes it of such a file: what stands in a database was made by that.
fn migration(name: &str, sql: &'static str) -> Result<Migration, BoxDynError> {
    let (number, description) =
        name.split_once('_').ok_or("a step's name is a number, _ and a description")?;
    Ok(Migration::new(
        number.parse()?,
        description.replace('_', " ").into(),
        MigrationType::Simple,
        sql.into_sql_str(),
        false,
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A database that was made by sqlx's own reading of the folder is taken, and no file is left out.
    #[tokio::test]
    async fn the_steps_are_the_files_as_sqlx_reads_them() {
        for (folder, steps) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(folder);
            let read = |of: Vec<Migration>| {
                let of = of.into_iter();
                of.map(|one| (one.version, one.description, one.checksum, one.no_tx)).collect::<Vec<_>>()
            };
            assert_eq!(read(steps.resolve().await.unwrap()), read(path.as_path().resolve().await.unwrap()));
        }
    }
}
