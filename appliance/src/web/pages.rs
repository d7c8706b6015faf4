//! The pages, each made of sections that are rendered and swapped in by themselves; login and first password.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State as Extract};
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use fleet::medium::Medium;
use fleet::site::Policy;
use fleet::user::{self, Role, User};
use fleet::{Fleet, MachineId, Timestamp, vm};

use super::actions::Offers;
use super::gantt::Chart;
use super::glance::{Counts, Moment};
use super::kept::Kept;
use super::list::{Frame, Scene};
use super::look::{Look, View};
use super::overview::{Capacity, Lines};
use super::racks::{Cell, Front, Room};
use super::switches::{Branch, Known, Panel, Wiring};
use super::thing::Compared;
use super::{Error, actions, assets, history, list, nouns, overview, racks, switches, tenants, thing};
use crate::api::guard::Person;
use crate::api::hosts::{self, Host};
use crate::api::images::{self, Image, Kind};
use crate::api::machines::{self, Machine};
use crate::api::networks::{self, Lease, Networks};
use crate::api::packages::{self, Package};
use crate::api::services::{self, Service};
use crate::api::state::{self, Daemon, Site};
use crate::api::systems::{self, Listed};
use crate::api::tenants::{self as api_tenants, Listed as ListedTenant};
use crate::api::vms::{self, Vm};
use crate::api::volumes::{self, Volume};
use crate::api::{power, sessions, timeline};
use crate::power::logins;
use crate::store::{Entry, Pool};
use crate::{App, core};

/// Lines of a timeline on the page; the REST API has the rest.
const LINES: u32 = 300;

/// A part of the page that is rendered and swapped in by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its element's id, and the name of the server-sent event that brings it anew.
    pub name: &'static str,
    pub html: String,
    /// Tells whether a page has it as it is: FNV-1a of 64 bits.
    pub sum: String,
}

impl Section {
    pub(super) fn of(name: &'static str, template: &impl Template) -> Result<Section, Error> {
        let html = template.render()?;
        let sum = html.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Ok(Section { name, html, sum: format!("{sum:016x}") })
    }

    /// There is nothing to show in it now; it has its place on the page all the same.
    fn empty(name: &'static str) -> Section {
        Section { name, html: "<!-- -->".to_owned(), sum: "0".to_owned() }
    }
}

/// What is seen of a view. Nothing in it depends on the time of day, so that it differs only when there is something
/// to see; and nothing on who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub title: String,
    /// Navigation and warnings, which all pages have.
    pub frame: Vec<Section>,
    /// From left to right, where there is room.
    pub columns: Vec<Vec<Section>>,
    /// Whether there is the thing that is looked at.
    pub found: bool,
}

impl Seen {
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.frame.iter().chain(self.columns.iter().flatten())
    }
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    version: String,
    now: Timestamp,
    person: &'a Person,
    address: String,
    path: &'static str,
    layout: &'static str,
    seen: Seen,
    daemon: Daemon,
    /// That can be chosen, by somebody of the site.
    tenants: Vec<String>,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    version: String,
    person: &'static str,
}

#[derive(Template)]
#[template(path = "welcome.html")]
struct Welcome {
    version: String,
    person: &'static str,
    /// There are other users, who may have passwords.
    others: bool,
}

