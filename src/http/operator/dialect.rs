//! How this family says that something failed (contract §5): flat for the operator, and for an
//! organization's own key with an object under `error`, as the published client reads it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind};
use crate::http::context::RequestContext;
use crate::http::error_details::{ErrorDetails, WireIssue, error_responses, status};
use crate::http::wire::Timestamp;

/// The routes that an organization's own key calls.
const KEY_ROUTES: [&str; 4] = [
    "/v1/admin/key/rotate",
    "/v1/admin/key/revoke",
    "/v1/admin/audit-log",
    "/v1/admin/audit-log/export",
];

/// Whether a path is one that an organization's own key calls, or none of this family's: all others
/// are for master keys.
#[must_use]
pub fn is_not_master_key_route(path: &str) -> bool {
    !path.starts_with("/v1/admin/") || KEY_ROUTES.contains(&path)
}

/// A failure in the operator's words.
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

/// A failure in the words for an organization's own key.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::KeyError)]
pub struct KeyErrorBody {
    error: KeyErrorObject,
    /// The id of the request, as in `X-Request-Id`.
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
    request_id: String,
    timestamp: Timestamp,
}

/// What failed.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::KeyFailure)]
pub struct KeyErrorObject {
    /// The kind of failure.
    #[schema(examples("VALIDATION_FAILED"))]
    code: &'static str,
    /// What went wrong.
    #[schema(examples("The request is not valid"))]
    message: String,
    /// The first broken field.
    #[schema(required, examples("limit"))]
    field: Option<String>,
    /// The words that the field takes, where they are a list.
    #[schema(required)]
    allowed_values: Option<Vec<&'static str>>,
    /// Every broken field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issues: Vec<WireIssue>,
    /// The scopes that the key lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_scopes: Vec<String>,
    /// What is spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'static str>,
    /// How many the plan holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// How many were used.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    request_id: String,
}

/// A failure, dressed.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let status = status(error.kind(), StatusCode::UNPROCESSABLE_ENTITY);
    let (code, message) = (code(error.kind()), error.message().to_owned());
    let first = error.issues().first();
    let field = first.filter(|issue| !issue.path.is_empty()).map(|issue| issue.path.join("."));
    let allowed = first.map(|issue| issue.allowed.clone()).unwrap_or_default();
    let issues = error.issues().iter().map(WireIssue::from).collect();
    let (request_id, timestamp) = (context.id.clone(), Timestamp(context.received_at));
    if !KEY_ROUTES.contains(&context.path.as_str()) {
        let allowed_values = allowed;
        let error = code;
        let failed =
            ErrorBody { error, message, field, allowed_values, issues, request_id, timestamp };
        return (status, Json(failed)).into_response();
    }
    let ErrorDetails { missing_scopes, resource, limit, used, .. } = ErrorDetails::from(error);
    let error = KeyErrorObject {
        code,
        message,
        field,
        allowed_values: Some(allowed).filter(|allowed| !allowed.is_empty()),
        issues,
        missing_scopes,
        resource,
        limit,
        used,
        request_id: request_id.clone(),
    };
    (status, Json(KeyErrorBody { error, request_id, timestamp })).into_response()
}

/// The word for a kind in this family (contract §1, the table).
fn code(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Malformed
        | ErrorKind::Invalid
        | ErrorKind::TooLarge
        | ErrorKind::UnsupportedMediaType => "VALIDATION_FAILED",
        ErrorKind::Unauthenticated(_) => "UNAUTHORIZED",
        ErrorKind::MissingScopes(_)
        | ErrorKind::MissingRole(_)
        | ErrorKind::Forbidden
        | ErrorKind::EmailNotVerified
        | ErrorKind::OrganizationSuspended
        | ErrorKind::PlanLimit { .. } => "FORBIDDEN",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::MethodNotAllowed => "METHOD_NOT_ALLOWED",
        ErrorKind::Conflict | ErrorKind::EmailTaken => "CONFLICT",
        ErrorKind::IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED",
        ErrorKind::IdempotencyKeyInUse => "IDEMPOTENCY_PROCESSING",
        ErrorKind::RateLimited => "RATE_LIMITED",
        ErrorKind::QuotaExceeded { .. } => "QUOTA_EXCEEDED",
        ErrorKind::Internal | ErrorKind::Upstream => "INTERNAL_ERROR",
        ErrorKind::Unavailable => "SERVICE_UNAVAILABLE",
    }
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
