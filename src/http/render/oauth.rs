//! Errors under `/oauth2/` (RFC 6749 §5.2): a code and a description, without an envelope.

use axum::Json;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Issue};
use crate::http::family::AcceptedCredentials;
use crate::http::render::details::error_responses;
use crate::http::render::kinds::mapping;

/// How a client authenticates here. RFC 6749 §5.2 requires the scheme that the client tried.
pub const CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Basic realm="tenantry", Bearer realm="tenantry""#);

/// An error under `/oauth2/` (RFC 6749 §5.2).
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::Error)]
pub struct ErrorBody {
    /// The error code.
    #[schema(examples("invalid_request"))]
    error: &'static str,
    /// What is wrong with this request, with every invalid parameter.
    #[schema(examples("`token` is required"))]
    error_description: String,
}

/// Renders an error.
#[must_use]
pub fn render(error: &Error, accepted: AcceptedCredentials) -> Response {
    let mapping = mapping(error.kind());
    // A route for access tokens has the codes of a resource server (RFC 6750 §3.1).
    let code = match error.kind() {
        ErrorKind::Unauthenticated(_) if accepted == AcceptedCredentials::OauthTokens => {
            "invalid_token"
        }
        ErrorKind::MissingScopes(_) if accepted == AcceptedCredentials::OauthTokens => {
            "insufficient_scope"
        }
        _ => mapping.oauth,
    };
    let body = ErrorBody { error: code, error_description: description(error) };
    (mapping.status, Json(body)).into_response()
}

/// Returns the issues of an error, or its message if it has none, in the characters that RFC 6749
/// §5.2 allows.
fn description(error: &Error) -> String {
    let name = |issue: &Issue| match issue.path.join(".") {
        path if path.is_empty() => issue.message.to_string(),
        path => format!("`{path}` {}", issue.message),
    };
    let text = match error.issues() {
        [] => error.message().to_owned(),
        issues => issues.iter().map(name).collect::<Vec<_>>().join("; "),
    };
    let is_allowed = |it: char| matches!(it, ' '..='~') && it != '"' && it != '\\';
    text.chars().map(|it| if is_allowed(it) { it } else { '?' }).collect()
}

error_responses! { ErrorBody,
    /// For every route.
    BadRequest = 400, "`invalid_request`: a parameter is missing or repeated.";
    /// For routes for verifiers.
    Unauthorized = 401, "`invalid_client`: the verifier is missing or wrong.";
    /// For routes for verifiers.
    NotFound = 404, "The server has no verifiers.";
    /// For routes in a session.
    InvalidSession = 401, "`invalid_client`: the session has ended, or is older than required.";
    /// For routes in a session.
    Forbidden = 403, "`access_denied`: another browser, or the organization does not permit it.";
    /// For routes about an authorization request.
    UnknownRequest = 404, "`not_found`: answered already, or expired; or OAuth is off.";
    /// For routes about an authorization request.
    Conflict = 409, "`invalid_request`: the app was changed meanwhile.";
    /// For routes that read a body.
    TooLarge = 413, "The request body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "Content-Type is not application/x-www-form-urlencoded.";
    /// For routes for clients.
    BadClientRequest = 400, "`invalid_request`, `invalid_grant`, `invalid_scope`, \
                             `invalid_target`, `unauthorized_client` or `unsupported_grant_type`.";
    /// For the token endpoint.
    BadTokenRequest = 400, "`invalid_request`, `invalid_grant`, `invalid_scope`, `invalid_target`, \
                         `unauthorized_client` or `unsupported_grant_type`; of a device that polls \
                         also `authorization_pending`, `slow_down`, `expired_token` or \
                         `access_denied`.";
    /// For devices.
    BadDeviceRequest = 400, "`invalid_request`, `invalid_scope`, `invalid_target` or \
                          `unauthorized_client`.";
    /// For routes about a device's request.
    UnknownDevice = 404, "`not_found`: unknown, answered already, expired, or claimed by another \
                          account; or OAuth is off.";
    /// For routes for clients.
    ClientUnauthorized = 401, "`invalid_client`: the client is unknown, or did not authenticate \
                               as it is registered.";
    /// For routes for access tokens.
    InvalidToken = 401, "`invalid_token`: the access token is missing, has ended, or is for other \
                         services.";
    /// For routes for access tokens.
    InsufficientScope = 403, "`insufficient_scope`: the access token lacks `openid`. Another \
                               code: the organization of the grant is suspended.";
    /// For every route of the authorization server.
    NoSuchRoute = 404, "`not_found`: `OAUTH` is off.";
    /// For routes for registrations.
    InvalidMetadata = 400, "`invalid_redirect_uri` or `invalid_client_metadata`, with every member \
                            that breaks a rule; `invalid_request`: the body is no JSON.";
    /// For routes for registrations.
    WrongToken = 401, "`invalid_client`: the token is missing, wrong, or of another client.";
    /// For routes for registrations.
    RegistrationOff = 403, "`access_denied`: `OAUTH_DCR` is off.";
    /// For routes for registrations.
    JsonRequired = 415, "Content-Type is not application/json.";
    /// For routes for clients.
    TooManyRequests = 429, "`slow_down`: try again after `Retry-After` seconds.";
    /// For every route.
    Unavailable = 503, "Temporarily unavailable; try again after `Retry-After` seconds.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_every_issue_in_the_allowed_characters() {
        let issues = vec![Issue::field("a\"ü\\", "is required"), Issue::body("is too much")];
        let text = description(&Error::invalid(issues));
        assert_eq!(text, "`a???` is required; is too much");
        assert_eq!(description(&Error::malformed("Send … it")), "Send ? it");
    }
}
