//! A node's key pair: who it is on the node API, before and after it has a certificate.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::places::{self, PlaceError};

/// An ECDSA P-256 key and, once the CA has signed one, its certificate.
pub struct Identity {
    key: KeyPair,
    certificate_pem: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("making a key pair")]
    Generate(#[source] rcgen::Error),
    #[error("reading the node's key in {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a key", path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error("making a certificate for the node's key")]
    Certificate(#[source] rcgen::Error),
    #[error("reading the node's certificate")]
    ReadCertificate(#[source] rustls_pki_types::pem::Error),
    #[error(transparent)]
    Write(#[from] PlaceError),
}

impl Identity {
    /// A new key that is nowhere but in memory.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self { key: KeyPair::generate().map_err(IdentityError::Generate)?, certificate_pem: None })
    }

    /// The key kept in `folder`; made and kept there, readable by root only, when there is none.
    pub fn load_or_make(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join("key.pem");
        match fs::read_to_string(&path) {
            Ok(pem) => {
                let key = KeyPair::from_pem(&pem).map_err(|source| IdentityError::Key { path, source })?;
                // A certificate that is gone or for another key is asked for again.
                let certificate_pem = fs::read_to_string(folder.join("certificate.pem")).ok();
                Ok(Self { key, certificate_pem })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = Self::generate()?;
                identity.save_key(folder)?;
                Ok(identity)
            }
            Err(source) => Err(IdentityError::Read { path, source }),
        }
    }

    pub fn save_key(&self, folder: &Path) -> Result<(), IdentityError> {
        Ok(places::write(&folder.join("key.pem"), self.key.serialize_pem(), 0o600)?)
    }

    /// Takes the certificate that the CA signed for this key and keeps it in `folder`.
    pub fn keep_certificate(&mut self, folder: &Path, pem: &str) -> Result<(), IdentityError> {
        places::write(&folder.join("certificate.pem"), pem, 0o644)?;
        self.certificate_pem = Some(pem.to_owned());
        Ok(())
    }

    pub fn has_certificate(&self) -> bool {
        self.certificate_pem.is_some()
    }

    /// Forgets the certificate, so that the next connection is made with a self-signed one.
    pub fn drop_certificate(&mut self) {
        self.certificate_pem = None;
    }

    /// PKCS #10 for this key, PEM. The appliance decides the name in the certificate, not this request.
    pub fn signing_request(&self) -> Result<String, IdentityError> {
        own_name()
            .serialize_request(&self.key)
            .and_then(|request| request.pem())
            .map_err(IdentityError::Certificate)
    }

    /// What TLS shows to the other side: the CA's certificate or, before there is one, a self-signed one.
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        match &self.certificate_pem {
            Some(pem) => CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(IdentityError::ReadCertificate),
            None => {
                let certificate = own_name().self_signed(&self.key).map_err(IdentityError::Certificate)?;
                Ok(vec![certificate.der().clone()])
            }
        }
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

fn own_name() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "elisandra-node");
    params
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_for_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("node");
        let first = Identity::load_or_make(&folder).unwrap();
        let mode = fs::metadata(folder.join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut second = Identity::load_or_make(&folder).unwrap();
        assert_eq!(first.key.serialize_der(), second.key.serialize_der());
        assert!(!second.has_certificate());
        let pem = own_name().self_signed(&first.key).unwrap().pem();
        second.keep_certificate(&folder, &pem).unwrap();
        assert!(Identity::load_or_make(&folder).unwrap().has_certificate());
    }

    #[test]
    fn a_damaged_key_is_not_replaced_by_a_new_identity() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key.pem"), "-----BEGIN").unwrap();
        assert!(matches!(Identity::load_or_make(dir.path()), Err(IdentityError::Key { .. })));
    }
}
