//! The pages as somebody of a tenant sees them: made from what his tenant has, of which no host is a part.

use askama::Template;
use axum::http::StatusCode;
use fleet::tenant;

use super::glance::Moment;
use super::kept::Kept;
use super::look::View;
use super::overview::{self, Lines};
use super::pages::{self, Item, Section, Seen};
use super::{Error, show};
use crate::App;
use crate::api::{state, tenants};

#[derive(Template)]
#[template(path = "tenant.html")]
struct Own {
    tenant: tenants::Listed,
}

impl tenants::Listed {
    /// What it has of each, and what it may have.
    pub fn takes(&self) -> [(&'static str, String, Option<String>); 4] {
        let (usage, limits) = (self.usage, self.tenant.limits);
        let number = |count: u64| show::count(count);
        let gib = |gib: u64| format!("{} GiB", show::count(gib));
        [
            ("VMs", number(usage.vms), limits.vms.map(number)),
            ("vCPUs", number(usage.vcpus), limits.vcpus.map(number)),
            ("Memory", show::mib(usage.memory_mib), limits.memory_mib.map(show::mib)),
            ("Disk", gib(usage.disk_gib), limits.disk_gib.map(gib)),
        ]
    }

    /// By the names of the fields that they are changed in.
    pub fn limits(&self) -> [(&'static str, Option<u64>); 4] {
        let limits = self.tenant.limits;
        [
            ("vms", limits.vms),
            ("vcpus", limits.vcpus),
            ("memory_mib", limits.memory_mib),
            ("disk_gib", limits.disk_gib),
        ]
    }
}

pub async fn look(
    app: &App,
    name: &str,
    moment: &Moment,
    view: &View,
    kept: &mut Kept,
) -> Result<Seen, Error> {
    let (scene, counts) = (moment.scene(), &moment.glance.counts);
    let mut title = view.title().to_owned();
    let mut found = true;
    let columns = match view {
        View::Overview => {
            let needs = overview::needs_of(Vec::new(), Vec::new(), scene, counts);
            let doing = overview::doing(None, scene).await?;
            vec![
                overview_of(needs, doing)?,
                vec![own(tenants::document(scene.fleet, tenant::find(scene.fleet, name)?))?],
            ]
        }
        View::Vms(look) => vec![vec![pages::vms_of(moment, look, Some(name), kept)?]],
        View::Services(look) => {
            vec![vec![pages::services_of(scene, look, Some(name))?, pages::packages_of(scene, Some(name))?]]
        }
        View::Vm(id) | View::Service(id) => {
            let thing = match view {
                View::Vm(_) => pages::vm_of(scene, id)?,
                _ => pages::service_of(scene, id)?,
            };
            found = thing.is_some();
            match thing {
                Some((called, sections)) => {
                    title = called;
                    vec![sections, pages::past(app, Some(name), id).await?]
                }
                None => vec![vec![pages::gone(view.title(), id)?]],
            }
        }
        // One's own sessions come to it.
        View::Users => Vec::new(),
        View::Machines(_)
        | View::Machine(_)
        | View::Hosts(_)
        | View::Systems
        | View::Networks(_)
        | View::Racks(_)
        | View::Switches(_)
        | View::Volumes(_)
        | View::Images(_)
        | View::Log(_)
        | View::Settings => {
            return Err(Error::refused(StatusCode::FORBIDDEN, tenant::of_the_site().to_string()));
        }
    };
    let item = |href, word, count, asking| Item { href, word, count, asking };
    let items = vec![
        item("/", "Overview", 0, 0),
        item("/vms", "VMs", counts.vms, counts.vms_asking),
        item("/services", "Services", counts.services, counts.services_asking),
        item("/users", "Sessions", 0, 0),
    ];
    let frame = pages::frame(view, items, state::daemon_for_tenant(app))?;
    Ok(Seen { title, frame, columns, found })
}

fn overview_of(needs: Lines, doing: Lines) -> Result<Vec<Section>, Error> {
    Ok(vec![pages::needs(needs, false)?, pages::doing(doing)?])
}

fn own(tenant: tenants::Listed) -> Result<Section, Error> {
    Section::of("capacity", &Own { tenant })
}
