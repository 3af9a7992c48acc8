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
pub mod query;
pub mod shedding;
pub mod stripe;
pub mod trusted_page;
pub mod user;
pub mod wire;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::error::Error;

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
    let product = dress_callers(app, routes);
    let others = jwks::routes().merge(openapi::routes_of(document)).merge(stripe::routes(app));
    let others = others.layer(from_fn_with_state(app.clone(), limits::by_address));
    let shed = from_fn_with_state(app.clone(), shedding::shed);
    dress(app, product.merge(others).layer(shed).merge(health::routes()))
}

/// Puts the middleware that finds out who is calling around routes.
pub fn dress_callers(app: &App, routes: Router<App>) -> Router<App> {
    routes.layer(from_fn_with_state(app.clone(), caller::identify))
}

/// Puts around routes what every request passes, from the outside in: the boundary, which gives
/// it an id, a dialect and a log line; what browsers are told; the deadline; the net for panics.
/// Also answers for paths and methods that are not there.
pub fn dress(app: &App, routes: Router<App>) -> Router {
    routes
        .fallback(|| async { Error::not_found("There is nothing at this path") })
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(CatchPanicLayer::custom(error::from_panic))
        .layer(from_fn(boundary::with_deadline))
        .layer(cors::layer(app))
        .layer(from_fn_with_state(app.clone(), boundary::boundary))
        .with_state(app.clone())
}
