//! Errors of the onboarding family: `HTTP` and the status, with details.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::http::edge::context::RequestContext;
use crate::http::render::details::{ErrorDetails, error_responses};
use crate::http::render::kinds::status_invalid_as_422;
use crate::http::wire::Timestamp;

/// The body of an error response of `/signup`, `/me`, `/usage`, `/auth/token-exchange`,
/// `/auth/refresh` and `/auth/verify`.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Error)]
pub struct ErrorBody {
    /// `HTTP` and the status.
    #[schema(examples("HTTP 409"))]
    error: String,
    /// What is wrong with the request.
    #[schema(examples("An organization with this org_id already exists"))]
    message: String,
    /// The error code, the issues and details.
    details: ErrorDetails,
    /// When the request was received.
    timestamp: Timestamp,
    /// The id of the request, as in `X-Request-Id`.
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
    request_id: String,
}

/// Renders an error.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let status = status_invalid_as_422(error.kind());
    let body = ErrorBody {
        error: format!("HTTP {}", status.as_u16()),
        message: error.message().to_owned(),
        details: ErrorDetails::from(error),
        timestamp: Timestamp(context.received_at),
        request_id: context.id.clone(),
    };
    (status, Json(body)).into_response()
}

error_responses! { ErrorBody,
    /// For routes that read a body or parameters.
    BadRequest = 400, "Malformed: invalid JSON, nested too deep, or two credentials.";
    /// For routes that require a credential.
    Unauthorized = 401, "The credential is missing or invalid.";
    /// For routes that not every caller may use.
    Forbidden = 403, "The credential does not allow this, or not from this address or origin.";
    /// For routes with an id in the path.
    NotFound = 404, "It does not exist in the caller's organization.";
    /// For routes that change data.
    Conflict = 409, "It exists already, or another request with the same Idempotency-Key is \
                      still running.";
    /// For routes that read a body.
    TooLarge = 413, "The request body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "Content-Type is not application/json.";
    /// For routes that read a body or parameters, or change something.
    Unprocessable = 422, "Fields are invalid (`details.issues` lists them), or the \
                    Idempotency-Key was used for another request.";
    /// For every route.
    Unavailable = 503, "Temporarily unavailable; try again after `Retry-After` seconds.";
}
