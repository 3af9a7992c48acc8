//! The HTTP side: routes, guards, wire structs, and errors rendered for each family.
//!
//! [`routes`] reads as the table of contents of the API. A handler names its guard in its
//! signature, parses, calls one operation and returns the response.

pub mod account;
pub mod auth;
pub mod body;
pub mod browser_cookie;
pub mod cursor_page;
pub mod edge;
pub mod family;
pub mod github;
pub mod health;
pub mod html_page;
pub mod jwks;
mod key_endpoints;
pub mod leaks;
mod limits_and_credits;
pub mod metrics;
pub mod oauth;
pub mod onboarding;
pub mod openapi;
pub mod operator;
pub mod organization;
pub mod path;
pub mod public_document;
pub mod query;
pub mod render;
pub mod route_kind;
pub mod shown_once;
pub mod stripe;
mod switches;
pub mod user;
pub mod verification;
pub mod wire;

use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};

use self::auth::CountedRequest;
use self::edge::middleware::{MiddlewareState, handle_request};
use self::edge::rate_limits;
use self::family::{RouteTable, Routes};
use self::openapi::ApiDescription;
use self::verification::LocalVerifier;
use crate::app::App;
use crate::error::Error;

/// Returns every route of every family, with its description and its facts.
#[must_use]
pub fn routes() -> Routes {
    Routes::default()
        .merge(onboarding::routes())
        .merge(account::routes())
        .merge(organization::routes())
        .merge(operator::routes())
        .merge(user::routes())
        .merge(verification::routes())
        .merge(leaks::routes())
        .merge(oauth::routes())
}

/// Returns the router of the whole server.
pub fn router(app: &App) -> Router {
    let ApiDescription { router, table, .. } = openapi::describe(routes());
    let family_routes = router.method_not_allowed_fallback(method_not_allowed);
    let family_routes = family_routes.layer(from_fn_with_state(app.clone(), auth::identify));
    let other_routes = jwks::routes().merge(openapi::document_routes()).merge(stripe::routes(app));
    let other_routes = other_routes.merge(github::routes(app)).merge(oauth::document_routes());
    let other_routes = other_routes.fallback(not_found);
    let other_routes = other_routes.method_not_allowed_fallback(method_not_allowed);
    let other_routes =
        other_routes.layer(from_fn_with_state(app.clone(), rate_limits::limit_by_address));
    let health = health::routes().method_not_allowed_fallback(method_not_allowed);
    with_middleware(app, table, family_routes.merge(other_routes).merge(health))
}

/// Returns the routes for verifiers, for a listener that only the operator's proxies reach: a
/// caller needs no secret.
pub fn local_verifier_router(app: &App) -> Router {
    let ApiDescription { router, table, .. } = openapi::describe(verification::routes());
    let routes = router.method_not_allowed_fallback(method_not_allowed).fallback(not_found);
    let routes = routes.layer(from_fn_with_state(app.clone(), auth::identify));
    let state = MiddlewareState::without_cors(app, table);
    routes
        .layer(Extension(LocalVerifier))
        .layer(from_fn_with_state(state, handle_request))
        .with_state(app.clone())
}

/// Adds the middleware that every request passes.
pub fn with_middleware(app: &App, table: RouteTable, routes: Router<App>) -> Router {
    routes
        .layer(from_fn_with_state(MiddlewareState::new(app, table), handle_request))
        .with_state(app.clone())
}

async fn not_found() -> Error {
    render::from_status(StatusCode::NOT_FOUND)
}

/// Renders a 405. The router adds `Allow`.
async fn method_not_allowed(_: CountedRequest) -> Error {
    render::from_status(StatusCode::METHOD_NOT_ALLOWED)
}
