//! Every route of the page and the REST API, and who may use it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post, put};
use tower_http::set_header::SetResponseHeaderLayer;

use super::{
    document, events, guard, history, hosts, machines, networks, packages, plan, policy, query, racks,
    replay, services, session, state, switches, systems, timeline, vms,
};
use crate::{App, web};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody: what one needs to log in, and nothing that tells about the site.
    Open,
    /// With a session; others are shown the login page.
    Page,
    /// With a session; others get 401. What it changes can be planned.
    Api,
    /// With a session; others get 401. Changes nothing in the log.
    Own,
}

pub struct Route {
    pub access: Access,
    pub method: &'static str,
    pub path: &'static str,
    handler: MethodRouter<App>,
}

/// What handlers read whole has at most so many bytes; a bundle is streamed and has its own limit.
const BODY_LIMIT: usize = 256 << 10;

#[rustfmt::skip]
pub fn routes() -> Vec<Route> {
    use Access::{Api, Open, Own, Page};
    let route = |access, method, path, handler| Route { access, method, path, handler };
    vec![
        route(Open, "GET",    "/login",                         get(web::pages::login)),
        route(Open, "GET",    "/welcome",                       get(web::pages::welcome)),
        route(Open, "GET",    "/assets/{file}",                 get(web::assets::get)),
        route(Open, "POST",   "/api/v1/password",               post(session::set_password)),
        route(Open, "POST",   "/api/v1/login",                  post(session::login)),

        route(Page, "GET",    "/",                              get(web::pages::home)),
        route(Page, "GET",    "/racks",                         get(web::pages::racks)),
        route(Page, "GET",    "/networks",                      get(web::pages::networks)),
        route(Api,  "GET",    "/live",                          get(web::live::get)),
        route(Api,  "GET",    "/timeline/{id}",                 get(web::pages::timeline)),

        route(Own,  "POST",   "/api/v1/logout",                 post(session::logout)),
        route(Api,  "GET",    "/api/v1/state",                  get(state::get)),
        route(Api,  "GET",    "/api/v1/events",                 get(events::get)),
        route(Api,  "GET",    "/api/v1/machines",               get(machines::list)),
        route(Api,  "DELETE", "/api/v1/machines/{id}",          delete(machines::remove)),
        route(Api,  "POST",   "/api/v1/machines/{id}/adopt",    post(machines::adopt)),
        route(Api,  "GET",    "/api/v1/machines/{id}/timeline", get(timeline::get)),
        route(Api,  "POST",   "/api/v1/machines/{id}/cancel",   post(machines::cancel)),
        route(Api,  "POST",   "/api/v1/machines/{id}/boot",     post(machines::boot)),
        route(Api,  "PUT",    "/api/v1/machines/{id}/place",    put(racks::place_machine)),
        route(Api,  "DELETE", "/api/v1/machines/{id}/place",    delete(racks::unplace_machine)),
        route(Api,  "GET",    "/api/v1/hosts",                  get(hosts::list)),
        route(Api,  "POST",   "/api/v1/hosts/{id}/drain",       post(hosts::drain)),
        route(Api,  "POST",   "/api/v1/hosts/{id}/undrain",     post(hosts::undrain)),
        route(Api,  "GET",    "/api/v1/vms",                    get(vms::list)),
        route(Api,  "POST",   "/api/v1/vms",                    post(vms::create)),
        route(Api,  "DELETE", "/api/v1/vms/{id}",               delete(vms::remove)),
        route(Api,  "POST",   "/api/v1/vms/{id}/cancel",        post(vms::cancel)),
        route(Api,  "GET",    "/api/v1/vms/{id}/timeline",      get(timeline::get)),
        route(Api,  "GET",    "/api/v1/services",               get(services::list)),
        route(Api,  "DELETE", "/api/v1/services/{id}",          delete(services::remove)),
        route(Api,  "POST",   "/api/v1/services/{id}/cancel",   post(services::cancel)),
        route(Api,  "GET",    "/api/v1/services/{id}/timeline", get(timeline::get)),
        route(Api,  "GET",    "/api/v1/packages",               get(packages::list)),
        route(Api,  "POST",   "/api/v1/packages",               post(packages::install).layer(DefaultBodyLimit::disable())),
        route(Api,  "DELETE", "/api/v1/packages/{id}",          delete(packages::remove)),
        route(Api,  "GET",    "/api/v1/racks",                  get(racks::list)),
        route(Api,  "POST",   "/api/v1/racks",                  post(racks::add)),
        route(Api,  "DELETE", "/api/v1/racks/{id}",             delete(racks::remove)),
        route(Api,  "GET",    "/api/v1/switches",               get(switches::list)),
        route(Api,  "POST",   "/api/v1/switches",               post(switches::add)),
        route(Api,  "DELETE", "/api/v1/switches/{id}",          delete(switches::remove)),
        route(Api,  "POST",   "/api/v1/switches/{id}/ports",    post(switches::ports)),
        route(Api,  "POST",   "/api/v1/switches/{id}/plug",     post(switches::plug)),
        route(Api,  "POST",   "/api/v1/switches/{id}/unplug",   post(switches::unplug)),
        route(Api,  "PUT",    "/api/v1/switches/{id}/place",    put(racks::place_switch)),
        route(Api,  "DELETE", "/api/v1/switches/{id}/place",    delete(racks::unplace_switch)),
        route(Api,  "GET",    "/api/v1/media",                  get(systems::list_media)),
        route(Api,  "POST",   "/api/v1/media",                  post(systems::import).layer(DefaultBodyLimit::disable())),
        route(Api,  "DELETE", "/api/v1/media/{id}",             delete(systems::remove_medium)),
        route(Api,  "GET",    "/api/v1/profiles",               get(systems::list_profiles)),
        route(Api,  "POST",   "/api/v1/profiles",               post(systems::set_profile)),
        route(Api,  "GET",    "/api/v1/profiles/{id}/template", get(systems::template)),
        route(Api,  "DELETE", "/api/v1/profiles/{id}",          delete(systems::remove_profile)),
        route(Api,  "GET",    "/api/v1/networks",               get(networks::get)),
        route(Api,  "GET",    "/api/v1/subnets",                get(networks::subnets)),
        route(Api,  "PUT",    "/api/v1/subnets/{id}",           put(networks::set_subnet)),
        route(Api,  "DELETE", "/api/v1/subnets/{id}",           delete(networks::remove_subnet)),
        route(Api,  "GET",    "/api/v1/reservations",           get(networks::reservations)),
        route(Api,  "POST",   "/api/v1/reservations",           post(networks::reserve)),
        route(Api,  "DELETE", "/api/v1/reservations/{id}",      delete(networks::unreserve)),
        route(Api,  "GET",    "/api/v1/leases",                 get(networks::leases)),
        route(Api,  "DELETE", "/api/v1/leases/{id}",            delete(networks::free)),
        route(Api,  "GET",    "/api/v1/timeline/{id}",          get(timeline::get)),
        route(Api,  "GET",    "/api/v1/policy",                 get(policy::get)),
        route(Api,  "PUT",    "/api/v1/policy",                 put(policy::put)),
        route(Api,  "GET",    "/api/v1/query",                  get(query::nouns)),
        route(Api,  "GET",    "/api/v1/query/{noun}",           get(query::get)),
        route(Own,  "POST",   "/api/v1/plan",                   post(plan::plan).layer(DefaultBodyLimit::max(plan::LIMIT))),
        route(Api,  "POST",   "/api/v1/apply",                  post(plan::apply).layer(DefaultBodyLimit::max(plan::LIMIT))),
        route(Api,  "GET",    "/api/v1/document",               get(document::get)),
        route(Own,  "POST",   "/api/v1/document",               post(document::plan).layer(DefaultBodyLimit::max(plan::LIMIT))),
        route(Api,  "GET",    "/api/v1/history",                get(history::list)),
        route(Api,  "GET",    "/api/v1/history/{position}",     get(history::show)),
        route(Api,  "GET",    "/api/v1/log",                    get(history::lines)),
        route(Api,  "GET",    "/api/v1/log/compacted",          get(history::compacted)),
        route(Api,  "GET",    "/api/v1/hash",                   get(history::state)),
        route(Own,  "POST",   "/api/v1/replay",                 post(replay::post).layer(DefaultBodyLimit::max(replay::LIMIT))),
    ]
}

/// Page and REST API, to be served over TLS. Requests carry the caller's `SocketAddr` as an extension.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for Route { access, path, handler, .. } in routes() {
        let guarded = match access {
            Access::Open => handler.route_layer(from_fn(guard::open)),
            Access::Page => handler.route_layer(from_fn_with_state(app.clone(), guard::page)),
            Access::Api => handler.route_layer(from_fn_with_state(app.clone(), guard::api)),
            Access::Own => handler.route_layer(from_fn_with_state(app.clone(), guard::own)),
        };
        router = router.route(path, guarded);
    }
    let header = |name: HeaderName, value| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .fallback(async || web::Error::refused(StatusCode::NOT_FOUND, "there is no such page"))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Not no-referrer: with it browsers send `Origin: null`.
        .layer(header(header::REFERRER_POLICY, "same-origin"))
        .layer(header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ))
        .with_state(app)
}
