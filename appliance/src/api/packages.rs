//! `/api/v1/packages`: bundles that are kept, and installing a new one.

use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest as _, Multipart, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use fleet::package::{Bundle, Requires};
use fleet::{Command, Event, Fleet, Refusal, service};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, Force, vms};
use crate::{App, incoming, packages, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub summary: String,
    pub sha256: String,
    pub bytes: u64,
    /// For each node.
    pub requires: Requires,
    pub nodes_min: u32,
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Package>, web::Error> {
    page.of_all(all(&app.core.fleet()), |package| package.name.clone())
}

/// A package that is kept already, to be installed by its name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub package: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// `?tenant=acme`
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct For {
    /// Whose the service is to be.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// Takes a bundle as the body, or as a file of a form, and installs it; or the name of one that is kept, as JSON.
pub async fn install(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Query(For { tenant }): Query<For>,
    request: Request,
) -> Result<(StatusCode, axum::Json<Changed>), web::Error> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        // The route has no limit of its own: a bundle is streamed, and this is not.
        let body = to_bytes(request.into_body(), LONGEST_NAME).await.map_err(|error| {
            web::Error::refused(StatusCode::PAYLOAD_TOO_LARGE, format!("the body cannot be read: {error}"))
        })?;
        let kept: Kept =
            serde_json::from_slice(&body).map_err(|error| Refusal::Invalid(error.to_string()))?;
        return install_kept(&app, &person, Kept { tenant: kept.tenant.or(tenant), ..kept }).await;
    }
    if let Some(tenant) = person.tenant() {
        let sentence =
            format!("bundles are brought by the site; {tenant} installs what is kept, by its name");
        return Err(Refusal::NotTenants(sentence).into());
    }
    let bundle = if kind.starts_with("multipart/form-data") {
        let unreadable = |text: String| web::Error::refused(StatusCode::BAD_REQUEST, text);
        let mut form =
            Multipart::from_request(request, &()).await.map_err(|error| unreadable(error.body_text()))?;
        let field = form.next_field().await.map_err(|error| unreadable(error.body_text()))?;
        let Some(field) = field else { return Err(unreadable("the form has no file".to_owned())) };
        packages::receive(&app.bundles, packages::LIMIT, field).await?
    } else {
        let body = Body::into_data_stream(request.into_body());
        packages::receive(&app.bundles, packages::LIMIT, body).await?
    };
    Ok(installed(&person, &decide(&app, &person, bundle, tenant).await?))
}

async fn install_kept(
    app: &App,
    person: &Person,
    Kept { package, tenant }: Kept,
) -> Result<(StatusCode, axum::Json<Changed>), web::Error> {
    let known = app.core.fleet().packages.get(&package).map(|package| package.bundle.clone());
    let bundle = known.ok_or(Refusal::Missing { what: "package", name: package })?;
    let image = vms::guest_image(app)?;
    let command = Command::InstallPackage { bundle, image, tenant: person.makes_for(tenant) };
    let events = app.core.execute(&person.actor(), command).await?;
    Ok(installed(person, &events))
}

fn installed(person: &Person, events: &[Event]) -> (StatusCode, axum::Json<Changed>) {
    let mut changed = person.told(events);
    changed.leftovers.clear();
    changed.id = events.iter().find_map(|event| match event {
        Event::Service(service::Event::Created(service)) => Some(service.id.to_string()),
        _ => None,
    });
    (StatusCode::CREATED, changed)
}

/// Of a body that names a package.
const LONGEST_NAME: usize = 4096;

const HOUR: Duration = Duration::from_secs(3600);

static TURN: Mutex<()> = Mutex::const_new(());

