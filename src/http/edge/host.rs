//! The `Host` header: a request that lacks it, or says two, is one that two servers could read
//! differently (RFC 9112 §3.2).

use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::{Error, Result};

/// Passes a request with one `Host` header that can be one; with none only before HTTP/1.1.
///
/// # Errors
/// Malformed.
pub fn require(request: &Request) -> Result<()> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => {
            Err(Error::malformed("Host header is required"))
        }
        (_, Some(_)) => Err(Error::malformed("Host header must be sent once")),
        (Some(host), None) if !is_host(host) => {
            Err(Error::malformed("Host header must be a host name or address and a port"))
        }
        _ => Ok(()),
    }
}

/// The same as a middleware, for listeners without a boundary.
pub async fn middleware(request: Request, next: Next) -> Response {
    match require(&request) {
        Ok(()) => next.run(request).await,
        Err(_) => axum::http::StatusCode::BAD_REQUEST.into_response(),
    }
}

/// What RFC 3986 §3.2 lets a host and a port be made of.
fn is_host(host: &HeaderValue) -> bool {
    let is_one = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
    host.as_bytes().iter().all(is_one)
}
