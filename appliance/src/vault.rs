//! Secrets that must be kept in the clear to be used, such as passwords of BMCs: sealed in the database by a key that
//! is not in it, and shown to nobody.

use std::fmt;
use std::path::Path;

use fleet::Timestamp;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::ca::{self, CaError};
use crate::store::{Store, StoreError, on_pool};

/// Text that is in no log, no error and no answer: it can be read in, and is written by whoever asks for it by name.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one who has to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    Key(#[from] CaError),
    #[error("{path} is not the key of this site's secrets: 64 hexadecimal digits; put it back from a backup")]
    NotAKey { path: String },
    #[error(
        "the secret {name:?} was sealed with another key than the one in seal-key: put the seal-key of the appliance \
         that sealed it into the folder `state` and start again, or give the secret anew after removing this one"
    )]
    OtherKey { name: String },
    #[error(
        "the secret {name:?} was altered or moved to this name in the database: remove it and give it anew"
    )]
    Altered { name: String },
    #[error("a secret could not be sealed")]
    Seal,
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub struct Vault {
    store: Store,
    key: LessSafeKey,
    key_id: String,
}

impl Vault {
    /// Reads the key from `path`, or makes it at the first start. Secrets that another key has sealed do not stop the
    /// start: they are refused one by one, when they are asked for.
    pub async fn open(store: Store, path: &Path) -> Result<Vault, VaultError> {
        if !path.exists() {
            ca::write(path, &hex::encode(rand::random::<[u8; 32]>()), 0o600)?;
        }
        let text = ca::read_secret(path)?;
        let key = hex::decode(text.trim())
            .ok()
            .and_then(|octets| UnboundKey::new(&CHACHA20_POLY1305, &octets).ok().map(|key| (key, octets)));
        let Some((key, octets)) = key else {
            return Err(VaultError::NotAKey { path: path.display().to_string() });
        };
        let digest = Sha256::new().chain_update("elisandra seal-key").chain_update(&octets).finalize();
        let key_id = hex::encode(digest)[..16].to_owned();
        let vault = Vault { store, key: LessSafeKey::new(key), key_id };
        if let Some(name) = vault.foreign().await? {
            tracing::error!("{}", VaultError::OtherKey { name });
        }
        Ok(vault)
    }

    /// Keeps a secret; what had the name before is gone.
    ///
    /// Refused while there are secrets of another key: two appliances on one database would each be unable to read
    /// what the other keeps.
    pub async fn put(&self, name: &str, secret: &Secret, now: Timestamp) -> Result<(), VaultError> {
        let sealed = self.seal(name, secret)?;
        let written = on_pool!(self.store.pool(), pool => {
            sqlx::query(
                "INSERT INTO secret (name, key, sealed, at)
                 SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM secret WHERE key <> $2)
                 ON CONFLICT (name) DO UPDATE SET key = excluded.key, sealed = excluded.sealed, at = excluded.at",
            )
            .bind(name)
            .bind(&self.key_id)
            .bind(sealed)
            .bind(now.0.cast_signed())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })
        .map_err(|source| StoreError::of("written", source))?;
        if written == 0 {
            let name = self.foreign().await?.unwrap_or_else(|| name.to_owned());
            return Err(VaultError::OtherKey { name });
        }
        Ok(())
    }

    pub async fn get(&self, name: &str) -> Result<Option<Secret>, VaultError> {
        let row: Option<(String, Vec<u8>)> = on_pool!(self.store.pool(), pool => {
            sqlx::query_as("SELECT key, sealed FROM secret WHERE name = $1").bind(name).fetch_optional(pool).await
        })
        .map_err(|source| StoreError::of("read", source))?;
        let Some((key_id, sealed)) = row else { return Ok(None) };
        if key_id != self.key_id {
            return Err(VaultError::OtherKey { name: name.to_owned() });
        }
        self.unseal(name, sealed).map(Some).ok_or_else(|| VaultError::Altered { name: name.to_owned() })
    }

    /// Whatever key it was sealed with.
    pub async fn remove(&self, name: &str) -> Result<(), VaultError> {
        on_pool!(self.store.pool(), pool => {
            sqlx::query("DELETE FROM secret WHERE name = $1").bind(name).execute(pool).await.map(drop)
        })
        .map_err(|source| StoreError::of("written", source))?;
        Ok(())
    }

    /// In the order of the alphabet.
    pub async fn names(&self) -> Result<Vec<String>, VaultError> {
        let mut names: Vec<String> = on_pool!(self.store.pool(), pool => {
            sqlx::query_scalar("SELECT name FROM secret").fetch_all(pool).await
        })
        .map_err(|source| StoreError::of("read", source))?;
        names.sort();
        Ok(names)
    }

    /// Those that begin with `prefix`, in the order of the alphabet.
    pub async fn named(&self, prefix: &str) -> Result<Vec<String>, VaultError> {
        let names: Vec<String> = on_pool!(self.store.pool(), pool => {
            sqlx::query_scalar("SELECT name FROM secret WHERE substr(name, 1, $2) = $1 ORDER BY name")
                .bind(prefix)
                .bind(i32::try_from(prefix.len()).unwrap_or(i32::MAX))
                .fetch_all(pool)
                .await
        })
        .map_err(|source| StoreError::of("read", source))?;
        Ok(names)
    }

    /// One that another key has sealed.
    async fn foreign(&self) -> Result<Option<String>, StoreError> {
        on_pool!(self.store.pool(), pool => {
            sqlx::query_scalar("SELECT name FROM secret WHERE key <> $1 ORDER BY name LIMIT 1")
                .bind(&self.key_id)
                .fetch_optional(pool)
                .await
        })
        .map_err(|source| StoreError::of("read", source))
    }

    fn seal(&self, name: &str, secret: &Secret) -> Result<Vec<u8>, VaultError> {
        // 96 random bits: a repetition is not to be feared before some billion secrets.
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut text = secret.reveal().as_bytes().to_vec();
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut text)
            .map_err(|_| VaultError::Seal)?;
        Ok([&nonce[..], &text, tag.as_ref()].concat())
    }

    fn unseal(&self, name: &str, mut sealed: Vec<u8>) -> Option<Secret> {
        let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.key.open_in_place(nonce, Aad::from(name), text).ok()?;
        String::from_utf8(text.to_vec()).ok().map(Secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles only while `Secret` cannot be serialized: it would be ambiguous otherwise.
    #[test]
    fn a_secret_is_not_shown_and_not_serialized() {
        trait NotSerialize<Mark> {
            fn holds() {}
        }
        struct Serializes;
        impl<T> NotSerialize<()> for T {}
        impl<T: serde::Serialize> NotSerialize<Serializes> for T {}
        <Secret as NotSerialize<_>>::holds();

        let secret: Secret = serde_json::from_str("\"planted-4711\"").unwrap();
        assert_eq!(secret.reveal(), "planted-4711");
        assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)).matches("planted").count(), 0);
    }
}
