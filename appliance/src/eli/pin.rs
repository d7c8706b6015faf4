//! TLS with an appliance that is known by the fingerprint of its certificate authority, not by a name that
//! somebody has vouched for.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::ca::SERVER_NAME;

/// SHA-256 of a certificate's DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02X}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = anyhow::Error;

    /// With or without colons and `SHA256` before it.
    fn from_str(text: &str) -> Result<Fingerprint, anyhow::Error> {
        let plain = text.trim();
        let plain = plain.strip_prefix("SHA256").unwrap_or(plain);
        let digits: String = plain.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
        let octets = hex::decode(&digits).ok().and_then(|octets| octets.try_into().ok());
        octets.map(Fingerprint).ok_or_else(|| {
            anyhow::anyhow!("{text:?} is not a fingerprint: 32 octets in hexadecimal, as the appliance's screen shows them")
        })
    }
}

/// What was seen of the other end: filled in by the verifiers for whoever has to explain a failure.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Option<Fingerprint>>>);

impl Seen {
    pub fn get(&self) -> Option<Fingerprint> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, fingerprint: Fingerprint) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
    }
}

/// Accepts only a server whose chain leads to the certificate with this fingerprint.
pub fn pinned(fingerprint: Fingerprint, seen: Seen) -> Result<ClientConfig, Error> {
    config(Verifier { wanted: Some(fingerprint), seen, provider: provider() })
}

/// Accepts no server, and so sends nothing; what its chain leads to is in `seen`.
pub fn looking(seen: Seen) -> Result<ClientConfig, Error> {
    config(Verifier { wanted: None, seen, provider: provider() })
}

fn config(verifier: Verifier) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[derive(Debug)]
struct Verifier {
    wanted: Option<Fingerprint>,
    seen: Seen,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The appliance sends its authority last.
        let authority = intermediates.last().unwrap_or(end_entity);
        let chain = || std::iter::once(end_entity).chain(intermediates);
        let pinned =
            self.wanted.and_then(|wanted| chain().find(|certificate| Fingerprint::of(certificate) == wanted));
        let Some(pinned) = pinned else {
            self.seen.set(Fingerprint::of(authority));
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        if pinned == end_entity {
            return Ok(ServerCertVerified::assertion());
        }
        // That the authority's certificate was sent proves nothing: it is public. The server's own must be
        // signed by it, and be a server's: nodes have certificates of the same authority. The address that
        // the appliance is reached at does not matter, so its fixed name is what is asked for.
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::ca::Ca;

    fn verify(wanted: Fingerprint, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let verifier = Verifier { wanted: Some(wanted), seen: Seen::default(), provider: provider() };
        let name = ServerName::try_from("10.77.0.1").unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()).map(|_| ())
    }

    fn authority() -> (tempfile::TempDir, Ca) {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path()).unwrap();
        (dir, ca)
    }

    #[test]
    fn fingerprints_are_read_as_the_screen_shows_them() {
        let (_dir, ca) = authority();
        let fingerprint: Fingerprint = ca.fingerprint().parse().unwrap();
        assert_eq!(fingerprint, Fingerprint::of(ca.der()));
        assert_eq!(fingerprint.to_string(), ca.fingerprint());
        for other in
            [ca.sha256(), format!("SHA256:{}", ca.fingerprint()), format!("SHA256 {}", ca.fingerprint())]
        {
            assert_eq!(other.parse::<Fingerprint>().unwrap(), fingerprint);
        }
        assert!("AA:BB".parse::<Fingerprint>().is_err());
    }

    #[test]
    fn only_a_server_of_the_pinned_authority_is_accepted() {
        let (_dir, ca) = authority();
        let (_dir, other) = authority();
        let addresses = [IpAddr::from([127, 0, 0, 1])];
        let chain = ca.server_certificate(&addresses).unwrap().chain;
        let fingerprint = ca.fingerprint().parse().unwrap();
        verify(fingerprint, &chain).unwrap();
        verify(Fingerprint::of(&chain[0]), &chain).unwrap();

        let foreign = other.server_certificate(&addresses).unwrap().chain;
        assert!(verify(fingerprint, &foreign).is_err());
        let dressed_up = [foreign[0].clone(), ca.der().clone()];
        assert!(verify(fingerprint, &dressed_up).is_err(), "the authority's certificate is public");

        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()])
            .unwrap()
            .serialize_request(&key)
            .unwrap();
        let key_sha256 = {
            use rcgen::PublicKeyData as _;
            hex::encode(Sha256::digest(key.subject_public_key_info()))
        };
        let node = ca.sign(&csr.pem().unwrap(), "m1".parse().unwrap(), &key_sha256).unwrap();
        use rustls_pki_types::pem::PemObject as _;
        let node = CertificateDer::from_pem_slice(node.as_bytes()).unwrap();
        assert!(verify(fingerprint, &[node, ca.der().clone()]).is_err(), "a node is no appliance");
    }
}
