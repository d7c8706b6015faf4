//! Stands before every route that is not open: finds the session of a request, or refuses it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use fleet::user::{self, Role, User};
use fleet::{Command, Ctx, Event, Fleet, tenant};

use super::{Changed, plan, secrets};
use crate::auth::Session;
use crate::core::ExecuteError;
use crate::{App, core, web};

/// The prefix `__Host-` makes browsers insist on TLS, on this host alone, and on no other path.
pub const COOKIE: &str = "__Host-elisandra";

/// A request with this header is not carried out: the answer is what it would do.
pub const PLAN: &str = "elisandra-plan";

/// Who asks, as handlers get it.
#[derive(Debug, Clone)]
pub struct Person {
    pub user: User,
    /// What this session may do: what its user may, or less.
    pub role: Role,
    pub session: Session,
    pub from: IpAddr,
    /// Only wants to know what the commands would do.
    pub rehearsal: Option<core::Rehearsal>,
}

impl Person {
    /// Who gives the commands of this request.
    pub fn actor(&self) -> core::Actor {
        match &self.rehearsal {
            Some(rehearsal) => core::Actor::Rehearsal(rehearsal.clone()),
            None => core::Actor::Person(self.orders()),
        }
    }

    /// Carries out a command, and answers what has changed by it.
    pub async fn gives(&self, app: &App, command: Command) -> Result<axum::Json<Changed>, web::Error> {
        Ok(self.told(&app.core.execute(&self.actor(), command).await?))
    }

    /// Whose things he sees and orders, and no others.
    pub fn tenant(&self) -> Option<&str> {
        self.user.tenant.as_deref()
    }

    /// What he sees of this moment.
    /// Whether he may give it now: asked before what cannot be taken back is done for it.
    pub fn may_give(&self, fleet: &Fleet, command: &Command) -> Result<(), ExecuteError> {
        self.orders().in_scope(std::slice::from_ref(command))?;
        fleet::decide(fleet, command, Ctx { now: core::now() })?;
        Ok(())
    }

    pub fn sees(&self, app: &App) -> core::Seen {
        app.core.seen_by(self.tenant())
    }

    /// Whose is what he makes: of somebody of a tenant the tenant's, otherwise as it was said.
    pub fn makes_for(&self, said: Option<String>) -> Option<String> {
        said.or_else(|| self.user.tenant.clone())
    }

    /// What has changed, as he is told it.
    pub fn told(&self, events: &[Event]) -> axum::Json<Changed> {
        match self.tenant() {
            Some(_) => Changed::by(&events.iter().map(tenant::told).collect::<Vec<_>>()),
            None => Changed::by(events),
        }
    }

    /// As the core knows who gives orders.
    pub fn orders(&self) -> core::Person {
        core::Person {
            name: self.user.name.clone(),
            role: self.role,
            scope: self.session.scope.clone(),
            tenant: self.user.tenant.clone(),
            // Inside of one process there is no address.
            from: (!self.from.is_unspecified()).then_some(self.from),
        }
    }
}

/// For the REST API: without a session 401, and a line on the site's timeline; 403 for who may less than this.
pub async fn api(
    State((app, needs)): State<(App, Role)>,
    mut request: Request,
    next: Next,
) -> Result<Response, web::Error> {
    same_origin(&request)?;
    let from = address(request.extensions());
    let Some(mut person) = person(&app, request.headers(), from).await? else {
        refused(&app, &request, from, "not logged in");
        return Err(web::Error::not_logged_in());
    };
    if let Err(error) = person.orders().must_be(needs) {
        refused(&app, &request, from, &format!("{} is {}", person.user.name, person.role.with_article()));
        return Err(error.into());
    }
    if let Err(error) = in_scope(&person, &request) {
        refused(&app, &request, from, &error.to_string());
        return Err(error.into());
    }
    let rehearsal = wants_a_plan(&request).then(|| core::Rehearsal::of(person.tenant()));
    person.rehearsal = rehearsal.clone();
    let sees_secrets = person.role >= Role::Operator;
    let tenant = person.user.tenant.clone();
    request.extensions_mut().insert(person);
    let answer = next.run(request).await;
    let answer = match rehearsal {
        Some(rehearsal) if answer.status().is_success() => {
            axum::Json(plan::planned(&app, tenant.as_deref(), rehearsal.commands())).into_response()
        }
        Some(_) | None => answer,
    };
    if sees_secrets { Ok(answer) } else { secrets::hide(answer).await }
}

/// For routes that are of the site: nobody of a tenant gets further, whatever he names.
pub async fn of_the_site(request: Request, next: Next) -> Result<Response, web::Error> {
    if request.extensions().get::<Person>().is_some_and(|person| person.tenant().is_some()) {
        return Err(tenant::of_the_site().into());
    }
    Ok(next.run(request).await)
}

