//! A client of the appliance's REST API, and the parts of its documents that the
//! lab looks at. It is written against the wire, not against the appliance's own
//! types, so that a change that breaks others' clients breaks this one first.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bmc;
use crate::lan::Mac;
use crate::machine::mac_text;
use crate::trust::{self, SERVER_NAME};

/// The person that the first password is for.
pub const USER: &str = "admin";

pub struct Api {
    client: Client,
    base: String,
    token: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct State {
    pub daemon: Daemon,
    pub machines: Vec<Machine>,
    pub vms: Vec<Vm>,
    pub services: Vec<Service>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Daemon {
    pub resident_bytes: Option<u64>,
    pub memory_only: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Machine {
    pub id: String,
    pub name: String,
    pub phase: String,
    pub appliance: bool,
    pub addresses: Vec<Ipv4Addr>,
    pub macs: Vec<String>,
    pub firmware: Option<String>,
    pub attempts: u32,
    pub waiting: Vec<Wait>,
    pub question: Option<Question>,
    /// Milliseconds since 1970, by the appliance's clock.
    pub seen_at: Option<u64>,
    /// Absent while its BMC does not answer.
    pub power: Option<Power>,
    pub fence: Option<Fence>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Power {
    /// on, off
    pub is: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Fence {
    /// cutting, off
    pub phase: String,
    pub why: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Question {
    pub serial: String,
    pub sentence: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Vm {
    pub id: String,
    pub name: String,
    pub host_name: String,
    pub phase: String,
    pub address: Option<Ipv4Addr>,
    pub waiting: Vec<Wait>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Service {
    pub id: String,
    pub name: String,
    pub phase: String,
    pub url: String,
    pub address: Ipv4Addr,
    pub port: u16,
    pub waiting: Vec<Wait>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Wait {
    pub what: String,
    pub hint: Option<String>,
}

/// A line of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Line {
    pub at: u64,
    pub kind: String,
    pub text: String,
}

impl State {
    pub fn machine(&self, mac: Mac) -> Option<&Machine> {
        let mac = mac_text(mac);
        self.machines.iter().find(|machine| machine.macs.contains(&mac))
    }

    pub fn vm(&self, name: &str) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.name == name)
    }

    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// One line for each thing: what it is and what it waits for.
    pub fn summary(&self) -> String {
        let machines = self.machines.iter().map(|it| (&it.name, &it.phase, &it.waiting));
        let vms = self.vms.iter().map(|it| (&it.name, &it.phase, &it.waiting));
        let services = self.services.iter().map(|it| (&it.name, &it.phase, &it.waiting));
        let lines = machines.chain(vms).chain(services).map(|(name, phase, waiting)| {
            let waits: Vec<&str> = waiting.iter().map(|wait| wait.what.as_str()).collect();
            format!("  {name}: {phase}; {}", waits.join("; "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Api {
    /// For the appliance whose page is at `address`, trusted by its fingerprint.
    pub fn new(address: SocketAddr, ca_sha256: &str) -> Result<Api> {
        let client = Client::builder()
            .tls_backend_preconfigured(trust::client_config(ca_sha256)?)
            .resolve(SERVER_NAME, address)
            .timeout(Duration::from_secs(60))
            .connect_timeout(Duration::from_secs(10))
            .build()?;
        Ok(Api { client, base: format!("https://{SERVER_NAME}:{}/api/v1", address.port()), token: None })
    }

    /// Sets the first password with the code on the appliance's screen; this
    /// client is logged in with it from then on.
    pub fn set_first_password(&mut self, code: &str, password: &str) -> Result<()> {
        let body = json!({ "code": code, "password": password });
        let answer = self.client.post(format!("{}/password", self.base)).json(&body).send()?;
        self.take_token(answer).context("setting the first password")
    }

    pub fn log_in(&mut self, password: &str) -> Result<()> {
        let body = json!({ "user": USER, "password": password });
        let answer = self.client.post(format!("{}/login", self.base)).json(&body).send()?;
        self.take_token(answer).context("logging in")
    }

    fn take_token(&mut self, answer: Response) -> Result<()> {
        let answer: Value = accepted(answer)?.json()?;
        self.token = Some(answer["token"].as_str().context("the appliance gave no token")?.to_string());
        Ok(())
    }

    pub fn state(&self) -> Result<State> {
        self.get("state")
    }

    pub fn timeline(&self, id: &str) -> Result<Vec<Line>> {
        self.get(&format!("timeline/{id}"))
    }

    /// `wipe` names the disks (by serial) that may lose what is on them.
    pub fn adopt(&self, machine: &str, wipe: &[&str]) -> Result<()> {
        let path = format!("{}/machines/{machine}/adopt", self.base);
        accepted(self.with_token(self.client.post(path)).json(&json!({ "wipe": wipe })).send()?).map(drop)
    }

    /// Tells the appliance how a machine is switched.
    pub fn set_bmc(&self, machine: &str, bmc: &bmc::Bmc) -> Result<()> {
        let path = format!("{}/machines/{machine}/bmc", self.base);
        let body = json!({
            "kind": bmc.kind.word(),
            "address": bmc.address_from_appliance(),
            "user": bmc::USER,
            "password": bmc::PASSWORD,
            "options": bmc.options(),
        });
        accepted(self.with_token(self.client.put(path)).json(&body).send()?).map(drop)
    }

    /// Lets this key in as root wherever the site's policy reaches.
    pub fn let_in(&self, ssh_key: &str) -> Result<()> {
        let mut policy: Value = self.get("policy")?;
        policy["ssh_keys"] = json!([ssh_key]);
        let path = format!("{}/policy", self.base);
        accepted(self.with_token(self.client.put(path)).json(&policy).send()?).map(drop)
    }

    /// Any path below `/api/v1/`, as this client or as nobody: gives the status.
    pub fn status_without_login(&self, path: &str) -> Result<u16> {
        Ok(self.client.get(format!("{}/{path}", self.base)).send()?.status().as_u16())
    }

    /// Looks at the state until `ready` gives something. The appliance may be
    /// out of reach meanwhile.
    pub fn wait_until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&State) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        loop {
            let state = self.state();
            if let Ok(state) = &state
                && let Some(found) = ready(state)
            {
                return Ok(found);
            }
            if Instant::now() > end {
                let seconds = limit.as_secs();
                match state {
                    Ok(state) => bail!("not within {seconds} s: {what}. Now:\n{}", state.summary()),
                    Err(error) => return Err(error.context(format!("not within {seconds} s: {what}"))),
                }
            }
            thread::sleep(Duration::from_millis(250));
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.with_token(self.client.get(format!("{}/{path}", self.base))).send()?;
        accepted(answer)?.json().with_context(|| format!("reading the appliance's answer to {path}"))
    }

    fn with_token(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

/// A refusal becomes an error with the appliance's own sentence.
fn accepted(answer: Response) -> Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().unwrap_or_default();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    bail!("the appliance refused ({status}): {}", body["detail"].as_str().unwrap_or(&text))
}
