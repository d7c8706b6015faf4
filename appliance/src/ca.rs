//! The site's certificate authority: certificates for the appliance's own servers and for nodes.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use fleet::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
    SigningKey as _, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};

/// The name that is in the servers' certificates beside their addresses.
pub const SERVER_NAME: &str = "appliance.elisandra";

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("{step} {path}")]
    File { step: &'static str, path: String, source: std::io::Error },
    #[error("{path} is not the certificate or key of this site's authority")]
    Unreadable { path: String },
    #[error(
        "{path} is a secret, and others than its owner may read or change it (mode {mode:04o}); chmod 600 {path}"
    )]
    Exposed { path: String, mode: u32 },
    #[error("{path} belongs to user {owner}, who is not the one that this runs as")]
    Foreign { path: String, owner: u32 },
    #[error("{path} is empty; put it back from a backup of the folder it is in")]
    Empty { path: String },
    #[error("a certificate could not be made")]
    Make(#[from] rcgen::Error),
    #[error("the certificate request is for another key than the one of this connection")]
    OtherKey,
}

pub struct Ca {
    key_pem: String,
    pem: String,
    der: CertificateDer<'static>,
}

/// A server certificate with its key: leaf, then the authority's own.
pub struct ServerCertificate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Ca {
    /// Reads the authority from `dir`, or makes it at the first start.
    pub fn open(dir: &Path) -> Result<Ca, CaError> {
        let key_path = dir.join("ca-key.pem");
        let pem_path = dir.join("ca.pem");
        if !key_path.exists() || !pem_path.exists() {
            make(&key_path, &pem_path)?;
        }
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| CaError::File {
                step: "reading",
                path: path.display().to_string(),
                source,
            })
        };
        let pem = read(&pem_path)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| CaError::Unreadable { path: pem_path.display().to_string() })?;
        Ok(Ca { key_pem: read_secret(&key_path)?, pem, der })
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of the certificate's DER, lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.der))
    }

    /// The fingerprint as it is shown to people: `AA:BB:…`.
    pub fn fingerprint(&self) -> String {
        let octets: Vec<String> =
            Sha256::digest(&self.der).iter().map(|octet| format!("{octet:02X}")).collect();
        octets.join(":")
    }

    /// A fresh certificate for the page and the node API, good for these addresses.
    pub fn server_certificate(&self, addresses: &[IpAddr]) -> Result<ServerCertificate, CaError> {
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned(), "localhost".to_owned()])?;
        params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.distinguished_name = named(SERVER_NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        lasting(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer()?)?;
        Ok(ServerCertificate {
            chain: vec![certificate.der().clone(), self.der.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    /// Signs a node's request. What the request says beyond its key is ignored: the name is `node`'s id.
    ///
    /// `key_sha256` is the key that the asking connection was made with; the request must be for the same.
    pub fn sign(&self, csr_pem: &str, node: NodeId, key_sha256: &str) -> Result<String, CaError> {
        let csr = CertificateSigningRequestParams::from_pem(csr_pem)?;
        if hex::encode(Sha256::digest(csr.public_key.subject_public_key_info())) != key_sha256 {
            return Err(CaError::OtherKey);
        }
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = named(&node.to_string());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        lasting(&mut params);
        Ok(params.signed_by(&csr.public_key, &self.issuer()?)?.pem())
    }

    /// ECDSA over P-256 with SHA-256, as `openssl dgst -sha256 -verify` reads it.
    pub fn sign_document(&self, document: &[u8]) -> Result<Vec<u8>, CaError> {
        Ok(KeyPair::from_pem(&self.key_pem)?.sign(document)?)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, CaError> {
        Ok(Issuer::from_ca_cert_der(&self.der, KeyPair::from_pem(&self.key_pem)?)?)
    }
}

fn make(key_path: &Path, pem_path: &Path) -> Result<(), CaError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = named("Elisandra site authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut params);
    let certificate = params.self_signed(&key)?;
    // The key first: a certificate without its key would be taken for a whole authority.
    write(key_path, &key.serialize_pem(), 0o600)?;
    write(pem_path, &certificate.pem(), 0o644)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Machines out of a cupboard come with clocks years behind and empty batteries: valid since long ago.
fn lasting(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2060, 1, 1);
}

/// Reads what nobody else may know: a file of this user alone.
pub fn read_secret(path: &Path) -> Result<String, CaError> {
    let name = || path.display().to_string();
    let failed = |source| CaError::File { step: "reading", path: name(), source };
    // Looked at is what was opened.
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let mode = about.mode() & 0o7777;
    if about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(CaError::Foreign { path: name(), owner: about.uid() });
    }
    if mode & 0o077 != 0 {
        return Err(CaError::Exposed { path: name(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    if text.trim().is_empty() {
        return Err(CaError::Empty { path: name() });
    }
    Ok(text)
}

/// Writes a file so that it is there whole, with this mode, or not at all.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let failed = |step| {
        let path = path.display().to_string();
        move |source| CaError::File { step, path, source }
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed("making the folder of"))?;
    }
    let beside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .map_err(failed("writing"))?;
    // What a start that was cut off left behind may have another mode.
    file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed("writing"))?;
    file.write_all(text.as_bytes()).map_err(failed("writing"))?;
    file.sync_all().map_err(failed("writing"))?;
    std::fs::rename(&beside, path).map_err(failed("writing"))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};

    use super::*;

    #[test]
    fn a_secret_that_others_may_read_or_that_is_not_there_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let fingerprint = Ca::open(dir.path()).unwrap().fingerprint();
        assert_eq!(Ca::open(dir.path()).unwrap().fingerprint(), fingerprint);
        let key = dir.path().join("ca-key.pem");
        let refused = || Ca::open(dir.path()).map(drop).unwrap_err().to_string();

        set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        assert!(refused().contains("(mode 0644); chmod 600"), "{}", refused());
        set_permissions(&key, Permissions::from_mode(0o620)).unwrap();
        assert!(refused().contains("(mode 0620)"), "{}", refused());
        set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Ca::open(dir.path()).unwrap().fingerprint(), fingerprint);

        std::os::unix::fs::chown(&key, Some(12_345), None).unwrap();
        assert!(refused().contains("belongs to user 12345"), "{}", refused());
        std::os::unix::fs::chown(&key, Some(nix::unistd::geteuid().as_raw()), None).unwrap();

        std::fs::write(&key, "").unwrap();
        assert!(refused().contains("is empty; put it back from a backup"), "{}", refused());
        std::fs::remove_file(&key).unwrap();
        std::fs::create_dir(&key).unwrap();
        set_permissions(&key, Permissions::from_mode(0o700)).unwrap();
        assert!(refused().starts_with("reading "), "{}", refused());
    }

    #[test]
    fn what_is_written_has_its_mode_whatever_lay_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(path.with_extension("new"), "of a start that was cut off").unwrap();
        set_permissions(path.with_extension("new"), Permissions::from_mode(0o666)).unwrap();
        write(&path, "mine", 0o600).unwrap();
        assert_eq!(read_secret(&path).unwrap(), "mine");
    }
}
