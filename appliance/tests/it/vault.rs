//! Secrets in the database, on both kinds of it: sealed, and refused where they are not what they were.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::database::{Database, Kind};
use appliance::store::{Pool, Store};
use appliance::vault::{Secret, Vault, VaultError};
use fleet::Timestamp;

const PLANTED: &str = "planted-4711";

async fn open(store: &Store, folder: &Path) -> Result<Vault, VaultError> {
    Vault::open(store.clone(), &folder.join("seal-key")).await
}

async fn kept_moved_and_of_another_key(database: &Database) {
    let store = database.open().await;
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = Secret::new(PLANTED);

    let vault = open(&store, folder.path()).await.unwrap();
    assert!(vault.get("bmc/a").await.unwrap().is_none());
    vault.put("bmc/b", &Secret::new("older"), Timestamp(1)).await.unwrap();
    vault.put("bmc/b", &secret, Timestamp(2)).await.unwrap();
    vault.put("bmc/a", &Secret::new(""), Timestamp(3)).await.unwrap();
    assert_eq!(vault.names().await.unwrap(), ["bmc/a", "bmc/b"]);

    // Another start has the same key.
    let vault = open(&store, folder.path()).await.unwrap();
    assert_eq!(vault.get("bmc/b").await.unwrap().unwrap().reveal(), PLANTED);
    assert_eq!(vault.get("bmc/a").await.unwrap().unwrap().reveal(), "");

    // A row moved to another name: nobody is given another's password.
    store.pool().run("UPDATE secret SET name = 'bmc/c' WHERE name = 'bmc/b'").await.unwrap();
    let moved = vault.get("bmc/c").await.unwrap_err().to_string();
    assert!(moved.contains("\"bmc/c\" was altered or moved") && moved.contains("give it anew"), "{moved}");
    let shorter = match store.pool() {
        Pool::Sqlite(_) => "UPDATE secret SET sealed = x'00' WHERE name = 'bmc/c'",
        Pool::Postgres(_) => "UPDATE secret SET sealed = '\\x00' WHERE name = 'bmc/c'",
    };
    store.pool().run(shorter).await.unwrap();
    assert!(matches!(vault.get("bmc/c").await, Err(VaultError::Altered { .. })));
    vault.remove("bmc/c").await.unwrap();

    // An appliance whose key is lost starts, says so, and goes on when the old secrets are removed.
    let other = open(&store, elsewhere.path()).await.unwrap();
    let refused = other.get("bmc/a").await.unwrap_err().to_string();
    assert!(refused.contains("another key") && refused.contains("into the folder `state`"), "{refused}");
    let refused = other.put("bmc/d", &secret, Timestamp(4)).await.unwrap_err().to_string();
    assert!(refused.contains("\"bmc/a\" was sealed with another key"), "{refused}");
    other.remove("bmc/a").await.unwrap();
    other.put("bmc/d", &secret, Timestamp(4)).await.unwrap();
    assert_eq!(other.get("bmc/d").await.unwrap().unwrap().reveal(), PLANTED);
    assert!(matches!(vault.get("bmc/d").await, Err(VaultError::OtherKey { .. })));
    store.pool().close().await;
}

#[tokio::test]
async fn secrets_are_kept_and_refused_on_sqlite() {
    let database = Database::new(Kind::Sqlite);
    kept_moved_and_of_another_key(&database).await;
    for file in std::fs::read_dir(database.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(PLANTED.len()).any(|part| part == PLANTED.as_bytes()));
    }
}

#[tokio::test]
async fn secrets_are_kept_and_refused_on_postgres() {
    kept_moved_and_of_another_key(&Database::new(Kind::Postgres)).await;
}

#[tokio::test]
async fn a_key_that_others_may_read_or_that_is_none_stops_the_start() {
    let database = Database::new(Kind::Sqlite);
    let store = database.open().await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("seal-key");
    open(&store, folder.path()).await.unwrap();
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let refused = async || open(&store, folder.path()).await.map(drop).unwrap_err().to_string();

    set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert!(refused().await.contains("(mode 0644); chmod 600"), "{}", refused().await);
    set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, "").unwrap();
    assert!(refused().await.contains("is empty; put it back"), "{}", refused().await);
    std::fs::write(&key, "abcd").unwrap();
    assert!(refused().await.contains("64 hexadecimal digits"), "{}", refused().await);
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    set_permissions(&key, Permissions::from_mode(0o700)).unwrap();
    assert!(refused().await.starts_with("reading "), "{}", refused().await);
}
