//! Errors of the verification family: in the shape of the organization family. A proxy gets a
//! status that it passes on, and the status for the client in a header, since nginx passes on only
//! a few.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

pub use super::organization::{BadRequest, Gone, Unavailable, UnsupportedMediaType};
use crate::error::Error;
use crate::http::edge::context::RequestContext;
use crate::http::render::details::error_responses;
use crate::http::render::organization::ErrorBody;
use crate::http::render::{CHALLENGE, organization};

/// The header with the status for the client, in responses to proxies.
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

/// Returns the status for nginx: its `auth_request` passes on 401 and 403, and replaces every other
/// status that is not a success by 500.
fn status_for_nginx(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
        status if status.is_client_error() => StatusCode::FORBIDDEN,
        status => status,
    }
}

error_responses! { ErrorBody,
    /// For every route for verifiers.
    Unauthorized = 401, "The verifier's secret is missing or wrong. From the routes for proxies: \
                          the client's credential is missing or not valid.";
    /// For the routes for proxies.
    Forbidden = 403, "The client's credential is valid, but does not allow this request.";
    /// For every route for verifiers.
    NotFound = 404, "The server has no verifiers, so these routes do not exist.";
    /// For the route that issues tokens.
    Conflict = 409, "The server has no private key to sign tokens with (`JWT_PRIVATE_KEYS`).";
    /// For routes that read a body.
    TooLarge = 413, "The request body is too large: the limit is 1 MiB for `/v1/usage/events` and \
                     64 KiB for every other route.";
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
