//! Who may speak to the page and the REST API: the first password, logins and sessions.
//!
//! A site starts without a password. The appliance then holds a one-time code in memory, made anew at each
//! start and shown on its own console; whoever stands before the machine sets the password with it. From
//! then on a password opens a session, and everything is asked for with a session's token: as a cookie by
//! the page, as `Authorization: Bearer` by `eli` and scripts.

mod hashing;
mod sessions;
mod tries;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use fleet::Timestamp;
use fleet::scope::Scope;
use fleet::user::{self, Role, User};
use rand::seq::IndexedRandom as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

pub use sessions::Session;

use crate::store::{Store, StoreError, on_pool};
use hashing::Hashing;
use sessions::{NewSession, Sessions};
use tries::Tries;

/// The longest that a token for a program is good for, in days.
pub const LONGEST_TOKEN: u64 = 3650;

const SHORTEST_PASSWORD: usize = 8;
/// Longer input is not a password but an attempt to keep the hash function busy.
const LONGEST_PASSWORD: usize = 1024;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

/// No 0 and O, no 1, I and L, no U and V: nothing that is misread from a screen across the room.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKMNPQRSTWXYZ";

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("that is not the code on the appliance's screen")]
    WrongCode,
    #[error("the name or the password is wrong")]
    WrongPassword,
    /// Of one address, or for one name from everywhere.
    #[error("too many wrong tries; wait {wait_secs} s")]
    TooManyTries { wait_secs: u64 },
    #[error("too many log in at once; try again in a moment")]
    Busy,
    #[error("a password is set already; log in with it")]
    AlreadySet,
    #[error("no password is set yet; set it with the code on the appliance's screen")]
    NotSet,
    #[error("a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")]
    UnusablePassword,
    #[error("a token is good for 1 to {LONGEST_TOKEN} days")]
    UnusableDays,
    #[error("the password's hash could not be made or read: {0}")]
    Hash(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a session is used by; it decides how long it lasts without being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Page,
    Console,
    /// A program, by a token that a person made for it.
    Program,
}

impl Client {
    pub fn word(self) -> &'static str {
        match self {
            Client::Page => "page",
            Client::Console => "console",
            Client::Program => "program",
        }
    }

    fn of_word(word: &str) -> Client {
        let all = [Client::Page, Client::Console, Client::Program];
        all.into_iter().find(|client| client.word() == word).unwrap_or(Client::Page)
    }

    /// Milliseconds a session outlives its last use; none where use does not prolong it.
    pub fn lasts(self) -> Option<u64> {
        match self {
            Client::Page => Some(7 * DAY),
            Client::Console => Some(90 * DAY),
            Client::Program => None,
        }
    }
}

/// A token that is to be made for a program.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub name: String,
    pub role: Role,
    pub scope: Option<Scope>,
    pub days: u64,
}

pub struct Auth {
    store: Store,
    sessions: Sessions,
    code: watch::Sender<Option<String>>,
    tries: Mutex<Tries>,
    hashing: Hashing,
}

impl Auth {
    /// Makes a one-time code if the built-in user has no password.
    pub async fn open(store: Store) -> Result<Auth, AuthError> {
        let set: i64 = on_pool!(store.pool(), pool => {
            sqlx::query_scalar("SELECT count(*) FROM password WHERE person = $1").bind(user::FIRST).fetch_one(pool).await
        })
        .map_err(|source| StoreError::of("read", source))?;
        let code = (set == 0).then(one_time_code);
        Ok(Auth {
            sessions: Sessions::open(store.clone()).await?,
            store,
            code: watch::Sender::new(code),
            tries: Mutex::new(Tries::default()),
            hashing: Hashing::start()?,
        })
    }

    /// The code to show on the console, `None` once a password is set.
    pub fn code(&self) -> Option<String> {
        self.code.borrow().clone()
    }

    /// Tells when the code is used up.
    pub fn watch_code(&self) -> watch::Receiver<Option<String>> {
        self.code.subscribe()
    }

