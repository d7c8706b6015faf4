//! Every route of the page and the REST API, and who may use it.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use axum::{Extension, Router};
use fleet::user::Role;
use tower_http::set_header::SetResponseHeaderLayer;

use super::{
    check, consoles, document, erase, events, guard, history, hosts, images, logins, machines, many,
    networks, once, openapi, packages, plan, policy, power, query, racks, replay, services, session,
    sessions, state, strips, support, switches, systems, tenants, timeline, users, versions, vms, volumes,
    webhooks,
};
use crate::{App, metrics, web};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody: what one needs to log in, and nothing that tells about the site.
    Open,
    /// With a session; others are shown the login page.
    Page,
    /// With a session, 401 without, and of a user of this role, 403 for one of a lesser. What it changes can be planned.
    Api(Role),
    /// As `Api`; changes nothing in the log.
    Own(Role),
}

pub struct Route {
    pub access: Access,
    pub method: &'static str,
    pub path: &'static str,
    /// Whether somebody of a tenant may use it: what it shows and does is of his tenant then.
    pub tenants: bool,
    handler: MethodRouter<App>,
}

impl Route {
    fn for_tenants(self) -> Route {
        Route { tenants: true, ..self }
    }
}

/// What handlers read whole has at most so many bytes; a bundle is streamed and has its own limit.
const BODY_LIMIT: usize = 256 << 10;

