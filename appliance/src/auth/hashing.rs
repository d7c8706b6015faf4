//! Argon2id, one password after the other, on a thread of its own that keeps the memory for it.
//!
//! A hash fills several MiB. Allocated anew for each login, that memory is seldom given back: it has to be
//! aligned, and what glibc cuts off for the alignment lies between one such block and the next.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::oneshot;

use super::AuthError;

/// 7 MiB, 5 passes, 1 lane: of the equally strong settings that OWASP's password storage cheat sheet lists,
/// the one that takes the least memory.
const MEMORY_KIB: u32 = 7168;
const PASSES: u32 = 5;
const LANES: u32 = 1;

type Job = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

/// More than this do not wait: each takes a tenth of a second, and whoever waits longer tries again.
const WAITING: usize = 64;

pub struct Hashing {
    jobs: SyncSender<Job>,
}

impl Hashing {
    pub fn start() -> Result<Hashing, AuthError> {
        let (jobs, taken) = sync_channel::<Job>(WAITING);
        let work = move || {
            let mut memory = Vec::new();
            for job in taken {
                job(&mut memory);
            }
        };
        std::thread::Builder::new().name("passwords".to_owned()).spawn(work).map_err(failed)?;
        Ok(Hashing { jobs })
    }

    /// A PHC string with a random salt.
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let password = password.to_owned();
        self.run(move |memory| {
            let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(failed)?;
            let salt = Salt::generate();
            let made = PasswordHash {
                algorithm: Algorithm::Argon2id.ident(),
                version: Some(Version::V0x13.into()),
                params: ParamsString::try_from(&params).map_err(failed)?,
                salt: Some(salt),
                hash: Some(output(&password, &salt, params, memory)?),
            };
            Ok(made.to_string())
        })
        .await
    }

    /// Whether `password` is the one that the PHC string `hash` was made of.
    pub async fn verify(&self, password: &str, hash: String) -> Result<bool, AuthError> {
        let password = password.to_owned();
        self.run(move |memory| {
            let kept = PasswordHash::new(&hash).map_err(failed)?;
            let (Some(salt), Some(right)) = (kept.salt, kept.hash) else {
                return Err(failed("it has no salt or no hash"));
            };
            if kept.algorithm != Algorithm::Argon2id.ident() || kept.version != Some(Version::V0x13.into()) {
                return Err(failed("it is not of Argon2id, version 19"));
            }
            let params = Params::try_from(&kept).map_err(failed)?;
            // Outputs compare in constant time.
            Ok(output(&password, &salt, params, memory)? == right)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> Result<T, AuthError> + Send + 'static,
    ) -> Result<T, AuthError> {
        let (answer, asked) = oneshot::channel();
        let job = move |memory: &mut Vec<Block>| {
            // Whoever asked may have hung up.
            let _ = answer.send(work(memory));
        };
        self.jobs.try_send(Box::new(job)).map_err(|error| match error {
            TrySendError::Full(_) => AuthError::Busy,
            TrySendError::Disconnected(_) => failed("its thread has ended"),
        })?;
        asked.await.map_err(failed)?
    }
}

fn output(password: &str, salt: &Salt, params: Params, memory: &mut Vec<Block>) -> Result<Output, AuthError> {
    memory.resize(params.block_count(), Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut out, memory).map_err(failed)?;
    Output::new(&out).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> AuthError {
    AuthError::Hash(error.to_string())
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordVerifier as _;

    use super::*;

    #[tokio::test]
    async fn hashes_are_those_of_every_other_argon2() {
        let hashing = Hashing::start().unwrap();
        let hash = hashing.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{hash}");
        let parsed = PasswordHash::new(&hash).unwrap();
        assert!(Argon2::default().verify_password(b"correct horse", &parsed).is_ok());
        assert!(hashing.verify("correct horse", hash.clone()).await.unwrap());
        assert!(!hashing.verify("correct house", hash.clone()).await.unwrap());
        assert_ne!(hash, hashing.hash("correct horse").await.unwrap(), "the salt is random");

        // Test vector of the reference implementation: m=64 MiB, t=2.
        let reference =
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(hashing.verify("password", reference.to_owned()).await.unwrap());
        assert!(hashing.verify("password", "-1".to_owned()).await.is_err());
        assert!(hashing.verify("-1", "$argon2id$v=19$m=7168,t=5,p=1$c29tZXNhbHQ".to_owned()).await.is_err());
    }
}
