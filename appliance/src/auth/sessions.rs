//! Sessions: in the database, and in memory so that who is logged in stays so while the database is away.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fleet::Timestamp;
use fleet::scope::Scope;
use fleet::user::Role;
use sha2::{Digest as _, Sha256};
use sqlx::AssertSqlSafe;

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

/// One that was opened, as its token finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// For people and for ending it; the token cannot be made from it.
    pub id: String,
    pub person: String,
    pub client: Client,
    /// What a token was made for.
    pub name: Option<String>,
    /// May not do more than this, whatever its person may.
    pub role: Option<Role>,
    /// Is for this only.
    pub scope: Option<Scope>,
    /// The address that it was opened from.
    pub origin: Option<String>,
    pub made_at: Timestamp,
    pub used_at: Timestamp,
    pub ends_at: Timestamp,
}

/// One that is to be opened.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub person: String,
    pub client: Client,
    pub name: Option<String>,
    pub role: Option<Role>,
    pub scope: Option<Scope>,
    pub origin: Option<String>,
    pub ends_at: Timestamp,
}

#[derive(Debug, Clone)]
struct Known {
    session: Session,
    /// When it was last seen in the database.
    read_at: u64,
}

type Columns =
    (String, String, String, Option<String>, Option<String>, Option<String>, Option<String>, i64, i64, i64);

const COLUMNS: &str =
    "SELECT token, person, client, name, role, scope, origin, made_at, used_at, ends_at FROM session";

impl Sessions {
    pub async fn open(store: Store) -> Result<Sessions, AuthError> {
        let rows: Vec<Columns> = on_pool!(store.pool(), pool => {
            sqlx::query_as(COLUMNS).fetch_all(pool).await
        })
        .map_err(|source| StoreError::of("read", source))?;
        let known =
            rows.into_iter().map(|row| (row.0.clone(), Known { session: read(row), read_at: 0 })).collect();
        Ok(Sessions { store, known: Mutex::new(known) })
    }

    /// Opens a session; returns its token.
    pub async fn begin(&self, new: NewSession, now: Timestamp) -> Result<String, AuthError> {
        let failed = |source| StoreError::of("written", source);
        let token = new_token();
        let kept = sealed(&token);
        let NewSession { person, client, name, role, scope, origin, ends_at } = new;
        on_pool!(self.store.pool(), pool => {
            let mut transaction = pool.begin_with(self.store.pool().begin()).await.map_err(failed)?;
            sqlx::query("DELETE FROM session WHERE ends_at <= $1")
                .bind(now.0.cast_signed())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            sqlx::query(
                "INSERT INTO session (token, person, client, name, role, scope, origin, made_at, used_at, ends_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)",
            )
            .bind(&kept)
            .bind(&person)
            .bind(client.word())
            .bind(&name)
            .bind(role.map(Role::word))
            .bind(scope.as_ref().map(Scope::to_string))
            .bind(&origin)
            .bind(now.0.cast_signed())
            .bind(ends_at.0.cast_signed())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
            transaction.commit().await.map_err(failed)
        })?;
        let id = id_of(&kept);
        let session =
            Session { id, person, client, name, role, scope, origin, made_at: now, used_at: now, ends_at };
        let mut all = self.lock();
        all.retain(|_, known| known.session.ends_at > now);
        all.insert(kept, Known { session, read_at: now.0 });
        Ok(token)
    }

    pub async fn find(&self, token: &str, now: Timestamp) -> Result<Option<Session>, AuthError> {
        let token = sealed(token);
        let remembered = self.lock().get(&token).cloned();
        let fresh = remembered.as_ref().is_some_and(|known| now.0.saturating_sub(known.read_at) < FRESH);
        let known = if fresh || self.store.away().is_some() {
            remembered
        } else {
            match self.read(&token, now).await {
                Ok(known) => known,
                // The database has just gone away; who was let in before still is.
                Err(AuthError::Store(error)) if error.is_away() && remembered.is_some() => remembered,
                Err(error) => return Err(error),
            }
        };
        let Some(session) = known.map(|known| known.session).filter(|session| session.ends_at > now) else {
            return Ok(None);
        };
        if now.0.saturating_sub(session.used_at.0) > NOTE_USE && self.store.away().is_none() {
            self.note_use(&token, &session, now).await?;
        }
        Ok(Some(session))
    }