/// What was refused is not kept; one at a time, so that what one caller is refused is not what another installs.
async fn decide(
    app: &App,
    person: &Person,
    bundle: Bundle,
    tenant: Option<String>,
) -> Result<Vec<Event>, web::Error> {
    let _turn = TURN.lock().await;
    let sha256 = bundle.sha256.clone();
    let decided = match vms::guest_image(app) {
        Ok(image) => {
            let command = Command::InstallPackage { bundle, image, tenant };
            app.core.execute(&person.actor(), command).await.map_err(web::Error::from)
        }
        Err(error) => Err(error),
    };
    if person.rehearsal.is_none() || decided.is_err() {
        forget(app, &sha256).await;
    } else if let Err(error) = packages::planned::keep(&app.bundles, &sha256) {
        tracing::warn!(%error, "A bundle that was planned to be installed will not be swept");
    }
    decided
}

/// A plan that is applied needs the bundles that it installs; one that was only planned is kept for a day.
pub(super) async fn hold(app: &App, commands: &[Command]) -> Result<(), Refusal> {
    let _turn = TURN.lock().await;
    for command in commands {
        let Command::InstallPackage { bundle, .. } = command else { continue };
        if !packages::path(&app.bundles, &bundle.sha256).exists() {
            let manifest = &bundle.manifest;
            return Err(Refusal::Conflict(format!(
                "the bundle of {} {} is not kept here any more; plan its installation again",
                manifest.name, manifest.version
            )));
        }
        if let Err(error) = packages::planned::keep_on(&app.bundles, &bundle.sha256) {
            tracing::warn!(%error, "A bundle may be swept before it is installed");
        }
    }
    Ok(())
}

/// Sweeps every hour.
pub async fn run(app: App, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut hours = tokio::time::interval(HOUR);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = hours.tick() => {}
        }
        for folder in [app.bundles.clone(), app.systems.clone()] {
            let shown = folder.display().to_string();
            if let Err(error) = incoming::blocking(move || incoming::sweep(&folder, SystemTime::now())).await
            {
                tracing::warn!(%error, folder = shown, "What a killed daemon was receiving could not be removed");
            }
        }
        if let Err(error) = sweep(&app, SystemTime::now()).await {
            tracing::warn!(%error, "Bundles that were only planned could not be looked for");
        }
    }
}

/// Deletes bundles that were planned to be installed more than a day ago and were not.
pub async fn sweep(app: &App, now: SystemTime) -> std::io::Result<()> {
    let _turn = TURN.lock().await;
    for sha256 in packages::planned::over(&app.bundles, now)? {
        forget(app, &sha256).await;
        packages::planned::forget(&app.bundles, &sha256)?;
    }
    Ok(())
}

/// Deletes a bundle that nothing needs.
async fn forget(app: &App, sha256: &str) {
    let fleet = app.core.fleet();
    let wanted = fleet.packages.values().any(|package| package.bundle.sha256 == sha256)
        || fleet.services.values().any(|service| service.sha256 == sha256);
    let path = packages::path(&app.bundles, sha256);
    if !wanted && let Err(error) = tokio::fs::remove_file(&path).await {
        tracing::warn!(%error, path = %path.display(), "A bundle that nothing needs could not be removed");
    }
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<axum::Json<Changed>, web::Error> {
    let sha256 = app.core.fleet().packages.get(&name).map(|package| package.bundle.sha256.clone());
    let events = app.core.execute(&person.actor(), Command::RemovePackage { name, force }).await?;
    let _turn = TURN.lock().await;
    if let Some(sha256) = sha256.filter(|_| person.rehearsal.is_none()) {
        forget(&app, &sha256).await;
    }
    Ok(Changed::by(&events))
}

pub fn all(fleet: &Fleet) -> Vec<Package> {
    let bundles = fleet.packages.values().map(|package| &package.bundle);
    bundles
        .map(|bundle| Package {
            name: bundle.manifest.name.clone(),
            version: bundle.manifest.version.clone(),
            summary: bundle.manifest.summary.clone(),
            sha256: bundle.sha256.clone(),
            bytes: bundle.bytes,
            requires: bundle.manifest.requires.clone(),
            nodes_min: bundle.manifest.nodes.min,
        })
        .collect()
}
