//! Which pages' scripts may read our answers (contract §1, *CORS*): our own and the dashboards',
//! with credentials.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::App;

/// How long a browser may remember what a preflight said.
const REMEMBERED: Duration = Duration::from_mins(10);

/// What answers preflights, and names the origin in answers to trusted pages.
pub fn layer(app: &App) -> CorsLayer {
    let trusted = app.config.http.trusted_origins.clone();
    let is_trusted = move |origin: &HeaderValue, _: &axum::http::request::Parts| {
        origin.to_str().is_ok_and(|origin| trusted.contain(origin))
    };
    let sent =
        ["x-api-key", "x-signup-token", "idempotency-key", "x-request-id", "x-correlation-id"];
    let sent = sent.map(HeaderName::from_static).into_iter();
    let shown = [
        "x-request-id",
        "idempotent-replayed",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "www-authenticate",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_trusted))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(
            sent.chain([header::CONTENT_TYPE, header::AUTHORIZATION]).collect::<Vec<_>>(),
        )
        .expose_headers(shown.map(HeaderName::from_static))
        .max_age(REMEMBERED)
}
