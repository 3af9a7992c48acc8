//! Which pages' scripts may read our answers (contract §1, *CORS*): our own and the dashboards',
//! with credentials; and those of some organization's list, without.
//!
//! A preflight carries no key, so whose page it comes from can not be told yet: the request that
//! follows is judged by its key's organization (`caller::holder`).

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowCredentials, AllowOrigin, CorsLayer};

use crate::app::App;
use crate::http::context::RequestContext;
use crate::http::dialect::Family;
use crate::http::limits::count_address;
use crate::model::limit::Limit;
use crate::model::origin::{Origin, TrustedOrigins};

/// How long a browser may remember what a preflight said.
const REMEMBERED: Duration = Duration::from_mins(10);

/// What answers preflights, and names the origin in answers to the pages that may read them. For
/// requests with an `Origin`; others vary with it all the same.
pub fn layer(app: &App) -> CorsLayer {
    let trusted = app.config.http.trusted_origins.clone();
    let is_trusted = move |origin: &HeaderValue, _: &Parts| trusts(&trusted, origin);
    let app = app.clone();
    let may_read = move |origin: HeaderValue, parts: &Parts| {
        let app = app.clone();
        // No key is used outside the families.
        let takes_keys = Family::of(parts.uri.path()) != Family::None;
        let may_ask = takes_keys && is_within_limits(&app, parts);
        async move {
            let trusted = &app.config.http.trusted_origins;
            trusts(trusted, &origin) || (may_ask && lists(&app, &origin).await)
        }
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
        .allow_origin(AllowOrigin::async_predicate(may_read))
        .allow_credentials(AllowCredentials::predicate(is_trusted))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(
            sent.chain([header::CONTENT_TYPE, header::AUTHORIZATION]).collect::<Vec<_>>(),
        )
        .expose_headers(shown.map(HeaderName::from_static))
        .max_age(REMEMBERED)
}

fn trusts(trusted: &TrustedOrigins, origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| trusted.contain(origin))
}

/// Counts a preflight, which nobody else does; the requests that follow are counted as others are.
fn is_within_limits(app: &App, parts: &Parts) -> bool {
    let Some(context) = parts.extensions.get::<RequestContext>() else { return false };
    parts.method != Method::OPTIONS || count_address(app, context, Limit::Address).is_ok()
}

/// Whether some active organization lists the page. Where the database does not say so, none does.
async fn lists(app: &App, origin: &HeaderValue) -> bool {
    let Some(origin) = origin.to_str().ok().and_then(|origin| Origin::parse(origin).ok()) else {
        return false;
    };
    app.page_lookup.ask(origin).await.is_ok_and(|listed| listed.is_some())
}
