//! What was erased of a machine, as a page that can be printed.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Html;

use super::{Error, assets};
use crate::App;
use crate::api::erase;
use crate::certificate::Certificate;

#[derive(Template)]
#[template(path = "certificate.html")]
struct Page {
    version: String,
    id: String,
    certificates: Vec<Certificate>,
    fingerprint: String,
}

pub async fn get(State(app): State<App>, Path(id): Path<String>) -> Result<Html<String>, Error> {
    let mut certificates = erase::of(&app, &id).await?;
    certificates.reverse();
    let page = Page { version: assets::version(), id, certificates, fingerprint: app.ca.fingerprint() };
    Ok(Html(page.render()?))
}
