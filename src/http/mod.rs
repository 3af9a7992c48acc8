//! The HTTP side: routes, guards, wire structs and dialects.
//!
//! [`routes`] reads as the table of contents of the API. A handler names its guard in its
//! signature, parses, calls one operation and dresses the answer.

pub mod account;
pub mod auth;
pub mod benchmark;
pub mod body;
pub mod context;
pub mod cookie;
pub mod cors;
pub mod cursor_page;
pub mod error;
pub mod error_details;
pub mod family;
pub mod health;
pub mod host;
pub mod idempotency;
pub mod jwks;
pub mod listener;
pub mod metrics;
pub mod middleware;
pub mod onboarding;
pub mod openapi;
pub mod operator;
pub mod organization;
pub mod path;
pub mod problem;
pub mod public_document;
pub mod query;
pub mod rate_limits;
pub mod rejection;
pub mod shedding;
pub mod stripe;
mod trace_context;
pub mod trusted_origin;
pub mod user;
pub mod wire;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::http::middleware::MiddlewareState;
use crate::http::query::KnownParameters;

/// Every route of every family, described.
#[must_use]
pub fn routes() -> OpenApiRouter<App> {
    onboarding::routes()
        .merge(account::routes())
        .merge(organization::routes())
        .merge(operator::routes())
        .merge(user::routes())
}

/// The whole server.
pub fn router(app: &App) -> Router {
    let (routes, document) = openapi::routes_and_document();
    let known = KnownParameters::from_document(&document);
    let product = routes.method_not_allowed_fallback(error::method_not_allowed);
    let product = with_authentication(app, known, product);
    let others =
        jwks::routes().merge(openapi::document_routes(&document)).merge(stripe::routes(app));
    let others = others.fallback(error::not_found);
    let others = others.method_not_allowed_fallback(error::method_not_allowed);
    let others = others.layer(from_fn_with_state(app.clone(), rate_limits::limit_by_address));
    let health = health::routes().method_not_allowed_fallback(error::method_not_allowed);
    with_middleware(app, product.merge(others).merge(health))
}

/// Puts the middleware that finds out who is calling around routes.
pub fn with_authentication(app: &App, known: KnownParameters, routes: Router<App>) -> Router<App> {
    routes.layer(from_fn_with_state((app.clone(), Arc::new(known)), auth::identify))
}

/// Puts around routes what every request passes.
pub fn with_middleware(app: &App, routes: Router<App>) -> Router {
    routes
        .layer(from_fn_with_state(MiddlewareState::new(app), middleware::handle_request))
        .with_state(app.clone())
}
