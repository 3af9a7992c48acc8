//! What every dialect has to say of a failure, before its own habits: the status, the word, and
//! what else there is to say.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Issue};

/// The status of a kind; families differ only in that of [`ErrorKind::Invalid`].
#[must_use]
pub fn status(kind: &ErrorKind, invalid: StatusCode) -> StatusCode {
    match kind {
        ErrorKind::Malformed => StatusCode::BAD_REQUEST,
        ErrorKind::Invalid => invalid,
        ErrorKind::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        ErrorKind::MissingScopes(_)
        | ErrorKind::MissingRole(_)
        | ErrorKind::Forbidden
        | ErrorKind::EmailNotVerified
        | ErrorKind::OrganizationSuspended
        | ErrorKind::PlanLimit { .. } => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::Conflict | ErrorKind::EmailTaken | ErrorKind::IdempotencyKeyInUse => {
            StatusCode::CONFLICT
        }
        ErrorKind::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::RateLimited | ErrorKind::QuotaExceeded { .. } => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::Upstream => StatusCode::BAD_GATEWAY,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The word for a kind in the dialects that share one list of words (contract §1).
#[must_use]
pub fn code(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Malformed => "malformed",
        ErrorKind::Invalid => "validation_error",
        ErrorKind::Unauthenticated(_) => "unauthorized",
        ErrorKind::MissingScopes(_)
        | ErrorKind::MissingRole(_)
        | ErrorKind::Forbidden
        | ErrorKind::EmailNotVerified => "forbidden",
        ErrorKind::OrganizationSuspended => "organization_suspended",
        ErrorKind::PlanLimit { .. } => "plan_limit_reached",
        ErrorKind::NotFound => "not_found",
        ErrorKind::MethodNotAllowed => "method_not_allowed",
        ErrorKind::Conflict | ErrorKind::EmailTaken => "conflict",
        ErrorKind::IdempotencyKeyReused => "idempotency_key_reused",
        ErrorKind::IdempotencyKeyInUse => "idempotency_processing",
        ErrorKind::TooLarge => "entity_too_large",
        ErrorKind::UnsupportedMediaType => "unsupported_media_type",
        ErrorKind::RateLimited => "rate_limited",
        ErrorKind::QuotaExceeded { .. } => "quota_exceeded",
        ErrorKind::Internal => "internal_error",
        ErrorKind::Upstream => "upstream_error",
        ErrorKind::Unavailable => "service_unavailable",
    }
}

/// What a failure says beside its message, in the dialects that share one list of words.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = ErrorDetails)]
pub struct ErrorDetails {
    /// The kind of failure.
    pub code: &'static str,
    /// Every broken field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<WireIssue>,
    /// The scopes that the credential lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_scopes: Vec<String>,
    /// The role that the credential's person lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_role: Option<String>,
    /// What there may be no more of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<&'static str>,
    /// How many there may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
}

/// One broken field.
#[derive(Serialize, ToSchema)]
#[schema(as = ErrorIssue)]
pub struct WireIssue {
    /// The way to the field from the top of the body; empty for the body itself.
    pub path: Vec<String>,
    /// What to change.
    pub message: String,
    /// The words that the field takes, where they are a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_values: Vec<&'static str>,
}

impl From<&Error> for ErrorDetails {
    fn from(error: &Error) -> Self {
        let mut details = Self {
            code: code(error.kind()),
            issues: error.issues().iter().map(WireIssue::from).collect(),
            ..Self::default()
        };
        match error.kind() {
            ErrorKind::MissingScopes(scopes) => details.missing_scopes.clone_from(scopes),
            ErrorKind::MissingRole(role) => details.required_role = Some(role.clone()),
            ErrorKind::PlanLimit { resource, limit, used }
            | ErrorKind::QuotaExceeded { resource, limit, used } => {
                details.resource = Some(resource);
                (details.limit, details.used) = (Some(*limit), Some(*used));
            }
            _ => {}
        }
        details
    }
}

impl From<&Issue> for WireIssue {
    fn from(issue: &Issue) -> Self {
        Self {
            path: issue.path.clone(),
            message: issue.message.to_string(),
            allowed_values: issue.allowed.clone(),
        }
    }
}

/// Describes, for the API document, the failures that a family's routes can answer with: one type
/// for each status, all with the body `$failed`.
macro_rules! error_responses {
    ($failed:ty, $($(#[$doc:meta])* $name:ident = $status:literal, $description:literal;)*) => {$(
        $(#[$doc])*
        #[derive(utoipa::IntoResponses)]
        #[response(status = $status, description = $description)]
        #[expect(dead_code, reason = "only described, in the API document")]
        pub struct $name($failed);
    )*};
}

pub(in crate::http) use error_responses;
