//! Sessions: in the database, and in memory so that who is logged in stays so while the database is away.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fleet::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{AuthError, Client, MINUTE};
use crate::store::{Store, StoreError, on_pool};

/// A session that another daemon ended is known to be over here after so long, in milliseconds.
const FRESH: u64 = 2_000;

/// Use is written down when so many milliseconds have passed since it last was: a commit costs a write to the disk.
const NOTE_USE: u64 = 5 * MINUTE;

pub(super) struct Sessions {
    store: Store,
    /// By the sealed token.
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    person: String,
    client: Client,
    used_at: u64,
    ends_at: u64,
    /// When it was last seen in the database.
    read_at: u64,
}

type Columns = (String, String, String, i64, i64);

impl Sessions {
    pub async fn open(store: Store) -> Result<Sessions, AuthError> {
        let rows: Vec<Columns> = on_pool!(store.pool(), pool => {
            sqlx::query_as("SELECT token, person, client, used_at, ends_at FROM session").fetch_all(pool).await
        })
        .map_err(|source| StoreError::of("read", source))?;
        let known = rows.into_iter().map(|row| read(row, 0)).collect();
        Ok(Sessions { store, known: Mutex::new(known) })
    }

    /// Opens a session; returns its token.
    pub async fn begin(&self, person: &str, client: Client, now: Timestamp) -> Result<String, AuthError> {
        let failed = |source| StoreError::of("written", source);
        let token = new_token();
        let ends_at = now.0 + client.lasts();
        on_pool!(self.store.pool(), pool => {
            let mut transaction = pool.begin_with(self.store.pool().begin()).await.map_err(failed)?;
            sqlx::query("DELETE FROM session WHERE ends_at <= $1")
                .bind(now.0.cast_signed())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            sqlx::query(
                "INSERT INTO session (token, person, client, made_at, used_at, ends_at)
                 VALUES ($1, $2, $3, $4, $4, $5)",
            )
            .bind(sealed(&token))
            .bind(person)
            .bind(client.word())
            .bind(now.0.cast_signed())
            .bind(ends_at.cast_signed())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
            transaction.commit().await.map_err(failed)
        })?;
        let known = Known { person: person.to_owned(), client, used_at: now.0, ends_at, read_at: now.0 };
        let mut all = self.lock();
        all.retain(|_, session| session.ends_at > now.0);
        all.insert(sealed(&token), known);
        Ok(token)
    }

    pub async fn person(&self, token: &str, now: Timestamp) -> Result<Option<String>, AuthError> {
        let token = sealed(token);
        let remembered = self.lock().get(&token).cloned();
        let fresh = remembered.as_ref().is_some_and(|known| now.0.saturating_sub(known.read_at) < FRESH);
        let session = if fresh || self.store.away().is_some() {
            remembered
        } else {
            match self.read(&token, now).await {
                Ok(session) => session,
                // The database has just gone away; who was let in before still is.
                Err(AuthError::Store(error)) if error.is_away() && remembered.is_some() => remembered,
                Err(error) => return Err(error),
            }
        };
        let Some(session) = session.filter(|session| session.ends_at > now.0) else { return Ok(None) };
        if now.0.saturating_sub(session.used_at) > NOTE_USE && self.store.away().is_none() {
            self.note_use(&token, session.client, now).await?;
        }
        Ok(Some(session.person))
    }

    async fn read(&self, token: &str, now: Timestamp) -> Result<Option<Known>, AuthError> {
        let row: Option<Columns> = on_pool!(self.store.pool(), pool => {
            sqlx::query_as("SELECT token, person, client, used_at, ends_at FROM session WHERE token = $1")
                .bind(token)
                .fetch_optional(pool)
                .await
        })
        .map_err(|source| StoreError::of("read", source))?;
        let known = row.map(|row| read(row, now.0).1);
        let mut all = self.lock();
        match &known {
            Some(known) => all.insert(token.to_owned(), known.clone()),
            None => all.remove(token),
        };
        Ok(known)
    }

    async fn note_use(&self, token: &str, client: Client, now: Timestamp) -> Result<(), AuthError> {
        let ends_at = now.0 + client.lasts();
        on_pool!(self.store.pool(), pool => {
            sqlx::query("UPDATE session SET used_at = $2, ends_at = $3 WHERE token = $1")
                .bind(token)
                .bind(now.0.cast_signed())
                .bind(ends_at.cast_signed())
                .execute(pool)
                .await
                .map(drop)
        })
        .map_err(|source| StoreError::of("written", source))?;
        if let Some(known) = self.lock().get_mut(token) {
            known.used_at = now.0;
            known.ends_at = ends_at;
        }
        Ok(())
    }

    pub async fn end(&self, token: &str) -> Result<(), AuthError> {
        let token = sealed(token);
        on_pool!(self.store.pool(), pool => {
            sqlx::query("DELETE FROM session WHERE token = $1").bind(&token).execute(pool).await.map(drop)
        })
        .map_err(|source| StoreError::of("written", source))?;
        self.lock().remove(&token);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read((token, person, client, used_at, ends_at): Columns, now: u64) -> (String, Known) {
    let client = if client == Client::Console.word() { Client::Console } else { Client::Page };
    let known = Known {
        person,
        client,
        used_at: used_at.cast_unsigned(),
        ends_at: ends_at.cast_unsigned(),
        read_at: now,
    };
    (token, known)
}

/// The prefix tells a person, and a scanner for leaked secrets, what it is, and keeps a token from beginning with the
/// `-` of an option.
fn new_token() -> String {
    format!("eli_{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// What the table keeps of a token, so that nobody who reads the table can use it.
fn sealed(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}
