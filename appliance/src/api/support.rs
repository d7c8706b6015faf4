//! `GET /api/v1/support`: what somebody needs who is asked for help, in one archive, without secrets.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use fleet::Fleet;
use fleet::machine::Phase;
use serde::Serialize;
use serde_json::{Value, json};

use super::events::Happened;
use super::state;
use crate::{App, core, metrics, web};

const EVENTS: u32 = 5000;
const LINES: u32 = 500;

/// Timelines of machines that are not as they should be.
const MACHINES: usize = 50;

const JOURNAL_LINES: &str = "20000";
const JOURNAL_LIMIT: Duration = Duration::from_secs(20);

/// What stands in place of a secret.
const LEFT_OUT: &str = "(left out)";

/// The settings of this daemon as they may be shown.
#[derive(Debug, Clone)]
pub struct Settings(pub String);

/// A file of the archive.
type Part = (&'static str, Vec<u8>);

pub async fn get(
    State(app): State<App>,
    settings: Option<Extension<Settings>>,
) -> Result<Response, web::Error> {
    let mut parts: Vec<Part> = vec![
        ("about.json", json(&about())?),
        ("state.json", json(&state::state(&app))?),
        ("metrics.txt", metrics::text(&app).into_bytes()),
    ];
    if let Some(Extension(Settings(text))) = settings {
        parts.push(("settings.txt", text.into_bytes()));
    }
    parts.push(("history.jsonl", history(&app).await?));
    parts.push(("timelines.jsonl", timelines(&app).await?));
    parts.push(("journal.txt", journal().await));
    let archive = tokio::task::spawn_blocking(move || archive(&parts)).await;
    let archive = archive.map_err(|error| web::Error::Broken(error.into()))?;
    let archive = archive.map_err(|error| web::Error::Broken(error.into()))?;
    let name = format!("attachment; filename=\"elisandra-support-{}.tar.gz\"", core::now().0);
    let headers =
        [(header::CONTENT_TYPE, "application/gzip".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, archive).into_response())
}

fn about() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    json!({
        "elisandra": env!("CARGO_PKG_VERSION"),
        "made_at": core::now(),
        "kernel": read("/proc/version"),
        "system": read("/etc/os-release"),
        "memory": read("/proc/meminfo").lines().take(3).collect::<Vec<_>>(),
        "load": read("/proc/loadavg"),
    })
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, web::Error> {
    let broken = |error: serde_json::Error| web::Error::Broken(error.into());
    let mut value = serde_json::to_value(value).map_err(broken)?;
    leave_out(&mut value);
    serde_json::to_vec_pretty(&value).map_err(broken)
}

/// Empties fields that hold a secret, or text of a person that may hold one.
pub fn leave_out(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                let is_secret = ["password", "secret", "token", "private", "template", "arguments"]
                    .iter()
                    .any(|word| name.contains(word));
                if is_secret && !value.is_boolean() && !value.is_null() {
                    *value = json!(LEFT_OUT);
                } else {
                    leave_out(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(leave_out),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn history(app: &App) -> Result<Vec<u8>, web::Error> {
    let after = (app.core.position() - i64::from(EVENTS)).max(0);
    let (records, fleet) = (app.core.history(after, EVENTS).await?, app.core.fleet());
    lines(records.iter().map(|record| Happened::of(&fleet, record)))
}

async fn timelines(app: &App) -> Result<Vec<u8>, web::Error> {
    let mut entries = Vec::new();
    for subject in wanted(&app.core.fleet()) {
        entries.extend(super::timeline::entries(app, None, &subject, LINES).await?);
    }
    lines(entries.iter())
}

fn wanted(fleet: &Fleet) -> Vec<String> {
    let unready = fleet.machines.values().filter(|machine| !matches!(machine.phase, Phase::Ready));
    let unready = unready.take(MACHINES).map(|machine| machine.id.to_string());
    std::iter::once("site".to_owned()).chain(unready).collect()
}

fn lines<T: Serialize>(values: impl Iterator<Item = T>) -> Result<Vec<u8>, web::Error> {
    let mut out = Vec::new();
    for value in values {
        serde_json::to_writer(&mut out, &value).map_err(|error| web::Error::Broken(error.into()))?;
        out.push(b'\n');
    }
    Ok(out)
}

/// The last lines of our units, where there is a journal.
async fn journal() -> Vec<u8> {
    let mut command = tokio::process::Command::new("journalctl");
    command
        .args(["--no-pager", "--output=short-iso", "--boot", "--lines", JOURNAL_LINES])
        .args(["--unit=elisandra*", "--unit=libvirt*"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(JOURNAL_LIMIT, command.output()).await {
        Ok(Ok(output)) if output.status.success() => output.stdout,
        Ok(Ok(output)) => [b"journalctl: ".as_slice(), &output.stderr].concat(),
        Ok(Err(error)) => format!("there is no journal here: {error}\n").into_bytes(),
        Err(_) => b"the journal did not answer\n".to_vec(),
    }
}

fn archive(parts: &[Part]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, bytes) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(core::now().0 / 1000);
        header.set_cksum();
        archive.append_data(&mut header, format!("elisandra-support/{name}"), bytes.as_slice())?;
    }
    let mut file = archive.into_inner()?;
    file.flush()?;
    file.finish()
}
