//! CORS: which origins may read responses. The server's own origin and the trusted origins may,
//! with credentials. The origins on an organization's list may, without credentials.
//!
//! Routes of OAuth that clients in browsers call are open to every origin, without credentials.
//!
//! A preflight contains no key, so the organization is not known yet. The request that follows is
//! checked against the list of its key's organization.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::Response;

use crate::app::App;
use crate::app::origin_lookup::OriginQuery;
use crate::error::ErrorKind;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_anonymous;
use crate::http::family::Family;
use crate::http::render::ErrorExtension;
use crate::model::origin::Origin;

/// The methods of a preflight's response.
const METHODS: HeaderValue = HeaderValue::from_static("GET,POST,PUT,PATCH,DELETE");
/// The time that a browser may cache a preflight, in seconds.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// The headers that scripts may read.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "x-request-id,idempotent-replayed,retry-after,ratelimit,ratelimit-policy,www-authenticate",
);
const VARY: HeaderValue = HeaderValue::from_static("origin, access-control-request-headers");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// The parts of a request that CORS depends on.
struct CrossOriginRequest {
    origin: Option<HeaderValue>,
    /// The headers that a preflight requests. All are allowed for an origin that may read
    /// responses, because tracing libraries add their own to every request.
    requested_headers: Option<HeaderValue>,
    is_preflight: bool,
    /// Whether its path belongs to a family, so that it may accept API keys.
    is_in_family: bool,
}

impl CrossOriginRequest {
    fn new(request: &Request) -> Self {
        let header = |name: HeaderName| request.headers().get(name).cloned();
        Self {
            origin: header(header::ORIGIN),
            requested_headers: header(header::ACCESS_CONTROL_REQUEST_HEADERS),
            is_preflight: request.method() == Method::OPTIONS,
            is_in_family: Family::from_path(request.uri().path()) != Family::Other,
        }
    }
}

/// Handles a request with an `Origin`: responds to a preflight, or runs the request, and adds the
/// headers that let the origin read the response.
pub async fn handle<F: Future<Output = Response>>(
    app: &App,
    context: &RequestContext,
    request: Request,
    handler: impl FnOnce(Request) -> F,
) -> Response {
    let cross_origin = CrossOriginRequest::new(&request);
    let (mut response, must_retry) = if cross_origin.is_preflight {
        // A preflight is counted here only.
        let is_limited = count_anonymous(app, context, request.headers()).is_err();
        (Response::default(), is_limited)
    } else {
        let response = handler(request).await;
        let must_retry = is_retryable(&response);
        (response, must_retry)
    };
    if context.facts.kind.is_open_to_all_origins {
        return open_to_all(response, cross_origin);
    }
    let trusted = &app.config.http.trusted_origins;
    let origin = cross_origin.origin.as_ref();
    let is_trusted = origin
        .and_then(|origin| origin.to_str().ok())
        .is_some_and(|origin| trusted.contains(origin));
    // The query for organizations that list the origin comes last, because it is expensive. It is
    // skipped if the key's organization lists origins, or if the client must retry later.
    let is_allowed = is_trusted
        || cross_origin.is_in_family
            && (is_on_organization_allowlist(context)
                || !must_retry && is_allowed_by_any_organization(app, origin).await);
    let headers = response.headers_mut();
    headers.append(header::VARY, VARY);
    if is_trusted {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    }
    if cross_origin.is_preflight {
        add_preflight_headers(headers, cross_origin.requested_headers.filter(|_| is_allowed));
    } else {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
    if let Some(origin) = cross_origin.origin.filter(|_| is_allowed) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

/// Lets every origin read the response to a request without credentials.
fn open_to_all(mut response: Response, cross_origin: CrossOriginRequest) -> Response {
    let headers = response.headers_mut();
    headers.append(header::VARY, VARY);
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if cross_origin.is_preflight {
        add_preflight_headers(headers, cross_origin.requested_headers);
    } else {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
    response
}

fn add_preflight_headers(headers: &mut HeaderMap, allowed_headers: Option<HeaderValue>) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    if let Some(allowed_headers) = allowed_headers {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers);
    }
}

/// Returns whether the request was made with a key of an active organization that lists origins.
/// The origin is then on the list, because the key would otherwise have been rejected.
fn is_on_organization_allowlist(context: &RequestContext) -> bool {
    let caller = context.identity.get().and_then(|identity| identity.caller.as_ref());
    caller.filter(|caller| !caller.is_suspended).is_some_and(|caller| {
        caller.credential.key().is_some_and(|key| !key.allowed_origins.is_empty())
    })
}

/// Returns whether the response tells the client to retry later.
fn is_retryable(response: &Response) -> bool {
    let failure = response.extensions().get::<ErrorExtension>();
    failure.is_some_and(|ErrorExtension(error)| {
        matches!(
            error.kind(),
            ErrorKind::RateLimited | ErrorKind::QuotaExceeded { .. } | ErrorKind::Unavailable
        )
    })
}

/// Returns whether an active organization lists the origin; false if the database does not respond.
async fn is_allowed_by_any_organization(app: &App, origin: Option<&HeaderValue>) -> bool {
    let origin = origin.and_then(|origin| Origin::parse(origin.to_str().ok()?).ok());
    let Some(origin) = origin else {
        return false;
    };
    matches!(app.origin_lookup.query(OriginQuery(origin)).await, Ok(Some(true)))
}
