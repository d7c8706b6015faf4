//! Hosts and guests: their certificate, what they should be, and what they are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use fleet::wire::{AccountMade, CertificateReply, CertificateRequest, Desired, Observed};
use fleet::{Command, NodeId, Timestamp, service};
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use super::machine::{line, speaker};
use super::{NodeError, desired};
use crate::App;
use crate::core::{Actor, ExecuteError, now};
use crate::tls::Peer;

/// A long poll is answered after so long at the latest, whatever was asked for.
const LONGEST_WAIT: u64 = 60;

pub(super) async fn certificate(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(request): Json<CertificateRequest>,
) -> Result<Json<CertificateReply>, NodeError> {
    let node = match &request.enrollment {
        Some(token) => app
            .tokens
            .read_enrollment(token)
            .ok_or_else(|| NodeError::forbidden("this is not an enrollment of this site"))?,
        None => NodeId::Machine(speaker(&app.core.fleet(), &peer)?.id),
    };
    // Signed before it is recorded: a bad request must not use an enrollment up.
    let certificate_pem = app
        .ca
        .sign(&request.csr_pem, node, &peer.key)
        .map_err(|error| NodeError::forbidden(error.to_string()))?;
    match app.core.execute(&Actor::Node(node), Command::Enroll { node, key: peer.key.clone() }).await {
        Ok(_) => Ok(Json(CertificateReply { node, certificate_pem, ca_pem: app.ca.pem().to_owned() })),
        Err(ExecuteError::Refused(refusal)) => {
            app.core.note(&node.to_string(), "refused", format!("A certificate was refused: {refusal}"));
            Err(NodeError::forbidden(refusal.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The caller is `id`, by its certificate, and still the one this certificate was given to.
pub(super) fn myself(app: &App, peer: &Peer, id: &str) -> Result<NodeId, NodeError> {
    let node: NodeId = id.parse().map_err(|_| NodeError::forbidden(format!("{id:?} is not a node")))?;
    if peer.node != Some(node) {
        let who = peer.node.map_or_else(|| "a key without certificate".to_owned(), |other| other.to_string());
        app.core.note(
            &node.to_string(),
            "refused",
            format!("{who} at {} tried to act as this node", peer.address.ip()),
        );
        return Err(NodeError::forbidden(format!("this certificate is not the one of {node}")));
    }
    let fleet = app.core.fleet();
    let key = match node {
        NodeId::Machine(machine) => fleet.machines.get(&machine).and_then(|machine| machine.key.as_deref()),
        NodeId::Vm(vm) => fleet.vms.get(&vm).and_then(|vm| vm.key.as_deref()),
    };
    if key != Some(&peer.key) {
        let known = match node {
            NodeId::Machine(machine) => fleet.machines.contains_key(&machine),
            NodeId::Vm(vm) => fleet.vms.contains_key(&vm),
        };
        if known {
            return Err(NodeError::forbidden(format!("{node} is known by another key now")));
        }
        show_forgotten(app, peer, node);
        return Err(NodeError::forbidden(format!(
            "{node} was removed from this site; start it from the network to be found again"
        )));
    }
    Ok(node)
}

/// One that was removed and speaks on is on the site's timeline and its own, once an hour.
fn show_forgotten(app: &App, peer: &Peer, node: NodeId) {
    static SHOWN: Mutex<BTreeMap<NodeId, Timestamp>> = Mutex::new(BTreeMap::new());
    let at = now();
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    shown.retain(|_, before| at.secs_since(*before) < 3600);
    if shown.contains_key(&node) {
        return;
    }
    shown.insert(node, at);
    let line = format!("{node} was removed and still speaks, from {}", peer.address.ip());
    app.core.note("site", "refused", line.clone());
    app.core.note(&node.to_string(), "refused", line);
}

#[derive(Deserialize)]
pub(super) struct Wait {
    revision: Option<u64>,
    wait: Option<u64>,
}

pub(super) async fn desired(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<Json<Desired>, NodeError> {
    let node = myself(&app, &peer, &id)?;
    let mut changed = app.core.watch_fleet();
    let mut consoles = app.consoles.watch();
    let limit = Duration::from_secs(wait.wait.unwrap_or(0).min(LONGEST_WAIT));
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        changed.mark_unchanged();
        consoles.mark_unchanged();
        let desired = desired::desired(&app.core.fleet(), &app.sources(), node)
            .map_err(|error| NodeError::internal("working out the desired state", error))?;
        if wait.revision != Some(desired.revision) {
            return Ok(Json(desired));
        }
        // At its end the state is worked out once more, so that a removed node learns of it.
        let news = async {
            tokio::select! {
                _ = changed.changed() => {}
                _ = consoles.changed() => {}
            }
        };
        if tokio::time::timeout_at(deadline, news).await.is_err() {
            myself(&app, &peer, &id)?;
            return Ok(Json(desired));
        }
    }
}

pub(super) async fn observed(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Json(said): Json<Observed>,
) -> Result<StatusCode, NodeError> {
    let node = myself(&app, &peer, &id)?;
    if let NodeId::Machine(id) = node {
        let fleet = app.core.fleet();
        let hardware = fleet.machines.get(&id).and_then(|machine| machine.hardware.as_ref());
        if let Some(mac) = hardware.map(|hardware| hardware.boot_mac) {
            super::machine::learn(&app, &peer, mac).await;
        }
    }
    app.core.observe(node, said);
    Ok(StatusCode::NO_CONTENT)
}

/// What came of the account that a host was to make at its BMC.
pub(super) async fn account(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Json(AccountMade { trouble }): Json<AccountMade>,
) -> Result<StatusCode, NodeError> {
    let node = myself(&app, &peer, &id)?;
    let NodeId::Machine(machine) = node else {
        return Err(NodeError::forbidden("a VM has no BMC of its own"));
    };
    let trouble = trouble.as_deref().map(line);
    app.core.execute(&Actor::Node(node), Command::ReportAccount { machine, trouble }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn bundle(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path((id, sha256)): Path<(String, String)>,
) -> Result<Response, NodeError> {
    let node = myself(&app, &peer, &id)?;
    let fleet = app.core.fleet();
    let wanted = match node {
        NodeId::Vm(vm) => service::of_vm(&fleet, vm).any(|service| service.sha256 == sha256),
        NodeId::Machine(_) => false,
    };
    // Also what makes the name safe: only names from the log reach the file system.
    if !wanted {
        return Err(NodeError::forbidden(format!("{node} needs no such bundle")));
    }
    let file = tokio::fs::File::open(app.bundles.join(format!("{sha256}.eli")))
        .await
        .map_err(|error| NodeError::internal("reading the bundle", error))?;
    let length =
        file.metadata().await.map_err(|error| NodeError::internal("reading the bundle", error))?.len();
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}
