//! What every dialect has to say of a failure, before its own habits: the status, the word, and
//! what else there is to say.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Issue, Kind};

/// The status of a kind; families differ only in that of [`Kind::Invalid`].
#[must_use]
pub fn status(kind: &Kind, invalid: StatusCode) -> StatusCode {
    match kind {
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Invalid => invalid,
        Kind::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        Kind::MissingScopes(_)
        | Kind::MissingRole(_)
        | Kind::Forbidden
        | Kind::EmailNotVerified
        | Kind::Suspended
        | Kind::PlanLimit { .. } => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Conflict | Kind::EmailTaken | Kind::IdempotencyProcessing => StatusCode::CONFLICT,
        Kind::IdempotencyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::RateLimited | Kind::QuotaExceeded { .. } => StatusCode::TOO_MANY_REQUESTS,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Upstream => StatusCode::BAD_GATEWAY,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The word for a kind in the dialects that share one list of words (contract §1).
#[must_use]
pub fn code(kind: &Kind) -> &'static str {
    match kind {
        Kind::Malformed => "malformed",
        Kind::Invalid => "validation_error",
        Kind::Unauthenticated(_) => "unauthorized",
        Kind::MissingScopes(_)
        | Kind::MissingRole(_)
        | Kind::Forbidden
        | Kind::EmailNotVerified => "forbidden",
        Kind::Suspended => "organization_suspended",
        Kind::PlanLimit { .. } => "plan_limit_reached",
        Kind::NotFound => "not_found",
        Kind::MethodNotAllowed => "method_not_allowed",
        Kind::Conflict | Kind::EmailTaken => "conflict",
        Kind::IdempotencyReused => "idempotency_key_reused",
        Kind::IdempotencyProcessing => "idempotency_processing",
        Kind::TooLarge => "entity_too_large",
        Kind::UnsupportedMediaType => "unsupported_media_type",
        Kind::RateLimited => "rate_limited",
        Kind::QuotaExceeded { .. } => "quota_exceeded",
        Kind::Internal => "internal_error",
        Kind::Upstream => "upstream_error",
        Kind::Unavailable => "service_unavailable",
    }
}

/// What a failure says beside its message, in the dialects that share one list of words.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = ErrorDetails)]
pub struct Details {
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

impl From<&Error> for Details {
    fn from(error: &Error) -> Self {
        let mut details = Self {
            code: code(error.kind()),
            issues: error.issues().iter().map(WireIssue::from).collect(),
            ..Self::default()
        };
        match error.kind() {
            Kind::MissingScopes(scopes) => details.missing_scopes.clone_from(scopes),
            Kind::MissingRole(role) => details.required_role = Some(role.clone()),
            Kind::PlanLimit { resource, limit, used }
            | Kind::QuotaExceeded { resource, limit, used } => {
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
macro_rules! described_failures {
    ($failed:ty, $($(#[$doc:meta])* $name:ident = $status:literal, $description:literal;)*) => {$(
        $(#[$doc])*
        #[derive(utoipa::IntoResponses)]
        #[response(status = $status, description = $description)]
        #[expect(dead_code, reason = "only described, in the API document")]
        pub struct $name($failed);
    )*};
}

pub(in crate::http) use described_failures;
