//! Tokens for installations and enrollments: made from the site's secret and what they are for, so that
//! none has to be kept. That each works once is decided by the core, from the log.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleet::{MachineId, NodeId, Timestamp};
use ring::hmac;

use crate::ca::{self, CaError};

pub struct Tokens {
    key: hmac::Key,
}

impl Tokens {
    /// Reads the secret from `path`, or makes it at the first start.
    pub fn open(path: &Path) -> Result<Tokens, CaError> {
        if !path.exists() {
            let secret: [u8; 32] = rand::random();
            ca::write(path, &hex::encode(secret), 0o600)?;
        }
        let unreadable = || CaError::Unreadable { path: path.display().to_string() };
        let text = ca::read_secret(path)?;
        let secret =
            hex::decode(text.trim()).ok().filter(|secret| secret.len() == 32).ok_or_else(unreadable)?;
        Ok(Tokens::made_from(&secret))
    }

    pub fn made_from(secret: &[u8]) -> Tokens {
        Tokens { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// For one attempt to install one machine.
    pub fn install(&self, machine: MachineId, attempt: u32) -> String {
        self.seal(&format!("{machine}-{attempt}"), "install")
    }

    pub fn read_install(&self, token: &str) -> Option<(MachineId, u32)> {
        let (machine, attempt) = self.unseal(token, "install")?.split_once('-')?;
        Some((machine.parse().ok()?, attempt.parse().ok()?))
    }

    /// For the installer of another system on one machine; adopting the machine again makes another one.
    pub fn answers(&self, machine: MachineId, adopted_at: Timestamp) -> String {
        self.seal(&format!("{machine}-{}", adopted_at.0), "answers")
    }

    pub fn read_answers(&self, token: &str) -> Option<(MachineId, Timestamp)> {
        let (machine, adopted_at) = self.unseal(token, "answers")?.split_once('-')?;
        Some((machine.parse().ok()?, Timestamp(adopted_at.parse().ok()?)))
    }

    /// For a guest, or the appliance's own host agent, to ask for its first certificate.
    pub fn enrollment(&self, node: NodeId) -> String {
        self.seal(&node.to_string(), "enroll")
    }

    pub fn read_enrollment(&self, token: &str) -> Option<NodeId> {
        self.unseal(token, "enroll")?.parse().ok()
    }

    /// Of the account that a host makes for the appliance at its own BMC. Rules for passwords ask for letters of both cases,
    /// a digit and a sign; 16 characters are the most that every BMC takes.
    pub fn bmc_password(&self, machine: MachineId) -> String {
        let tag = hmac::sign(&self.key, format!("bmc-account {machine}").as_bytes());
        format!("eE1-{}", URL_SAFE_NO_PAD.encode(&tag.as_ref()[..9]))
    }

    fn seal(&self, what: &str, purpose: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{purpose} {what}").as_bytes());
        format!("{what}-{}", hex::encode(tag))
    }

    fn unseal<'a>(&self, token: &'a str, purpose: &str) -> Option<&'a str> {
        let (what, tag) = token.rsplit_once('-')?;
        let tag = hex::decode(tag).ok()?;
        hmac::verify(&self.key, format!("{purpose} {what}").as_bytes(), &tag).ok()?;
        Some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_what_it_was_made_for_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&dir.path().join("secret")).unwrap();
        let again = Tokens::open(&dir.path().join("secret")).unwrap();
        let token = tokens.install(MachineId(3), 2);
        assert_eq!(again.read_install(&token), Some((MachineId(3), 2)));
        assert_eq!(tokens.read_enrollment(&token), None);
        assert_eq!(tokens.read_answers(&token), None);
        let answers = tokens.answers(MachineId(3), Timestamp(7));
        assert_eq!(again.read_answers(&answers), Some((MachineId(3), Timestamp(7))));
        assert_eq!(tokens.read_install(&answers), None);
        assert_eq!(tokens.read_install(&token.replacen("m3", "m4", 1)), None);
        assert_eq!(tokens.read_install(&token[..token.len() - 2]), None);
        assert_eq!(tokens.read_install("é-é"), None);
        let password = tokens.bmc_password(MachineId(3));
        assert_eq!((password.len(), &password), (16, &again.bmc_password(MachineId(3))));
        assert_ne!(password, tokens.bmc_password(MachineId(4)));
    }
}
