//! Requests that a browser may have been made to send: what changes something in a session's name,
//! or starts a session, must come from a page that we trust (contract §1, *Cookies*).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::app::App;
use crate::error::{Error, Result};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request of this method changes nothing (RFC 9110 §9.2.1).
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Passes a request from a trusted page, or from no page at all.
///
/// # Errors
/// Forbidden otherwise.
pub fn check(headers: &HeaderMap, app: &App) -> Result<()> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (origin, another) = (origins.next(), origins.next());
    let trusted = &app.config.http.trusted_origins;
    let is_trusted = |origin: &HeaderValue| {
        origin.to_str().is_ok_and(|origin| trusted.contains(origin)) && another.is_none()
    };
    // Of a page that hides where it is, a frame in a sandbox, whatever else is said of it.
    let is_hidden = headers.get_all(header::ORIGIN).iter().any(|origin| origin == "null");
    let passes = match (origin, headers.get(FETCH_SITE)) {
        _ if is_hidden => false,
        (Some(origin), _) if is_trusted(origin) => true,
        (_, Some(site)) => site == "same-origin" || site == "none",
        (origin, None) => origin.is_none(),
    };
    if passes {
        Ok(())
    } else {
        Err(Error::forbidden("Cross-site request rejected: origin is not trusted"))
    }
}

/// Guard: a request from a trusted page, or from no page at all.
pub struct FromTrustedOrigin;

impl FromRequestParts<App> for FromTrustedOrigin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        check(&parts.headers, app).map(|()| Self)
    }
}
