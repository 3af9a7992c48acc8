//! The status, the codes and the suggestion of every kind of error, in every family: a table with
//! one row per kind.
//!
//! The match has no wildcard: a new kind does not compile until it has a row here.

use axum::http::StatusCode;

use crate::app::meter::RequestOutcome;
use crate::error::{AuthFailure, ErrorKind};

/// The row of the table for a kind of error: what the families report for it.
#[derive(Clone, Copy)]
pub struct ErrorMapping {
    /// The status. Families differ only in that of [`ErrorKind::Invalid`] and
    /// [`ErrorKind::EmailTaken`].
    pub status: StatusCode,
    /// The code in logs, in problem documents and in the onboarding and organization families.
    pub code: &'static str,
    /// The code in the account family.
    pub account: &'static str,
    /// The code in the operator family.
    pub operator: &'static str,
    /// The code in the user family.
    pub user: &'static str,
    /// The code in the OAuth family: one of RFC 6749 §4.1.2.1 and §5.2, or `not_found`.
    pub oauth: &'static str,
    /// The organization family's `suggestion`: what the caller can do about the error.
    pub suggestion: &'static str,
    /// Whether the same request may succeed later.
    pub is_retryable: bool,
    /// The outcome of the request in the organization's usage.
    pub outcome: RequestOutcome,
}

const INVALID: ErrorMapping = ErrorMapping {
    status: StatusCode::BAD_REQUEST,
    code: "validation_error",
    account: "VALIDATION_ERROR",
    operator: "VALIDATION_FAILED",
    user: "VALIDATION_ERROR",
    oauth: "invalid_request",
    suggestion: "Correct the fields that are listed in `issues`.",
    is_retryable: false,
    outcome: RequestOutcome::Answered,
};

const FORBIDDEN: ErrorMapping = ErrorMapping {
    status: StatusCode::FORBIDDEN,
    code: "forbidden",
    account: "AUTHORIZATION_ERROR",
    operator: "FORBIDDEN",
    user: "FORBIDDEN",
    oauth: "access_denied",
    suggestion: "Use a credential that is allowed to do this.",
    outcome: RequestOutcome::Rejected,
    ..INVALID
};

const CONFLICT: ErrorMapping = ErrorMapping {
    status: StatusCode::CONFLICT,
    code: "conflict",
    account: "CONFLICT",
    operator: "CONFLICT",
    user: "CONFLICT",
    suggestion: "Fetch the current state and change the request.",
    ..INVALID
};

const UNAVAILABLE: ErrorMapping = ErrorMapping {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "service_unavailable",
    account: "INTERNAL_ERROR",
    operator: "SERVICE_UNAVAILABLE",
    user: "SERVICE_UNAVAILABLE",
    oauth: "temporarily_unavailable",
    suggestion: "Wait, then try again.",
    is_retryable: true,
    ..INVALID
};

const RATE_LIMITED: ErrorMapping = ErrorMapping {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: "rate_limited",
    account: "RATE_LIMIT_EXCEEDED",
    operator: "RATE_LIMITED",
    user: "RATE_LIMIT_ERROR",
    oauth: "slow_down",
    outcome: RequestOutcome::Throttled,
    ..UNAVAILABLE
};

const MALFORMED: ErrorMapping = ErrorMapping {
    code: "malformed",
    suggestion: "Send one credential and a well-formed JSON object.",
    ..INVALID
};

const SEND_KEY: &str = "Send a live key in X-Api-Key or Authorization.";

const UNAUTHENTICATED: ErrorMapping = ErrorMapping {
    status: StatusCode::UNAUTHORIZED,
    code: "unauthorized",
    account: "AUTHENTICATION_ERROR",
    operator: "UNAUTHORIZED",
    suggestion: SEND_KEY,
    oauth: "invalid_client",
    ..INVALID
};

const MISSING_SCOPES: ErrorMapping = ErrorMapping {
    user: "API_KEY_MISSING_SCOPES",
    suggestion: "Use a key that has the missing scopes.",
    ..FORBIDDEN
};

const SSO_SESSION_SCOPED: ErrorMapping = ErrorMapping {
    code: "sso_session_scoped",
    user: "SSO_SESSION_SCOPED",
    suggestion: "Use a session that did not begin with single sign-on.",
    ..FORBIDDEN
};

