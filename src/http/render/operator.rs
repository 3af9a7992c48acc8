//! Errors of the operator family: flat for the operator, and with an object under `error` for an
//! organization's own key, as the published client parses it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::http::edge::context::RequestContext;
use crate::http::family::AcceptedCredentials;
use crate::http::render::details::{WireIssue, error_responses, with_error_details};
use crate::http::render::kinds::{mapping, status_invalid_as_422};
use crate::http::wire::Timestamp;

/// The body of an error response of `/v1/admin`, except for `/v1/admin/key` and
/// `/v1/admin/audit-log`.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Error)]
pub struct ErrorBody {
    /// The error code.
    #[schema(examples("VALIDATION_FAILED"))]
    error: &'static str,
    /// What is wrong with the request.
    #[schema(examples("The request is not valid"))]
    message: String,
    /// The first invalid field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("tier"))]
    field: Option<String>,
    /// The accepted values of that field, if they are a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_values: Vec<&'static str>,
    /// Every invalid field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issues: Vec<WireIssue>,
    /// The id of the request, as in `X-Request-Id`.
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
    request_id: String,
    timestamp: Timestamp,
}

/// The body of an error response of `/v1/admin/key` and `/v1/admin/audit-log`.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::KeyError)]
pub struct KeyErrorBody {
    error: KeyErrorObject,
    /// The id of the request, as in `X-Request-Id`.
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
    request_id: String,
    timestamp: Timestamp,
}

with_error_details! {
    /// The error.
    #[schema(as = operator::KeyFailure)]
    pub struct KeyErrorObject {
        /// The error code.
        #[schema(examples("VALIDATION_FAILED"))]
        code: &'static str,
        /// What is wrong with the request.
        #[schema(examples("The request is not valid"))]
        message: String,
        /// The first invalid field.
        #[schema(required, examples("limit"))]
        field: Option<String>,
        /// The accepted values of that field, if they are a list.
        #[schema(required)]
        allowed_values: Option<Vec<&'static str>>,
        /// Every invalid field.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        issues: Vec<WireIssue>,
        request_id: String,
    }
    // Keys have no role: none of these routes requires one.
    #[schema(ignore)]
}

/// Renders an error.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let status = status_invalid_as_422(error.kind());
    let (code, message) = (mapping(error.kind()).operator, error.message().to_owned());
    let first = error.issues().first();
    let field = first.filter(|issue| !issue.path.is_empty()).map(|issue| issue.path.join("."));
    let allowed_values = first.map(|issue| issue.allowed.clone()).unwrap_or_default();
    let issues = WireIssue::all_of(error);
    let (request_id, timestamp) = (context.id.clone(), Timestamp(context.received_at));
    if context.facts.credentials != AcceptedCredentials::OrganizationKeys {
        let error = code;
        let body =
            ErrorBody { error, message, field, allowed_values, issues, request_id, timestamp };
        return (status, Json(body)).into_response();
    }
    let error = KeyErrorObject {
        code,
        message,
        field,
        allowed_values: Some(allowed_values).filter(|allowed| !allowed.is_empty()),
        issues,
        request_id: request_id.clone(),
        ..KeyErrorObject::with_details_of(error)
    };
    (status, Json(KeyErrorBody { error, request_id, timestamp })).into_response()
}

error_responses! { ErrorBody,
    /// For every operator route.
    BadRequest = 400, "Malformed, or the Idempotency-Key is missing or invalid.";
    /// For every operator route.
    Unauthorized = 401, "The master key is missing, wrong, or for another route.";
    /// For routes with an id in the path, and for those of OAuth, which may be off.
    NotFound = 404, "The organization or the app does not exist, or OAuth is off.";
    /// For routes that change data.
    Conflict = 409, "It conflicts with the current state, or another request with the same \
                      Idempotency-Key is still running.";
    /// For routes that read a body.
    TooLarge = 413, "The request body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "Content-Type is not application/json.";
    /// For routes with parameters or a body.
    Unprocessable = 422, "Fields are invalid, or the Idempotency-Key was used for another request.";
    /// For every operator route.
    RateLimited = 429, "Too many requests from this address; see `Retry-After`.";
    /// For every operator route.
    Unavailable = 503, "Temporarily unavailable; try again after `Retry-After` seconds.";
}

/// The error responses of routes for an organization's own key.
pub mod key_errors {
    use super::{KeyErrorBody, error_responses};

    error_responses! { KeyErrorBody,
        /// For every such route.
        BadRequest = 400, "Malformed.";
        /// For every such route.
        Unauthorized = 401, "The key is missing or invalid.";
        /// For every such route: a key may be limited to some addresses.
        Forbidden = 403, "The credential does not allow this.";
        /// For the rotation of a key.
        Conflict = 409, "The key is no longer live.";
        /// For routes that read a body.
        TooLarge = 413, "The request body is larger than 64 KiB.";
        /// For routes that read a body.
        UnsupportedMediaType = 415, "Content-Type is not application/json.";
        /// For routes with parameters or a body.
        Unprocessable = 422, "Fields are invalid; `error.issues` lists them.";
        /// For every such route.
        Unavailable = 503, "Temporarily unavailable; try again after `Retry-After` seconds.";
    }
}
