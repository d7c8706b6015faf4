//! A person who is logged in: the open page, and the REST API.

use std::collections::BTreeMap;
use std::time::Duration;

use appliance::web::show;
use futures::StreamExt as _;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::servers::{CLIENTS, SERVER};
use crate::transfer;

const POLL: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub struct Person {
    http: Client,
    token: String,
}

impl Person {
    /// Sets the first password; machines that are found then wait for a person.
    pub async fn log_in(code: &str) -> anyhow::Result<Person> {
        let authority = transfer::get(CLIENTS, "/boot/ca.pem", usize::MAX).await?;
        let http = Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&authority)?])
            .local_address(std::net::IpAddr::V4(CLIENTS))
            .build()?;
        let body = json!({ "code": code, "password": "correct horse" });
        let answer = http.post(format!("https://{SERVER}/api/v1/password")).json(&body).send().await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        let token = answer["token"].as_str().unwrap_or_default().to_owned();
        let person = Person { http, token };
        let policy = person.http.put(format!("https://{SERVER}/api/v1/policy"));
        let policy = policy.bearer_auth(&person.token).json(&json!({ "adopt": "ask", "ssh_keys": [] }));
        policy.send().await?.error_for_status()?;
        Ok(person)
    }

    async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let request = self.http.get(format!("https://{SERVER}{path}")).bearer_auth(&self.token);
        Ok(request.send().await?.error_for_status()?)
    }

    /// When `/api/v1/state` has so many machines as found.
    pub async fn state_has(&self, machines: usize) -> anyhow::Result<Instant> {
        let mut next = Instant::now();
        loop {
            let text = self.get("/api/v1/state").await?.text().await?;
            if text.matches(r#""phase":"found""#).count() >= machines {
                return Ok(Instant::now());
            }
            next = (next + POLL).max(Instant::now());
            tokio::time::sleep_until(next).await;
        }
    }

    /// When the list of machines, which is open, shows so many as found.
    pub async fn page_has(&self, machines: usize) -> anyhow::Result<Instant> {
        let page = self.get("/machines").await?.text().await?;
        anyhow::ensure!(page.contains("id=\"machines\""), "{page}");
        let mut stream = self.get("/live?of=/machines").await?.bytes_stream();
        let wanted = format!("found <small>{}</small>", show::count(machines as u64));
        let mut heard = Vec::new();
        loop {
            let chunk = stream.next().await.ok_or_else(|| anyhow::anyhow!("the page's stream ended"))??;
            let searched = heard.len();
            heard.extend_from_slice(&chunk);
            let from = searched.saturating_sub(1);
            let Some(end) = heard[from..].windows(2).rposition(|two| two == b"\n\n") else { continue };
            let rest = heard.split_off(from + end + 2);
            let events = String::from_utf8(std::mem::replace(&mut heard, rest))?;
            if events.contains(&wanted) {
                return Ok(Instant::now());
            }
        }
    }

    /// When each machine came into its phase, in milliseconds since 1970, by MAC address.
    pub async fn since(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let state: Value = self.get("/api/v1/state").await?.json().await?;
        let machines = state["machines"].as_array().cloned().unwrap_or_default();
        let found = machines.iter().filter(|machine| machine["phase"] == "found");
        let since = found.filter_map(|machine| {
            Some((machine["macs"][0].as_str()?.to_owned(), machine["since"].as_u64()?))
        });
        Ok(since.collect())
    }
}
