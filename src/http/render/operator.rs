//! Errors of the operator family (contract §5): flat for the operator, and with an object under
//! `error` for an organization's own key, as the published client reads it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::http::edge::context::RequestContext;
use crate::http::family::AcceptedCredentials;
use crate::http::render::details::{WireIssue, error_responses, with_error_details};
use crate::http::render::kinds::{status_invalid_as_422, words};
use crate::http::wire::Timestamp;

/// An error of the operator's routes.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Error)]
pub struct ErrorBody {
    /// The kind of failure.
    #[schema(examples("VALIDATION_FAILED"))]
    error: &'static str,
    /// What went wrong.
    #[schema(examples("The request is not valid"))]
    message: String,
    /// The first broken field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("tier"))]
    field: Option<String>,
    /// The words that the field takes, where they are a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_values: Vec<&'static str>,
    /// Every broken field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issues: Vec<WireIssue>,
    /// The id of the request, as in `X-Request-Id`.
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
    request_id: String,
    timestamp: Timestamp,
}

/// An error of the routes for an organization's own key.
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
    /// What failed.
    #[schema(as = operator::KeyFailure)]
    pub struct KeyErrorObject {
        /// The kind of error.
        #[schema(examples("VALIDATION_FAILED"))]
        code: &'static str,
        /// What went wrong.
        #[schema(examples("The request is not valid"))]
        message: String,
        /// The first invalid field.
        #[schema(required, examples("limit"))]
        field: Option<String>,
        /// The accepted values of that field, where they are a list.
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
    let (code, message) = (words(error.kind()).operator, error.message().to_owned());
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
    /// For every route of the operator's.
    BadRequest = 400, "Not readable, or the Idempotency-Key is missing or of another form.";
    /// For every route of the operator's.
    Unauthorized = 401, "The master key is missing, wrong or another route's.";
    /// For routes with an id in the path.
    NotFound = 404, "There is no such organization.";
    /// For routes that change something.
    Conflict = 409, "It collides with what is there, or the same request still runs.";
    /// For routes that read a body.
    TooLarge = 413, "The body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "The body is not application/json.";
    /// For routes that read a body.
    Unprocessable = 422, "Fields break rules, or the Idempotency-Key was used for another request.";
    /// For every route of the operator's.
    RateLimited = 429, "Too many from this address; try again after `Retry-After` seconds.";
    /// For every route of the operator's.
    Unavailable = 503, "Not just now; try again after `Retry-After` seconds.";
}

/// What routes for an organization's own key can fail with.
pub mod key_errors {
    use super::{KeyErrorBody, error_responses};

    error_responses! { KeyErrorBody,
        /// For every such route.
        BadRequest = 400, "Not readable.";
        /// For every such route.
        Unauthorized = 401, "No key, or one that is not good.";
        /// For every such route: a key may be used from some addresses only.
        Forbidden = 403, "A good credential that may not do this.";
        /// For routes that change something.
        Conflict = 409, "The key is not live any more.";
        /// For routes that read a body.
        TooLarge = 413, "The body is larger than 64 KiB.";
        /// For routes that read a body.
        UnsupportedMediaType = 415, "The body is not application/json.";
        /// For routes with parameters or a body.
        Unprocessable = 422, "Fields break rules; `error.issues` names every one.";
        /// For every such route.
        Unavailable = 503, "Not just now; try again after `Retry-After` seconds.";
    }
}
