//! How this family says that something failed (contract §3).

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind};
use crate::http::error_details::{ErrorDetails, WireIssue, error_responses, status};

/// A failure in this family's words.
#[derive(Serialize, ToSchema)]
#[schema(as = account::Error)]
pub struct ErrorBody {
    error: ErrorObject,
}

/// What failed.
#[derive(Serialize, ToSchema)]
#[schema(as = account::Failure)]
pub struct ErrorObject {
    /// The kind of failure.
    #[schema(examples("CONFLICT"))]
    code: &'static str,
    /// What went wrong.
    #[schema(examples("An account with this email already exists"))]
    message: String,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<ErrorObjectDetails>,
}

/// What else there is to say of a failure.
#[derive(Serialize, ToSchema)]
#[schema(as = account::FailureDetails)]
pub struct ErrorObjectDetails {
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
pub fn render(error: &Error) -> Response {
    let status = status(error.kind(), StatusCode::BAD_REQUEST);
    let failure = ErrorObject {
        code: code(error.kind()),
        message: error.message().to_owned(),
        details: details(error),
    };
    (status, Json(ErrorBody { error: failure })).into_response()
}

fn details(error: &Error) -> Option<ErrorObjectDetails> {
    let has_details = !error.issues().is_empty()
        || matches!(
            error.kind(),
            ErrorKind::MissingScopes(_)
                | ErrorKind::MissingRole(_)
                | ErrorKind::PlanLimit { .. }
                | ErrorKind::QuotaExceeded { .. }
        );
    let all = ErrorDetails::from(error);
    has_details.then_some(ErrorObjectDetails {
        issues: all.issues,
        missing_scopes: all.missing_scopes,
        required_role: all.required_role,
        resource: all.resource,
        limit: all.limit,
        used: all.used,
    })
}

/// The word for a kind (contract §1, the table of failures).
fn code(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Malformed
        | ErrorKind::Invalid
        | ErrorKind::MethodNotAllowed
        | ErrorKind::TooLarge
        | ErrorKind::UnsupportedMediaType => "VALIDATION_ERROR",
        ErrorKind::Unauthenticated(_) => "AUTHENTICATION_ERROR",
        ErrorKind::MissingScopes(_)
        | ErrorKind::MissingRole(_)
        | ErrorKind::Forbidden
        | ErrorKind::EmailNotVerified
        | ErrorKind::OrganizationSuspended => "AUTHORIZATION_ERROR",
        ErrorKind::PlanLimit { .. } | ErrorKind::QuotaExceeded { .. } => "USAGE_LIMIT_EXCEEDED",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::Conflict
        | ErrorKind::EmailTaken
        | ErrorKind::IdempotencyKeyReused
        | ErrorKind::IdempotencyKeyInUse => "CONFLICT",
        ErrorKind::RateLimited => "RATE_LIMIT_EXCEEDED",
        ErrorKind::Upstream => "EXTERNAL_SERVICE_ERROR",
        ErrorKind::Internal | ErrorKind::Unavailable => "INTERNAL_ERROR",
    }
}

error_responses! { ErrorBody,
    /// For every route.
    BadRequest = 400, "Not readable, or fields break rules; `details.issues` names every one.";
    /// For routes with a guard, and signing in.
    Unauthorized = 401, "No credential, or one that is not good: a password, too.";
    /// For every route.
    Forbidden = 403, "A good credential that may not do this, or a page that may not ask for it.";
    /// For routes that change something.
    Conflict = 409, "It is there already, or the same request still runs.";
    /// For routes that read a body.
    TooLarge = 413, "The body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "The body is not application/json.";
    /// For routes that change something.
    IdempotencyReused = 422, "The Idempotency-Key was used for another request.";
    /// For every route.
    Unavailable = 503, "Not just now; try again after `Retry-After` seconds.";
}
