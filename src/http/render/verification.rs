//! Errors of the verification family (VERIFY §3 and §4): in the shape of the organization family. A
//! proxy gets a status that it passes on; nginx, which understands few, gets the true one in a
//! header.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

pub use super::organization::{
    BadRequest, Conflict, Forbidden, Gone, NotFound, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::error::Error;
use crate::http::edge::context::RequestContext;
use crate::http::render::{CHALLENGE, organization};

/// The header with the true status of an answer to a proxy.
pub const STATUS: HeaderName = HeaderName::from_static("x-tenantry-status");

/// Renders an error.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let mut response = organization::render(error, context);
    if !context.facts.kind.is_for_proxies {
        return response;
    }
    let status = response.status();
    response.headers_mut().insert(STATUS, HeaderValue::from(status.as_u16()));
    if context.route == "/v1/verify/nginx" {
        *response.status_mut() = status_for_nginx(status);
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().entry(header::WWW_AUTHENTICATE).or_insert(CHALLENGE);
        }
    }
    response
}

/// `auth_request` of nginx passes 401 and 403 on, and makes an error of its own of any other status
/// but success.
fn status_for_nginx(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
        status if status.is_client_error() => StatusCode::FORBIDDEN,
        status => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_gets_only_statuses_that_it_passes_on() {
        for (status, expected) in
            [(400, 401), (401, 401), (403, 403), (404, 403), (429, 403), (500, 500), (503, 503)]
        {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(status_for_nginx(status).as_u16(), expected, "{status}");
        }
    }
}
