//! Errors of the account family: an object under `error`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::http::render::details::{WireIssue, error_responses, has_details, with_error_details};
use crate::http::render::kinds::mapping;

/// The body of an error response of `/auth`, except for `/auth/token-exchange`, `/auth/refresh` and
/// `/auth/verify`.
#[derive(Serialize, ToSchema)]
#[schema(as = account::Error)]
pub struct ErrorBody {
    error: ErrorObject,
}

/// The error.
#[derive(Serialize, ToSchema)]
#[schema(as = account::Failure)]
pub struct ErrorObject {
    /// The error code.
    #[schema(examples("CONFLICT"))]
    code: &'static str,
    /// What is wrong with the request.
    #[schema(examples("An account with this email already exists"))]
    message: String,
    /// Details that depend on the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<ErrorObjectDetails>,
}

with_error_details! {
    /// The details of an error.
    #[schema(as = account::FailureDetails)]
    pub struct ErrorObjectDetails {
        /// Every invalid field.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        issues: Vec<WireIssue>,
    }
}

/// Renders an error.
#[must_use]
pub fn render(error: &Error) -> Response {
    let mapping = mapping(error.kind());
    let details = has_details(error).then(|| ErrorObjectDetails {
        issues: WireIssue::all_of(error),
        ..ErrorObjectDetails::with_details_of(error)
    });
    let error = ErrorObject { code: mapping.account, message: error.message().to_owned(), details };
    (mapping.status, Json(ErrorBody { error })).into_response()
}

error_responses! { ErrorBody,
    /// For every route.
    BadRequest = 400, "Malformed, or fields are invalid; `details.issues` lists them.";
    /// For routes that require a credential, and signing in.
    Unauthorized = 401, "The credential or the password is missing or invalid.";
    /// For every route.
    Forbidden = 403, "The credential does not allow this, or the origin is not trusted.";
    /// For routes that change data.
    Conflict = 409, "It exists already, or another request with the same Idempotency-Key is \
                      still running.";
    /// For routes that read a body.
    TooLarge = 413, "The request body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "Content-Type is not application/json.";
    /// For routes that change data.
    IdempotencyReused = 422, "The Idempotency-Key was used for another request.";
    /// For every route.
    Unavailable = 503, "Temporarily unavailable; try again after `Retry-After` seconds.";
}
