//! `eli install FILE`: uploads a bundle and follows it until it answers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use fleet::is_label;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Body;
use tokio_util::io::ReaderStream;

use super::client::Client;
use super::nouns::segment;
use super::wait::{self, Reporter};
use crate::api::Changed;
use crate::api::packages::Kept;
use crate::api::services::Service;
use crate::api::state::State;
use crate::packages;

#[derive(Args)]
pub struct Install {
    /// A .eli file, or the name of a package that is kept
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// For a tenant; its service is called TENANT-PACKAGE
    #[arg(long)]
    tenant: Option<String>,
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
    let mut reporter = Reporter::start();
    let (name, installed) = send(client, &install).await?;
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
    reporter.end(&format!("{name} answers at {url}"));
    Ok(())
}

/// What was sent is called, and what came of it.
async fn send(client: &Client, install: &Install) -> anyhow::Result<(String, Changed)> {
    let tenant = install.tenant.clone();
    let name = install.file.to_str().filter(|name| is_label(name) && !install.file.exists());
    if let Some(name) = name {
        let kept = Kept { package: name.to_owned(), tenant };
        return Ok((name.to_owned(), client.send("POST", "/packages", &kept).await?));
    }
    // What is wrong with the bundle is better said before it has been sent.
    let bundle = packages::read(&install.file).with_context(|| install.file.display().to_string())?;
    let file = tokio::fs::File::open(&install.file).await.context("opening the bundle")?;
    let body = Body::wrap_stream(counted(file, bundle.bytes));
    let path = match tenant {
        Some(tenant) => format!("/packages?tenant={}", segment(&tenant)),
        None => "/packages".to_owned(),
    };
    Ok((bundle.manifest.name, client.upload(&path, bundle.bytes, body).await?))
}

fn report(reporter: &mut Reporter, state: &State, service: &Service) {
    for node in &service.nodes {
        if let Some(vm) = state.vms.iter().find(|vm| vm.id == node.id) {
            let place = if vm.host_name.is_empty() { String::new() } else { format!(" on {}", vm.host_name) };
            reporter.say_state(&vm.name, &format!("{}{place}", vm.phase), &vm.waiting);
        }
    }
    reporter.say_state(&service.name, &service.phase, &service.waiting);
}

/// The file, with how much of it has been sent shown on a terminal.
pub fn counted(
    file: tokio::fs::File,
    total: u64,
) -> impl futures::Stream<Item = std::io::Result<axum::body::Bytes>> + Send + 'static {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let template = "  uploading {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    ReaderStream::with_capacity(file, 1 << 16).inspect(move |chunk| {
        let Ok(chunk) = chunk else { return };
        bar.inc(chunk.len() as u64);
        if bar.position() >= total {
            bar.finish_and_clear();
        }
    })
}