    /// Sets the first password and opens a session; returns the session's token. The code works once.
    pub async fn set_first_password(
        &self,
        from: IpAddr,
        code: &str,
        password: &str,
        client: Client,
        now: Timestamp,
    ) -> Result<String, AuthError> {
        let Some(right) = self.code() else { return Err(AuthError::AlreadySet) };
        self.tries(from, user::FIRST, now)?;
        // Hashes are compared so that the time it takes says nothing about the code.
        if Sha256::digest(plain(code)) != Sha256::digest(plain(&right)) {
            return Err(AuthError::WrongCode);
        }
        // Whoever has the code is no guesser, whatever comes of the rest.
        self.was_right(from, user::FIRST, now);
        let hash = self.hashed(password).await?;
        let set = on_pool!(self.store.pool(), pool => {
            sqlx::query(
                "INSERT INTO password (person, hash, set_at)
                 SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM password WHERE person = $1) ON CONFLICT DO NOTHING",
            )
            .bind(user::FIRST)
            .bind(hash)
            .bind(now.0.cast_signed())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
        })
        .map_err(|source| StoreError::of("written", source))?;
        self.code.send_replace(None);
        if set == 0 {
            return Err(AuthError::AlreadySet);
        }
        self.begin(user::FIRST, from, client, now).await
    }

    /// A new one-time code, for somebody who stands before the machine. The password of the built-in user is gone, and
    /// who was logged in with it is not any more; other users are as they were.
    pub async fn reset_first_password(&self) -> Result<String, AuthError> {
        on_pool!(self.store.pool(), pool => {
            sqlx::query("DELETE FROM password WHERE person = $1").bind(user::FIRST).execute(pool).await.map(drop)
        })
        .map_err(|source| StoreError::of("written", source))?;
        self.sessions.end_others(user::FIRST, None).await?;
        let code = one_time_code();
        self.code.send_replace(Some(code.clone()));
        Ok(code)
    }

    /// Opens a session; returns its token. With the name that was given is who has it, if anybody has.
    pub async fn login(
        &self,
        from: IpAddr,
        (name, user): (&str, Option<&User>),
        password: &str,
        client: Client,
        now: Timestamp,
    ) -> Result<String, AuthError> {
        if self.code().is_some() && name == user::FIRST {
            return Err(AuthError::NotSet);
        }
        self.check(from, (name, user), password, now).await?;
        let Some(user) = user else { return Err(AuthError::WrongPassword) };
        self.begin(&user.name, from, client, now).await
    }

    /// Whether the password is this user's. As slow for a name that nobody has; who guesses has to wait.
    async fn check(
        &self,
        from: IpAddr,
        (name, user): (&str, Option<&User>),
        password: &str,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        self.tries(from, name, now)?;
        let known = match user {
            Some(user) => self.hash_of(user).await?,
            None => None,
        };
        let right = if password.chars().count() > LONGEST_PASSWORD {
            false
        } else {
            match known {
                Some(hash) => self.hashing.verify(password, hash).await?,
                None => {
                    self.hashing.hash(password).await?;
                    false
                }
            }
        };
        if !right {
            return Err(AuthError::WrongPassword);
        }
        self.was_right(from, name, now);
        Ok(())
    }

    async fn hash_of(&self, user: &User) -> Result<Option<String>, AuthError> {
        let hash = on_pool!(self.store.pool(), pool => {
            sqlx::query_scalar("SELECT hash FROM password WHERE person = $1 AND set_at >= $2")
                .bind(&user.name)
                .bind(user.added.0.cast_signed())
                .fetch_optional(pool)
                .await
        });
        Ok(hash.map_err(|source| StoreError::of("read", source))?)
    }

    /// By name, since when each has its password. One from before its user was added is another's.
    pub async fn passwords(&self) -> Result<HashMap<String, Timestamp>, AuthError> {
        let rows: Vec<(String, i64)> = on_pool!(self.store.pool(), pool => {
            sqlx::query_as("SELECT person, set_at FROM password").fetch_all(pool).await
        })
        .map_err(|source| StoreError::of("read", source))?;
        Ok(rows.into_iter().map(|(person, at)| (person, Timestamp(at.cast_unsigned()))).collect())
    }

    /// Sets a user's password; whoever was logged in as this user is not any more, but for the session of `kept`.
    pub async fn set_password(
        &self,
        user: &User,
        password: &str,
        kept: Option<&str>,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        let hash = self.hashed(password).await?;
        on_pool!(self.store.pool(), pool => {
            sqlx::query(
                "INSERT INTO password (person, hash, set_at) VALUES ($1, $2, $3)
                 ON CONFLICT (person) DO UPDATE SET hash = $2, set_at = $3",
            )
            .bind(&user.name)
            .bind(hash)
            .bind(now.0.cast_signed())
            .execute(pool)
            .await
            .map(drop)
        })
        .map_err(|source| StoreError::of("written", source))?;
        self.sessions.end_others(&user.name, kept).await
    }

    /// A person's own: with the old one, so that an open page left alone is not enough.
    pub async fn change_password(
        &self,
        from: IpAddr,
        user: &User,
        (old, new): (&str, &str),
        kept: Option<&str>,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        self.check(from, (&user.name, Some(user)), old, now).await?;
        self.set_password(user, new, kept, now).await
    }

    async fn hashed(&self, password: &str) -> Result<String, AuthError> {
        if !(SHORTEST_PASSWORD..=LONGEST_PASSWORD).contains(&password.chars().count()) {
            return Err(AuthError::UnusablePassword);
        }
        self.hashing.hash(password).await
    }

    async fn begin(
        &self,
        person: &str,
        from: IpAddr,
        client: Client,
        now: Timestamp,
    ) -> Result<String, AuthError> {
        let new = NewSession {
            person: person.to_owned(),
            client,
            name: None,
            role: None,
            scope: None,
            origin: Some(from.to_string()),
            ends_at: Timestamp(now.0 + client.lasts().unwrap_or_default()),
        };
        self.sessions.begin(new, now).await
    }

    /// A token for a program, good for some days whether it is used or not.
    pub async fn make_token(
        &self,
        from: IpAddr,
        person: &str,
        NewToken { name, role, scope, days }: NewToken,
        now: Timestamp,
    ) -> Result<String, AuthError> {
        if !(1..=LONGEST_TOKEN).contains(&days) {
            return Err(AuthError::UnusableDays);
        }
        let new = NewSession {
            person: person.to_owned(),
            client: Client::Program,
            name: Some(name),
            role: Some(role),
            scope,
            origin: Some(from.to_string()),
            ends_at: Timestamp(now.0 + days * DAY),
        };
        self.sessions.begin(new, now).await
    }

    /// The session of this token; none if it is unknown or over.
    pub async fn session(&self, token: &str, now: Timestamp) -> Result<Option<Session>, AuthError> {
        self.sessions.find(token, now).await
    }

    /// The sessions of a person, or of all.
    pub async fn sessions(&self, person: Option<&str>, now: Timestamp) -> Result<Vec<Session>, AuthError> {
        self.sessions.list(person, now).await
    }

    /// Ends the session of this token.
    pub async fn logout(&self, token: &str) -> Result<(), AuthError> {
        self.sessions.end(token).await
    }

    /// Ends a session of somebody.
    pub async fn revoke(&self, id: &str) -> Result<(), AuthError> {
        self.sessions.end_by_id(id).await
    }

    /// Whether a refusal of a caller without a session is worth a line of the timeline: a few a minute are.
    pub fn worth_a_note(&self, now: Timestamp) -> bool {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).worth_a_note(now)
    }

    /// Counts a try before it is known whether it is right: many at once are many.
    fn tries(&self, from: IpAddr, name: &str, now: Timestamp) -> Result<(), AuthError> {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        match tries.wait_secs(from, name, now) {
            0 => {
                tries.wrong(from, name, now);
                Ok(())
            }
            wait_secs => Err(AuthError::TooManyTries { wait_secs }),
        }
    }

    fn was_right(&self, from: IpAddr, name: &str, now: Timestamp) {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).right(from, name, now);
    }
}

