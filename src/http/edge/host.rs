//! Validates the `Host` header. Servers could interpret a request differently if the header is
//! missing or repeated (RFC 9112 §3.2).

use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::{Error, Result};

/// Requires exactly one valid `Host` header; it may be missing before HTTP/1.1.
///
/// # Errors
/// Malformed if the header is missing, repeated or invalid.
pub fn require(request: &Request) -> Result<()> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => {
            Err(Error::malformed("Host header is required"))
        }
        (_, Some(_)) => Err(Error::malformed("Host header must not be repeated")),
        (Some(host), None) if !is_host(host) => {
            Err(Error::malformed("Host header must be a host name or address and a port"))
        }
        _ => Ok(()),
    }
}

/// Applies [`require`] as middleware, for listeners without the API's middleware.
pub async fn middleware(request: Request, next: Next) -> Response {
    match require(&request) {
        Ok(()) => next.run(request).await,
        Err(_) => axum::http::StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Returns whether the value contains only the characters that RFC 3986 §3.2 allows in a host and a
/// port.
fn is_host(host: &HeaderValue) -> bool {
    let is_allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
    host.as_bytes().iter().all(is_allowed)
}
