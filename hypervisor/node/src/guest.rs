//! The guest agent: makes a virtual machine the node of a package that the appliance says it should be.
//!
//! ```text
//! CIDATA volume ──▶ name, keys, enrollment ──▶ certificate ──▶ desired software ──▶ installed, configured, healthy
//! ```
//!
//! Everything it has learned and done is on the guest's own disk: a restart at any moment goes on where it was.

mod agent;
mod health;
mod packages;
pub mod plan;
mod seed;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::member::Membership;
use crate::places::{self, NodeFacts, STATE};
use crate::system::Files;

use agent::Agent;
use packages::Packages;

/// Works until it is stopped.
pub async fn run() -> anyhow::Result<()> {
    let state = Path::new(STATE);
    let files = Files::of_a_guest();
    let facts = facts(state, &files).await?;
    let (agent, changed) = Agent::new(Packages::at(state.join("software")), files);
    let membership = Membership::new(facts, &state.join("node"));
    agent.run(changed, membership).await
}

/// From the seed at the first start, from then on from the guest's own disk: the seed may be taken away.
async fn facts(state: &Path, files: &Files) -> anyhow::Result<NodeFacts> {
    let mut said = false;
    loop {
        if let Some(facts) = NodeFacts::find()? {
            return Ok(facts);
        }
        match seed::find() {
            Ok(Some(seed)) => {
                tracing::info!("Found this machine's first data");
                files.set_hostname(&seed.hostname)?;
                files.set_keys(&seed.ssh_authorized_keys)?;
                let json = serde_json::to_vec(&seed.elisandra).context("keeping node.json")?;
                places::write(&state.join("node.json"), json, 0o600)?;
                return Ok(seed.elisandra);
            }
            Ok(None) if !said => {
                tracing::warn!(
                    "There is no volume labelled CIDATA that says whose machine this is. Still looking"
                );
                said = true;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("{error:#}"),
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
