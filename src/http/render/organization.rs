//! Errors of the organization family: an object under `error`, with a suggestion and whether a
//! retry may succeed.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind};
use crate::http::edge::context::RequestContext;
use crate::http::render::details::{WireIssue, error_responses, with_error_details};
use crate::http::render::kinds::mapping;

/// The body of an error response of `/v1/organization`, `/v1/verify`, `/v1/usage` and `/v1/leaks`.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Error)]
pub struct ErrorBody {
    error: ErrorObject,
    /// The id of the request, as in `X-Request-Id`.
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
    request_id: String,
}

with_error_details! {
    /// The error, and what can be done about it.
    #[schema(as = organization::Failure)]
    pub struct ErrorObject {
        /// The error code.
        #[schema(examples("conflict"))]
        r#type: &'static str,
        /// The status in words.
        #[schema(examples("Conflict"))]
        title: &'static str,
        /// The status.
        #[schema(examples(409))]
        status: u16,
        /// What is wrong with this request.
        #[schema(examples("A live key of this organization already has this name"))]
        detail: String,
        /// What to do about it.
        #[schema(examples("Choose another name, or revoke the key that has it."))]
        suggestion: &'static str,
        /// Whether the same request may succeed later.
        retryable: bool,
        /// After how many seconds to try again.
        #[schema(required)]
        retry_after: Option<u64>,
        /// Every invalid field.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        issues: Vec<WireIssue>,
    }
}

/// Renders an error.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let mapping = mapping(error.kind());
    let error = ErrorObject {
        r#type: error_type(error.kind()),
        title: mapping.status.canonical_reason().unwrap_or_default(),
        status: mapping.status.as_u16(),
        detail: error.message().to_owned(),
        suggestion: suggestion(error),
        retryable: mapping.is_retryable,
        retry_after: error.retry_after_seconds(),
        issues: WireIssue::all_of(error),
        ..ErrorObject::with_details_of(error)
    };
    (mapping.status, Json(ErrorBody { error, request_id: context.id.clone() })).into_response()
}

/// Returns the error type. In this family, a malformed request is a validation error, too.
const fn error_type(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Malformed => mapping(&ErrorKind::Invalid).code,
        kind => mapping(kind).code,
    }
}

fn suggestion(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Malformed if !error.issues().is_empty() => {
            "Correct or remove each parameter, header or field that is listed in `issues`."
        }
        kind => mapping(kind).suggestion,
    }
}

error_responses! { ErrorBody,
    /// For every route.
    BadRequest = 400, "Malformed, or fields are invalid; `issues` lists them.";
    /// For routes that require a credential.
    Unauthorized = 401, "The credential is missing or invalid.";
    /// For every route: a key may be limited to some addresses.
    Forbidden = 403, "The credential does not allow this.";
    /// For routes with an id in the path.
    NotFound = 404, "It does not exist in the caller's organization.";
    /// For routes that change data.
    Conflict = 409, "It conflicts with the current state, or another request with the same \
                      Idempotency-Key is still running.";
    /// For lists whose cursors expire.
    Gone = 410, "The cursor has expired: start again without it.";
    /// For routes that read a body.
    TooLarge = 413, "The request body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "Content-Type is not application/json.";
    /// For routes that change data.
    IdempotencyReused = 422, "The Idempotency-Key was used for another request.";
    /// For every route.
    Unavailable = 503, "Temporarily unavailable; try again after `Retry-After` seconds.";
}