#[derive(Template)]
#[template(path = "timeline.html")]
struct Timeline {
    entries: Vec<Entry>,
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct Sessions {
    sessions: Vec<sessions::Listed>,
}

macro_rules! section {
    ($name:ident $(<$life:lifetime>)?, $path:literal, { $($field:ident: $kind:ty),* $(,)? }) => {
        #[derive(Template)]
        #[template(path = $path)]
        struct $name $(<$life>)? {
            $($field: $kind),*
        }
    };
}

section!(Logins, "logins.html", { logins: Vec<logins::Listed> });
section!(Head<'a>, "head.html", { here: &'a str, items: Vec<Item> });
section!(Banners, "banners.html", { daemon: Daemon });
section!(Needs, "needs.html", { lines: Lines, empty: bool });
section!(Doing, "doing.html", { lines: Lines });
section!(RoomLeft, "capacity.html", { site: Option<Site>, capacity: Capacity, answering: usize, services: usize });
section!(Newest, "newest.html", { rows: Vec<history::Row> });
section!(Machines, "machines.html", { rows: Vec<Machine>, frame: Frame, policy: Policy });
section!(Hosts, "hosts.html", { rows: Vec<Host>, frame: Frame });
section!(Vms, "vms.html", { rows: Vec<Vm>, frame: Frame, hosts: bool, on: Option<(String, String)>, of_site: bool, whose: bool });
section!(Volumes, "volumes.html", {
    rows: Vec<Volume>,
    frame: Frame,
    capacity: Capacity,
    on: Option<(String, String)>,
});
section!(Images, "images.html", { rows: Vec<Image>, frame: Frame });
section!(Services, "services.html", { rows: Vec<Service>, frame: Frame, whose: bool });
section!(Packages, "packages.html", { packages: Vec<Package>, of_site: bool });
section!(Racks, "racks.html", { racks: Vec<Front>, nowhere: Vec<racks::Thing>, nowhere_all: usize, frame: Frame });
section!(Switches, "switches.html", { switches: Vec<Panel>, tree: Vec<Branch>, wrong: usize, frame: Frame });
section!(Systems, "systems.html", { profiles: Vec<Listed>, media: Vec<Medium> });
section!(Media, "media.html", { media: Vec<Medium> });
section!(NetworksOf, "networks.html", { networks: Networks });
section!(Addresses, "addresses.html", { networks: Networks, leases: Vec<Lease>, frame: Frame });
section!(Users, "users.html", { users: Vec<User> });
section!(Tenants, "tenants.html", { tenants: Vec<ListedTenant> });
section!(Log, "log.html", { page: history::Page });
section!(PolicyOf, "policy.html", { policy: Policy });
section!(Runs, "runs.html", {
    daemon: Daemon,
    site: Option<Site>,
    networks: Networks,
    database: &'static str,
    events: i64,
    folders: Vec<(&'static str, String)>,
});
section!(MachineOf<'a>, "machine.html", {
    machine: &'a Machine,
    compared: Vec<Compared>,
    host: Option<HostOf>,
    offers: Offers,
});
section!(Hardware<'a>, "hardware.html", { machine: &'a Machine });
section!(VmOf<'a>, "vm.html", { vm: &'a Vm, compared: Vec<Compared> });
section!(ServiceOf<'a>, "service.html", { service: &'a Service, compared: Vec<Compared> });
section!(Gone<'a>, "gone.html", { what: &'static str, id: &'a str });
section!(Steps, "steps.html", { chart: Chart, progress: Option<overview::Progress> });
section!(Past, "past.html", { entries: Vec<Entry>, limit: u32 });

/// A page in the navigation.
pub(super) struct Item {
    pub href: &'static str,
    pub word: &'static str,
    pub count: usize,
    /// What waits there for a person.
    pub asking: usize,
}

fn items(counts: &Counts) -> Vec<Item> {
    let item = |href, word, count, asking| Item { href, word, count, asking };
    vec![
        item("/", "Overview", 0, 0),
        item("/machines", "Machines", counts.machines, counts.machines_asking),
        item("/hosts", "Hosts", counts.hosts, 0),
        item("/vms", "VMs", counts.vms, counts.vms_asking),
        item("/volumes", "Volumes", 0, 0),
        item("/images", "Images", 0, 0),
        item("/services", "Services", counts.services, counts.services_asking),
        item("/systems", "Systems", 0, 0),
        item("/networks", "Networks", 0, 0),
        item("/switches", "Switches", 0, 0),
        item("/racks", "Racks", 0, 0),
        item("/users", "Users", 0, 0),
        item("/log", "Log", 0, 0),
        item("/settings", "Settings", 0, 0),
    ]
}

/// A machine that is a host, and some of what it carries.
struct HostOf {
    host: Host,
    vms: Vec<Vm>,
}

pub async fn page(
    Extract(app): Extract<App>,
    Extension(person): Extension<Person>,
    uri: Uri,
) -> Result<Response, Error> {
    let view = View::of(&uri);
    let Some(view) = view else { return Err(Error::refused(StatusCode::NOT_FOUND, "there is no such page")) };
    let mut seen = look(&app, person.tenant(), &view, &mut Kept::default()).await?;
    if let Some(own) = own(&app, &person, &view).await? {
        match &mut seen.columns[..] {
            [first, _, ..] => first.push(own),
            _ => seen.columns.push(vec![own]),
        }
    }
    let status = if seen.found { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let page = Page {
        version: assets::version(),
        now: core::now(),
        person: &person,
        address: view.address(),
        path: view.path(),
        layout: if seen.columns.len() > 1 { "two" } else { "one" },
        daemon: if person.tenant().is_some() { state::daemon_for_tenant(&app) } else { state::daemon(&app) },
        tenants: app.core.fleet().tenants.keys().filter(|_| person.tenant().is_none()).cloned().collect(),
        seen,
    };
    Ok((status, Html(page.render()?)).into_response())
}

/// The section of a page that is a person's own, or for admins, and so not among those that are the same for everybody.
pub async fn own(app: &App, person: &Person, view: &View) -> Result<Option<Section>, Error> {
    match view {
        View::Users => {
            Section::of("sessions", &Sessions { sessions: sessions::of(app, person).await? }).map(Some)
        }
        View::Settings if person.role == Role::Admin && person.tenant().is_none() => {
            let logins = logins::list(&app.vault).await.map_err(power::not_kept)?;
            Section::of("logins", &Logins { logins }).map(Some)
        }
        _ => Ok(None),
    }
}

/// As somebody of `tenant` sees it, or of the site.
pub async fn look(app: &App, tenant: Option<&str>, view: &View, kept: &mut Kept) -> Result<Seen, Error> {
    let moment = Moment::of(app, tenant);
    if let Some(tenant) = tenant {
        return tenants::look(app, tenant, &moment, view, kept).await;
    }
    let scene = moment.scene();
    let counts = &moment.glance.counts;
    let mut found = true;
    let mut title = view.title().to_owned();
    let columns = match view {
        View::Overview => overview_of(app, scene, counts).await?,
        View::Machines(look) => vec![vec![machines_of(app, scene, look)?]],
        View::Hosts(look) => vec![vec![hosts_of(scene, look)?]],
        View::Vms(look) => vec![vec![vms_of(&moment, look, None, kept)?]],
        View::Volumes(look) => vec![vec![volumes_of(scene, look)?]],
        View::Images(look) => vec![vec![images_of(app, scene, look)?]],
        View::Services(look) => vec![vec![services_of(scene, look, None)?, packages_of(scene, None)?]],
        View::Systems => systems_of(scene.fleet)?,
        View::Networks(look) => networks_of(app, scene, look)?,
        View::Switches(look) => {
            let Wiring { switches, frame, wrong, tree } = switches::wiring(scene, look);
            vec![vec![Section::of("switches", &Switches { switches, tree, wrong, frame })?]]
        }
        View::Racks(look) => {
            let Room { racks, frame, nowhere, nowhere_all } = racks::room(scene, look);
            vec![vec![Section::of("racks", &Racks { racks, nowhere, nowhere_all, frame })?]]
        }
        View::Users => {
            let users = Users { users: user::all(scene.fleet).collect() };
            let tenants = Tenants { tenants: api_tenants::all(scene.fleet) };
            vec![vec![Section::of("users", &users)?, Section::of("tenants", &tenants)?]]
        }
        View::Log(look) => {
            let page = history::page(app, scene.fleet, look).await?;
            vec![vec![Section::of("log", &Log { page })?]]
        }
        View::Settings => settings_of(app, scene.fleet)?,
        View::Machine(id) | View::Vm(id) | View::Service(id) => {
            let thing = match view {
                View::Machine(_) => machine_of(app, scene, id)?,
                View::Vm(_) => vm_of(scene, id)?,
                _ => service_of(scene, id)?,
            };
            found = thing.is_some();
            match thing {
                Some((name, sections)) => {
                    title = name;
                    vec![sections, past(app, None, id).await?]
                }
                None => {
                    let what = view.title();
                    let mut sections = vec![gone(what, id)?];
                    sections.extend(matches!(view, View::Machine(_)).then(|| Section::empty("hardware")));
                    vec![sections, past(app, None, id).await.unwrap_or_default()]
                }
            }
        }
    };
    let frame = frame(view, items(counts), state::daemon(app))?;
    Ok(Seen { title, frame, columns, found })
}

pub(super) fn frame(view: &View, items: Vec<Item>, daemon: Daemon) -> Result<Vec<Section>, Error> {
    let head = Head { here: view.path(), items };
    Ok(vec![Section::of("head", &head)?, Section::of("banners", &Banners { daemon })?])
}

pub(super) fn needs(lines: Lines, empty: bool) -> Result<Section, Error> {
    Section::of("needs", &Needs { lines, empty })
}

pub(super) fn doing(lines: Lines) -> Result<Section, Error> {
    Section::of("doing", &Doing { lines })
}

pub(super) fn gone(what: &'static str, id: &str) -> Result<Section, Error> {
    Section::of("thing", &Gone { what, id })
}

async fn overview_of(app: &App, scene: Scene<'_>, counts: &Counts) -> Result<Vec<Vec<Section>>, Error> {
    let waiting = overview::needs(app, scene, counts);
    let going_on = overview::doing(Some(app), scene).await?;
    let answers = |service: &Arc<fleet::service::Service>| service.phase == fleet::service::Phase::Answering;
    let room = RoomLeft {
        site: state::site(scene.fleet),
        capacity: Capacity::of(scene),
        answering: scene.fleet.services.values().filter(|service| answers(service)).count(),
        services: counts.services,
    };
    let newest = Newest { rows: overview::newest(app, scene.fleet).await? };
    Ok(vec![
        vec![needs(waiting, counts.machines == 0)?, doing(going_on)?],
        vec![Section::of("capacity", &room)?, Section::of("newest", &newest)?],
    ])
}

fn machines_of(app: &App, scene: Scene<'_>, look: &Look) -> Result<Section, Error> {
    let (shown, frame) = nouns::machines(scene, look).page(scene, look, "/machines");
    let rows = machines::documents(app, scene.fleet, scene.observed, scene.plan, shown);
    Section::of("machines", &Machines { rows, frame, policy: scene.fleet.policy.clone() })
}

fn hosts_of(scene: Scene<'_>, look: &Look) -> Result<Section, Error> {
    let (shown, frame) = nouns::hosts(scene, look).page(scene, look, "/hosts");
    let rows = shown.into_iter().map(|host| hosts::document(scene.fleet, host, scene.observed));
    Section::of("hosts", &Hosts { rows: rows.collect(), frame })
}

/// With the tenant of each, for the site's people where there are tenants.
pub(super) fn vms_of(
    moment: &Moment,
    look: &Look,
    own: Option<&str>,
    kept: &mut Kept,
) -> Result<Section, Error> {
    let scene = moment.scene();
    let (shown, frame) = kept.vms(&moment.seen.fleet, scene, look);
    let rows = shown.into_iter().map(|vm| vms::document(scene.fleet, vm, scene.plan)).collect();
    let on = on_host(scene.fleet, look, "/vms");
    let hosts = own.is_some() || !scene.fleet.hosts.is_empty();
    let whose = own.is_none() && !scene.fleet.tenants.is_empty();
    Section::of("vms", &Vms { rows, frame, hosts, on, of_site: own.is_none(), whose })
}

/// The name of the host whose things alone are looked at, and where those of all are.
fn on_host(fleet: &Fleet, look: &Look, path: &str) -> Option<(String, String)> {
    let host = fleet.machines.get(&look.on.parse::<MachineId>().ok()?)?;
    let all = Look { on: String::new(), page: 0, ..look.clone() };
    Some((host.name.to_string(), format!("{path}{}", all.query())))
}

fn volumes_of(scene: Scene<'_>, look: &Look) -> Result<Section, Error> {
    let (shown, frame) = nouns::volumes(scene, look).page(scene, look, "/volumes");
    let rows = shown.into_iter().map(|nouns::Volume(vm)| volumes::document(scene.fleet, vm)).collect();
    let on = on_host(scene.fleet, look, "/volumes");
    Section::of("volumes", &Volumes { rows, frame, capacity: Capacity::of(scene), on })
}

fn images_of(app: &App, scene: Scene<'_>, look: &Look) -> Result<Section, Error> {
    let all = images::all(app, scene.fleet);
    let (shown, frame) = list::find(scene, all.iter(), look).page(scene, look, "/images");
    Section::of("images", &Images { rows: shown.into_iter().cloned().collect(), frame })
}

pub(super) fn services_of(scene: Scene<'_>, look: &Look, own: Option<&str>) -> Result<Section, Error> {
    let (shown, frame) = nouns::services(scene, look).page(scene, look, "/services");
    let rows = shown.into_iter().map(|service| services::document(scene.fleet, service, scene.plan));
    let whose = own.is_none() && !scene.fleet.tenants.is_empty();
    Section::of("services", &Services { rows: rows.collect(), frame, whose })
}

pub(super) fn packages_of(scene: Scene<'_>, own: Option<&str>) -> Result<Section, Error> {
    let packages = packages::all(scene.fleet);
    Section::of("packages", &Packages { packages, of_site: own.is_none() })
}

fn systems_of(fleet: &Fleet) -> Result<Vec<Vec<Section>>, Error> {
    let media = systems::all_media(fleet);
    let listed = Systems { profiles: systems::all_profiles(fleet), media: media.clone() };
    Ok(vec![vec![Section::of("systems", &listed)?], vec![Section::of("media", &Media { media })?]])
}

fn networks_of(app: &App, scene: Scene<'_>, look: &Look) -> Result<Vec<Vec<Section>>, Error> {
    let fleet = scene.fleet;
    let networks = networks::all(app, fleet);
    let found = list::addresses(fleet, look);
    let frame = Frame::of(look, "/networks", found.len());
    let shown = found.shown(frame.skipped(), look.size);
    let leases =
        shown.into_iter().map(|(address, mac)| networks::document(app, fleet, address, mac)).collect();
    Ok(vec![
        vec![Section::of("networks", &NetworksOf { networks: networks.clone() })?],
        vec![Section::of("addresses", &Addresses { networks, leases, frame })?],
    ])
}

fn settings_of(app: &App, fleet: &Fleet) -> Result<Vec<Vec<Section>>, Error> {
    let database = match app.core.store().pool() {
        Pool::Sqlite(_) => "SQLite, in the folder of its state",
        Pool::Postgres(_) => "PostgreSQL",
    };
    let folders = [("What machines boot", &app.files), ("Bundles", &app.bundles), ("Media", &app.systems)];
    let runs = Runs {
        daemon: state::daemon(app),
        site: state::site(fleet),
        networks: networks::all(app, fleet),
        database,
        events: app.core.position(),
        folders: folders.map(|(what, path)| (what, path.display().to_string())).into(),
    };
    let policy = PolicyOf { policy: fleet.policy.clone() };
    Ok(vec![vec![Section::of("policy", &policy)?], vec![Section::of("runs", &runs)?]])
}

pub(super) type Thing = Option<(String, Vec<Section>)>;

fn machine_of(app: &App, scene: Scene<'_>, id: &str) -> Result<Thing, Error> {
    let Ok(noun) = machines::find(scene.fleet, id) else { return Ok(None) };
    let mut documents = machines::documents(app, scene.fleet, scene.observed, scene.plan, [noun]);
    let [machine] = &mut documents[..] else { return Ok(None) };
    machine.actions = power::actions(scene.fleet, noun);
    let machine = &*machine;
    let host = scene.fleet.hosts.get(&noun.id).map(|host| {
        let vms = vm::on_host(scene.fleet, noun.id).take(LOOKED_INTO);
        HostOf {
            host: hosts::document(scene.fleet, host, scene.observed),
            vms: vms.map(|vm| vms::document(scene.fleet, vm, scene.plan)).collect(),
        }
    });
    let mut compared = thing::of_machine(scene, noun);
    compared.extend(thing::power_of(machine));
    compared.extend(thing::outlets_of(machine));
    let hardware = match machine.hardware {
        Some(_) => Section::of("hardware", &Hardware { machine })?,
        None => Section::empty("hardware"),
    };
    let thing = Section::of("thing", &MachineOf { machine, compared, host, offers: actions::of(machine) })?;
    Ok(Some((machine.name.clone(), vec![thing, hardware])))
}

/// VMs that are named on the page of their host.
const LOOKED_INTO: usize = 60;

pub(super) fn vm_of(scene: Scene<'_>, id: &str) -> Result<Thing, Error> {
    let Ok(noun) = vms::find(scene.fleet, id) else { return Ok(None) };
    let vm = vms::document(scene.fleet, noun, scene.plan);
    let section = Section::of("thing", &VmOf { vm: &vm, compared: thing::of_vm(scene, noun) })?;
    Ok(Some((vm.name, vec![section])))
}

pub(super) fn service_of(scene: Scene<'_>, id: &str) -> Result<Thing, Error> {
    let Ok(noun) = services::find(scene.fleet, id) else { return Ok(None) };
    let service = services::document(scene.fleet, noun, scene.plan);
    let compared = thing::of_service(scene, noun);
    let section = Section::of("thing", &ServiceOf { service: &service, compared })?;
    Ok(Some((service.name, vec![section])))
}

/// What happened to a thing: as a picture, and as lines.
pub(super) async fn past(app: &App, tenant: Option<&str>, id: &str) -> Result<Vec<Section>, Error> {
    let entries = match timeline::entries(app, tenant, id, LINES).await {
        // The page says so already.
        Err(_) if app.core.away().is_some() => Vec::new(),
        entries => entries?,
    };
    let lines: Vec<&Entry> = entries.iter().collect();
    let progress = overview::progress(&lines);
    let steps = match Chart::of(&entries) {
        Some(chart) => Section::of("steps", &Steps { chart, progress })?,
        None => Section::empty("steps"),
    };
    Ok(vec![steps, Section::of("past", &Past { entries, limit: LINES })?])
}

pub async fn login(Extract(app): Extract<App>) -> Result<Response, Error> {
    // While there is a code, others than the built-in user may have passwords.
    if app.auth.code().is_some() && app.core.fleet().users.is_empty() {
        return Ok(Redirect::to("/welcome").into_response());
    }
    Ok(Html(Login { version: assets::version(), person: user::FIRST }.render()?).into_response())
}

/// Where the first password is set. Once it is, there is nothing here.
pub async fn welcome(Extract(app): Extract<App>) -> Result<Response, Error> {
    if app.auth.code().is_none() {
        return Ok(Redirect::to("/login").into_response());
    }
    let others = !app.core.fleet().users.is_empty();
    Ok(Html(Welcome { version: assets::version(), person: user::FIRST, others }.render()?).into_response())
}

pub async fn timeline(
    Extract(app): Extract<App>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
) -> Result<Html<String>, Error> {
    let entries = timeline::entries(&app, person.tenant(), &id, LINES).await?;
    Ok(Html(Timeline { entries }.render()?))
}
