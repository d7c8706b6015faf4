//! The host agent: makes this machine's virtual machines what the appliance says they should be, and tells it what
//! they are.
//!
//! ```text
//! desired (long poll) ──▶ plan_node(desired, here) ──▶ steps ──▶ Hypervisor ──▶ observed (post)
//!                              ▲ every change, every ten seconds │
//!                              └─────────────────────────────────┘
//! ```
//!
//! Nothing is started from memory of an earlier desired state: while this host was off, its machines may have been given
//! to another one. After a restart they run again as soon as the appliance has spoken.

mod agent;
mod consoles;
mod images;
mod seed;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use hypervisor::{Libvirt, Places};
use node::member::Membership;
use node::places::{self, NodeFacts, STATE};
use node::system::Files;
use tracing_subscriber::EnvFilter;

use agent::Agent;
use images::Images;

#[derive(Parser)]
#[command(version, about = "Runs the virtual machines of this host as the appliance says")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Works until it is stopped
    Run,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { what: What::Run } = Arguments::parse();
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    // journald writes the time.
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).init();

    let state = Path::new(STATE);
    let facts = facts().await?;
    let hypervisor = Arc::new(Libvirt::new(Places {
        volumes: state.join("volumes"),
        consoles: state.join("consoles"),
        ..Places::default()
    }));
    let (agent, changed) =
        Agent::new(hypervisor, Images::at(state.join("images")), state.join("consoles"), Files::of_a_host());
    let appliance = facts.appliance;
    let membership = Membership::new(facts, &state.join("node"));
    agent.run(changed, membership, appliance).await
}

/// On the appliance's own machine the daemon writes them, a moment after it has started.
async fn facts() -> Result<NodeFacts, places::PlaceError> {
    let mut said = false;
    loop {
        if let Some(facts) = NodeFacts::find()? {
            return Ok(facts);
        }
        if !said {
            tracing::info!("Waiting for node.json, which says where the appliance is");
            said = true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
