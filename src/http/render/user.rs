//! Errors of the user family: `success: false`, with the details under `meta`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Issue, Location};
use crate::http::render::details::{error_responses, has_details, with_error_details};
use crate::http::render::kinds::mapping;

/// The body of an error response of `/api/auth` and `/api/user`.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Error)]
pub struct ErrorBody {
    success: bool,
    /// The HTTP status.
    #[schema(examples(400))]
    status: u16,
    /// The error code.
    #[schema(examples("VALIDATION_ERROR"))]
    code: &'static str,
    /// What is wrong with the request.
    #[schema(examples("The request is not valid"))]
    message: String,
    /// Details that depend on the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<ErrorMeta>,
}

with_error_details! {
    /// The details of an error.
    #[schema(as = user::FailureMeta)]
    pub struct ErrorMeta {
        /// Every invalid field.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        errors: Vec<FieldError>,
    }
}

/// An invalid field.
#[derive(Serialize, ToSchema)]
#[schema(as = user::FieldError)]
pub struct FieldError {
    /// Its name; empty for the body itself.
    #[schema(examples("email"))]
    field: String,
    /// What is wrong with it and what is needed.
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

/// Renders an error.
#[must_use]
pub fn render(error: &Error) -> Response {
    let mapping = mapping(error.kind());
    let status = match error.kind() {
        // This family reports a taken address as 422, the other families as 409.
        ErrorKind::EmailTaken => StatusCode::UNPROCESSABLE_ENTITY,
        _ => mapping.status,
    };
    let meta = has_details(error).then(|| ErrorMeta {
        errors: error.issues().iter().map(FieldError::from).collect(),
        ..ErrorMeta::with_details_of(error)
    });
    let message = error.message().to_owned();
    let (success, code) = (false, mapping.user);
    (status, Json(ErrorBody { success, status: status.as_u16(), code, message, meta }))
        .into_response()
}

error_responses! { ErrorBody,
    /// For every route.
    BadRequest = 400, "Malformed, or fields are invalid; `meta.errors` lists them.";
    /// For routes that require a credential, and for passwords and mailed links.
    Unauthorized = 401, "The credential, the password or the mailed link is missing or invalid.";
    /// For every route.
    Forbidden = 403, "The credential does not allow this, or the origin is not trusted.";
    /// For routes with an id.
    NotFound = 404, "It does not exist, or is not the caller's.";
    /// For routes that change data.
    Conflict = 409, "It conflicts with the current state, or another request with the same \
                      Idempotency-Key is still running.";
    /// For routes that read a body.
    TooLarge = 413, "The request body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "Content-Type is not application/json.";
    /// For routes that change data.
    IdempotencyReused = 422, "The Idempotency-Key was used for another request.";
    /// For signing up.
    EmailTaken = 422, "An account with this e-mail address already exists.";
    /// For verifying a domain.
    DomainRecordNotFound = 422, "The DNS record of the domain was not found, or the \
                                 Idempotency-Key was used for another request.";
    /// For every route.
    Unavailable = 503, "Temporarily unavailable; try again after `Retry-After` seconds.";
}
