//! `/api/v1/vms/{id}/console`, `/api/v1/machines/{id}/console`, `…/said`: WebSockets. [`crate::consoles::carry`] says what
//! is spoken on them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::ws::WebSocket;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Query, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use fleet::user::Role;
use fleet::vm;
use fleet::wire::ConsoleKind;
use schemars::JsonSchema;
use serde::Deserialize;

use super::guard::{self, Person};
use super::{machines, vms};
use crate::consoles::carry::{self, End, LONGEST_MESSAGE, Shown, Viewer};
use crate::consoles::{Line, Place};
use crate::{App, core, power, web};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// serial if nothing is said, or graphic.
    kind: Option<ConsoleKind>,
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

pub async fn of_vm(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Query(Wanted { kind }): Query<Wanted>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, web::Error> {
    let id = vms::find(&person.sees(&app).fleet, &id)?.id.to_string();
    let fleet = app.core.fleet();
    let vm = vms::find(&fleet, &id)?;
    if vm.phase == vm::Phase::Removing {
        let sentence = format!("{} is being removed", vm.name);
        return Err(web::Error::refused(StatusCode::CONFLICT, sentence));
    }
    let (vm, host, kind) = (vm.id, vm.host, kind.unwrap_or(ConsoleKind::Serial));
    let (upgrade, viewer) = ready(&app, &person, Role::Operator, &uri, &headers, upgrade)?;
    Ok(upgrade.on_upgrade(async move |socket| {
        let line = match Arc::clone(&app.consoles).of_vm(vm, host, kind) {
            Ok(coming) => coming.line().await,
            Err(sentence) => Err(sentence),
        };
        show(&app, socket, line, (Shown::Vm(vm, host), kind.word()), &viewer).await;
    }))
}

/// The serial line of a machine, by its BMC.
pub async fn of_machine(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.clone();
    let (upgrade, viewer) = ready(&app, &person, Role::Operator, &uri, &headers, upgrade)?;
    Ok(upgrade.on_upgrade(async move |socket| {
        let line = match app.consoles.of_machine(machine.id) {
            Ok(place) => power::serial(&app, &machine).await.map(|line| (Box::new(line) as _, place)),
            Err(sentence) => Err(sentence),
        };
        show(&app, socket, line, (Shown::Machine(machine.id), "serial"), &viewer).await;
    }))
}

/// What a machine says in its initrd, while it is found and installed.
pub async fn said(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, web::Error> {
    let machine = machines::find(&app.core.fleet(), &id)?.id;
    let (upgrade, viewer) = ready(&app, &person, Role::Viewer, &uri, &headers, upgrade)?;
    Ok(upgrade.on_upgrade(async move |socket| {
        let place = app.consoles.of_heard(machine);
        let line = place.map(|place| (app.consoles.heard.line(machine, core::now()), place));
        show(&app, socket, line, (Shown::Machine(machine), "installer's"), &viewer).await;
    }))
}

/// Carries a console that is there, or says why it is not; its place is held so long.
async fn show(
    app: &App,
    socket: WebSocket,
    line: Result<(Box<dyn Line>, Place), String>,
    shown: (Shown, &str),
    viewer: &Viewer,
) {
    match line {
        Ok((line, _place)) => carry::carry(app, socket, line, shown, viewer).await,
        Err(sentence) => carry::refuse(socket, End::trouble(sentence)).await,
    }
}

/// What every console asks of who wants to see it, besides his role.
fn ready(
    app: &App,
    person: &Person,
    needs: Role,
    uri: &Uri,
    headers: &HeaderMap,
    upgrade: Upgrade,
) -> Result<(WebSocketUpgrade, Viewer), web::Error> {
    // Browsers let every page open a WebSocket to everywhere, and send the cookie along.
    guard::of_our_page(headers, uri)?;
    if app.rehearsal {
        let sentence = "nothing here is real, so there are no consoles";
        return Err(web::Error::refused(StatusCode::CONFLICT, sentence));
    }
    let upgrade = upgrade.map_err(|rejection| {
        let sentence = format!("a console is a WebSocket (RFC 6455): {}", rejection.body_text());
        web::Error::refused(StatusCode::BAD_REQUEST, sentence)
    })?;
    let token = guard::token(headers).ok_or_else(web::Error::not_logged_in)?.to_owned();
    let viewer = Viewer { needs, token, name: person.orders().to_string() };
    Ok((upgrade.max_message_size(LONGEST_MESSAGE).max_frame_size(LONGEST_MESSAGE), viewer))
}
