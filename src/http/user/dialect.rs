//! How this family says that something went well, or failed (contract §6).

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{AuthFailure, Error, ErrorKind, Issue, Location};
use crate::http::error_details::{ErrorDetails, error_responses, status};

/// An answer of this family.
#[expect(clippy::struct_field_names, reason = "the contract's names")]
#[derive(Serialize, ToSchema)]
#[schema(as = user::Success)]
pub struct Success<T> {
    success: bool,
    /// The status of the answer.
    #[schema(examples(200))]
    status: u16,
    #[schema(examples("OK"))]
    code: &'static str,
    /// What was done.
    message: &'static str,
    /// What was asked for, or made.
    pub data: T,
}

impl<T: Serialize> Success<T> {
    /// An answer with status 200.
    pub const fn ok(message: &'static str, data: T) -> Self {
        Self { success: true, status: 200, code: "OK", message, data }
    }

    /// What was made, with status 201.
    pub const fn created(message: &'static str, data: T) -> Self {
        Self { success: true, status: 201, code: "OK", message, data }
    }
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// That it was done, where there is nothing else to say.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Done)]
pub struct Done {
    /// Always true.
    success: bool,
}

/// The data of an answer that has nothing else to say.
pub const DONE: Done = Done { success: true };

/// A part of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Listed)]
pub struct OffsetList<T> {
    success: bool,
    /// The status of the answer.
    #[schema(examples(200))]
    status: u16,
    #[schema(examples("OK"))]
    code: &'static str,
    /// What was done.
    message: &'static str,
    /// The items.
    data: Vec<T>,
    /// Which part of the list this is.
    meta: OffsetListMeta,
}

/// Which part of a list it is.
#[derive(Serialize, ToSchema)]
#[schema(as = user::PartOf)]
#[serde(rename_all = "camelCase")]
pub struct OffsetListMeta {
    /// How many items the whole list has.
    pub total: i64,
    /// How many were passed over.
    pub offset: i64,
    /// How many there are at most.
    pub limit: i64,
    /// Whether there are more.
    pub has_more: bool,
}

impl<T: Serialize> OffsetList<T> {
    /// A part of a list, with status 200.
    #[must_use]
    pub const fn ok(message: &'static str, data: Vec<T>, meta: OffsetListMeta) -> Self {
        Self { success: true, status: 200, code: "OK", message, data, meta }
    }
}

/// A failure in this family's words.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Error)]
pub struct ErrorBody {
    success: bool,
    /// The status of the answer.
    #[schema(examples(400))]
    status: u16,
    /// The kind of failure.
    #[schema(examples("VALIDATION_ERROR"))]
    code: &'static str,
    /// What went wrong.
    #[schema(examples("The request is not valid"))]
    message: String,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<ErrorMeta>,
}

/// What else there is to say of a failure.
#[derive(Serialize, ToSchema)]
#[schema(as = user::FailureMeta)]
pub struct ErrorMeta {
    /// Every broken field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
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

/// One broken field.
#[derive(Serialize, ToSchema)]
#[schema(as = user::FieldError)]
pub struct FieldError {
    /// Its name; empty for the body itself.
    #[schema(examples("email"))]
    field: String,
    /// What to change.
    #[schema(examples("must be an e-mail address"))]
    error: String,
    /// Where it is: `body`, `query`, or `params` for a header.
    #[schema(examples("body"))]
    location: &'static str,
}

impl From<&Issue> for FieldError {
    fn from(issue: &Issue) -> Self {
        let location = match issue.location {
            Location::Body => "body",
            Location::Query => "query",
            Location::Header => "params",
        };
        Self { field: issue.path.join("."), error: issue.message.to_string(), location }
    }
}

/// A failure, dressed.
#[must_use]
pub fn render(error: &Error) -> Response {
    let status = match error.kind() {
        // The page that this family follows says so.
        ErrorKind::EmailTaken => StatusCode::UNPROCESSABLE_ENTITY,
        kind => status(kind, StatusCode::BAD_REQUEST),
    };
    let failed = ErrorBody {
        success: false,
        status: status.as_u16(),
        code: code(error.kind()),
        message: error.message().to_owned(),
        meta: meta(error),
    };
    (status, Json(failed)).into_response()
}

fn meta(error: &Error) -> Option<ErrorMeta> {
    let has_meta = !error.issues().is_empty()
        || matches!(
            error.kind(),
            ErrorKind::MissingScopes(_)
                | ErrorKind::MissingRole(_)
                | ErrorKind::PlanLimit { .. }
                | ErrorKind::QuotaExceeded { .. }
        );
    let details = ErrorDetails::from(error);
    has_meta.then(|| ErrorMeta {
        errors: error.issues().iter().map(FieldError::from).collect(),
        missing_scopes: details.missing_scopes,
        required_role: details.required_role,
        resource: details.resource,
        limit: details.limit,
        used: details.used,
    })
}

/// The word for a kind (contract §1, the table of failures).
fn code(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Malformed | ErrorKind::Invalid => "VALIDATION_ERROR",
        ErrorKind::Unauthenticated(proof) => match proof {
            AuthFailure::MissingCredential => "AUTHENTICATION_REQUIRED",
            AuthFailure::InvalidKey => "INVALID_API_KEY",
            AuthFailure::InvalidToken => "INVALID_OR_EXPIRED_TOKEN",
            AuthFailure::InvalidPassword => "INVALID_EMAIL_OR_PASSWORD",
            AuthFailure::InactiveAccount => "USER_NOT_ACTIVE",
        },
        ErrorKind::MissingScopes(_) => "API_KEY_MISSING_SCOPES",
        ErrorKind::MissingRole(_) => "INSUFFICIENT_PERMISSIONS",
        ErrorKind::Forbidden => "FORBIDDEN",
        ErrorKind::EmailNotVerified => "EMAIL_NOT_VERIFIED",
        ErrorKind::OrganizationSuspended => "ORGANIZATION_SUSPENDED",
        ErrorKind::PlanLimit { .. } => "PLAN_LIMIT_REACHED",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::MethodNotAllowed => "METHOD_NOT_ALLOWED",
        ErrorKind::Conflict => "CONFLICT",
        ErrorKind::EmailTaken => "USER_ALREADY_EXISTS",
        ErrorKind::IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED",
        ErrorKind::IdempotencyKeyInUse => "IDEMPOTENCY_PROCESSING",
        ErrorKind::TooLarge => "PAYLOAD_TOO_LARGE",
        ErrorKind::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
        ErrorKind::RateLimited => "RATE_LIMIT_ERROR",
        ErrorKind::QuotaExceeded { .. } => "USAGE_LIMIT_ERROR",
        ErrorKind::Internal | ErrorKind::Upstream => "INTERNAL_ERROR",
        ErrorKind::Unavailable => "SERVICE_UNAVAILABLE",
    }
}

error_responses! { ErrorBody,
    /// For every route.
    BadRequest = 400, "Not readable, or fields break rules; `meta.errors` names every one.";
    /// For routes with a guard, and for passwords and mailed links.
    Unauthorized = 401, "No credential, or one that is not good: a password or a mailed link, too.";
    /// For every route.
    Forbidden = 403, "A good credential that may not do this, or a page that may not ask for it.";
    /// For routes with an id.
    NotFound = 404, "No such thing of the caller's.";
    /// For routes that change something.
    Conflict = 409, "It collides with what is there, or the same request still runs.";
    /// For routes that read a body.
    TooLarge = 413, "The body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "The body is not application/json.";
    /// For routes that change something.
    IdempotencyReused = 422, "The Idempotency-Key was used for another request.";
    /// For signing up.
    EmailTaken = 422, "An account with this e-mail address exists already.";
    /// For every route.
    Unavailable = 503, "Not just now; try again after `Retry-After` seconds.";
}
