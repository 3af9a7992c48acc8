//! The HTTP side: routes, guards, wire structs and dialects.
//!
//! [`routes`] reads as the table of contents of the API. A handler names its guard in its
//! signature, parses, calls one operation and dresses the answer.

pub mod account;
pub mod benchmark;
pub mod body;
pub mod boundary;
pub mod caller;
pub mod context;
pub mod cookie;
pub mod cors;
pub mod denial;
pub mod details;
pub mod dialect;
pub mod error;
pub mod health;
pub mod host;
pub mod idempotency;
pub mod jwks;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod onboarding;
pub mod openapi;
pub mod operator;
pub mod organization;
pub mod page;
pub mod path;
pub mod problem;
pub mod public_document;
pub mod query;
pub mod shedding;
pub mod stripe;
mod trace_context;
pub mod trusted_page;
pub mod user;
pub mod wire;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::http::boundary::Boundary;
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
    let (routes, document) = openapi::split();
    let known = KnownParameters::of(&document);
    let product = routes.method_not_allowed_fallback(error::method_not_allowed);
    let product = dress_callers(app, known, product);
    let others = jwks::routes().merge(openapi::routes_of(&document)).merge(stripe::routes(app));
    let others = others.fallback(error::nothing_here);
    let others = others.method_not_allowed_fallback(error::method_not_allowed);
    let others = others.layer(from_fn_with_state(app.clone(), limits::by_address));
    let health = health::routes().method_not_allowed_fallback(error::method_not_allowed);
    dress(app, product.merge(others).merge(health))
}

/// Puts the middleware that finds out who is calling around routes.
pub fn dress_callers(app: &App, known: KnownParameters, routes: Router<App>) -> Router<App> {
    routes.layer(from_fn_with_state((app.clone(), Arc::new(known)), caller::identify))
}

/// Puts around routes what every request passes.
pub fn dress(app: &App, routes: Router<App>) -> Router {
    routes.layer(from_fn_with_state(Boundary::of(app), boundary::boundary)).with_state(app.clone())
}
