//! The pages: home, login, first password; and the fragments that home is made of.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State as Extract};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use fleet::user;

use super::{Error, assets};
use crate::App;
use crate::api::guard::Person;
use crate::api::sessions;
use crate::api::state::{self, State};
use crate::api::timeline;
use crate::store::Entry;

/// Lines of a timeline on the page; the REST API has the rest.
const LINES: u32 = 300;

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    version: String,
    person: &'a Person,
    state: &'a State,
    sections: Vec<Section>,
}

/// A page of some of the sections, one below the other.
#[derive(Template)]
#[template(path = "sections_page.html")]
struct SectionsPage<'a> {
    version: String,
    person: &'a Person,
    /// Which of the pages in the navigation this is; its first section has the same name.
    here: &'static str,
    title: &'static str,
    state: &'a State,
    sections: Vec<Section>,
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

/// A part of the page that is rendered and swapped in by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its element's id, and the name of the server-sent event that brings it anew.
    pub name: &'static str,
    pub html: String,
}

/// The sections of the overview, besides the head that all pages have.
const HOME: [&str; 5] = ["machines", "hosts", "services", "vms", "systems"];

macro_rules! section {
    ($name:ident, $path:literal) => {
        #[derive(Template)]
        #[template(path = $path)]
        struct $name<'a> {
            state: &'a State,
        }
    };
}

section!(Head, "head.html");
section!(Machines, "machines.html");
section!(Hosts, "hosts.html");
section!(Services, "services.html");
section!(Vms, "vms.html");
section!(Racks, "racks.html");
section!(Switches, "switches.html");
section!(Systems, "systems.html");
section!(Networks, "networks.html");
section!(Addresses, "addresses.html");
section!(Users, "users.html");

pub async fn home(
    Extract(app): Extract<App>,
    Extension(person): Extension<Person>,
) -> Result<Html<String>, Error> {
    let state = state::state(&app);
    let home = Home {
        version: assets::version(),
        person: &person,
        sections: of_page(&state, &HOME)?,
        state: &state,
    };
    Ok(Html(home.render()?))
}

/// Where machines and switches stand, and what is plugged in where.
pub async fn racks(app: Extract<App>, person: Extension<Person>) -> Result<Html<String>, Error> {
    sections_page(&app, &person, "racks", "Racks and switches", &["racks", "switches"])
}

/// Which addresses are given where, and who else gives any.
pub async fn networks(app: Extract<App>, person: Extension<Person>) -> Result<Html<String>, Error> {
    sections_page(&app, &person, "networks", "Networks", &["networks", "addresses"])
}

/// Who may do what, and who is logged in. Sessions are the person's own, so they are not among the sections that are
/// the same for everybody.
pub async fn users(app: Extract<App>, person: Extension<Person>) -> Result<Html<String>, Error> {
    let sessions = own_sessions(&app, &person).await?;
    render_page(&app, &person, "users", "Users", &["users"], Some(sessions))
}

/// The section that is a person's own.
pub async fn own_sessions(app: &App, person: &Person) -> Result<Section, Error> {
    let sessions = sessions::of(app, person).await?;
    Ok(Section { name: "sessions", html: Sessions { sessions }.render()? })
}

fn sections_page(
    app: &App,
    person: &Person,
    here: &'static str,
    title: &'static str,
    shown: &[&'static str],
) -> Result<Html<String>, Error> {
    render_page(app, person, here, title, shown, None)
}

fn render_page(
    app: &App,
    person: &Person,
    here: &'static str,
    title: &'static str,
    shown: &[&'static str],
    own: Option<Section>,
) -> Result<Html<String>, Error> {
    let state = state::state(app);
    let mut sections = of_page(&state, shown)?;
    sections.extend(own);
    let version = assets::version();
    let page = SectionsPage { version, person, here, title, state: &state, sections };
    Ok(Html(page.render()?))
}

fn of_page(state: &State, names: &[&str]) -> Result<Vec<Section>, askama::Error> {
    sections(state, |name| name == "head" || names.contains(&name))
}

type Render = fn(&State) -> Result<String, askama::Error>;

/// Every section there is, in the order of their events.
const SECTIONS: [(&str, Render); 11] = [
    ("head", |state| Head { state }.render()),
    ("machines", |state| Machines { state }.render()),
    ("hosts", |state| Hosts { state }.render()),
    ("services", |state| Services { state }.render()),
    ("vms", |state| Vms { state }.render()),
    ("racks", |state| Racks { state }.render()),
    ("switches", |state| Switches { state }.render()),
    ("systems", |state| Systems { state }.render()),
    ("networks", |state| Networks { state }.render()),
    ("addresses", |state| Addresses { state }.render()),
    ("users", |state| Users { state }.render()),
];

/// The sections that are shown; others cost nothing, and in a large fleet some are megabytes.
///
/// Nothing in here depends on the time of day, so that a section differs only when there is something to see.
pub fn sections(state: &State, shown: impl Fn(&str) -> bool) -> Result<Vec<Section>, askama::Error> {
    let shown = SECTIONS.iter().filter(|(name, _)| shown(name));
    shown.map(|(name, render)| Ok(Section { name, html: render(state)? })).collect()
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

pub async fn timeline(Extract(app): Extract<App>, Path(id): Path<String>) -> Result<Html<String>, Error> {
    let entries = timeline::entries(&app, &id, LINES).await?;
    Ok(Html(Timeline { entries }.render()?))
}
