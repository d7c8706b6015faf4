//! The page of a console, and what it is shown with.
//!
//! xterm.js and noVNC are no part of the program: they are files of a folder, as npm lays them out.

use std::path::PathBuf;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fleet::user::Role;
use fleet::wire::ConsoleKind;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Error, assets};
use crate::api::guard::Person;
use crate::api::{machines, vms};
use crate::{App, consoles};

/// What stands for the whole of each: without it there is none.
const NEEDED: [&str; 4] = [
    "@xterm/xterm/lib/xterm.mjs",
    "@xterm/xterm/css/xterm.css",
    "@xterm/addon-fit/lib/addon-fit.mjs",
    "@novnc/novnc/core/rfb.js",
];

#[derive(Template)]
#[template(path = "console.html")]
struct Console {
    version: String,
    /// For style sheets that xterm.js writes; nothing else on the page may.
    nonce: String,
    person: Person,
    /// Of the thing whose console it is.
    href: String,
    name: String,
    /// Where its bytes are.
    socket: String,
    kind: &'static str,
    /// Other consoles of it.
    others: Vec<(String, &'static str)>,
    /// Why there is nothing to see.
    trouble: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Wanted {
    kind: Option<ConsoleKind>,
}

pub async fn of_vm(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Query(Wanted { kind }): Query<Wanted>,
) -> Result<Response, Error> {
    let fleet = person.sees(&app).fleet;
    let vm = vms::find(&fleet, &id)?;
    let kind = kind.unwrap_or(ConsoleKind::Serial);
    let other = match kind {
        ConsoleKind::Serial => ConsoleKind::Graphic,
        ConsoleKind::Graphic => ConsoleKind::Serial,
    };
    let (href, name) = (format!("/vms/{}", vm.id), vm.name.to_string());
    let socket = format!("/api/v1{href}/console?kind={}", kind.word());
    let others = vec![(format!("{href}/console?kind={}", other.word()), other.word())];
    show(&app, person, (href, name), (socket, kind.word()), others)
}

/// What there is of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfMachine {
    /// By its BMC.
    Serial,
    /// What it says itself in its initrd.
    Installer,
}

#[derive(Debug, Deserialize)]
pub struct WantedOfMachine {
    kind: Option<OfMachine>,
}

pub async fn of_machine(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Query(WantedOfMachine { kind }): Query<WantedOfMachine>,
) -> Result<Response, Error> {
    let fleet = app.core.fleet();
    let machine = machines::find(&fleet, &id)?;
    let (href, name) = (format!("/machines/{}", machine.id), machine.name.to_string());
    let page = |kind| format!("{href}/console?kind={kind}");
    let (socket, kind, others) = match kind.unwrap_or(OfMachine::Installer) {
        OfMachine::Serial => ("console", "serial", vec![(page("installer"), "installer")]),
        OfMachine::Installer if machine.power.bmc.is_some() => {
            ("said", "installer", vec![(page("serial"), "serial")])
        }
        OfMachine::Installer => ("said", "installer", Vec::new()),
    };
    let socket = format!("/api/v1{href}/{socket}");
    show(&app, person, (href.clone(), name), (socket, kind), others)
}

fn show(
    app: &App,
    person: Person,
    (href, name): (String, String),
    (socket, kind): (String, &'static str),
    others: Vec<(String, &'static str)>,
) -> Result<Response, Error> {
    let trouble = if person.role < Role::Operator && kind != "installer" {
        let takes = Role::Operator.with_article();
        Some(format!("{} is {}; a console takes {takes}.", person.user.name, person.role.with_article()))
    } else {
        missing(&app.consoles)
    };
    let nonce = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; \
         connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    );
    let version = assets::version();
    let page = Console { version, nonce, person, href, name, socket, kind, others, trouble };
    Ok(([(header::CONTENT_SECURITY_POLICY, policy)], Html(page.render()?)).into_response())
}

fn missing(consoles: &consoles::Consoles) -> Option<String> {
    let missing = NEEDED.iter().find(|file| !consoles.libraries.join(file).is_file())?;
    Some(format!(
        "What consoles are shown with is not installed: {} has no {missing}.",
        consoles.libraries.display()
    ))
}

/// A file of the libraries.
pub async fn library(
    State(app): State<App>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let not_there = || Error::refused(StatusCode::NOT_FOUND, "there is no such file");
    let path = path_of(&file).ok_or_else(not_there)?;
    let kind = match path.extension().and_then(|extension| extension.to_str()) {
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => return Err(not_there()),
    };
    let bytes = tokio::fs::read(app.consoles.libraries.join(path)).await.map_err(|_| not_there())?;
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&bytes)[..8]));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str());
    let about = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    Ok((about, [(header::CONTENT_TYPE, kind)], bytes).into_response())
}

/// Names of the letters that npm's packages are made of, none of which leads out of the folder.
fn path_of(file: &str) -> Option<PathBuf> {
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"@._-".contains(&b))
    };
    file.split('/').all(good).then(|| PathBuf::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        assert!(path_of("@xterm/xterm/lib/xterm.mjs").is_some());
        for bad in
            ["../secret", "/etc/passwd.js", "a//b.js", "a/../../b.js", "a/.b.js", "a\\b.js", "a\0.js", ""]
        {
            assert_eq!(path_of(bad), None, "{bad:?}");
        }
    }
}
