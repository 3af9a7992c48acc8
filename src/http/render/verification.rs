//! Errors of the verification family (VERIFY §3 and §4): in the shape of the organization family. A
//! proxy gets a status that it passes on; nginx, which understands few, gets the true one in a
//! header.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

pub use super::organization::{
    BadRequest, Forbidden, NotFound, TooLarge, Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::error::Error;
use crate::http::edge::context::RequestContext;
use crate::http::render::organization;

/// The header with the true status of an answer to a proxy.
pub const STATUS: HeaderName = HeaderName::from_static("x-tenantry-status");

/// Renders an error.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let mut response = organization::render(error, context);
    let route = context.route.as_str();
    if !is_proxy_route(route) {
        return response;
    }
    let status = response.status();
    response.headers_mut().insert(STATUS, HeaderValue::from(status.as_u16()));
    if route == "/v1/verify/nginx" {
        *response.status_mut() = status_for_nginx(status);
    }
    response
}

fn is_proxy_route(route: &str) -> bool {
    ["/v1/verify/forward", "/v1/verify/nginx", "/v1/verify/envoy"].iter().any(|proxy| {
        route.strip_prefix(proxy).is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
    })
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

    #[test]
    fn proxy_routes_are_told_apart_from_json_routes() {
        for route in ["/v1/verify/forward", "/v1/verify/envoy", "/v1/verify/envoy/{*path}"] {
            assert!(is_proxy_route(route), "{route}");
        }
        for route in ["/v1/verify", "/v1/verify/batch", "-"] {
            assert!(!is_proxy_route(route), "{route}");
        }
    }
}
