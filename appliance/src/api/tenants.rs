//! `/api/v1/tenants`: who shares the site, and how much each may have.

use axum::Extension;
use axum::extract::{Path, State};
use fleet::tenant::{self, Limits, Tenant, Usage};
use fleet::{Command, Fleet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::paging::{Page, Part};
use super::{Changed, Json};
use crate::{App, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ListedTenant")]
pub struct Listed {
    #[serde(flatten)]
    pub tenant: Tenant,
    pub usage: Usage,
    pub services: u64,
    pub users: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// a-z and 0-9, at most 20 characters; names of what it has begin with this and a hyphen.
    pub name: String,
    #[serde(default)]
    pub limits: Limits,
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Listed>, web::Error> {
    page.of_all(all(&app.core.fleet()), |listed| listed.tenant.name.clone())
}

pub async fn add(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(NewTenant { name, limits }): Json<NewTenant>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::AddTenant { name, limits }).await
}

/// All of its limits: what is not said has none.
pub async fn set(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Json(limits): Json<Limits>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::SetTenant { name, limits }).await
}

pub async fn remove(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
) -> Result<axum::Json<Changed>, web::Error> {
    person.gives(&app, Command::RemoveTenant { name }).await
}

pub fn all(fleet: &Fleet) -> Vec<Listed> {
    fleet.tenants.values().map(|tenant| document(fleet, tenant)).collect()
}

pub fn document(fleet: &Fleet, tenant: &Tenant) -> Listed {
    let name = &tenant.name;
    let users = fleet.users.values().filter(|user| user.tenant.as_ref() == Some(name));
    Listed {
        tenant: tenant.clone(),
        usage: tenant::usage(fleet, name),
        services: tenant::services(fleet, name).count() as u64,
        users: users.map(|user| user.name.clone()).collect(),
    }
}