const SSO_NOT_CONFIGURED: ErrorMapping = ErrorMapping {
    code: "sso_not_configured",
    user: "SSO_NOT_CONFIGURED",
    suggestion: "Sign in with a password.",
    ..NOT_FOUND
};

const MISSING_ROLE: ErrorMapping = ErrorMapping {
    user: "INSUFFICIENT_PERMISSIONS",
    suggestion: "Ask a member who has the role.",
    ..FORBIDDEN
};

const EMAIL_NOT_VERIFIED: ErrorMapping = ErrorMapping {
    user: "EMAIL_NOT_VERIFIED",
    suggestion: "Follow the link in the mail to that address.",
    ..FORBIDDEN
};

const ORGANIZATION_SUSPENDED: ErrorMapping = ErrorMapping {
    code: "organization_suspended",
    user: "ORGANIZATION_SUSPENDED",
    suggestion: "Ask the operator why the organization is suspended.",
    ..FORBIDDEN
};

const PLAN_LIMIT: ErrorMapping = ErrorMapping {
    code: "plan_limit_reached",
    account: "USAGE_LIMIT_EXCEEDED",
    user: "PLAN_LIMIT_REACHED",
    suggestion: "Delete what is not needed, or choose a larger plan.",
    ..FORBIDDEN
};

const NOT_FOUND: ErrorMapping = ErrorMapping {
    status: StatusCode::NOT_FOUND,
    code: "not_found",
    account: "NOT_FOUND",
    operator: "NOT_FOUND",
    user: "NOT_FOUND",
    oauth: "not_found",
    suggestion: "Check the path and the id.",
    ..INVALID
};

const METHOD_NOT_ALLOWED: ErrorMapping = ErrorMapping {
    status: StatusCode::METHOD_NOT_ALLOWED,
    code: "method_not_allowed",
    operator: "METHOD_NOT_ALLOWED",
    user: "METHOD_NOT_ALLOWED",
    suggestion: "Use a method that the Allow header lists.",
    ..INVALID
};

const GONE: ErrorMapping = ErrorMapping {
    status: StatusCode::GONE,
    code: "gone",
    account: "NOT_FOUND",
    operator: "GONE",
    user: "GONE",
    suggestion: "Start again without the cursor.",
    ..INVALID
};

const EMAIL_TAKEN: ErrorMapping = ErrorMapping { user: "USER_ALREADY_EXISTS", ..CONFLICT };

const DOMAIN_TAKEN: ErrorMapping = ErrorMapping {
    code: "domain_taken",
    user: "DOMAIN_TAKEN",
    suggestion: "Ask the owner of the domain to remove it from the other organization.",
    ..CONFLICT
};

const DOMAIN_RECORD_NOT_FOUND: ErrorMapping = ErrorMapping {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "domain_record_not_found",
    user: "DOMAIN_RECORD_NOT_FOUND",
    suggestion: "Add the record, and try again once your DNS servers return it.",
    is_retryable: true,
    ..CONFLICT
};

const IDEMPOTENCY_KEY_REUSED: ErrorMapping = ErrorMapping {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "idempotency_key_reused",
    operator: "IDEMPOTENCY_KEY_REUSED",
    user: "IDEMPOTENCY_KEY_REUSED",
    suggestion: "Use a new Idempotency-Key for a new request.",
    ..CONFLICT
};

const IDEMPOTENCY_KEY_IN_USE: ErrorMapping = ErrorMapping {
    code: "idempotency_processing",
    operator: "IDEMPOTENCY_PROCESSING",
    user: "IDEMPOTENCY_PROCESSING",
    suggestion: "Wait, then send the same request again.",
    is_retryable: true,
    ..CONFLICT
};

const TOO_LARGE: ErrorMapping = ErrorMapping {
    status: StatusCode::PAYLOAD_TOO_LARGE,
    code: "entity_too_large",
    user: "PAYLOAD_TOO_LARGE",
    suggestion: "Send a smaller body.",
    ..INVALID
};

const UNSUPPORTED_MEDIA_TYPE: ErrorMapping = ErrorMapping {
    status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
    code: "unsupported_media_type",
    user: "UNSUPPORTED_MEDIA_TYPE",
    suggestion: "Send application/json, uncompressed.",
    ..INVALID
};

const QUOTA_EXCEEDED: ErrorMapping = ErrorMapping {
    code: "quota_exceeded",
    account: "USAGE_LIMIT_EXCEEDED",
    operator: "QUOTA_EXCEEDED",
    user: "USAGE_LIMIT_ERROR",
    suggestion: "Wait for the next period, or choose a larger plan.",
    ..RATE_LIMITED
};

