//! Against a real TLS server with client certificates, as the appliance has one.

use std::net::{IpAddr, Ipv4Addr};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Takes every certificate whose signature fits, as the node API does.
#[derive(Debug)]
struct Everybody;

impl ClientCertVerifier for Everybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Elisandra CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn trusted(ca: &CertifiedIssuer<'static, KeyPair>) -> Authority {
    let sha256 = hex::encode(Sha256::digest(ca.der()));
    let appliance = Ipv4Addr::LOCALHOST;
    let certificate = check_ca(appliance, ca.pem().as_bytes(), &sha256).unwrap();
    Authority { appliance, certificate, time: None }
}

/// Answers every request with `status` and `body`; tells the certificate that the client showed.
async fn server(
    ca: &CertifiedIssuer<'static, KeyPair>,
    status: &'static str,
    body: &'static str,
) -> (String, mpsc::UnboundedReceiver<CertificateDer<'static>>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["appliance.elisandra".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let certificate = params.signed_by(&key, ca).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Everybody))
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    let (shown, certificates) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = shown.send(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned());
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (base, certificates)
}

const NOBODY: &str =
    r#"{"machine":"m3","instruction":{"do":"wait","reason":"this disk holds ext4 'data'; wipe it?"}}"#;

fn progress() -> Progress {
    Progress { step: "wiping the disk".to_owned(), percent: None }
}

#[tokio::test]
async fn a_node_shows_its_own_key_and_reads_the_answer() {
    let ca = authority();
    let (base, mut certificates) = server(&ca, "200 OK", NOBODY).await;
    let identity = Identity::generate().unwrap();
    let client = Client::at(base, &trusted(&ca), &identity).unwrap();
    let reply: ReportReply = client.post("/node/report", &progress(), ANSWER).await.unwrap();
    assert_eq!(reply.machine.to_string(), "m3");
    let shown = certificates.recv().await.unwrap();
    // The same key each time, in a certificate that says nothing but "a node".
    assert_eq!(identity.chain().unwrap().len(), 1);
    assert!(String::from_utf8_lossy(&shown).contains("elisandra-node"));
}

#[tokio::test]
async fn a_refusal_is_the_appliances_own_sentence() {
    let ca = authority();
    let (base, _certificates) = server(&ca, "403 Forbidden", r#"{"error":"this token was used"}"#).await;
    let client = Client::at(base, &trusted(&ca), &Identity::generate().unwrap()).unwrap();
    let error = client.progress(&progress()).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 refuses: this token was used");
    assert!(error.is_unknown_node());

    let (base, _certificates) = server(&ca, "502 Bad Gateway", "<html>").await;
    let client = Client::at(base, &trusted(&ca), &Identity::generate().unwrap()).unwrap();
    let error = client.progress(&progress()).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 refuses: 502 Bad Gateway");
    assert!(!error.is_unknown_node());
}

#[tokio::test]
async fn a_server_with_another_ca_is_not_spoken_to() {
    let (ca, other) = (authority(), authority());
    let (base, mut certificates) = server(&other, "204 No Content", "").await;
    let client = Client::at(base, &trusted(&ca), &Identity::generate().unwrap()).unwrap();
    let error = client.progress(&progress()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(certificates.try_recv().is_err(), "the handshake went through");
}

#[test]
fn only_the_ca_with_the_right_digest_is_trusted() {
    let (ca, other) = (authority(), authority());
    let sha256 = hex::encode(Sha256::digest(ca.der()));
    let at = Ipv4Addr::new(10, 77, 0, 1);
    assert!(check_ca(at, ca.pem().as_bytes(), &sha256.to_uppercase()).is_ok());
    let error = check_ca(at, other.pem().as_bytes(), &sha256).unwrap_err().to_string();
    assert!(error.starts_with("10.77.0.1 gives out the CA certificate"), "{error}");
    let error = check_ca(at, b"<html>", &sha256).unwrap_err().to_string();
    assert_eq!(error, "what 10.77.0.1 gives out as its CA certificate is not one");
    // A certificate in front of the right one is the one that counts.
    let both = format!("{}{}", other.pem(), ca.pem());
    assert!(check_ca(at, both.as_bytes(), &sha256).is_err());
}

#[test]
fn pauses_grow_and_stay_apart() {
    let mut backoff = Backoff::default();
    let shortest: Vec<u128> = (0..8).map(|_| backoff.next_pause(0.0).as_millis()).collect();
    assert_eq!(shortest, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
    backoff.reset();
    assert_eq!(backoff.next_pause(1.0).as_millis(), 1000);
}
