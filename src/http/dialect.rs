//! The family table: which paths speak which dialect, and how each says that something failed.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{Error, Issue, Kind};
use crate::http::context::RequestContext;
use crate::http::onboarding;

/// A family of routes, each for one audience; or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A stranger's script, later its key.
    Onboarding,
    /// Everything outside the families: RFC 9457.
    None,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 2] = [Self::Onboarding, Self::None];

    /// The family that a path belongs to, whether there is anything at it or not.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let mut segments = path.split('/').skip(1);
        match (segments.next().unwrap_or_default(), segments.next()) {
            ("signup" | "me" | "usage", _)
            | ("auth", Some("token-exchange" | "refresh" | "verify")) => Self::Onboarding,
            _ => Self::None,
        }
    }

    /// The family's name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Onboarding => "onboarding",
            Self::None => "none",
        }
    }

    /// What a failure looks like in this family.
    #[must_use]
    pub fn render(self, error: &Error, context: &RequestContext) -> Response {
        let mut response = match self {
            Self::Onboarding => onboarding::dialect::render(error, context),
            Self::None => problem::render(error, context),
        };
        for (name, value) in headers_of(error) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The status of a kind; families differ only in that of [`Kind::Invalid`].
#[must_use]
pub fn status(kind: &Kind, invalid: StatusCode) -> StatusCode {
    match kind {
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Invalid => invalid,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::MissingScopes(_)
        | Kind::MissingRole(_)
        | Kind::Forbidden
        | Kind::Suspended
        | Kind::PlanLimit { .. } => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Conflict | Kind::IdempotencyProcessing => StatusCode::CONFLICT,
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
        Kind::Unauthenticated => "unauthorized",
        Kind::MissingScopes(_) | Kind::MissingRole(_) | Kind::Forbidden => "forbidden",
        Kind::Suspended => "organization_suspended",
        Kind::PlanLimit { .. } => "plan_limit_reached",
        Kind::NotFound => "not_found",
        Kind::MethodNotAllowed => "method_not_allowed",
        Kind::Conflict => "conflict",
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
#[derive(Default, serde::Serialize, utoipa::ToSchema)]
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
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = ErrorIssue)]
pub struct WireIssue {
    /// The way to the field from the top of the body; empty for the body itself.
    pub path: Vec<String>,
    /// What to change.
    pub message: String,
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
        Self { path: issue.path.clone(), message: issue.message.to_string() }
    }
}

/// The headers that a failure brings in every family.
fn headers_of(error: &Error) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Bearer realm="tenantry""#);
    let challenge =
        (*error.kind() == Kind::Unauthenticated).then_some((header::WWW_AUTHENTICATE, CHALLENGE));
    let seconds = error.retry_after_seconds();
    challenge.into_iter().chain(seconds.map(|it| (header::RETRY_AFTER, HeaderValue::from(it))))
}

/// RFC 9457, for everything outside the families.
pub mod problem {
    use axum::Json;

    use super::{Details, Error, HeaderValue, IntoResponse, RequestContext, Response, StatusCode};
    use super::{header, status};

    /// A problem document.
    #[derive(serde::Serialize, utoipa::ToSchema)]
    #[schema(as = Problem)]
    pub struct Problem {
        /// Always `about:blank`: the title says what the status means.
        r#type: &'static str,
        /// The status in words.
        title: &'static str,
        /// The status.
        status: u16,
        /// What went wrong this time.
        detail: String,
        /// The id of the request.
        request_id: String,
        /// What else there is to say.
        #[serde(flatten)]
        details: Details,
    }

    /// A failure as a problem document.
    #[must_use]
    pub fn render(error: &Error, context: &RequestContext) -> Response {
        let status = status(error.kind(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem = Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: error.message().to_owned(),
            request_id: context.id.clone(),
            details: Details::from(error),
        };
        let mut response = (status, Json(problem)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