#[rustfmt::skip]
pub fn routes() -> Vec<Route> {
    use Access::{Open, Page};
    const VIEW: Access = Access::Api(Role::Viewer);
    const WORK: Access = Access::Api(Role::Operator);
    const RULE: Access = Access::Api(Role::Admin);
    const OWN:  Access = Access::Own(Role::Viewer);
    let route = |access, method, path, handler| Route { access, method, path, tenants: false, handler };
    vec![
        route(Open, "GET",    "/login",                         get(web::pages::login)),
        route(Open, "GET",    "/welcome",                       get(web::pages::welcome)),
        route(Open, "GET",    "/assets/{file}",                 get(web::assets::get)),
        route(Open, "GET",    "/libraries/{*file}",             get(web::consoles::library)),
        route(Open, "POST",   "/api/v1/password",               post(session::set_password)),
        route(Open, "POST",   "/api/v1/login",                  post(session::login)),

        route(Page, "GET",    "/",                              get(web::pages::page)).for_tenants(),
        route(Page, "GET",    "/machines",                      get(web::pages::page)),
        route(Page, "GET",    "/machines/{id}",                 get(web::pages::page)),
        route(Page, "GET",    "/machines/{id}/console",         get(web::consoles::of_machine)),
        route(Page, "GET",    "/machines/{id}/erasures",        get(web::certificate::get)),
        route(Page, "GET",    "/hosts",                         get(web::pages::page)),
        route(Page, "GET",    "/vms",                           get(web::pages::page)).for_tenants(),
        route(Page, "GET",    "/vms/{id}",                      get(web::pages::page)).for_tenants(),
        route(Page, "GET",    "/vms/{id}/console",              get(web::consoles::of_vm)).for_tenants(),
        route(Page, "GET",    "/volumes",                       get(web::pages::page)),
        route(Page, "GET",    "/images",                        get(web::pages::page)),
        route(Page, "GET",    "/services",                      get(web::pages::page)).for_tenants(),
        route(Page, "GET",    "/services/{id}",                 get(web::pages::page)).for_tenants(),
        route(Page, "GET",    "/systems",                       get(web::pages::page)),
        route(Page, "GET",    "/racks",                         get(web::pages::page)),
        route(Page, "GET",    "/switches",                      get(web::pages::page)),
        route(Page, "GET",    "/networks",                      get(web::pages::page)),
        route(Page, "GET",    "/users",                         get(web::pages::page)).for_tenants(),
        route(Page, "GET",    "/log",                           get(web::pages::page)),
        route(Page, "GET",    "/settings",                      get(web::pages::page)),
        route(VIEW, "GET",    "/live",                          get(web::live::get)).for_tenants(),
        route(VIEW, "GET",    "/timeline/{id}",                 get(web::pages::timeline)).for_tenants(),

        route(VIEW, "GET",    "/api/v1/users",                  get(users::list)),
        route(RULE, "POST",   "/api/v1/users",                  post(users::add)),
        route(RULE, "PUT",    "/api/v1/users/{id}/role",        put(users::set_role)),
        route(Access::Own(Role::Admin), "PUT", "/api/v1/users/{id}/password", put(users::set_password)),
        route(RULE, "DELETE", "/api/v1/users/{id}",             delete(users::remove)),
        route(VIEW, "GET",    "/api/v1/tenants",                get(tenants::list)),
        route(RULE, "POST",   "/api/v1/tenants",                post(tenants::add)),
        route(RULE, "PUT",    "/api/v1/tenants/{id}",           put(tenants::set)),
        route(RULE, "DELETE", "/api/v1/tenants/{id}",           delete(tenants::remove)),
        route(VIEW, "GET",    "/api/v1/me",                     get(users::me)).for_tenants(),
        route(OWN,  "PUT",    "/api/v1/me/password",            put(users::change_password)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/sessions",               get(sessions::list)).for_tenants(),
        route(OWN,  "DELETE", "/api/v1/sessions/{id}",          delete(sessions::end)).for_tenants(),
        route(OWN,  "POST",   "/api/v1/tokens",                 post(sessions::make_token)).for_tenants(),
        route(OWN,  "POST",   "/api/v1/logout",                 post(session::logout)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/openapi.json",           get(openapi::get)).for_tenants(),
        route(RULE, "GET",    "/api/v1/webhooks",               get(webhooks::list)),
        route(Access::Own(Role::Admin), "POST",   "/api/v1/webhooks",      post(webhooks::add)),
        route(Access::Own(Role::Admin), "DELETE", "/api/v1/webhooks/{id}", delete(webhooks::remove)),
        route(RULE, "GET",    "/api/v1/support",                get(support::get)),
        route(VIEW, "GET",    "/metrics",                       get(metrics::get)),
        route(VIEW, "GET",    "/api/v1/state",                  get(state::get)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/events",                 get(events::get)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/machines",               get(machines::list)),
        route(WORK, "DELETE", "/api/v1/machines/{id}",          delete(machines::remove)),
        route(WORK, "POST",   "/api/v1/machines/{id}/adopt",    post(machines::adopt)),
        route(VIEW, "GET",    "/api/v1/machines/{id}/timeline", get(timeline::get)),
        route(WORK, "POST",   "/api/v1/machines/{id}/cancel",   post(machines::cancel)),
        route(WORK, "POST",   "/api/v1/machines/{id}/boot",     post(machines::boot)),
        route(VIEW, "GET",    "/api/v1/machines/{id}",          get(machines::get)),
        route(WORK, "GET",    "/api/v1/machines/{id}/console",  get(consoles::of_machine)),
        route(VIEW, "GET",    "/api/v1/machines/{id}/said",     get(consoles::said)),
        route(WORK, "POST",   "/api/v1/machines/{id}/power",    post(power::switch)),
        route(WORK, "POST",   "/api/v1/machines/{id}/identify", post(power::light)),
        route(WORK, "PUT",    "/api/v1/machines/{id}/bmc",      put(power::set_bmc)),
        route(WORK, "DELETE", "/api/v1/machines/{id}/bmc",      delete(power::remove_bmc)),
        route(WORK, "POST",   "/api/v1/machines/{id}/bmc/find", post(logins::find)),
        route(RULE, "GET",    "/api/v1/bmc/logins",             get(logins::list)),
        route(Access::Own(Role::Admin), "POST",   "/api/v1/bmc/logins",          post(logins::add)),
        route(Access::Own(Role::Admin), "DELETE", "/api/v1/bmc/logins/{number}", delete(logins::remove)),
        route(WORK, "PUT",    "/api/v1/machines/{id}/strip",    put(strips::set)),
        route(WORK, "DELETE", "/api/v1/machines/{id}/strip",    delete(strips::remove)),
        route(WORK, "POST",   "/api/v1/machines/{id}/fence",    post(power::fence)),
        route(WORK, "POST",   "/api/v1/machines/{id}/unfence",  post(power::unfence)),
        route(WORK, "POST",   "/api/v1/machines/{id}/reimage",  post(power::reimage)),
        route(WORK, "POST",   "/api/v1/machines/{id}/erase",    post(erase::erase)),
        route(VIEW, "GET",    "/api/v1/machines/{id}/erasures", get(erase::certificates)),
        route(WORK, "POST",   "/api/v1/machines/{id}/check",    post(check::check)),
        route(WORK, "POST",   "/api/v1/machines/{id}/retire",   post(erase::retire)),
        route(WORK, "POST",   "/api/v1/machines/{id}/unretire", post(erase::unretire)),
        route(WORK, "PUT",    "/api/v1/machines/{id}/place",    put(racks::place_machine)),
        route(WORK, "DELETE", "/api/v1/machines/{id}/place",    delete(racks::unplace_machine)),
        route(VIEW, "GET",    "/api/v1/hosts",                  get(hosts::list)),
        route(WORK, "POST",   "/api/v1/hosts/{id}/drain",       post(hosts::drain)),
        route(WORK, "POST",   "/api/v1/hosts/{id}/undrain",     post(hosts::undrain)),
        route(VIEW, "POST",   "/api/v1/hosts/{id}/fail",        post(power::fail)),
        route(VIEW, "GET",    "/api/v1/vms",                    get(vms::list)).for_tenants(),
        route(WORK, "POST",   "/api/v1/vms",                    post(vms::create)).for_tenants(),
        route(WORK, "DELETE", "/api/v1/vms/{id}",               delete(vms::remove)).for_tenants(),
        route(WORK, "POST",   "/api/v1/vms/{id}/recover",       post(power::recover_vm)),
        route(WORK, "POST",   "/api/v1/vms/{id}/cancel",        post(vms::cancel)).for_tenants(),
        route(WORK, "GET",    "/api/v1/vms/{id}/console",       get(consoles::of_vm)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/vms/{id}/timeline",      get(timeline::get)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/volumes",                get(volumes::list)),
        route(VIEW, "GET",    "/api/v1/images",                 get(images::list)),
        route(VIEW, "GET",    "/api/v1/services",               get(services::list)).for_tenants(),
        route(WORK, "DELETE", "/api/v1/services/{id}",          delete(services::remove)).for_tenants(),
        route(WORK, "POST",   "/api/v1/services/{id}/cancel",   post(services::cancel)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/services/{id}/timeline", get(timeline::get)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/packages",               get(packages::list)).for_tenants(),
        route(WORK, "POST",   "/api/v1/packages",               post(packages::install).layer(DefaultBodyLimit::disable())).for_tenants(),
        route(WORK, "DELETE", "/api/v1/packages/{id}",          delete(packages::remove)),
        route(VIEW, "GET",    "/api/v1/racks",                  get(racks::list)),
        route(WORK, "POST",   "/api/v1/racks",                  post(racks::add)),
        route(WORK, "DELETE", "/api/v1/racks/{id}",             delete(racks::remove)),
        route(VIEW, "GET",    "/api/v1/switches",               get(switches::list)),
        route(WORK, "POST",   "/api/v1/switches",               post(switches::add)),
        route(WORK, "DELETE", "/api/v1/switches/{id}",          delete(switches::remove)),
        route(WORK, "POST",   "/api/v1/switches/{id}/ports",    post(switches::ports)),
        route(WORK, "POST",   "/api/v1/switches/{id}/plug",     post(switches::plug)),
        route(WORK, "POST",   "/api/v1/switches/{id}/unplug",   post(switches::unplug)),
        route(WORK, "PUT",    "/api/v1/switches/{id}/place",    put(racks::place_switch)),
        route(WORK, "DELETE", "/api/v1/switches/{id}/place",    delete(racks::unplace_switch)),
        route(VIEW, "GET",    "/api/v1/media",                  get(systems::list_media)),
        route(WORK, "POST",   "/api/v1/media",                  post(systems::import).layer(DefaultBodyLimit::disable())),
        route(WORK, "DELETE", "/api/v1/media/{id}",             delete(systems::remove_medium)),
        route(VIEW, "GET",    "/api/v1/profiles",               get(systems::list_profiles)),
        route(WORK, "POST",   "/api/v1/profiles",               post(systems::set_profile)),
        route(VIEW, "GET",    "/api/v1/profiles/{id}",          get(systems::get_profile)),
        route(WORK, "PATCH",  "/api/v1/profiles/{id}",          patch(systems::patch_profile)),
        route(VIEW, "GET",    "/api/v1/profiles/{id}/template", get(systems::template)),
        route(WORK, "DELETE", "/api/v1/profiles/{id}",          delete(systems::remove_profile)),
        route(VIEW, "GET",    "/api/v1/networks",               get(networks::get)),
        route(VIEW, "GET",    "/api/v1/subnets",                get(networks::subnets)),
        route(VIEW, "GET",    "/api/v1/subnets/{id}",           get(networks::subnet)),
        route(WORK, "PUT",    "/api/v1/subnets/{id}",           put(networks::set_subnet)),
        route(WORK, "PATCH",  "/api/v1/subnets/{id}",           patch(networks::patch_subnet)),
        route(WORK, "DELETE", "/api/v1/subnets/{id}",           delete(networks::remove_subnet)),
        route(VIEW, "GET",    "/api/v1/reservations",           get(networks::reservations)),
        route(WORK, "POST",   "/api/v1/reservations",           post(networks::reserve)),
        route(WORK, "DELETE", "/api/v1/reservations/{id}",      delete(networks::unreserve)),
        route(VIEW, "GET",    "/api/v1/leases",                 get(networks::leases)),
        route(WORK, "DELETE", "/api/v1/leases/{id}",            delete(networks::free)),
        route(WORK, "POST",   "/api/v1/many",                   post(many::post)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/timeline/{id}",          get(timeline::get)).for_tenants(),
        route(VIEW, "GET",    "/api/v1/policy",                 get(policy::get)),
        route(RULE, "PUT",    "/api/v1/policy",                 put(policy::put)),
        route(RULE, "PATCH",  "/api/v1/policy",                 patch(policy::patch)),
        route(VIEW, "GET",    "/api/v1/query",                  get(query::nouns)),
        route(VIEW, "GET",    "/api/v1/query/{noun}",           get(query::get)),
        route(OWN,  "POST",   "/api/v1/plan",                   post(plan::plan).layer(DefaultBodyLimit::max(plan::LIMIT))).for_tenants(),
        route(WORK, "POST",   "/api/v1/apply",                  post(plan::apply).layer(DefaultBodyLimit::max(plan::LIMIT))).for_tenants(),
        route(VIEW, "GET",    "/api/v1/document",               get(document::get)),
        route(OWN,  "POST",   "/api/v1/document",               post(document::plan).layer(DefaultBodyLimit::max(plan::LIMIT))),
        route(VIEW, "GET",    "/api/v1/history",                get(history::list)),
        route(VIEW, "GET",    "/api/v1/history/{position}",     get(history::show)),
        route(VIEW, "GET",    "/api/v1/log",                    get(history::lines)),
        route(VIEW, "GET",    "/api/v1/log/compacted",          get(history::compacted)),
        route(VIEW, "GET",    "/api/v1/hash",                   get(history::state)),
        route(Access::Own(Role::Admin), "POST", "/api/v1/replay",                 post(replay::post).layer(DefaultBodyLimit::max(replay::LIMIT))),
    ]
}

/// Page and REST API, to be served over TLS. Requests carry the caller's `SocketAddr` as an extension.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    let answers = Arc::new(once::Answers::default());
    for Route { access, method, path, tenants, handler } in routes() {
        let handler = match method {
            "GET" if path.starts_with("/api/") => handler.route_layer(from_fn(versions::conditional)),
            _ if once::takes_a_key(method, path) => {
                handler.route_layer(from_fn_with_state(Arc::clone(&answers), once::once))
            }
            "POST" => handler.route_layer(from_fn(once::never)),
            _ => handler,
        };
        let handler = match (access, tenants) {
            (Access::Open, _) | (_, true) => handler,
            (_, false) => handler.route_layer(from_fn(guard::of_the_site)),
        };
        let guarded = match access {
            Access::Open => handler.route_layer(from_fn(guard::open)),
            Access::Page => handler.route_layer(from_fn_with_state(app.clone(), guard::page)),
            Access::Api(role) => handler.route_layer(from_fn_with_state((app.clone(), role), guard::api)),
            Access::Own(role) => handler.route_layer(from_fn_with_state((app.clone(), role), guard::own)),
        };
        router = router.route(path, guarded);
    }
    let header = |name: HeaderName, value| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .fallback(async || web::Error::refused(StatusCode::NOT_FOUND, "there is no such page"))
        .layer(Extension(Arc::new(web::views::Views::default())))
        .layer(from_fn(web::problem::complete))
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
