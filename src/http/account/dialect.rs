//! How this family says that something failed (contract §3).

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Kind};
use crate::http::details::{Details, WireIssue, described_failures, status};

/// A failure in this family's words.
#[derive(Serialize, ToSchema)]
#[schema(as = account::Error)]
pub struct Failed {
    error: Failure,
}

/// What failed.
#[derive(Serialize, ToSchema)]
#[schema(as = account::Failure)]
pub struct Failure {
    /// The kind of failure.
    #[schema(examples("CONFLICT"))]
    code: &'static str,
    /// What went wrong.
    #[schema(examples("An account with this email already exists"))]
    message: String,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<FailureDetails>,
}

/// What else there is to say of a failure.
#[derive(Serialize, ToSchema)]
#[schema(as = account::FailureDetails)]
pub struct FailureDetails {
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
    let failure = Failure {
        code: code(error.kind()),
        message: error.message().to_owned(),
        details: details(error),
    };
    (status, Json(Failed { error: failure })).into_response()
}

fn details(error: &Error) -> Option<FailureDetails> {
    let has_details = !error.issues().is_empty()
        || matches!(
            error.kind(),
            Kind::MissingScopes(_)
                | Kind::MissingRole(_)
                | Kind::PlanLimit { .. }
                | Kind::QuotaExceeded { .. }
        );
    let all = Details::from(error);
    has_details.then_some(FailureDetails {
        issues: all.issues,
        missing_scopes: all.missing_scopes,
        required_role: all.required_role,
        resource: all.resource,
        limit: all.limit,
        used: all.used,
    })
}

/// The word for a kind (contract §1, the table of failures).
fn code(kind: &Kind) -> &'static str {
    match kind {
        Kind::Malformed
        | Kind::Invalid
        | Kind::MethodNotAllowed
        | Kind::TooLarge
        | Kind::UnsupportedMediaType => "VALIDATION_ERROR",
        Kind::Unauthenticated(_) => "AUTHENTICATION_ERROR",
        Kind::MissingScopes(_)
        | Kind::MissingRole(_)
        | Kind::Forbidden
        | Kind::EmailNotVerified
        | Kind::Suspended => "AUTHORIZATION_ERROR",
        Kind::PlanLimit { .. } | Kind::QuotaExceeded { .. } => "USAGE_LIMIT_EXCEEDED",
        Kind::NotFound => "NOT_FOUND",
        Kind::Conflict
        | Kind::EmailTaken
        | Kind::IdempotencyReused
        | Kind::IdempotencyProcessing => "CONFLICT",
        Kind::RateLimited => "RATE_LIMIT_EXCEEDED",
        Kind::Upstream => "EXTERNAL_SERVICE_ERROR",
        Kind::Internal | Kind::Unavailable => "INTERNAL_ERROR",
    }
}

described_failures! { Failed,
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
    Reused = 422, "The Idempotency-Key was used for another request.";
    /// For every route.
    Unavailable = 503, "Not just now; try again after `Retry-After` seconds.";
}
