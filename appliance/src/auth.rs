//! Who may speak to the page and the REST API: first password, login, sessions.

use std::sync::Arc;

use rand::seq::IndexedRandom;
use sqlx::SqlitePool;
use tokio::sync::watch;

/// No 0 and O, no 1, I and L, no U and V: nothing that is misread from a screen across the room.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKMNPQRSTWXYZ";

/// The code that sets the first password: shown on the appliance's own console, kept in memory only, made
/// anew at each start until a password is set.
#[derive(Clone, Debug)]
pub struct OneTimeCode(Arc<watch::Sender<Option<String>>>);

impl OneTimeCode {
    /// Makes a code if no password is set yet.
    pub async fn start(pool: &SqlitePool) -> Result<OneTimeCode, sqlx::Error> {
        let set: Option<i64> = sqlx::query_scalar("SELECT 1 FROM password LIMIT 1").fetch_optional(pool).await?;
        let code = set.is_none().then(random_code);
        Ok(OneTimeCode(Arc::new(watch::Sender::new(code))))
    }

    /// The code to show, `None` once a password is set.
    pub fn current(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Tells when the code is used up.
    pub fn changes(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}

/// `K7QF-2M9D`
fn random_code() -> String {
    let mut rng = rand::rng();
    let mut four = || -> String { (0..4).filter_map(|_| ALPHABET.choose(&mut rng).map(|c| char::from(*c))).collect() };
    let (a, b) = (four(), four());
    format!("{a}-{b}")
}
