//! The node's side of the node API: HTTPS with the node's own key, and trust in one CA only.
//!
//! The CA certificate comes over plain HTTP; its SHA-256 came over a way that is trusted (kernel command line,
//! kickstart, cloud-init data), so it does not matter who delivers it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fleet::NodeId;
use fleet::wire::{
    AccountMade, CONSOLE_PROTOCOL, CertificateReply, CertificateRequest, Checked, ConsoleTrouble, Desired,
    Erased, Failed, Installed, Observed, Progress, Report, ReportReply, Said,
};
use reqwest::{Method, Response, StatusCode, header};
use rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::identity::{Identity, IdentityError};

/// Of the node API.
pub const PORT: u16 = 7443;
/// How long the appliance may hold a long poll.
pub const LONG_POLL: Duration = Duration::from_secs(25);
/// An answer that is not held back has this long; a held one has this long on top.
const ANSWER: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{appliance} does not answer")]
    Unreachable {
        appliance: Ipv4Addr,
        #[source]
        source: Cause,
    },
    /// The appliance understood and said no.
    #[error("{appliance} refuses: {reason}")]
    Refused { appliance: Ipv4Addr, status: StatusCode, reason: String },
    #[error("{appliance} answers {what} in a way that this node does not understand")]
    NotUnderstood {
        appliance: Ipv4Addr,
        what: String,
        #[source]
        source: Cause,
    },
    #[error(
        "{appliance} gives out the CA certificate {found}, but this node was told to trust {wanted} only"
    )]
    OtherCa { appliance: Ipv4Addr, found: String, wanted: String },
    #[error("what {appliance} gives out as its CA certificate is not one")]
    NotACertificate { appliance: Ipv4Addr },
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    #[error("setting up HTTP")]
    Http(#[source] reqwest::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl ClientError {
    /// The appliance said that it does not know this node or its certificate.
    pub fn is_unknown_node(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
    }
}

/// What is at the bottom of a failed request. reqwest wraps it in three sentences ("error sending request for url …:
/// client error (Connect): tcp connect error: …") of which a person at a machine needs the last.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

impl From<reqwest::Error> for Cause {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self("no answer in time".to_owned());
        }
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Self(cause.to_string())
    }
}

/// The CA of the appliance, checked against its SHA-256.
#[derive(Debug, Clone)]
pub struct Authority {
    pub appliance: Ipv4Addr,
    certificate: CertificateDer<'static>,
    /// What the appliance's clock said.
    pub time: Option<SystemTime>,
}

impl Authority {
    /// A CA certificate that came some other way; it is checked all the same.
    pub fn checked(appliance: Ipv4Addr, pem: &[u8], sha256: &str) -> Result<Self, ClientError> {
        Ok(Self { appliance, certificate: check_ca(appliance, pem, sha256)?, time: None })
    }

    /// Fetches the CA certificate of `appliance` and checks that it is the one with `sha256`.
    pub async fn fetch(appliance: Ipv4Addr, sha256: &str) -> Result<Self, ClientError> {
        let unreachable =
            |error: reqwest::Error| ClientError::Unreachable { appliance, source: error.into() };
        let http = plain_http()?;
        let response = http
            .get(format!("http://{appliance}/boot/ca.pem"))
            .timeout(ANSWER)
            .send()
            .await
            .and_then(Response::error_for_status)
            .map_err(unreachable)?;
        let time = response
            .headers()
            .get(reqwest::header::DATE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| httpdate::parse_http_date(value).ok());
        let pem = response.bytes().await.map_err(unreachable)?;
        let certificate = check_ca(appliance, &pem, sha256)?;
        Ok(Self { appliance, certificate, time })
    }
}

