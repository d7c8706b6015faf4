//! `eli install FILE`: uploads a bundle and follows it until it answers.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use futures::StreamExt as _;
use reqwest::Body;
use tokio_util::io::ReaderStream;

use super::client::Client;
use super::wait::{self, Reporter};
use crate::api::Changed;
use crate::api::services::Service;
use crate::api::state::State;
use crate::packages;

#[derive(Args)]
pub struct Install {
    file: PathBuf,
    /// Until it answers; this is what is done without being said
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
    /// Only until the appliance has taken it
    #[arg(long)]
    no_wait: bool,
    /// Give up watching after so many seconds
    #[arg(long, default_value_t = 1800)]
    timeout: u64,
}

pub async fn install(client: &Client, install: Install) -> anyhow::Result<()> {
    // What is wrong with the bundle is better said before it has been sent.
    let bundle = packages::read(&install.file).with_context(|| install.file.display().to_string())?;
    let mut reporter = Reporter::start();
    let name = bundle.manifest.name.clone();

    let file = tokio::fs::File::open(&install.file).await.context("opening the bundle")?;
    let body = Body::wrap_stream(counted(file, bundle.bytes));
    let installed: Changed = client.upload("/packages", bundle.bytes, body).await?;
    for sentence in &installed.changed {
        reporter.say("appliance", sentence);
    }
    let id = installed.id.context("the appliance did not say which service this is")?;
    if install.no_wait {
        return Ok(());
    }
    let url = wait::follow(client, Duration::from_secs(install.timeout), |state| {
        let Some(service) = state.services.iter().find(|service| service.id.to_string() == id) else {
            bail!("{name} was removed meanwhile");
        };
        report(&mut reporter, state, service);
        Ok((service.phase == "answering").then(|| service.url.clone()))
    })
    .await?;
    println!("{name} answers at {url} ({} s)", reporter.secs());
    Ok(())
}

fn report(reporter: &mut Reporter, state: &State, service: &Service) {
    for node in &service.nodes {
        if let Some(vm) = state.vms.iter().find(|vm| vm.id == node.id) {
            reporter.say_state(&vm.name, &format!("{} on {}", vm.phase, vm.host_name), &vm.waiting);
        }
    }
    reporter.say_state(&service.name, &service.phase, &service.waiting);
}

/// The file, with how much of it has been sent shown on a terminal.
pub fn counted(
    file: tokio::fs::File,
    total: u64,
) -> impl futures::Stream<Item = std::io::Result<axum::body::Bytes>> + Send + 'static {
    let sent = Arc::new(AtomicU64::new(0));
    let shown = std::io::stderr().is_terminal();
    ReaderStream::with_capacity(file, 1 << 16).inspect(move |chunk| {
        let Ok(chunk) = chunk else { return };
        let bytes = chunk.len() as u64;
        let before = sent.fetch_add(bytes, Ordering::Relaxed);
        let percent = |bytes: u64| (bytes * 100).checked_div(total).unwrap_or(100);
        if shown && percent(before) != percent(before + bytes) {
            eprint!(
                "\r        uploading, {} %{}",
                percent(before + bytes),
                if before + bytes == total { "\n" } else { "" }
            );
            // A progress line that cannot be shown must not end the upload.
            let _ = std::io::stderr().flush();
        }
    })
}