/// `K7QF-2M9D`
fn one_time_code() -> String {
    let mut rng = rand::rng();
    let mut four = || -> String {
        let letters = std::iter::repeat_with(|| ALPHABET.choose(&mut rng).copied());
        letters.flatten().take(4).map(char::from).collect()
    };
    format!("{}-{}", four(), four())
}

/// A code as it is compared: capitals, without what people put between the groups.
fn plain(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 5));
    const NOON: Timestamp = Timestamp(1_700_000_000_000);

    fn admin() -> User {
        user::find(&fleet::Fleet::default(), user::FIRST).unwrap()
    }

    async fn fresh() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Store::sqlite(&dir.path().join("log.db")).await.unwrap();
        (dir, store)
    }

    #[test]
    fn codes_are_readable_and_differ() {
        let code = one_time_code();
        assert_eq!(code.len(), 9);
        assert!(code.bytes().all(|b| b == b'-' || ALPHABET.contains(&b)), "{code}");
        assert_ne!(code, one_time_code());
        assert_eq!(plain("k7qf 2m9d"), plain("K7QF-2M9D"));
    }

    #[tokio::test]
    async fn the_code_sets_one_password_and_then_only_the_password_opens() {
        let (_dir, store) = fresh().await;
        let auth = Auth::open(store.clone()).await.unwrap();
        let code = auth.code().unwrap();

        let early = auth.login(FROM, ("admin", Some(&admin())), "correct horse", Client::Page, NOON).await;
        assert!(matches!(early, Err(AuthError::NotSet)));
        let wrong = auth.set_first_password(FROM, "AAAA-AAAA", "correct horse", Client::Page, NOON).await;
        assert!(matches!(wrong, Err(AuthError::WrongCode)));
        let short = auth.set_first_password(FROM, &code, "short", Client::Page, NOON).await;
        assert!(matches!(short, Err(AuthError::UnusablePassword)));

        let token = auth
            .set_first_password(FROM, &code.to_lowercase(), "correct horse", Client::Page, NOON)
            .await
            .unwrap();
        assert_eq!(auth.session(&token, NOON).await.unwrap().unwrap().person, "admin");
        assert_eq!(auth.code(), None);
        let again = auth.set_first_password(FROM, &code, "another one", Client::Page, NOON).await;
        assert!(matches!(again, Err(AuthError::AlreadySet)));

        // After a restart there is no code any more, and the session goes on.
        let auth = Auth::open(store.clone()).await.unwrap();
        assert_eq!(auth.code(), None);
        assert!(auth.session(&token, NOON).await.unwrap().is_some());
        assert!(
            auth.login(FROM, ("admin", Some(&admin())), "correct horse", Client::Console, NOON).await.is_ok()
        );
        let wrong = auth.login(FROM, ("admin", Some(&admin())), "correct house", Client::Console, NOON).await;
        assert!(matches!(wrong, Err(AuthError::WrongPassword)));
        let unknown = auth.login(FROM, ("nobody", None), "correct horse", Client::Console, NOON).await;
        assert!(matches!(unknown, Err(AuthError::WrongPassword)));

        let kept: Vec<String> = on_pool!(store.pool(), pool => {
            sqlx::query_scalar("SELECT token FROM session").fetch_all(pool).await.unwrap()
        });
        assert!(!kept.contains(&token), "a token is kept as it is");
    }

    #[tokio::test]
    async fn sessions_end_when_unused_and_when_left() {
        let (_dir, store) = fresh().await;
        let auth = Auth::open(store).await.unwrap();
        let code = auth.code().unwrap();
        let token = auth.set_first_password(FROM, &code, "correct horse", Client::Page, NOON).await.unwrap();

        let later = Timestamp(NOON.0 + 6 * DAY);
        assert!(auth.session(&token, later).await.unwrap().is_some());
        let much_later = Timestamp(NOON.0 + 12 * DAY);
        assert!(auth.session(&token, much_later).await.unwrap().is_some(), "use prolongs a session");
        assert!(auth.session(&token, Timestamp(NOON.0 + 30 * DAY)).await.unwrap().is_none());

        auth.logout(&token).await.unwrap();
        assert!(auth.session(&token, much_later).await.unwrap().is_none());
        assert!(auth.session("", NOON).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn guessing_is_slowed_down_for_the_one_who_guesses() {
        let (_dir, store) = fresh().await;
        let auth = Auth::open(store).await.unwrap();
        let code = auth.code().unwrap();
        for _ in 0..tries::FREE {
            let wrong = auth.set_first_password(FROM, "AAAA-AAAA", "correct horse", Client::Page, NOON).await;
            assert!(matches!(wrong, Err(AuthError::WrongCode)));
        }
        // Even the right code has to wait now, so that an answer cannot be got out of the waiting.
        let waits = auth.set_first_password(FROM, &code, "correct horse", Client::Page, NOON).await;
        assert!(matches!(waits, Err(AuthError::TooManyTries { wait_secs: 1.., .. })), "{waits:?}");
        let other = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 6));
        assert!(auth.set_first_password(other, &code, "correct horse", Client::Page, NOON).await.is_ok());
    }
}