    async fn read(&self, token: &str, now: Timestamp) -> Result<Option<Known>, AuthError> {
        let row: Option<Columns> = on_pool!(self.store.pool(), pool => {
            sqlx::query_as(AssertSqlSafe(format!("{COLUMNS} WHERE token = $1"))).bind(token).fetch_optional(pool).await
        })
        .map_err(|source| StoreError::of("read", source))?;
        let known = row.map(|row| Known { session: read(row), read_at: now.0 });
        let mut all = self.lock();
        match &known {
            Some(known) => all.insert(token.to_owned(), known.clone()),
            None => all.remove(token),
        };
        Ok(known)
    }

    async fn note_use(&self, token: &str, session: &Session, now: Timestamp) -> Result<(), AuthError> {
        let ends_at = session.client.lasts().map_or(session.ends_at, |lasts| Timestamp(now.0 + lasts));
        on_pool!(self.store.pool(), pool => {
            sqlx::query("UPDATE session SET used_at = $2, ends_at = $3 WHERE token = $1")
                .bind(token)
                .bind(now.0.cast_signed())
                .bind(ends_at.0.cast_signed())
                .execute(pool)
                .await
                .map(drop)
        })
        .map_err(|source| StoreError::of("written", source))?;
        if let Some(known) = self.lock().get_mut(token) {
            known.session.used_at = now;
            known.session.ends_at = ends_at;
        }
        Ok(())
    }

    /// Those that are not over, of one person or of all, the one used last first.
    pub async fn list(&self, person: Option<&str>, now: Timestamp) -> Result<Vec<Session>, AuthError> {
        let rows: Vec<Columns> = on_pool!(self.store.pool(), pool => {
            sqlx::query_as(AssertSqlSafe(format!(
                "{COLUMNS} WHERE ends_at > $1 AND ($2 IS NULL OR person = $2) ORDER BY used_at DESC, token"
            )))
            .bind(now.0.cast_signed())
            .bind(person)
            .fetch_all(pool)
            .await
        })
        .map_err(|source| StoreError::of("read", source))?;
        Ok(rows.into_iter().map(read).collect())
    }

    pub async fn end(&self, token: &str) -> Result<(), AuthError> {
        self.end_by_id(&id_of(&sealed(token))).await
    }

    pub async fn end_by_id(&self, id: &str) -> Result<(), AuthError> {
        on_pool!(self.store.pool(), pool => {
            sqlx::query("DELETE FROM session WHERE substr(token, 1, 16) = $1").bind(id).execute(pool).await.map(drop)
        })
        .map_err(|source| StoreError::of("written", source))?;
        self.lock().retain(|_, known| known.session.id != id);
        Ok(())
    }

    /// All of a person's but the one of this token.
    pub async fn end_others(&self, person: &str, token: Option<&str>) -> Result<(), AuthError> {
        let kept = token.map(sealed).unwrap_or_default();
        on_pool!(self.store.pool(), pool => {
            sqlx::query("DELETE FROM session WHERE person = $1 AND token <> $2")
                .bind(person)
                .bind(&kept)
                .execute(pool)
                .await
                .map(drop)
        })
        .map_err(|source| StoreError::of("written", source))?;
        self.lock().retain(|token, known| known.session.person != person || *token == kept);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read((token, person, client, name, role, scope, origin, made_at, used_at, ends_at): Columns) -> Session {
    let time = |at: i64| Timestamp(at.cast_unsigned());
    Session {
        id: id_of(&token),
        person,
        client: Client::of_word(&client),
        name,
        // A role that this version does not know gives no more than the least.
        role: role.map(|role| role.parse().unwrap_or(Role::Viewer)),
        // As with a role: words that this version does not know let nothing be done.
        scope: scope.map(|words| words.parse().unwrap_or_else(|_| Scope::nothing())),
        origin,
        made_at: time(made_at),
        used_at: time(used_at),
        ends_at: time(ends_at),
    }
}

fn id_of(sealed: &str) -> String {
    sealed.chars().take(16).collect()
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
