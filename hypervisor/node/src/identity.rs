//! A node's key pair: who it is on the node API, before and after it has a certificate.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fleet::NodeId;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use crate::places::{self, PlaceError};

const CERTIFICATE: &str = "certificate.json";

/// An ECDSA P-256 key and, once the CA has signed one, its certificate.
pub struct Identity {
    key: KeyPair,
    certificate: Option<Certificate>,
}

/// `certificate.json` beside the key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Certificate {
    node: NodeId,
    pem: String,
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
    #[error("keeping the node's certificate")]
    Json(#[source] serde_json::Error),
    #[error("reading the node's certificate")]
    ReadCertificate(#[source] rustls_pki_types::pem::Error),
    #[error(transparent)]
    Write(#[from] PlaceError),
}

impl Identity {
    /// A new key that is nowhere but in memory.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self { key: KeyPair::generate().map_err(IdentityError::Generate)?, certificate: None })
    }

    /// The key kept in `folder`; made and kept there, readable by root only, when there is none.
    pub fn load_or_make(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join("key.pem");
        match fs::read_to_string(&path) {
            Ok(pem) => {
                let key = KeyPair::from_pem(&pem).map_err(|source| IdentityError::Key { path, source })?;
                // One that is gone or cannot be read is asked for again.
                let kept = fs::read(folder.join(CERTIFICATE)).ok();
                Ok(Self { key, certificate: kept.and_then(|json| serde_json::from_slice(&json).ok()) })
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

    /// Takes the certificate that the CA signed for this key in the name of `node`, and keeps it in `folder`.
    pub fn keep_certificate(&mut self, folder: &Path, node: NodeId, pem: &str) -> Result<(), IdentityError> {
        let certificate = Certificate { node, pem: pem.to_owned() };
        let json = serde_json::to_vec(&certificate).map_err(IdentityError::Json)?;
        places::write(&folder.join(CERTIFICATE), json, 0o644)?;
        self.certificate = Some(certificate);
        Ok(())
    }

    /// Who this is, once there is a certificate.
    pub fn node(&self) -> Option<NodeId> {
        self.certificate.as_ref().map(|certificate| certificate.node)
    }

    /// Forgets the certificate, so that the next connection is made with a self-signed one.
    pub fn drop_certificate(&mut self) {
        self.certificate = None;
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
        match &self.certificate {
            Some(Certificate { pem, .. }) => CertificateDer::pem_slice_iter(pem.as_bytes())
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
        assert_eq!(second.node(), None);
        let pem = own_name().self_signed(&first.key).unwrap().pem();
        let node = "m3".parse().unwrap();
        second.keep_certificate(&folder, node, &pem).unwrap();
        assert_eq!(Identity::load_or_make(&folder).unwrap().node(), Some(node));
        assert_eq!(Identity::load_or_make(&folder).unwrap().chain().unwrap(), second.chain().unwrap());
        fs::write(folder.join(CERTIFICATE), "{").unwrap();
        assert_eq!(Identity::load_or_make(&folder).unwrap().node(), None);
    }

    #[test]
    fn a_damaged_key_is_not_replaced_by_a_new_identity() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key.pem"), "-----BEGIN").unwrap();
        assert!(matches!(Identity::load_or_make(dir.path()), Err(IdentityError::Key { .. })));
    }
}
