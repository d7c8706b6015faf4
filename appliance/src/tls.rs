//! TLS listeners, and who is at the other end of a node's connection.
//!
//! Nodes present a certificate that is either their own (before they are known) or signed by the site's
//! authority. Both are accepted if the handshake shows that they hold the key; which of the two it was is
//! in [`Peer`], and the handlers decide what it may do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use fleet::NodeId;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::ca::{Ca, ServerCertificate};

/// A handshake that takes longer is given up: an idle connection must not hold a place for ever.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);

/// Who is at the other end of a connection to the node API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER), lower-case hexadecimal.
    pub key: String,
    /// The node that the site's authority signed this certificate for.
    pub node: Option<NodeId>,
}

/// For the page and the REST API: no client certificate is asked for, so that browsers do not ask people.
pub fn page_config(certificate: ServerCertificate) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificate.chain, certificate.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// For the node API: TLS 1.3, and a client certificate always.
pub fn node_config(certificate: ServerCertificate) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(HoldsItsKey { provider: provider() }))
        .with_single_cert(certificate.chain, certificate.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Serves `router` until `shutdown`. With `ca`, every request carries a [`Peer`] as extension.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: axum::Router,
    ca: Option<Arc<Ca>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(config);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the client is gone already: the next one may do better.
                tracing::warn!(%error, "A connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, mut router, ca) = (acceptor.clone(), router.clone(), ca.clone());
        connections.spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await;
            let Ok(Ok(stream)) = handshake else {
                tracing::debug!(%address, "A TLS handshake was not completed");
                return;
            };
            if let Some(ca) = ca {
                let presented = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let Some(peer) = presented.and_then(|certificate| peer(certificate, &ca, address)) else {
                    tracing::warn!(%address, "A node presented a certificate that cannot be read");
                    return;
                };
                router = router.layer(Extension(peer));
            } else {
                router = router.layer(Extension(address));
            }
            let service = TowerToHyperService::new(router);
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
                tracing::debug!(%address, %error, "A connection ended early");
            }
        });
    }
}

fn peer(certificate: &CertificateDer<'_>, ca: &Ca, address: SocketAddr) -> Option<Peer> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = hex::encode(Sha256::digest(parsed.public_key().raw));
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).ok()?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()?;
    let signed = verifier.verify_client_cert(certificate, &[], UnixTime::now()).is_ok();
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let node = name.filter(|_| signed).and_then(|name| name.parse().ok());
    Some(Peer { address, key, node })
}

/// Accepts any certificate whose key the client shows to hold.
#[derive(Debug)]
struct HoldsItsKey {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for HoldsItsKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
