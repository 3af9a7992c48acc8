//! CORS (contract §1, *CORS*): which origins may read responses. The product's own and the trusted
//! ones may, with credentials; those on the list of an organization may, without.
//!
//! A preflight carries no key, so the organization is not known yet: the request that follows is
//! checked against the list of its key's organization.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::cors::{AllowCredentials, AllowHeaders, AllowOrigin, CorsLayer};

use crate::app::App;
use crate::app::origin_lookup::OriginQuery;
use crate::error::ErrorKind;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_anonymous;
use crate::http::family::Family;
use crate::http::render::ErrorExtension;
use crate::model::origin::{Origin, TrustedOrigins};

/// How long a browser may cache a preflight.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_mins(10);

/// What answers preflights, and names the origin in answers to the pages that may read them. For
/// requests with an `Origin`; others vary with it all the same. A page that may read may send what
/// headers it likes: tracing libraries add their own to every request.
pub fn layer(app: &App) -> CorsLayer {
    let trusted = app.config.http.trusted_origins.clone();
    let is_trusted = move |origin: &HeaderValue, _: &Parts| is_trusted_origin(&trusted, origin);
    let app = app.clone();
    let may_read = move |origin: HeaderValue, parts: &Parts| {
        let app = app.clone();
        // No key is used outside the families.
        let takes_keys = Family::from_path(parts.uri.path()) != Family::Other;
        let known = if takes_keys {
            parts.extensions.get().copied()
        } else {
            Some(KnownCorsDecision(false))
        };
        async move {
            let trusted = &app.config.http.trusted_origins;
            is_trusted_origin(trusted, &origin)
                || match known {
                    Some(KnownCorsDecision(is_listed)) => is_listed,
                    None => is_allowed_by_any_organization(&app, &origin).await,
                }
        }
    };
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
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(shown.map(HeaderName::from_static))
        .max_age(PREFLIGHT_MAX_AGE)
}

fn is_trusted_origin(trusted: &TrustedOrigins, origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| trusted.contains(origin))
}

/// Whether an origin may read a response, where that is known without looking up which
/// organizations list it.
#[derive(Clone, Copy)]
struct KnownCorsDecision(bool);

/// Answers a preflight, or runs the request, and adds the headers that let the origin read the
/// response. Which organizations list the origin is looked up last, and not at all where the key
/// shows it, or where the caller is unknown and has to retry: it costs one more query.
pub async fn handle<F: Future<Output = Response>>(
    (app, cors): (&App, &CorsLayer),
    context: &RequestContext,
    request: Request,
    handler: impl FnOnce(Request) -> F,
) -> Response {
    let mut asked = Request::new(Body::empty());
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = request.uri().clone();
    *asked.headers_mut() = request.headers().clone();
    let answer = if request.method() == Method::OPTIONS {
        // It is counted nowhere else.
        count_anonymous(app, context, request.headers()).err().map(IntoResponse::into_response)
    } else {
        Some(handler(request).await)
    };
    if is_on_organization_allowlist(context) {
        asked.extensions_mut().insert(KnownCorsDecision(true));
    } else if answer.as_ref().is_some_and(is_retryable) {
        asked.extensions_mut().insert(KnownCorsDecision(false));
    }
    let mut answer = answer.unwrap_or_default();
    let inner = service_fn(|_| ready(Ok::<_, Infallible>(std::mem::take(&mut answer))));
    let answered = cors.layer(inner).oneshot(asked).await;
    let mut answer = answered.unwrap_or_else(|never| match never {});
    let headers = answer.headers_mut();
    if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.remove(header::ACCESS_CONTROL_ALLOW_HEADERS);
    }
    answer
}

/// Whether the request was made with a key of an active organization that has a list: then the page
/// is on it, or the key would not have been taken.
fn is_on_organization_allowlist(context: &RequestContext) -> bool {
    let caller = context.identity.get().and_then(|identity| identity.caller.as_ref());
    caller.filter(|caller| !caller.is_suspended).is_some_and(|caller| {
        caller.credential.key().is_some_and(|key| !key.allowed_origins.is_empty())
    })
}

/// Whether the answer is to come again later.
fn is_retryable(answer: &Response) -> bool {
    let failure = answer.extensions().get::<ErrorExtension>();
    failure.is_some_and(|ErrorExtension(error)| {
        matches!(
            error.kind(),
            ErrorKind::RateLimited | ErrorKind::QuotaExceeded { .. } | ErrorKind::Unavailable
        )
    })
}

/// Whether an active organization lists the origin; false where the database does not answer.
async fn is_allowed_by_any_organization(app: &App, origin: &HeaderValue) -> bool {
    let Some(origin) = origin.to_str().ok().and_then(|origin| Origin::parse(origin).ok()) else {
        return false;
    };
    matches!(app.origin_lookup.query(OriginQuery(origin)).await, Ok(Some(true)))
}