/// Whether this is what a token is for. Which orders it may give, the core decides, also in plans.
fn in_scope(person: &Person, request: &Request) -> Result<(), ExecuteError> {
    let Some(scope) = &person.session.scope else { return Ok(()) };
    let (method, path) = (request.method(), request.uri().path());
    let path = if path == "/metrics" { "metrics" } else { path.strip_prefix("/api/v1/").unwrap_or_default() };
    let mut parts = path.split('/');
    let noun = match (parts.next().unwrap_or_default(), parts.next()) {
        ("query", Some(noun)) => noun,
        (noun, _) => noun,
    };
    let allowed = match (method, noun) {
        // About itself; a token ends itself only.
        (&Method::GET, "me" | "openapi.json") | (&Method::POST, "logout") | (&Method::DELETE, "sessions") => {
            true
        }
        // Each command is looked at.
        (&Method::POST, "plan" | "apply" | "many") => true,
        // Who types at a console can do everything to what it is of.
        (_, noun) if path.ends_with("/console") => scope.has_whole(noun),
        (&Method::GET | &Method::HEAD, noun) => scope.may_see(noun),
        // Says what is there, and changes nothing.
        (&Method::POST, "document") => scope.may_see(noun),
        (_, noun) => scope.may_change(noun),
    };
    let what = || if noun.is_empty() { "pages".to_owned() } else { noun.to_owned() };
    if allowed { Ok(()) } else { Err(ExecuteError::OutOfScope { scope: scope.clone(), what: what() }) }
}

fn refused(app: &App, request: &Request, from: IpAddr, why: &str) {
    if app.auth.worth_a_note(core::now()) {
        let (method, path) = (request.method(), request.uri().path());
        app.core.note("site", "refused", format!("{method} {path} from {from}: {why}"));
    }
}

/// For what is about the session itself: as [`api`], but nothing of it is in the log, so it has no plan.
pub async fn own(state: State<(App, Role)>, request: Request, next: Next) -> Result<Response, web::Error> {
    if wants_a_plan(&request) {
        let sentence = "this changes nothing in the log, so there is nothing to plan";
        return Err(web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence));
    }
    api(state, request, next).await
}

/// For pages: without a session, off to where one gets one.
pub async fn page(State(app): State<App>, mut request: Request, next: Next) -> Result<Response, web::Error> {
    let from = address(request.extensions());
    let Some(person) = person(&app, request.headers(), from).await? else {
        let place = if app.auth.code().is_some() { "/welcome" } else { "/login" };
        return Ok(Redirect::to(place).into_response());
    };
    in_scope(&person, &request)?;
    request.extensions_mut().insert(person);
    Ok(next.run(request).await)
}

/// For what is open to everybody: no session is looked for.
pub async fn open(request: Request, next: Next) -> Result<Response, web::Error> {
    same_origin(&request)?;
    if wants_a_plan(&request) {
        let sentence = "this changes nothing in the log, so there is nothing to plan";
        return Err(web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence));
    }
    Ok(next.run(request).await)
}

async fn person(app: &App, headers: &HeaderMap, from: IpAddr) -> Result<Option<Person>, web::Error> {
    let Some(token) = token(headers) else { return Ok(None) };
    Ok(of_token(app, token).await?.map(|(user, role, session)| Person {
        user,
        role,
        session,
        from,
        rehearsal: None,
    }))
}

/// Whose token it is and what he may do with it: nothing, once the user is gone, though another has the name by now.
pub async fn of_token(app: &App, token: &str) -> Result<Option<(User, Role, Session)>, web::Error> {
    let Some(session) = app.auth.session(token, core::now()).await? else { return Ok(None) };
    let user = user::find(&app.core.fleet(), &session.person).filter(|user| session.made_at >= user.added);
    Ok(user.map(|user| {
        let role = session.role.map_or(user.role, |least| least.min(user.role));
        (user, role, session)
    }))
}

fn wants_a_plan(request: &Request) -> bool {
    !matches!(*request.method(), Method::GET | Method::HEAD) && request.headers().contains_key(PLAN)
}

/// The session's token as the request carries it.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| cookie(headers))
}

/// The address that a request came from.
pub fn address(extensions: &Extensions) -> IpAddr {
    let address = extensions.get::<SocketAddr>().map(SocketAddr::ip);
    address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).to_canonical()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

/// Another site's page must not use this browser's session to change anything. The cookie is SameSite=Strict
/// already; this holds where a browser does not honour that, or another port of this host counts as the same site.
fn same_origin(request: &Request) -> Result<(), web::Error> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    of_our_page(request.headers(), request.uri())
}

/// As `same_origin`, for what changes nothing by its method and is no less than an order.
pub fn of_our_page(headers: &HeaderMap, uri: &Uri) -> Result<(), web::Error> {
    if bearer(headers).is_some() {
        return Ok(());
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // HTTP/2 has the host in its own field.
    let host = uri.authority().map(|host| host.as_str()).or_else(|| text(header::HOST));
    let ours = match (text(header::ORIGIN), host) {
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, origin)| origin == host),
        (Some(_), None) => false,
        // Not a browser: browsers send an Origin with everything that is not GET or HEAD.
        (None, _) => cookie(headers).is_none() || headers.contains_key("x-elisandra"),
    };
    if ours {
        return Ok(());
    }
    Err(web::Error::refused(StatusCode::FORBIDDEN, "this request comes from another site's page"))
}