fn check_ca(appliance: Ipv4Addr, pem: &[u8], sha256: &str) -> Result<CertificateDer<'static>, ClientError> {
    let certificate = CertificateDer::from_pem_slice(pem)
        .map_err(|_| ClientError::NotACertificate { appliance })?
        .into_owned();
    let found = hex::encode(Sha256::digest(&certificate));
    if found != sha256.to_ascii_lowercase() {
        return Err(ClientError::OtherCa { appliance, found, wanted: sha256.to_owned() });
    }
    Ok(certificate)
}

/// For files whose checksum is known, and for nothing else.
pub fn plain_http() -> Result<reqwest::Client, ClientError> {
    // reqwest wants a TLS set-up even for plain HTTP; no redirect may lead to it.
    let tls = tls(RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60))
        .build()
        .map_err(ClientError::Http)
}

fn tls(roots: RootCertStore) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    #[expect(clippy::expect_used, reason = "ring speaks TLS 1.3")]
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("ring speaks TLS 1.3")
        .with_root_certificates(roots)
}

/// A connection to the appliance as one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    appliance: Ipv4Addr,
    base: String,
}

impl Client {
    pub fn new(authority: &Authority, identity: &Identity) -> Result<Self, ClientError> {
        let base = format!("https://{}:{PORT}", authority.appliance);
        Self::at(base, authority, identity)
    }

