//! Hosts bring the consoles of their VMs: the connection is upgraded, and is the console from then on.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use fleet::wire::{CONSOLE_PROTOCOL, ConsoleTrouble};
use fleet::{MachineId, NodeId};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::NodeError;
use super::member::myself;
use crate::App;
use crate::consoles::{Answer, Line};
use crate::tls::Peer;

pub(super) async fn bring(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path((id, console)): Path<(String, String)>,
    mut request: Request,
) -> Result<Response, NodeError> {
    let (host, console) = named(&app, &peer, &id, &console)?;
    if request.headers().get(header::UPGRADE).is_none_or(|wanted| wanted != CONSOLE_PROTOCOL) {
        let sentence = format!("a console is brought by upgrading the connection to {CONSOLE_PROTOCOL}");
        return Err(NodeError { status: StatusCode::UPGRADE_REQUIRED, sentence });
    }
    let tell = taken(&app, host, console)?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let answer = match upgraded.await {
            Ok(line) => Ok(Box::new(TokioIo::new(line)) as Box<dyn Line>),
            Err(error) => Err(format!("its host could not bring the console: {error}")),
        };
        // Who waited may have left meanwhile; then the line is closed.
        let _ = tell.send(answer);
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(CONSOLE_PROTOCOL)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// There is none to bring.
pub(super) async fn trouble(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path((id, console)): Path<(String, String)>,
    Json(ConsoleTrouble { error }): Json<ConsoleTrouble>,
) -> Result<StatusCode, NodeError> {
    let (host, console) = named(&app, &peer, &id, &console)?;
    let line: String = error.chars().filter(|c| !c.is_control()).take(500).collect();
    let _ = taken(&app, host, console)?.send(Err(line));
    Ok(StatusCode::NO_CONTENT)
}

fn named(app: &App, peer: &Peer, id: &str, console: &str) -> Result<(MachineId, Uuid), NodeError> {
    let NodeId::Machine(host) = myself(app, peer, id)? else {
        return Err(NodeError::forbidden(format!("{id} carries no VMs")));
    };
    let console = console.parse().map_err(|_| NodeError::forbidden("this is not a console"))?;
    Ok((host, console))
}

fn taken(app: &App, host: MachineId, console: Uuid) -> Result<oneshot::Sender<Answer>, NodeError> {
    let (vm, tell) = app
        .consoles
        .take(console, host)
        .ok_or_else(|| NodeError::forbidden(format!("{host} is asked for no such console")))?;
    // It may have been given to another host since.
    if app.core.fleet().vms.get(&vm).is_none_or(|vm| vm.host != host) {
        return Err(NodeError::forbidden(format!("{vm} is not on {host}")));
    }
    Ok(tell)
}
