//! How this family says that something failed (contract §4).

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind};
use crate::http::context::RequestContext;
use crate::http::error_details::{ErrorDetails, WireIssue, code, error_responses, status};

/// A failure in this family's words.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Error)]
pub struct ErrorBody {
    error: ErrorObject,
    /// The id of the request, as in `X-Request-Id`.
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
    request_id: String,
}

/// What failed, and what can be done about it.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Failure)]
pub struct ErrorObject {
    /// The kind of failure.
    #[schema(examples("conflict"))]
    r#type: &'static str,
    /// The status in words.
    #[schema(examples("Conflict"))]
    title: &'static str,
    /// The status.
    #[schema(examples(409))]
    status: u16,
    /// What went wrong this time.
    #[schema(examples("A live key of this organization already has this name"))]
    detail: String,
    /// What to try.
    #[schema(examples("Choose another name, or revoke the key that has it."))]
    suggestion: &'static str,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// After how many seconds.
    #[schema(required)]
    retry_after: Option<u64>,
    /// Every broken field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issues: Vec<WireIssue>,
    /// The scopes that the credential lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_scopes: Vec<String>,
    /// The role that the credential's person lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    required_role: Option<String>,
    /// What there may be no more of.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'static str>,
    /// How many there may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
}

/// A failure, dressed.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let status = status(error.kind(), StatusCode::BAD_REQUEST);
    let details = ErrorDetails::from(error);
    let (suggestion, retryable) = advice(error);
    let failure = ErrorObject {
        r#type: error_type(error.kind()),
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: error.message().to_owned(),
        suggestion,
        retryable,
        retry_after: error.retry_after_seconds(),
        issues: details.issues,
        missing_scopes: details.missing_scopes,
        required_role: details.required_role,
        resource: details.resource,
        limit: details.limit,
        used: details.used,
    };
    (status, Json(ErrorBody { error: failure, request_id: context.id.clone() })).into_response()
}

/// The word for a kind: here what can not be read is a validation error too.
fn error_type(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Malformed => code(&ErrorKind::Invalid),
        kind => code(kind),
    }
}

/// What to try, and whether the same request may succeed later.
fn advice(error: &Error) -> (&'static str, bool) {
    match error.kind() {
        ErrorKind::Malformed if !error.issues().is_empty() => {
            ("Change or leave out what issues names.", false)
        }
        ErrorKind::Malformed => ("Send one credential and a well-formed JSON object.", false),
        ErrorKind::Invalid => ("Change the fields that issues names.", false),
        ErrorKind::Unauthenticated(_) => ("Send a live key in X-Api-Key or Authorization.", false),
        ErrorKind::MissingScopes(_) => ("Use a key that holds the missing scopes.", false),
        ErrorKind::MissingRole(_) => ("Ask somebody with the role.", false),
        ErrorKind::Forbidden => ("Use a credential that may do this.", false),
        ErrorKind::EmailNotVerified => ("Follow the link in the mail to that address.", false),
        ErrorKind::OrganizationSuspended => {
            ("Ask the operator why the organization is suspended.", false)
        }
        ErrorKind::PlanLimit { .. } => {
            ("Remove what is not needed, or choose a larger plan.", false)
        }
        ErrorKind::NotFound => ("Check the path and the id.", false),
        ErrorKind::MethodNotAllowed => ("Use a method that Allow lists.", false),
        ErrorKind::Conflict | ErrorKind::EmailTaken => {
            ("Look at what is there, and change the request.", false)
        }
        ErrorKind::IdempotencyKeyReused => ("Use a new Idempotency-Key for a new request.", false),
        ErrorKind::IdempotencyKeyInUse => ("Wait, then send the same request again.", true),
        ErrorKind::TooLarge => ("Send less.", false),
        ErrorKind::UnsupportedMediaType => ("Send application/json, uncompressed.", false),
        ErrorKind::QuotaExceeded { .. } => {
            ("Wait for the next period, or choose a larger plan.", true)
        }
        ErrorKind::Internal => ("Tell the operator the request_id.", true),
        ErrorKind::RateLimited | ErrorKind::Upstream | ErrorKind::Unavailable => {
            ("Wait, then try again.", true)
        }
    }
}

error_responses! { ErrorBody,
    /// For every route.
    BadRequest = 400, "Not readable, or fields break rules; `issues` names every one.";
    /// For routes with a guard.
    Unauthorized = 401, "No credential, or one that is not good.";
    /// For every route: a key may be used from some addresses only.
    Forbidden = 403, "A good credential that may not do this.";
    /// For routes with an id in the path.
    NotFound = 404, "No such thing in the caller's organization.";
    /// For routes that change something.
    Conflict = 409, "It collides with what is there, or the same request still runs.";
    /// For routes that read a body.
    TooLarge = 413, "The body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "The body is not application/json.";
    /// For routes that change something.
    IdempotencyReused = 422, "The Idempotency-Key was used for another request.";
    /// For every route.
    Unavailable = 503, "Not just now; try again after `Retry-After` seconds.";
}