    /// For an appliance that answers nodes elsewhere than at its usual port.
    pub fn at(base: String, authority: &Authority, identity: &Identity) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).map_err(ClientError::Tls)?;
        let tls = tls(roots)
            .with_client_auth_cert(identity.chain()?, identity.private_key())
            .map_err(ClientError::Tls)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            // A host that lost its power sends no FIN: find out while nothing is being said.
            .tcp_keepalive(Duration::from_secs(15))
            .build()
            .map_err(ClientError::Http)?;
        Ok(Self { http, appliance: authority.appliance, base })
    }

    /// Reports the hardware; the appliance may hold the answer back while it has nothing new to say.
    pub async fn report(&self, report: &Report) -> Result<ReportReply, ClientError> {
        self.post("/node/report", report, LONG_POLL + ANSWER).await
    }

    /// The kickstart file of an installation. It is given out once.
    pub async fn kickstart(&self, token: &str) -> Result<String, ClientError> {
        let response = self.get(&format!("/node/kickstart/{token}"), ANSWER).await?;
        response.text().await.map_err(|source| self.unreachable(source))
    }

    pub async fn progress(&self, progress: &Progress) -> Result<(), ClientError> {
        self.post_only("/node/progress", progress).await
    }

    /// What this machine's console says.
    pub async fn said(&self, said: &Said) -> Result<(), ClientError> {
        self.post_only("/node/said", said).await
    }

    pub async fn installed(&self, installed: &Installed) -> Result<(), ClientError> {
        self.post_only("/node/installed", installed).await
    }

    pub async fn failed(&self, failed: &Failed) -> Result<(), ClientError> {
        self.post_only("/node/failed", failed).await
    }

    pub async fn erased(&self, erased: &Erased) -> Result<(), ClientError> {
        self.post_only("/node/erased", erased).await
    }

    pub async fn checked(&self, checked: &Checked) -> Result<(), ClientError> {
        self.post_only("/node/checked", checked).await
    }

    pub async fn account(&self, node: NodeId, made: &AccountMade) -> Result<(), ClientError> {
        self.post_only(&format!("/node/{node}/account"), made).await
    }

    pub async fn certificate(&self, request: &CertificateRequest) -> Result<CertificateReply, ClientError> {
        self.post("/node/certificate", request, ANSWER).await
    }

    /// Everything that `node` should be; held back by the appliance while its revision is `known`.
    pub async fn desired(&self, node: NodeId, known: Option<u64>) -> Result<Desired, ClientError> {
        let revision = known.map(|revision| format!("revision={revision}&")).unwrap_or_default();
        let wait = LONG_POLL.as_secs();
        let path = format!("/node/{node}/desired?{revision}wait={wait}");
        let response = self.get(&path, LONG_POLL + ANSWER).await?;
        self.read(response, &path).await
    }

    pub async fn observed(&self, node: NodeId, observed: &Observed) -> Result<(), ClientError> {
        self.post_only(&format!("/node/{node}/observed"), observed).await
    }

    /// A `.eli` file, to be read as it comes.
    pub async fn bundle(&self, node: NodeId, sha256: &str) -> Result<Response, ClientError> {
        self.get(&format!("/node/{node}/bundle/{sha256}"), Duration::from_secs(600)).await
    }

    /// A console that the appliance waits for: what is written here is shown, what is read was typed.
    pub async fn console(&self, node: NodeId, console: uuid::Uuid) -> Result<reqwest::Upgraded, ClientError> {
        let request = self.http.get(format!("{}/node/{node}/console/{console}", self.base)).timeout(ANSWER);
        let request = request.header(header::CONNECTION, "upgrade").header(header::UPGRADE, CONSOLE_PROTOCOL);
        let response = self.answer(request).await?;
        response.upgrade().await.map_err(|source| self.unreachable(source))
    }

    /// There is no console to bring.
    pub async fn console_trouble(
        &self,
        node: NodeId,
        console: uuid::Uuid,
        trouble: &ConsoleTrouble,
    ) -> Result<(), ClientError> {
        self.post_only(&format!("/node/{node}/console/{console}"), trouble).await
    }

    async fn get(&self, path: &str, limit: Duration) -> Result<Response, ClientError> {
        let request = self.http.request(Method::GET, format!("{}{path}", self.base)).timeout(limit);
        self.answer(request).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let request = self.http.post(format!("{}{path}", self.base)).json(body).timeout(limit);
        let response = self.answer(request).await?;
        self.read(response, path).await
    }

    async fn post_only(&self, path: &str, body: &impl Serialize) -> Result<(), ClientError> {
        let request = self.http.post(format!("{}{path}", self.base)).json(body).timeout(ANSWER);
        self.answer(request).await.map(|_| ())
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let reason = match response.json::<Refusal>().await {
            Ok(refusal) => refusal.error,
            Err(_) => status.to_string(),
        };
        Err(ClientError::Refused { appliance: self.appliance, status, reason })
    }

    async fn read<T: DeserializeOwned>(&self, response: Response, path: &str) -> Result<T, ClientError> {
        response.json().await.map_err(|source: reqwest::Error| ClientError::NotUnderstood {
            appliance: self.appliance,
            what: path.to_owned(),
            source: source.into(),
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        ClientError::Unreachable { appliance: self.appliance, source: error.into() }
    }
}

/// Waits between two tries: a little longer each time, and never in step with a thousand other machines that
/// came back with the same power.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    pub async fn wait(&mut self) {
        let pause = self.next_pause(rand::random());
        tokio::time::sleep(pause).await;
    }

    /// 0.5 to 1 s at first, doubling up to 10 to 20 s. `chance` is anywhere between 0 and 1.
    fn next_pause(&mut self, chance: f64) -> Duration {
        let longest = Duration::from_secs(20).min(Duration::from_secs(1) * 2u32.pow(self.tries));
        self.tries = (self.tries + 1).min(5);
        longest.mul_f64(0.5 + chance / 2.0)
    }
}

/// Says a thing until the appliance has either taken or refused it.
pub async fn until_heard<F>(
    mut say_it: impl FnMut() -> F,
    complain: impl Fn(ClientError),
) -> Result<(), ClientError>
where
    F: Future<Output = Result<(), ClientError>>,
{
    let mut backoff = Backoff::default();
    loop {
        match say_it().await {
            Ok(()) => return Ok(()),
            Err(error @ ClientError::Refused { status, .. }) if status.is_client_error() => {
                return Err(error);
            }
            Err(error) => complain(error),
        }
        backoff.wait().await;
    }
}

#[cfg(test)]
mod tests;