const INTERNAL: ErrorMapping = ErrorMapping {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: "internal_error",
    operator: "INTERNAL_ERROR",
    user: "INTERNAL_ERROR",
    oauth: "server_error",
    suggestion: "Report the request_id to the operator.",
    ..UNAVAILABLE
};

const UPSTREAM: ErrorMapping = ErrorMapping {
    status: StatusCode::BAD_GATEWAY,
    code: "upstream_error",
    account: "EXTERNAL_SERVICE_ERROR",
    operator: "INTERNAL_ERROR",
    user: "INTERNAL_ERROR",
    ..UNAVAILABLE
};

/// Returns the row of the table for a kind.
#[must_use]
pub const fn mapping(kind: &ErrorKind) -> ErrorMapping {
    match kind {
        ErrorKind::Malformed => MALFORMED,
        ErrorKind::Invalid => INVALID,
        ErrorKind::Oauth(failure) => ErrorMapping { oauth: failure.as_str(), ..INVALID },
        ErrorKind::Unauthenticated(failure) => {
            let user = user_authentication_code(*failure);
            ErrorMapping { user, suggestion: suggested_credential(*failure), ..UNAUTHENTICATED }
        }
        ErrorKind::MissingScopes(_) => MISSING_SCOPES,
        ErrorKind::MissingRole(_) => MISSING_ROLE,
        ErrorKind::Forbidden => FORBIDDEN,
        ErrorKind::EmailNotVerified => EMAIL_NOT_VERIFIED,
        ErrorKind::OrganizationSuspended => ORGANIZATION_SUSPENDED,
        ErrorKind::SsoSessionScoped => SSO_SESSION_SCOPED,
        ErrorKind::SsoNotConfigured => SSO_NOT_CONFIGURED,
        ErrorKind::PlanLimit { .. } => PLAN_LIMIT,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::MethodNotAllowed => METHOD_NOT_ALLOWED,
        ErrorKind::Conflict => CONFLICT,
        ErrorKind::Gone => GONE,
        ErrorKind::EmailTaken => EMAIL_TAKEN,
        ErrorKind::DomainTaken => DOMAIN_TAKEN,
        ErrorKind::DomainRecordNotFound => DOMAIN_RECORD_NOT_FOUND,
        ErrorKind::IdempotencyKeyReused => IDEMPOTENCY_KEY_REUSED,
        ErrorKind::IdempotencyKeyInUse => IDEMPOTENCY_KEY_IN_USE,
        ErrorKind::TooLarge => TOO_LARGE,
        ErrorKind::UnsupportedMediaType => UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::RateLimited => RATE_LIMITED,
        ErrorKind::QuotaExceeded { .. } => QUOTA_EXCEEDED,
        ErrorKind::Internal => INTERNAL,
        ErrorKind::Upstream => UPSTREAM,
        ErrorKind::Unavailable => UNAVAILABLE,
    }
}

/// Returns the status of a kind in families that report invalid fields as 422, not 400.
#[must_use]
pub const fn status_invalid_as_422(kind: &ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        kind => mapping(kind).status,
    }
}

/// Returns the code of the user family, which has one for each way to authenticate.
const fn user_authentication_code(failure: AuthFailure) -> &'static str {
    match failure {
        AuthFailure::MissingCredential => "AUTHENTICATION_REQUIRED",
        AuthFailure::InvalidKey | AuthFailure::InvalidVerifier | AuthFailure::InvalidClient => {
            "INVALID_API_KEY"
        }
        AuthFailure::InvalidToken => "INVALID_OR_EXPIRED_TOKEN",
        AuthFailure::InvalidPassword => "INVALID_EMAIL_OR_PASSWORD",
        AuthFailure::InactiveAccount => "USER_NOT_ACTIVE",
    }
}

/// Returns the suggestion to send a key or, for a verifier, its secret.
const fn suggested_credential(failure: AuthFailure) -> &'static str {
    match failure {
        AuthFailure::InvalidVerifier => "Send a verifier's secret in X-Tenantry-Verifier.",
        AuthFailure::MissingCredential
        | AuthFailure::InvalidKey
        | AuthFailure::InvalidClient
        | AuthFailure::InvalidToken
        | AuthFailure::InvalidPassword
        | AuthFailure::InactiveAccount => SEND_KEY,
    }
}
