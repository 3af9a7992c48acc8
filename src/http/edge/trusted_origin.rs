//! Protection against cross-site requests: a request that changes something in a session, or starts
//! a session, must not come from an untrusted origin.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::app::App;
use crate::error::{Error, Result};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns whether the method is safe, that is, changes nothing (RFC 9110 §9.2.1).
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Accepts a request from a trusted origin, and a request that does not come from a web page.
///
/// # Errors
/// Forbidden for any other request.
pub fn check(headers: &HeaderMap, app: &App) -> Result<()> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (origin, another) = (origins.next(), origins.next());
    let trusted = &app.config.http.trusted_origins;
    let is_trusted = |origin: &HeaderValue| {
        origin.to_str().is_ok_and(|origin| trusted.contains(origin)) && another.is_none()
    };
    // The opaque origin `null`, which browsers send from sandboxed frames for example, is never
    // trusted, whatever the other headers are.
    let is_opaque = headers.get_all(header::ORIGIN).iter().any(|origin| origin == "null");
    let is_allowed = match (origin, headers.get(FETCH_SITE)) {
        _ if is_opaque => false,
        (Some(origin), _) if is_trusted(origin) => true,
        (_, Some(site)) => site == "same-origin" || site == "none",
        (origin, None) => origin.is_none(),
    };
    if is_allowed {
        Ok(())
    } else {
        Err(Error::forbidden("Cross-site request rejected: origin is not trusted"))
    }
}

/// Returns whether a browser followed a link of another site. Browsers send nothing without TLS.
#[must_use]
pub fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site")
}

/// Guard that applies [`check`] to the request.
pub struct FromTrustedOrigin;

impl FromRequestParts<App> for FromTrustedOrigin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        check(&parts.headers, app).map(|()| Self)
    }
}
